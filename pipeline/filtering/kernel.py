"""The compiled search for oxidation states, exact and one pass over compressed sparse rows.

Legend of suffixes: N compositions, M element-count pairs, S (element, oxidation state) pairs of the set. Verdicts are
positions in ``pipeline.filtering.schema.VERDICTS``; a test holds the two together.
"""

from typing import NamedTuple

import numba
import numpy as np

ELEMENT, ALLOY, BALANCED, NOT_BALANCED, NOT_NEUTRAL, UNKNOWN_ELEMENT = range(6)

MAX_MIXED_ASSIGNMENTS = 1_000_000
"""Beyond this number of assignments smact gives up and calls a mixed-valence formula invalid."""

MAX_SEARCHED_ELEMENTS = 10
"""Longer formulas are answered exactly, but without an assignment, whose search time grows exponentially."""


class ElementData(NamedTuple):
    """Element data by atomic number, index 0 unused.

    Attributes:
        starts: int64 of shape (120,); element z owns the states ``starts[z]:starts[z + 1]``, none where unknown.
        states: int64 of shape (S,), oxidation states, the most common of an element first.
        lowest, highest: int64 of shape (119,), the extreme states of each element; 0 where unknown.
        score: int64 of shape (S,), 1000 * ln(share of the element's reports), at most 0; integers, so that ties are
            ties on every machine.
        electronegativity: float64 of shape (119,), Pauling scale; NaN where smact has none.
        metal: bool of shape (119,).
        mixed: bool of shape (119,), elements whose atoms may differ in state; all False without mixed valence.
    """

    starts: np.ndarray
    states: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    score: np.ndarray
    electronegativity: np.ndarray
    metal: np.ndarray
    mixed: np.ndarray


@numba.njit(nogil=True, cache=True)
def judge(offsets, elements, counts, data, include_alloys, pauling):
    """Verdict and oxidation states of each composition.

    Args:
        offsets, elements, counts: Reduced compositions, as in ``Compositions``.
        data: :class:`ElementData`.
        include_alloys: Metals only pass untested.
        pauling: Apply the electronegativity test.

    Returns:
        Verdicts (uint8, N), whether a row has an assignment (bool, N), the assignments (int8, M).
    """
    n = len(offsets) - 1
    verdict = np.empty(n, dtype=np.uint8)
    has_states = np.zeros(n, dtype=np.bool_)
    found = np.zeros(len(elements), dtype=np.int8)
    for row in range(n):
        zs = elements[offsets[row] : offsets[row + 1]]
        atoms = counts[offsets[row] : offsets[row + 1]].astype(np.int64)
        all_metal, all_known, any_mixed, all_electronegative = True, len(zs) > 0, False, True
        for z in zs:
            all_metal &= data.metal[z]
            all_known &= data.starts[z + 1] > data.starts[z]
            any_mixed |= data.mixed[z]
            all_electronegative &= not np.isnan(data.electronegativity[z])
        if len(zs) == 1:
            verdict[row] = ELEMENT
        elif len(zs) > 1 and include_alloys and all_metal:
            verdict[row] = ALLOY
        elif not all_known:
            verdict[row] = UNKNOWN_ELEMENT
        else:
            mixed = any_mixed and _mixed_assignments(zs, atoms, data) <= MAX_MIXED_ASSIGNMENTS
            testable = all_electronegative or not pauling  # without an electronegativity the test never holds
            choice = found[offsets[row] : offsets[row + 1]]
            if testable and _solve(zs, atoms, data, pauling, choice):
                verdict[row] = BALANCED
                has_states[row] = len(zs) <= MAX_SEARCHED_ELEMENTS
            elif testable and mixed and _balances(zs, atoms, data, pauling, True):
                verdict[row] = BALANCED
            elif pauling and (
                _solve(zs, atoms, data, False, np.empty_like(choice))
                or (mixed and _balances(zs, atoms, data, False, True))
            ):
                verdict[row] = NOT_BALANCED
            else:
                verdict[row] = NOT_NEUTRAL
    return verdict, has_states, found


@numba.njit(nogil=True, cache=True)
def _solve(zs, atoms, data, pauling, choice):
    """Whether a neutral assignment with one state an element exists; written into ``choice`` unless too long."""
    if len(zs) <= MAX_SEARCHED_ELEMENTS:
        return _assign(zs, atoms, data, pauling, choice)
    return _balances(zs, atoms, data, pauling, False)


@numba.njit(nogil=True, cache=True)
def _assign(zs, atoms, data, pauling, choice):
    """Write the neutral assignment of the highest score into ``choice``; False, ``choice`` untouched, without one.

    Depth-first over the elements, most common states first. A branch ends where the remaining elements cannot bring
    the charge back to zero, where their best scores cannot beat the assignment in hand, or where the Pauling test
    fails. Of equal scores the first found stays.
    """
    n = len(zs)
    lowest, highest, best_rest = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    for k in range(n - 1, -1, -1):
        lowest[k] = lowest[k + 1] + data.lowest[zs[k]] * atoms[k]
        highest[k] = highest[k + 1] + data.highest[zs[k]] * atoms[k]
        best_rest[k] = best_rest[k + 1] + data.score[data.starts[zs[k]]]
    position = np.empty(n, np.int64)
    charge, score = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    cation, anion = np.full(n + 1, -np.inf), np.full(n + 1, np.inf)  # highest, lowest electronegativity so far
    found, best = False, 0
    k = 0
    position[0] = data.starts[zs[0]]
    while k >= 0:
        here = position[k]
        if here == data.starts[zs[k] + 1] or (found and score[k] + data.score[here] + best_rest[k + 1] <= best):
            k -= 1
            continue
        position[k] += 1
        state = data.states[here]
        total = charge[k] + state * atoms[k]
        if total + lowest[k + 1] > 0 or total + highest[k + 1] < 0:
            continue
        cation[k + 1], anion[k + 1] = cation[k], anion[k]
        if state > 0:
            cation[k + 1] = max(cation[k], data.electronegativity[zs[k]])
        elif state < 0:
            anion[k + 1] = min(anion[k], data.electronegativity[zs[k]])
        if pauling and cation[k + 1] >= anion[k + 1]:
            continue
        charge[k + 1], score[k + 1] = total, score[k] + data.score[here]
        k += 1
        if k < n:
            position[k] = data.starts[zs[k]]
            continue
        found, best = True, score[n]
        for i in range(n):
            choice[i] = data.states[position[i] - 1]
        k -= 1
    return found


@numba.njit(nogil=True, cache=True)
def _mixed_assignments(zs, atoms, data):
    """Assignments that smact would enumerate with each atom of a mixed-valence element on its own; float64."""
    product = 1.0
    for k in range(len(zs)):
        options = float(data.starts[zs[k] + 1] - data.starts[zs[k]])
        product *= options ** atoms[k] if data.mixed[zs[k]] else options
    return product


@numba.njit(nogil=True, cache=True)
def _balances(zs, atoms, data, pauling, mixed):
    """Whether some assignment is neutral; with ``mixed``, atoms of mixed-valence elements choose one by one.

    The Pauling test holds exactly when some electronegativity has no negative state at or below it and no positive
    state above it, so each electronegativity in the formula is tried as that border.
    """
    if not pauling:
        return _sums_to_zero(zs, atoms, data, mixed, np.nan)
    found = False
    for z in zs:
        found = found or _sums_to_zero(zs, atoms, data, mixed, data.electronegativity[z])
    return found


@numba.njit(nogil=True, cache=True)
def _sums_to_zero(zs, atoms, data, mixed, border):
    """Whether zero is among the sums of charges, states limited by sign on either side of ``border`` unless it is NaN.

    The set of reachable charges grows site by site: an atom of a mixed-valence element (with ``mixed``), or an element.
    """
    reach = 0
    for k in range(len(zs)):
        reach += max(-data.lowest[zs[k]], data.highest[zs[k]]) * atoms[k]
    reachable = np.zeros(2 * reach + 1, dtype=np.bool_)
    reachable[reach] = True
    low, high = reach, reach  # reachable charges lie between
    for k in range(len(zs)):
        first, last = data.starts[zs[k]], data.starts[zs[k] + 1]
        apart = mixed and data.mixed[zs[k]] and last - first > 1
        for _ in range(atoms[k] if apart else 1):
            grown = np.zeros_like(reachable)
            new_low, new_high = len(reachable), -1
            for i in range(first, last):
                state = data.states[i]
                if (state < 0 and data.electronegativity[zs[k]] <= border) or (
                    state > 0 and data.electronegativity[zs[k]] > border
                ):
                    continue
                step = state if apart else state * atoms[k]
                for charge in range(low, high + 1):
                    grown[charge + step] |= reachable[charge]
                new_low, new_high = min(new_low, low + step), max(new_high, high + step)
            if new_high < 0:
                return False
            reachable, low, high = grown, new_low, new_high
    return reachable[reach]
