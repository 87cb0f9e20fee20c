"""Known compounds that differ from a formula by one element: how many that could be are known, and their values.

Chemists predict a compound where its neighbours in the periodic table form one. How readily an element takes another's
place is counted in the known compounds themselves, as in Glawe et al., New J. Phys. 18, 093011 (2016),
doi:10.1088/1367-2630/18/9/093011: pairs that differ by just this exchange, against how common the two are. No formula
is its own analogue, so a known one's features do not hold its own value, nor the exchanges that only it shows.

Suffixes: N formulas, K known compounds, A features.
"""

import os

import numba
import numpy as np
import pyarrow as pa

from pipeline import matching, tables
from pipeline.composition import COUNTS, ELEMENTS, Compositions

KNOWN_FILE = "known.parquet"
KNOWN = tables.Table(
    "known",
    (
        ELEMENTS,
        COUNTS,
        tables.column("value", pa.float64(), "the target, in its unit", null="none: only that it is known counts"),
    ),
)

OF_KNOWN = (
    "least share of known exchanges of an element",
    "largest share of known exchanges of an element",
    "mean share of known exchanges of an element",
    "least weight of known exchanges of an element",
    "largest weight of known exchanges of an element",
    "number of analogues",
    "largest weight of an analogue",
)
OF_VALUES = (
    "value of the nearest analogue",
    "weighted mean of the analogues' values",
    "least value of an analogue",
    "largest value of an analogue",
    "weighted share of analogues with a value up to 0",
)

_RARE = 10.0  # added to the product of two elements' numbers of compounds, so that rare elements do not look alike
_DECIMALS = 10  # so that no tree splits the last bits of a sum
_LEAST_WEIGHT = 1e-12  # what rounding leaves of a single pair that is taken off
_N_ATOMIC_NUMBERS = 119


class Analogues:
    """The known compounds, and how alike their elements are.

    Args:
        known: K distinct reduced compositions.
        values: A number of each, float64 of shape (K,), NaN where there is none; None where none has one.

    Attributes:
        feature_names: Of the columns of :meth:`features`.
        likeness_EE: How readily one element takes another's place, float64 of shape (119, 119) by atomic number,
            symmetric: known pairs that differ by just this exchange over the geometric mean of the elements' numbers of
            known compounds.
    """

    def __init__(self, known: Compositions, values: np.ndarray | None = None) -> None:
        self.known, self.values = known, values
        self.feature_names = OF_KNOWN + (() if values is None else OF_VALUES)
        self._arrays = _arrays(known)
        hashes = known.hashes()
        self._first, _, self._table = matching.group(hashes, *self._arrays)
        if len(self._first) < len(known):
            raise ValueError(f"{len(known) - len(self._first)} of {len(known)} known compositions repeat another one")
        self._vocabulary = np.unique(self._arrays[1])
        pairs_EE = _count_pairs(*self._arrays, self._table, self._first, self._vocabulary)
        frequency_E = np.bincount(known.elements, minlength=_N_ATOMIC_NUMBERS).astype(np.float64)
        self._pair_EE = 1 / np.sqrt(np.outer(frequency_E, frequency_E) + _RARE)
        self.likeness_EE = pairs_EE * self._pair_EE

    def features(self, compositions: Compositions) -> np.ndarray:
        """Features of N reduced compositions, float64 of shape (N, A).

        Where no analogue has a value, the columns of values are the mean over all known ones, and the share of these
        with a value up to 0.
        """
        values = np.full(len(self.known), np.nan) if self.values is None else self.values
        rows_NA = _features(
            *_arrays(compositions),
            self._table,
            self._first,
            *self._arrays,
            self._vocabulary,
            self.likeness_EE,
            self._pair_EE,
            compositions.contained_in(self.known),
            np.asarray(values, dtype=np.float64),
        )
        rows_NA = rows_NA[:, : len(self.feature_names)]
        if self.values is not None:
            there = self.values[~np.isnan(self.values)]
            overall = [there.mean()] * 4 + [(there <= 0).mean()]
            without = np.isnan(rows_NA[:, len(OF_KNOWN) :]).any(axis=1)
            rows_NA[without, len(OF_KNOWN) :] = overall
        return np.round(rows_NA, _DECIMALS)

    def save(self, path: str | os.PathLike, provenance: dict | None = None) -> None:
        """Write the known compounds; what is counted in them is counted anew on reading."""
        values = (
            pa.nulls(len(self.known), pa.float64())
            if self.values is None
            else pa.array(self.values, mask=np.isnan(self.values))
        )
        tables.write(path, KNOWN, {**self.known.columns(), "value": values}, provenance)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Analogues":
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: The file is missing or damaged.
        """
        table = tables.read(path, KNOWN)
        values = table["value"].to_numpy()
        return cls(Compositions.from_table(table), None if np.isnan(values).all() else values)


def _arrays(compositions: Compositions) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return tuple(
        np.ascontiguousarray(each, dtype=np.int64)
        for each in (compositions.offsets, compositions.elements, compositions.counts)
    )


@numba.njit(inline="always")
def _token(element, count):
    """What one element adds to a composition's hash, as in ``matching.hash_rows``."""
    return matching.splitmix64((np.uint64(element) << np.uint64(16)) | np.uint64(count))


@numba.njit(nogil=True, cache=True)
def _find(
    hash_of, row, pair, element, offsets, elements, counts, table, first, known_offsets, known_elements, known_counts
):
    """The known compound that a row becomes when the element of one pair is exchanged, -1 if it is not known."""
    mask = np.uint64(len(table) - 1)
    low = np.uint64(0xFFFFFFFF)
    entry = (hash_of >> np.uint64(32)) * np.uint64(len(table)) >> np.uint64(32)
    start, end = offsets[row], offsets[row + 1]
    while table[entry] != 0:
        if table[entry] >> np.uint64(32) == hash_of & low:
            known = first[np.int64(table[entry] & low) - 1]
            if known_offsets[known + 1] - known_offsets[known] == end - start:
                same = True
                for other in range(known_offsets[known], known_offsets[known + 1]):
                    found = known_elements[other] == element and known_counts[other] == counts[pair]
                    for each in range(start, end):
                        if (
                            each != pair
                            and elements[each] == known_elements[other]
                            and counts[each] == known_counts[other]
                        ):
                            found = True
                    if not found:
                        same = False
                        break
                if same:
                    return known
        entry = (entry + np.uint64(1)) & mask
    return -1


@numba.njit(inline="always")
def _holds(element, start, end, elements):
    held = False
    for pair in range(start, end):
        held |= elements[pair] == element
    return held


@numba.njit(nogil=True, cache=True)
def _count_pairs(offsets, elements, counts, table, first, vocabulary):
    """How often exchanging one element for another makes a known compound of a known compound, of shape (119, 119)."""
    pairs_EE = np.zeros((119, 119))
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        total = np.uint64(0)
        for pair in range(start, end):
            total += _token(elements[pair], counts[pair])
        for pair in range(start, end):
            others = total - _token(elements[pair], counts[pair])
            for element in vocabulary:
                if _holds(element, start, end, elements):
                    continue
                hash_of = matching.splitmix64(others + _token(element, counts[pair]))
                if (
                    _find(
                        hash_of, row, pair, element, offsets, elements, counts, table, first, offsets, elements, counts
                    )
                    >= 0
                ):
                    pairs_EE[elements[pair], element] += 1
    return pairs_EE


@numba.njit(nogil=True, cache=True)
def _features(
    offsets,
    elements,
    counts,
    table,
    first,
    known_offsets,
    known_elements,
    known_counts,
    vocabulary,
    likeness_EE,
    pair_EE,
    is_known,
    values,
):
    """The columns of ``OF_KNOWN`` and ``OF_VALUES``, float64 of shape (N, 12).

    A known row and its analogue are one of the pairs that ``likeness_EE`` was counted from: that one is taken off, so
    that a known row's features are those which it would have if it were not known.
    """
    features_NA = np.full((len(offsets) - 1, 12), np.nan)
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        if start == end:
            continue
        total = np.uint64(0)
        for pair in range(start, end):
            total += _token(elements[pair], counts[pair])
        least_share, largest_share, sum_of_shares = np.inf, 0.0, 0.0
        least_weight, largest_weight = np.inf, 0.0
        number, nearest, best_with_value, nearest_value = 0, 0.0, 0.0, np.nan
        of_values, weighted, up_to_zero = 0.0, 0.0, 0.0
        least_value, largest_value = np.inf, -np.inf
        for pair in range(start, end):
            others = total - _token(elements[pair], counts[pair])
            known_weight, possible_weight = 0.0, 0.0
            for element in vocabulary:
                weight = likeness_EE[elements[pair], element]
                if weight == 0 or _holds(element, start, end, elements):
                    continue
                hash_of = matching.splitmix64(others + _token(element, counts[pair]))
                known = _find(
                    hash_of,
                    row,
                    pair,
                    element,
                    offsets,
                    elements,
                    counts,
                    table,
                    first,
                    known_offsets,
                    known_elements,
                    known_counts,
                )
                if known >= 0 and is_known[row]:
                    weight -= pair_EE[elements[pair], element]
                possible_weight += weight
                if known < 0 or weight < _LEAST_WEIGHT:
                    continue
                number += 1
                known_weight += weight
                nearest = max(nearest, weight)
                value = values[known]
                if not np.isnan(value):
                    if weight > best_with_value:
                        best_with_value, nearest_value = weight, value
                    of_values += weight
                    weighted += weight * value
                    up_to_zero += weight if value <= 0 else 0.0
                    least_value, largest_value = min(least_value, value), max(largest_value, value)
            share = known_weight / possible_weight if possible_weight > _LEAST_WEIGHT else 0.0
            least_share, largest_share = min(least_share, share), max(largest_share, share)
            sum_of_shares += share
            least_weight, largest_weight = min(least_weight, known_weight), max(largest_weight, known_weight)
        features_NA[row, 0], features_NA[row, 1] = least_share, largest_share
        features_NA[row, 2] = sum_of_shares / (end - start)
        features_NA[row, 3], features_NA[row, 4] = least_weight, largest_weight
        features_NA[row, 5], features_NA[row, 6] = number, nearest
        if of_values > 0:
            features_NA[row, 7], features_NA[row, 8] = nearest_value, weighted / of_values
            features_NA[row, 9], features_NA[row, 10] = least_value, largest_value
            features_NA[row, 11] = up_to_zero / of_values
    return features_NA
