"""python -m benchmarks.crystalgan --data FOLDER: train, draw, relax, compare; write the page and its pictures."""

import argparse
import os
import warnings
from pathlib import Path

from benchmarks.crystalgan.beyond import look_beyond
from benchmarks.crystalgan.data import Known, hydrides, materials_project
from benchmarks.crystalgan.evaluate import measure, of_pair
from benchmarks.crystalgan.hull import hull_of
from benchmarks.crystalgan.methods import ANION, UNTRAINED, Job, outputs
from benchmarks.crystalgan.page import Findings, write_page

SEEDS = (1, 2, 3)
N_OUTPUTS = 70
TABLE_PAIRS = (("Pd", "Ni"), ("Mg", "Ti"))
BEYOND_PAIRS = (*TABLE_PAIRS, ("Ca", "Ni"), ("Li", "Be"))
METHODS = ("gan", "discogan", "paper_unconstrained", "paper", UNTRAINED, "default")
BEYOND = [(method, pair) for method in ("paper", UNTRAINED) for pair in TABLE_PAIRS]
BEYOND += [("default", pair) for pair in BEYOND_PAIRS]


def find(data: Path, work: Path, processes: int) -> Findings:
    """All that the page tells; what an earlier run found in ``work`` is not done again.

    Args:
        data: Folder with ``hydrides/mp_binary_hydrides`` and ``mp/mp_structures.jsonl.gz``.
        work: Folder of what is kept.
        processes: Trainings or relaxations at once, each on one thread.
    """
    entries_path = hydrides(data, work)
    known = Known(materials_project(data, work))
    jobs = [Job(method, (pair,), seed) for method in reversed(METHODS) for pair in TABLE_PAIRS for seed in SEEDS]
    jobs += [job for method, pair in BEYOND if (job := Job(method, (pair,), SEEDS[0])) not in jobs]
    drawn = outputs(jobs, N_OUTPUTS, entries_path, work, processes)
    measured = {
        (method, pair): [measure(drawn[Job(method, (pair,), seed)].cells, (*pair, ANION)) for seed in SEEDS]
        for method in METHODS
        for pair in TABLE_PAIRS
    }
    together = [Job("default", TABLE_PAIRS, seed) for seed in SEEDS]
    shared = outputs(together, len(TABLE_PAIRS) * N_OUTPUTS, entries_path, work, processes)
    path = work / "relaxed.jsonl"
    hulls = {
        pair: hull_of((*pair, ANION), [cell for _, cell in known.within((*pair, ANION))], path, processes)
        for pair in BEYOND_PAIRS
    }
    beyond = {}
    for method, pair in BEYOND:
        symbols, cells = (*pair, ANION), drawn[Job(method, (pair,), SEEDS[0])].cells
        what = f"{method}, {'-'.join(symbols)}"
        beyond[method, pair] = look_beyond(cells, symbols, hulls[pair][0], known, path, processes, what)
    return Findings(
        n_outputs=N_OUTPUTS,
        seeds=SEEDS,
        drawn=drawn,
        measured=measured,
        together={
            pair: [measure(of_pair(shared[job].cells, (*pair, ANION)), (*pair, ANION)) for job in together]
            for pair in TABLE_PAIRS
        },
        hulls={pair: about for pair, (_, about) in hulls.items()},
        beyond=beyond,
        real=[cell for _, cell in known.ternary_hydrides()],
    )


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crystalgan", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with hydrides/ and mp/")
    parser.add_argument("--output", type=Path, default=Path("docs/crystalgan.md"), help="page to write")
    parser.add_argument("--work", type=Path, default=Path("results/crystalgan-docs"), help="what is kept between runs")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="trainings and relaxations at once")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    write_page(arguments.output, find(arguments.data, arguments.work, arguments.processes))
    print(arguments.output)


if __name__ == "__main__":
    main()
