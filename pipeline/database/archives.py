"""Crystal structures from folders, zips, tars and JSON lines: each file a :class:`Row` with a cell or a reason.

Nothing is ever unpacked to disk, so a member's name is only its id. One file costs at most ``MAX_RECORD`` bytes and
``MAX_PARSE_SECONDS``.
"""

import bz2
import gzip
import lzma
import math
import os
import signal
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.cells import Cell, minimum_distance
from pipeline.composition import ATOMIC_NUMBERS, ISOTOPES
from pipeline.database.records import (
    MAX_RECORD,
    Row,
    Unpacked,
    UnpacksToTooMuch,
    as_text,
    most_unpacked,
    records,
    unpacks_to_too_much,
)
from pipeline.text import visible

# Two nuclei never come this close in a crystal (H-H in H2: 0.74 angstrom).
OVERLAP_ANGSTROM = 0.5
MAX_SITES = 2000  # the search for overlaps takes memory by the square
# Of processor time, so that a busy machine rejects no more: 2,000 sites take pymatgen 1 s, 1,920 by symmetry 0.6 s.
MAX_PARSE_SECONDS = 20
MAX_REASON = 300


def cells(path: Path) -> Iterator[Row]:
    """Cells of a folder, zip or tar of CIF and POSCAR files, or of JSON lines ``{id, cell, el, frac}``.

    Raises:
        ValueError: The source is damaged as a whole, encrypted, unpacks to too much, or is none of these.
    """
    if path.is_dir():
        files = _folder(path)
    elif zipfile.is_zipfile(path):
        files = _whole(path, _zip(path))
    elif path.suffix in {".tar", ".tgz"} or ".tar" in path.suffixes:
        files = _whole(path, _tar(path))
    elif ".jsonl" in path.suffixes:
        for line, record in records(path, {"id", "cell", "el", "frac"}):
            yield Row(path.name, line, reason=record) if isinstance(record, str) else _json_row(path, line, record)
        return
    else:
        raise ValueError(f"{path}: no folder, zip, tar or .jsonl(.gz) of structures")
    for name, content in files:
        yield _file_row(name, content)


def _folder(path: Path) -> Iterator[tuple[str, bytes | str]]:
    """(name, content) of all files, or the reason why one has none; links to folders are not followed."""
    unreadable: list[OSError] = []
    files = []
    for folder, folders, names in os.walk(path, onerror=unreadable.append):
        files += [Path(folder, name) for name in names + [name for name in folders if Path(folder, name).is_symlink()]]
    for error in unreadable:
        yield str(Path(error.filename).relative_to(path)), f"cannot be read: {error.strerror}"
    for file in sorted(files):
        try:
            if not stat.S_ISREG(file.stat().st_mode):  # a pipe would keep us waiting for ever
                content = _NO_FILE
            else:
                with file.open("rb") as handle:
                    content = handle.read(MAX_RECORD + 1)
        except OSError as error:
            content = f"cannot be read: {error.strerror}"
        yield str(file.relative_to(path)), content


_NO_FILE = "no file but a link to a folder, a pipe or a device"


def _whole(path: Path, files: Iterator[tuple[str, bytes | str]]) -> Iterator[tuple[str, bytes | str]]:
    try:
        yield from files
    except UnpacksToTooMuch:
        raise
    except Exception as error:  # a damaged archive takes its readers to many places
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: the archive is damaged or cannot be unpacked ({visible(reason)})") from error


def _zip(path: Path) -> Iterator[tuple[str, bytes | str]]:
    left = most_unpacked(path)
    with zipfile.ZipFile(path) as archive:
        for member in sorted(archive.infolist(), key=lambda member: member.filename):
            if not member.is_dir():
                with archive.open(member) as handle:
                    content = handle.read(MAX_RECORD + 1)
                left -= len(content)
                if left < 0:
                    raise UnpacksToTooMuch(unpacks_to_too_much(path))
                yield member.filename, content


def _tar(path: Path) -> Iterator[tuple[str, bytes | str]]:
    with path.open("rb") as handle:
        head = handle.read(6)
    opener = next((opener for magic, opener in _PACKED.items() if head.startswith(magic)), open)
    with Unpacked(path, opener) as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # a list of all of them would grow without bound
            if member.isfile():
                yield member.name, archive.extractfile(member).read(MAX_RECORD + 1)
            elif not member.isdir():
                yield member.name, _NO_FILE
        while stream.read(1 << 20):  # up to the check sum at its end
            pass


_PACKED = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}


def cell_fault(cell: Cell) -> str | None:
    """Why the cell can be no crystal's, None if it can."""
    if not 0 < len(cell.elements) <= MAX_SITES:
        return f"cell has {len(cell.elements)} sites, 1 to {MAX_SITES} can be read"
    if not (np.isfinite(cell.lattice).all() and np.isfinite(cell.fractional).all()):
        return "lattice or coordinates hold values that are not finite"
    if cell.volume < 1.0:
        return f"cell volume is {cell.volume:.3g} cubic angstrom"
    shortest = minimum_distance(cell)
    if shortest < OVERLAP_ANGSTROM:
        return f"atoms overlap: {shortest:.3f} angstrom apart, at least {OVERLAP_ANGSTROM} are possible"
    return None


def _json_row(path: Path, line: int, record: dict) -> Row:
    row = Row(path.name, line)
    if not row.name(as_text(record.get("id")) or f"{path.name}:{line}", "'id'"):
        return row
    try:
        numbers = [ATOMIC_NUMBERS[ISOTOPES.get(symbol, symbol)] for symbol in record["el"]]
        fractional = np.array(record["frac"], dtype=float).reshape(len(numbers), 3)
        row.cell = Cell(lattice_from_parameters(*map(float, record["cell"])), np.array(numbers, np.uint8), fractional)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        row.reason = visible(f"no cell: {type(error).__name__} {error}"[:MAX_REASON])
    return row


def _file_row(name: str, content: bytes | str) -> Row:
    name = as_text(name)
    row = Row(visible(name), None)
    if not row.name(name, "the file's name"):
        return row
    kind = "cif" if name.lower().endswith(".cif") else "poscar"
    if isinstance(content, str):
        row.reason = content
    elif len(content) > MAX_RECORD:
        row.reason = f"more than {MAX_RECORD} bytes, no structure file is as large"
    elif b"\0" in content:  # an archive in the archive may hold text that parses
        row.reason = f"cannot be read as {kind}: it is no text"
    else:
        try:
            with _time_limit(MAX_PARSE_SECONDS):
                row.cell = _parse(content.decode("utf-8", errors="replace"), kind)
        except _TooSlow:
            row.reason = f"cannot be read as {kind} within {MAX_PARSE_SECONDS} s"
        except Exception as error:
            row.reason = f"cannot be read as {kind}: {' '.join(str(error).split()) or type(error).__name__}"
    row.reason = row.reason and visible(row.reason[:MAX_REASON])
    return row


def _parse(text: str, kind: str) -> Cell:
    import warnings

    from pymatgen.core import Structure

    if kind == "poscar":
        counts = " ".join(text.lstrip().split("\n", 26)[4:26]).split()  # where names and numbers of atoms may stand
        if any(_integer(count) > MAX_SITES for count in counts):
            raise ValueError(f"more than {MAX_SITES} sites")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", "Elements in POSCAR cannot be determined")  # not the false names given
        structure = Structure.from_str(text, fmt=kind)
    if not structure.is_ordered:
        raise ValueError("partial occupancies")
    return Cell.from_structure(structure)


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return 0


class _TooSlow(BaseException):
    """No ``Exception``: the parsers catch those."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise ``_TooSlow`` in the block once it took so much processor time."""

    def stop(*_) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)  # and again each second, should a parser catch even that
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def lattice_from_parameters(a: float, b: float, c: float, alpha: float, beta: float, gamma: float) -> np.ndarray:
    """Lattice vectors as rows, (3, 3) in angstrom, a along x and b in the xy plane, from lengths and degrees."""
    cos_a, cos_b, cos_g = (math.cos(math.radians(angle)) for angle in (alpha, beta, gamma))
    sin_g = math.sin(math.radians(gamma))
    cx, cy = cos_b, (cos_a - cos_b * cos_g) / sin_g
    cz = math.sqrt(1 - cx * cx - cy * cy)
    return np.array([[a, 0, 0], [b * cos_g, b * sin_g, 0], [c * cx, c * cy, c * cz]])
