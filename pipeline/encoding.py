"""Stage `encoding`: entries as integer tensors, their vocabulary, and the hold-out that no later stage trains on."""

import sys

import numpy as np
import pyarrow as pa

from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, Compositions
from pipeline.database.schema import ENTRIES
from pipeline.tables import Table, column, read, read_json, write, write_json

SPLIT = Table(
    "split",
    (
        column("id", pa.string(), "id of the entry"),
        column("held_out", pa.bool_(), "true: no later stage trains on this entry"),
    ),
)
BOX = 8  # most atoms of one element that MatGAN's one-hot tensor can say


def tensors_table(n_elements: int) -> Table:
    """The tensors table for a vocabulary of ``n_elements``: fixed-shape tensors, decoded once and viewed by torch."""
    return Table(
        "tensors",
        (
            column("id", pa.string(), "id of the entry"),
            column("counts", pa.fixed_shape_tensor(pa.uint8(), [n_elements]), "atoms of each vocabulary element"),
            column(
                "one_hot",
                pa.fixed_shape_tensor(pa.uint8(), [BOX, n_elements]),
                "row n - 1 holds 1 where an element has n atoms (MatGAN's 8 x 85 matrix)",
            ),
        ),
    )


def encode(
    *,
    entries_path: str,
    cleaning_path: str,
    tensors_path: str,
    vocabulary_path: str,
    split_path: str,
    holdout_share: float,
    seed: int,
    provenance: dict | None = None,
) -> None:
    """Encode all entries.

    Args:
        entries_path: The ENTRIES table.
        cleaning_path: The database stage's JSON; its ``vocabulary`` names the E elements of the tensors.
        tensors_path: Gets the entries that fit the box of 8 atoms an element, held-out ones included.
        vocabulary_path: Gets JSON: element symbols by atomic number, and how many entries fit the box.
        split_path: Gets the SPLIT table.
        holdout_share: Share of reduced formulas to hold out, 0 to below 1; all entries of a formula go together, and
            which side a formula takes depends on it and the seed alone, not on the other entries.
        seed: Campaign seed.
        provenance: Stored in the tables.
    """
    entries = read(entries_path, ENTRIES, ["id", "elements", "counts"])
    compositions = Compositions.from_table(entries)
    vocabulary = [ATOMIC_NUMBERS[symbol] for symbol in read_json(cleaning_path)["vocabulary"]]
    fits = compositions.largest_count() <= BOX
    if not fits.any():
        raise ValueError(f"{entries_path}: no entry has at most {BOX} atoms of each element, so nothing can be encoded")
    boxed = compositions.take(fits)
    counts_NE = boxed.dense(vocabulary).astype(np.uint8)
    one_hot = np.zeros((len(boxed), BOX, len(vocabulary)), dtype=np.uint8)
    rows, columns = np.nonzero(counts_NE)
    one_hot[rows, counts_NE[rows, columns] - 1, columns] = 1
    tensors = {
        "id": entries["id"].filter(pa.array(fits)),
        "counts": pa.FixedShapeTensorArray.from_numpy_ndarray(counts_NE),
        "one_hot": pa.FixedShapeTensorArray.from_numpy_ndarray(one_hot),
    }
    write(tensors_path, tensors_table(len(vocabulary)), tensors, provenance)

    held_out = split(compositions, holdout_share, seed)
    write(split_path, SPLIT, {"id": entries["id"], "held_out": held_out}, provenance)
    write_json(
        vocabulary_path,
        {
            "elements": [SYMBOLS[z - 1] for z in vocabulary],
            "entries": len(compositions),
            "fit_the_box": int(fits.sum()),
            "held_out": int(held_out.sum()),
        },
    )
    print(f"{len(boxed)} of {len(compositions)} entries fit the box, {held_out.sum()} held out", file=sys.stderr)


def split(compositions: Compositions, holdout_share: float, seed: int) -> np.ndarray:
    """Which reduced compositions are held out; bool of shape (N,), equal compositions alike."""
    draw = np.random.SeedSequence([seed]).generate_state(1, np.uint64)[0]
    mixed = (compositions.hashes() ^ draw) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    return mixed.astype(np.float64) / 2.0**64 < holdout_share
