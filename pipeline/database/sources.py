"""Where known compounds come from: each source yields :class:`Row` after :class:`Row`, readable or not."""

import csv
import importlib.util
import io
import math
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.cells import Cell
from pipeline.composition import parse_formula
from pipeline.database.archives import cell_fault, cells
from pipeline.database.records import Row, as_text, records
from pipeline.database.schema import TARGETS

# Factors to the unit in the column's name. 1 eV = 96.48533212 kJ/mol (CODATA 2018).
UNITS = {
    "formation_energy_ev_per_atom": {"eV/atom": 1.0, "meV/atom": 1e-3, "kJ/mol": 1 / 96.48533212},
    "energy_above_hull_ev_per_atom": {"eV/atom": 1.0, "meV/atom": 1e-3, "kJ/mol": 1 / 96.48533212},
    "band_gap_ev": {"eV": 1.0, "meV": 1e-3},
    "volume_a3_per_atom": {"A^3/atom": 1.0, "nm^3/atom": 1e3},
}
MISSING = {"", "nan", "na", "n/a", "none", "null"}


def read_source(source: dict) -> Iterator[Row]:
    """Rows of the source that ``database.source`` describes.

    Raises:
        ValueError: The file is missing or damaged as a whole, or lacks a column that the config names.
    """
    if source["kind"] == "matminer_transport":
        return _matminer_transport()
    path = Path(source["path"])
    if not path.exists():
        raise ValueError(
            f"database.source.path: '{path}' does not exist; set it to your file, "
            f"paths are relative to the folder that you run in ({Path.cwd()})"
        )
    if source["kind"] == "structures":
        return _structures(path)
    return _table(path, source)


def matminer_transport_archive() -> Path:
    """Where the installed matminer keeps its transport data: 47,737 Materials Project entries (Ricci et al. 2017,
    doi:10.1038/sdata.2017.85)."""
    package = Path(importlib.util.find_spec("matminer").origin).parent
    return package / "utils" / "data_files" / "mp_transport" / "transport_database.tar.xz"


def _matminer_transport() -> Iterator[Row]:
    archive = matminer_transport_archive()
    with tarfile.open(archive) as tar, tar.extractfile("transport_database.csv") as member:
        lines = csv.DictReader(io.TextIOWrapper(member, encoding="utf-8"))
        for line, record in enumerate(lines, start=2):
            yield _record_row(archive.name, line, record, {"id": "mp_id", "formula": "pretty_formula"}, {})


def _table(path: Path, source: dict) -> Iterator[Row]:
    columns = {name: spec["column"] if isinstance(spec, dict) else spec for name, spec in source["columns"].items()}
    factors = {}
    for name, spec in source["columns"].items():
        if name in UNITS:
            if spec["unit"] not in UNITS[name]:
                raise ValueError(
                    f"database.source.columns.{name}.unit: '{spec['unit']}' is unknown; one of {list(UNITS[name])}"
                )
            factors[name] = UNITS[name][spec["unit"]]
    by_id = dict(_cells_by_id(Path(source["structures"]))) if source.get("structures") else {}
    missing_cells = 0
    for line, record in records(path, set(columns.values())):
        if isinstance(record, str):
            yield Row(path.name, line, reason=record)
            continue
        row = _record_row(path.name, line, record, columns, factors)
        if by_id and row.reason is None:
            row.cell = _matching(by_id.get(row.id), row.amounts)
            missing_cells += row.cell is None
        yield row
    if by_id:
        print(
            f"{missing_cells} rows of {path.name} have no structure of their composition in {source['structures']}",
            file=sys.stderr,
        )


def _matching(cell: Cell | None, amounts: dict[int, int]) -> Cell | None:
    """The cell, if its composition is that of the row up to a factor."""
    if cell is None:
        return None
    elements, counts = np.unique(cell.elements, return_counts=True)
    own = np.array([amounts.get(int(z), 0) for z in elements])
    same = len(elements) == len(amounts) and (own * counts.sum() == counts * own.sum()).all() and own.all()
    return cell if same else None


def _record_row(file: str, line: int, record: dict, columns: dict[str, str], factors: dict[str, float]) -> Row:
    row = Row(file, line)
    if columns.get("id") is None:
        row.id = f"{file}:{line}"
    elif not row.name(as_text(record.get(columns["id"])), f"column '{columns['id']}'"):
        return row
    try:
        row.amounts = parse_formula(as_text(record.get(columns["formula"])))
        for name, factor in factors.items():
            value = _number(record.get(columns[name]), columns[name], factor)
            if value is not None:
                row.targets[name] = value
    except ValueError as error:
        row.reason = str(error)
    return row


def _number(value: object, name: str, factor: float) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        return None
    try:
        number = float(value) * factor
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"column '{name}': {as_text(value)[:50]!r} is no number") from None
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise ValueError(f"column '{name}': {as_text(value)[:50]!r} is not finite")
    return number


def _structures(path: Path) -> Iterator[Row]:
    for row in cells(path):
        if row.reason is None:
            row.reason = cell_fault(row.cell)
        if row.reason is None:
            elements, counts = np.unique(row.cell.elements, return_counts=True)
            row.amounts = dict(zip(elements.tolist(), counts.tolist(), strict=True))
            row.targets["volume_a3_per_atom"] = row.cell.volume / len(row.cell.elements)
        yield row


def _cells_by_id(path: Path) -> Iterator[tuple[str, Cell]]:
    if not path.exists():
        raise ValueError(f"database.source.structures: '{path}' does not exist; set it to your file or leave it out")
    bad = 0
    for row in cells(path):
        if row.reason is None and cell_fault(row.cell) is None:
            yield row.id, row.cell
        else:
            bad += 1
    print(f"{bad} structures of {path.name} cannot be used (unreadable or overlapping atoms)", file=sys.stderr)


assert UNITS.keys() == TARGETS.keys()
