"""The stage's entry points: a source becomes rows and rejects, rows become entries and the counts of each rule."""

import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from pipeline.cells import to_columns
from pipeline.composition import SYMBOLS, Compositions
from pipeline.database.cleaning import PAPER_VOCABULARY, Cleaning, clean
from pipeline.database.records import Row
from pipeline.database.schema import ENTRIES, REFERRED, REJECTS, TARGETS
from pipeline.database.sources import credit, read_about, read_source
from pipeline.database.summary import summary
from pipeline.tables import atomic, read, write, write_json

# More than any public database holds; a row takes about 0.6 kB of memory.
MAX_ROWS = 10_000_000


def read_rows(
    *,
    source: dict,
    max_rejected_share: float,
    rows_path: str,
    rejects_path: str,
    snapshot_path: str | None = None,
    workers: int = 1,
    provenance: dict | None = None,
) -> None:
    """Read a source as it is, so that a bad one touches nothing that an earlier one gave.

    Args:
        source: One of the config's ``database.sources``.
        max_rejected_share: Largest share of unreadable rows, 0 to 1, that is still accepted.
        rows_path: Gets the readable rows, an ENTRIES table in the source's order.
        rejects_path: Gets the REJECTS table.
        snapshot_path: What was fetched, of a database behind a network.
        workers: Processes that read structure files.
        provenance: Stored in the tables.

    Raises:
        ValueError: No rows, more than ``MAX_ROWS``, or too many rejects; these are then in ``refused.parquet`` beside
            ``rejects_path``.
    """
    good, rejects = [], []
    seen: dict[str, int | None] = {}
    for row in tqdm(
        read_source(source, snapshot_path, workers), desc="reading", unit=" rows", file=sys.stderr, mininterval=2
    ):
        if row.reason is None and row.id in seen:
            row.reason = f"id '{row.id}' is already taken" + ("" if row.line is None else f" at line {seen[row.id]}")
        if row.reason is None:
            seen[row.id] = row.line
            good.append(row)
        else:
            rejects.append(row)
        if len(good) + len(rejects) > MAX_ROWS:
            raise ValueError(
                f"database.sources: '{source['name']}' holds more than {MAX_ROWS} rows; take a part of it, "
                "such as one entry of each formula"
            )
    n_in = len(good) + len(rejects)
    if n_in == 0:
        raise ValueError(f"database.sources: '{source.get('path', source['name'])}' holds no rows")
    if len(rejects) > max_rejected_share * n_in:
        refused_path = Path(rejects_path).with_name("refused.parquet")
        _write_rejects(refused_path, source, rejects, provenance)
        first = rejects[0]
        place = first.file if first.line is None else f"{first.file} line {first.line}"
        raise ValueError(
            f"database.sources: '{source['name']}': {len(rejects)} of {n_in} rows cannot be read, more than "
            f"database.max_rejected_share = {max_rejected_share} allows; the first: {place}: {first.reason}. "
            f"All are in {refused_path}"
        )
    _write_rejects(rejects_path, source, rejects, provenance)
    compositions = Compositions.from_dicts(row.amounts for row in good).reduced()
    targets = {name: np.array([row.targets.get(name, np.nan) for row in good]) for name in TARGETS}
    columns = {
        "id": [row.id for row in good],
        "source": [source["name"]] * len(good),
        "formula": compositions.formulas(),
        **compositions.columns(),
        **{name: pa.array(values, type=pa.float64(), from_pandas=True) for name, values in targets.items()},
        **to_columns([row.cell for row in good]),
    }
    write(rows_path, ENTRIES, columns, provenance)
    print(f"{n_in} rows read, {len(rejects)} rejected", file=sys.stderr)


def clean_rows(
    *,
    rows_paths: Sequence[str],
    rejects_paths: Sequence[str],
    about_paths: dict[str, str],
    sources: Sequence[dict],
    cleaning: Cleaning,
    entries_path: str,
    cleaning_path: str,
    sources_path: str,
    summary_path: str,
    provenance: dict | None = None,
) -> None:
    """Lay the sources together and apply the cleaning rules.

    Of a formula, the entries of the first source that has it stand for it. A target of ``REFERRED`` is taken from
    sources of one reference: that of the first which has the target.

    Args:
        rows_paths, rejects_paths: What :func:`read_rows` wrote, in the order of precedence.
        about_paths: {name: what fetching wrote of a source}.
        sources: The config's ``database.sources``.
        cleaning: Which rules apply.
        entries_path: Gets the ENTRIES table, sorted by formula and id.
        cleaning_path: Gets JSON: counts (rows in = rejected + dropped by each rule + rows out) and the vocabulary.
        sources_path: Gets JSON: of each source its counts, provider, licence and citation.
        summary_path: Gets what came, what was dropped and why, as text.
        provenance: Stored in the table.

    Raises:
        ValueError: No rows are left.
    """
    tables = [read(path, ENTRIES) for path in rows_paths]
    reasons = [read(path, REJECTS, ["reason"])["reason"].to_pylist() for path in rejects_paths]
    rejected = [len(of_source) for of_source in reasons]
    rows, left_out = merged(tables, sources)
    compositions = Compositions.from_table(rows)
    ids, formulas = (np.array(rows[name].to_pylist(), dtype=object) for name in ("id", "formula"))
    energies = rows["formation_energy_ev_per_atom"].to_numpy()
    origin = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
    kept, dropped = clean(compositions, ids.astype(str), energies, origin, cleaning)
    if len(kept) == 0:
        raise ValueError(
            f"database.cleaning: none of {len(rows)} readable rows is left ({dropped}); loosen the rule that drops most"
        )
    kept = kept[np.lexsort((ids[kept].astype(str), formulas[kept].astype(str)))]
    entries = rows.take(pa.array(kept)).combine_chunks()
    write(entries_path, ENTRIES, entries, provenance)
    left = PAPER_VOCABULARY if cleaning.vocabulary == "paper" else np.unique(compositions.take(kept).elements)
    counts = {
        "rows_in": len(rows) + sum(rejected),
        "rejected": sum(rejected),
        "dropped": dropped,
        "rows_out": len(kept),
        "vocabulary": [SYMBOLS[z - 1] for z in left],
    }
    write_json(cleaning_path, counts)
    said = []
    for i, source in enumerate(sources):
        own = {"name": source["name"], "kind": source["kind"], "rows_read": len(tables[i]) + rejected[i]}
        own |= {"entries": int((origin[kept] == i).sum()), "rejected": rejected[i], "left_out": left_out[i]}
        about = read_about(about_paths[source["name"]]) if source["name"] in about_paths else {}
        said.append({**own, **{key: value for key, value in about.items() if key not in own}, **credit(source)})
    write_json(sources_path, said)
    text = summary(said, counts, list(chain.from_iterable(reasons)), entries)
    with atomic(summary_path) as temporary:
        temporary.write_text(text)
    print(text, file=sys.stderr)


def merged(tables: Sequence[pa.Table], sources: Sequence[dict]) -> tuple[pa.Table, list[dict[str, int]]]:
    """Sources under each other, in the order of precedence.

    Args:
        tables: ENTRIES of each source.
        sources: Their settings; ``reference`` says which energies may stand together, by default none of two sources.

    Returns:
        One table, ids with their source's name where there are several; of each source, by target, how many values of
        another reference than the column's were left out.
    """
    if len(tables) == 1:
        return tables[0], [{}]
    of_column: dict[str, str] = {}
    parts, left_out = [], []
    for table, source in zip(tables, sources, strict=True):
        own, lost = source.get("reference", source["name"]), {}
        for name in REFERRED:
            n = len(table) - table[name].null_count
            if n and of_column.setdefault(name, own) != own:
                lost[name] = n
                empty = pa.nulls(len(table), table[name].type)
                table = table.set_column(table.schema.get_field_index(name), table.schema.field(name), empty)
        ids = pc.binary_join_element_wise(source["name"], table["id"], ":")
        parts.append(table.set_column(table.schema.get_field_index("id"), table.schema.field("id"), ids))
        left_out.append(lost)
        for name, n in lost.items():
            why = f"their reference is '{own}', the column's '{of_column[name]}'"
            print(f"{source['name']}: {n} values of {name} are left out: {why}", file=sys.stderr)
    return pa.concat_tables(parts), left_out


def _write_rejects(path: str | Path, source: dict, rejects: list[Row], provenance: dict | None) -> None:
    columns = {name: [getattr(row, name) for row in rejects] for name in ("file", "line", "id", "reason")}
    write(path, REJECTS, {"source": [source["name"]] * len(rejects), **columns}, provenance)
