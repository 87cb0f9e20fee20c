"""Entry point of the filtering stage: one part of the samples in, one part with verdicts out."""

import os

import numpy as np
import pyarrow as pa

from pipeline import tables
from pipeline.composition import Compositions
from pipeline.filtering.rules import assess
from pipeline.filtering.schema import DRAWN, FILTERED, VERDICTS, Rules


def filter_part(
    *,
    samples_path: str | os.PathLike,
    filtered_path: str | os.PathLike,
    rules: Rules,
    reject: bool,
    provenance: dict | None = None,
) -> None:
    """Judge one part of the samples and write it with verdicts and oxidation states.

    Args:
        samples_path: A part of the sampling stage's table; ``id``, ``n_drawn``, ``elements`` and ``counts`` are read.
        filtered_path: Where the part of ``FILTERED`` goes, rows in the same order.
        rules: What counts as valid.
        reject: Whether an invalid row falls; otherwise the verdict is a note and every row survives (metal hydrides and
            intermetallics are not ionic).
        provenance: Stored in the file's metadata.

    Raises:
        ValueError: The samples are missing, damaged or lack a column.
    """
    samples = tables.read(samples_path, DRAWN)
    compositions = Compositions.from_table(samples)
    judged = assess(compositions, rules)
    fell = ~judged.smact_valid if reject else np.zeros(len(compositions), dtype=bool)
    verdict = pa.array(VERDICTS).take(pa.array(judged.verdict))
    lists = [
        _lists(compositions, compositions.elements, ~fell),
        _lists(compositions, compositions.counts, ~fell),
        _lists(compositions, judged.oxidation_states, judged.has_states & ~fell),
    ]
    n_drawn = pa.array(samples.column("n_drawn").to_numpy(), mask=fell)
    rejected_by = pa.array(VERDICTS).take(pa.array(judged.verdict, mask=~fell))
    columns = [samples.column("id"), n_drawn, *lists, verdict, judged.smact_valid, rejected_by]
    tables.write(filtered_path, FILTERED, pa.table(columns, names=FILTERED.schema.names), provenance)


def _lists(compositions: Compositions, values: np.ndarray, keep: np.ndarray) -> pa.ListArray:
    """``values`` of shape (M,) as one list a composition, null and without storage where not ``keep``."""
    sizes = np.where(keep, compositions.n_elements, 0)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
    kept = pa.array(values[np.repeat(keep, compositions.n_elements)])
    return pa.ListArray.from_arrays(pa.array(offsets), kept, mask=pa.array(~keep))
