"""The compiled search for oxidation states, exact and one pass over compressed sparse rows.

A Pauling-balanced assignment parts the elements of a formula, in order of electronegativity, in two: those before the
border take states of zero or more, those behind it states of zero or less. So each element has three lists of states
(``ANY``, ``CATION``, ``ANION``), and the test is a search for a neutral sum for each border that the lists leave.

Legend of suffixes: N compositions, M element-count pairs, Z atomic numbers (0 to 118), S (element, oxidation state)
pairs of the three lists together. Verdicts are positions in ``pipeline.filtering.schema.VERDICTS``; a test holds the
two together. Arrays are few and of records, since a compiled call hands on every field of every array.
"""

import numba
import numpy as np

(
    ELEMENT,
    ALLOY,
    BALANCED,
    NOT_BALANCED,
    NOT_NEUTRAL,
    UNKNOWN_ELEMENT,
    UNKNOWN_ELECTRONEGATIVITY,
    TOO_LARGE_FOR_SMACT,
) = range(8)

ANY, CATION, ANION = range(3)
MAX_STATE = 9

MAX_MIXED_ASSIGNMENTS = 1_000_000
"""Beyond this number of assignments smact gives up and calls a mixed-valence formula invalid."""

MAX_SEARCHED_ELEMENTS = 10
"""Longer formulas are answered exactly, but without an assignment, whose search time grows exponentially."""


ELEMENT_DATA = np.dtype(
    [
        ("first", np.int32, 3),
        ("last", np.int32, 3),
        ("lowest", np.int32, 3),
        ("highest", np.int32, 3),
        ("electronegativity", np.int32),
        ("metal", np.bool_),
        ("mixed", np.bool_),
        ("place", np.int8, 2 * MAX_STATE + 1),
    ]
)
"""One record an element, by atomic number.

- ``first``, ``last``: where each of the element's three lists stands in the states; equal where it is empty.
- ``lowest``, ``highest``: the extreme states of each list; 0 where it is empty.
- ``electronegativity``: rank on the Pauling scale, equal where equal; -1 where smact has none.
- ``metal``, and ``mixed``: whether the element's atoms may differ in state, False without mixed valence.
- ``place``: where in the list ``ANY`` the state (index: state + ``MAX_STATE``) stands; -1 where it does not.
"""

STATE_DATA = np.dtype([("state", np.int32), ("score", np.int32)])
"""One record a state of a list, the most common of an element first. The score is 1000 * ln(share of the element's
reports), at most 0: integers, so that ties are ties on every machine."""

SITE = np.dtype(
    [(name, np.int32) for name in ("z", "electronegativity", "atoms", "pair", "first", "last", "low", "high", "parts")]
)
"""An element of the formula in hand, in order of electronegativity.

- ``z``, ``electronegativity``, ``atoms``, and ``pair``: where in the row it stands.
- ``first``, ``last``: the list that it takes its state from.
- ``low``, ``high``: least and largest charge of its atoms, from that list; of all before it while borders are marked.
- ``parts``: whether the border before it could balance.
"""

LEVEL = np.dtype(
    [
        (name, np.int32)
        for name in (
            *("atoms", "first", "last", "pair", "site"),
            *("low", "high", "score", "charge", "gained", "at", "trial", "chosen"),
        )
    ]
)
"""A level of the search.

- ``atoms``, ``first``, ``last``, ``pair``, and ``site``: the element that chooses here.
- ``low``, ``high``, ``score``: least and largest charge and best score of the elements from here on.
- ``charge``, ``gained``: charge and score of the elements before.
- ``at``: the state in hand.
- ``trial``, ``chosen``: states of an assignment and of the best one; by place in the row, not by level.
"""

_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")


@_compiled
def judge(offsets, elements, counts, data, states, include_alloys, pauling):
    """Verdict and oxidation states of each composition.

    Args:
        offsets, elements, counts: As in ``Compositions``; need not be reduced.
        data: ``ELEMENT_DATA`` of shape (Z,).
        states: ``STATE_DATA`` of shape (S,).
        include_alloys: Metals only pass untested.
        pauling: Apply the electronegativity test.

    Returns:
        Verdicts (uint8, N), whether a row has an assignment (bool, N), the assignments (int8, M).
    """
    n_rows = len(offsets) - 1
    verdict = np.empty(n_rows, dtype=np.uint8)
    has_states = np.zeros(n_rows, dtype=np.bool_)
    found = np.zeros(len(elements), dtype=np.int8)
    longest = 0
    for row in range(n_rows):
        longest = max(longest, offsets[row + 1] - offsets[row])
    sites, levels = np.empty(longest + 1, dtype=SITE), np.empty(longest + 1, dtype=LEVEL)
    for row in range(n_rows):
        begin, n = offsets[row], offsets[row + 1] - offsets[row]
        if n == 1:
            verdict[row] = ELEMENT
            continue
        all_metal, all_known, any_mixed, all_electronegative = True, n > 0, False, True
        low = high = 0
        for i in range(begin, begin + n):
            element = data[elements[i]]
            all_metal &= element.metal
            all_known &= element.last[ANY] > element.first[ANY]
            any_mixed |= element.mixed
            all_electronegative &= element.electronegativity >= 0
            low += element.lowest[ANY] * counts[i]
            high += element.highest[ANY] * counts[i]
        if n > 1 and include_alloys and all_metal:
            verdict[row] = ALLOY
            continue
        if not all_known:
            verdict[row] = UNKNOWN_ELEMENT
            continue
        if low > 0 or high < 0:
            verdict[row] = NOT_NEUTRAL
            continue
        _fill(elements[begin : begin + n], counts[begin : begin + n], data, sites)
        testable = all_electronegative or not pauling
        if testable and _one_state_each(n, data, states, sites, levels, pauling):
            verdict[row] = BALANCED
            if n <= MAX_SEARCHED_ELEMENTS:
                has_states[row] = True
                for i in range(n):
                    found[begin + i] = levels[i].chosen
            continue
        any_mixed = any_mixed and _atoms_may_differ(n, data, sites)
        if testable and any_mixed and _mixed_states(n, data, states, sites, pauling):
            followed = _mixed_assignments(n, data, sites) <= MAX_MIXED_ASSIGNMENTS
            verdict[row] = BALANCED if followed else TOO_LARGE_FOR_SMACT
        elif pauling and (
            _neutral(n, data, states, sites, levels, True)
            or (any_mixed and _mixed_states(n, data, states, sites, False))
        ):
            verdict[row] = NOT_BALANCED if all_electronegative else UNKNOWN_ELECTRONEGATIVITY
        else:
            verdict[row] = NOT_NEUTRAL
    return verdict, has_states, found


@_compiled
def _fill(elements, counts, data, sites):
    """Sort a row into the sites, elements without an electronegativity first."""
    for i in range(len(elements)):
        electronegativity = data[elements[i]].electronegativity
        k = i
        while k > 0 and sites[k - 1].electronegativity > electronegativity:
            sites[k].z, sites[k].electronegativity = sites[k - 1].z, sites[k - 1].electronegativity
            sites[k].atoms, sites[k].pair = sites[k - 1].atoms, sites[k - 1].pair
            k -= 1
        sites[k].z, sites[k].electronegativity = elements[i], electronegativity
        sites[k].atoms, sites[k].pair = counts[i], i


@_compiled
def _atoms_may_differ(n, data, sites):
    """Divide the atoms by their common divisor; whether a mixed-valence element has two atoms and two states."""
    divisor = sites[0].atoms
    for k in range(1, n):
        other = sites[k].atoms
        while other:
            divisor, other = other, divisor % other
    may_differ = False
    for k in range(n):
        sites[k].atoms //= divisor
        element = data[sites[k].z]
        may_differ |= element.mixed and sites[k].atoms > 1 and element.last[ANY] - element.first[ANY] > 1
    return may_differ


@_compiled
def _one_state_each(n, data, states, sites, levels, pauling):
    """Whether some assignment of one state an element holds; of up to ten elements the best is in ``chosen``."""
    if not pauling:
        return _neutral(n, data, states, sites, levels, False)
    found, best = False, 0
    _mark_borders(n, data, sites)
    for border in range(n, 0, -1):
        if sites[border].parts:
            _take_lists(n, data, sites, CATION, ANION, border)
            if n > MAX_SEARCHED_ELEMENTS:
                found = found or _sums_to_zero(n, data, states, sites, False)
            else:
                found, best = _search(n, data, states, sites, levels, found, best, False)
    return found


@_compiled
def _neutral(n, data, states, sites, levels, any_will_do):
    """Whether some assignment of one state an element is neutral; see :func:`_search`."""
    _take_lists(n, data, sites, ANY, ANY, n)
    if n > MAX_SEARCHED_ELEMENTS:
        return _sums_to_zero(n, data, states, sites, False)
    return _search(n, data, states, sites, levels, False, 0, any_will_do)[0]


@_compiled
def _mixed_states(n, data, states, sites, pauling):
    """Whether some assignment holds, atoms of mixed-valence elements choosing one by one."""
    if not pauling:
        _take_lists(n, data, sites, ANY, ANY, n)
        return _sums_to_zero(n, data, states, sites, True)
    _mark_borders(n, data, sites)
    for border in range(n, 0, -1):
        if sites[border].parts:
            _take_lists(n, data, sites, CATION, ANION, border)
            if _sums_to_zero(n, data, states, sites, True):
                return True
    return False


@_compiled
def _mark_borders(n, data, sites):
    """Find the borders, from 1 to ``n``, that could balance, and mark them in ``parts``.

    Such a border does not part elements of equal electronegativity, leaves each element before it a cation state and
    each behind it an anion state, and zero lies between the least and the largest sum. (Border 0, anions only, is
    neutral where all states are zero, as at border ``n``.)
    """
    first, last = 1, n
    low = high = 0
    for k in range(n):
        element, atoms = data[sites[k].z], sites[k].atoms
        if element.first[ANION] == element.last[ANION]:
            first = k + 1
        if element.first[CATION] == element.last[CATION]:
            last = min(last, k)
        low += element.lowest[CATION] * atoms
        high += element.highest[CATION] * atoms
        sites[k + 1].low, sites[k + 1].high = low, high
    low = high = 0
    for border in range(n, 0, -1):
        sites[border].parts = (
            first <= border <= last
            and sites[border].low + low <= 0 <= sites[border].high + high
            and (border == n or sites[border - 1].electronegativity < sites[border].electronegativity)
        )
        element, atoms = data[sites[border - 1].z], sites[border - 1].atoms
        low += element.lowest[ANION] * atoms
        high += element.highest[ANION] * atoms


@_compiled
def _take_lists(n, data, sites, before, behind, border):
    """Let each site take its state from a list."""
    for k in range(n):
        kind = before if k < border else behind
        element, atoms = data[sites[k].z], sites[k].atoms
        sites[k].first, sites[k].last = element.first[kind], element.last[kind]
        sites[k].low, sites[k].high = element.lowest[kind] * atoms, element.highest[kind] * atoms


@_compiled
def _search(n, data, states, sites, levels, found, best, any_will_do):
    """Look for the neutral assignment of the highest score, each state from the element's list.

    Depth-first, elements of fewest states first; the state of the last follows from the charge that is left. A branch
    ends where the remaining elements cannot bring the charge back to zero, or where their best scores cannot reach
    the assignment in hand. Of equal scores the one is taken whose states come first in the lists ``ANY``, element by
    element of the row.

    Args:
        found, best: Whether ``chosen`` already holds an assignment, and its score.
        any_will_do: Stop at the first assignment, and write none.

    Returns:
        ``found`` and ``best``, with the assignments of these lists.
    """
    for i in range(n):
        size = sites[i].last - sites[i].first
        k = i
        while k > 0 and sites[levels[k - 1].site].last - sites[levels[k - 1].site].first > size:
            levels[k].site = levels[k - 1].site
            k -= 1
        levels[k].site = i
    low = high = score = 0
    levels[n].low = levels[n].high = levels[n].score = 0
    for k in range(n - 1, -1, -1):
        site = sites[levels[k].site]
        low, high, score = low + site.low, high + site.high, score + states[site.first].score
        levels[k].low, levels[k].high, levels[k].score = low, high, score
        levels[k].atoms, levels[k].pair = site.atoms, site.pair
        levels[k].first, levels[k].last = site.first, site.last
    last_atoms, last_pair = levels[n - 1].atoms, levels[n - 1].pair
    last_element = data[sites[levels[n - 1].site].z]
    k = 0
    levels[0].charge = levels[0].gained = 0
    levels[0].at = levels[0].first
    while k >= 0:
        here = levels[k].at
        if here == levels[k].last:
            k -= 1
            continue
        gained = levels[k].gained + states[here].score
        if found and gained + levels[k + 1].score < best:
            k -= 1
            continue
        levels[k].at = here + 1
        state = states[here].state
        charge = levels[k].charge + state * levels[k].atoms
        if charge + levels[k + 1].low > 0 or charge + levels[k + 1].high < 0:
            continue
        levels[levels[k].pair].trial = state
        if k < n - 2:
            k += 1
            levels[k].charge, levels[k].gained, levels[k].at = charge, gained, levels[k].first
            continue
        state = -charge // last_atoms
        if state * last_atoms != -charge or last_element.place[state + MAX_STATE] < 0:
            continue
        if any_will_do:
            return True, 0
        gained += states[last_element.first[ANY] + last_element.place[state + MAX_STATE]].score
        levels[last_pair].trial = state
        if not found or gained > best or (gained == best and _comes_first(n, data, sites, levels)):
            found, best = True, gained
            for i in range(n):
                levels[i].chosen = levels[i].trial
    return found, best


@_compiled
def _comes_first(n, data, sites, levels):
    """Whether the first state, in the order of the row, that ``trial`` and ``chosen`` differ in is further up in it."""
    for pair in range(n):
        for k in range(n):
            if sites[k].pair == pair and levels[pair].trial != levels[pair].chosen:
                place = data[sites[k].z].place
                return place[levels[pair].trial + MAX_STATE] < place[levels[pair].chosen + MAX_STATE]
    return False


@_compiled
def _mixed_assignments(n, data, sites):
    """Assignments that smact would enumerate with each atom of a mixed-valence element on its own; float64."""
    product = 1.0
    for k in range(n):
        element = data[sites[k].z]
        options = float(element.last[ANY] - element.first[ANY])
        product *= options ** sites[k].atoms if element.mixed else options
    return product


@_compiled
def _sums_to_zero(n, data, states, sites, mixed):
    """Whether zero is among the sums of charges, states from each element's list.

    The set of reachable charges grows element by element. With ``mixed`` the atoms of a mixed-valence element choose
    one by one: all take the lowest state, and a charge above that is reachable where the fewest atoms that must be
    raised to get there, known for every charge from those for smaller ones, are not more than there are.
    """
    low = high = 0
    for k in range(n):
        low += sites[k].low
        high += sites[k].high
    width = high - low + 1  # charges are counted from the sum of the lowest
    reachable, grown = np.zeros(width, dtype=np.bool_), np.zeros(width, dtype=np.bool_)
    raised = np.empty(width if mixed else 0, dtype=np.int32)
    reachable[0] = True
    top = 0
    for k in range(n):
        atoms = sites[k].atoms
        lowest = sites[k].low // atoms
        new_top = top + sites[k].high - sites[k].low
        if mixed and data[sites[k].z].mixed:
            for charge in range(new_top + 1):
                fewest = 0 if charge <= top and reachable[charge] else atoms + 1
                for i in range(sites[k].first, sites[k].last):
                    step = states[i].state - lowest
                    if 0 < step <= charge:
                        fewest = min(fewest, raised[charge - step] + 1)
                raised[charge] = fewest
            for charge in range(new_top + 1):
                grown[charge] = raised[charge] <= atoms
        else:
            grown[: new_top + 1] = False
            for i in range(sites[k].first, sites[k].last):
                step = (states[i].state - lowest) * atoms
                for charge in range(top + 1):
                    grown[charge + step] |= reachable[charge]
        reachable, grown, top = grown, reachable, new_top
    return reachable[-low]
