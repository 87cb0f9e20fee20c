"""How much a pass rate means: training set, samples and random formulas of the same shape under the same rules.

A share of valid samples says nothing alone, since loose rules let most random formulas pass. Rates are counted over
formulas of 2 to 8 elements (single elements always pass), each beside that of random formulas with the same counts.
Samples are read part by part, so that their number does not show in memory.
"""

import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.composition import COUNTS, ELEMENTS, SYMBOLS, Compositions
from pipeline.filtering.rules import assess
from pipeline.filtering.schema import DRAWN, Rules
from pipeline.provenance import derived_seed
from pipeline.tables import Table, column

SETTINGS = {
    "icsd24_low": Rules("icsd24_low", include_alloys=True),
    "icsd24_medium_no_alloys": Rules("icsd24_medium", include_alloys=False),
}
"""smact's default, and the strict setting under which real formulas stand out from random ones."""

SIZES = range(2, 9)

ENTRIES = Table("entries", (column("id", pa.string(), "entry"), ELEMENTS, COUNTS))
SPLIT = Table("split", (column("id", pa.string(), "entry"), column("held_out", pa.bool_(), "trains nothing")))
_RANDOM_ROWS = 1 << 16

Weighted = tuple[Compositions, np.ndarray]
"""Distinct formulas and the times that each was drawn, int64 of shape (N,)."""


def write_pass_rates(
    *,
    entries_path: str | os.PathLike,
    split_path: str | os.PathLike | None,
    samples_paths: Sequence[str | os.PathLike],
    output_path: str | os.PathLike,
    seed: int,
) -> None:
    """Write :func:`pass_rates` of a campaign as JSON.

    Args:
        entries_path: The cleaned database.
        split_path: Which entries were held out; None counts all of them as training set.
        samples_paths: Parts of the sampling stage's table.
        output_path: JSON file.
        seed: The campaign's seed.

    Raises:
        ValueError: A table is missing, damaged or lacks a column.
    """
    training = read_training(entries_path, split_path)
    tables.write_json(output_path, pass_rates(training, SampleParts(samples_paths), seed))


class SampleParts:
    """The samples part by part, as often as one iterates; crystals of one formula, in one part all, count as one."""

    def __init__(self, paths: Sequence[str | os.PathLike]) -> None:
        self.paths = paths

    def __iter__(self) -> Iterator[Weighted]:
        for path in self.paths:
            samples = tables.read(path, DRAWN, ["n_drawn", "elements", "counts"])
            compositions = Compositions.from_table(samples)
            first, inverse = compositions.unique()
            drawn = np.bincount(inverse, weights=samples.column("n_drawn").to_numpy(), minlength=len(first))
            yield compositions.take(first), drawn.astype(np.int64)


def read_training(entries_path: str | os.PathLike, split_path: str | os.PathLike | None) -> Compositions:
    """The entries that are not held out.

    Raises:
        ValueError: A table is missing, damaged or lacks a column, or an entry has no row in the split.
    """
    entries = tables.read(entries_path, ENTRIES)
    compositions = Compositions.from_table(entries)
    if split_path is None:
        return compositions
    split = tables.read(split_path, SPLIT)
    place = pc.index_in(entries.column("id"), split.column("id").combine_chunks())
    if place.null_count:
        raise ValueError(f"{split_path}: {place.null_count} entries of {entries_path} are absent; rerun encoding")
    held_out = split.column("held_out").take(place).to_numpy()
    return compositions.take(~held_out)


def pass_rates(training: Compositions, samples: Iterable[Weighted], seed: int) -> dict:
    """Pass rates with their baselines, for each of ``SETTINGS``.

    Args:
        training: Training formulas, each once.
        samples: Parts of the sampled formulas, none in two; iterated once, and once more for each number of elements.
        seed: Of the random formulas.

    Returns:
        ``{setting: {"sets": {set: {"overall": rate, "by_n_elements": {"2": rate, ...}}}, "enrichment": {...}}}``.
        Sets are ``training``, ``samples`` and ``samples_drawn`` (each formula once, and as often as drawn), and their
        matched random formulas ``random_of_...``, where samples of more elements than training has are left out. A
        rate is ``{"rows", "passed", "rate"}``, its rate null without rows. ``enrichment`` divides the overall rates of
        training, samples and samples drawn by those of their random sets, null where none of those passes.
    """
    training = _two_to_eight(training)
    frequency = element_frequency(training)
    ones = np.ones(len(training), dtype=np.int64)
    random_of_training = matched_random(training, frequency, derived_seed(seed, "random_of_training"))
    random_of_samples = _random_batches(samples, frequency, derived_seed(seed, "random_of_samples"))
    tallies = {
        "training": _tally([(training, ones)]),
        "random_of_training": _tally([(random_of_training, ones)]),
        "samples": _tally(samples),
        "random_of_samples": _tally(random_of_samples),
    }
    result = {}
    for name in SETTINGS:
        rates = {each: _rates(tally[name][0]) for each, tally in tallies.items()}
        rates |= {f"{each}_drawn": _rates(tallies[each][name][1]) for each in ("samples", "random_of_samples")}
        overall = {each: rates[each]["overall"]["rate"] for each in rates}
        enrichment = {
            each: overall[each] / overall[f"random_of_{each}"] if overall[f"random_of_{each}"] else None
            for each in ("training", "samples", "samples_drawn")
        }
        result[name] = {"sets": rates, "enrichment": enrichment}
    return result


def pass_rate(compositions: Compositions, rules: Rules) -> float | None:
    """Share of the formulas of 2 to 8 elements that pass; None where there are none."""
    compositions = _two_to_eight(compositions)
    return float(assess(compositions, rules).smact_valid.mean()) if len(compositions) else None


def element_frequency(compositions: Compositions) -> np.ndarray:
    """Number of formulas with each element, int64 of shape (119,) by atomic number."""
    return np.bincount(compositions.elements, minlength=len(SYMBOLS) + 1)


def matched_random(compositions: Compositions, frequency: np.ndarray, seed: int) -> Compositions:
    """Formulas with the counts of ``compositions`` and elements drawn anew, none twice in a formula.

    Args:
        compositions: N formulas.
        frequency: Weight of each element by atomic number, of shape (119,).
        seed: Of the draw.

    Raises:
        ValueError: A formula has more elements than there are elements with a weight.
    """
    rng = np.random.default_rng(seed)
    elements = np.empty(len(compositions.elements), dtype=np.uint8)
    for k in np.unique(compositions.n_elements):
        rows = np.flatnonzero(compositions.n_elements == k)
        for some in np.split(rows, range(_RANDOM_ROWS, len(rows), _RANDOM_ROWS)):
            elements[compositions.offsets[some][:, None] + np.arange(k)] = _draw(rng, len(some), k, frequency)
    return Compositions.from_pairs(compositions.rows, elements, compositions.counts, len(compositions))


def _random_batches(samples: Iterable[Weighted], frequency: np.ndarray, seed: int) -> Iterator[Weighted]:
    """The formulas of :func:`matched_random` for all samples together, with their weights, batch by batch."""
    rng = np.random.default_rng(seed)
    for k in SIZES:
        if k > np.count_nonzero(frequency):
            return
        for counts_Nk, drawn in _batches(samples, k):
            elements_Nk = _draw(rng, len(drawn), k, frequency)
            rows = np.repeat(np.arange(len(drawn)), k)
            yield Compositions.from_pairs(rows, elements_Nk.ravel(), counts_Nk.ravel(), len(drawn)), drawn


def _batches(samples: Iterable[Weighted], k: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Counts (shape (N, k)) and weights of the samples of k elements, equally many at a time, then the rest."""
    counts_Nk, drawn = np.zeros((0, k), dtype=np.uint16), np.zeros(0, dtype=np.int64)
    for compositions, weight in samples:
        mine = compositions.n_elements == k
        counts_Nk = np.concatenate([counts_Nk, compositions.take(mine).counts.reshape(-1, k)])
        drawn = np.concatenate([drawn, weight[mine]])
        while len(drawn) >= _RANDOM_ROWS:
            yield counts_Nk[:_RANDOM_ROWS], drawn[:_RANDOM_ROWS]
            counts_Nk, drawn = counts_Nk[_RANDOM_ROWS:], drawn[_RANDOM_ROWS:]
    if len(drawn):
        yield counts_Nk, drawn


def _draw(rng: np.random.Generator, n: int, k: int, frequency: np.ndarray) -> np.ndarray:
    """Atomic numbers of ``n`` times ``k`` elements, none twice in a row of the result, uint8 of shape (n, k).

    Elements are drawn one after another without replacement in proportion to ``frequency`` (the k smallest of
    exponential waiting times, Efraimidis & Spirakis 2006, doi:10.1016/j.ipl.2005.11.003), then dealt at random.

    Raises:
        ValueError: There are fewer elements with a weight.
    """
    vocabulary = np.flatnonzero(frequency).astype(np.uint8)
    if k > len(vocabulary):
        raise ValueError(f"formulas of {k} elements cannot be drawn from the {len(vocabulary)} elements in training")
    rate = frequency[vocabulary].astype(np.float32)
    waiting = rng.standard_exponential((n, len(vocabulary)), dtype=np.float32) / rate
    drawn = np.argsort(waiting, axis=1)[:, :k] if k else np.zeros((n, 0), dtype=np.int64)
    return vocabulary[rng.permuted(drawn, axis=1)]


def _two_to_eight(compositions: Compositions) -> Compositions:
    return compositions.take(np.isin(compositions.n_elements, SIZES))


def _tally(parts: Iterable[Weighted]) -> dict[str, np.ndarray]:
    """By setting the formulas of 2 to 8 elements and those that pass, each once and as often as drawn.

    Returns:
        int64 of shape (2, 2, 9): weight (1, times drawn), which (all, passed), number of elements.
    """
    tallies = {name: np.zeros((2, 2, SIZES.stop), dtype=np.int64) for name in SETTINGS}
    for compositions, drawn in parts:
        keep = np.isin(compositions.n_elements, SIZES)
        compositions, drawn = compositions.take(keep), drawn[keep]
        for name, rules in SETTINGS.items():
            valid = assess(compositions, rules).smact_valid
            for tally, weight in zip(tallies[name], (np.ones_like(drawn), drawn), strict=True):
                np.add.at(tally[0], compositions.n_elements, weight)
                np.add.at(tally[1], compositions.n_elements, weight * valid)
    return tallies


def _rates(tally: np.ndarray) -> dict:
    rows, passed = tally
    return {
        "overall": _rate(rows.sum(), passed.sum()),
        "by_n_elements": {str(k): _rate(rows[k], passed[k]) for k in SIZES},
    }


def _rate(rows: int, passed: int) -> dict:
    return {"rows": int(rows), "passed": int(passed), "rate": float(passed / rows) if rows else None}
