"""Score one part of the filtered candidates: formation energy, band gap, novelty."""

import os
from collections.abc import Sequence
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
    features_NF = magpie(compositions)
    energy = formation_energies(compositions, features_NF, formation_energy_model, threads)
    gap = band_gaps(compositions, features_NF, band_gap_model, threads)
    reasons = zip(energy.pop("reason"), gap.pop("reason"), strict=True)
    data = {
        **{name: survivors.column(name) for name in names},
        **energy,
        **gap,
        "is_known": compositions.contained_in(known.reduced()),
        "unscored_because": ["; ".join(filter(None, pair)) or None for pair in reasons],
    }
    tables.write(predicted_path, PREDICTED, data, provenance)


def formation_energies(
    compositions: Compositions, features_NF: np.ndarray, folder: str | os.PathLike, threads: int
) -> dict[str, Sequence]:
    """The formation-energy columns of ``PREDICTED``, and ``reason``: None where there is a score.

    Args:
        compositions: N compositions.
        features_NF: Their Magpie features, shape (N, 132).
        folder: Of the model.
        threads: Threads of torch and LightGBM.
    """
    import torch

    from pipeline.screening import elemnet
    from pipeline.screening.interval import Interval

    description = read_description(folder, FORMATION_ENERGY)
    vocabulary = [ATOMIC_NUMBERS[symbol] for symbol in description["elements"]]
    network = elemnet.load(Path(folder) / elemnet.WEIGHTS_FILE, len(vocabulary))
    interval = Interval.load(Path(folder), description["interval_factors"])
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


def band_gaps(
    compositions: Compositions, features_NF: np.ndarray, folder: str | os.PathLike, threads: int
) -> dict[str, Sequence]:
    """The band-gap columns of ``PREDICTED`` and ``reason``, as :func:`formation_energies`."""
    from pipeline.screening.band_gap import BandGapModel, may_be_nonmetal
    from pipeline.screening.interval import Interval

    description = read_description(folder, BAND_GAP)
    model = BandGapModel.load(Path(folder), description["nonmetal_threshold"])
    interval = Interval.load(Path(folder), description["interval_factors"])
    covered, reason = _covered(compositions, [ATOMIC_NUMBERS[s] for s in description["elements"]], "band gap")
    probability, gap = model.predict(features_NF[covered], threads)
    columns = np.column_stack([features_NF[covered], probability, gap])
    width = interval.half_width(columns, may_be_nonmetal(probability), threads)
    return {
        "probability_nonmetal": _spread(probability, covered),
        "band_gap_ev": _spread(gap, covered),
        "band_gap_uncertainty_ev": _spread(width, covered),
        "reason": reason,
    }


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
