"""Train a property model on labelled compositions: the shipped ones, or a user's own from the database's entries."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from pipeline import tables
from pipeline.composition import SYMBOLS, Compositions
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT
from pipeline.provenance import derived_seed
from pipeline.screening import models
from pipeline.screening.features import magpie
from pipeline.screening.interval import Interval
from pipeline.screening.models import BAND_GAP, FORMATION_ENERGY, TEST, TRAIN, VALIDATION, Labelled

MIN_ROWS = 200


@dataclass(frozen=True)
class Training:
    """Settings of both property models.

    Args:
        validation_share, test_share: Of the formulas; the first stops training and calibrates intervals, the second
            is only measured.
        elemnet: Keyword arguments of ``elemnet.ElemNetTraining``.
        band_gap: Keyword arguments of ``band_gap.BandGapTraining``.
    """

    validation_share: float
    test_share: float
    elemnet: dict
    band_gap: dict


def train_model(
    *,
    target: str,
    entries_path: str | os.PathLike,
    split_path: str | os.PathLike,
    folder: str | os.PathLike,
    settings: Training,
    seed: int,
    threads: int = 1,
    provenance: dict | None = None,
) -> None:
    """Train one model on the labels of the user's database; held-out formulas take no part.

    Args:
        target: ``"formation_energy_ev_per_atom"`` or ``"band_gap_ev"``.
        entries_path, split_path: Tables of the stages before.
        folder: Where the model goes.
        settings: See :class:`Training`.
        seed: Of the split, the weights and the order of rows.
        threads: Threads of torch and LightGBM.
        provenance: Kept in the model's table and description.

    Raises:
        ValueError: The database has too few labels of this kind.
    """
    columns = list(dict.fromkeys(["id", "formula", "elements", "counts", FORMATION_ENERGY, target]))
    entries = tables.read(entries_path, ENTRIES, columns)
    split = tables.read(split_path, SPLIT, ["id", "held_out"])
    held_out = split.filter(split.column("held_out")).column("id")
    labelled = pc.and_(
        pc.is_valid(entries.column(target)),
        pc.invert(pc.is_in(entries.column("id"), value_set=held_out.combine_chunks())),
    )
    entries = entries.filter(labelled)
    rows = Labelled(
        entries.column("id").to_numpy(zero_copy_only=False),
        Compositions.from_table(entries).reduced(),
        entries.column(target).to_numpy(),
    ).lowest_energy(entries.column(FORMATION_ENERGY).to_numpy())
    if len(rows) < MIN_ROWS:
        raise ValueError(
            f"{entries_path}: {len(rows)} formulas with '{target}', at least {MIN_ROWS} are needed to train a model; "
            "use the shipped model for it"
        )
    card = f"The `entries` of this campaign with a value of `{target}`, lowest energy of each formula."
    fit(
        target,
        rows,
        Path(folder),
        settings,
        seed,
        threads,
        source={"name": "campaign", "card": card},
        provenance=provenance,
    )


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
    part = models.three_way_split(rows.compositions, settings.validation_share, settings.test_share, seed)
    sets = [rows.take(part == which) for which in (TRAIN, VALIDATION, TEST)]
    if min(len(piece) for piece in sets) == 0:
        sizes = [len(piece) for piece in sets]
        raise ValueError(
            f"{target}: training, validation and test sets of {sizes} formulas; raise the empty one's share"
        )
    vocabulary = np.unique(rows.compositions.elements).tolist()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / models.DESCRIPTION_FILE).unlink(missing_ok=True)  # written last: a folder without it is no model
    learn = {FORMATION_ENERGY: _formation_energy, BAND_GAP: _band_gap}[target]
    prediction, uncertainty, specific = learn(sets, vocabulary, folder, settings, derived_seed(seed, target), threads)
    description = {
        "target": target,
        "source": source["name"],
        "elements": [SYMBOLS[z - 1] for z in vocabulary],
        "rows": dict(zip(("train", "validation", "test"), map(len, sets), strict=True)),
        "split": {
            "by": "hash of the reduced formula",
            "validation_share": settings.validation_share,
            "test_share": settings.test_share,
        },
        "seed": seed,
        **specific,
        "by_n_elements": models.by_n_elements(sets[TEST], prediction, uncertainty),
        "versions": models.versions(),
        "provenance": provenance or {},
    }
    models.write_parity(folder, target, sets[TEST], prediction, uncertainty, provenance)
    with tables.atomic(folder / models.CARD_FILE) as path:
        path.write_text(_card(description, source["card"]))
    description["sha256"] = models.digests(folder)
    tables.write_json(folder / models.DESCRIPTION_FILE, description)
    return description


def _formation_energy(
    sets: Sequence[Labelled], vocabulary: list[int], folder: Path, settings: Training, seed: int, threads: int
):
    import torch

    from pipeline.screening import elemnet

    torch.set_num_threads(threads)
    options = elemnet.ElemNetTraining(**settings.elemnet)
    data = [(elemnet.fractions(piece.compositions, vocabulary), piece.values) for piece in sets]
    network, history = elemnet.fit(data[0], data[1], options, seed, lambda row: print(row, flush=True))
    with tables.atomic(folder / elemnet.WEIGHTS_FILE) as path:
        elemnet.save(network, path)
    validation, test = (
        (np.column_stack([magpie(piece.compositions), elemnet.predict(network, inputs_NE)]), energies)
        for piece, (inputs_NE, energies) in zip(sets[1:], data[1:], strict=True)
    )
    residuals = np.abs(validation[0][:, -1] - validation[1])
    interval = Interval.fit(validation[0], residuals, elemnet.has_few_elements(sets[1].compositions), seed, threads)
    interval.save(folder)
    prediction = test[0][:, -1]
    uncertainty = interval.half_width(test[0], elemnet.has_few_elements(sets[2].compositions), threads)
    return (
        prediction,
        uncertainty,
        {
            "architecture": {"name": "ElemNet", "hidden": [size for block in elemnet.BLOCKS for size in block]},
            "method": elemnet.METHOD,
            "training": {**asdict(options), "epochs_run": len(history)},
            "interval_factors": interval.factors,
            "metrics": models.regression_metrics(test[1], prediction, uncertainty, sets[0].values.mean()),
            "history": history,
        },
    )


def _band_gap(
    sets: Sequence[Labelled], vocabulary: list[int], folder: Path, settings: Training, seed: int, threads: int
):
    from sklearn.metrics import roc_auc_score

    from pipeline import boosting
    from pipeline.screening import band_gap

    options = band_gap.BandGapTraining(**settings.band_gap)
    train, validation, test = ((magpie(piece.compositions), piece.values) for piece in sets)
    for name, (_, gaps) in zip(("training", "validation", "test"), (train, validation, test), strict=True):
        if not 0 < (gaps > 0).sum() < len(gaps):
            raise ValueError(f"{BAND_GAP}: the {name} set has no metals or no non-metals; use the shipped model")
    model = band_gap.fit(train, validation, options, seed, threads)
    model.save(folder)
    probability, gap = model.predict(validation[0], threads)
    columns = np.column_stack([validation[0], probability, gap])
    interval = Interval.fit(columns, np.abs(gap - validation[1]), band_gap.may_be_nonmetal(probability), seed, threads)
    interval.save(folder)

    features_NF, gaps = test
    probability, prediction = model.predict(features_NF, threads)
    columns = np.column_stack([features_NF, probability, prediction])
    uncertainty = interval.half_width(columns, band_gap.may_be_nonmetal(probability), threads)
    nonmetal = gaps > 0
    mean = train[1][train[1] > 0].mean()
    regressed = np.maximum(boosting.predict(model.regressor, features_NF[nonmetal], threads), 0)
    alone = models.regression_metrics(gaps[nonmetal], regressed, uncertainty[nonmetal], mean)
    return (
        prediction,
        uncertainty,
        {
            "architecture": {
                "name": "LightGBM on Magpie features",
                "trees": {"classifier": model.classifier.num_trees(), "regressor": model.regressor.num_trees()},
            },
            "method": band_gap.METHOD,
            "training": asdict(options),
            "nonmetal_threshold": model.nonmetal_threshold,
            "interval_factors": interval.factors,
            "metrics": {
                **models.regression_metrics(gaps, prediction, uncertainty, train[1].mean()),
                "classifier_roc_auc": float(roc_auc_score(nonmetal, probability)),
                **{f"nonmetal_{name}": alone[name] for name in ("rows", "mae", "r2", "mean_predictor_mae")},
            },
        },
    )


def _card(description: dict, data: str) -> str:
    unit = "eV/atom" if description["target"] == FORMATION_ENERGY else "eV"
    split, rows = description["split"], description["rows"]
    metrics = "\n".join(
        f"| {name} | {value if isinstance(value, int) else f'{value:.4f}'} |"
        for name, value in description["metrics"].items()
    )
    settings = ", ".join(f"{name} {value}" for name, value in description["training"].items())
    groups = "\n".join(
        f"| {group['n_elements']} | {group['rows']} | {group['mae']:.4f} | {group['coverage']:.3f} |"
        for group in description["by_n_elements"]
    )
    return f"""# {description["target"]}: {description["architecture"]["name"]}

## Data
{data}

## Model
{description["method"]}

{settings}

## Split
By {split["by"]}, seed {description["seed"]}: {rows["train"]} formulas to train, {rows["validation"]} to stop training
and calibrate the intervals, {rows["test"]} for the test below. Formulas of elements that fewer than
{models.MIN_FORMULAS_OF_ELEMENT} formulas have are left out. The model knows {len(description["elements"])} elements;
formulas with others get no score.

## Test set
Errors in {unit}. The interval is that of 90 %; outside the kinds of formulas trained on it covers less.

| measure | value |
|---|---|
{metrics}

| elements in the formula | rows | MAE | interval coverage |
|---|---|---|---|
{groups}

## Files
Weights, `model.json` (architecture, elements, split, metrics, versions, seed) and `parity.parquet` (target, prediction
and uncertainty of up to {models.PARITY_ROWS} test formulas).
"""
