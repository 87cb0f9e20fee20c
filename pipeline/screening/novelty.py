"""The known composition nearest to a formula.

Suffixes: N compositions, K known ones, Z atomic numbers.
"""

import numba
import numpy as np

from pipeline.composition import SYMBOLS, Compositions

_N_ATOMIC_NUMBERS = len(SYMBOLS) + 1


def nearest_known(compositions: Compositions, known: Compositions) -> tuple[np.ndarray, np.ndarray]:
    """The known composition nearest to each, by the sum of absolute differences of the element fractions.

    Args:
        compositions: N compositions.
        known: K compositions, at least one unless N is 0.

    Returns:
        Position in ``known`` (the first of equals), int64 of shape (N,), and distance, float64 of shape (N,): 0 for the
        same reduced formula, 2 when no element is shared.
    """
    by_element = np.argsort(known.elements, kind="stable")
    bounds_Z = np.searchsorted(known.elements[by_element], np.arange(_N_ATOMIC_NUMBERS + 1))
    nearest, shared = _nearest(
        compositions.offsets.astype(np.int64),
        compositions.elements.astype(np.int64),
        compositions.fractions(),
        bounds_Z,
        known.rows[by_element].astype(np.int64),
        known.offsets.astype(np.int64),
        known.elements.astype(np.int64),
        known.fractions(),
    )
    # Fractions add up to 1 on both sides, so the distance is 2 - 2 sum(min(a, b)): only shared elements count.
    return nearest, np.maximum(2 - 2 * shared, 0)


@numba.njit(nogil=True, cache=True)
def _nearest(offsets, elements, fractions, bounds_Z, rows, known_offsets, known_elements, known_fractions):
    """Position of the known composition that shares most with each row, and how much: sum of min(a, b).

    The rarest element's compounds are looked at first, and the common ones' only while a compound of these alone could
    still be nearer: it shares no more than their fractions.
    """
    nearest = np.zeros(len(offsets) - 1, dtype=np.int64)
    most = np.zeros(len(offsets) - 1)
    fraction_Z = np.zeros(len(bounds_Z))
    for row in range(len(offsets) - 1):
        pairs = np.arange(offsets[row], offsets[row + 1])
        frequency = bounds_Z[elements[pairs] + 1] - bounds_Z[elements[pairs]]
        left = 0.0
        for pair in pairs:
            fraction_Z[elements[pair]] = fractions[pair]
            left += fractions[pair]
        best, best_known = 0.0, 0
        for pair in pairs[np.argsort(frequency)]:
            if best > left + 1e-9:
                break
            left -= fractions[pair]
            for place in range(bounds_Z[elements[pair]], bounds_Z[elements[pair] + 1]):
                known = rows[place]
                shared = 0.0
                for each in range(known_offsets[known], known_offsets[known + 1]):
                    shared += min(known_fractions[each], fraction_Z[known_elements[each]])
                if shared > best or (shared == best and known < best_known):
                    best, best_known = shared, known
        nearest[row], most[row] = best_known, best
        for pair in pairs:
            fraction_Z[elements[pair]] = 0.0
    return nearest, most
