"""Tables and settings of the structures stage: what it reads, what is built, and what is handed over."""

from dataclasses import dataclass

import pyarrow as pa

from pipeline.cells import CELL_COLUMNS
from pipeline.composition import COUNTS, ELEMENTS
from pipeline.structures.template_schema import SOURCES
from pipeline.tables import Table, column

ORIGINS = ("template", "generator", "random")

_UNSCORED = "not predicted"
_WIDTH = "half-width of its 90 % interval"
_SCORES = (
    column("formation_energy_ev_per_atom", pa.float64(), "predicted from the formula", null=_UNSCORED),
    column("formation_energy_uncertainty_ev_per_atom", pa.float64(), _WIDTH, null=_UNSCORED),
    column(
        "decomposition_energy_ev_per_atom",
        pa.float64(),
        "distance to the hull of all other compounds, predicted from the formula; negative below it",
        null=_UNSCORED,
    ),
    column("decomposition_energy_uncertainty_ev_per_atom", pa.float64(), _WIDTH, null=_UNSCORED),
    column("probability_near_hull", pa.float64(), "probability that it lies near the hull, 0 to 1", null=_UNSCORED),
    column("band_gap_ev", pa.float64(), "predicted from the formula, 0 if called a metal", null=_UNSCORED),
    column("band_gap_uncertainty_ev", pa.float64(), _WIDTH, null=_UNSCORED),
    column("probability_nonmetal", pa.float64(), "predicted probability of a gap above 0", null=_UNSCORED),
    column("probability_gap_in_window", pa.float64(), "probability that the gap is as asked", null=_UNSCORED),
    column("experimental_band_gap_ev", pa.float64(), "as experiments find it, predicted", null=_UNSCORED),
    column("experimental_band_gap_uncertainty_ev", pa.float64(), _WIDTH, null=_UNSCORED),
    column("likeness", pa.float64(), "how much like a made compound, 0 to 1", null=_UNSCORED),
    column("diversity", pa.float64(), "1/k for the k-th best of its elements", null=_UNSCORED),
    column("usefulness", pa.float64(), "product of the ranking's terms, 0 to 1", null=_UNSCORED),
    column("distance_from_training", pa.float64(), "from what the models learnt from, 1 is usual", null=_UNSCORED),
    column("hhi_production", pa.float64(), "index of the supply of the elements, 0 to 10,000", null="no index"),
    column("hhi_reserve", pa.float64(), "the same of reserves", null="no index"),
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
_NO_TEMPLATE = "no structure, or one that is not from a template"
_UNRELAXED = "not relaxed"
_NO_HULL = "not relaxed, an element has no reference, or no compound of its system has one"
REJECTED_BY = column("rejected_by", pa.string(), "reason why the candidate is not exported", null="it is exported")
_CANDIDATE = (
    column("id", pa.string(), "reduced formula, with a hash of the cell where there is one"),
    column("formula", pa.string(), "reduced formula"),
    column("rank", pa.int32(), "place in the screening stage's ranking, 1 the best"),
    *CARRIED,
    column("origin", pa.string(), f"where the sites come from: one of {', '.join(ORIGINS)}", null=_NONE),
    column("template_id", pa.string(), "template that the sites come from", null=_NO_TEMPLATE),
    column("template_source", pa.string(), f"one of {', '.join(SOURCES)}", null=_NO_TEMPLATE),
    column("template_label", pa.string(), "AFLOW prototype label, or id of the database entry", null=_NO_TEMPLATE),
    column("template_formula", pa.string(), "formula of the template's reference crystal", null=_NO_TEMPLATE),
    column(
        "prototype", pa.string(), "anonymous formula, space group number, Wyckoff letters by element", null=_NO_TEMPLATE
    ),
    column("template_rank", pa.int32(), "place among the templates of the formula, 1 the best", null=_NO_TEMPLATE),
    column(
        "template_probability",
        pa.float64(),
        "0 to 1: how often a stable compound whose best template was as likely had its crystal",
        null=_NO_TEMPLATE,
    ),
    column("volume_method", pa.string(), "dls, dls_bounded or covalent_radii", null=_NO_TEMPLATE),
)

# A row for each structure to relax, and one with its reason for each candidate without.
BUILT = Table("built", (*_CANDIDATE, *CELL_COLUMNS, REJECTED_BY))

# The rows of BUILT with what became of them in relaxation; their cell is the relaxed one where there is one.
RELAXATION = (
    column("relaxed", pa.bool_(), "whether the cell was relaxed", null=_NONE),
    column("potential", pa.string(), "what relaxed it, with its version", null=_UNRELAXED),
    column("energy_ev_per_atom", pa.float64(), "the potential's energy of the relaxed cell", null=_UNRELAXED),
    column("relaxation_volume_ratio", pa.float64(), "volume after over volume before", null=_UNRELAXED),
    column("relaxation_steps", pa.int32(), "steps taken", null=_UNRELAXED),
    column("maximum_force_ev_per_angstrom", pa.float64(), "largest force on an atom", null=_UNRELAXED),
    column("maximum_stress_gpa", pa.float64(), "largest principal stress, its sign left out", null=_UNRELAXED),
    column("converged", pa.bool_(), "whether forces and stress came below the limit", null=_UNRELAXED),
    column("space_group_number_before", pa.int32(), "of the cell before relaxation", null=_UNRELAXED),
)
RELAXED = Table("relaxed", (*_CANDIDATE, *CELL_COLUMNS, *RELAXATION, REJECTED_BY))

GEOMETRY = (
    column("space_group_number", pa.int32(), "of the cell exported, 1 to 230, by spglib", null=_NONE),
    column("space_group_symbol", pa.string(), "Hermann-Mauguin", null=_NONE),
    column("n_sites", pa.int32(), "sites of the cell", null=_NONE),
    column("volume_a3_per_atom", pa.float64(), "volume of the cell exported", null=_NONE),
    column("density_g_per_cm3", pa.float64(), "mass over volume of the cell exported", null=_NONE),
    column("minimum_distance_angstrom", pa.float64(), "shortest periodic distance between sites", null=_NONE),
    column(
        "minimum_distance_ratio",
        pa.float64(),
        "shortest distance in units of the sum of the two covalent radii",
        null=_NONE,
    ),
    column(
        "global_instability_index_vu",
        pa.float64(),
        "root mean square of bond valence sum less oxidation state, in valence units; half of "
        "known stable salts lie below 0.24, nine in ten below 0.61; far larger where bonds are not ionic",
        null="no structure, or no oxidation states",
    ),
)
STABILITY = (
    column(
        "energy_above_hull_ev_per_atom",
        pa.float64(),
        "to the convex hull of the references, negative below all of them",
        null=_NO_HULL,
    ),
    column(
        "relaxed_formation_energy_ev_per_atom",
        pa.float64(),
        "the relaxed energy less those of the elements by the same potential",
        null="not relaxed, or an element has no reference",
    ),
    column(
        "decomposition", pa.string(), "phases of the hull at this composition, with their atoms' share", null=_NO_HULL
    ),
    column("n_hull_references", pa.int32(), "references within the candidate's chemical system", null=_UNRELAXED),
    column("hull_source", pa.string(), "energies and databases of the campaign's references", null=_UNRELAXED),
    column(
        "hull_remark",
        pa.string(),
        "why there is no distance, or which known formulas of the system are no references",
        null="nothing to say",
    ),
    column("energy_rank", pa.int32(), "1 the lowest in energy of its formula", null=_UNRELAXED),
    column(
        "structure_rank",
        pa.int32(),
        "1 the most probable of its formula, template probability and energy weighed together",
        null="fell before it was compared",
    ),
    column("matches", pa.string(), "id of the database's crystal or of the candidate that it is", null="it is neither"),
)
STRUCTURES = Table("structures", (*_CANDIDATE, *GEOMETRY, *CELL_COLUMNS, *RELAXATION, *STABILITY, REJECTED_BY))


@dataclass(frozen=True)
class BuildSettings:
    """How candidates become structures to relax.

    Attributes:
        n_candidates: Candidates to build structures of, the best ranked first; those without a structure do not count.
        max_structures_per_formula: Structures of one formula: its most probable templates, or the generator's crystals.
        min_template_probability: Less probable templates are left out (0 to 1).
        min_distance_factor: A pair of atoms nearer than this times the sum of their covalent radii rejects a cell; 0.7
            would reject 3 in 1,000 of the known stable crystals.
        n_random: Symmetric random structures (PyXtal) of a formula that no template fits.
        max_random_sites: Largest cell of these.
    """

    n_candidates: int = 100
    max_structures_per_formula: int = 5
    min_template_probability: float = 0.01
    min_distance_factor: float = 0.7
    n_random: int = 0
    max_random_sites: int = 20


@dataclass(frozen=True)
class JudgeSettings:
    """Which structures are handed over.

    Attributes:
        max_per_formula: Distinct structures of one formula, the most probable first.
        energy_scale_ev_per_atom: Energy that weighs as much as a factor e in the template's probability; 0 goes by
            energy alone. A potential that errs by about this much cannot tell polymorphs nearer to each other, but the
            templates' chemistry can: ``docs/structures.md`` measures both.
        max_energy_above_hull_ev_per_atom: None hands over whatever its distance; unknown distances always pass.
        max_global_instability_index_vu: None does not look at bond valences.
        min_packing: Least share of the cell's volume in spheres of the covalent radii.
        max_packing: Largest.
        symprec_angstrom: Tolerance of the space groups reported.
    """

    max_per_formula: int = 1
    energy_scale_ev_per_atom: float = 0.05
    max_energy_above_hull_ev_per_atom: float | None = 0.2
    max_global_instability_index_vu: float | None = None
    min_packing: float = 0.1
    max_packing: float = 1.3
    symprec_angstrom: float = 0.01
