"""The half-width of a prediction's 90 % interval: wider for the kinds of formulas that a model errs on more.

Split conformal prediction with a learnt scale (Lei et al. 2018, doi:10.1080/01621459.2017.1307116). On one half of the
validation set a small booster learns the size of the residual; on the other half that size is scaled until nine in ten
residuals lie within. Nine in ten holds for formulas *like the training ones*; of formulas far from them more may lie
outside, and no model of this kind can say how many.

Suffixes: N formulas, F features.
"""

from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np

from pipeline import boosting

COVERAGE = 0.9
SMALLEST_SCALE_EV = 0.01
INTERVAL_FILE = "interval.txt.gz"


@dataclass(frozen=True)
class Interval:
    """A learnt scale of residuals and its calibration.

    Attributes:
        booster: Expected size of the residual, in the unit of the target.
        factors: What the size is multiplied by; two of them where two kinds of rows are told apart (false, true).
    """

    booster: lgb.Booster
    factors: tuple[float, ...]

    @classmethod
    def fit(
        cls, features_NF: np.ndarray, residuals: np.ndarray, groups: np.ndarray | None, seed: int, threads: int
    ) -> "Interval":
        """Learn from rows that trained nothing else.

        Args:
            features_NF: What the size may depend on, the prediction among it.
            residuals: Absolute errors, shape (N,).
            groups: Boolean array of shape (N,): the two kinds of rows are calibrated apart; None makes no difference.
            seed: Of the booster.
            threads: Threads to use.
        """
        learn, scale = slice(0, None, 2), slice(1, None, 2)
        booster = boosting.train(
            "regression",
            (features_NF[learn], residuals[learn]),
            trees=100,
            leaves=15,
            learning_rate=0.05,
            seed=seed,
            threads=threads,
        )
        scores = residuals[scale] / cls(booster, (1.0,)).half_width(features_NF[scale], None, threads)
        if groups is None:
            return cls(booster, (_quantile(scores),))
        kinds = (scores[~groups[scale]], scores[groups[scale]])
        return cls(booster, tuple(_quantile(kind if len(kind) else scores) for kind in kinds))

    def half_width(self, features_NF: np.ndarray, groups: np.ndarray | None, threads: int) -> np.ndarray:
        """Half-width of the 90 % interval of each row, in the unit of the target; float64 of shape (N,)."""
        size = np.maximum(boosting.predict(self.booster, features_NF, threads), SMALLEST_SCALE_EV)
        return size * (self.factors[0] if groups is None else np.where(groups, self.factors[1], self.factors[0]))

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


def _quantile(scores: np.ndarray) -> float:
    """The conformal quantile: the smallest bound that at least 90 % of new scores keep; of few scores the largest."""
    rank = min(int(np.ceil((len(scores) + 1) * COVERAGE)), len(scores))
    return float(np.sort(scores)[rank - 1])
