"""How much a pass rate means: training set, samples and random formulas of the same shape under the same rules.

A share of valid samples says nothing alone, since loose rules let most random formulas pass. Rates are counted over
formulas of 2 to 8 elements (single elements always pass), each beside that of random formulas with the same counts.
"""

import os
from collections.abc import Sequence

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
    samples = tables.read_all(samples_paths, DRAWN, ["n_drawn", "elements", "counts"])
    training = read_training(entries_path, split_path)
    compositions = Compositions.from_table(samples)
    first, inverse = compositions.unique()  # several crystals of one formula count as that formula
    drawn = np.bincount(inverse, weights=samples.column("n_drawn").to_numpy(), minlength=len(first))
    tables.write_json(output_path, pass_rates(training, compositions.take(first), drawn, seed))


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


def pass_rates(training: Compositions, samples: Compositions, n_drawn: np.ndarray, seed: int) -> dict:
    """Pass rates with their baselines, for each of ``SETTINGS``.

    Args:
        training: Training formulas, each once.
        samples: Unique sampled formulas.
        n_drawn: Times that each was drawn, integers of shape (N,).
        seed: Of the random formulas.

    Returns:
        ``{setting: {"sets": {set: {"overall": rate, "by_n_elements": {"2": rate, ...}}}, "enrichment": {...}}}``.
        Sets are ``training``, ``samples`` and ``samples_drawn`` (each formula once, and as often as drawn), and their
        matched random formulas ``random_of_...``, where samples of more elements than training has are left out. A
        rate is ``{"rows", "passed", "rate"}``, its rate null without rows. ``enrichment`` divides the overall rates of
        training, samples and samples drawn by those of their random sets, null where none of those passes.
    """
    training, [ones] = _two_to_eight(training, np.ones(len(training), dtype=np.int64))
    samples, [n_drawn] = _two_to_eight(samples, np.asarray(n_drawn, dtype=np.int64))
    frequency = element_frequency(training)
    drawable = samples.n_elements <= np.count_nonzero(frequency)
    random_of_training = matched_random(training, frequency, derived_seed(seed, "random_of_training"))
    random_of_samples = matched_random(samples.take(drawable), frequency, derived_seed(seed, "random_of_samples"))
    sets = {
        "training": (training, ones),
        "random_of_training": (random_of_training, ones),
        "samples": (samples, np.ones_like(n_drawn)),
        "random_of_samples": (random_of_samples, np.ones_like(n_drawn[drawable])),
        "samples_drawn": (samples, n_drawn),
        "random_of_samples_drawn": (random_of_samples, n_drawn[drawable]),
    }
    result = {}
    for name, rules in SETTINGS.items():
        rates = {
            each: _rates(compositions, assess(compositions, rules).smact_valid, weight)
            for each, (compositions, weight) in sets.items()
        }
        overall = {each: rates[each]["overall"]["rate"] for each in rates}
        enrichment = {
            each: overall[each] / overall[f"random_of_{each}"] if overall[f"random_of_{each}"] else None
            for each in ("training", "samples", "samples_drawn")
        }
        result[name] = {"sets": rates, "enrichment": enrichment}
    return result


def pass_rate(compositions: Compositions, rules: Rules) -> float | None:
    """Share of the formulas of 2 to 8 elements that pass; None where there are none."""
    compositions, _ = _two_to_eight(compositions)
    return float(assess(compositions, rules).smact_valid.mean()) if len(compositions) else None


def element_frequency(compositions: Compositions) -> np.ndarray:
    """Number of formulas with each element, int64 of shape (119,) by atomic number."""
    return np.bincount(compositions.elements, minlength=len(SYMBOLS) + 1)


def matched_random(compositions: Compositions, frequency: np.ndarray, seed: int) -> Compositions:
    """Formulas with the counts of ``compositions`` and elements drawn anew, none twice in a formula.

    Elements are drawn one after another without replacement in proportion to ``frequency`` (the k smallest of
    exponential waiting times, Efraimidis & Spirakis 2006, doi:10.1016/j.ipl.2005.11.003), then dealt to the counts at
    random.

    Args:
        compositions: N formulas.
        frequency: Weight of each element by atomic number, of shape (119,).
        seed: Of the draw.

    Raises:
        ValueError: A formula has more elements than there are elements with a weight.
    """
    rng = np.random.default_rng(seed)
    vocabulary = np.flatnonzero(frequency).astype(np.uint8)
    rate = frequency[vocabulary].astype(np.float32)
    elements = np.empty(len(compositions.elements), dtype=np.uint8)
    for k in np.unique(compositions.n_elements):
        if k > len(vocabulary):
            raise ValueError(
                f"formulas of {k} elements cannot be drawn from the {len(vocabulary)} elements in training"
            )
        rows = np.flatnonzero(compositions.n_elements == k)
        for some in np.split(rows, range(_RANDOM_ROWS, len(rows), _RANDOM_ROWS)):
            waiting = rng.standard_exponential((len(some), len(vocabulary)), dtype=np.float32) / rate
            drawn = np.argsort(waiting, axis=1)[:, :k] if k else np.zeros((len(some), 0), dtype=np.int64)
            pairs = compositions.offsets[some][:, None] + np.arange(k)
            elements[pairs] = vocabulary[rng.permuted(drawn, axis=1)]
    return Compositions.from_pairs(compositions.rows, elements, compositions.counts, len(compositions))


def _two_to_eight(compositions: Compositions, *aligned: np.ndarray) -> tuple[Compositions, list[np.ndarray]]:
    keep = np.isin(compositions.n_elements, SIZES)
    return compositions.take(keep), [values[keep] for values in aligned]


def _rates(compositions: Compositions, valid: np.ndarray, weight: np.ndarray) -> dict:
    rows = np.bincount(compositions.n_elements, weights=weight, minlength=SIZES.stop)
    passed = np.bincount(compositions.n_elements, weights=weight * valid, minlength=SIZES.stop)
    return {
        "overall": _rate(rows.sum(), passed.sum()),
        "by_n_elements": {str(k): _rate(rows[k], passed[k]) for k in SIZES},
    }


def _rate(rows: float, passed: float) -> dict:
    return {"rows": int(rows), "passed": int(passed), "rate": float(passed / rows) if rows else None}
