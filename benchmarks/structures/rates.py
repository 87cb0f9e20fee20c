"""python -m benchmarks.structures.rates --data FOLDER: relaxation with CHGNet beside CHGNet's own, on real crystals."""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.crystalgan.data import materials_project
from benchmarks.structures.known import WORK
from pipeline.cells import SITE_ELEMENTS, Cell, from_table
from pipeline.structures.relax import Relaxed, potential_name, relax_all
from pipeline.structures.relaxation_schema import RelaxationSettings

MAX_SITES = 20
SHAKEN_ANGSTROM, SHAKEN_STRAIN = 0.05, 0.01  # standard deviations
SEED = 0


def measure(
    cells: Sequence[Cell], settings: RelaxationSettings, processes: int, peer_threads: int, device: str, repeats: int
) -> dict:
    """Cells relaxed in a second, ours and by ``chgnet.model.dynamics.StructOptimizer``, in turn.

    Both take the steps of ASE's FIRE on ASE's ``FrechetCellFilter``, to the same largest force and at most as many
    steps. The peer takes one cell after the other. Its model is loaded beforehand; the start of our processes counts.

    Args:
        cells: To relax.
        settings: Of CHGNet, without symmetry, which the peer does not keep.
        processes: Ours, of one thread each.
        peer_threads: On a machine that others use too, more than one slow it down.
        device: ``cpu`` or ``cuda``.
        repeats: Turns.

    Returns:
        Rates, their ratio within a turn, and how many cells were compared, with the largest difference of their
        energies and of their numbers of steps.
    """
    import torch
    from chgnet.model.dynamics import CHGNetCalculator, StructOptimizer

    optimizer = StructOptimizer(CHGNetCalculator(use_device=device, on_isolated_atoms="error"))
    structures = [cell.to_structure() for cell in cells]

    def ours() -> list[Relaxed | str]:
        return relax_all(cells, settings, cache_dir=None, processes=processes, device=device, what="ours")

    def theirs() -> list[tuple[float, int]]:
        found = []
        for structure in structures:
            path = optimizer.relax(
                structure,
                fmax=settings.fmax_ev_per_angstrom,
                steps=settings.max_steps,
                verbose=False,
                assign_magmoms=False,
            )["trajectory"]
            found.append((float(path.energies[-1]) / len(structure), len(path) - 2))  # start and end come twice
        return found

    relax_all(cells[:1], settings, cache_dir=None, processes=1, device=device, what="warm")
    turns = []
    torch.set_num_threads(peer_threads)
    for _ in range(repeats):
        (mine, seconds), (peer, peer_seconds) = _timed(ours), _timed(theirs)
        turns.append((seconds, peer_seconds))
    pairs = [(one, other) for one, other in zip(mine, peer, strict=True) if isinstance(one, Relaxed)]
    gaps = [abs(one.energy_ev_per_atom - energy) for one, (energy, _) in pairs]
    ratios = [slow / fast for fast, slow in turns]
    return {
        "processes": processes,
        "peer_threads": peer_threads,
        "ours_per_s": round(len(cells) / statistics.median(fast for fast, _ in turns), 2),
        "peer_per_s": round(len(cells) / statistics.median(slow for _, slow in turns), 2),
        "ratio": {
            "median": round(statistics.median(ratios), 2),
            "min": round(min(ratios), 2),
            "max": round(max(ratios), 2),
        },
        "turns": repeats,
        "compared": len(pairs),
        "steps": sum(one.n_steps for one, _ in pairs),
        "peer_steps": sum(steps for _, steps in peer),
        "converged": sum(one.converged for one, _ in pairs),
        "largest_step_difference": max(abs(one.n_steps - steps) for one, (_, steps) in pairs),
        "largest_energy_difference_ev_per_atom": max(gaps),
        "median_energy_difference_ev_per_atom": statistics.median(gaps),
    }


def shaken_crystals(data: Path, work: Path, n: int) -> list[Cell]:
    """Random crystals of Materials Project, of few sites and elements that CHGNet knows, moved from their rest."""
    random = np.random.default_rng(SEED)
    cells = []
    for cell in small_crystals(data, work, n):
        moved = random.normal(0, SHAKEN_ANGSTROM, cell.fractional.shape) @ np.linalg.inv(cell.lattice)
        lattice = cell.lattice @ (np.eye(3) + random.normal(0, SHAKEN_STRAIN, (3, 3)))
        cells.append(Cell(lattice, cell.elements, cell.fractional + moved))
    return cells


def small_crystals(data: Path, work: Path, n: int) -> list[Cell]:
    """Random crystals of Materials Project of at most ``MAX_SITES`` sites and of elements that CHGNet knows.

    Raises:
        ValueError: There are fewer than ``n``.
    """
    from pipeline.structures.chgnet_batches import KNOWN_ELEMENTS

    table = materials_project(data, work)
    small = pc.indices_nonzero(pc.less_equal(pc.list_value_length(table[SITE_ELEMENTS.name]), MAX_SITES)).to_numpy()
    order = np.random.default_rng(SEED).permutation(small)
    elements = table["elements"].take(pa.array(order)).to_pylist()
    known = [place for place, held in zip(order, elements, strict=True) if KNOWN_ELEMENTS.issuperset(held)]
    if len(known) < n:
        raise ValueError(f"{data}: {len(known)} crystals of at most {MAX_SITES} sites, {n} asked for; ask for fewer")
    return from_table(table.take(pa.array(known[:n])))


def _timed(function: Callable) -> tuple[list, float]:
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def main() -> None:
    """Read the command line, measure, and print one JSON line for each number of processes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structures.rates", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with mp/mp_structures.jsonl.gz")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what is made once (default: %(default)s)")
    parser.add_argument("--n", type=int, default=24, help="crystals")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="ours; on a GPU there is one")
    parser.add_argument("--peer-threads", type=int, help="as many as our processes by default")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="a fourth of the crystals, 20 steps, one turn")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    n, steps, repeats = (max(1, arguments.n // 4), 20, 1) if arguments.quick else (arguments.n, 200, 3)
    settings = RelaxationSettings(max_steps=steps, keep_symmetry=False)
    cells = shaken_crystals(arguments.data, arguments.work, n)
    about = {
        "crystals": n,
        "sites": sum(len(cell.elements) for cell in cells),
        "max_steps": steps,
        "fmax_ev_per_angstrom": settings.fmax_ev_per_angstrom,
        "potential": potential_name(settings),
        "device": arguments.device,
    }
    for processes in [1] if arguments.device == "cuda" else arguments.processes:
        found = measure(cells, settings, processes, arguments.peer_threads or processes, arguments.device, repeats)
        print(json.dumps({"name": "relaxation", **about, **found}), flush=True)


if __name__ == "__main__":
    main()
