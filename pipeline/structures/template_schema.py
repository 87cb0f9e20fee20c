"""Table and settings of the template library, apart from the stage's own so that those leave the library as it is."""

from dataclasses import dataclass

import pyarrow as pa

from pipeline.cells import CELL_COLUMNS
from pipeline.tables import Table, column

SOURCES = ("aflow", "database")

TEMPLATES = Table(
    "templates",
    (
        column("id", pa.string(), "source, label and reference formula"),
        column("source", pa.string(), f"one of {', '.join(SOURCES)}"),
        column("label", pa.string(), "AFLOW prototype label, or id of the database entry"),
        column("name", pa.string(), "mineral or strukturbericht name", null="none known"),
        column("prototype", pa.string(), "anonymous formula, space group number, Wyckoff letters by element"),
        column("reference_formula", pa.string(), "reduced formula of the crystal that the cell was taken from"),
        column("elements", pa.list_(pa.uint8()), "atomic numbers of the reference crystal, by ascending count"),
        column("counts", pa.list_(pa.uint16()), "anonymous formula: reduced count of each of `elements`, ascending"),
        column("oxidation_states", pa.list_(pa.int8()), "guessed, one of each of `elements`", null="none is neutral"),
        column("energy_above_hull_ev_per_atom", pa.float64(), "of the reference crystal", null="unknown"),
        column("space_group_number", pa.int32(), "1 to 230, by spglib"),
        column("n_sites", pa.int32(), "sites of the primitive cell"),
        column(
            "contacts",
            pa.list_(pa.float32()),
            "shortest distance between each two of `elements`, row by row, in units of the cube root of the volume per "
            "atom",
        ),
        *CELL_COLUMNS,
    ),
)


@dataclass(frozen=True)
class TemplateSettings:
    """What goes into the template library.

    Attributes:
        sources: Any of ``aflow`` and ``database``.
        max_sites: Largest primitive cell taken.
        max_per_prototype: Database structures kept of one prototype (anonymous formula, space group and Wyckoff
            sequence), each of another formula, the lowest above the hull first.
        symprec_angstrom: Tolerance of the symmetry search.
    """

    sources: tuple[str, ...] = SOURCES
    max_sites: int = 40
    max_per_prototype: int = 1000
    symprec_angstrom: float = 0.01

    def __post_init__(self):
        unknown = sorted(set(self.sources) - set(SOURCES))
        if unknown or not self.sources:
            raise ValueError(f"structures.templates.sources: {list(self.sources)}; choose from {list(SOURCES)}")
