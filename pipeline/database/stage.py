"""The stage's entry point: a source becomes `entries.parquet`, `rejects.parquet` and `cleaning.json`."""

import sys

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from pipeline.cells import to_columns
from pipeline.composition import SYMBOLS, Compositions
from pipeline.database.cleaning import PAPER_VOCABULARY, Cleaning, clean
from pipeline.database.schema import ENTRIES, REJECTS, TARGETS
from pipeline.database.sources import Row, read_source
from pipeline.tables import write, write_json


def ingest(
    *,
    source: dict,
    cleaning: Cleaning,
    max_rejected_share: float,
    entries_path: str,
    rejects_path: str,
    cleaning_path: str,
    provenance: dict | None = None,
) -> None:
    """Read and clean a database.

    Args:
        source: The config's ``database.source``.
        cleaning: Which rules apply.
        max_rejected_share: Largest share of unreadable rows, 0 to 1, that is still accepted.
        entries_path: Gets the ENTRIES table, sorted by formula and id.
        rejects_path: Gets the REJECTS table.
        cleaning_path: Gets JSON: counts (rows in = rejected + dropped by each rule + rows out) and the vocabulary.
        provenance: Stored in the tables.

    Raises:
        ValueError: No rows, no rows left, or too many rejects; the rejects table is then written all the same.
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
    _write_rejects(rejects_path, rejects, provenance)
    n_in = len(good) + len(rejects)
    if n_in == 0:
        raise ValueError(f"database.source: '{source.get('path', source['kind'])}' holds no rows")
    if len(rejects) > max_rejected_share * n_in:
        first = rejects[0]
        raise ValueError(
            f"database.source: {len(rejects)} of {n_in} rows cannot be read, more than database.max_rejected_share = "
            f"{max_rejected_share} allows; the first: {first.file} line {first.line}: {first.reason}. "
            f"All are in {rejects_path}"
        )
    compositions = Compositions.from_dicts(row.amounts for row in good).reduced()
    ids = np.array([row.id for row in good])
    targets = {name: np.array([row.targets.get(name, np.nan) for row in good]) for name in TARGETS}
    kept, dropped = clean(compositions, ids, targets["formation_energy_ev_per_atom"], cleaning)
    formulas = np.array(compositions.formulas().to_pylist(), dtype=object)
    kept = kept[np.lexsort((ids[kept], formulas[kept].astype(str)))]
    if len(kept) == 0:
        raise ValueError(
            f"database.cleaning: none of {len(good)} readable rows is left ({dropped}); loosen the rule that drops most"
        )
    write(
        entries_path,
        ENTRIES,
        {
            "id": pa.array(ids[kept]),
            "formula": pa.array(formulas[kept], type=pa.string()),
            **compositions.take(kept).columns(),
            **{name: pa.array(values[kept], from_pandas=True) for name, values in targets.items()},
            **to_columns([good[position].cell for position in kept]),
        },
        provenance,
    )
    left = PAPER_VOCABULARY if cleaning.vocabulary == "paper" else np.unique(compositions.take(kept).elements)
    counts = {"rows_in": n_in, "rejected": len(rejects), "dropped": dropped, "rows_out": len(kept)}
    write_json(cleaning_path, {**counts, "vocabulary": [SYMBOLS[z - 1] for z in left]})
    print(f"{n_in} rows in, {len(rejects)} rejected, {dropped}, {len(kept)} out", file=sys.stderr)


def _write_rejects(path: str, rejects: list[Row], provenance: dict | None) -> None:
    columns = {name: [getattr(row, name) for row in rejects] for name in ("file", "line", "id", "reason")}
    write(path, REJECTS, columns, provenance)
