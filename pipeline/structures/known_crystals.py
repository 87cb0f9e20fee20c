"""Known crystals on their way to references: the database's entries, and what pymatgen and ASE ship."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, compositions_of, from_table
from pipeline.composition import COUNTS, ELEMENTS, SYMBOLS
from pipeline.provenance import file_digest
from pipeline.structures.reference_schema import AFLOW, ASE
from pipeline.structures.relax_batch import Relaxed

OUTLIER = "formation_energy_outlier"
_SIGMA = 5  # as MatGAN cleans formation energies (Dan et al. 2020, doi:10.1038/s41524-020-00352-0)
_NEIGHBOURS = 3  # elements whose crystals an element without any takes
_FORMATION = tables.column("formation_energy_ev_per_atom", pa.float64(), "from the elements", null="unknown")
# What is read of the database's rows.
ROWS = tables.Table(
    "entries",
    (
        tables.column("id", pa.string(), "name of the entry"),
        tables.column("source", pa.string(), "name of the database"),
        ELEMENTS,
        COUNTS,
        _FORMATION,
        tables.column("energy_above_hull_ev_per_atom", pa.float64(), "distance to the hull", null="unknown"),
        *CELL_COLUMNS,
    ),
)


@dataclass(frozen=True, eq=False)
class Entry:
    """A known crystal on its way to a reference."""

    id: str
    source: str
    version: str
    amounts: dict[int, int]  # reduced, by atomic number
    cell: Cell | None
    formation_energy: float | None = None
    above_hull: float | None = None
    result: Relaxed | None = None
    relaxed: bool = False  # the result is of the crystal at rest, not as it stands in the database
    energy: float | None = None
    rejected_by: str | None = None

    @property
    def formula(self) -> tuple[tuple[int, int], ...]:
        return tuple(sorted(self.amounts.items()))


def check_energies(paths: Sequence[str | os.PathLike]) -> None:
    """Raise a ``ValueError`` where no row of the database's tables has a formation energy."""
    energies = [tables.read(path, tables.Table("entries", (_FORMATION,)))[_FORMATION.name] for path in paths]
    if all(column.null_count == len(column) for column in energies):
        raise ValueError(
            f"structures.hull.source: 'database', but no row of {[str(path) for path in paths]} has a formation "
            "energy; take 'potential' or 'none', or map the column in database.sources"
        )


def from_database(paths: Sequence[str | os.PathLike], systems: set[frozenset[int]]) -> list[Entry]:
    """All entries of the chemical systems, those without a crystal too.

    Args:
        paths: Tables of the database's rows.
        systems: Atomic numbers of the elements of each.
    """
    entries = []
    for path in paths:
        rows = tables.read(path, ROWS)
        lowest, highest = _usual_energies(rows)
        rows = rows.filter(pa.array([frozenset(row) in systems for row in rows["elements"].to_pylist()], pa.bool_()))
        digest = file_digest(path)[:8]
        cells = from_table(rows)
        for row, cell in zip(rows.drop_columns([field.name for field in CELL_COLUMNS]).to_pylist(), cells, strict=True):
            amounts, energy = dict(zip(row["elements"], row["counts"], strict=True)), row[_FORMATION.name]
            unusual = energy is not None and len(amounts) > 1 and not lowest <= energy <= highest
            entries.append(
                Entry(
                    f"{row['source']}:{row['id']}" if len(paths) > 1 else row["id"],
                    row["source"],
                    digest,
                    amounts,
                    cell,
                    energy,
                    row["energy_above_hull_ev_per_atom"],
                    rejected_by=OUTLIER if unusual else None,
                )
            )
    return entries


def _usual_energies(rows: pa.Table) -> tuple[float, float]:
    """Mean -+ 5 standard deviations of the compounds' formation energies, eV/atom, as the rows' cleaning has them."""
    of_compounds = rows[_FORMATION.name].filter(pc.greater(pc.list_value_length(rows["elements"]), 1)).drop_null()
    energies = of_compounds.to_numpy()
    if not len(energies):
        return -np.inf, np.inf
    return energies.mean() - _SIGMA * energies.std(), energies.mean() + _SIGMA * energies.std()


def ground_state(symbol: str) -> Cell | None:
    """The primitive cell of an element in ASE's ``reference_states``; None where that is no simple lattice."""
    from ase.build import bulk

    try:
        atoms = bulk(symbol)
    except (RuntimeError, ValueError):
        return None
    return Cell(np.array(atoms.cell), atoms.numbers.astype(np.uint8), atoms.get_scaled_positions())


def aflow_crystals() -> list[Entry]:
    """AFLOW's prototypes, each as the compound that it is named after, as pymatgen ships them."""
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    cells = [Cell.from_structure(entry["snl"].structure) for entry in AFLOW_PROTOTYPE_LIBRARY]
    columns = compositions_of(cells).columns()
    amounts = zip(columns["elements"].to_pylist(), columns["counts"].to_pylist(), strict=True)
    return [
        Entry(entry["tags"]["aflow"], AFLOW, f"pymatgen {version('pymatgen')}", dict(zip(*pair, strict=True)), cell)
        for entry, pair, cell in zip(AFLOW_PROTOTYPE_LIBRARY, amounts, cells, strict=True)
    ]


def own_crystals(z: int, aflow: list[Entry]) -> list[Entry]:
    """AFLOW's crystals of an element, and its ground state in ASE."""
    own = [one for one in aflow if one.amounts.keys() == {z}]
    cell = ground_state(SYMBOLS[z - 1])
    return own + ([] if cell is None else [Entry(SYMBOLS[z - 1], ASE, version("ase"), {z: 1}, cell)])


def neighbours_crystals(z: int, aflow: list[Entry]) -> list[Entry]:
    """Crystals of the elements nearest in Pettifor's scale, at their own volume; for hydrogen, those of O, N and Cl."""
    from pymatgen.core import Element

    place = Element.from_Z(z).mendeleev_no
    if place is None:
        return []
    of_elements = [one for one in aflow if len(one.amounts) == 1]
    lenders = {next(iter(one.amounts)) for one in of_elements}
    near = sorted(lenders, key=lambda other: (abs(Element.from_Z(other).mendeleev_no - place), other))[:_NEIGHBOURS]
    lent = [one for one in of_elements if next(iter(one.amounts)) in near]
    cells = [Cell(one.cell.lattice, np.full_like(one.cell.elements, z), one.cell.fractional) for one in lent]
    return [
        replace(one, id=f"{one.id} of {SYMBOLS[next(iter(one.amounts)) - 1]}", amounts={z: 1}, cell=cell)
        for one, cell in zip(lent, cells, strict=True)
    ]
