"""What the evaluation reads: binary hydrides to learn from, and Materials Project's crystals to compare with."""

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from pipeline.cells import CELL_COLUMNS, Cell, compositions_of, from_table
from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS
from pipeline.database.cleaning import Cleaning
from pipeline.database.schema import ENTRIES
from pipeline.database.stage import clean_rows, read_rows
from pipeline.tables import read


def hydrides(data: Path, work: Path) -> Path:
    """The ENTRIES of ``hydrides/mp_binary_hydrides``, polymorphs kept; made once."""
    folder, source = work / "hydrides", data / "hydrides" / "mp_binary_hydrides"
    path = folder / "entries.parquet"
    if not path.exists():
        rows, rejects = _rows(source, folder)
        clean_rows(
            rows_paths=[rows],
            rejects_paths=[rejects],
            about_paths={},
            sources=[_source(source)],
            cleaning=Cleaning(
                keep_lowest_energy=False,
                drop_single_elements=True,
                max_elements=None,
                max_atoms_per_element=None,
                drop_elements=[],
                formation_energy_sigma=None,
                vocabulary="data",
            ),
            entries_path=path,
            cleaning_path=folder / "cleaning.json",
            sources_path=folder / "sources.json",
            summary_path=folder / "summary.txt",
        )
    return path


def materials_project(data: Path, work: Path) -> pa.Table:
    """Formula, elements and cells of all structures in ``mp/mp_structures.jsonl.gz``; read once."""
    folder = work / "mp"
    path = folder / "rows.parquet"
    if not path.exists():
        _rows(data / "mp" / "mp_structures.jsonl.gz", folder)
    return read(path, ENTRIES, ["id", "formula", "elements", "counts", *(field.name for field in CELL_COLUMNS)])


def _source(path: Path) -> dict:
    return {"name": path.name.split(".")[0], "kind": "structures", "path": str(path)}


def _rows(source: Path, folder: Path) -> tuple[Path, Path]:
    rows, rejects = folder / "rows.parquet", folder / "rejects.parquet"
    read_rows(source=_source(source), max_rejected_share=0.05, rows_path=str(rows), rejects_path=str(rejects))
    return rows, rejects


class Known:
    """Known crystals by chemical system and by formula."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table
        self._of_system: dict[frozenset[int], list[int]] = {}
        self._of_formula: dict[str, list[int]] = {}
        pairs = zip(table["elements"].to_pylist(), table["formula"].to_pylist(), strict=True)
        for row, (elements, formula) in enumerate(pairs):
            self._of_system.setdefault(frozenset(elements), []).append(row)
            self._of_formula.setdefault(formula, []).append(row)

    def of_formula(self, formula: str) -> list[tuple[str, Cell]]:
        """Ids and cells of the crystals of a reduced formula."""
        return self._rows(self._of_formula.get(formula, []))

    def of_system(self, symbols: Iterable[str]) -> list[tuple[str, Cell]]:
        """Those that have all these elements and no other."""
        return self._rows(self._of_system.get(_numbers(symbols), []))

    def within(self, symbols: Iterable[str]) -> list[tuple[str, Cell]]:
        """Those of the system and of all systems within it, the elements included."""
        wanted = _numbers(symbols)
        return self._rows([row for system, rows in self._of_system.items() if system <= wanted for row in rows])

    def ternary_hydrides(self) -> list[tuple[str, Cell]]:
        """Those of hydrogen and two metals."""
        metals = _metals()
        systems = (s for s in self._of_system if len(s) == 3 and 1 in s and s - {1} <= metals)
        return self._rows([row for system in systems for row in self._of_system[system]])

    def _rows(self, rows: list[int]) -> list[tuple[str, Cell]]:
        found = self._table.take(pa.array(sorted(rows), pa.int64()))
        return list(zip(found["id"].to_pylist(), from_table(found), strict=True))


def reduced_formula(cell: Cell) -> str:
    """As the database stage writes it, elements by electronegativity."""
    return compositions_of([cell]).formulas().to_pylist()[0]


def _numbers(symbols: Iterable[str]) -> frozenset[int]:
    return frozenset(ATOMIC_NUMBERS[symbol] for symbol in symbols)


def _metals() -> set[int]:
    from pymatgen.core import Element

    return {z for z in range(1, len(SYMBOLS) + 1) if Element.from_Z(z).is_metal}
