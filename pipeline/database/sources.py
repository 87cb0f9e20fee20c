"""Where known compounds come from: each source yields :class:`Row` after :class:`Row`, readable or not."""

import csv
import gzip
import importlib.util
import io
import json
import lzma
import math
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from pipeline.cells import Cell, minimum_distance
from pipeline.composition import ATOMIC_NUMBERS, ISOTOPES, parse_formula
from pipeline.database.schema import TARGETS

# Factors to the unit in the column's name. 1 eV = 96.48533212 kJ/mol (CODATA 2018).
UNITS = {
    "formation_energy_ev_per_atom": {"eV/atom": 1.0, "meV/atom": 1e-3, "kJ/mol": 1 / 96.48533212},
    "energy_above_hull_ev_per_atom": {"eV/atom": 1.0, "meV/atom": 1e-3, "kJ/mol": 1 / 96.48533212},
    "band_gap_ev": {"eV": 1.0, "meV": 1e-3},
    "volume_a3_per_atom": {"A^3/atom": 1.0, "nm^3/atom": 1e3},
}
MISSING = {"", "nan", "na", "n/a", "none", "null"}
# Two nuclei never come this close in a crystal (H-H in H2: 0.74 angstrom).
OVERLAP_ANGSTROM = 0.5
MAX_SITES = 2000  # the search for overlaps takes memory by the square
MAX_ID_LENGTH = 200
DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile)


@dataclass(slots=True)
class Row:
    """One row of a source; ``reason`` is set when it could not be read.

    Attributes:
        amounts: {atomic number: atoms}, not yet reduced.
        targets: {column of TARGETS: value}, absent where the source has none.
    """

    file: str
    line: int | None
    id: str | None = None
    amounts: dict[int, int] | None = None
    targets: dict[str, float] = field(default_factory=dict)
    cell: Cell | None = None
    reason: str | None = None


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
    cells = dict(_cells_by_id(Path(source["structures"]))) if source.get("structures") else {}
    missing_cells = 0
    for line, record in _records(path, set(columns.values())):
        if isinstance(record, str):
            yield Row(path.name, line, reason=record)
            continue
        row = _record_row(path.name, line, record, columns, factors)
        if cells and row.reason is None:
            row.cell = _matching(cells.get(row.id), row.amounts)
            missing_cells += row.cell is None
        yield row
    if cells:
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


def _records(path: Path, wanted: set[str]) -> Iterator[tuple[int, dict | str]]:
    """(line, record) of a CSV, JSON lines or Parquet file; a line that is no record comes as the reason instead."""
    kind = "".join(path.suffixes[-2:]).lower().removesuffix(".gz")
    if kind.endswith(".parquet"):
        try:
            table = pq.ParquetFile(path)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path}: not a whole Parquet file ({str(error).splitlines()[0]})") from error
        _require_columns(path, wanted, table.schema_arrow.names)
        batches = table.iter_batches(columns=sorted(wanted))
        line = 0
        while True:
            try:
                records = next(batches).to_pylist()
            except StopIteration:
                return
            except (OSError, ValueError) as error:
                raise ValueError(f"{path}: the file is damaged ({str(error).splitlines()[0]})") from error
            for record in records:
                line += 1
                yield line, record
    elif kind.endswith((".jsonl", ".ndjson")):
        seen: set[str] = set()
        for line, text in enumerate(_lines(path), start=1):
            if not text.strip():
                continue
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                yield line, f"no JSON: {error}"
                continue
            if not isinstance(record, dict):
                yield line, "no JSON object"
                continue
            seen |= record.keys()
            yield line, record
        if seen:
            _require_columns(path, wanted, sorted(seen))
    elif kind.endswith(".csv"):
        reader = csv.reader(_lines(path), strict=True)
        try:
            header = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"{path}: the header is no CSV ({error})") from error
        if header is None:
            raise ValueError(f"{path}: the file is empty")
        _require_columns(path, wanted, header)
        while True:
            line = reader.line_num + 1
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if reader.line_num > line:  # many rows would be lost as one
                    raise ValueError(
                        f"{path}: a quote in line {line} is not closed as it should be; mend it"
                    ) from error
                yield line, f"no CSV: {error}"
                continue
            if values and len(values) != len(header):
                yield line, f"{len(values)} fields where the header has {len(header)}"
            elif values:
                yield line, dict(zip(header, values, strict=True))
    else:
        raise ValueError(f"{path}: unknown kind of table; .csv, .jsonl, .ndjson or .parquet (.gz allowed) can be read")


def _lines(path: Path) -> Iterator[str]:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as handle:
            yield from handle
    except DAMAGED as error:
        raise ValueError(f"{path}: the file is damaged or cut short ({error})") from error


def _require_columns(path: Path, wanted: set[str], present: list[str]) -> None:
    missing = sorted(wanted - set(present))
    if missing:
        raise ValueError(
            f"{path}: no column {missing}; the file has {sorted(present)}. Name yours in database.source.columns"
        )
    twice = sorted(name for name in wanted if present.count(name) > 1)
    if twice:
        raise ValueError(f"{path}: column {twice} stands twice in the header; rename one")


def _record_row(file: str, line: int, record: dict, columns: dict[str, str], factors: dict[str, float]) -> Row:
    row = Row(file, line)
    row.id = f"{file}:{line}" if columns.get("id") is None else _text(record.get(columns["id"]))
    if not row.id:
        row.reason = f"column '{columns['id']}' is empty"
    elif len(row.id) > MAX_ID_LENGTH:
        row.reason = f"column '{columns['id']}' has {len(row.id)} characters, {MAX_ID_LENGTH} can be read"
        row.id = row.id[:MAX_ID_LENGTH]
    if row.reason is not None:
        return row
    try:
        row.amounts = parse_formula(_text(record.get(columns["formula"])))
        for name, factor in factors.items():
            value = _number(record.get(columns[name]), columns[name])
            if value is not None:
                row.targets[name] = value * factor
    except ValueError as error:
        row.reason = str(error)
    return row


def _text(value: object) -> str:
    """The value as text that UTF-8 can hold, "" where there is none."""
    return "" if value is None else str(value).encode(errors="replace").decode().strip()


def _number(value: object, name: str) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().lower() in MISSING):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"column '{name}': '{_text(value)[:50]}' is no number") from None
    if math.isnan(number):
        return None
    if math.isinf(number):
        raise ValueError(f"column '{name}': '{value}' is not finite")
    return number


def _structures(path: Path) -> Iterator[Row]:
    for row in _cells(path):
        if row.reason is None:
            row.reason = _cell_fault(row.cell)
        if row.reason is None:
            elements, counts = np.unique(row.cell.elements, return_counts=True)
            row.amounts = dict(zip(elements.tolist(), counts.tolist(), strict=True))
            row.targets["volume_a3_per_atom"] = row.cell.volume / len(row.cell.elements)
        yield row


def _cells_by_id(path: Path) -> Iterator[tuple[str, Cell]]:
    if not path.exists():
        raise ValueError(f"database.source.structures: '{path}' does not exist; set it to your file or leave it out")
    bad = 0
    for row in _cells(path):
        if row.reason is None and _cell_fault(row.cell) is None:
            yield row.id, row.cell
        else:
            bad += 1
    print(f"{bad} structures of {path.name} cannot be used (unreadable or overlapping atoms)", file=sys.stderr)


def _cell_fault(cell: Cell) -> str | None:
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


def _cells(path: Path) -> Iterator[Row]:
    """Cells of a folder, zip or tar of CIF and POSCAR files, or of JSON lines ``{id, cell, el, frac}``."""
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.is_file():
                yield _file_row(str(file.relative_to(path)), file.read_bytes())
    elif zipfile.is_zipfile(path):
        try:
            with zipfile.ZipFile(path) as archive:
                for name in sorted(archive.namelist()):
                    if not name.endswith("/"):
                        yield _file_row(name, archive.read(name))
        except (*DAMAGED, RuntimeError, NotImplementedError) as error:  # the last two: encrypted, unknown packing
            raise ValueError(f"{path}: the archive is damaged or cannot be unpacked ({error})") from error
    elif path.suffix in {".tar", ".tgz"} or ".tar" in path.suffixes:
        try:
            with tarfile.open(path) as archive:
                for member in sorted(archive.getmembers(), key=lambda member: member.name):
                    if member.isfile():
                        yield _file_row(member.name, archive.extractfile(member).read())
        except DAMAGED as error:
            raise ValueError(f"{path}: the archive is damaged ({error})") from error
    elif ".jsonl" in path.suffixes:
        for line, record in _records(path, {"id", "cell", "el", "frac"}):
            yield Row(path.name, line, reason=record) if isinstance(record, str) else _json_row(path, line, record)
    else:
        raise ValueError(f"{path}: no folder, zip, tar or .jsonl(.gz) of structures")


def _json_row(path: Path, line: int, record: dict) -> Row:
    row = Row(path.name, line, id=_text(record.get("id"))[:MAX_ID_LENGTH] or f"{path.name}:{line}")
    try:
        numbers = [ATOMIC_NUMBERS[ISOTOPES.get(symbol, symbol)] for symbol in record["el"]]
        fractional = np.array(record["frac"], dtype=float).reshape(len(numbers), 3)
        row.cell = Cell(lattice_from_parameters(*map(float, record["cell"])), np.array(numbers, np.uint8), fractional)
    except (KeyError, TypeError, ValueError, ArithmeticError) as error:
        row.reason = f"no cell: {type(error).__name__} {error}"
    return row


def _file_row(name: str, content: bytes) -> Row:
    import warnings

    from pymatgen.core import Structure

    name = _text(name)
    row = Row(name, None, id=name)
    text = content.decode("utf-8", errors="replace")
    kind = "cif" if name.lower().endswith(".cif") else "poscar"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", "Elements in POSCAR cannot be determined")  # not the false names given
            structure = Structure.from_str(text, fmt=kind)
        if not structure.is_ordered:
            row.reason = "partial occupancies"
        else:
            row.cell = Cell.from_structure(structure)
    except Exception as error:
        row.reason = f"cannot be read as {kind}: {' '.join(str(error).split())[:200] or type(error).__name__}"
    return row


def lattice_from_parameters(a: float, b: float, c: float, alpha: float, beta: float, gamma: float) -> np.ndarray:
    """Lattice vectors as rows, (3, 3) in angstrom, a along x and b in the xy plane, from lengths and degrees."""
    cos_a, cos_b, cos_g = (math.cos(math.radians(angle)) for angle in (alpha, beta, gamma))
    sin_g = math.sin(math.radians(gamma))
    cx, cy = cos_b, (cos_a - cos_b * cos_g) / sin_g
    cz = math.sqrt(1 - cx * cx - cy * cy)
    return np.array([[a, 0, 0], [b * cos_g, b * sin_g, 0], [c * cx, c * cy, c * cz]])


assert UNITS.keys() == TARGETS.keys()
