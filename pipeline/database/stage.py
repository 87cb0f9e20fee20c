"""The stage's entry points: a source becomes rows and rejects, rows become entries and the counts of each rule."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from pipeline.cells import to_columns
from pipeline.composition import SYMBOLS, Compositions
from pipeline.database.cleaning import PAPER_VOCABULARY, Cleaning, clean
from pipeline.database.records import Row
from pipeline.database.schema import ENTRIES, REJECTS, TARGETS
from pipeline.database.sources import read_source
from pipeline.tables import read, write, write_json

# More than any public database holds; a row takes about 0.6 kB of memory.
MAX_ROWS = 10_000_000


def read_rows(
    *,
    source: dict,
    max_rejected_share: float,
    rows_path: str,
    rejects_path: str,
    provenance: dict | None = None,
) -> None:
    """Read a database as it is, so that a bad source touches nothing that an earlier one gave.

    Args:
        source: The config's ``database.source``.
        max_rejected_share: Largest share of unreadable rows, 0 to 1, that is still accepted.
        rows_path: Gets the readable rows, an ENTRIES table in the source's order.
        rejects_path: Gets the REJECTS table.
        provenance: Stored in the tables.

    Raises:
        ValueError: No rows, more than ``MAX_ROWS``, or too many rejects; these are then in ``refused.parquet`` beside
            ``rejects_path``.
    """
    good, rejects = [], []
    seen: dict[str, int | None] = {}
    for row in tqdm(read_source(source), desc="reading", unit=" rows", file=sys.stderr, mininterval=2):
        if row.reason is None and row.id in seen:
            row.reason = f"id '{row.id}' is already taken" + ("" if row.line is None else f" at line {seen[row.id]}")
        if row.reason is None:
            seen[row.id] = row.line
            good.append(row)
        else:
            rejects.append(row)
        if len(good) + len(rejects) > MAX_ROWS:
            raise ValueError(
                f"database.source: '{source['path']}' holds more than {MAX_ROWS} rows; take a part of it, "
                "such as one entry of each formula"
            )
    n_in = len(good) + len(rejects)
    if n_in == 0:
        raise ValueError(f"database.source: '{source.get('path', source['kind'])}' holds no rows")
    if len(rejects) > max_rejected_share * n_in:
        refused_path = Path(rejects_path).with_name("refused.parquet")
        _write_rejects(refused_path, rejects, provenance)
        first = rejects[0]
        place = first.file if first.line is None else f"{first.file} line {first.line}"
        raise ValueError(
            f"database.source: {len(rejects)} of {n_in} rows cannot be read, more than database.max_rejected_share = "
            f"{max_rejected_share} allows; the first: {place}: {first.reason}. All are in {refused_path}"
        )
    _write_rejects(rejects_path, rejects, provenance)
    compositions = Compositions.from_dicts(row.amounts for row in good).reduced()
    targets = {name: np.array([row.targets.get(name, np.nan) for row in good]) for name in TARGETS}
    columns = {
        "id": [row.id for row in good],
        "formula": compositions.formulas(),
        **compositions.columns(),
        **{name: pa.array(values, type=pa.float64(), from_pandas=True) for name, values in targets.items()},
        **to_columns([row.cell for row in good]),
    }
    write(rows_path, ENTRIES, columns, provenance)
    print(f"{n_in} rows read, {len(rejects)} rejected", file=sys.stderr)


def clean_rows(
    *,
    rows_path: str,
    rejects_path: str,
    cleaning: Cleaning,
    entries_path: str,
    cleaning_path: str,
    provenance: dict | None = None,
) -> None:
    """Apply the cleaning rules to what was read.

    Args:
        rows_path, rejects_path: What :func:`read_rows` wrote.
        cleaning: Which rules apply.
        entries_path: Gets the ENTRIES table, sorted by formula and id.
        cleaning_path: Gets JSON: counts (rows in = rejected + dropped by each rule + rows out) and the vocabulary.
        provenance: Stored in the table.

    Raises:
        ValueError: No rows are left.
    """
    rows, n_rejected = read(rows_path, ENTRIES), len(read(rejects_path, REJECTS, ["reason"]))
    compositions = Compositions.from_table(rows)
    ids, formulas = (np.array(rows[name].to_pylist(), dtype=object) for name in ("id", "formula"))
    energies = rows["formation_energy_ev_per_atom"].to_numpy()
    kept, dropped = clean(compositions, ids.astype(str), energies, cleaning)
    if len(kept) == 0:
        raise ValueError(
            f"database.cleaning: none of {len(rows)} readable rows is left ({dropped}); loosen the rule that drops most"
        )
    kept = kept[np.lexsort((ids[kept].astype(str), formulas[kept].astype(str)))]
    write(entries_path, ENTRIES, rows.take(pa.array(kept)).combine_chunks(), provenance)
    left = PAPER_VOCABULARY if cleaning.vocabulary == "paper" else np.unique(compositions.take(kept).elements)
    counts = {
        "rows_in": len(rows) + n_rejected,
        "rejected": n_rejected,
        "dropped": dropped,
        "rows_out": len(kept),
    }
    write_json(cleaning_path, {**counts, "vocabulary": [SYMBOLS[z - 1] for z in left]})
    print(counts, file=sys.stderr)


def _write_rejects(path: str | Path, rejects: list[Row], provenance: dict | None) -> None:
    columns = {name: [getattr(row, name) for row in rejects] for name in ("file", "line", "id", "reason")}
    write(path, REJECTS, columns, provenance)
