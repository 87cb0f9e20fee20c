"""How useful a candidate would be: the product of what speaks for it, each term from 0 to 1 raised to its weight.

Suffix: N candidates.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from pipeline.screening.criteria import Criteria, Weights
from pipeline.screening.distribution import LEAST, Residuals, probability_below
from pipeline.tables import column

TERMS = {
    "near_hull": "probability_near_hull",
    "likeness": "likeness",
    "gap": "probability_gap_in_window",
    "novelty": "novelty",
    "diversity": "diversity",
}
"""The column of each term, by the name of its weight."""

_UNSCORED = "no score, see `unscored_because`"
_UNRANKED = "not ranked, see `rejected_by`"
TERM_COLUMNS = (
    column(
        "probability_near_hull",
        pa.float64(),
        "probability that the decomposition energy is at most select.near_hull_ev_per_atom, 0 to 1",
        null=_UNSCORED,
    ),
    column(
        "probability_gap_in_window",
        pa.float64(),
        "probability that the band gap lies from select.min_band_gap_ev to max_band_gap_ev, 1 without such bounds",
        null=_UNSCORED,
    ),
    column("novelty", pa.float64(), "half of nearest_known_distance: 0 known, 1 no element shared with any compound"),
)
"""Terms that a row has by itself; ``likeness`` is one of its scores."""
RANKED_COLUMNS = (
    column(
        "diversity", pa.float64(), "1/k for the k-th best of its chemical system by the other terms", null=_UNRANKED
    ),
    column("usefulness", pa.float64(), "product of the terms, each to the power of its weight; ranks", null=_UNRANKED),
)
"""What depends on the other candidates."""

_DECIMALS = 6
_MERIT_DECIMALS, _USEFULNESS_DECIMALS = 12, 9
"""Sums of logarithms are rounded, so that equal products tie whatever their factors; the last sum most."""


def terms(scores: pa.Table, criteria: Criteria, residuals: Residuals) -> dict[str, np.ndarray]:
    """The columns of ``TERM_COLUMNS``, rounded to six decimals.

    Args:
        scores: Score columns of ``PREDICTED``, N rows.
        criteria: For what counts as near the hull, and the window of the gap.
        residuals: How the models err.

    Returns:
        By column, float64 of shape (N,), NaN where a score is missing.
    """
    near_hull = probability_below(
        scores["decomposition_energy_ev_per_atom"].to_numpy(),
        scores["decomposition_energy_uncertainty_ev_per_atom"].to_numpy(),
        criteria.near_hull_ev_per_atom,
        residuals.decomposition_energy,
    )
    gap = probability_in_window(
        scores["probability_nonmetal"].to_numpy(),
        scores["band_gap_ev"].to_numpy(),
        scores["band_gap_uncertainty_ev"].to_numpy(),
        (criteria.min_band_gap_ev, criteria.max_band_gap_ev),
        residuals.band_gap,
    )
    novelty = scores["nearest_known_distance"].to_numpy() / 2
    found = {"probability_near_hull": near_hull, "probability_gap_in_window": gap, "novelty": novelty}
    return {name: np.round(values, _DECIMALS) for name, values in found.items()}


def probability_in_window(
    nonmetal: np.ndarray,
    gap: np.ndarray,
    half_width: np.ndarray,
    window: tuple[float | None, float | None],
    quantiles: Sequence[float],
) -> np.ndarray:
    """Probability that the true gap lies in a window.

    A metal, with the probability that the classifier gives it, has the gap 0; a non-metal has that of the regressor's
    distribution. A row that is called a metal has no such value: where it is none after all, it counts as outside.

    Args:
        nonmetal: Probability of a gap, shape (N,).
        gap: Predicted gaps in eV, 0 for rows called metals.
        half_width: Half-widths of their 90 % intervals.
        window: Lowest and highest gap in eV, None for no bound.
        quantiles: ``residual_quantiles`` of the band-gap model, which are of true non-metals called so.

    Returns:
        float64 of shape (N,), ``LEAST`` to ``1 - LEAST``; 1 where the window has no bounds; NaN without a prediction.
    """
    low, high = (window[0] or None), window[1]  # no gap is below 0, so 0 is no bound
    if low is None and high is None:
        return np.where(np.isnan(nonmetal), np.nan, 1.0)
    inside = np.ones(len(gap))
    if high is not None:
        inside = probability_below(gap, half_width, high, quantiles)
    if low is not None:
        inside = inside - probability_below(gap, half_width, low, quantiles)
    of_nonmetal = np.where(gap == 0, 0.0, np.clip(inside, 0, 1))
    of_metal = 1.0 if low is None else 0.0
    return np.clip((1 - nonmetal) * of_metal + nonmetal * of_nonmetal, LEAST, 1 - LEAST)


def log_merit(candidates: Mapping[str, np.ndarray], weights: Weights) -> np.ndarray:
    """Logarithm of the product of all terms but diversity: what ranks candidates within a chemical system.

    Args:
        candidates: The terms' columns, shape (N,) each. A likeness of NaN counts as 1: where a ranked row has none, the
            campaign has no model of it.
        weights: Exponents; a term of weight 0 is not looked at.

    Returns:
        float64 of shape (N,), at most 0; minus infinity where a term is 0.
    """
    total = np.zeros(len(candidates["novelty"]))
    with np.errstate(divide="ignore"):
        for name, of_term in TERMS.items():
            weight = getattr(weights, name)
            if weight and name != "diversity":
                values = candidates[of_term]
                total += weight * np.log(np.where(np.isnan(values), 1.0, values) if name == "likeness" else values)
    return np.round(total, _MERIT_DECIMALS)


def log_usefulness(merit: np.ndarray, place: np.ndarray, weights: Weights) -> np.ndarray:
    """Logarithm of the usefulness.

    Args:
        merit: :func:`log_merit`, shape (N,).
        place: Of each candidate within its chemical system, from 1.
        weights: Exponents.
    """
    return np.round(merit - weights.diversity * np.log(place), _USEFULNESS_DECIMALS)
