"""Where known compounds come from: each source yields :class:`Row` after :class:`Row`, readable or not."""

import csv
import importlib.util
import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.cells import Cell
from pipeline.database.archives import cells
from pipeline.database.columns import Columns
from pipeline.database.crystals import cell_fault
from pipeline.database.records import Row, records
from pipeline.database.remote import beside, module_of
from pipeline.provenance import file_digest
from pipeline.tables import read_json

TRANSPORT = {
    "provider": "Materials Project, as matminer ships it",
    "licence": "CC BY 4.0",
    "citation": "Ricci et al. 2017, doi:10.1038/sdata.2017.85; Jain et al. 2013, doi:10.1063/1.4812323",
}


def read_source(source: dict, snapshot: str | Path | None = None, workers: int = 1) -> Iterator[Row]:
    """Rows of one of the config's ``database.sources``; of a database behind a network, those of its snapshot.

    Raises:
        ValueError: The file is missing or damaged as a whole, or lacks a column that the config names.
    """
    if source["kind"] == "matminer_transport":
        return _matminer_transport()
    path = Path(source["path"] if snapshot is None else snapshot)
    if not path.exists():
        raise ValueError(
            f"database.sources: '{path}' does not exist; set it to your file, "
            f"paths are relative to the folder that you run in ({Path.cwd()})"
        )
    if snapshot is not None:
        return _snapshot(path, source)
    if source["kind"] == "structures":
        return _structures(path, workers)
    return _table(path, source, workers)


def credit(source: dict) -> dict[str, str]:
    """Licence and citation, as far as the config or the kind of source says them."""
    known = TRANSPORT if source["kind"] == "matminer_transport" else {}
    return {**known, **{key: source[key] for key in ("licence", "citation") if key in source}}


def read_about(path: str | Path) -> dict:
    """What a snapshot's own account says of it, which may be of another's making.

    Raises:
        ValueError: It is no account of a snapshot.
    """
    about = read_json(path)
    if not isinstance(about, dict):
        raise ValueError(f"{path}: no account of a snapshot; give the one that was written with it, or none")
    for key in ("provider", "version", "date", "licence", "citation"):
        if not isinstance(about.get(key), str | None):
            raise ValueError(f"{path}: '{key}' is no text; give the account that came with the snapshot, or none")
    return about


def matminer_transport_archive() -> Path:
    """Where the installed matminer keeps its transport data: 47,737 Materials Project entries (Ricci et al. 2017,
    doi:10.1038/sdata.2017.85)."""
    package = Path(importlib.util.find_spec("matminer").origin).parent
    return package / "utils" / "data_files" / "mp_transport" / "transport_database.tar.xz"


def _matminer_transport() -> Iterator[Row]:
    archive, columns = matminer_transport_archive(), Columns({"id": "mp_id", "formula": "pretty_formula"})
    with tarfile.open(archive) as tar, tar.extractfile("transport_database.csv") as member:
        lines = csv.DictReader(io.TextIOWrapper(member, encoding="utf-8"))
        for line, record in enumerate(lines, start=2):
            row = Row(archive.name, line)
            columns.fill(row, record)
            yield row


def _snapshot(path: Path, source: dict) -> Iterator[Row]:
    account = beside(path)
    if account.is_file() and read_about(account).get("sha256") not in (None, file_digest(path)):
        raise ValueError(f"{path}: another file than {account} tells of, by its SHA-256; copy both again")
    fill = module_of(source["kind"]).fill
    for line, record in records(path, {"id"}):
        row = Row(path.name, line)
        if isinstance(record, str):
            row.reason = record
        else:
            fill(row, record, source)
            if row.reason is None and row.cell is not None:
                measure(row)
        yield row


def _table(path: Path, source: dict, workers: int) -> Iterator[Row]:
    columns = Columns(source["columns"])
    by_id = dict(_cells_by_id(Path(source["structures"]), workers)) if source.get("structures") else {}
    missing_cells = 0
    for line, record in records(path, columns.wanted):
        row = Row(path.name, line)
        if isinstance(record, str):
            row.reason = record
        else:
            columns.fill(row, record)
            if row.reason is None and row.cell is not None:
                measure(row)
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


def _structures(path: Path, workers: int) -> Iterator[Row]:
    for row in cells(path, workers):
        if row.reason is None:
            measure(row, checked=True)
        yield row


def measure(row: Row, checked: bool = False) -> None:
    """Set what a row's cell says of it: composition and volume, or why it can be no crystal's."""
    row.reason = None if checked else cell_fault(row.cell)
    if row.reason is None and row.amounts and _matching(row.cell, row.amounts) is None:
        row.reason = "the sites of the structure do not make up the formula"
    if row.reason is None:
        elements, counts = np.unique(row.cell.elements, return_counts=True)
        row.amounts = dict(zip(elements.tolist(), counts.tolist(), strict=True))
        row.targets.setdefault("volume_a3_per_atom", row.cell.volume / len(row.cell.elements))


def _cells_by_id(path: Path, workers: int) -> Iterator[tuple[str, Cell]]:
    if not path.exists():
        raise ValueError(f"database.sources: structures '{path}' does not exist; set it to your file or leave it out")
    bad = 0
    for row in cells(path, workers):
        if row.reason is None:
            yield row.id, row.cell
        else:
            bad += 1
    print(f"{bad} structures of {path.name} cannot be used (unreadable or overlapping atoms)", file=sys.stderr)
