"""One property on a split grouped by reduced formula: every learner, their mean, and how errors fall with more rows.

The steps are those of the workflow's own rule (:mod:`pipeline.screening.training`): early stopping and intervals see
the validation set alone, analogues are looked up in the training set alone, and the test set is only measured.

Suffixes: N formulas.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline import tables
from pipeline.composition import COUNTS, ELEMENTS
from pipeline.provenance import derived_seed
from pipeline.screening import metrics
from pipeline.screening.features import magpie
from pipeline.screening.labelled import TEST, TRAIN, VALIDATION, Labelled, three_way_split
from pipeline.screening.models import Estimator, Prediction
from pipeline.screening.training import Training, calibrate, train_estimator

THREADS = 1
TESTED = tables.Table(
    "tested",
    (
        ELEMENTS,
        COUNTS,
        tables.column("target", pa.float64(), "true value, in the target's unit"),
        tables.column("prediction", pa.float64(), "of the mean of the learners"),
        tables.column("half_width", pa.float64(), "of the 90 % interval"),
        tables.column("distance", pa.float64(), "from the training formulas"),
    ),
)
"""The test set as the calibration's task reads it."""


@dataclass(frozen=True)
class Variant:
    """A learner, and whether it sees analogues.

    Attributes:
        learner: Name of its module.
        analogues: Whether it sees known compounds one element away, and their values.
        settings: Of its training, where they differ from the defaults.
    """

    learner: str
    analogues: bool
    settings: Mapping[str, object]

    @property
    def name(self) -> str:
        """For tables."""
        return f"{self.learner} with analogues" if self.analogues else self.learner


@dataclass(frozen=True)
class Split:
    """Three sets of formulas."""

    train: Labelled
    validation: Labelled
    test: Labelled

    @property
    def sizes(self) -> dict[str, int]:
        """Formulas of each set."""
        return {"train": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def split(rows: Labelled, validation_share: float, test_share: float, seed: int) -> Split:
    """As the workflow splits: formulas of rare elements left out, the others by a hash of the reduced formula."""
    rows = rows.without_rare_elements()
    part = three_way_split(rows.compositions, validation_share, test_share, seed)
    return Split(*(rows.take(part == which) for which in (TRAIN, VALIDATION, TEST)))


def measure(
    target: str,
    sets: Split,
    variants: Sequence[Variant],
    joined: Sequence[str],
    seed: int,
    tested_path: Path,
    more: Callable[[str, np.ndarray], dict] = lambda name, value: {},
) -> dict:
    """Train each variant and the mean of some, and measure them on the test set.

    Args:
        target: One of ``models.TARGETS``.
        sets: What is learnt from, stopped on and measured.
        variants: What is trained; those with analogues may be joined.
        joined: Names of the variants whose mean gets intervals.
        seed: Of the weights.
        tested_path: Where the test set goes with what the mean says of it.
        more: Further measures of the test set, from the name of what predicts and the predictions.

    Returns:
        ``rows``, ``mean_predictor_mae``, a row for each variant and the mean in ``learners``, ``residual_quantiles``.
    """
    test_features, found, estimators = magpie(sets.test.compositions), [], {}
    for variant in variants:
        start = time.perf_counter()
        estimators[variant.name] = train(target, sets.train, sets.validation, variant, seed)
        seconds = time.perf_counter() - start
        value = predict(estimators[variant.name], sets.test, test_features)
        row = {"name": variant.name, **errors(sets.test.values, value), **more(variant.name, value)}
        found.append({**row, "seconds": round(seconds), "settings": dict(variant.settings)})
        print(target, found[-1], flush=True)
    together = join([estimators[name] for name in joined])
    model, quantiles = calibrate(together, target, sets.validation, seed, THREADS)
    said = model.predict(sets.test.compositions, test_features, THREADS)
    if len(joined) > 1:
        name = f"mean of {len(joined)}: {'; '.join(joined)}"
        found.append({"name": name, **errors(sets.test.values, said.value), **more(name, said.value)})
    _write_tested(tested_path, sets.test, said)
    return {
        "rows": sets.sizes,
        "mean_predictor_mae": float(np.abs(sets.test.values - sets.train.values.mean()).mean()),
        "learners": found,
        "residual_quantiles": quantiles,
        "intervals": metrics.regression(sets.test.values, said.value, said.half_width, sets.train.values.mean()),
    }


def learning_curve(
    target: str, sets: Split, variants: Sequence[Variant], shares: Sequence[float], seed: int
) -> list[dict]:
    """Test error of each variant when it learns from a share of the training set, drawn at random."""
    test_features = magpie(sets.test.compositions)
    order = np.random.default_rng(derived_seed(seed, "curve")).permutation(len(sets.train))
    curve = []
    for share in shares:
        part = sets.train.take(np.sort(order[: round(share * len(order))]))
        for variant in variants:
            value = predict(train(target, part, sets.validation, variant, seed), sets.test, test_features)
            curve.append({"name": variant.name, "rows": len(part), **errors(sets.test.values, value)})
            print(target, curve[-1], flush=True)
    return curve


def whole(found: dict, variants: Sequence[Variant]) -> list[dict]:
    """The last point of the learning curve: the variants that :func:`measure` trained on all rows."""
    names, rows = {variant.name for variant in variants}, found["rows"]["train"]
    kept = [row for row in found["learners"] if row["name"] in names]
    return [{"rows": rows, **{key: row[key] for key in ("name", "mae", "rmse", "r2")}} for row in kept]


def train(target: str, rows: Labelled, validation: Labelled, variant: Variant, seed: int) -> Estimator:
    """An estimator of one learner."""
    settings = Training(0.0, 0.0, {target: {variant.learner: dict(variant.settings)}}, variant.analogues)
    return train_estimator(target, rows, validation, settings, derived_seed(seed, target), THREADS)


def predict(estimator: Estimator, rows: Labelled, magpie_NF: np.ndarray) -> np.ndarray:
    """Predictions of N formulas; those with an element that the training set lacks get the learners' mean of others."""
    known = np.isin(rows.compositions.elements, estimator.vocabulary)
    inside = np.ones(len(rows), dtype=bool)
    inside[rows.compositions.rows[~known]] = False
    seen = estimator.inputs(rows.compositions.take(inside), magpie_NF[inside])
    value = np.empty(len(rows))
    value[inside] = estimator.predict(seen, THREADS)[0]
    value[~inside] = value[inside].mean()
    return value


def join(estimators: Sequence[Estimator]) -> Estimator:
    """One estimator of the learners of several, which share rows and analogues; their mean is its prediction."""
    assert len({each.analogues is None for each in estimators}) == 1, "some see analogues and some do not"
    regressor = {name: learner for each in estimators for name, learner in each.regressor.items()}
    classifier = {name: learner for each in estimators for name, learner in each.classifier.items()}
    return replace(estimators[0], regressor=regressor, classifier=classifier)


def errors(target: np.ndarray, value: np.ndarray) -> dict:
    """Mean absolute error, root mean square error and R2."""
    of_set = metrics.regression(target, value, np.zeros(len(value)), 0.0)
    return {name: of_set[name] for name in ("mae", "rmse", "r2")}


def _write_tested(path: Path, test: Labelled, said: Prediction) -> None:
    columns = {"prediction": said.value, "half_width": said.half_width, "distance": said.distance}
    tables.write(path, TESTED, {**test.compositions.columns(), "target": test.values, **columns})
