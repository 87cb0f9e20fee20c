"""Table and settings of the references that hull distances are measured from."""

from collections import defaultdict
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.cells import CELL_COLUMNS
from pipeline.composition import COUNTS, ELEMENTS
from pipeline.tables import Table, column

SOURCES = ("potential", "database", "none")
ABOVE_HULL = "above_max_above_hull"  # reason of what the database itself has too far above its hull
AFLOW, ASE = "aflow", "ase"

_UNUSED = "left out"
_UNKNOWN = "unknown"
_NO_ENERGY = "the potential gave no energy"
REFERENCES = Table(
    "references",
    (
        column(
            "id",
            pa.string(),
            "of the entry, NAME:ID where there are several databases; label of a prototype, `of` an element whose "
            "atoms were exchanged",
        ),
        column("source", pa.string(), f"name of the database, or {AFLOW} or {ASE} for crystals that these ship"),
        column("version", pa.string(), "of the source: start of the rows' SHA-256, or the package that ships it"),
        column("formula", pa.string(), "reduced formula"),
        ELEMENTS,
        COUNTS,
        column(
            "energy_ev_per_atom",
            pa.float64(),
            "on the potential's scale: of the crystal, or its formation energy in the database on top of the "
            "potential's elements",
            null=_UNUSED,
        ),
        column("formation_energy_ev_per_atom", pa.float64(), "as the database has it", null=_UNKNOWN),
        column("database_energy_above_hull_ev_per_atom", pa.float64(), "as the database has it", null=_UNKNOWN),
        column(
            "relaxed",
            pa.bool_(),
            "whether the energy is that of the crystal relaxed by the potential; false where it has `potential`: the "
            "relaxation failed, and the energy is that of the crystal as it stands",
        ),
        column("potential", pa.string(), "what gave the energy, with its version", null=_NO_ENERGY),
        column(
            "converged", pa.bool_(), "whether forces and stress came below the limit on relaxation", null=_NO_ENERGY
        ),
        *CELL_COLUMNS,
        column("rejected_by", pa.string(), "reason why the entry is no reference", null="it is one"),
    ),
)


@dataclass(frozen=True)
class HullSettings:
    """What hull distances are measured from.

    Attributes:
        source: ``potential`` gives the database's crystals one energy by the candidates' potential; ``database`` takes
            the database's own formation energies, for a database of the kind of DFT that the potential learnt;
            ``none`` measures nothing.
        max_above_hull_ev_per_atom: Entries of the database that lie higher above its own hull are not relaxed.
        max_per_formula: Polymorphs of one formula that are relaxed, the lowest in the database first; those of unknown
            energy all are. Where none of them can be relaxed, three more are tried.
        max_atoms: Crystals with more sites in the primitive cell are no references.
    """

    source: str = "potential"
    max_above_hull_ev_per_atom: float = 0.1
    max_per_formula: int = 3
    max_atoms: int = 100

    def __post_init__(self):
        if self.source not in SOURCES:
            raise ValueError(f"structures.hull.source: '{self.source}'; choose from {list(SOURCES)}")


def reference_set(references: pa.Table) -> str | None:
    """What the references of a table ``REFERENCES`` are, in a line: potential, databases and their versions.

    Returns:
        For example ``chgnet 0.4.2 on mp 1f0c2a9b, aflow pymatgen 2026.10``; None where there is no reference.
    """
    names: dict[str | None, set[str]] = defaultdict(set)
    for row in references.filter(pc.is_null(references["rejected_by"])).to_pylist():
        names[row["potential"]].add(f"{row['source']} {row['version']}")
    formed = names.pop(None, ())
    said = [f"formation energies of {', '.join(sorted(formed))}; elements by"] if formed else []
    return " ".join([*said, *(f"{name} on {', '.join(sorted(of))}" for name, of in names.items())]) or None
