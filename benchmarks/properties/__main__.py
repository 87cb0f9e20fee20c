"""python -m benchmarks.properties --data FOLDER [TASK ...]: measure, and write docs/screening.md from all there is."""

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.properties import calibration, data, decomposition, discovery, matbench, oqmd, plans, record
from benchmarks.properties.page import write_page

TASKS = ("discovery", "decomposition", "oqmd", "calibration", *matbench.TASKS)
WORK = Path("results/benchmarks/properties")


def tasks(arguments: argparse.Namespace) -> dict[str, tuple[Callable[[], dict], tuple[str, ...]]]:
    """Of each task what does it, and the tables that it reads."""
    folder, work, plan = arguments.data, arguments.work, plans.QUICK if arguments.quick else plans.FULL
    grouped = {"variants": plan.grouped, "joined": plan.joined, "curve_of": plan.curve_of}
    found: dict = {
        "discovery": (
            partial(discovery.run, arguments.campaign, folder, work, plan.candidates, plan.ranked_by),
            (data.DECOMPOSITION_TABLE,),
        ),
        "decomposition": (partial(decomposition.run, folder, work, **grouped), (data.DECOMPOSITION_TABLE,)),
        "oqmd": (partial(oqmd.run, folder, work, **grouped), (data.OQMD_TABLE,)),
        "calibration": (lambda: calibration.run(work, _quantiles(work)), ()),
    }
    for name in matbench.TASKS:
        run = partial(
            matbench.measure,
            folder,
            name,
            plan.matbench[name],
            plan.matbench_joined[name],
            arguments.folds,
            arguments.network_folds,
            work / "matbench",
        )
        further = ("matbench/mp_gap.csv.gz",) if name in matbench.EXPERIMENTS else ()
        found[name] = run, (f"matbench/{name}.csv.gz", *further)
    return found


def _quantiles(work: Path) -> dict[str, list[float]]:
    """``residual_quantiles`` of the models whose test sets the calibration looks at."""
    return {
        task: kept["found"]["residual_quantiles"]
        for task, kept in record.read(work).items()
        if task in calibration.TESTED_FILES
    }


def main(given: Sequence[str] | None = None) -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.properties", description=__doc__)
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"{', '.join(TASKS)}, or page; all without any")
    parser.add_argument("--data", type=Path, required=True, help="folder with matbench/, mp/ and oqmd/")
    parser.add_argument("--folds", type=int, default=5, choices=range(1, 6), help="of Matbench, the first ones")
    parser.add_argument("--network-folds", type=int, default=5, choices=range(6), help="of these, for networks")
    parser.add_argument("--campaign", type=Path, default=Path("results/mp"), help="a campaign that has been filtered")
    parser.add_argument("--work", type=Path, default=WORK, help="what is kept between runs")
    parser.add_argument("--output", type=Path, default=Path("docs/screening.md"), help="page to write")
    parser.add_argument("--quick", action="store_true", help="few trees, epochs and candidates: does it run at all?")
    arguments = parser.parse_args(given)
    if odd := [name for name in arguments.tasks if name not in (*TASKS, "page")]:
        parser.error(f"no task {odd[0]!r}; there are {', '.join(TASKS)} and page")
    warnings.simplefilter("ignore")
    for name in arguments.tasks or TASKS:
        if name == "page":
            continue
        run, inputs = tasks(arguments)[name]
        start = time.perf_counter()
        found = run()
        options = (
            f" --folds {arguments.folds} --network-folds {arguments.network_folds}" if name in matbench.TASKS else ""
        )
        options += f" --campaign {arguments.campaign}" if name == "discovery" else ""
        options += " --quick" if arguments.quick else ""
        command = f"python -m benchmarks.properties --data $KIMBERLITE_DATA {name}{options}"
        record.write(
            arguments.work, name, found, time.perf_counter() - start, command, data.digest(arguments.data, *inputs)
        )
    kept = record.read(arguments.work)
    write_page(arguments.output, {name: kept[name] for name in TASKS if name in kept})
    print(arguments.output)


if __name__ == "__main__":
    main()
