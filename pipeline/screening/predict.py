"""Score one part of the filtered candidates: property models, likeness, novelty."""

import os
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.composition import SYMBOLS, Compositions
from pipeline.database.schema import ENTRIES
from pipeline.filtering.schema import FILTERED
from pipeline.screening.features import magpie
from pipeline.screening.likeness import LIKENESS, Likeness
from pipeline.screening.models import TARGETS, PropertyModel, uncertainty_column
from pipeline.screening.novelty import nearest_known
from pipeline.screening.schema import CANDIDATE_COLUMNS, PREDICTED, SCORE_COLUMNS

DECIMALS = 4
CHUNK = 1 << 15
"""Rows scored at a time: features and what the models make of them take about 5 kB a row."""


def predict_part(
    *,
    filtered_path: str | os.PathLike,
    predicted_path: str | os.PathLike,
    entries_path: str | os.PathLike,
    models: Mapping[str, str | os.PathLike],
    threads: int = 1,
    provenance: dict | None = None,
) -> None:
    """Score the rows of one part that survived the filter, in their order.

    Args:
        filtered_path: A part of ``FILTERED``.
        predicted_path: Where the part of ``PREDICTED`` goes.
        entries_path: The database, for novelty.
        models: Folder of the model of each target, and of ``"likeness"``.
        threads: Threads of torch and LightGBM.
        provenance: Kept in the table's metadata.

    Raises:
        ValueError: A table or a model is missing or damaged.
    """
    names = [field.name for field in CANDIDATE_COLUMNS]
    filtered = tables.read(filtered_path, FILTERED, [*names, "rejected_by"])
    survivors = filtered.filter(pc.is_null(filtered.column("rejected_by"))).select(names)
    scores = score(Compositions.from_table(survivors), models, entries_path, threads)
    columns = {name: survivors.column(name) for name in names} | {name: scores[name] for name in scores.column_names}
    tables.write(predicted_path, PREDICTED, {name: columns[name] for name in PREDICTED.schema.names}, provenance)


def score(
    compositions: Compositions,
    models: Mapping[str, str | os.PathLike],
    entries_path: str | os.PathLike,
    threads: int,
) -> pa.Table:
    """The score columns of ``PREDICTED`` for N reduced compositions.

    A formula with an element that a model was not trained on gets nulls from that model, with the reason. Scores are
    rounded to four decimals, far below their uncertainty, so that the number of threads does not show in them.

    Args:
        compositions: What is scored.
        models, entries_path, threads: As in :func:`predict_part`.

    Raises:
        ValueError: A table or a model is missing or damaged.
    """
    known = Compositions.from_table(tables.read(entries_path, ENTRIES, ["elements", "counts"])).reduced()
    property_models = {target: PropertyModel.load(models[target], target) for target in TARGETS if target in models}
    likeness = Likeness.load(models[LIKENESS])
    bounds = range(0, max(len(compositions), 1), CHUNK)
    chunks = [compositions.take(np.arange(start, min(start + CHUNK, len(compositions)))) for start in bounds]
    schema = pa.schema([PREDICTED.schema.field(field.name) for field in SCORE_COLUMNS])
    return pa.concat_tables([_chunk(chunk, property_models, likeness, known, threads, schema) for chunk in chunks])


def _chunk(
    compositions: Compositions,
    property_models: Mapping[str, PropertyModel],
    likeness: Likeness | None,
    known: Compositions,
    threads: int,
    schema: pa.Schema,
) -> pa.Table:
    features_NF, n = magpie(compositions), len(compositions)
    columns, reasons, distance = {}, [], np.zeros(n)
    for target, model in property_models.items():
        covered, reason = _covered(compositions, model.estimator.vocabulary, _plain(target))
        found = model.predict(compositions.take(covered), features_NF[covered], threads)
        columns[target] = _spread(found.value, covered)
        columns[uncertainty_column(target)] = _spread(found.half_width, covered)
        if target == "band_gap_ev":
            columns["probability_nonmetal"] = _spread(found.probability_nonmetal, covered)
        distance[covered] = np.maximum(distance[covered], found.distance)
        reasons.append(reason)
    if likeness is not None:
        covered, reason = _covered(compositions, likeness.vocabulary, "likeness")
        columns[LIKENESS] = _spread(
            likeness.predict(compositions.take(covered), features_NF[covered], threads), covered
        )
        reasons.append(reason)
    unscored = ["; ".join(filter(None, each)) or None for each in zip([None] * n, *reasons, strict=True)]
    _, away = nearest_known(compositions, known)
    scored = np.equal(np.array(unscored, dtype=object), None)
    columns["distance_from_training"] = _spread(distance[scored], scored)
    columns["nearest_known_distance"] = pa.array(np.round(away, DECIMALS) + 0.0)
    columns["is_known"] = pa.array(compositions.contained_in(known))
    columns["unscored_because"] = pa.array(unscored, pa.string())
    return pa.table([columns.get(field.name, pa.nulls(n, field.type)) for field in schema], schema=schema)


def _plain(target: str) -> str:
    """A target's name in words."""
    return target.split("_ev")[0].replace("_", " ")


def _covered(compositions: Compositions, vocabulary: list[int], name: str) -> tuple[np.ndarray, np.ndarray]:
    outside = ~np.isin(compositions.elements, vocabulary)
    covered = np.ones(len(compositions), dtype=bool)
    reasons = np.full(len(compositions), None, dtype=object)
    rows = compositions.rows[outside]
    covered[rows] = False
    for row, z in zip(rows[::-1], compositions.elements[outside][::-1], strict=True):
        reasons[row] = f"no {name}: the model never saw {SYMBOLS[z - 1]}"
    return covered, reasons


def _spread(values: np.ndarray, covered: np.ndarray) -> pa.Array:
    wide = np.zeros(len(covered))
    wide[covered] = np.round(values, DECIMALS) + 0.0
    return pa.array(wide, mask=~covered)
