"""Whether the models know how sure they are: coverage of their 90 % intervals, and of the probability to be stable.

Reads the test sets that ``oqmd`` and ``decomposition`` left, with predictions and half-widths; trains nothing.

Suffixes: N formulas.
"""

from pathlib import Path

import numpy as np

from benchmarks.properties import decomposition, oqmd
from benchmarks.properties.grouped import TESTED
from pipeline import tables
from pipeline.composition import Compositions
from pipeline.screening import groups, metrics
from pipeline.screening.distribution import probability_below

TESTED_FILES = {"oqmd": oqmd.TESTED_FILE, "decomposition": decomposition.TESTED_FILE}
CUTOFFS_EV_PER_ATOM = (0.0, 0.05)
PARITY_ROWS = 4000
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def run(work: Path, quantiles: dict[str, list[float]]) -> dict:
    """Measure the models whose test sets lie in ``work``.

    Args:
        work: Where the tasks before left them.
        quantiles: Of each task, ``residual_quantiles`` of its model.

    Raises:
        ValueError: None is there.
    """
    there = {name: work / file for name, file in TESTED_FILES.items() if (work / file).is_file() and name in quantiles}
    if not there:
        raise ValueError(f"{work}: no test set of {' or '.join(TESTED_FILES)} here; run one of these tasks first")
    return {name: _of_model(path, quantiles[name], name == "decomposition") for name, path in there.items()}


def _of_model(path: Path, quantiles: list[float], of_stability: bool) -> dict:
    tested = tables.read(path, TESTED)
    compositions = Compositions.from_table(tested)
    target, prediction, half_width, distance = (
        tested[name].to_numpy() for name in ("target", "prediction", "half_width", "distance")
    )
    error = np.abs(prediction - target)
    shown = np.unique(np.linspace(0, len(target) - 1, min(len(target), PARITY_ROWS)).astype(int))
    found = {
        "rows": len(target),
        "mae": float(error.mean()),
        "coverage": float((error <= half_width).mean()),
        "mean_half_width": float(half_width.mean()),
        "by_group": [
            {**row, "kind": "elements" if row["group"] in groups.SIZES else "anions"}
            for row in metrics.by_group(compositions, error, half_width)
        ],
        "by_distance": metrics.by_distance(distance, error, half_width),
        "by_half_width": metrics.by_distance(half_width, error, half_width),
        "intervals": [_interval(level, target, prediction, half_width, quantiles) for level in LEVELS],
        "parity": {"target": target[shown].round(4).tolist(), "prediction": prediction[shown].round(4).tolist()},
    }
    if of_stability:
        found["reliability"] = {
            str(cutoff): reliability(probability_below(prediction, half_width, cutoff, quantiles), target <= cutoff)
            for cutoff in CUTOFFS_EV_PER_ATOM
        }
    return found


def _interval(
    level: float, target: np.ndarray, prediction: np.ndarray, half_width: np.ndarray, quantiles: list[float]
) -> dict:
    """Share of true values within the central interval of a probability, by the quantiles of residuals."""
    places = np.linspace(0, 1, len(quantiles))
    low, high = np.interp([(1 - level) / 2, (1 + level) / 2], places, quantiles)
    residual = target - prediction
    inside = (low * half_width <= residual) & (residual <= high * half_width)
    return {"level": level, "coverage": float(inside.mean())}


def reliability(probability: np.ndarray, happened: np.ndarray, n_bins: int = 10) -> dict:
    """Probabilities against what happened, in bins of equal width; the Brier score, and that of the mean share.

    Args:
        probability: Of N formulas.
        happened: bool of shape (N,).
        n_bins: Of [0, 1].
    """
    place = np.minimum((probability * n_bins).astype(int), n_bins - 1)
    bins = [
        {
            "from": number / n_bins,
            "to": (number + 1) / n_bins,
            "rows": int((place == number).sum()),
            "said": float(probability[place == number].mean()),
            "happened": float(happened[place == number].mean()),
        }
        for number in range(n_bins)
        if (place == number).any()
    ]
    return {
        "bins": bins,
        "expected_calibration_error": float(
            sum(row["rows"] * abs(row["said"] - row["happened"]) for row in bins) / len(probability)
        ),
        "brier": float(((probability - happened) ** 2).mean()),
        "brier_of_mean_share": float(happened.mean() * (1 - happened.mean())),
    }
