"""What the report reads of a campaign's folder, counted part by part so that memory does not grow with the samples."""

import csv
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline import tables
from pipeline.composition import SYMBOLS, Compositions, concatenate
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT, TENSOR_IDS
from pipeline.filtering.schema import DRAWN, FILTERED
from pipeline.report.counted import Counted
from pipeline.report.funnel import Gate, by_reason, candidate_funnel, database_funnel
from pipeline.screening.models import PARITY, PARITY_FILE
from pipeline.screening.select import SCREENED, SELECTED
from pipeline.screening.usefulness import TERMS
from pipeline.structures.schema import STRUCTURES

ENERGY, HULL, GAP = "formation_energy_ev_per_atom", "decomposition_energy_ev_per_atom", "band_gap_ev"
PROPERTIES = (ENERGY, HULL, GAP, "experimental_band_gap_ev", "distance_from_training")
Paths = Sequence[str | os.PathLike]


@dataclass(frozen=True)
class Known:
    """The database.

    Attributes:
        table: Entries with id, formula, elements, counts, formation energy and gap; N rows.
        compositions: Of the N rows.
        held_out: bool of shape (N,).
        encoded: bool of shape (N,), whether the generator's tensors hold the entry.
    """

    table: pa.Table
    compositions: Compositions
    held_out: np.ndarray
    encoded: np.ndarray

    @property
    def training(self) -> Compositions:
        """Entries that are not held out."""
        return self.compositions.take(~self.held_out)


@dataclass(frozen=True)
class Sampled:
    """The samples, as sums over their parts.

    Attributes:
        n_decoded: Draws that made a formula.
        n_distinct: Different samples among them: formulas, or crystals from a generator of crystals.
        n_formulas: Different formulas among them.
        element_formulas: Number of different formulas with each element, int64 of shape (119,) by atomic number.
        found: bool of shape (N,): which entries of the database are among the samples.
        n_known: Different formulas that the database has.
        shown: At most a given number of the formulas, those of smallest hash.
    """

    n_decoded: int
    n_distinct: int
    n_formulas: int
    element_formulas: np.ndarray
    found: np.ndarray
    n_known: int
    shown: Compositions


def read_known(entries: str | os.PathLike, split: str | os.PathLike, tensors: str | os.PathLike) -> Known:
    """Read database, hold-out, and which entries the generator's tensors hold.

    Raises:
        ValueError: A table is missing or damaged, or the two are not of one run.
    """
    table = tables.read(entries, ENTRIES, ["id", "formula", "elements", "counts", ENERGY, GAP])
    held_out = tables.read(split, SPLIT)
    if held_out["id"] != table["id"]:
        raise ValueError(f"{split}: not the entries of {entries}; rerun encoding")
    encoded = pc.is_in(table["id"], tables.read(tensors, TENSOR_IDS)["id"].combine_chunks())
    return Known(table, Compositions.from_table(table), held_out["held_out"].to_numpy(), encoded.to_numpy())


def read_samples(paths: Paths, known: Compositions, n_shown: int) -> Sampled:
    """Read the parts one by one."""
    n_decoded = n_distinct = n_formulas = n_known = 0
    element_formulas = np.zeros(len(SYMBOLS) + 1, dtype=np.int64)
    found = np.zeros(len(known), dtype=bool)
    shown = Compositions.from_dicts([])
    for path in paths:
        part = tables.read(path, DRAWN, ["n_drawn", "elements", "counts"])
        compositions = Compositions.from_table(part)
        n_distinct += len(compositions)
        compositions = compositions.take(compositions.unique()[0])
        n_formulas += len(compositions)
        n_decoded += int(part["n_drawn"].to_numpy().sum())
        element_formulas += np.bincount(compositions.elements, minlength=len(element_formulas))
        found |= known.contained_in(compositions)
        n_known += int(compositions.contained_in(known).sum())
        shown = smallest_hashes(concatenate([shown, compositions]), n_shown)
    return Sampled(n_decoded, n_distinct, n_formulas, element_formulas, found, n_known, shown)


def smallest_hashes(compositions: Compositions, n: int) -> Compositions:
    """The ``n`` compositions of smallest hash: a random choice that does not depend on the order of the rows."""
    return compositions.take(np.argsort(compositions.hashes(), kind="stable")[:n])


def read_verdicts(filtered: Paths) -> tuple[Counter, Counter, int]:
    """Filtered samples by verdict, rejected ones by reason, and how many survived."""
    verdicts, fell, n = Counter(), Counter(), 0
    for path in filtered:
        part = tables.read(path, FILTERED, ["verdict", "rejected_by"])
        verdicts.update(by_reason(part["verdict"]))
        fell.update(by_reason(part["rejected_by"]))
        n += part["rejected_by"].null_count
    return verdicts, fell, n


@dataclass(frozen=True)
class Scores:
    """The screened candidates, as sums over their parts.

    Attributes:
        values: By column, of ``PROPERTIES`` and the terms of the ranking, the distinct values (of terms to two
            decimals) and how many candidates have each.
        shown: At most a given number of scored candidates, evenly taken: id, ``ENERGY`` and ``HULL``.
        n_selected: How many got a rank.
        rejected_by: How many fell by each cutoff.
    """

    values: dict[str, Counted]
    shown: pa.Table
    n_selected: int
    rejected_by: Counter


def read_scores(screened: Paths, n_shown: int) -> Scores:
    """Scores, terms and fate of every candidate that was screened, part by part."""
    values = {name: Counted.of(np.zeros(0)) for name in (*PROPERTIES, *TERMS.values())}
    n_selected, fell, shown = 0, Counter(), []
    for path in screened:
        part = tables.read(path, SCREENED, ["id", *values, "rank", "rejected_by"])
        for name in values:
            of_part = part[name].drop_null().to_numpy()
            values[name] += Counted.of(np.round(of_part, 2) if name in TERMS.values() else of_part)
        n_selected += len(part) - part["rank"].null_count
        fell.update(by_reason(part["rejected_by"]))
        scored = part.select(["id", ENERGY, HULL]).filter(pc.and_(part[ENERGY].is_valid(), part[HULL].is_valid()))
        n = min(len(scored), -(-n_shown // len(screened)))
        shown.append(scored.take(pa.array(np.linspace(0, len(scored) - 1, n).astype(int))))
    return Scores(values, pa.concat_tables(shown), n_selected, fell)


def read_selected(path: str | os.PathLike) -> pa.Table:
    """The selected candidates with their scores and terms, by rank."""
    return tables.read(path, SELECTED, ["id", "elements", "counts", *PROPERTIES, *TERMS.values(), "usefulness"])


def read_funnels(
    *,
    known: Known,
    sampled: Sampled,
    cleaning: dict,
    draws: Sequence[dict],
    rejected_by_filter: Counter,
    n_survived: int,
    scores: Scores,
    structures: str | os.PathLike,
    n_exported: int,
) -> tuple[list[Gate], list[Gate]]:
    """Both funnels of the campaign, database and candidates, held to add up.

    Raises:
        ValueError: They do not add up, or the export does not hold what the structures stage kept.
    """
    built = tables.read(structures, STRUCTURES, ["rank", "rejected_by"]).to_pylist()
    with_structure = {row["rank"] for row in built if row["rejected_by"] is None}
    kept = sum(row["rejected_by"] is None for row in built)
    if kept != n_exported:
        raise ValueError(f"report: {structures} keeps {kept} structures, the export has {n_exported}; rerun export")
    reason = {row["rank"]: row["rejected_by"] for row in built if row["rank"] not in with_structure}
    fell = {
        "filtering": rejected_by_filter,
        "screening": scores.rejected_by,
        "structures": Counter(reason.values()),
    }
    left = (n_survived, scores.n_selected, len(with_structure))
    return (
        database_funnel(cleaning, int((~known.encoded).sum()), int((known.encoded & known.held_out).sum())),
        candidate_funnel(draws, sampled.n_decoded, sampled.n_distinct, fell, left),
    )


def read_history(path: str | os.PathLike) -> dict[str, list[float | None]]:
    """Columns of training's history; which ones there are depends on the generator."""
    return pq.read_table(path).to_pydict()


def read_manifest(path: str | os.PathLike) -> list[dict[str, str]]:
    """Lines of the export's manifest; a missing value is an empty string."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read_model(folder: str | os.PathLike) -> tuple[dict, pa.Table]:
    """Description and parity table of a property model's folder."""
    return tables.read_json(Path(folder) / "model.json"), tables.read(Path(folder) / PARITY_FILE, PARITY)
