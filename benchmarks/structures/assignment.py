"""python -m benchmarks.structures.assignment --data FOLDER: known crystals found again, none of their formula known.

Before relaxation, and after it for some of them.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.structures.known import N_TARGETS, WORK, Target, targets
from benchmarks.structures.library import library_of
from pipeline.structures.assign import Built, Library, same_crystal
from pipeline.structures.judge import preferred
from pipeline.structures.relax import Relaxed, relax_all
from pipeline.structures.relaxation_schema import RelaxationSettings
from pipeline.structures.schema import BuildSettings
from pipeline.structures.templates import guess_oxidation_states

AMONG = 5
BUILD = BuildSettings(max_structures_per_formula=AMONG, min_template_probability=0.0)
# Every cell is relaxed, however large, and far: for a figure, not for a campaign's time.
KEPT = RelaxationSettings(max_steps=200, fmax_ev_per_angstrom=0.05, max_atoms=200)
FREE = RelaxationSettings(max_steps=200, fmax_ev_per_angstrom=0.05, max_atoms=200, keep_symmetry=False)
SCALES_EV_PER_ATOM = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5)
GAIN_EV_PER_ATOM = 0.001  # less is no more than the end of a descent


def proposals(library: Library, targets: Sequence[Target]) -> list[list[Built]]:
    """The structures of each target's formula, all crystals of that formula hidden."""
    found = []
    for target in tqdm(targets, "assignment", unit=" formulas", mininterval=1):
        states = guess_oxidation_states(target.elements, target.counts)
        hidden = frozenset([target.formula])
        found.append(library.build(target.elements, target.counts, states, BUILD, without=hidden)[0])
    return found


def before_relaxation(library: Library, targets: Sequence[Target], built: Sequence[Sequence[Built]]) -> dict:
    """Share whose crystal is the first or among the first five, by elements and by the probability of the first.

    Returns:
        ``first`` and ``five``; ``elements``: of each number of elements, targets and both shares; ``probability``: of
        each fifth of the first's probability, targets, mean of what was said and share that was right;
        ``lookup_ms``: median time to rank the templates of a formula.
    """
    places = np.array([_place([one.cell for one in mine], target) for mine, target in zip(built, targets, strict=True)])
    sizes = np.array([len(target.elements) for target in targets])
    said = np.array([mine[0].probability if mine else 0.0 for mine in built])
    times = []
    for target in targets:
        begin = time.perf_counter()
        list(library.ranked(target.elements, target.counts, None))
        times.append(time.perf_counter() - begin)
    by_probability = []
    for low in np.arange(0, 1, 0.2):
        mine = (said >= low) & (said < low + 0.2 + 1e-9)
        if mine.any():
            by_probability.append([int(mine.sum()), float(said[mine].mean()), float((places[mine] == 0).mean())])
    return {
        **_shares(places),
        "elements": {int(n): _shares(places[sizes == n]) for n in np.unique(sizes)},
        "probability": by_probability,
        "lookup_ms": float(np.median(times) * 1e3),
    }


def after_relaxation(
    targets: Sequence[Target], built: Sequence[Sequence[Built]], cache_dir: Path, processes: int
) -> dict:
    """The same with the structures relaxed and put in order by their energies, and what symmetry costs.

    Returns:
        ``before``: the shares of these targets before relaxation; ``scales``: after it, by the energy that weighs as
        much as a factor e in probability, 0 for energy alone; ``chosen``: with the best scale of one half of the
        targets measured on the other half, both ways; ``structures`` and how many were ``relaxed``
        and ``converged``; ``kept``: how many have their space group after relaxation within it; ``changed``: those
        that do not, with the energy that a relaxation free of symmetry gains; ``free``: the same without keeping it.
    """
    cells = [one.cell for mine in built for one in mine]
    ends = np.cumsum([0, *(len(mine) for mine in built)])
    kept = relax_all(cells, KEPT, cache_dir=cache_dir, processes=processes, what="relaxation, symmetry kept")
    free = relax_all(cells, FREE, cache_dir=cache_dir, processes=processes, what="relaxation, free")
    before, by_scale = [], {scale: [] for scale in SCALES_EV_PER_ATOM}
    for target, mine, begin, end in zip(targets, built, ends, ends[1:], strict=False):
        relaxed = [one if isinstance(one, Relaxed) else None for one in kept[begin:end]]
        right = [one is not None and same_crystal(one.cell, target.cell) for one in relaxed]
        before.append(_place(cells[begin:end], target))
        energies = [one and one.energy_ev_per_atom for one in relaxed]
        for scale, places in by_scale.items():
            order = preferred(energies, [one.probability for one in mine], scale)
            places.append(next((place for place, number in enumerate(order) if right[number]), AMONG))
    by_scale = {scale: np.array(places) for scale, places in by_scale.items()}
    both = [(one, other) for one, other in zip(kept, free, strict=True) if isinstance(one, Relaxed)]
    both = [(one, other) for one, other in both if isinstance(other, Relaxed)]
    gains = [one.energy_ev_per_atom - other.energy_ev_per_atom for one, other in both]
    lost = [other.space_group_after != other.space_group_before for _, other in both]
    return {
        "before": _shares(np.array(before)),
        "scales": {scale: _shares(places) for scale, places in by_scale.items()},
        "chosen": _cross_validated(by_scale),
        "structures": len(cells),
        "relaxed": sum(isinstance(one, Relaxed) for one in kept),
        "converged": sum(isinstance(one, Relaxed) and one.converged for one in kept),
        "compared": len(both),
        "kept": sum(one.space_group_after == one.space_group_before for one, _ in both),
        "changed": [
            [_formula(one), one.space_group_before, one.space_group_after, gain]
            for (one, _), gain in zip(both, gains, strict=True)
            if one.space_group_after != one.space_group_before
        ],
        "free_kept": len(both) - sum(lost),
        "free_gains": sorted(
            (
                [_formula(other), other.space_group_before, other.space_group_after, gain]
                for (_, other), gain, is_lost in zip(both, gains, lost, strict=True)
                if is_lost and gain > GAIN_EV_PER_ATOM
            ),
            key=lambda row: -row[3],
        ),
    }


def _place(cells: Sequence, target: Target) -> int:
    """Place of the target's crystal among those proposed, from 0; ``AMONG`` where it is not there."""
    return next((place for place, cell in enumerate(cells) if same_crystal(cell, target.cell)), AMONG)


def _cross_validated(by_scale: dict[float, np.ndarray]) -> dict:
    n = len(next(iter(by_scale.values())))
    places, scales = np.empty(n, dtype=int), []
    for half in (0, 1):
        best = max(by_scale, key=lambda scale: (by_scale[scale][1 - half :: 2] == 0).mean())
        places[half::2] = by_scale[best][half::2]
        scales.append(best)
    return {**_shares(places), "scales": scales}


def _shares(places: np.ndarray) -> dict:
    return {"targets": len(places), "first": float((places == 0).mean()), "five": float((places < AMONG).mean())}


def _formula(relaxed: Relaxed) -> str:
    return relaxed.cell.to_structure().composition.reduced_formula


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structures.assignment", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds mp/")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what is made once (default: %(default)s)")
    parser.add_argument("--n", type=int, default=N_TARGETS, help="compounds (default: %(default)s)")
    parser.add_argument("--relaxed", type=int, default=200, help="of them relaxed (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.n > N_TARGETS:
        parser.error(f"--n {arguments.n}: the ranking was trained on all but the first {N_TARGETS} compounds")
    library = Library(library_of(arguments.data, arguments.work, arguments.processes))
    known = targets(arguments.data, arguments.work, arguments.n)
    built = proposals(library, known)
    n, cache = arguments.relaxed, arguments.work / "relaxations"
    told = {
        "ids": [target.id for target in known],
        "before": before_relaxation(library, known, built),
        "after": after_relaxation(known[:n], built[:n], cache, arguments.processes),
    }
    print(json.dumps({"name": "assignment", **told}))


if __name__ == "__main__":
    main()
