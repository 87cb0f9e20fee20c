"""Gradient-boosted trees on a formula's features (Ward et al. 2016, doi:10.1038/npjcompumats.2016.28)."""

from dataclasses import dataclass, field
from pathlib import Path

import lightgbm as lgb
import numpy as np

from pipeline import boosting
from pipeline.screening.learners import Inputs, Report, Task

SUFFIX = "txt.gz"
METHOD = """Gradient-boosted trees (LightGBM) on 132 Magpie features (Ward et al. 2016,
doi:10.1038/npjcompumats.2016.28), which minimise the absolute error, or the cross entropy of a classifier; they end
when the validation set no longer improves."""


@dataclass(frozen=True)
class BoostedTraining:
    """How the trees are grown.

    Args:
        max_trees: Most trees.
        leaves: Most leaves of a tree.
        learning_rate: Shrinkage of each tree.
        patience: Trees without a lower validation loss after which training ends.
    """

    max_trees: int = 2000
    leaves: int = 127
    learning_rate: float = 0.1
    patience: int = 50


@dataclass(frozen=True)
class Boosted:
    """Trained trees.

    Attributes:
        booster: The trees.
        history: Empty: the trees say themselves how many they are.
    """

    booster: lgb.Booster
    history: list[dict] = field(default_factory=list)

    def predict(self, inputs: Inputs, threads: int) -> np.ndarray:
        """The target of each formula, or the probability of True; float64 of shape (N,)."""
        return boosting.predict(self.booster, inputs.features_NF, threads)

    def save(self, path: Path) -> None:
        """Write LightGBM's own text, gzipped."""
        boosting.save(self.booster, path)

    @classmethod
    def load(cls, path: Path, vocabulary: list[int]) -> "Boosted":
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: The file is missing or damaged.
        """
        return cls(boosting.load(path))


def fit(
    train: Inputs,
    targets_N: np.ndarray,
    validation: Inputs,
    validation_targets_N: np.ndarray,
    *,
    task: Task,
    vocabulary: list[int],
    settings: BoostedTraining,
    seed: int,
    threads: int,
    report: Report,
) -> Boosted:
    """Train on one set, stop on another; see :mod:`pipeline.screening.learners`. Threads do not change the result."""
    booster = boosting.train(
        {"regression": "regression_l1", "classification": "binary"}[task],
        (train.features_NF, targets_N),
        (validation.features_NF, validation_targets_N),
        trees=settings.max_trees,
        leaves=settings.leaves,
        learning_rate=settings.learning_rate,
        patience=settings.patience,
        seed=seed,
        threads=threads,
    )
    report({"trees": booster.num_trees()})
    return Boosted(booster)
