"""A campaign that never saw what it holds out, and the candidates among which that is hidden.

Held-out formulas are left out of every table before anything is learnt: the entries, the labels, and the hull that the
labels are measured from, which is built anew without them.

Suffixes: N candidates.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from benchmarks.properties import data
from pipeline import hull, tables
from pipeline.composition import Compositions, concatenate
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT
from pipeline.evaluation.baselines import enumeration, random
from pipeline.filtering.rules import assess
from pipeline.filtering.schema import DRAWN, FILTERED, Rules
from pipeline.provenance import derived_seed
from pipeline.screening.labelled import Labelled

SEED = 20201127
UNSTABLE_EV_PER_ATOM = 0.1
DRAWS = {"random": random, "enumeration": enumeration}


@dataclass(frozen=True)
class Campaign:
    """A campaign's database without and with what it holds out, distinct reduced formulas each.

    Attributes:
        training: Entries that the campaign may learn from.
        held_out: Entries that it may not.
        above_hull: Of the held-out ones, eV/atom, NaN where the database has none.
        survivors: Samples of its generator that passed the filter.
        rules: Of the filter.
        n_drawn, n_samples: Samples that the generator drew, and how many of them are distinct.
    """

    training: Compositions
    held_out: Compositions
    above_hull: np.ndarray
    survivors: Compositions
    rules: Rules
    n_drawn: int
    n_samples: int


@dataclass(frozen=True)
class Pool:
    """Candidates to be ranked.

    Attributes:
        compositions: N distinct ones, none of the training set.
        stable, unstable: Which of them are held-out compounds on the hull, and above 0.1 eV/atom; bool of shape (N,).
    """

    compositions: Compositions
    stable: np.ndarray
    unstable: np.ndarray


def read_campaign(results: Path) -> Campaign:
    """Read a campaign's folder, ``results/NAME``.

    Raises:
        ValueError: A table is missing or damaged.
    """
    entries = tables.read(
        results / "database/entries.parquet", ENTRIES, ["id", "elements", "counts", "energy_above_hull_ev_per_atom"]
    )
    split = tables.read(results / "encoding/split.parquet", SPLIT, ["id", "held_out"])
    hidden = pc.is_in(entries["id"], value_set=split.filter(split["held_out"])["id"].combine_chunks())
    kept, held = entries.filter(pc.invert(hidden)), entries.filter(hidden)
    training, held_out = (Compositions.from_table(each).reduced() for each in (kept, held))
    above_hull = held["energy_above_hull_ev_per_atom"].to_numpy()
    lowest = Labelled(held["id"].to_numpy(zero_copy_only=False), held_out, above_hull).lowest(above_hull)
    lowest = lowest.take(~lowest.compositions.contained_in(training))
    parts = sorted((results / "filtering/filtered").glob("*.parquet"))
    if not parts:
        raise ValueError(f"{results}: no filtered samples here; run `snakemake filtering` of the campaign first")
    filtered = [tables.read(path, FILTERED, ["elements", "counts", "rejected_by"]) for path in parts]
    samples = sorted((results / "sampling/samples").glob("*.parquet"))
    settings = tables.provenance(parts[0])["settings"]
    return Campaign(
        training=training.take(training.unique()[0]),
        held_out=lowest.compositions,
        above_hull=lowest.values,
        survivors=concatenate(
            [Compositions.from_table(part.filter(pc.is_null(part["rejected_by"]))).reduced() for part in filtered]
        ),
        rules=Rules(**{name: value for name, value in settings.items() if name in Rules.__dataclass_fields__}),
        n_drawn=sum(pc.sum(tables.read(path, DRAWN, ["n_drawn"])["n_drawn"]).as_py() for path in samples),
        n_samples=sum(map(len, filtered)),
    )


def labels(folder: Path, campaign: Campaign) -> tuple[Labelled, Labelled, Labelled]:
    """Energies of the compounds that the campaign may know.

    Returns:
        Decomposition energies from the hull of these compounds alone; their formation energies; and their decomposition
        energies as published, from the hull of all compounds, held-out ones among them.
    """
    published, formation = data.decomposition_energies(folder)
    seen = ~published.compositions.contained_in(campaign.held_out)
    published, formation = published.take(seen), formation[seen]
    own = hull.decomposition_energies(published.compositions, formation)
    rows = (Labelled(published.ids, published.compositions, values) for values in (own, formation))
    return (*rows, published)


def make_pool(campaign: Campaign, candidates: Compositions) -> Pool:
    """Hide the held-out compounds that the filter passes among candidates; training formulas are taken out.

    A held-out compound that is among the candidates anyway is counted once.
    """
    held = hide(campaign)
    everything = concatenate([held.compositions, candidates.take(~candidates.contained_in(campaign.training))])
    everything = everything.take(everything.unique()[0])
    stable, unstable = (np.zeros(len(everything), dtype=bool) for _ in range(2))
    stable[: len(held.stable)], unstable[: len(held.stable)] = held.stable, held.unstable
    return Pool(everything, stable, unstable)


def hide(campaign: Campaign) -> Pool:
    """The held-out compounds that the filter passes, stable ones and those far from the hull."""
    passed = assess(campaign.held_out, campaign.rules).smact_valid
    stable = passed & (campaign.above_hull <= 0)
    unstable = passed & (campaign.above_hull > UNSTABLE_EV_PER_ATOM)
    either = stable | unstable
    return Pool(campaign.held_out.take(either), stable[either], unstable[either])


def draw(kind: str, campaign: Campaign, n: int) -> Compositions:
    """Distinct formulas of a baseline that pass the filter and are no training formulas.

    ``n`` of them, or fewer where another ``n`` draws bring nothing new.
    """
    found, total, rounds = Compositions.from_dicts([]), 0, 0
    while total < n:
        drawn = DRAWS[kind](campaign.training, max(n, 1000), derived_seed(SEED, kind, rounds) % (1 << 62))
        rounds += 1
        drawn = drawn.take(assess(drawn, campaign.rules).smact_valid)
        drawn = drawn.take(~drawn.contained_in(campaign.training))
        found = concatenate([found, drawn])
        found = found.take(found.unique()[0][:n])
        if len(found) == total:
            break
        total = len(found)
    return found
