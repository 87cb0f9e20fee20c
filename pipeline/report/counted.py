"""Many numbers of few different values, as predictions rounded to some decimals are: each value once, and how often."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counted:
    """N numbers of K different values.

    Attributes:
        values: float64 of shape (K,), ascending.
        counts: int64 of shape (K,), how often each occurs, at least once.
    """

    values: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        return int(self.counts.sum())

    @classmethod
    def of(cls, numbers: np.ndarray) -> "Counted":
        """Count numbers, none of them NaN."""
        return cls(*np.unique(numbers, return_counts=True))

    def __add__(self, other: "Counted") -> "Counted":
        return together([self, other])

    def above(self, limit: float) -> "Counted":
        """Those greater than ``limit``."""
        mine = self.values > limit
        return Counted(self.values[mine], self.counts[mine])

    def quantile(self, share: float) -> float:
        """As ``np.quantile`` of the N numbers, to the last bit; N is at least 1."""
        place = share * (len(self) - 1)
        around = np.searchsorted(np.cumsum(self.counts), [np.floor(place), np.ceil(place)], side="right")
        return float(np.quantile(self.values[around], place - np.floor(place)))

    def histogram(self, edges: np.ndarray) -> np.ndarray:
        """How many lie between neighbouring edges, int64; the outermost bins hold what lies beyond."""
        inside = np.clip(self.values, edges[0], edges[-1])
        return np.histogram(inside, edges, weights=self.counts)[0].astype(np.int64)


def together(several: Sequence[Counted]) -> Counted:
    """All numbers of several."""
    values, place = np.unique(np.concatenate([each.values for each in several]), return_inverse=True)
    counts = np.zeros(len(values), dtype=np.int64)
    np.add.at(counts, place, np.concatenate([each.counts for each in several]))
    return Counted(values, counts)
