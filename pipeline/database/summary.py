"""What came, what was dropped and why, as plain text: it is read on a login node, where the data are fetched."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from pipeline.database.schema import TARGETS
from pipeline.text import visible

BAR = 40
BINS = 12
REASONS = 10


def summary(sources: Sequence[dict], counts: dict, reasons: Sequence[str], entries: pa.Table) -> str:
    """The page as text.

    Args:
        sources: As in ``sources.json``.
        counts: As in ``cleaning.json``.
        reasons: Of the rejected rows.
        entries: The ENTRIES table after cleaning.
    """
    lines = ["Sources, first in precedence first"]
    for source in sources:
        numbers = f"{source['rows_read']:,} rows, {source['rejected']:,} rejected, {source['entries']:,} entries"
        lines += [f"  {source['name']} ({source['kind']}): {numbers}"]
        lines += [
            f"    {key}: {source[key]}"
            for key in ("provider", "version", "date", "licence", "citation")
            if source.get(key)
        ]
        lines += [
            f"    {n:,} values of {name} left out: of another reference" for name, n in source["left_out"].items()
        ]
    lines += ["", f"Rows: {counts['rows_in']:,}", f"  {counts['rejected']:,} could not be read"]
    lines += [f"  {n:,} dropped: {rule.replace('_', ' ')}" for rule, n in counts["dropped"].items()]
    lines += [f"  {counts['rows_out']:,} entries of {len(counts['vocabulary'])} elements"]
    if reasons:
        kinds = Counter(_kind(reason) for reason in reasons)
        lines += ["", "Why rows could not be read"]
        lines += [f"  {n:,} x {kind}" for kind, n in kinds.most_common(REASONS)]
        lines += [f"  and {len(kinds) - REASONS} other reasons"] * (len(kinds) > REASONS)
    numbers, n_of = np.unique(entries["elements"].combine_chunks().value_lengths().to_numpy(), return_counts=True)
    lines += ["", "Elements of a formula", *_bars([str(number) for number in numbers], n_of)]
    for name in TARGETS:
        values = entries[name].drop_null().to_numpy()
        lines += ["", f"{name}: {len(values):,} of {len(entries):,} entries"]
        if len(values):
            low, high = np.quantile(values, [0.005, 0.995])  # a few failed calculations would flatten the rest
            edges = np.linspace(low, high, BINS + 1) if high > low else np.array([low - 0.5, low + 0.5])
            n_of, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
            lines += _bars([f"{a:.3g} to {b:.3g}" for a, b in pairwise(edges)], n_of)
            lines += [f"  the ends hold what lies beyond, {values.min():.4g} to {values.max():.4g}"]
    return "\n".join(visible(line) for line in lines) + "\n"


def _kind(reason: str) -> str:
    """The reason without the values in it."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|-?\d+(\.\d+)?", "..", reason)


def _bars(names: Sequence[str], numbers: np.ndarray) -> list[str]:
    width, most = max(map(len, names)), max(int(numbers.max()), 1)
    return [
        f"  {name:>{width}} | {'#' * round(BAR * n / most)} {n:,}"
        for name, n in zip(names, numbers.tolist(), strict=True)
    ]
