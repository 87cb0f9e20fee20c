"""Apply the cutoffs to the scored candidates, rank those that are left, and pick the ones worth a structure."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.composition import ATOMIC_NUMBERS, Compositions
from pipeline.database.schema import ENTRIES
from pipeline.screening.schema import CANDIDATE_COLUMNS, PREDICTED, SCORE_COLUMNS
from pipeline.tables import Table, column

_RANK = column("rank", pa.int32(), "place among the selected, from 1", null="not selected")
SCREENED = Table(
    "screened",
    (
        CANDIDATE_COLUMNS[0],
        *SCORE_COLUMNS,
        _RANK,
        column("rejected_by", pa.string(), "the cutoff that the row fell by, the first in order", null="selected"),
    ),
)
"""Every candidate that survived the filter, with its scores and its fate; parts as those of ``PREDICTED``."""

SELECTED = Table(
    "selected",
    (
        column("rank", pa.int32(), "place, from 1"),
        *CANDIDATE_COLUMNS,
        *SCORE_COLUMNS,
        column("nearest_known_id", pa.string(), "id of the database entry of nearest composition"),
        column("nearest_known_formula", pa.string(), "its reduced formula"),
        column(
            "nearest_known_distance",
            pa.float64(),
            "sum of the absolute differences of the element fractions, 0 (same) to 2 (no element shared)",
        ),
    ),
)
"""The candidates that get a structure, by rank."""

_ENERGY, _ENERGY_WIDTH = "formation_energy_ev_per_atom", "formation_energy_uncertainty_ev_per_atom"
_JUDGED = ("id", "elements", "counts", _ENERGY, _ENERGY_WIDTH, "band_gap_ev", "is_known")
_BEST_FIRST = [("upper", "ascending"), ("id", "ascending"), ("row", "ascending")]
_MERGED_ROWS = 1 << 18


@dataclass(frozen=True)
class Cutoffs:
    """What a candidate must satisfy; None turns a limit off. The order is that of ``rejected_by``.

    Args:
        require_novel: Reject formulas of the database.
        excluded_elements: Symbols.
        max_atoms: Most atoms of the reduced formula.
        max_formation_energy_ev_per_atom: Highest predicted formation energy.
        max_formation_energy_uncertainty_ev_per_atom: Widest half-interval of it.
        min_band_gap_ev, max_band_gap_ev: Bounds of the predicted gap.
        max_per_chemical_system: Most selected formulas of one set of elements, best first.
        n_selected: Number selected.

    Raises:
        ValueError: A bound is below zero, the gap's bounds are crossed, or a symbol is no element.
    """

    require_novel: bool
    excluded_elements: Sequence[str]
    max_atoms: int | None
    max_formation_energy_ev_per_atom: float | None
    max_formation_energy_uncertainty_ev_per_atom: float | None
    min_band_gap_ev: float | None
    max_band_gap_ev: float | None
    max_per_chemical_system: int | None
    n_selected: int

    def __post_init__(self):
        unknown = [symbol for symbol in self.excluded_elements if symbol not in ATOMIC_NUMBERS]
        if unknown:
            raise ValueError(f"screening.select.excluded_elements: '{unknown[0]}' is no element; give symbols")
        low, high = self.min_band_gap_ev, self.max_band_gap_ev
        if low is not None and high is not None and low > high:
            raise ValueError(f"screening.select.min_band_gap_ev: {low} is above max_band_gap_ev {high}; swap them")
        for name in ("n_selected", "max_per_chemical_system", "max_atoms"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"screening.select.{name}: {value} leaves no candidate; give 1 or more")


def select(
    *,
    predicted_paths: Sequence[str | os.PathLike],
    entries_path: str | os.PathLike,
    screened_paths: Sequence[str | os.PathLike],
    selected_path: str | os.PathLike,
    cutoffs: Cutoffs,
    provenance: dict | None = None,
) -> None:
    """Rank by the upper end of the formation energy's 90 % interval, lowest first, within the cutoffs.

    The upper end, not the prediction: of two formulas with the same prediction the surer one comes first, and a wild
    extrapolation does not lead the list. Ties go by formula, so the order of the parts does not matter.

    The parts are read one by one, twice: first for the best of each chemical system, then to write every row's fate.
    What stays in memory is one part and those best, about 200 bytes each while they are sorted.

    Args:
        predicted_paths: Parts of ``PREDICTED``.
        entries_path: The database, for the nearest known composition.
        screened_paths: Where the parts of ``SCREENED`` go, one for each predicted part, rows in the same order.
        selected_path: Where ``SELECTED`` goes; it may be empty.
        cutoffs: See :class:`Cutoffs`.
        provenance: Kept in the tables' metadata.

    Raises:
        ValueError: A table is missing or damaged.
    """
    ranked = _ranked(predicted_paths, cutoffs)
    by_row = np.argsort(ranked)
    chosen, ranks = [], []
    start = 0
    for path, screened_path in zip(predicted_paths, screened_paths, strict=True):
        part = tables.read(path, PREDICTED)
        mine = by_row[slice(*np.searchsorted(ranked, [start, start + len(part)], sorter=by_row))]
        rows = ranked[mine] - start
        selected = mine < cutoffs.n_selected
        reasons = _rejections(part, cutoffs)
        beaten = "n_selected" if cutoffs.max_per_chemical_system is None else "max_per_chemical_system"
        reasons[np.equal(reasons, None)] = beaten
        reasons[rows] = np.where(selected, None, "n_selected")
        rank = np.zeros(len(part), dtype=np.int32)
        rank[rows[selected]] = mine[selected] + 1
        screened = {
            **{field.name: part.column(field.name) for field in (CANDIDATE_COLUMNS[0], *SCORE_COLUMNS)},
            "rank": pa.array(rank, mask=rank == 0),
            "rejected_by": pa.array(reasons, type=pa.string()),
        }
        tables.write(screened_path, SCREENED, screened, provenance)
        chosen.append(part.take(pa.array(rows[selected])))
        ranks.append(mine[selected])
        start += len(part)
    best_first = pa.array(np.argsort(np.concatenate(ranks)))
    _write_selected(selected_path, pa.concat_tables(chosen).take(best_first), entries_path, provenance)


def _write_selected(
    path: str | os.PathLike, chosen: pa.Table, entries_path: str | os.PathLike, provenance: dict | None
) -> None:
    """Write ``SELECTED`` from rows of ``PREDICTED`` by rank."""
    entries = tables.read(entries_path, ENTRIES, ["id", "formula", "elements", "counts"])
    nearest, distance = nearest_known(Compositions.from_table(chosen), Compositions.from_table(entries))
    rows = pa.array(nearest, type=pa.int64())
    selected = {
        "rank": np.arange(1, len(chosen) + 1, dtype=np.int32),
        **{name: chosen.column(name) for name in chosen.column_names},
        "nearest_known_id": entries.column("id").take(rows),
        "nearest_known_formula": entries.column("formula").take(rows),
        "nearest_known_distance": np.round(distance, 6),
    }
    tables.write(path, SELECTED, selected, provenance)


def _ranked(predicted_paths: Sequence[str | os.PathLike], cutoffs: Cutoffs) -> np.ndarray:
    """Rows that no cutoff and no better row of their system rejects, best first; int64, counted over all parts.

    Without a limit for systems these are the ``n_selected`` best.
    """
    keys, n_best, start = [], 0, 0
    for path in predicted_paths:
        part = tables.read(path, PREDICTED, _JUDGED)
        left = np.flatnonzero(np.equal(_rejections(part, cutoffs), None))
        keys.append(_keys(part.take(pa.array(left)), start + left))
        start += len(part)
        if sum(map(len, keys)) > 2 * max(n_best, _MERGED_ROWS):  # at twice the rows, so that each is sorted few times
            keys = [_best(pa.concat_tables(keys), cutoffs)]
            n_best = len(keys[0])
    best = _best(pa.concat_tables(keys), cutoffs)
    return best["row"].to_numpy()[pc.sort_indices(best, _BEST_FIRST).to_numpy()]


def _keys(part: pa.Table, rows: np.ndarray) -> pa.Table:
    """What decides about each row: its chemical system (a bit for each element), upper energy and id."""
    compositions = Compositions.from_table(part)
    z = compositions.elements.astype(np.uint64)
    system = []
    for first in (0, 64):
        bits = np.where(z >> np.uint64(6) == first >> 6, np.uint64(1) << (z & np.uint64(63)), np.uint64(0))
        running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(bits)])
        system.append(running[compositions.offsets[1:]] - running[compositions.offsets[:-1]])
    upper = pc.add(part[_ENERGY], part[_ENERGY_WIDTH])
    return pa.table({"row": rows, "low": system[0], "high": system[1], "upper": upper, "id": part["id"]})


def _best(keys: pa.Table, cutoffs: Cutoffs) -> pa.Table:
    """The best of each chemical system, or without a limit for systems the best of all."""
    if cutoffs.max_per_chemical_system is None:
        return keys.take(pc.sort_indices(keys, _BEST_FIRST)[: cutoffs.n_selected])
    keys = keys.take(pc.sort_indices(keys, [("high", "ascending"), ("low", "ascending"), *_BEST_FIRST]))
    high, low = keys["high"].to_numpy(), keys["low"].to_numpy()
    first = np.ones(len(keys), dtype=bool)
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    place = np.arange(len(keys)) - np.flatnonzero(first)[np.cumsum(first) - 1]
    return keys.filter(pa.array(place < cutoffs.max_per_chemical_system))


def _rejections(predicted: pa.Table, cutoffs: Cutoffs) -> np.ndarray:
    """The first cutoff that each row falls by alone, None where there is none; object of shape (N,)."""

    def values(name: str) -> np.ndarray:
        return predicted.column(name).to_numpy()  # null becomes NaN, and a comparison with NaN is false

    compositions = Compositions.from_table(predicted)
    energy, gap = values(_ENERGY), values("band_gap_ev")
    excluded = np.zeros(len(compositions), dtype=bool)
    forbidden = [ATOMIC_NUMBERS[symbol] for symbol in cutoffs.excluded_elements]
    excluded[compositions.rows[np.isin(compositions.elements, forbidden)]] = True
    fails = {
        "known": cutoffs.require_novel & values("is_known"),
        "excluded_elements": excluded,
        "max_atoms": _above(compositions.n_atoms, cutoffs.max_atoms),
        "unscored": np.isnan(energy) | np.isnan(gap),
        "max_formation_energy_ev_per_atom": _above(energy, cutoffs.max_formation_energy_ev_per_atom),
        "max_formation_energy_uncertainty_ev_per_atom": _above(
            values(_ENERGY_WIDTH), cutoffs.max_formation_energy_uncertainty_ev_per_atom
        ),
        "min_band_gap_ev": _above(-gap, None if cutoffs.min_band_gap_ev is None else -cutoffs.min_band_gap_ev),
        "max_band_gap_ev": _above(gap, cutoffs.max_band_gap_ev),
    }
    reasons = np.full(len(compositions), None, dtype=object)
    for name, failed in fails.items():
        reasons[failed & np.equal(reasons, None)] = name
    return reasons


def _above(values: np.ndarray, limit: float | None) -> np.ndarray:
    return np.zeros(len(values), dtype=bool) if limit is None else values > limit


def nearest_known(compositions: Compositions, known: Compositions) -> tuple[np.ndarray, np.ndarray]:
    """The known composition nearest to each, by the sum of absolute differences of the element fractions.

    Args:
        compositions: N compositions.
        known: At least one composition, unless N is 0.

    Returns:
        Position in ``known`` (the first of equals), int64 of shape (N,), and distance, float64 of shape (N,): 0 for the
        same reduced formula, 2 when no element is shared.
    """
    # Fractions add up to 1 on both sides, so the distance is 2 - 2 sum(min(a, b)): only shared elements count.
    by_element = np.argsort(known.elements, kind="stable")
    bounds = np.searchsorted(known.elements[by_element], np.arange(257))
    known_rows, known_fractions = known.rows[by_element], known.fractions()[by_element]
    fractions = compositions.fractions()
    nearest, distance = np.zeros(len(compositions), dtype=np.int64), np.zeros(len(compositions))
    for row in range(len(compositions)):
        shared = np.zeros(len(known))
        for pair in range(compositions.offsets[row], compositions.offsets[row + 1]):
            z = int(compositions.elements[pair])
            having = slice(bounds[z], bounds[z + 1])
            shared[known_rows[having]] += np.minimum(known_fractions[having], fractions[pair])
        nearest[row] = shared.argmax()
        distance[row] = max(2 - 2 * shared[nearest[row]], 0)
    return nearest, distance
