"""Crystal structures from folders, zips, tars and JSON lines: each file a :class:`Row` with a cell or a reason.

Nothing is ever unpacked to disk, so a member's name is only its id. One file costs at most ``MAX_RECORD`` bytes and
``MAX_PARSE_SECONDS``.
"""

import bz2
import gzip
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.database.crystals import cell_fault, cell_of
from pipeline.database.records import (
    MAX_REASON,
    MAX_RECORD,
    Row,
    Unpacked,
    UnpacksToTooMuch,
    as_text,
    is_litter,
    most_unpacked,
    records,
    unpacks_to_too_much,
)
from pipeline.database.structure_files import Found
from pipeline.database.workers import File, read_files
from pipeline.text import visible

# Of processor time, so that a busy machine rejects no more: 2,000 sites take pymatgen 1 s.
MAX_PARSE_SECONDS = 20


def cells(path: Path, workers: int = 1) -> Iterator[Row]:
    """Cells of a folder, zip or tar of CIF and POSCAR files, or of JSON lines ``{id, cell, el, frac}``.

    A file of one crystal is named by its path, of several each by ``PATH#BLOCK``. Every cell given is one that
    :func:`~pipeline.database.crystals.cell_fault` finds no fault with.

    Args:
        path: The folder or file.
        workers: Processes that read CIF and POSCAR files, one a core.

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
    named = ((as_text(name), content) for name, content in files if not is_litter(name))
    contents = ((name, _kind_and_content(name, content)) for name, content in named)
    for name, found in read_files(contents, workers, MAX_PARSE_SECONDS):
        yield from _file_rows(name, found)


def _kind_and_content(name: str, content: bytes | str) -> File:
    if isinstance(content, bytes) and len(content) > MAX_RECORD:
        return f"more than {MAX_RECORD} bytes, no structure file is as large"
    return content if isinstance(content, str) else ("cif" if name.lower().endswith(".cif") else "poscar", content)


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


def _json_row(path: Path, line: int, record: dict) -> Row:
    row = Row(path.name, line)
    if not row.name(as_text(record.get("id")) or f"{path.name}:{line}", "'id'"):
        return row
    try:
        row.cell = cell_of(record)
        row.reason = cell_fault(row.cell)
    except ValueError as error:
        row.reason = visible(str(error)[:MAX_REASON])
    return row


def _file_rows(path_name: str, found: Found) -> Iterator[Row]:
    for block, result in found:
        row = Row(visible(path_name), None)
        if row.name(f"{path_name}#{block}" if block else path_name, "the file's name"):
            row.cell, row.reason = (None, result) if isinstance(result, str) else (result, None)
        row.reason = row.reason and visible(row.reason[:MAX_REASON])
        yield row
