"""python -m benchmarks [NAME ...] [--quick]: measure ours beside the peer and print one JSON line for each."""

import argparse
import json
import os
import resource
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pipeline.composition import SYMBOLS, Compositions
from pipeline.database.sources import read_source

REPEATS = 3


def embedded(n: int) -> Compositions:
    """The first ``n`` distinct reduced formulas of two elements or more in the embedded database."""
    rows = read_source({"kind": "matminer_transport"})
    compositions = Compositions.from_dicts(row.amounts for row in rows).reduced()
    compositions = compositions.take(compositions.n_elements > 1)
    return compositions.take(compositions.unique()[0][:n])


def filtering(quick: bool) -> dict:
    """The SMACT filter at smact's defaults against ``smact.screening.smact_validity``, on real formulas."""
    from smact.screening import smact_validity

    from pipeline.filtering.rules import assess
    from pipeline.filtering.schema import Rules

    compositions = embedded(3000 if quick else 30000)
    formulas = compositions.formulas().to_pylist()
    rules = Rules()
    assess(compositions, rules)  # compiled, as every run after the first finds it
    return compare(
        lambda: assess(compositions, rules).smact_valid,
        lambda: np.array([smact_validity(formula) for formula in formulas]),
        len(formulas),
        lambda ours, theirs: float((ours != theirs).sum()),
    )


def features(quick: bool) -> dict:
    """All 132 Magpie features against matminer's ``ElementProperty.from_preset("magpie")``, on real formulas."""
    from matminer.featurizers.composition import ElementProperty
    from pymatgen.core import Composition

    from pipeline.screening.features import magpie

    compositions = embedded(300 if quick else 3000)
    peers = [Composition(formula) for formula in compositions.formulas().to_pylist()]
    featurizer = ElementProperty.from_preset("magpie", impute_nan=True)
    magpie(compositions.take([0]))
    return compare(
        lambda: magpie(compositions),
        lambda: np.array([featurizer.featurize(peer) for peer in peers]),
        len(peers),
        lambda ours, theirs: float(np.nanmax(np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1))),
    )


def parsing(quick: bool) -> dict:
    """Formula text to integers against ``pymatgen.core.Composition``."""
    from pymatgen.core import Composition

    formulas = embedded(3000 if quick else 30000).formulas().to_pylist()
    return compare(
        lambda: [dict(zip(*map(tuple, row), strict=True)) for row in _pairs(Compositions.from_formulas(formulas))],
        lambda: [{SYMBOLS.index(el.symbol) + 1: int(n) for el, n in Composition(f).items()} for f in formulas],
        len(formulas),
        lambda ours, theirs: float(sum(a != b for a, b in zip(ours, theirs, strict=True))),
    )


def _pairs(compositions: Compositions):
    for begin, end in zip(compositions.offsets[:-1], compositions.offsets[1:], strict=True):
        yield compositions.elements[begin:end].tolist(), compositions.counts[begin:end].tolist()


def cifs(quick: bool) -> dict:
    """A folder of CIFs, in as many processes as there are cores, against ``pymatgen.core.Structure.from_str``.

    The AFLOW prototypes, half of them with their symmetry operations and half in P1; files repeat.
    """
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY
    from pymatgen.core import Structure
    from pymatgen.io.cif import CifWriter

    from pipeline.database.archives import cells

    texts = []
    for place, prototype in enumerate(AFLOW_PROTOTYPE_LIBRARY):
        texts.append(str(CifWriter(prototype["snl"].structure, symprec=0.01 if place % 2 else None)))
    texts = texts * (1 if quick else 10)
    with tempfile.TemporaryDirectory() as folder:
        for place, text in enumerate(texts):
            Path(folder, f"{place:05d}.cif").write_text(text)
        list(cells(Path(folder), len(os.sched_getaffinity(0))))  # the processes run, as for all files after the first
        return compare(
            lambda: [len(row.cell.elements) for row in cells(Path(folder), len(os.sched_getaffinity(0)))],
            lambda: [len(Structure.from_str(path.read_text(), fmt="cif")) for path in sorted(Path(folder).iterdir())],
            len(texts),
            lambda ours, theirs: float(sum(a != b for a, b in zip(ours, theirs, strict=True))),
        )


BENCHMARKS: dict[str, Callable[[bool], dict]] = {
    "filter": filtering,
    "features": features,
    "parsing": parsing,
    "cifs": cifs,
}


def compare(ours: Callable, peer: Callable, n: int, difference: Callable) -> dict:
    """Run both in turn, several times; rates per second, and their ratio within each turn."""
    turns = []
    for _ in range(REPEATS):
        (mine, seconds), (theirs, peer_seconds) = _timed(ours), _timed(peer)
        turns.append((n / seconds, n / peer_seconds, difference(mine, theirs)))
    ratios = [fast / slow for fast, slow, _ in turns]
    return {
        "ours_per_s": round(statistics.median(fast for fast, _, _ in turns)),
        "peer_per_s": round(statistics.median(slow for _, slow, _ in turns)),
        "ratio": {
            "median": round(statistics.median(ratios), 1),
            "min": round(min(ratios), 1),
            "max": round(max(ratios), 1),
        },
        "compared": n,
        "difference": max(gap for _, _, gap in turns),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "device": "cpu",
    }


def _timed(function: Callable) -> tuple[object, float]:
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="smaller inputs")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark '{unknown[0]}'; there are {', '.join(BENCHMARKS)}")
    warnings.simplefilter("ignore")
    for name in arguments.names or BENCHMARKS:
        print(json.dumps({"name": name, **BENCHMARKS[name](arguments.quick)}), flush=True)


if __name__ == "__main__":
    main()
