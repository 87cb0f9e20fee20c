"""Score one part of the filtered candidates: formation energy, band gap, novelty."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, Compositions
from pipeline.database.schema import ENTRIES
from pipeline.filtering.schema import FILTERED
from pipeline.screening.features import magpie
from pipeline.screening.models import BAND_GAP, FORMATION_ENERGY, read_description
from pipeline.screening.schema import CANDIDATE_COLUMNS, PREDICTED

DECIMALS = 4
CHUNK = 1 << 15
"""Rows scored at a time: features and what the models make of them take about 5 kB a row."""

Scorer = Callable[[Compositions, np.ndarray], dict[str, Sequence]]
"""Takes N compositions and their Magpie features (shape (N, 132)); returns columns of ``PREDICTED`` and ``reason``, why
a row has none, None where it does."""


def predict_part(
    *,
    filtered_path: str | os.PathLike,
    predicted_path: str | os.PathLike,
    entries_path: str | os.PathLike,
    formation_energy_model: str | os.PathLike,
    band_gap_model: str | os.PathLike,
    threads: int = 1,
    provenance: dict | None = None,
) -> None:
    """Score the rows of one part that survived the filter, in their order.

    A formula with an element that a model was not trained on gets nulls from that model, with the reason. Scores are
    rounded to four decimals, far below their uncertainty, so that the number of threads does not show in them.

    Args:
        filtered_path: A part of ``FILTERED``.
        predicted_path: Where the part of ``PREDICTED`` goes.
        entries_path: The database, for novelty.
        formation_energy_model, band_gap_model: Folders of trained models.
        threads: Threads of torch and LightGBM.
        provenance: Kept in the table's metadata.

    Raises:
        ValueError: A table or a model is missing or damaged.
    """
    names = [field.name for field in CANDIDATE_COLUMNS]
    filtered = tables.read(filtered_path, FILTERED, [*names, "rejected_by"])
    survivors = filtered.filter(pc.is_null(filtered.column("rejected_by"))).select(names)
    compositions = Compositions.from_table(survivors)
    known = Compositions.from_table(tables.read(entries_path, ENTRIES, ["elements", "counts"]))
    scorers = formation_energies(formation_energy_model, threads), band_gaps(band_gap_model, threads)
    chunks = np.split(np.arange(len(compositions)), range(CHUNK, len(compositions), CHUNK))
    scores = [_scores(compositions.take(rows), scorers) for rows in chunks]
    data = {
        **{name: survivors.column(name) for name in names},
        **{name: pa.chunked_array([columns[name] for columns in scores]) for name in scores[0]},
        "is_known": compositions.contained_in(known.reduced()),
    }
    tables.write(predicted_path, PREDICTED, {name: data[name] for name in PREDICTED.schema.names}, provenance)


def _scores(compositions: Compositions, scorers: Sequence[Scorer]) -> dict[str, pa.Array]:
    """The score columns of ``PREDICTED``, novelty apart."""
    features_NF = magpie(compositions)
    columns, reasons = {}, []
    for scorer in scorers:
        columns |= scorer(compositions, features_NF)
        reasons.append(columns.pop("reason"))
    because = ["; ".join(filter(None, each)) or None for each in zip(*reasons, strict=True)]
    return {**columns, "unscored_because": pa.array(because, pa.string())}


def formation_energies(folder: str | os.PathLike, threads: int) -> Scorer:
    """Load a model; what it makes of formulas are the formation-energy columns of ``PREDICTED``.

    Args:
        folder: Of the model.
        threads: Threads of torch and LightGBM.

    Raises:
        ValueError: The model is missing or damaged.
    """
    import torch

    from pipeline.screening import elemnet
    from pipeline.screening.interval import Interval

    description = read_description(folder, FORMATION_ENERGY)
    vocabulary = [ATOMIC_NUMBERS[symbol] for symbol in description["elements"]]
    network = elemnet.load(Path(folder) / elemnet.WEIGHTS_FILE, len(vocabulary))
    interval = Interval.load(Path(folder), description["interval_factors"])

    def score(compositions: Compositions, features_NF: np.ndarray) -> dict[str, Sequence]:
        covered, reason = _covered(compositions, vocabulary, "formation energy")
        torch.set_num_threads(threads)
        scored = compositions.take(covered)
        energy = elemnet.predict(network, elemnet.fractions(scored, vocabulary))
        columns = np.column_stack([features_NF[covered], energy])
        width = interval.half_width(columns, elemnet.has_few_elements(scored), threads)
        return {
            "formation_energy_ev_per_atom": _spread(energy, covered),
            "formation_energy_uncertainty_ev_per_atom": _spread(width, covered),
            "reason": reason,
        }

    return score


def band_gaps(folder: str | os.PathLike, threads: int) -> Scorer:
    """Load a model of the band-gap columns of ``PREDICTED``, as :func:`formation_energies`."""
    from pipeline.screening.band_gap import BandGapModel, may_be_nonmetal
    from pipeline.screening.interval import Interval

    description = read_description(folder, BAND_GAP)
    vocabulary = [ATOMIC_NUMBERS[symbol] for symbol in description["elements"]]
    model = BandGapModel.load(Path(folder), description["nonmetal_threshold"])
    interval = Interval.load(Path(folder), description["interval_factors"])

    def score(compositions: Compositions, features_NF: np.ndarray) -> dict[str, Sequence]:
        covered, reason = _covered(compositions, vocabulary, "band gap")
        probability, gap = model.predict(features_NF[covered], threads)
        columns = np.column_stack([features_NF[covered], probability, gap])
        width = interval.half_width(columns, may_be_nonmetal(probability), threads)
        return {
            "probability_nonmetal": _spread(probability, covered),
            "band_gap_ev": _spread(gap, covered),
            "band_gap_uncertainty_ev": _spread(width, covered),
            "reason": reason,
        }

    return score


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
