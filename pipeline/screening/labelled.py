"""Formulas with a label each, from a table or from the database's entries, and their three-way split.

Suffixes: N formulas.
"""

import os
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pipeline.composition import Compositions
from pipeline.provenance import derived_seed

MIN_FORMULAS_OF_ELEMENT = 10
TRAIN, VALIDATION, TEST = 0, 1, 2


@dataclass(frozen=True)
class Labelled:
    """Compositions with one label each.

    Attributes:
        ids: Ids in the source, shape (N,).
        compositions: N distinct reduced compositions.
        values: Labels, float64 of shape (N,).
    """

    ids: np.ndarray
    compositions: Compositions
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> "Labelled":
        """The rows at positions or of a boolean mask."""
        return Labelled(self.ids[rows], self.compositions.take(rows), self.values[rows])

    def lowest(self, energies: np.ndarray) -> "Labelled":
        """One row a formula: that of lowest energy (a known one before none), then the first."""
        order = np.argsort(energies, kind="stable")  # NaN sorts last
        first, _ = self.compositions.take(order).unique()
        return self.take(np.sort(order[first]))

    def median(self) -> "Labelled":
        """One row a formula: that of the median value, the lower one of two in the middle."""
        _, formula = self.compositions.unique()
        order = np.lexsort((self.values, formula))
        counts = np.bincount(formula)
        middle = np.cumsum(counts) - counts + (counts - 1) // 2
        return self.take(np.sort(order[middle]))

    def without_rare_elements(self) -> "Labelled":
        """Without formulas of elements that fewer than ten formulas have: nothing can be learnt of those."""
        frequency = np.bincount(self.compositions.elements, minlength=256)
        rare = (frequency < MIN_FORMULAS_OF_ELEMENT)[self.compositions.elements]
        kept = np.ones(len(self), dtype=bool)
        kept[self.compositions.rows[rare]] = False
        return self.take(kept)

    def within(self, sigma: float) -> "Labelled":
        """Without values outside mean +- ``sigma`` standard deviations: failed calculations."""
        return self.take(np.abs(self.values - self.values.mean()) <= sigma * self.values.std())


def read_table(
    path: str | os.PathLike, formula: str = "formula", value: str = "value", *, energies: bool = True
) -> Labelled:
    """Read labelled formulas from a CSV file.

    Args:
        path: CSV, gzipped or not.
        formula, value: Names of the columns; rows without a value are left out. The value is in the target's unit.
        energies: Of rows of one formula the lowest stays; if these are no energies, the median (the lower of two).

    Raises:
        ValueError: The file is missing, lacks a column, or a row holds no formula or no number.
    """
    try:
        frame = pd.read_csv(path, usecols=lambda name: name in (formula, value), dtype={formula: str})
    except (OSError, ValueError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path}: no table of labelled formulas ({reason}); give a CSV file") from error
    for name in (formula, value):
        if name not in frame:
            raise ValueError(f"{path}: no column '{name}'; name the columns in screening.training.tables")
    numbers = pd.to_numeric(frame[value], errors="coerce")
    odd = (numbers.isna() & frame[value].notna()) | np.isinf(numbers) | (frame[formula].isna() & numbers.notna())
    if odd.any():
        place = int(odd.to_numpy().argmax())
        found = frame.iloc[place].to_dict()
        raise ValueError(f"{path}: row {place + 1} below the header holds {found}; give a formula and a number")
    frame, numbers = frame[numbers.notna()], numbers[numbers.notna()].to_numpy(dtype=np.float64)
    try:
        compositions = Compositions.from_formulas(frame[formula]).reduced()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    rows = Labelled(frame[formula].to_numpy(dtype=object), compositions, numbers)
    return rows.lowest(numbers) if energies else rows.median()


def three_way_split(compositions: Compositions, validation: float, test: float, seed: int) -> np.ndarray:
    """Assign each composition to training (0), validation (1) or test (2) by a hash of its reduced formula.

    Polymorphs and multiples of one formula fall together, and a formula keeps its place when rows are added.

    Args:
        compositions: N compositions.
        validation, test: Shares of the two.
        seed: Another seed is another split.

    Returns:
        uint8 of shape (N,).
    """
    with np.errstate(over="ignore"):
        mixed = (compositions.reduced().hashes() ^ np.uint64(derived_seed(seed, "split"))) * np.uint64(
            0x9E3779B97F4A7C15
        )
    uniform = (mixed >> np.uint64(11)) / float(1 << 53)
    return np.where(uniform < test, TEST, np.where(uniform < test + validation, VALIDATION, TRAIN)).astype(np.uint8)
