"""MatGAN's cleaning rules (Dan et al. 2020, doi:10.1038/s41524-020-00352-0), each a switch with its own count."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, Compositions

# The 85 elements that the embedded set holds after cleaning; MatGAN's tensors have as many (seeds: 85 x 8 one-hot).
PAPER_VOCABULARY = tuple(z for z in range(1, 95) if z not in {2, 10, 18, 36, 84, 85, 86, 87, 88})


@dataclass(frozen=True)
class Cleaning:
    """Switches of the rules; None or False turns one off.

    Args:
        keep_lowest_energy: Of entries with one reduced formula, keep that of lowest formation energy (a known energy
            before none, then the first by id).
        drop_single_elements: Drop elements.
        max_elements: Most different elements of a formula.
        max_atoms_per_element: Most atoms of one element in the reduced formula.
        drop_elements: Symbols; a formula with one of them falls.
        formation_energy_sigma: Drop energies outside mean +- this many standard deviations, over the values present.
        vocabulary: "data" keeps every element that is left; "paper" fixes the 85 of the embedded set.
    """

    keep_lowest_energy: bool
    drop_single_elements: bool
    max_elements: int | None
    max_atoms_per_element: int | None
    drop_elements: Sequence[str]
    formation_energy_sigma: float | None
    vocabulary: str


def clean(
    compositions: Compositions, ids: np.ndarray, formation_energy_N: np.ndarray, origin_N: np.ndarray, rules: Cleaning
) -> tuple[np.ndarray, dict[str, int]]:
    """Apply the rules in order; a row is counted under the first that drops it.

    Args:
        compositions: N reduced compositions.
        ids: (N,) of str, to break ties.
        formation_energy_N: eV/atom, NaN where unknown.
        origin_N: Number of the source of each row, 0 for the first in precedence.
        rules: Which rules apply.

    Returns:
        Positions of the rows kept, ascending, and rows dropped by rule; together they make N.
    """
    kept = np.ones(len(compositions), dtype=bool)
    dropped: dict[str, int] = {}

    def drop(rule: str, mask: np.ndarray) -> None:
        dropped[rule] = int((kept & mask).sum())
        kept[mask] = False

    if rules.drop_single_elements:
        drop("single_element", compositions.n_elements == 1)
    if rules.max_elements is not None:
        drop("too_many_elements", compositions.n_elements > rules.max_elements)
    if rules.max_atoms_per_element is not None:
        drop("too_many_atoms_of_an_element", compositions.largest_count() > rules.max_atoms_per_element)
    if rules.drop_elements:
        drop("excluded_element", contains_any(compositions, symbols_to_numbers(rules.drop_elements)))
    if origin_N.any():
        drop("formula_of_an_earlier_source", _not_first(compositions, origin_N, kept))
    if rules.keep_lowest_energy:
        drop("higher_energy_duplicate", _not_lowest(compositions, ids, formation_energy_N, kept))
    if rules.formation_energy_sigma is not None:
        present = formation_energy_N[kept & ~np.isnan(formation_energy_N)]
        if len(present):
            reach = rules.formation_energy_sigma * present.std()
            drop("formation_energy_outlier", np.abs(formation_energy_N - present.mean()) > reach)
    if rules.vocabulary == "paper":
        outside = np.setdiff1d(np.arange(1, len(SYMBOLS) + 1), PAPER_VOCABULARY)
        drop("outside_vocabulary", contains_any(compositions, outside))
    return np.flatnonzero(kept), dropped


def contains_any(compositions: Compositions, elements: np.ndarray) -> np.ndarray:
    """Which compositions hold at least one of the atomic numbers; bool of shape (N,)."""
    hit = np.zeros(len(compositions), dtype=bool)
    hit[compositions.rows[np.isin(compositions.elements, elements)]] = True
    return hit


def symbols_to_numbers(symbols: Sequence[str]) -> np.ndarray:
    """Atomic numbers of the symbols in ``drop_elements``; an unknown one raises a ``ValueError`` that names it."""
    unknown = [symbol for symbol in symbols if symbol not in ATOMIC_NUMBERS]
    if unknown:
        raise ValueError(f"database.cleaning.drop_elements: {unknown} are no element symbols; write them like 'He'")
    return np.array([ATOMIC_NUMBERS[symbol] for symbol in symbols], dtype=np.int64)


def _not_first(compositions: Compositions, origin_N: np.ndarray, kept: np.ndarray) -> np.ndarray:
    position = np.flatnonzero(kept)
    first, group = compositions.take(position).unique()
    earliest = np.full(len(first), len(origin_N))
    np.minimum.at(earliest, group, origin_N[position])
    later = np.zeros(len(compositions), dtype=bool)
    later[position] = origin_N[position] > earliest[group]
    return later


def _not_lowest(compositions: Compositions, ids: np.ndarray, energy_N: np.ndarray, kept: np.ndarray) -> np.ndarray:
    position = np.flatnonzero(kept)
    _, group = compositions.take(position).unique()
    order = np.lexsort((ids[position], np.nan_to_num(energy_N[position], nan=np.inf), group))
    first = np.ones(len(order), dtype=bool)
    first[1:] = group[order][1:] != group[order][:-1]
    worse = np.zeros(len(compositions), dtype=bool)
    worse[position[order[~first]]] = True
    return worse
