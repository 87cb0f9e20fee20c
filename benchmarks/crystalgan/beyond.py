"""What CHGNet and Materials Project say of generated ternaries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.crystalgan.data import Known, reduced_formula
from benchmarks.crystalgan.evaluate import GATE, groups, ternaries
from benchmarks.crystalgan.hull import NEAR_HULL_EV_PER_ATOM, Hull
from benchmarks.crystalgan.relaxing import relax_all
from pipeline.cells import Cell
from pipeline.structures.assign import same_crystal
from pipeline.structures.relax import Relaxed
from pipeline.structures.volume import too_close


@dataclass(frozen=True)
class Crystal:
    """A distinct relaxed ternary.

    Attributes:
        formula: Reduced.
        relaxed: Its relaxation, that of the lowest energy among equal crystals.
        hull_distance_ev_per_atom: Above the hull of Materials Project's entries, all by CHGNet; negative below it.
        known_id: The same crystal in Materials Project; None if there is none.
    """

    formula: str
    relaxed: Relaxed
    hull_distance_ev_per_atom: float
    known_id: str | None


def look_beyond(
    cells: Sequence[Cell], symbols: Sequence[str], hull: Hull, known: Known, path: Path, processes: int, what: str
) -> tuple[dict[str, int], list[Crystal]]:
    """Relax what passes the gate, and compare it with what is known.

    Args:
        cells: Outputs of a method.
        symbols: Metal A, metal B and the anion; other outputs are left out.
        hull: Of the system.
        known: Materials Project.
        path, processes, what: See :func:`relax_all`.

    Returns:
        Counts, each among those before: ``ternary``, ``gate``, ``crystals`` (relaxation did not fail, tear the cell
        apart or bring atoms too near), ``converged`` (of these), ``distinct``, ``near_hull``, ``below_hull``, ``new``
        and ``near_hull_and_new`` (of the distinct), ``rediscovered`` (different crystals of Materials Project found);
        and the distinct crystals, lowest hull distance first.
    """
    ternary = ternaries(cells, symbols)
    passing = [cell for cell in ternary if not too_close(cell, GATE)]
    results = [result for result in relax_all(passing, path, processes, what) if isinstance(result, Relaxed)]
    found = distinct_crystals(results, hull, lambda cell: _known_id(cell, known))
    near = [crystal for crystal in found if crystal.hull_distance_ev_per_atom <= NEAR_HULL_EV_PER_ATOM]
    counts = {
        "ternary": len(ternary),
        "gate": len(passing),
        "crystals": len(results),
        "converged": sum(result.converged for result in results),
        "distinct": len(found),
        "near_hull": len(near),
        "below_hull": sum(crystal.hull_distance_ev_per_atom < 0 for crystal in found),
        "new": sum(crystal.known_id is None for crystal in found),
        "near_hull_and_new": sum(crystal.known_id is None for crystal in near),
        "rediscovered": len({crystal.known_id for crystal in found} - {None}),
    }
    return counts, found


def distinct_crystals(results: Sequence[Relaxed], hull: Hull, known_id: Callable[[Cell], str | None]) -> list[Crystal]:
    """Each different crystal once, lowest hull distance first."""
    found = []
    for group in groups([result.cell for result in results]) if results else ():
        best = min((results[place] for place in group), key=lambda result: result.energy_ev_per_atom)
        distance = hull.distance(best.cell, best.energy_ev_per_atom)
        found.append(Crystal(reduced_formula(best.cell), best, distance, known_id(best.cell)))
    return sorted(found, key=lambda crystal: crystal.hull_distance_ev_per_atom)


def _known_id(cell: Cell, known: Known) -> str | None:
    matches = (id_ for id_, other in known.of_formula(reduced_formula(cell)) if same_crystal(cell, other))
    return next(matches, None)
