"""Apply the cutoffs to the scored candidates, rank those that are left, and pick the ones worth a structure."""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.composition import Compositions
from pipeline.database.schema import ENTRIES
from pipeline.screening.criteria import Criteria, first_failing
from pipeline.screening.distribution import Residuals
from pipeline.screening.elements import SUPPLY_COLUMNS, herfindahl_hirschman
from pipeline.screening.novelty import nearest_known
from pipeline.screening.schema import CANDIDATE_COLUMNS, PREDICTED, SCORE_COLUMNS
from pipeline.screening.usefulness import RANKED_COLUMNS, TERM_COLUMNS, log_merit, log_usefulness, terms
from pipeline.tables import Table, column

SCREENED = Table(
    "screened",
    (
        CANDIDATE_COLUMNS[0],
        *SCORE_COLUMNS,
        *SUPPLY_COLUMNS,
        *TERM_COLUMNS,
        *RANKED_COLUMNS,
        column("rank", pa.int32(), "place among the selected, from 1", null="not selected"),
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
        *SUPPLY_COLUMNS,
        *TERM_COLUMNS,
        *RANKED_COLUMNS,
        column("nearest_known_id", pa.string(), "id of the database entry of nearest composition"),
        column("nearest_known_formula", pa.string(), "its reduced formula"),
    ),
)
"""The candidates that get a structure, by rank."""

_NOT_JUDGED = ("n_drawn", "oxidation_states", "verdict")
_JUDGED = [name for name in PREDICTED.schema.names if name not in _NOT_JUDGED]
_BEST_FIRST = [("merit", "descending"), ("id", "ascending"), ("row", "ascending")]
_MERGED_ROWS = 1 << 18


def select(
    *,
    predicted_paths: Sequence[str | os.PathLike],
    entries_path: str | os.PathLike,
    screened_paths: Sequence[str | os.PathLike],
    selected_path: str | os.PathLike,
    criteria: Criteria,
    residuals: Residuals,
    provenance: dict | None = None,
) -> None:
    """Rank by usefulness, highest first, within the cutoffs.

    Ties go to the better one by the other terms than diversity, then by formula, so the order of the parts does not
    matter. The parts are read one by one, twice: first for the best of each chemical system, then to write every row's
    fate. What stays in memory is one part and those best, about 200 bytes each while they are sorted.

    Args:
        predicted_paths: Parts of ``PREDICTED``.
        entries_path: The database, for the nearest known composition.
        screened_paths: Where the parts of ``SCREENED`` go, one for each predicted part, rows in the same order.
        selected_path: Where ``SELECTED`` goes; it may be empty.
        criteria: What is asked.
        residuals: How the models err.
        provenance: Kept in the tables' metadata.

    Raises:
        ValueError: A table is missing or damaged.
    """
    ranked, places = _ranked(predicted_paths, criteria, residuals)
    by_row = np.argsort(ranked)
    chosen, ranks = [], []
    start = 0
    for path, screened_path in zip(predicted_paths, screened_paths, strict=True):
        part = judged(tables.read(path, PREDICTED), criteria, residuals)
        mine = by_row[slice(*np.searchsorted(ranked, [start, start + len(part)], sorter=by_row))]
        rows = ranked[mine] - start
        part = _with_ranked_columns(part, rows, places[mine], criteria)
        selected = mine < criteria.n_selected
        rank = np.zeros(len(part), dtype=np.int32)
        rank[rows[selected]] = mine[selected] + 1
        screened = {name: part[name] for name in SCREENED.schema.names if name in part.column_names} | {
            "rank": pa.array(rank, mask=rank == 0),
            "rejected_by": _reasons(part, rows, selected, criteria),
        }
        tables.write(screened_path, SCREENED, screened, provenance)
        chosen.append(part.take(pa.array(rows[selected])))
        ranks.append(mine[selected])
        start += len(part)
    best_first = pa.array(np.argsort(np.concatenate(ranks)))
    _write_selected(selected_path, pa.concat_tables(chosen).take(best_first), entries_path, provenance)


def judged(predicted: pa.Table, criteria: Criteria, residuals: Residuals) -> pa.Table:
    """Rows of ``PREDICTED`` with the columns ``SUPPLY_COLUMNS`` and ``TERM_COLUMNS``."""
    supply = (np.round(index, 1) for index in herfindahl_hirschman(Compositions.from_table(predicted)))
    names = [field.name for field in SUPPLY_COLUMNS]
    added = dict(zip(names, supply, strict=True)) | terms(predicted, criteria, residuals)
    for name, values in added.items():
        predicted = predicted.append_column(name, pa.array(values, mask=np.isnan(values)))
    return predicted


def merits(judged: pa.Table, criteria: Criteria) -> np.ndarray:
    """:func:`pipeline.screening.usefulness.log_merit` of each row."""
    columns = {name: judged[name].to_numpy() for name in (*(field.name for field in TERM_COLUMNS), "likeness")}
    return log_merit(columns, criteria.weights)


def chemical_systems(compositions: Compositions) -> tuple[np.ndarray, np.ndarray]:
    """The elements of each composition as a bit each, of atomic numbers to 63 and above; two uint64 of shape (N,)."""
    z = compositions.elements.astype(np.uint64)
    system = []
    for first in (0, 64):
        bits = np.where(z >> np.uint64(6) == first >> 6, np.uint64(1) << (z & np.uint64(63)), np.uint64(0))
        running = np.concatenate([np.zeros(1, np.uint64), np.cumsum(bits)])
        system.append(running[compositions.offsets[1:]] - running[compositions.offsets[:-1]])
    return system[0], system[1]


def _with_ranked_columns(part: pa.Table, rows: np.ndarray, places: np.ndarray, criteria: Criteria) -> pa.Table:
    """The part with the columns ``RANKED_COLUMNS``, of the ranked rows alone."""
    columns = np.full((2, len(part)), np.nan)
    columns[0, rows] = np.round(1 / places, 6)
    columns[1, rows] = np.exp(log_usefulness(merits(part, criteria)[rows], places, criteria.weights))
    for field, values in zip(RANKED_COLUMNS, columns, strict=True):
        part = part.append_column(field.name, pa.array(values, mask=np.isnan(values)))
    return part


def _reasons(part: pa.Table, rows: np.ndarray, selected: np.ndarray, criteria: Criteria) -> pa.Array:
    """``rejected_by`` of a part, of which ``rows`` are ranked and some of those selected."""
    place, reasons = first_failing(part, criteria)
    beaten = "n_selected" if criteria.max_per_chemical_system is None else "max_per_chemical_system"
    reasons = [*reasons, beaten, "n_selected"]
    place[place < 0] = len(reasons) - 2
    place[rows] = np.where(selected, -1, len(reasons) - 1)
    return pa.array(reasons, pa.string()).take(pa.array(place, mask=place < 0))


def _write_selected(
    path: str | os.PathLike, chosen: pa.Table, entries_path: str | os.PathLike, provenance: dict | None
) -> None:
    """Write ``SELECTED`` from judged rows by rank."""
    entries = tables.read(entries_path, ENTRIES, ["id", "formula", "elements", "counts"])
    nearest, _ = nearest_known(Compositions.from_table(chosen), Compositions.from_table(entries))
    rows = pa.array(nearest, type=pa.int64())
    selected = {
        "rank": np.arange(1, len(chosen) + 1, dtype=np.int32),
        **{name: chosen[name] for name in chosen.column_names},
        "nearest_known_id": entries["id"].take(rows),
        "nearest_known_formula": entries["formula"].take(rows),
    }
    tables.write(path, SELECTED, {name: selected[name] for name in SELECTED.schema.names}, provenance)


def _ranked(
    predicted_paths: Sequence[str | os.PathLike], criteria: Criteria, residuals: Residuals
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that no cutoff and no better row of their system rejects, best first, and their places in their systems.

    Without a limit for systems these are the ``n_selected`` best. Both int64; rows are counted over all parts.
    """
    keys, n_best, start = [], 0, 0
    for path in predicted_paths:
        part = judged(tables.read(path, PREDICTED, _JUDGED), criteria, residuals)
        left = np.flatnonzero(first_failing(part, criteria)[0] < 0)
        keys.append(_keys(part.take(pa.array(left)), start + left, criteria))
        start += len(part)
        if sum(map(len, keys)) > 2 * max(n_best, _MERGED_ROWS):  # at twice the rows, so that each is sorted few times
            keys = [_best(pa.concat_tables(keys), criteria)]
            n_best = len(keys[0])
    best = _best(pa.concat_tables(keys), criteria)
    return best["row"].to_numpy(), best["place"].to_numpy()


def _keys(part: pa.Table, rows: np.ndarray, criteria: Criteria) -> pa.Table:
    """What decides about each row: its chemical system, merit and id."""
    low, high = chemical_systems(Compositions.from_table(part))
    columns = {"row": rows, "low": low, "high": high, "merit": merits(part, criteria), "id": part["id"]}
    return pa.table(columns | {"place": np.zeros(len(rows), dtype=np.int64)})


def _best(keys: pa.Table, criteria: Criteria) -> pa.Table:
    """The best of each chemical system, or without a limit for systems the best of all; best first.

    A row that is not among the best of some of the rows is not among the best of all of them: a better row of its
    system only lowers its own usefulness, and takes a place that is worth at least what the row had.
    """
    keys = keys.take(pc.sort_indices(keys, [("high", "ascending"), ("low", "ascending"), *_BEST_FIRST]))
    high, low = keys["high"].to_numpy(), keys["low"].to_numpy()
    first = np.ones(len(keys), dtype=bool)
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    place = np.arange(len(keys)) - np.flatnonzero(first)[np.cumsum(first) - 1] + 1
    keys = keys.set_column(keys.column_names.index("place"), "place", pa.array(place))
    if criteria.max_per_chemical_system is not None:
        keys = keys.filter(pa.array(place <= criteria.max_per_chemical_system))
    usefulness = log_usefulness(keys["merit"].to_numpy(), keys["place"].to_numpy(), criteria.weights)
    order = pc.sort_indices(
        keys.append_column("usefulness", pa.array(usefulness)), [("usefulness", "descending"), *_BEST_FIRST]
    )
    return keys.take(order if criteria.max_per_chemical_system is not None else order[: criteria.n_selected])
