"""Tables and settings of the structures stage."""

from dataclasses import dataclass

import pyarrow as pa

from pipeline.cells import CELL_COLUMNS
from pipeline.composition import COUNTS, ELEMENTS
from pipeline.structures.template_schema import SOURCES
from pipeline.tables import Table, column

RELAXATIONS = ("none", "chgnet")

_UNSCORED = "not predicted"
_WIDTH = "half-width of its 90 % interval"
_SCORES = (
    column("formation_energy_ev_per_atom", pa.float64(), "predicted from the formula", null=_UNSCORED),
    column("formation_energy_uncertainty_ev_per_atom", pa.float64(), _WIDTH, null=_UNSCORED),
    column("band_gap_ev", pa.float64(), "predicted from the formula, 0 if called a metal", null=_UNSCORED),
    column("band_gap_uncertainty_ev", pa.float64(), _WIDTH, null=_UNSCORED),
    column("probability_nonmetal", pa.float64(), "predicted probability of a gap above 0", null=_UNSCORED),
    column("nearest_known_id", pa.string(), "id of the database entry of nearest composition"),
    column("nearest_known_formula", pa.string(), "its reduced formula"),
    column("nearest_known_distance", pa.float64(), "sum of absolute differences of the element fractions, 0 to 2"),
)
_OXIDATION_STATES = column(
    "oxidation_states", pa.list_(pa.int8()), "one of each of `elements`", null="none was found or asked for"
)
_VERDICT = column("verdict", pa.string(), "the filter's verdict on the formula, e.g. balanced or not_neutral")
CARRIED = (ELEMENTS, COUNTS, _OXIDATION_STATES, _VERDICT, *_SCORES)

# What this stage reads of the sampling stage's table, and of the screening stage's table of selected candidates.
SAMPLES = Table("samples", (column("id", pa.string(), "formula, with a hash of the cell if any"), *CELL_COLUMNS))
SELECTED = Table(
    "selected",
    (
        column("id", pa.string(), "id of the sample"),
        column("rank", pa.int32(), "place in the screening stage's ranking, 1 the best"),
        *CARRIED,
    ),
)

_NONE = "no structure"
_NO_TEMPLATE = "no structure, or the generator's own"
_UNRELAXED = "not relaxed"
STRUCTURES = Table(
    "structures",
    (
        column("id", pa.string(), "reduced formula, with a hash of the cell where there is one"),
        column("formula", pa.string(), "reduced formula"),
        column("rank", pa.int32(), "place in the screening stage's ranking, 1 the best"),
        *CARRIED,
        column("template_id", pa.string(), "template that the sites come from", null=_NO_TEMPLATE),
        column("template_source", pa.string(), f"one of {', '.join(SOURCES)}", null=_NO_TEMPLATE),
        column("template_label", pa.string(), "AFLOW prototype label, or id of the database entry", null=_NO_TEMPLATE),
        column("template_formula", pa.string(), "formula of the template's reference crystal", null=_NO_TEMPLATE),
        column("substitution_similarity", pa.float64(), "0 to 1: likeness of the elements", null=_NO_TEMPLATE),
        column("volume_method", pa.string(), "dls, dls_bounded or covalent_radii", null=_NO_TEMPLATE),
        column("space_group_number", pa.int32(), "of the cell exported, 1 to 230, by spglib", null=_NONE),
        column("space_group_symbol", pa.string(), "Hermann-Mauguin", null=_NONE),
        column("n_sites", pa.int32(), "sites of the cell", null=_NONE),
        column("volume_a3_per_atom", pa.float64(), "volume of the cell exported", null=_NONE),
        column("minimum_distance_angstrom", pa.float64(), "shortest periodic distance between sites", null=_NONE),
        *CELL_COLUMNS,
        column("relaxed", pa.bool_(), "whether the cell was relaxed", null=_NONE),
        column("chgnet_energy_ev_per_atom", pa.float64(), "CHGNet's energy of the relaxed cell", null=_UNRELAXED),
        column("relaxation_volume_ratio", pa.float64(), "volume after over volume before", null=_UNRELAXED),
        column("relaxation_steps", pa.int32(), "steps taken", null=_UNRELAXED),
        column("maximum_force_ev_per_angstrom", pa.float64(), "largest force on an atom", null=_UNRELAXED),
        column("converged", pa.bool_(), "whether forces and stress came below the limit", null=_UNRELAXED),
        column("space_group_number_before", pa.int32(), "of the cell before relaxation", null=_UNRELAXED),
        column("rejected_by", pa.string(), "reason why the candidate is not exported", null="it is exported"),
    ),
)


@dataclass(frozen=True)
class StructureSettings:
    """How candidates become structures.

    Attributes:
        n_structures: Candidates to find a structure of; the stage stops there. A crystal from the generator is one
            candidate, so that this many structures are kept; a formula may have several structures.
        max_structures_per_formula: Distinct structures kept of one formula, whether on templates or from the generator.
        max_attempts: Template assignments tried for one formula, the most similar first.
        min_similarity: Assignments less similar are not tried (0 to 1). For known stable crystals whose own formula was
            held back, the right prototype came first for 397 of 597 with the rest of their database as templates (82 %
            above 0.9, 4 of 26 below 0.5), and for 46 of 455 with AFLOW alone (11 of 20 above 0.9, 5 % below 0.5). The
            method was chosen on crystals of the same database. ``tests/science/test_structures_held_back.py`` prints
            this.
        min_distance_factor: A pair of atoms nearer than this times the sum of their covalent radii rejects a cell; 0.7
            would reject 3 in 1,000 of the known stable crystals.
        symprec_angstrom: Tolerance of the space groups reported.
        relaxation: ``none`` or ``chgnet``.
        n_relaxed: Relaxations started, the best ranked first; the rest keep the cell that they have.
        max_steps: Relaxation steps.
        fmax_ev_per_angstrom: Relaxation ends when no force is larger.
        max_relaxed_atoms: Larger cells are not relaxed.
        max_volume_ratio: A relaxed cell that grew or shrank by more is rejected.
    """

    n_structures: int = 100
    max_structures_per_formula: int = 1
    max_attempts: int = 20
    min_similarity: float = 0.3
    min_distance_factor: float = 0.7
    symprec_angstrom: float = 0.01
    relaxation: str = "none"
    n_relaxed: int = 20
    max_steps: int = 100
    fmax_ev_per_angstrom: float = 0.1
    max_relaxed_atoms: int = 40
    max_volume_ratio: float = 2.0

    def __post_init__(self):
        if self.relaxation not in RELAXATIONS:
            raise ValueError(f"structures.relaxation: '{self.relaxation}'; choose from {list(RELAXATIONS)}")
