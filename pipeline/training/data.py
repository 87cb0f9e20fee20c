"""What training reads: the rows that are not held out."""

import json
from collections.abc import Sequence

import numpy as np
import torch

from pipeline.composition import Compositions
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT, read_tensors
from pipeline.generators.counts import count_matrix
from pipeline.provenance import file_digest
from pipeline.tables import read


def training_tensors(tensors_path: str, split_path: str) -> dict[str, np.ndarray]:
    """The generator's tensors by name, rows of held-out entries left out.

    Raises:
        ValueError: No row is left to train on, or the two files are not of one run.
    """
    ids, tensors = read_tensors(tensors_path)
    keep = ~_held_out(ids, split_path)
    return {name: values[keep] for name, values in tensors.items()}


def count_matrices(entries_path: str, vocabulary: list[int], split_path: str) -> tuple[np.ndarray, np.ndarray]:
    """Count matrices, uint8 (N, E), of the entries of the box that are trained on, and of those held out.

    Raises:
        ValueError: As :func:`training_tensors`, or no entry fits the box.
    """
    entries = read(entries_path, ENTRIES, ["id", "elements", "counts"])
    counts_NE, fits = count_matrix(Compositions.from_table(entries), vocabulary)
    held_out = _held_out(np.array(entries["id"].to_pylist(), dtype=object)[fits], split_path)
    return counts_NE[~held_out], counts_NE[held_out]


def _held_out(ids: Sequence[str], split_path: str) -> np.ndarray:
    split = read(split_path, SPLIT)
    sides = dict(zip(split["id"].to_pylist(), split["held_out"].to_pylist(), strict=True))
    absent = next((entry for entry in ids if entry not in sides), None)
    if absent is not None:
        raise ValueError(f"{split_path}: entry '{absent}' is absent; rerun encoding")
    held_out = np.array([sides[entry] for entry in ids], dtype=bool)
    if held_out.all():
        raise ValueError(f"{split_path}: all {len(set(ids))} entries are held out; lower encoding.holdout_share")
    return held_out


def fingerprint(code: str, settings: object, seed: int, *paths: str) -> str:
    """What a training run depends on, its input files included; a checkpoint of another run has another."""
    return json.dumps([torch.__version__, code, str(settings), seed, *map(file_digest, paths)])
