"""Errors and coverage of a property model on its test set."""

import numpy as np

from pipeline.composition import Compositions
from pipeline.screening import groups


def regression(target: np.ndarray, prediction: np.ndarray, uncertainty: np.ndarray, train_mean: float) -> dict:
    """Errors on a test set beside those of a model that always says the training mean; coverage of the intervals."""
    error = np.abs(prediction - target)
    return {
        "rows": len(target),
        "mae": float(error.mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": float(1 - (error**2).sum() / max(((target - target.mean()) ** 2).sum(), 1e-300)),
        "mean_predictor_mae": float(np.abs(target - train_mean).mean()),
        "interval_coverage": float((error <= uncertainty).mean()),
        "mean_interval_half_width": float(uncertainty.mean()),
    }


def by_group(compositions: Compositions, error: np.ndarray, uncertainty: np.ndarray) -> list[dict]:
    """Mean absolute error and coverage of each kind of formulas in the test set: a mean hides its poorest group."""
    return [
        {"group": name, **_errors(error[within], uncertainty[within])}
        for name, within in zip(groups.NAMES, groups.membership(compositions).T, strict=True)
        if within.any()
    ]


def by_distance(distance: np.ndarray, error: np.ndarray, uncertainty: np.ndarray, n_bins: int = 10) -> list[dict]:
    """The same for parts of the test set of equal size, from near the training formulas to far from them."""
    parts = np.array_split(np.argsort(distance, kind="stable"), min(n_bins, len(distance)))
    return [
        {
            "from": float(distance[rows].min()),
            "to": float(distance[rows].max()),
            **_errors(error[rows], uncertainty[rows]),
        }
        for rows in parts
    ]


def _errors(error: np.ndarray, uncertainty: np.ndarray) -> dict:
    return {"rows": len(error), "mae": float(error.mean()), "coverage": float((error <= uncertainty).mean())}


def of_stability(decomposition_energy: np.ndarray, prediction: np.ndarray) -> dict:
    """How well stable compounds (decomposition energy up to 0) are told from the others by a predicted number.

    Args:
        decomposition_energy: True, eV/atom, shape (N,).
        prediction: Any number that is lower the surer a compound is stable.

    Returns:
        Share of stable ones, area under the ROC curve, and that under the curve of precision over recall.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score

    stable = decomposition_energy <= 0
    if stable.all() or not stable.any():
        return {}
    return {
        "stable_share": float(stable.mean()),
        "stable_roc_auc": float(roc_auc_score(stable, -prediction)),
        "stable_average_precision": float(average_precision_score(stable, -prediction)),
    }


def of_nonmetals(nonmetal: np.ndarray, probability: np.ndarray) -> dict:
    """How well non-metals are told from metals: area under the ROC curve of the probability, and of the verdict."""
    from sklearn.metrics import roc_auc_score

    if nonmetal.all() or not nonmetal.any():
        return {}
    return {
        "classifier_roc_auc": float(roc_auc_score(nonmetal, probability)),
        "classifier_roc_auc_of_labels": float(roc_auc_score(nonmetal, probability >= 0.5)),
    }
