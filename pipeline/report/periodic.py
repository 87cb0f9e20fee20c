"""Where each element stands on the periodic table, and how alike two sets are in their elements."""

import numpy as np

from pipeline.composition import SYMBOLS

ROWS, COLUMNS = 9, 18


def places() -> tuple[np.ndarray, np.ndarray]:
    """Row (0 to 8) and column (0 to 17) of atomic numbers 1 to 118; lanthanides and actinides in rows 7 and 8."""
    row, column = np.zeros(len(SYMBOLS), dtype=int), np.zeros(len(SYMBOLS), dtype=int)
    noble = np.array([0, 2, 10, 18, 36, 54, 86, 118])
    for z in range(1, len(SYMBOLS) + 1):
        period = int(np.searchsorted(noble, z))
        first, last = noble[period - 1] + 1, noble[period]
        column[z - 1] = z - first if z - first < (1 if period == 1 else 2) else 17 - (last - z)
        row[z - 1] = period - 1
        if period >= 6 and 3 <= z - first + 1 <= 17:  # 15 elements from La and Ac on stand below the table
            row[z - 1], column[z - 1] = period + 1, z - first
    return row, column


def grid(values: np.ndarray) -> np.ndarray:
    """Values by atomic number, shape (119,), on the table: float64 of shape (9, 18), NaN where no element stands."""
    table = np.full((ROWS, COLUMNS), np.nan)
    table[places()] = values[1:]
    return table


def total_variation(frequency_a: np.ndarray, frequency_b: np.ndarray) -> float | None:
    """Half the sum of the differences of the elements' shares among all occurrences; None if a set is empty.

    Args:
        frequency_a, frequency_b: Number of formulas with each element, shape (119,).

    Returns:
        0 (alike) to 1 (no element in common).
    """
    if not (frequency_a.any() and frequency_b.any()):
        return None
    return float(np.abs(frequency_a / frequency_a.sum() - frequency_b / frequency_b.sum()).sum() / 2)
