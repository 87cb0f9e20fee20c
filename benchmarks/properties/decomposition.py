"""Distance to the hull learnt directly: how well stable compounds are told from others, beside formation energies.

Rankings are held against the truth: one by the compounds' true formation energies is the best that any model of
formation energies can do, and is no measure of stability.
"""

from pathlib import Path

import numpy as np

from benchmarks.properties import data, ranking
from benchmarks.properties.grouped import Split, Variant, errors, learning_curve, measure, predict, split, train, whole
from pipeline.screening import metrics
from pipeline.screening.features import magpie
from pipeline.screening.labelled import Labelled
from pipeline.screening.models import DECOMPOSITION_ENERGY, FORMATION_ENERGY

SEED = 20180904
VALIDATION_SHARE, TEST_SHARE = 0.05, 0.1
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
RECALL_STEPS = 100
TESTED_FILE = "decomposition-test.parquet"


def run(folder: Path, work: Path, variants: list[Variant], joined: list[str], curve_of: list[Variant]) -> dict:
    """Measure on a split grouped by reduced formula.

    Args:
        folder: Of the public tables.
        work: Where the test set goes.
        variants: What is trained.
        joined: Names of the variants whose mean is the model.
        curve_of: What the learning curve is drawn of.
    """
    rows, formation = data.decomposition_energies(folder)
    sets = split(rows, VALIDATION_SHARE, TEST_SHARE, SEED)
    energies = split(Labelled(rows.ids, rows.compositions, formation), VALIDATION_SHARE, TEST_SHARE, SEED)
    said: dict[str, np.ndarray] = {}

    def stability(name: str, value: np.ndarray) -> dict:
        said[name] = value
        return metrics.of_stability(sets.test.values, value)

    found = measure(DECOMPOSITION_ENERGY, sets, variants, joined, SEED, work / TESTED_FILE, stability)
    by_formation = _formation_energies(energies, next(each for each in variants if each.name in joined))
    stability("true formation energy", energies.test.values)
    stability("predicted formation energy", by_formation)
    stable = sets.test.values <= 0
    rankings = {
        name: {
            **metrics.of_stability(sets.test.values, value),
            "precision": ranking.precision_at_recall(stable, ranking.best_first(-value), RECALL_STEPS).tolist(),
        }
        for name, value in said.items()
    }
    return {
        **found,
        "formation_energy": errors(energies.test.values, by_formation),
        "stable_share": float(stable.mean()),
        "rankings": rankings,
        "curve": learning_curve(DECOMPOSITION_ENERGY, sets, curve_of, SHARES, SEED) + whole(found, curve_of),
    }


def _formation_energies(sets: Split, variant: Variant) -> np.ndarray:
    """Formation energies of the test set as a model of the same rows predicts them."""
    estimator = train(FORMATION_ENERGY, sets.train, sets.validation, variant, SEED)
    return predict(estimator, sets.test, magpie(sets.test.compositions))
