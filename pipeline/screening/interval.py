"""The half-width of a prediction's 90 % interval: wider for the kinds of formulas that a model errs on more.

Split conformal prediction with a learnt scale (Lei et al. 2018, doi:10.1080/01621459.2017.1307116). On one half of the
validation set a small booster learns the size of the residual; on the other half that size is scaled until nine in ten
residuals lie within, in each group of formulas: the scale is a sum of one factor for the number of elements and one for
the anion family, fitted by quantile regression, whose optimum covers nine in ten of every group that has a factor
(Gibbs, Cherian and Candes 2025, doi:10.1093/jrsssb/qkaf008, with the groups alone). Nine in ten holds for formulas
*like the training ones*; of formulas far from them more may lie outside, and no model of this kind can say how many.

Suffixes: N formulas, F features, G groups.
"""

from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np

from pipeline import boosting

COVERAGE = 0.9
SMALLEST_SCALE = 0.01  # in the target's unit
SMALLEST_GROUP = 50
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
        cls, features_NF: np.ndarray, residuals: np.ndarray, groups_NG: np.ndarray, seed: int, threads: int
    ) -> "Interval":
        """Learn from rows that trained nothing else.

        Args:
            features_NF: What the size may depend on, the prediction among it.
            residuals: Absolute errors, shape (N,).
            groups_NG: Which groups each row belongs to, bool; every row to at least one.
            seed: Of the booster.
            threads: Threads to use.
        """
        learn, calibrate = halves(len(residuals))
        booster = boosting.train(
            "regression",
            (features_NF[learn], residuals[learn]),
            trees=100,
            leaves=15,
            learning_rate=0.05,
            seed=seed,
            threads=threads,
        )
        alone = cls(booster, (1.0,))
        size = alone.half_width(features_NF[calibrate], np.ones((len(residuals[calibrate]), 1), dtype=bool), threads)
        return cls(booster, tuple(_factors(residuals[calibrate] / size, groups_NG[calibrate])))

    def half_width(self, features_NF: np.ndarray, groups_NG: np.ndarray, threads: int) -> np.ndarray:
        """Half-width of the 90 % interval of each row, in the unit of the target; float64 of shape (N,)."""
        size = np.maximum(boosting.predict(self.booster, features_NF, threads), SMALLEST_SCALE)
        return size * np.maximum(groups_NG @ np.array(self.factors), 0.0)

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


def halves(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the validation rows that the scale is learnt from, and of those that calibrate it."""
    return np.arange(0, n, 2), np.arange(1, n, 2)


def _factors(scores: np.ndarray, groups_NG: np.ndarray) -> np.ndarray:
    """Factor of each group, so that nine in ten scores lie below the sum of their groups'; 0 of groups of few rows."""
    from sklearn.linear_model import QuantileRegressor

    factors = np.zeros(groups_NG.shape[1])
    if len(scores) == 0:
        return factors
    used = groups_NG.sum(axis=0) >= min(SMALLEST_GROUP, len(scores))
    left = ~groups_NG[:, used].any(axis=1)
    columns = np.column_stack([groups_NG[:, used], left]).astype(np.float64)
    quantile = min(COVERAGE * (1 + 1 / len(scores)), 1 - 1e-9)
    fit = QuantileRegressor(quantile=quantile, alpha=0, fit_intercept=False, solver="highs").fit(columns, scores)
    factors[used] = fit.coef_[:-1]
    return factors
