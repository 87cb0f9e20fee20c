"""What generators of compositions learn from: atom counts of the entries that fit a box of 8 atoms an element.

Legend of suffixes: N entries, E elements of the vocabulary.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pipeline.composition import Compositions
from pipeline.generators import Tensors

BOX = 8  # most atoms of one element that MatGAN's one-hot tensor can say


@dataclass(frozen=True)
class Encoding:
    """Nothing is left to choose."""


def encode(entries: pa.Table, vocabulary: list[int], encoding: Encoding, seed: int) -> Tensors:
    """Counts of the entries that fit the box, in order.

    Raises:
        ValueError: None fits.
    """
    counts_NE, fits = count_matrix(Compositions.from_table(entries), vocabulary)
    ids = entries["id"].filter(pa.array(fits)).to_pylist()
    return Tensors(ids, {"counts": (counts_NE, "atoms of each vocabulary element")})


def count_matrix(compositions: Compositions, vocabulary: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Count matrix, uint8 (N, E), of the compositions that fit the box, and which of all fit, bool.

    Raises:
        ValueError: None fits.
    """
    fits = compositions.largest_count() <= BOX
    if not fits.any():
        raise ValueError(f"no entry of {len(fits)} has at most {BOX} atoms of each element: nothing can be encoded")
    return compositions.take(fits).dense(vocabulary).astype(np.uint8), fits
