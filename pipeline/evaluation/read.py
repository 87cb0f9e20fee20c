"""Anyone's set of formulas: a table of them, structures of any kind, or a campaign's samples."""

import gzip
import io
import os
import sys
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from pipeline import tables
from pipeline.composition import COUNTS, ELEMENTS, Compositions
from pipeline.evaluation.metrics import FormulaSet
from pipeline.tables import Table, column
from pipeline.text import visible

DRAWN = Table("drawn", (column("n_drawn", pa.int32(), "times that the formula was drawn"), ELEMENTS, COUNTS))
"""Formulas with repeats: what the stage reads of samples and writes of baselines."""

KINDS = (
    "a table (.csv, .jsonl, .ndjson, .json, .json.zip, .parquet; .gz allowed) with a column of formulas; a folder, "
    ".zip or .tar (.gz, .bz2, .xz allowed) of CIF and POSCAR files; .extxyz or .xyz (.gz allowed); a folder of a "
    "campaign's samples"
)
_TABLES = (".csv", ".jsonl", ".ndjson", ".json", ".json.zip", ".parquet")
MAX_UNREADABLE_SHARE = 0.5

_Row = tuple[str, str | None, dict[int, int] | None]
"""Place, reason why it cannot be read, and {atomic number: atoms}."""


def read_drawn(paths: Sequence[str | os.PathLike]) -> FormulaSet:
    """The distinct formulas of 2 to 8 elements in parts of a table that holds ``DRAWN``'s columns."""
    table = tables.read_all(paths, DRAWN)
    return FormulaSet.of(Compositions.from_table(table), table["n_drawn"].to_numpy())


def read_set(path: Path, formula_column: str) -> tuple[FormulaSet, dict]:
    """Read a file or folder of formulas or structures, and tell what was left out.

    Args:
        path: One of ``KINDS``.
        formula_column: Of a table.

    Returns:
        The formulas of 2 to 8 elements, and counts: ``rows``, ``unreadable`` with ``first_unreadable``, and
        ``single_or_many_elements``, which no figure counts.

    Raises:
        ValueError: The file is missing or damaged, of no kind that can be read, empty, lacks the column, or most of it
            cannot be read.
    """
    if parts := sorted(path.glob("part-*.parquet")):
        drawn = read_drawn(parts)
        return drawn, {"rows": int(drawn.n_drawn.sum()), "unreadable": 0}
    amounts, unreadable, first = [], 0, None
    what, found_rows = _rows(path, formula_column)
    for place, reason, found in tqdm(found_rows, "reading", unit=f" {what}", mininterval=2):
        if reason is None:
            amounts.append(found)
        else:
            unreadable, first = unreadable + 1, first or visible(f"{place}: {reason}")
    rows = len(amounts) + unreadable
    if not rows:
        raise ValueError(f"{path}: holds no {what}")
    told = f"{path}: {unreadable:,} of {rows:,} {what} cannot be read; the first: {first}"
    if unreadable > MAX_UNREADABLE_SHARE * rows:
        raise ValueError(told)
    if unreadable:
        print(visible(told), file=sys.stderr)
    drawn = FormulaSet.of(Compositions.from_dicts(amounts))
    counted = {"rows": rows, "unreadable": unreadable, "first_unreadable": first}
    return drawn, {**counted, "single_or_many_elements": len(amounts) - int(drawn.n_drawn.sum())}


def _rows(path: Path, formula_column: str) -> tuple[str, Iterator[_Row]]:
    """What the rows of a file are called, and the rows."""
    if not path.exists():
        raise ValueError(f"{path}: no such file; paths are relative to {Path.cwd()}")
    kind = "".join(path.suffixes[-2:]).lower().removesuffix(".gz")
    is_zip = zipfile.is_zipfile(path) and not kind.endswith(".json.zip")
    if path.is_dir() or is_zip or {".tar", ".tgz"} & {*path.suffixes}:
        return "structures", _source({"kind": "structures", "path": path})
    if kind.endswith((".extxyz", ".xyz")):
        return "structures", _extxyz(path)
    if kind.endswith(_TABLES):
        return "rows", _source({"kind": "table", "path": path, "columns": {"formula": formula_column}})
    if kind.endswith(".zip"):
        raise ValueError(f"{path}: no whole zip archive; copy it again")
    raise ValueError(f"{path}: unknown kind of file; what can be read: {KINDS}")


def _source(source: dict) -> Iterator[_Row]:
    """Rows of what the database's readers know."""
    from pipeline.database.sources import read_source

    try:
        for row in read_source(source, workers=len(os.sched_getaffinity(0))):
            yield row.file if row.line is None else f"{row.file} line {row.line}", row.reason, row.amounts
    except ValueError as error:
        # The config's way to name a column is not the command line's.
        said = str(error).replace("Name yours in the source's columns", "Name yours by --formula COLUMN")
        raise ValueError(said) from error


def _extxyz(path: Path) -> Iterator[_Row]:
    """Frames of an extxyz file; ASE is given one at a time, so that a bad one costs no other."""
    for number, (line, text, reason) in enumerate(_frames(path), start=1):
        amounts, reason = (None, reason) if reason else _amounts(text)
        yield f"{path.name} frame {number} (line {line})", reason, amounts


def _frames(path: Path) -> Iterator[tuple[int, str, str | None]]:
    """First line, text, and reason why it is not whole, of each frame of an extxyz file, gzipped or not."""
    from pipeline.database.records import DAMAGED, MAX_RECORD, Unpacked

    opener, number = gzip.open if path.suffix.lower() == ".gz" else open, 0
    try:
        with io.TextIOWrapper(io.BufferedReader(Unpacked(path, opener), 1 << 16), "utf-8-sig", "replace") as text:
            lines = enumerate(iter(partial(text.readline, MAX_RECORD), ""), start=1)
            for at, head in lines:
                if not head.strip() or head.lstrip().startswith("VEC"):  # cell vectors in ADF's way
                    continue
                number += 1
                if not head.strip().isdecimal():
                    raise ValueError(
                        f"{path}: line {at}: {head.strip()[:50]!r} stands where the number of atoms of frame {number} "
                        "belongs; mend that frame or the one before it"
                    )
                n_lines, seen, size, frame = min(int(head) + 1, sys.maxsize), 0, 0, [head]
                for _, line in islice(lines, n_lines):
                    seen, size = seen + 1, size + len(line)
                    if size <= MAX_RECORD:
                        frame.append(line)
                reason = "the file ends within it" if seen < n_lines else None
                yield at, "".join(frame), f"more than {MAX_RECORD} characters" if size > MAX_RECORD else reason
    except DAMAGED as error:
        raise ValueError(f"{path}: the file is damaged or cut short after {number} structures ({error})") from error


def _amounts(frame: str) -> tuple[dict[int, int] | None, str | None]:
    """{atomic number: atoms} of one extxyz frame, or the reason why it has none."""
    from ase.io.extxyz import read_xyz

    try:
        (atoms,) = read_xyz(io.StringIO(frame), index=0)
    except KeyError as error:
        return None, f"unknown element or property {error}"
    except Exception as error:  # a damaged frame takes ASE to many places
        return None, " ".join(str(error).split()) or type(error).__name__
    elements, counts = np.unique(atoms.numbers, return_counts=True)
    if not len(elements) or elements.min() <= 0:
        return None, "an atom of no element" if len(elements) else "no atoms"
    return dict(zip(elements.tolist(), counts.tolist(), strict=True)), None
