"""Matbench's composition tasks on its official folds (Dunn et al. 2020, doi:10.1038/s41524-020-00406-3).

What a fold's test rows are given comes from its training rows alone, and for the experimental gaps from Matbench's
computed ones too; no target of a test row enters. Of the training rows a tenth, drawn anew for each repeat, stops
training.

Suffixes: N rows, F features.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.properties import data, folds
from benchmarks.properties.data import Rows
from benchmarks.properties.grouped import THREADS, errors
from pipeline.composition import Compositions
from pipeline.provenance import derived_seed
from pipeline.screening import metrics, models
from pipeline.screening.features import magpie
from pipeline.screening.learners import Inputs

SEED = 18012019
VALIDATION_SHARE = 0.1
ANALOGUES, SAME_FORMULA, COMPUTED_GAPS, METALS_FIRST = "analogues", "same formula", "computed gaps", "metals first"
EXPERIMENTS = ("expt_gap", "expt_is_metal")
CLASSES = ("expt_is_metal",)
TASKS = ("mp_e_form", "mp_gap", "expt_gap", "expt_is_metal")


@dataclass(frozen=True)
class Variant:
    """A learner, what it sees, and how often it is trained.

    Attributes:
        learner: Name of its module.
        sees: Beside Magpie features.
        repeats: Trainings, each with its own validation rows; their mean is the prediction.
        settings: Of its training, where they differ from the defaults.
    """

    learner: str
    sees: tuple[str, ...] = ()
    repeats: int = 1
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """For tables and files."""
        return ", ".join([self.learner, *self.sees])


@dataclass(frozen=True)
class Fold:
    """One fold of a table, with the features of all its rows.

    Attributes:
        rows: All rows.
        features_NF: By name of what is seen.
        train, test: Positions.
    """

    rows: Rows
    features_NF: Mapping[str, np.ndarray]
    train: np.ndarray
    test: np.ndarray

    def inputs(self, sees: Sequence[str]) -> Inputs:
        """All rows as learners see them."""
        columns = [self.features_NF["magpie"], *(self.features_NF[name] for name in sees if name != METALS_FIRST)]
        return Inputs(self.rows.compositions, np.column_stack(columns))


def measure(
    folder: Path,
    name: str,
    variants: Sequence[Variant],
    joined: Sequence[str],
    n_folds: int,
    n_network_folds: int,
    work: Path,
) -> dict:
    """Measure variants, and the mean of those ``joined``, on the first folds of a table.

    Args:
        folder: Of the public tables.
        name: Of the table.
        variants: What is trained.
        joined: Names of those whose mean is measured too.
        n_folds, n_network_folds: At most five, and how many of these networks are trained on.
        work: Where predictions are kept; one that is there is not made again.

    Returns:
        Rows of ``fold``, ``name`` and errors in ``learners``; the training's share of formulas met again in ``met``.
    """
    rows, is_class = data.matbench(folder, name), name in CLASSES
    magpie_NF = magpie(rows.compositions)
    computed_NF = _computed_gaps(folder, rows.compositions, magpie_NF) if name in EXPERIMENTS else None
    found, met = [], []
    for number, (train, test) in enumerate(folds.official(rows.targets, is_class)[:n_folds]):
        fold = Fold(rows, row_features(rows, magpie_NF, computed_NF, train, test), train, test)
        met.append(float(rows.compositions.take(test).contained_in(rows.compositions.take(train)).mean()))
        said, seconds = {}, {}
        for variant in variants:
            if variant.learner != "boosted" and number >= n_network_folds:
                continue
            path = work / f"{name}-fold{number}-{variant.name.replace(', ', '-').replace(' ', '_')}.npz"
            if not path.is_file():
                _write(path, fold, variant, is_class, derived_seed(SEED, name, number, variant.name))
            kept = np.load(path)
            said[variant.name], seconds[variant.name] = kept["prediction"], float(kept["seconds"])
        middle = {"mean": rows.targets[train].mean(), "median": np.median(rows.targets[train])}
        constants = {
            each: np.full(len(test), value) for each, value in middle.items() if not (is_class and each == "median")
        }
        said = constants | said
        if len(joined) > 1 and set(joined) <= set(said):
            said["joined"] = np.mean([said[each] for each in joined], axis=0)
        for each, prediction in said.items():
            row = {"fold": number, "name": each, **_errors(rows.targets[test], prediction, is_class)}
            found.append(row | ({"seconds": round(seconds[each])} if each in seconds else {}))
            print(name, found[-1], flush=True)
    return {
        "rows": len(rows.targets),
        "formulas": len(rows.compositions.unique()[0]),
        "test_rows_whose_formula_is_in_training": float(np.mean(met)),
        "folds": n_folds,
        "joined": list(joined),
        "variants": [
            {"name": each.name, "repeats": each.repeats, "settings": dict(each.settings)} for each in variants
        ],
        "learners": found,
    }


def _errors(targets: np.ndarray, prediction: np.ndarray, is_class: bool) -> dict:
    if not is_class:
        return errors(targets, prediction)
    found = metrics.of_nonmetals(targets > 0, prediction)
    return {"roc_auc": found["classifier_roc_auc"], "roc_auc_of_labels": found["classifier_roc_auc_of_labels"]}


def row_features(
    rows: Rows, magpie_NF: np.ndarray, computed_NF: np.ndarray | None, train: np.ndarray, test: np.ndarray
) -> dict[str, np.ndarray]:
    """Features of all rows, of what the training rows of a fold say."""
    known, targets = rows.compositions.take(train), rows.targets[train]
    own_NF = np.empty((len(rows.targets), len(folds.SAME_FORMULA)))
    own_NF[train] = folds.same_formula_of_others(known, targets)
    own_NF[test] = folds.same_formula(known, targets, rows.compositions.take(test))
    analogues = folds.mean_by_formula(known, targets)
    found = {"magpie": magpie_NF, ANALOGUES: analogues.features(rows.compositions), SAME_FORMULA: own_NF}
    return found if computed_NF is None else found | {COMPUTED_GAPS: computed_NF}


def _computed_gaps(folder: Path, asked: Compositions, magpie_NF: np.ndarray) -> np.ndarray:
    """What the table of computed gaps says of each formula: its own rows, its analogues', and a model's prediction."""
    known = data.matbench(folder, "mp_gap")
    analogues = folds.mean_by_formula(known.compositions, known.targets)
    parts = [np.column_stack([magpie(known.compositions), analogues.features(known.compositions)])]
    parts.append(np.column_stack([magpie_NF, analogues.features(asked)]))
    of_known, of_asked = (Inputs(each, part) for each, part in zip((known.compositions, asked), parts, strict=True))
    order = np.random.default_rng(SEED).permutation(len(known.targets))
    held, learnt = np.split(order, [round(VALIDATION_SHARE * len(order))])
    booster = _fit("boosted", {}, of_known, known.targets, learnt, held, "regression", SEED)
    own_NF = folds.same_formula(known.compositions, known.targets, asked)
    return np.column_stack([own_NF, analogues.features(asked), booster.predict(of_asked, THREADS)])


def _write(path: Path, fold: Fold, variant: Variant, is_class: bool, seed: int) -> None:
    start = time.perf_counter()
    prediction = np.mean([_predict(fold, variant, is_class, derived_seed(seed, k)) for k in range(variant.repeats)], 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, prediction=prediction, seconds=time.perf_counter() - start)


def _predict(fold: Fold, variant: Variant, is_class: bool, seed: int) -> np.ndarray:
    """Train once and predict the test rows."""
    inputs, targets = fold.inputs(variant.sees), fold.rows.targets
    order = np.random.default_rng(seed).permutation(fold.train)
    held, learnt = np.split(order, [round(VALIDATION_SHARE * len(order))])
    held, learnt = np.sort(held), np.sort(learnt)
    test = inputs.take(fold.test)
    if is_class:
        return _fit(
            variant.learner, variant.settings, inputs, targets > 0, learnt, held, "classification", seed
        ).predict(test, THREADS)
    if METALS_FIRST not in variant.sees:
        return _fit(variant.learner, variant.settings, inputs, targets, learnt, held, "regression", seed).predict(
            test, THREADS
        )
    classifier = _fit(variant.learner, variant.settings, inputs, targets > 0, learnt, held, "classification", seed)
    gaps = [rows[targets[rows] > 0] for rows in (learnt, held)]
    regressor = _fit(variant.learner, variant.settings, inputs, targets, *gaps, "regression", seed)
    nonmetal = classifier.predict(test, THREADS) >= models.NONMETAL_THRESHOLD
    return np.where(nonmetal, np.maximum(regressor.predict(test, THREADS), 0), 0)


def _fit(
    learner: str,
    settings: Mapping,
    inputs: Inputs,
    targets: np.ndarray,
    learnt: np.ndarray,
    held: np.ndarray,
    task: str,
    seed: int,
):
    module = models.learner(learner)
    kind = next(getattr(module, each) for each in vars(module) if each.endswith("Training"))
    return module.fit(
        inputs.take(learnt),
        targets[learnt],
        inputs.take(held),
        targets[held],
        task=task,
        vocabulary=np.unique(inputs.compositions.elements).tolist(),
        settings=kind(**settings),
        seed=seed,
        threads=THREADS,
        report=lambda row: print(learner, row, flush=True),
    )
