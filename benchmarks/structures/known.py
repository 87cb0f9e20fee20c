"""The Materials Project's crystals as a database's rows, and the stable ones that proposals are measured on."""

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.crystalgan.data import materials_project
from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, from_table
from pipeline.structures.templates import ROWS

WORK = Path("results/structures-docs")
SEED = 20261121
N_TARGETS = 500
MAX_SITES = 20


@dataclass(frozen=True, eq=False)
class Target:
    """A stable compound: its id, reduced formula, elements (atomic numbers) with reduced counts, and crystal."""

    id: str
    formula: str
    elements: list[int]
    counts: list[int]
    cell: Cell


def database_rows(data: Path, work: Path) -> Path:
    """The crystals of ``mp/mp_structures.jsonl.gz`` with hull distances of ``mp/mp.csv.gz``, as ``ROWS``; made once."""
    path = work / "mp_rows.parquet"
    if not path.exists():
        crystals = materials_project(data, work)
        with gzip.open(data / "mp" / "mp.csv.gz", "rt", newline="") as handle:
            hull = {row["material_id"]: row["energy_above_hull"] for row in csv.DictReader(handle)}
        ids = crystals["id"].to_pylist()
        distances = [float(hull[id_]) if hull.get(id_) else None for id_ in ids]
        cells = {field.name: crystals[field.name] for field in CELL_COLUMNS}
        tables.write(path, ROWS, {"id": ids, "energy_above_hull_ev_per_atom": distances, **cells})
    return path


def targets(data: Path, work: Path, n: int = N_TARGETS) -> list[Target]:
    """Compounds with hull distance 0 and at most ``MAX_SITES`` atoms in the cell as listed, one crystal a formula.

    The first ``n`` in a random order of fixed seed.
    """
    crystals = materials_project(data, work)
    distance = tables.read(database_rows(data, work), ROWS, ["energy_above_hull_ev_per_atom"])
    stable = np.nan_to_num(distance["energy_above_hull_ev_per_atom"].to_numpy().astype(float), nan=1.0) == 0
    sites = np.diff(crystals["site_elements"].combine_chunks().offsets.to_numpy())
    n_elements = np.array([len(elements) for elements in crystals["elements"].to_pylist()])
    chosen = crystals.take(pa.array(np.flatnonzero(stable & (sites <= MAX_SITES) & (n_elements > 1))))
    chosen = chosen.sort_by([("formula", "ascending"), ("id", "ascending")])
    formulas = np.array(chosen["formula"].to_pylist())
    first = np.unique(formulas, return_index=True)[1]
    picked = chosen.take(pa.array(np.random.default_rng(SEED).permutation(first)[:n]))
    columns = (picked[name].to_pylist() for name in ("id", "formula", "elements", "counts"))
    return [Target(*row) for row in zip(*columns, from_table(picked), strict=True)]
