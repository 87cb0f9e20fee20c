"""What training reads: count matrices of the entries, those held out apart."""

import json
from typing import NamedTuple

import numpy as np
import torch

from pipeline.composition import ATOMIC_NUMBERS
from pipeline.encoding import SPLIT, tensors_table
from pipeline.provenance import file_digest
from pipeline.tables import read, read_json


class Encoded(NamedTuple):
    """Encoded entries.

    Attributes:
        train_NE, held_out_NE: Count matrices, uint8.
        vocabulary: Atomic numbers of their E columns.
    """

    train_NE: np.ndarray
    held_out_NE: np.ndarray
    vocabulary: list[int]


def read_encoded(tensors_path: str, vocabulary_path: str, split_path: str) -> Encoded:
    """Read the encoding stage's files.

    Raises:
        ValueError: No entry is left to train on.
    """
    vocabulary = [ATOMIC_NUMBERS[symbol] for symbol in read_json(vocabulary_path)["elements"]]
    table = read(tensors_path, tensors_table(len(vocabulary)), ["id", "counts"])
    counts_NE = table["counts"].combine_chunks().to_numpy_ndarray()
    split = read(split_path, SPLIT)
    held_out = dict(zip(split["id"].to_pylist(), split["held_out"].to_pylist(), strict=True))
    mask = np.array([held_out[entry] for entry in table["id"].to_pylist()])
    if mask.all():
        raise ValueError(f"{split_path}: all {len(mask)} entries are held out; lower encoding.holdout_share")
    return Encoded(counts_NE[~mask], counts_NE[mask], vocabulary)


def fingerprint(code: str, settings: object, seed: int, tensors_path: str, split_path: str) -> str:
    """What a training run depends on; a checkpoint of another run has another."""
    files = [file_digest(path) for path in (tensors_path, split_path)]
    return json.dumps([torch.__version__, code, str(settings), seed, *files])
