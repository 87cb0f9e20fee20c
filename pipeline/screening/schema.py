"""The table that prediction hands to selection, and what prediction reads of the filtered candidates."""

import pyarrow as pa

from pipeline.composition import COUNTS, ELEMENTS
from pipeline.tables import Table, column

_UNSCORED = "no score, see `unscored_because`"

CANDIDATE_COLUMNS = (
    column("id", pa.string(), "id of the sample"),
    column("n_drawn", pa.int32(), "times that the generator drew the sample"),
    ELEMENTS,
    COUNTS,
    column("oxidation_states", pa.list_(pa.int8()), "oxidation state of each element", null="none was assigned"),
    column("verdict", pa.string(), "the filter's verdict"),
)

SCORE_COLUMNS = (
    column("formation_energy_ev_per_atom", pa.float64(), "predicted formation energy", null=_UNSCORED),
    column(
        "formation_energy_uncertainty_ev_per_atom",
        pa.float64(),
        "half-width of the 90 % interval of the formation energy",
        null=_UNSCORED,
    ),
    column(
        "decomposition_energy_ev_per_atom",
        pa.float64(),
        "predicted distance to the hull of all other compounds, negative below it: stable",
        null=_UNSCORED,
    ),
    column(
        "decomposition_energy_uncertainty_ev_per_atom",
        pa.float64(),
        "half-width of the 90 % interval of the decomposition energy",
        null=_UNSCORED,
    ),
    column("probability_nonmetal", pa.float64(), "predicted probability of a gap above 0", null=_UNSCORED),
    column("band_gap_ev", pa.float64(), "predicted band gap, 0 if called a metal", null=_UNSCORED),
    column("band_gap_uncertainty_ev", pa.float64(), "half-width of the 90 % interval of the band gap", null=_UNSCORED),
    column(
        "experimental_band_gap_ev",
        pa.float64(),
        "band gap as experiments find it, 0 if called a metal",
        null="no model of it was given, or no score",
    ),
    column(
        "experimental_band_gap_uncertainty_ev",
        pa.float64(),
        "half-width of the 90 % interval of the experimental band gap",
        null="no model of it was given, or no score",
    ),
    column(
        "likeness",
        pa.float64(),
        "how much like a compound of the database among charge-balanced formulas, 0 to 1",
        null=_UNSCORED,
    ),
    column(
        "distance_from_training",
        pa.float64(),
        "distance to the nearest formulas that the models learnt from, 1 as for the median of these; of all models the "
        "largest",
        null=_UNSCORED,
    ),
    column(
        "nearest_known_distance",
        pa.float64(),
        "to the nearest composition of the database: sum of the absolute differences of the element fractions, "
        "0 (same) to 2 (no element shared)",
    ),
    column("is_known", pa.bool_(), "the reduced formula is in the database"),
    column("unscored_because", pa.string(), "why a score is null", null="every score is there"),
)

PREDICTED = Table("predicted", CANDIDATE_COLUMNS + SCORE_COLUMNS)
"""One row for each candidate that survived the filter."""
