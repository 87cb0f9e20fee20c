"""Tables of the filtering stage and the settings that its rules share."""

import os
from dataclasses import dataclass

import pyarrow as pa

from pipeline.composition import COUNTS, ELEMENTS
from pipeline.tables import Table, column

VERDICTS = (
    "element",
    "alloy",
    "balanced",
    "not_balanced",
    "not_neutral",
    "unknown_element",
    "unknown_electronegativity",
    "too_large_for_smact",
)
"""What the filter says of a composition; a kernel verdict is a position in this tuple. The first three are valid.

- ``element``: one element only, which smact passes untested, without data on the element too; valid.
- ``alloy``: metals only, and the rules let alloys pass, untested and without data on the metals too; valid.
- ``balanced``: oxidation states were found that sum to zero and, with the Pauling test, put every negative state on a
  more electronegative element than every positive one; valid.
- ``not_balanced``: oxidation states sum to zero, but none so that the Pauling test holds.
- ``not_neutral``: no choice of oxidation states sums to zero.
- ``unknown_element``: an element without any oxidation state in the set.
- ``unknown_electronegativity``: oxidation states sum to zero, and smact fails what the Pauling test cannot be put to
  (helium, neon, argon, promethium, radon and lawrencium have no value).
- ``too_large_for_smact``: balanced with mixed valence, but smact gives up, and fails, beyond 1,000,000 assignments.
"""

OXIDATION_STATE_SETS = (
    "icsd24_low",
    "icsd24_medium",
    "icsd24_high",
    "icsd24",
    "smact14",
    "icsd16",
    "pymatgen_sp",
    "wiki",
)

DRAWN = Table(
    "samples",
    (
        column("id", pa.string(), "id of the sample"),
        column("n_drawn", pa.int32(), "times that the generator drew the sample"),
        ELEMENTS,
        COUNTS,
    ),
)
"""What filtering reads of the sampling stage's table."""

_FELL = "the row was rejected"
FILTERED = Table(
    "filtered",
    (
        column("id", pa.string(), "id of the sample"),
        column("n_drawn", pa.int32(), "times that the generator drew the sample", null=_FELL),
        column(ELEMENTS.name, ELEMENTS.type, "atomic numbers, in order of Pauling electronegativity", null=_FELL),
        column(COUNTS.name, COUNTS.type, "atoms of each element of `elements`, no common divisor", null=_FELL),
        column(
            "oxidation_states",
            pa.list_(pa.int8()),
            "oxidation state of each element of `elements`, the assignment most common in the ICSD (2024)",
            null="rejected; element, alloy, mixed valence or not balanced; or over 10 elements",
        ),
        column("verdict", pa.string(), f"one of {', '.join(VERDICTS)}"),
        column("smact_valid", pa.bool_(), "what smact.screening.smact_validity answers under the same rules"),
        column("rejected_by", pa.string(), "the verdict that the row fell by", null="the row survived"),
    ),
)


@dataclass(frozen=True)
class Rules:
    """Which compositions count as chemically sensible (Davies et al. 2016, doi:10.1016/j.chempr.2016.09.010).

    Args:
        oxidation_states: Oxidation states that an element may take: one of ``OXIDATION_STATE_SETS``, or the path of a
            text file in smact's format (``Fe 2 3``, one element a line). ``icsd24_low``, ``icsd24_medium`` and
            ``icsd24_high`` are the states reported at least 3 times in the ICSD (2024) that make up at least 0, 10 and
            50 % of an element's reports; ``icsd24_low`` is smact's default.
        include_alloys: Let a composition of metals only pass without a test.
        pauling_test: Ask that every negative state sits on a more electronegative element than every positive one.
        mixed_valence: Let the atoms of one element take different states, for the elements that smact lists.

    Raises:
        ValueError: ``oxidation_states`` is neither a known set nor a file.
    """

    oxidation_states: str = "icsd24_low"
    include_alloys: bool = True
    pauling_test: bool = True
    mixed_valence: bool = False

    def __post_init__(self) -> None:
        if self.oxidation_states not in OXIDATION_STATE_SETS and not os.path.isfile(self.oxidation_states):
            raise ValueError(
                f"filtering.oxidation_states: '{self.oxidation_states}' is neither a file nor one of "
                f"{', '.join(OXIDATION_STATE_SETS)}"
            )
