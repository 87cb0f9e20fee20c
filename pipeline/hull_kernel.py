"""Compiled search for the lowest mixture of references at a composition: a small linear programme for each.

The hull's energy at element fractions x is min sum(share_i f_i) over shares >= 0 with sum(share_i x_i) = x, f being
formation energies. It is solved by the simplex method (Dantzig 1951) from the elements as basis, with Bland's rule
(Bland 1977, doi:10.1287/moor.2.2.103) wherever a step has length 0, so that it ends. The shares add to 1, so that the
energy found is at most the largest violation above the minimum: 1e-13 of the energies or potentials, ten times more
each time that rounding has led the search astray. What rounding leaves over of a mixture or a price is shared out once
more, which makes up for compositions that hardly differ.

The references that lie within a system are found in a trie of element sets, each a path of ascending atomic numbers.
All stands in one module because numba's cache of a function does not see changes in another.

Legend: N compositions, M element-count pairs, R references, K nodes of the trie, D elements of a system, C columns:
the references of a system.
"""

from typing import NamedTuple

import numba
import numpy as np

from pipeline.composition import SYMBOLS

LEAST_BINDING_EV_PER_ATOM = 1e-11
"""Compounds that bind less are not on a hull: ``PhaseDiagram.formation_energy_tol`` of pymatgen."""
LEAST_SHARE = 1e-8
"""Smaller shares of a decomposition are 0: ``PhaseDiagram.numerical_tol`` of pymatgen."""
_ABOVE_EV_PER_ATOM = 1e-12  # references higher above the hull of their own elements are on none
_VIOLATION = 1e-13  # of a reduced cost, against the largest energy or potential
_PIVOT = 1e-10
_STEPS = 50  # for each element, after which the basis is solved afresh
_RADIX = 128  # of the trie's keys: above all atomic numbers
_N_ATOMIC_NUMBERS = len(SYMBOLS) + 1
_compiled = numba.njit(nogil=True, cache=True, error_model="numpy")
_inlined = numba.njit(nogil=True, cache=True, error_model="numpy", inline="always")  # a call counts all arrays' owners


class References(NamedTuple):
    """The lowest reference of each composition, those of one system together, fewer elements first.

    Attributes:
        offsets, elements: Compressed sparse rows, as in ``Compositions``.
        shares: float64 of shape (M,), element fractions.
        formation: float64 of shape (R,), formation energies; NaN where an element has no reference.
        nodes: int64 of shape (R,), system of each.
    """

    offsets: np.ndarray
    elements: np.ndarray
    shares: np.ndarray
    formation: np.ndarray
    nodes: np.ndarray


class Trie(NamedTuple):
    """The systems of the references.

    Attributes:
        keys: int64, a hash table with open addressing: ``128 * node + atomic number``, -1 where free.
        children: int64, the node that a key leads to; node 0 is the root.
        counts: int64 of shape (K,), references of just these elements, polymorphs among them.
        starts: int64 of shape (K,), where a system's references on its hull start in ``stable``.
        ends: int64 of shape (K,), and where they end.
        stable: int64 of shape (R,), places of references.
    """

    keys: np.ndarray
    children: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    stable: np.ndarray


class _Workspace(NamedTuple):
    """Room for one system.

    Attributes:
        columns: int64 of shape (C,), places of references.
        fractions: float64 of shape (D, C), their element fractions.
        energies, costs: float64 of shape (C,), their formation energies, and these less those of the basis.
        corners: int64 of shape (D,), columns of the elements.
        basis: int64 of shape (D,), columns of the phases that are mixed.
        vertices: float64 of shape (D, D), fractions of each phase of the basis.
        inverse: float64 of shape (D, 2 D), in its left half the inverse of the transpose of ``vertices``.
        potentials: float64 of shape (D,), of the elements.
        mixture: float64 of shape (D,), share of each phase of the basis.
        entering, direction, rest: float64 of shape (D,), fractions of the column that enters, the mixture that it takes
            the place of, and what rounding leaves over.
    """

    columns: np.ndarray
    fractions: np.ndarray
    energies: np.ndarray
    costs: np.ndarray
    corners: np.ndarray
    basis: np.ndarray
    vertices: np.ndarray
    inverse: np.ndarray
    potentials: np.ndarray
    mixture: np.ndarray
    entering: np.ndarray
    direction: np.ndarray
    rest: np.ndarray


@_compiled
def systems(offsets, elements):
    """The trie of all systems.

    Returns:
        ``keys`` and ``children`` of :class:`Trie`, the number of nodes, and the node of each composition.
    """
    room = 16
    while room < 2 * len(elements):
        room *= 2
    keys, children = np.full(room, -1, dtype=np.int64), np.zeros(room, dtype=np.int64)
    nodes = np.zeros(len(offsets) - 1, dtype=np.int64)
    n_nodes = 1
    for row in range(len(nodes)):
        node = 0
        for z in np.sort(elements[offsets[row] : offsets[row + 1]]):
            place = _place(keys, node * _RADIX + z)
            if keys[place] == -1:
                keys[place], children[place] = node * _RADIX + z, n_nodes
                n_nodes += 1
            node = children[place]
        nodes[row] = node
    return keys, children, n_nodes, nodes


@_compiled
def find_stable(references, trie):
    """Fill ``ends`` and ``stable`` of the trie: references that are on the hull of their own elements.

    No other can be on the hull of a larger system, of which theirs is a face.
    """
    n = len(references.nodes)
    work = _workspace(references, n, _longest(references.offsets))
    zs, place = np.empty(len(work.basis), dtype=np.int64), _nowhere()
    shares = np.empty(len(work.basis))
    first = 0
    while first < n:
        node = references.nodes[first]
        last = first
        while last < n and references.nodes[last] == node:
            last += 1
        start = trie.starts[node]
        d = _sorted_row(references.offsets, references.elements, references.shares, first, zs, shares)
        _set_places(zs, d, place, True)
        n_columns, _, whole = _gather(zs, d, place, references, trie, work)
        if d == 1:
            trie.stable[start] = first
            trie.ends[node] = start + 1
        elif whole:
            for reference in range(first, last):
                if references.formation[reference] < -LEAST_BINDING_EV_PER_ATOM:
                    n_columns = _add_column(reference, n_columns, d, place, references, work)
            end = start
            for reference in range(first, last):
                if references.formation[reference] < -LEAST_BINDING_EV_PER_ATOM:
                    _sorted_row(references.offsets, references.elements, references.shares, reference, zs, shares)
                    energy = _lowest_mixture(shares, d, n_columns, work)
                    if references.formation[reference] - energy <= _ABOVE_EV_PER_ATOM:
                        trie.stable[end] = reference
                        end += 1
            trie.ends[node] = end
        _set_places(zs, d, place, False)
        first = last


@_compiled
def decompose(offsets, elements, fractions, references, trie):
    """The hull at each composition; rows of one system after another are faster.

    Args:
        offsets, elements: Compositions, as in ``Compositions``.
        fractions: float64 of shape (M,), element fractions.
        references: :class:`References`.
        trie: :class:`Trie`.

    Returns:
        Energy of the hull above the elements (float64, N; NaN where an element has no reference), references within
        the system (int64, N), those among them that are compounds (int64, N), phases (int64, M; row by row, -1 for
        none) and their shares of the atoms (float64, M).
    """
    n = len(offsets) - 1
    hull = np.full(n, np.nan)
    n_references, n_compounds = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    phases, amounts = np.full(len(elements), -1, dtype=np.int64), np.zeros(len(elements))
    work = _workspace(references, len(trie.stable), max(_longest(offsets), 1))
    zs, before = np.empty(len(work.basis), dtype=np.int64), np.zeros(len(work.basis), dtype=np.int64)
    shares, place = np.empty(len(work.basis)), _nowhere()
    d_before, n_columns, counts, whole = 0, 0, (0, 0), False
    for row in range(n):
        d = _sorted_row(offsets, elements, fractions, row, zs, shares)
        if d != d_before or (zs[:d] != before[:d]).any():
            _set_places(before, d_before, place, False)
            _set_places(zs, d, place, True)
            before[:d], d_before = zs[:d], d
            n_columns, counts, whole = _gather(zs, d, place, references, trie, work)
        n_references[row], n_compounds[row] = counts
        if not whole:
            continue
        hull[row] = _lowest_mixture(shares, d, n_columns, work)
        found = offsets[row]
        for k in range(d):
            if work.mixture[k] > LEAST_SHARE:
                phases[found], amounts[found] = work.columns[work.basis[k]], work.mixture[k]
                found += 1
    return hull, n_references, n_compounds, phases, amounts


@_compiled
def _place(keys, key):
    """Where a key stands in the hash table, or would."""
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    place = np.int64(mixed >> np.uint64(32)) & (len(keys) - 1)
    while keys[place] != -1 and keys[place] != key:
        place = (place + 1) & (len(keys) - 1)
    return place


@_compiled
def _longest(offsets):
    longest = 0
    for row in range(len(offsets) - 1):
        longest = max(longest, offsets[row + 1] - offsets[row])
    return longest


@_compiled
def _workspace(references, n_columns, d):
    return _Workspace(
        np.empty(n_columns, dtype=np.int64),
        np.empty((d, n_columns)),
        np.empty(n_columns),
        np.empty(n_columns),
        np.empty(d, dtype=np.int64),
        np.empty(d, dtype=np.int64),
        np.empty((d, d)),
        np.empty((d, 2 * d)),
        np.empty(d),
        np.empty(d),
        np.empty(d),
        np.empty(d),
        np.empty(d),
    )


@_compiled
def _nowhere():
    return np.full(_N_ATOMIC_NUMBERS, -1, dtype=np.int64)


@_compiled
def _set_places(zs, d, place, here):
    """Note, or forget, the place of each element within its system."""
    for j in range(d):
        place[zs[j]] = j if here else -1


@_compiled
def _sorted_row(offsets, elements, fractions, row, zs, shares):
    """Write a row's elements, ascending, and their fractions; return how many."""
    d = 0
    for i in range(offsets[row], offsets[row + 1]):
        j = d
        while j > 0 and zs[j - 1] > elements[i]:
            zs[j], shares[j] = zs[j - 1], shares[j - 1]
            j -= 1
        zs[j], shares[j] = elements[i], fractions[i]
        d += 1
    return d


@_compiled
def _gather(zs, d, place, references, trie, work):
    """Make columns of the references on the hulls of a system and of all within it.

    Returns:
        Number of columns; references within the system, and compounds among them; whether each element has one.
    """
    n_columns, n_references, n_elements, n_corners = 0, 0, 0, 0
    waiting = np.empty((d * d + 1, 2), dtype=np.int64)  # nodes, and the element that may follow
    waiting[0, 0], waiting[0, 1], n_waiting = 0, 0, 1
    while n_waiting:
        n_waiting -= 1
        node, start = waiting[n_waiting]
        for j in range(start, d):
            at = _place(trie.keys, node * _RADIX + zs[j])
            if trie.keys[at] == -1:
                continue
            child = trie.children[at]
            n_references += trie.counts[child]
            if node == 0 and trie.counts[child]:
                n_elements += trie.counts[child]
                work.corners[n_corners] = n_columns
                n_corners += 1
            for i in range(trie.starts[child], trie.ends[child]):
                n_columns = _add_column(trie.stable[i], n_columns, d, place, references, work)
            waiting[n_waiting, 0], waiting[n_waiting, 1] = child, j + 1
            n_waiting += 1
    return n_columns, (n_references, n_references - n_elements), n_corners == d


@_compiled
def _add_column(reference, n_columns, d, place, references, work):
    work.columns[n_columns] = reference
    work.energies[n_columns] = references.formation[reference]
    for j in range(d):
        work.fractions[j, n_columns] = 0.0
    for i in range(references.offsets[reference], references.offsets[reference + 1]):
        work.fractions[place[references.elements[i]], n_columns] = references.shares[i]
    return n_columns + 1


@_compiled
def _lowest_mixture(shares, d, n_columns, work):
    """Energy of the lowest mixture of the columns at these fractions; ``basis`` and ``mixture`` say of what."""
    largest = 0.0
    for column in range(n_columns):
        largest = max(largest, abs(work.energies[column]))
    for k in range(d):
        work.basis[k], work.mixture[k] = work.corners[k], shares[k]
        for j in range(d):
            work.inverse[k, j] = work.vertices[k, j] = 1.0 if j == k else 0.0
    steps, stands, violation = 0, False, _VIOLATION
    entering = _entering(d, n_columns, largest, stands, violation, work)
    while entering >= 0:
        while entering >= 0 and steps < _STEPS * d:
            stands = _exchange(entering, d, stands, work)
            steps += 1
            entering = _entering(d, n_columns, largest, stands, violation, work)
        _solve_afresh(shares, d, work)
        steps, stands = 0, False
        entering = _entering(d, n_columns, largest, stands, violation, work)
        violation *= 10
    energy = 0.0
    for k in range(d):
        energy += work.mixture[k] * work.energies[work.basis[k]]
    return energy


@_inlined
def _entering(d, n_columns, largest, stands, violation, work):
    """The column furthest below the plane of the basis, or, after a step of no length, the first; -1 for none."""
    _price(d, work)
    for j in range(d):
        largest = max(largest, abs(work.potentials[j]))
    costs = work.costs
    for column in range(n_columns):
        costs[column] = work.energies[column]
    for j in range(d):
        potential = work.potentials[j]
        for column in range(n_columns):
            costs[column] -= potential * work.fractions[j, column]
    for k in range(d):
        costs[work.basis[k]] = 0.0
    lowest, entering = -violation * largest, -1
    for column in range(n_columns):
        if costs[column] < lowest:
            lowest, entering = costs[column], column
            if stands:
                break
    return entering


@_inlined
def _exchange(entering, d, stands, work):
    """Let a column into the basis for the first whose share falls to 0; return whether the step has no length."""
    direction, mixture, inverse = work.direction, work.mixture, work.inverse
    for j in range(d):
        work.entering[j] = work.fractions[j, entering]
    _mix(work.entering, d, direction, work)
    leaving, step = -1, np.inf
    for k in range(d):
        if direction[k] <= _PIVOT:
            continue
        ratio = max(mixture[k], 0.0) / direction[k]
        if leaving >= 0 and abs(ratio - step) <= 1e-14:
            # Of equal ones the first column by Bland's rule, else the safest to divide by.
            if work.basis[k] < work.basis[leaving] if stands else direction[k] > direction[leaving]:
                leaving, step = k, min(ratio, step)
        elif ratio < step:
            leaving, step = k, ratio
    for j in range(d):
        work.vertices[leaving, j] = work.entering[j]
        inverse[leaving, j] /= direction[leaving]
    for k in range(d):
        if k != leaving:
            mixture[k] = max(mixture[k] - step * direction[k], 0.0)
            for j in range(d):
                inverse[k, j] -= direction[k] * inverse[leaving, j]
    work.basis[leaving], mixture[leaving] = entering, step
    return step <= 1e-14


@_compiled
def _solve_afresh(shares, d, work):
    """Inverse of the basis and its mixture, by elimination, without the rounding of the steps that led there."""
    matrix = work.inverse
    for j in range(d):
        for k in range(d):
            matrix[j, k] = work.vertices[k, j]
            matrix[j, d + k] = 1.0 if j == k else 0.0
    for k in range(d):
        pivot = k
        for j in range(k + 1, d):
            if abs(matrix[j, k]) > abs(matrix[pivot, k]):
                pivot = j
        for i in range(2 * d):
            matrix[k, i], matrix[pivot, i] = matrix[pivot, i], matrix[k, i]
        divisor = matrix[k, k]
        for i in range(2 * d):
            matrix[k, i] /= divisor
        for j in range(d):
            if j != k and matrix[j, k] != 0:
                factor = matrix[j, k]
                for i in range(k, 2 * d):
                    matrix[j, i] -= factor * matrix[k, i]
    for k in range(d):
        for j in range(d):
            matrix[k, j] = matrix[k, d + j]
    _mix(shares, d, work.mixture, work)


@_inlined
def _mix(shares, d, mixture, work):
    """Write the mixture of the basis that has these fractions; what rounding leaves over is shared out once more."""
    rest = work.rest
    for k in range(d):
        share = 0.0
        for j in range(d):
            share += work.inverse[k, j] * shares[j]
        mixture[k] = share
    for j in range(d):
        left = shares[j]
        for k in range(d):
            left -= mixture[k] * work.vertices[k, j]
        rest[j] = left
    for k in range(d):
        share = mixture[k]
        for j in range(d):
            share += work.inverse[k, j] * rest[j]
        mixture[k] = share


@_inlined
def _price(d, work):
    """Write the potentials of the elements at which the phases of the basis cost nothing, as :func:`_mix` does."""
    potentials, rest = work.potentials, work.rest
    for j in range(d):
        potential = 0.0
        for k in range(d):
            potential += work.energies[work.basis[k]] * work.inverse[k, j]
        potentials[j] = potential
    for k in range(d):
        left = work.energies[work.basis[k]]
        for j in range(d):
            left -= potentials[j] * work.vertices[k, j]
        rest[k] = left
    for j in range(d):
        potential = potentials[j]
        for k in range(d):
            potential += rest[k] * work.inverse[k, j]
        potentials[j] = potential
