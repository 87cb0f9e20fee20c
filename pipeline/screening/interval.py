"""The half-width of a prediction's 90 % interval: wider for the kinds of formulas that a model errs on more.

Conformal prediction with a learnt scale (Lei et al. 2018, doi:10.1080/01621459.2017.1307116). A small booster learns
the size of the residual from the validation set; cross-validated, that size is scaled until nine in ten residuals lie
within, in each group of formulas: the scale is a sum of one factor for the number of elements and one for the anion
family, fitted by quantile regression, whose optimum covers nine in ten of every group that has a factor (Gibbs, Cherian
and Candes 2025, doi:10.1093/jrsssb/qkaf008, with the groups alone). Nine in ten holds for formulas *like the training
ones*; of formulas far from them more may lie outside, and no model of this kind can say how many.

Suffixes: N formulas, F features, G groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np

from pipeline import boosting

COVERAGE = 0.9
SMALLEST_SCALE = 0.01  # in the target's unit
SMALLEST_GROUP = 30
FOLDS = 5
INTERVAL_FILE = "interval.txt.gz"


@dataclass(frozen=True)
class Interval:
    """A learnt scale of residuals and its calibration.

    Attributes:
        booster: Expected size of the residual, in the unit of the target.
        factors: float64 of shape (G,); the size is multiplied by the sum of the factors of a formula's groups.
    """

    booster: lgb.Booster
    factors: tuple[float, ...]

    @classmethod
    def fit(
        cls,
        features_NF: np.ndarray,
        residuals: np.ndarray,
        groups_NG: np.ndarray,
        kinds: Sequence[str],
        seed: int,
        threads: int,
    ) -> tuple["Interval", np.ndarray]:
        """Learn from rows that trained nothing else.

        Args:
            features_NF: What the size may depend on, the prediction among it.
            residuals: Absolute errors, shape (N,).
            groups_NG: Which groups each row belongs to, bool; every row to at least one.
            kinds: Of each group; one of few rows takes the largest factor of its kind.
            seed: Of the booster.
            threads: Threads to use.

        Returns:
            The interval, and the half-width of each row from boosters that did not see it, shape (N,).
        """

        def learn(rows: np.ndarray) -> lgb.Booster:
            return boosting.train(
                "regression",
                (features_NF[rows], residuals[rows]),
                trees=100,
                leaves=15,
                learning_rate=0.05,
                seed=seed,
                threads=threads,
            )

        size = np.empty(len(residuals))
        fold = np.arange(len(residuals)) % FOLDS
        for held in range(FOLDS):
            size[fold == held] = _size(learn(fold != held), features_NF[fold == held], threads)
        factors = _factors(residuals / size, groups_NG, kinds)
        return cls(learn(fold >= 0), tuple(factors)), size * np.maximum(groups_NG @ factors, 0.0)

    def half_width(self, features_NF: np.ndarray, groups_NG: np.ndarray, threads: int) -> np.ndarray:
        """Half-width of the 90 % interval of each row, in the unit of the target; float64 of shape (N,)."""
        return _size(self.booster, features_NF, threads) * np.maximum(groups_NG @ np.array(self.factors), 0.0)

    def save(self, folder: Path) -> None:
        """Write the booster; the factors belong into `model.json`."""
        boosting.save(self.booster, folder / INTERVAL_FILE)

    @classmethod
    def load(cls, folder: Path, factors: list[float]) -> "Interval":
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: The file is missing or damaged.
        """
        return cls(boosting.load(folder / INTERVAL_FILE), tuple(factors))


def _size(booster: lgb.Booster, features_NF: np.ndarray, threads: int) -> np.ndarray:
    return np.maximum(boosting.predict(booster, features_NF, threads), SMALLEST_SCALE)


def _factors(scores: np.ndarray, groups_NG: np.ndarray, kinds: Sequence[str]) -> np.ndarray:
    """Factor of each group, so that nine in ten scores lie below the sum of their groups'."""
    from sklearn.linear_model import QuantileRegressor

    used = groups_NG.sum(axis=0) >= SMALLEST_GROUP
    left = ~groups_NG[:, used].any(axis=1)
    columns = np.column_stack([groups_NG[:, used], left]).astype(np.float64)
    quantile = min(COVERAGE * (1 + 1 / len(scores)), 1 - 1e-9)
    fit = QuantileRegressor(quantile=quantile, alpha=0, fit_intercept=False, solver="highs").fit(columns, scores)
    factors = np.zeros(groups_NG.shape[1])
    factors[used] = fit.coef_[:-1]
    of_left = fit.coef_[-1] if left.any() else factors.max()
    for kind in dict.fromkeys(kinds):
        siblings = np.array([each == kind for each in kinds])
        if (siblings & used).any():
            factors[siblings & ~used] = factors[siblings & used].max()
        elif left.any() == groups_NG[left][:, siblings].any():  # a kind for rows that no other kind has told apart
            factors[siblings] = of_left
            left &= ~groups_NG[:, siblings].any(axis=1)
    return factors
