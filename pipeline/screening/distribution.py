"""The probability that a true value lies below a cutoff, from a prediction, its interval, and how predictions err.

A model is calibrated on rows that trained nothing: ``residual_quantiles`` of its `model.json` are the quantiles 0,
1/200, ..., 1 of (true - predicted) / half-width of the 90 % interval. Scaled by the half-width of a new prediction they
are the distribution of its true value (conformal predictive distributions: Vovk et al. 2019,
doi:10.1007/s10994-018-5755-8).
"""

import math
import os
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from pipeline import tables

N_QUANTILES = 201
LEAST = 1 / (2 * N_QUANTILES)
"""No probability is below this, nor above 1 less this: the quantiles cannot tell rarer events from impossible ones."""


class Residuals(NamedTuple):
    """``residual_quantiles`` of the two models whose distributions ranking needs."""

    decomposition_energy: Sequence[float]
    band_gap: Sequence[float]


def probability_below(
    value: np.ndarray, half_width: np.ndarray, cutoff: float, quantiles: Sequence[float]
) -> np.ndarray:
    """Probability that the true value is at most ``cutoff``.

    Args:
        value: Predictions, shape (N,), NaN where there is none.
        half_width: Half-widths of their 90 % intervals, same unit; 0 makes the prediction certain.
        cutoff: Same unit.
        quantiles: ``residual_quantiles`` of the model, ascending; linear between them.

    Returns:
        float64 of shape (N,), ``LEAST`` to ``1 - LEAST``; NaN where there is no prediction.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        normalised = (cutoff - np.asarray(value, dtype=float)) / half_width
    normalised = np.where((half_width == 0) & (value == cutoff), np.inf, normalised)
    share = np.interp(normalised, quantiles, np.linspace(0, 1, len(quantiles)))
    return np.clip(share, LEAST, 1 - LEAST)


def read_quantiles(path: str | os.PathLike) -> list[float]:
    """``residual_quantiles`` of a model.

    Args:
        path: Its `model.json`.

    Raises:
        ValueError: They are missing or are not 201 ascending numbers.
    """
    description = tables.read_json(path)
    found = description.get("residual_quantiles") if isinstance(description, dict) else None
    if (
        not isinstance(found, list)
        or len(found) != N_QUANTILES
        or not all(isinstance(each, int | float) and math.isfinite(each) for each in found)
        or any(after < before for before, after in pairwise(found))
    ):
        raise ValueError(
            f"{path}: 'residual_quantiles' is no list of {N_QUANTILES} ascending numbers; restore the folder or train "
            "the model anew"
        )
    return found
