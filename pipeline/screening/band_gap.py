"""Band gap from Magpie features: is it a metal, and if not, how wide is the gap.

A regressor trained on gaps above zero alone never sees a metal, so a classifier stands before it.

Suffixes: N formulas, F features.
"""

from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np

from pipeline import boosting
from pipeline.screening.interval import COVERAGE

METHOD = """132 Magpie features (Ward et al. 2016, doi:10.1038/npjcompumats.2016.28) into LightGBM: a classifier of gaps
above 0, then a regressor trained on those alone. The predicted gap is the regressor's where the classifier says
non-metal, else 0; `mae`, `rmse` and `r2` are of that gap on all test formulas, the `nonmetal_` measures of the
regressor on true non-metals."""


@dataclass(frozen=True)
class BandGapTraining:
    """How the two boosters are trained.

    Args:
        max_trees: Most trees of each.
        leaves: Most leaves of a tree.
        learning_rate: Shrinkage of each tree.
        patience: Trees without a lower validation loss after which training ends.
        nonmetal_threshold: Probability from which a formula is called a non-metal; below it the gap is 0.
    """

    max_trees: int
    leaves: int = 127
    learning_rate: float = 0.1
    patience: int = 50
    nonmetal_threshold: float = 0.5


@dataclass(frozen=True)
class BandGapModel:
    """A classifier before a regressor.

    Attributes:
        classifier: Probability of a gap above zero.
        regressor: Gap in eV, for those that have one.
        nonmetal_threshold: Probability from which the regressor is asked.
    """

    classifier: lgb.Booster
    regressor: lgb.Booster
    nonmetal_threshold: float

    def predict(self, features_NF: np.ndarray, threads: int) -> tuple[np.ndarray, np.ndarray]:
        """Probability that each formula is no metal, and its gap in eV, 0 if it is called a metal; shape (N,) each."""
        probability = boosting.predict(self.classifier, features_NF, threads)
        nonmetal = probability >= self.nonmetal_threshold
        gap = np.zeros(len(features_NF))
        gap[nonmetal] = np.maximum(boosting.predict(self.regressor, features_NF[nonmetal], threads), 0)
        return probability, gap

    def save(self, folder: Path) -> None:
        """Write both boosters; the threshold belongs into `model.json`."""
        boosting.save(self.classifier, folder / "classifier.txt.gz")
        boosting.save(self.regressor, folder / "regressor.txt.gz")

    @classmethod
    def load(cls, folder: Path, nonmetal_threshold: float) -> "BandGapModel":
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: A file is missing or damaged.
        """
        boosters = (boosting.load(folder / f"{name}.txt.gz") for name in ("classifier", "regressor"))
        return cls(*boosters, nonmetal_threshold)


def may_be_nonmetal(probability: np.ndarray) -> np.ndarray:
    """Whether a gap above 0 is likely enough to reach into the 90 % interval; the two kinds are calibrated apart.

    Most formulas below the bound are metals predicted without any error; calibrated together, they would make the
    intervals of all others too narrow.
    """
    return probability >= 1 - COVERAGE


def fit(
    train: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray],
    settings: BandGapTraining,
    seed: int,
    threads: int,
) -> BandGapModel:
    """Train on one set, stop on another.

    Args:
        train: Features of shape (N, F) and gaps in eV of shape (N,), 0 for metals; both kinds are there.
        validation: The same; ends the boosting, trains nothing.
        settings: How to train.
        seed: Of the sampling of rows and features.
        threads: Threads to use; they do not change the result.
    """
    options = {
        "trees": settings.max_trees,
        "leaves": settings.leaves,
        "learning_rate": settings.learning_rate,
        "patience": settings.patience,
        "seed": seed,
        "threads": threads,
    }
    is_nonmetal = [(features_NF, gaps > 0) for features_NF, gaps in (train, validation)]
    nonmetals = [(features_NF[gaps > 0], gaps[gaps > 0]) for features_NF, gaps in (train, validation)]
    classifier = boosting.train("binary", *is_nonmetal, **options)
    regressor = boosting.train("regression", *nonmetals, **options)
    return BandGapModel(classifier, regressor, settings.nonmetal_threshold)
