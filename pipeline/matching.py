"""The compiled kernels behind ``Compositions``: hashes, groups of equal compositions, look-up among known ones.

The table is open addressing with linear probing (Knuth, The Art of Computer Programming, vol. 3, section 6.4). An entry
holds the lower half of a hash and a place; the upper bits of the hash say where the search begins, since all rows of a
hash partition share lower ones. Half a hash in common is not taken for equality: elements and counts are compared, and
the search goes on where they differ, so that hashes that collide cost time and change nothing.

Arguments ``offsets``, ``elements``, ``counts`` are N compositions as in ``Compositions``.
"""

import numba
import numpy as np

_LOW = np.uint64(0xFFFFFFFF)


@numba.njit(nogil=True, cache=True)
def hash_rows(offsets, elements, counts):
    """Hash of each composition, uint64 of shape (N,)."""
    hashes = np.empty(len(offsets) - 1, dtype=np.uint64)
    for row in range(len(hashes)):
        total = np.uint64(0)
        for pair in range(offsets[row], offsets[row + 1]):
            total += splitmix64((np.uint64(elements[pair]) << np.uint64(16)) | np.uint64(counts[pair]))
        hashes[row] = splitmix64(total)
    return hashes


@numba.njit(nogil=True, cache=True)
def group(hashes, offsets, elements, counts):
    """Group equal compositions.

    Returns:
        Position of the first of each group, ascending (int64), group of each row (int64, N), and the table of groups.
    """
    n = len(hashes)
    bits = 1
    while 1 << bits < 2 * n:  # half of the entries stay empty, so that a search ends
        bits += 1
    table = np.zeros(1 << bits, dtype=np.uint64)
    first = np.empty(n, dtype=np.int64)
    inverse = np.empty(n, dtype=np.int64)
    n_groups = 0
    for row in range(n):
        entry, place = _find(hashes[row], row, offsets, elements, counts, table, first, offsets, elements, counts)
        if place < 0:
            place = n_groups
            first[place] = row
            table[entry] = (hashes[row] << np.uint64(32)) | np.uint64(place + 1)
            n_groups += 1
        inverse[row] = place
    return first[:n_groups].copy(), inverse, table


@numba.njit(nogil=True, cache=True)
def look_up(hashes, offsets, elements, counts, table, first, known_offsets, known_elements, known_counts):
    """Which compositions are among the known ones, bool of shape (N,); ``table`` and ``first`` are of :func:`group`."""
    inside = np.empty(len(hashes), dtype=np.bool_)
    for row in range(len(hashes)):
        _, place = _find(
            hashes[row], row, offsets, elements, counts, table, first, known_offsets, known_elements, known_counts
        )
        inside[row] = place >= 0
    return inside


@numba.njit(inline="always")
def _find(hash_of_row, row, offsets, elements, counts, table, first, known_offsets, known_elements, known_counts):
    """The entry where a composition is or belongs, and its place in ``first``, -1 if it has none."""
    mask = np.uint64(len(table) - 1)
    entry = (hash_of_row >> np.uint64(32)) * np.uint64(len(table)) >> np.uint64(32)
    while table[entry] != 0:
        if table[entry] >> np.uint64(32) == hash_of_row & _LOW:
            place = np.int64(table[entry] & _LOW) - 1
            if _same(row, offsets, elements, counts, first[place], known_offsets, known_elements, known_counts):
                return entry, place
        entry = (entry + np.uint64(1)) & mask
    return entry, -1


@numba.njit(inline="always")
def _same(row, offsets, elements, counts, known_row, known_offsets, known_elements, known_counts):
    start, known_start = offsets[row], known_offsets[known_row]
    size = offsets[row + 1] - start
    if known_offsets[known_row + 1] - known_start != size:
        return False
    for pair in range(size):
        if (
            elements[start + pair] != known_elements[known_start + pair]
            or counts[start + pair] != known_counts[known_start + pair]
        ):
            return False
    return True


@numba.njit(inline="always")
def splitmix64(value):
    """The finaliser of Steele et al. 2014 (doi:10.1145/2660193.2660195)."""
    value += np.uint64(0x9E3779B97F4A7C15)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
