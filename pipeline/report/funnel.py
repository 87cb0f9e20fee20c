"""The funnel: how many are left after each gate, and for what reason the rest fell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

REASONS = {
    "rejected": "row could not be read",
    "single_element": "single element",
    "too_many_elements": "too many elements",
    "too_many_atoms_of_an_element": "too many atoms of one element",
    "excluded_element": "excluded element",
    "higher_energy_duplicate": "same formula at lower energy is kept",
    "formation_energy_outlier": "formation energy is an outlier",
    "outside_vocabulary": "element outside the vocabulary",
    "not_encoded": "not encoded for the generator",
    "held_out": "held out to test rediscovery",
    "ambiguous": "two counts for one element",
    "empty": "no element, or no crystal",
    "repeated": "drawn before",
    "not_balanced": "charges balance only against electronegativity",
    "not_neutral": "no oxidation states sum to zero",
    "unknown_element": "element without oxidation states",
    "unknown_electronegativity": "element without electronegativity",
    "too_large_for_smact": "balanced, but too large for SMACT's mixed valence",
    "formula_of_an_earlier_source": "another source, first in precedence, has the formula",
    "known": "formula is in the database",
    "allowed_elements": "element not allowed",
    "excluded_elements": "excluded element",
    "exclude_radioactive": "radioactive element",
    "exclude_toxic": "toxic element",
    "min_elements": "too few elements",
    "max_elements": "too many elements",
    "max_atoms": "too many atoms",
    "unscored": "a property could not be predicted",
    "max_hhi_production": "elements produced by too few countries",
    "max_hhi_reserve": "elements of too few countries' reserves",
    "max_formation_energy_ev_per_atom": "formation energy too high",
    "max_formation_energy_uncertainty_ev_per_atom": "formation energy too uncertain",
    "max_decomposition_energy_ev_per_atom": "too far above the hull by prediction",
    "max_decomposition_energy_uncertainty_ev_per_atom": "decomposition energy too uncertain",
    "min_probability_near_hull": "too improbable near the hull",
    "min_likeness": "too unlike made compounds",
    "max_distance_from_training": "too far from what the models learnt from",
    "min_band_gap_ev": "band gap too small",
    "max_band_gap_ev": "band gap too large",
    "max_per_chemical_system": "enough of the same elements",
    "n_selected": "ranked below those selected",
    "no_template": "no template of that composition",
    "no_probable_template": "no template is probable enough",
    "too_close": "atoms too close",
    "beyond_n_candidates": "enough candidates have structures",
    "too_many_atoms_to_relax": "too many atoms to relax",
    "element_unknown_to_potential": "an element that the potential does not know",
    "too_close_before_relaxation": "atoms too close to relax",
    "relaxation_failed": "relaxation failed",
    "energy_or_forces_not_finite": "the potential gave no finite energy or forces",
    "isolated_atom": "an atom without neighbours",
    "volume_changed": "volume changed too much in relaxation",
    "too_close_after_relaxation": "atoms too close after relaxation",
    "duplicate": "same crystal as a better ranked one",
    "max_structures_per_formula": "enough structures of the formula",
    "implausible_packing": "packed too loosely or too densely",
    "implausible_bond_valences": "bond valences do not fit the oxidation states",
    "above_hull": "too far above the hull",
    "known_crystal": "the database has the crystal",
    "less_probable_of_formula": "another structure of the formula is more probable",
}
"""A reason as stages write it, in words for the reader; one without an entry is shown as it is written."""


@dataclass(frozen=True)
class Gate:
    """One step of the funnel.

    Attributes:
        name: What is left, in words.
        left: How many are left.
        lost: How many fell at this step, by reason.
    """

    name: str
    left: int
    lost: Mapping[str, int]


def words(reason: str) -> str:
    """A reason in words."""
    return REASONS.get(reason, reason.replace("_", " "))


def chain(start: tuple[str, int], *gates: tuple[str, int, Mapping[str, int]]) -> list[Gate]:
    """Gates one after another, each held to the one before it; reasons that nothing fell by are left out.

    Args:
        start: Name and number of what enters.
        *gates: Name, number left and number lost by reason.

    Raises:
        ValueError: Left and lost do not add up to what entered: the files are not of one campaign.
    """
    result = [Gate(*start, {})]
    for name, left, lost in gates:
        before = result[-1]
        if left + sum(lost.values()) != before.left:
            raise ValueError(
                f"report: {before.left} {before.name} went in, but {left} {name} and {sum(lost.values())} rejected "
                "came out; the files are of different runs: rerun the stage between the two"
            )
        fell = sorted(((reason, n) for reason, n in lost.items() if n), key=lambda pair: (-pair[1], pair[0]))
        result.append(Gate(name, left, dict(fell)))
    return result


def database_funnel(cleaning: dict, not_encoded: int, held_out: int) -> list[Gate]:
    """From the rows of the source to the entries that trained the generator.

    Args:
        cleaning: The database stage's ``cleaning.json``.
        not_encoded: Entries that the generator's tensors do not hold.
        held_out: Entries among the others that trained nothing.
    """
    n = cleaning["rows_out"]
    return chain(
        ("rows read", cleaning["rows_in"]),
        ("entries after cleaning", n, {"rejected": cleaning["rejected"], **cleaning["dropped"]}),
        (
            "entries trained on",
            n - not_encoded - held_out,
            {"not_encoded": not_encoded, "held_out": held_out},
        ),
    )


def candidate_funnel(
    draws: Sequence[dict], n_decoded: int, n_distinct: int, fell: Mapping[str, Mapping[str, int]], left: Sequence[int]
) -> list[Gate]:
    """From the draws of the generator to the candidates exported.

    Args:
        draws: What each sampling job counted: drawn, ambiguous, empty.
        n_decoded, n_distinct: Draws that made a formula, and different samples among them.
        fell: Samples by reason, for ``filtering``, ``screening`` and ``structures``.
        left: Samples left after each of the three.
    """
    total = {key: sum(job[key] for job in draws) for key in ("drawn", "ambiguous", "empty")}
    return chain(
        ("draws", total["drawn"]),
        ("draws that are a formula", n_decoded, {"ambiguous": total["ambiguous"], "empty": total["empty"]}),
        ("distinct candidates", n_distinct, {"repeated": n_decoded - n_distinct}),
        ("candidates kept by the filter", left[0], fell["filtering"]),
        ("selected", left[1], fell["screening"]),
        ("candidates exported", left[2], fell["structures"]),
    )


def by_reason(reasons: pa.ChunkedArray | pa.Array) -> dict[str, int]:
    """How often each reason occurs, nulls left out."""
    counts = reasons.drop_null().value_counts().to_pylist()
    return {row["values"]: row["counts"] for row in counts}
