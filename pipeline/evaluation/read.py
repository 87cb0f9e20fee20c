"""Anyone's set of formulas: a table of them, structures of any kind, or a campaign's samples."""

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from pipeline import tables
from pipeline.composition import COUNTS, ELEMENTS, Compositions
from pipeline.evaluation.metrics import FormulaSet
from pipeline.tables import Table, column

DRAWN = Table("drawn", (column("n_drawn", pa.int32(), "times that the formula was drawn"), ELEMENTS, COUNTS))
"""Formulas with repeats: what the stage reads of samples and writes of baselines."""

TABLES = {".csv", ".jsonl", ".parquet"}
MAX_UNREADABLE_SHARE = 0.5


def read_drawn(paths: Sequence[str | os.PathLike]) -> FormulaSet:
    """The distinct formulas of 2 to 8 elements in parts of a table that holds ``DRAWN``'s columns."""
    table = tables.read_all(paths, DRAWN)
    return FormulaSet.of(Compositions.from_table(table), table["n_drawn"].to_numpy())


def read_set(path: Path, formula_column: str) -> tuple[FormulaSet, dict]:
    """Read a file or folder of formulas or structures, and tell what was left out.

    Args:
        path: CSV, JSON lines (gzipped or not) or Parquet with a column of formulas; a folder, zip or tar of CIF and
            POSCAR files; extxyz; or the folder of a campaign's samples.
        formula_column: Of a table.

    Returns:
        The formulas of 2 to 8 elements, and counts: ``rows``, ``unreadable`` with ``first_unreadable``, and
        ``single_or_many_elements``, which no figure counts.

    Raises:
        ValueError: The file is missing or damaged, lacks the column, or most of it cannot be read.
    """
    if parts := sorted(path.glob("part-*.parquet")):
        drawn = read_drawn(parts)
        return drawn, {"rows": int(drawn.n_drawn.sum()), "unreadable": 0}
    amounts, unreadable, first = [], 0, None
    for place, reason, found in tqdm(_rows(path, formula_column), "reading", unit=" rows", mininterval=2):
        if reason is None:
            amounts.append(found)
        else:
            unreadable, first = unreadable + 1, first or f"{place}: {reason}"
    rows = len(amounts) + unreadable
    if not amounts or unreadable > MAX_UNREADABLE_SHARE * rows:
        raise ValueError(f"{path}: {unreadable} of {rows} rows cannot be read; the first: {first or 'there is none'}")
    if unreadable:
        print(f"{path}: {unreadable} of {rows} rows cannot be read; the first: {first}", file=sys.stderr)
    drawn = FormulaSet.of(Compositions.from_dicts(amounts))
    counted = {"rows": rows, "unreadable": unreadable, "first_unreadable": first}
    return drawn, {**counted, "single_or_many_elements": len(amounts) - int(drawn.n_drawn.sum())}


def _rows(path: Path, formula_column: str) -> Iterator[tuple[str, str | None, dict[int, int] | None]]:
    """Place, reason why it cannot be read, and {atomic number: atoms} of each row."""
    from pipeline.database.sources import read_source

    if not path.exists():
        raise ValueError(f"{path}: no such file; paths are relative to {Path.cwd()}")
    if path.suffix in (".extxyz", ".xyz"):
        yield from _extxyz(path)
        return
    source = {"kind": "structures", "path": path}
    if TABLES & set(path.suffixes) and not path.is_dir():
        source = {"kind": "table", "path": path, "columns": {"formula": formula_column}}
    rows = read_source(source, workers=len(os.sched_getaffinity(0)))
    for row in rows:
        yield row.file if row.line is None else f"{row.file} line {row.line}", row.reason, row.amounts


def _extxyz(path: Path) -> Iterator[tuple[str, str | None, dict[int, int] | None]]:
    from ase.io import iread

    place = 0
    try:
        for place, atoms in enumerate(iread(path, index=":", format="extxyz"), start=1):
            elements, counts = np.unique(atoms.numbers, return_counts=True)
            known = bool(len(elements)) and elements.min() > 0
            amounts = dict(zip(elements.tolist(), counts.tolist(), strict=True)) if known else None
            yield f"{path.name} frame {place}", None if known else "an atom of no element", amounts
    except (ValueError, KeyError, OSError, IndexError) as error:
        raise ValueError(f"{path}: no extxyz beyond frame {place} ({error}); write it anew") from error
