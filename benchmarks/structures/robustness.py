"""python -m benchmarks.structures.robustness --data FOLDER: planted bad cells among real crystals stop nothing."""

import argparse
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.structures.known import WORK
from benchmarks.structures.rates import SEED, small_crystals
from pipeline.cells import Cell
from pipeline.structures.relax import Relaxed, potential_name, relax_all
from pipeline.structures.relax_batch import (
    ISOLATED_ATOM,
    NO_CRYSTAL,
    TOO_CLOSE_RELAXED,
    TOO_CLOSE_UNRELAXED,
    TOO_MANY_ATOMS,
    UNKNOWN_ELEMENT,
    VOLUME_CHANGED,
)
from pipeline.structures.relaxation_schema import RelaxationSettings

PLANTED_SHARE = 0.02
# What was planted, and the reason that fits it.
FITTING = {
    "overlapping": TOO_CLOSE_UNRELAXED,
    "zero volume": NO_CRYSTAL,
    "500 atoms": TOO_MANY_ATOMS,
    "unknown element": UNKNOWN_ELEMENT,
    "not a number": NO_CRYSTAL,
}
# What a real crystal may meet: no neighbour as far as CHGNet sees, or a step too far from a state it does not know.
ACCEPTABLE = {ISOLATED_ATOM, TOO_CLOSE_UNRELAXED, TOO_CLOSE_RELAXED, VOLUME_CHANGED}


def spoiled(cell: Cell, how: str, random: np.random.Generator) -> Cell:
    """A bad cell made from a good one; ``how`` is a key of ``FITTING``."""
    lattice, elements, fractional = cell.lattice.copy(), cell.elements.copy(), cell.fractional.copy()
    if how == "overlapping":
        near = fractional[:1] + random.normal(0, 0.05, (1, 3)) @ np.linalg.inv(lattice)
        elements, fractional = np.append(elements, elements[0]), np.concatenate([fractional, near])
    elif how == "zero volume":
        lattice[2] = lattice[0] + lattice[1] * random.normal()
    elif how == "500 atoms":
        times = -(-500 // len(elements))
        lattice[2] *= times
        images = fractional[None] + np.arange(times)[:, None, None] * [0, 0, 1]
        fractional = (images / [1, 1, times]).reshape(-1, 3)[:500]
        elements = np.tile(elements, times)[:500]
    elif how == "unknown element":
        elements[random.integers(len(elements))] = random.choice([84, 85, 86, 87, 88, 95, 96, 100, 118])
    else:
        array = [lattice, fractional][random.integers(2)]
        array[tuple(random.integers(size) for size in array.shape)] = random.choice([np.nan, np.inf])
    return Cell(lattice, elements, fractional)


def planted(cells: Sequence[Cell], n: int, random: np.random.Generator) -> tuple[list[Cell], dict[int, str]]:
    """The cells with ``n`` bad ones among them, equally many of each kind, and where these are."""
    kinds = [kind for kind in FITTING for _ in range(n // len(FITTING))]
    bad = [spoiled(cells[random.integers(len(cells))], kind, random) for kind in kinds]
    order = random.permutation(len(cells) + len(bad))
    mixed = [*cells, *bad]
    where = {place: kinds[source - len(cells)] for place, source in enumerate(order) if source >= len(cells)}
    return [mixed[source] for source in order], where


def check(cells: Sequence[Cell], where: dict[int, str], processes: int, device: str, max_steps: int) -> dict:
    """Relax all for a few steps.

    Returns:
        How many of the good ones were relaxed or have which reason, and how many of each kind of bad one were reported.

    Raises:
        AssertionError: A bad one has no fitting reason, or a good one has one that nobody can accept.
    """
    settings = RelaxationSettings(max_steps=max_steps)
    start = time.perf_counter()
    found = relax_all(cells, settings, cache_dir=None, processes=processes, device=device, what="robustness")
    seconds = time.perf_counter() - start
    good = [outcome for place, outcome in enumerate(found) if place not in where]
    reported = Counter(kind for place, kind in where.items() if found[place] == FITTING[kind])
    reasons = Counter(outcome for outcome in good if isinstance(outcome, str))
    assert reported == Counter(where.values()), f"reported {dict(reported)} of {dict(Counter(where.values()))}"
    assert set(reasons) <= ACCEPTABLE, f"good cells have reasons {dict(reasons)}"
    return {
        "cells": len(cells),
        "planted": len(where),
        "reported": dict(reported),
        "treated": len(good),
        "relaxed": sum(isinstance(outcome, Relaxed) for outcome in good),
        "reasons": dict(reasons),
        "max_steps": max_steps,
        "potential": potential_name(settings),
        "device": device,
        "processes": processes,
        "seconds": round(seconds),
    }


def main() -> None:
    """Read the command line, check, and print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structures.robustness", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with mp/mp_structures.jsonl.gz")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what is made once (default: %(default)s)")
    parser.add_argument("--n", type=int, default=10000, help="cells, 2 % of them bad")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--max-steps", type=int, default=1)
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    n_bad = max(len(FITTING), round(arguments.n * PLANTED_SHARE / len(FITTING)) * len(FITTING))
    cells = small_crystals(arguments.data, arguments.work, arguments.n - n_bad)
    mixed, where = planted(cells, n_bad, np.random.default_rng(SEED))
    found = check(mixed, where, arguments.processes, arguments.device, arguments.max_steps)
    print(json.dumps({"name": "robustness", **found}))


if __name__ == "__main__":
    main()
