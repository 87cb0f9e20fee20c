"""How the generator's samples change over training: pass rates, uniqueness and element distribution by epoch."""

import os

import numpy as np
import pyarrow as pa

from pipeline import tables
from pipeline.composition import COUNTS, ELEMENTS, Compositions
from pipeline.filtering.baseline import SETTINGS, element_frequency, pass_rate, read_training
from pipeline.tables import Table, column

EPOCH_SAMPLES = Table("epoch_samples", (column("epoch", pa.int32(), "epochs trained, from 1"), ELEMENTS, COUNTS))
"""What filtering reads of training's table: the same number of decoded samples after each epoch, reduced."""

_NO_FORMULA = "no sample of 2 to 8 elements in this epoch"
HISTORY = Table(
    "filtering_history",
    (
        column("epoch", pa.int32(), "epochs trained, from 1"),
        column("n_samples", pa.int32(), "decoded samples that the row is counted over"),
        column("pass_rate_icsd24_low", pa.float64(), "share valid by smact's default rules", null=_NO_FORMULA),
        column(
            "pass_rate_icsd24_medium_no_alloys",
            pa.float64(),
            "share valid with the ICSD24 medium states, alloys tested like the rest",
            null=_NO_FORMULA,
        ),
        column("unique_share", pa.float64(), "distinct reduced formulas among the samples, 0 to 1"),
        column(
            "element_total_variation",
            pa.float64(),
            "total variation distance between the shares of the elements in the formulas of samples and training set, "
            "0 (alike) to 1 (no element in common)",
        ),
    ),
)


def write_history(
    *,
    epoch_samples_path: str | os.PathLike,
    entries_path: str | os.PathLike,
    split_path: str | os.PathLike | None,
    output_path: str | os.PathLike,
    provenance: dict | None = None,
) -> None:
    """Judge the samples of each epoch.

    Args:
        epoch_samples_path: Training's samples by epoch.
        entries_path: The cleaned database.
        split_path: Which entries were held out; None counts all of them as training set.
        output_path: Where ``HISTORY`` goes, one row an epoch, ascending.
        provenance: Stored in the file's metadata.

    Raises:
        ValueError: A table is missing, damaged or lacks a column.
    """
    drawn = tables.read(epoch_samples_path, EPOCH_SAMPLES)
    samples = Compositions.from_table(drawn)
    epochs = drawn.column("epoch").to_numpy()
    expected = _shares(read_training(entries_path, split_path))
    rows = []
    for epoch in np.unique(epochs):
        mine = samples.take(epochs == epoch)
        rows.append(
            {
                "epoch": int(epoch),
                "n_samples": len(mine),
                **{f"pass_rate_{name}": pass_rate(mine, rules) for name, rules in SETTINGS.items()},
                "unique_share": len(mine.unique()[0]) / len(mine),
                "element_total_variation": float(np.abs(_shares(mine) - expected).sum() / 2),
            }
        )
    tables.write(output_path, HISTORY, pa.Table.from_pylist(rows, schema=HISTORY.schema), provenance)


def _shares(compositions: Compositions) -> np.ndarray:
    """Share of each element among all element occurrences, float64 of shape (119,)."""
    frequency = element_frequency(compositions)
    return frequency / max(frequency.sum(), 1)
