"""Distance to the convex hull, all energies by one potential, so that its errors partly cancel."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.crystalgan.relaxing import relax_all
from pipeline import hull
from pipeline.cells import Cell, compositions_of
from pipeline.composition import ATOMIC_NUMBERS
from pipeline.structures.known_crystals import ground_state
from pipeline.structures.relax import Relaxed
from pipeline.structures.symmetry import primitive

SYMPREC_ANGSTROM = 0.01
NEAR_HULL_EV_PER_ATOM = 0.1


class Hull:
    """The convex hull of a chemical system.

    Args:
        symbols: Its elements.
        cells: Reference crystals.
        energies_ev_per_atom: Of each.

    Raises:
        ValueError: An element has no reference, so there is no hull.
    """

    def __init__(self, symbols: Sequence[str], cells: Sequence[Cell], energies_ev_per_atom: Sequence[float]) -> None:
        self._hull = hull.Hull(compositions_of(cells), energies_ev_per_atom)
        if missing := self._hull.missing([ATOMIC_NUMBERS[symbol] for symbol in symbols]):
            named = f"no reference energy of {', '.join(missing)}"
            raise ValueError(f"hull of {'-'.join(symbols)}: {named}; add a crystal of each")

    def distance(self, cell: Cell, energy_ev_per_atom: float) -> float:
        """Energy above the hull in eV/atom; negative below it, as no reference is."""
        return self._hull.distances(compositions_of([cell]), [energy_ev_per_atom])[0].energy_above_hull_ev_per_atom


def references(symbols: Sequence[str], known: Sequence[Cell]) -> tuple[list[Cell], list[str]]:
    """Primitive cells of the known crystals of a system, and the elements that had to be added.

    Args:
        symbols: The system's elements.
        known: Crystals made of these elements.

    Returns:
        The cells, and symbols of elements without a known crystal: these get the ground state of ASE's
        ``reference_states``, where it is a metal's simple lattice.
    """
    cells = [primitive(cell, SYMPREC_ANGSTROM) or cell for cell in known]
    present = {int(cell.elements[0]) for cell in cells if len(set(cell.elements.tolist())) == 1}
    added = []
    for symbol in symbols:
        if ATOMIC_NUMBERS[symbol] not in present:
            cell = ground_state(symbol)
            if cell is not None:  # or the hull names it
                cells.append(cell)
                added.append(symbol)
    return cells, added


def hull_of(symbols: Sequence[str], known: Sequence[Cell], path: Path, processes: int) -> tuple[Hull, dict]:
    """The hull of the known crystals, relaxed with CHGNet, and what became of them.

    Args:
        symbols: The system's elements.
        known: Crystals of these elements.
        path: Where relaxations are kept, see :func:`relax_all`.
        processes: How many to use.

    Returns:
        The hull, and counts: references, how many failed or did not converge, how many hold all elements of the system
        and how many of these lie near the hull; and which elements were added.
    """
    cells, added = references(symbols, known)
    results = relax_all(cells, path, processes, f"references of {'-'.join(symbols)}")
    good = [result for result in results if isinstance(result, Relaxed)]
    hull = Hull(symbols, [result.cell for result in good], [result.energy_ev_per_atom for result in good])
    of_system = [result for result in good if len(set(result.cell.elements.tolist())) == len(symbols)]
    distances = [hull.distance(result.cell, result.energy_ev_per_atom) for result in of_system]
    about = {
        "references": len(cells),
        "failed": len(cells) - len(good),
        "not_converged": sum(not result.converged for result in good),
        "added_elements": added,
        "of_all_elements": len(of_system),
        "of_all_elements_near_hull": sum(distance <= NEAR_HULL_EV_PER_ATOM for distance in distances),
    }
    return hull, about
