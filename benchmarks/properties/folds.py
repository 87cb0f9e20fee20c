"""Matbench's folds, and what a row's own formula is worth in the rows that may be learnt from.

Matbench's folds are not grouped: four in ten rows share their formula with another one, polymorphs mostly, and the test
rows of a fold meet their formulas in training. A model that knows formulas only can at best say what those are worth.

Suffixes: N rows, F features.
"""

from itertools import pairwise

import numpy as np

from pipeline.composition import Compositions, concatenate
from pipeline.screening.analogues import Analogues

N_FOLDS, RANDOM_STATE = 5, 18012019
"""Of Matbench v0.1 (Dunn et al. 2020, doi:10.1038/s41524-020-00406-3)."""

SAME_FORMULA = ("rows of the same formula", "mean", "lowest", "highest", "median of their targets")


def official(targets: np.ndarray, classes: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions of training and test rows of each fold, on the table's own order; stratified for classes."""
    from sklearn.model_selection import KFold, StratifiedKFold

    kind = StratifiedKFold if classes else KFold
    cut = kind(n_splits=N_FOLDS, shuffle=True, random_state=RANDOM_STATE)
    return list(cut.split(np.zeros((len(targets), 1)), targets))


def same_formula(known: Compositions, targets: np.ndarray, asked: Compositions) -> np.ndarray:
    """Number, mean, lowest, highest and median target of the known rows of each formula; NaN for values of none.

    Args:
        known: Rows that may be learnt from, formulas may repeat.
        targets: Of these.
        asked: N rows that are none of these.

    Returns:
        float64 of shape (N, 5).
    """
    place, groups = _grouped(known, asked)
    return _statistics(groups, targets, place, None)


def same_formula_of_others(known: Compositions, targets: np.ndarray) -> np.ndarray:
    """The same for the known rows themselves, each without its own target; float64 of shape (N, 5)."""
    place, groups = _grouped(known, known)
    return _statistics(groups, targets, place, np.arange(len(known)))


def mean_by_formula(known: Compositions, targets: np.ndarray) -> Analogues:
    """The known formulas, each once with the mean of its targets, as analogues are looked up in."""
    first, same = known.unique()
    totals = np.bincount(same, weights=targets, minlength=len(first))
    return Analogues(known.take(first), totals / np.bincount(same, minlength=len(first)))


def _grouped(known: Compositions, asked: Compositions) -> tuple[np.ndarray, list[np.ndarray]]:
    """Place of each asked row's formula in a list of the known rows that have it."""
    first, same = concatenate([known, asked]).unique()
    rows = np.argsort(same[: len(known)], kind="stable")
    bounds = np.searchsorted(same[: len(known)][rows], np.arange(len(first) + 1))
    return same[len(known) :], [rows[low:high] for low, high in pairwise(bounds)]


def _statistics(groups: list[np.ndarray], targets: np.ndarray, place: np.ndarray, own: np.ndarray | None) -> np.ndarray:
    features_NF = np.full((len(place), len(SAME_FORMULA)), np.nan)
    features_NF[:, 0] = 0
    for row, group in enumerate(place):
        rows = groups[group]
        if own is not None:
            rows = rows[rows != own[row]]
        if len(rows):
            values = targets[rows]
            features_NF[row] = len(rows), values.mean(), values.min(), values.max(), np.median(values)
    return features_NF


def summary(rows: list[dict]) -> dict[str, dict]:
    """Of each learner, in their order: ``folds``, and mean and standard deviation over these of each measure."""
    names = dict.fromkeys(row["name"] for row in rows)
    measures = [key for key in rows[0] if key not in ("fold", "name", "seconds")]
    found = {}
    for name in names:
        of_name = [row for row in rows if row["name"] == name]
        values = {key: np.array([row[key] for row in of_name]) for key in measures}
        found[name] = {"folds": len(of_name)}
        found[name] |= {key: (float(each.mean()), float(each.std())) for key, each in values.items()}
    return found
