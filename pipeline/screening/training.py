"""Train a property model on labelled compositions: the shipped ones, or a user's own from a table or the database."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from pipeline import hull, tables
from pipeline.composition import SYMBOLS, Compositions, concatenate
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT
from pipeline.provenance import derived_seed
from pipeline.screening import metrics, models
from pipeline.screening.analogues import KNOWN_FILE, Analogues
from pipeline.screening.card import card
from pipeline.screening.features import magpie
from pipeline.screening.interval import Interval
from pipeline.screening.labelled import TEST, TRAIN, VALIDATION, Labelled, read_table, three_way_split
from pipeline.screening.models import DECOMPOSITION_ENERGY, FORMATION_ENERGY, GAPS, Estimator, PropertyModel
from pipeline.screening.reach import Reach

MIN_ROWS = 200
MIN_VALIDATION = 20
SIGMA = 5


@dataclass(frozen=True)
class Training:
    """Settings of property models.

    Args:
        validation_share, test_share: Of the formulas; the first stops training and calibrates intervals, the second
            is only measured.
        learners: Of each target: the learners whose mean is its prediction, with the settings of each.
        analogues: Whether learners also see known compounds one element away, and their values.
    """

    validation_share: float
    test_share: float
    learners: Mapping[str, Mapping[str, dict]]
    analogues: bool


def train_model(
    *,
    target: str,
    entries_path: str | os.PathLike,
    split_path: str | os.PathLike,
    folder: str | os.PathLike,
    settings: Training,
    table: dict | None,
    seed: int,
    threads: int = 1,
    provenance: dict | None = None,
) -> None:
    """Train one model on a table of the user's or on the labels of the database; held-out formulas take no part.

    Args:
        target: One of ``models.TARGETS``.
        entries_path, split_path: Tables of the stages before.
        folder: Where the model goes.
        settings: See :class:`Training`.
        table: ``path``, and the columns ``formula`` and ``value`` where they have other names; None takes the entries.
        seed: Of the split, the weights and the order of rows.
        threads: Threads of torch and LightGBM.
        provenance: Kept in the model's table and description.

    Raises:
        ValueError: There are too few labels of this kind.
    """
    held_out = _held_out(entries_path, split_path)
    if table is not None:
        rows, source = read_table(**table, energies=target not in GAPS), f"{table['path']}"
    else:
        rows, source = _from_entries(target, entries_path, held_out), f"{entries_path}"
    rows = rows.take(~rows.compositions.contained_in(held_out))
    if len(rows) < MIN_ROWS:
        raise ValueError(
            f"{source}: {len(rows)} formulas with '{target}', at least {MIN_ROWS} are needed to train a model; "
            "use the shipped model for it, or name a table in screening.training.tables"
        )
    about = (
        f"`{source}`: formulas with a value of `{target}`, of each the lowest in energy (of a table of gaps the "
        "median); held-out formulas left out."
    )
    fit(
        target,
        rows,
        Path(folder),
        settings,
        seed,
        threads,
        source={"name": "campaign", "card": about},
        provenance=provenance,
    )


def _held_out(entries_path: str | os.PathLike, split_path: str | os.PathLike) -> Compositions:
    entries = tables.read(entries_path, ENTRIES, ["id", "elements", "counts"])
    split = tables.read(split_path, SPLIT, ["id", "held_out"])
    ids = split.filter(split["held_out"])["id"].combine_chunks()
    return Compositions.from_table(entries.filter(pc.is_in(entries["id"], value_set=ids))).reduced()


def _from_entries(target: str, entries_path: str | os.PathLike, held_out: Compositions) -> Labelled:
    """The entries with a label; decomposition energies are measured from those not held out."""
    if target == models.EXPERIMENTAL_BAND_GAP:
        raise ValueError(f"{target}: a database has no experimental gaps; name a table in screening.training.tables")
    column = FORMATION_ENERGY if target == DECOMPOSITION_ENERGY else target
    names = list(dict.fromkeys(["id", "elements", "counts", FORMATION_ENERGY, column]))
    entries = tables.read(entries_path, ENTRIES, names)
    entries = entries.filter(pc.is_valid(entries[column]))
    rows = Labelled(
        entries["id"].to_numpy(zero_copy_only=False),
        Compositions.from_table(entries).reduced(),
        entries[column].to_numpy(),
    ).lowest(entries[FORMATION_ENERGY].to_numpy())
    rows = rows.take(~rows.compositions.contained_in(held_out))
    if target != DECOMPOSITION_ENERGY or len(rows) == 0:
        return rows
    rows = rows.within(SIGMA)
    return Labelled(rows.ids, rows.compositions, hull.decomposition_energies(rows.compositions, rows.values))


def fit(
    target: str,
    rows: Labelled,
    folder: Path,
    settings: Training,
    seed: int,
    threads: int,
    *,
    source: dict,
    provenance: dict | None = None,
) -> dict:
    """Split, train, measure and write one model; returns its description.

    Args:
        target: Property to learn.
        rows: Distinct formulas with their labels.
        folder: Where the model goes.
        settings, seed, threads: As in :func:`train_model`.
        source: ``name`` and ``card`` (a paragraph on the data) for the model card.
        provenance: Kept beside the model.
    """
    rows = rows.without_rare_elements()
    part = three_way_split(rows.compositions, settings.validation_share, settings.test_share, seed)
    train, validation, test = (rows.take(part == which) for which in (TRAIN, VALIDATION, TEST))
    sizes = {"train": len(train), "validation": len(validation), "test": len(test)}
    if sizes["validation"] < MIN_VALIDATION or min(sizes.values()) == 0:
        raise ValueError(
            f"{target}: sets of {sizes} formulas; validation needs {MIN_VALIDATION}, the others 1: change the "
            "shares in screening.training"
        )
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / name for name in [models.DESCRIPTION_FILE, *models.digests(folder)]):
        path.unlink(missing_ok=True)  # the description is written last: a folder without it is no model
    fitted = train_estimator(target, train, validation, settings, derived_seed(seed, target), threads)
    model, quantiles = calibrate(fitted, target, validation, derived_seed(seed, target), threads)
    _write(folder, model)
    prediction = model.predict(test.compositions, magpie(test.compositions), threads)
    error = np.abs(prediction.value - test.values)
    description = {
        "target": target,
        "source": source["name"],
        "elements": [SYMBOLS[z - 1] for z in fitted.vocabulary],
        "learners": {"regressor": list(fitted.regressor), "classifier": list(fitted.classifier)},
        "analogues": settings.analogues,
        "rows": sizes,
        "split": {
            "by": "hash of the reduced formula",
            "validation_share": settings.validation_share,
            "test_share": settings.test_share,
        },
        "seed": seed,
        "training": {
            name: asdict(models.settings_class(name)(**given)) for name, given in settings.learners[target].items()
        },
        "interval_factors": dict(zip(models.group_kinds(target), model.interval.factors, strict=True)),
        "residual_quantiles": quantiles,
        "metrics": _metrics(target, fitted, train, test, prediction, threads),
        "by_group": metrics.by_group(test.compositions, error, prediction.half_width),
        "by_distance": metrics.by_distance(prediction.distance, error, prediction.half_width),
        "history": {
            part: {name: learner.history for name, learner in learners.items()}
            for part, learners in (("regressor", fitted.regressor), ("classifier", fitted.classifier))
        },
        "versions": models.versions(),
        "provenance": provenance or {},
    }
    _write_parity(folder, target, test, prediction, provenance)
    with tables.atomic(folder / models.CARD_FILE) as path:
        path.write_text(card(description, source["card"]))
    description["sha256"] = models.digests(folder)
    tables.write_json(folder / models.DESCRIPTION_FILE, description)
    return description


def train_estimator(
    target: str, train: Labelled, validation: Labelled, settings: Training, seed: int, threads: int
) -> Estimator:
    """Train the learners of a target; the validation set ends training, nothing else is learnt from it.

    Raises:
        ValueError: A set of gaps has no metals or no non-metals.
    """
    vocabulary = np.unique(concatenate([train.compositions, validation.compositions]).elements).tolist()
    analogues = Analogues(train.compositions, train.values) if settings.analogues else None
    features = [magpie(rows.compositions) for rows in (train, validation)]
    seen = [
        models.inputs(rows.compositions, features_NF, analogues)
        for rows, features_NF in zip((train, validation), features, strict=True)
    ]

    def learn(part: str, task: str, labels: list[np.ndarray], rows: list[np.ndarray]) -> dict:
        learnt = {}
        for name, given in settings.learners[target].items():
            module = models.learner(name)
            learnt[name] = module.fit(
                seen[0].take(rows[0]),
                labels[0][rows[0]],
                seen[1].take(rows[1]),
                labels[1][rows[1]],
                task=task,
                vocabulary=vocabulary,
                settings=models.settings_class(name)(**given),
                seed=derived_seed(seed, part, name),
                threads=threads,
                report=lambda row, name=name: print(part, name, row, flush=True),
            )
        return learnt

    values = [train.values, validation.values]
    reach = Reach.fit(features[0], seed)
    if target not in GAPS:
        everything = [np.arange(len(each)) for each in values]
        return Estimator(vocabulary, learn("regressor", "regression", values, everything), {}, reach, analogues)
    nonmetal = [each > 0 for each in values]
    for name, each in zip(("training", "validation"), nonmetal, strict=True):
        if each.all() or not each.any():
            raise ValueError(f"{target}: the {name} set has no metals or no non-metals; use the shipped model")
    classifier = learn("classifier", "classification", nonmetal, [np.arange(len(each)) for each in values])
    regressor = learn("regressor", "regression", values, [np.flatnonzero(each) for each in nonmetal])
    return Estimator(vocabulary, regressor, classifier, reach, analogues)


def calibrate(
    estimator: Estimator, target: str, validation: Labelled, seed: int, threads: int
) -> tuple[PropertyModel, list[float]]:
    """Give an estimator its intervals, from the validation set; with the quantiles of normalised residuals."""
    rows = estimator.inputs(validation.compositions, magpie(validation.compositions))
    value, probability = estimator.predict(rows, threads)
    features_NF, groups_NG, _ = estimator.shape(rows, value, probability)
    residuals = validation.values - value
    kinds = list(models.group_kinds(target).values())
    interval, half_width = Interval.fit(features_NF, np.abs(residuals), groups_NG, kinds, seed, threads)
    scores = residuals / np.maximum(half_width, 1e-6)
    if target in GAPS:  # the regressor's distribution is that of non-metals which the classifier knows
        scores = scores[(validation.values > 0) & (value > 0)]
    return PropertyModel(estimator, interval), models.residual_quantiles(scores)


def _metrics(
    target: str, fitted: Estimator, train: Labelled, test: Labelled, prediction: models.Prediction, threads: int
) -> dict:
    found = metrics.regression(test.values, prediction.value, prediction.half_width, train.values.mean())
    if target == DECOMPOSITION_ENERGY:
        found |= metrics.of_stability(test.values, prediction.value)
    if target in GAPS:
        nonmetal = test.values > 0
        found |= metrics.of_nonmetals(nonmetal, prediction.probability_nonmetal)
        rows = fitted.inputs(test.compositions, magpie(test.compositions)).take(nonmetal)
        regressed = np.maximum(models.mean(fitted.regressor, rows, threads), 0)
        mean = train.values[train.values > 0].mean()
        alone = metrics.regression(test.values[nonmetal], regressed, prediction.half_width[nonmetal], mean)
        found |= {f"nonmetal_{name}": alone[name] for name in ("rows", "mae", "r2", "mean_predictor_mae")}
    return found


def _write(folder: Path, model: PropertyModel) -> None:
    parts = {"regressor": model.estimator.regressor, "classifier": model.estimator.classifier}
    for part, learners in parts.items():
        for name, learner in learners.items():
            with tables.atomic(models.weights_path(folder, part, name)) as path:
                learner.save(path)
    model.interval.save(folder)
    model.estimator.reach.save(folder)
    if model.estimator.analogues is not None:
        model.estimator.analogues.save(folder / KNOWN_FILE)


def _write_parity(
    folder: Path, target: str, test: Labelled, prediction: models.Prediction, provenance: dict | None
) -> None:
    """Write target, prediction and uncertainty of at most ``PARITY_ROWS`` test rows, evenly taken."""
    rows = np.unique(np.linspace(0, len(test) - 1, min(len(test), models.PARITY_ROWS)).astype(int))
    data = {
        "model": [target] * len(rows),
        "id": [str(test.ids[row]) for row in rows],
        "target": test.values[rows],
        "prediction": np.round(prediction.value[rows], 4),
        "uncertainty": np.round(prediction.half_width[rows], 4),
    }
    tables.write(folder / models.PARITY_FILE, models.PARITY, data, provenance)
