"""Relaxation of some cells together, each failure kept to its own cell.

The cells share the evaluations of the potential and nothing else. In each round all cells in flight are evaluated at
once; one that has converged or failed makes room for the next that waits.
"""

import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.cells import Cell
from pipeline.composition import SYMBOLS
from pipeline.structures.descent import Descent, symmetrised
from pipeline.structures.potentials import Evaluation, IsolatedAtom, Potential, UnfitPotential
from pipeline.structures.relaxation_schema import RelaxationSettings
from pipeline.structures.symmetry import symmetry
from pipeline.structures.volume import too_close

# Of a cell that is not begun.
NO_CRYSTAL, TOO_MANY_ATOMS, UNKNOWN_ELEMENT, TOO_CLOSE_UNRELAXED = (
    "no_crystal",
    "too_many_atoms_to_relax",
    "element_unknown_to_potential",
    "too_close_before_relaxation",
)
# Of one that failed on the way.
FAILED, NOT_FINITE, ISOLATED_ATOM, VOLUME_CHANGED, TOO_CLOSE_RELAXED = (
    "relaxation_failed",
    "energy_or_forces_not_finite",
    "isolated_atom",
    "volume_changed",
    "too_close_after_relaxation",
)
GPA_PER_EV_PER_A3 = 160.21766208  # CODATA 2014, as CHGNet has it
_NO_VOLUME = 1e-6  # of the product of the lattice vectors' lengths


@dataclass(frozen=True)
class Relaxed:
    """A relaxed cell.

    Attributes:
        cell: The crystal.
        energy_ev_per_atom: The potential's; CHGNet's is on the scale of Materials Project's corrected energies.
        volume_ratio: Volume after over volume before.
        n_steps: Steps taken.
        maximum_force_ev_per_angstrom: Largest force on an atom.
        maximum_stress_gpa: Largest principal stress, its sign left out.
        converged: Whether forces on atoms and cell came below the limit before the last step allowed.
        space_group_before: 1 to 230; None where spglib finds none.
        space_group_after: The same of the relaxed cell.
    """

    cell: Cell
    energy_ev_per_atom: float
    volume_ratio: float
    n_steps: int
    maximum_force_ev_per_angstrom: float
    maximum_stress_gpa: float
    converged: bool
    space_group_before: int | None
    space_group_after: int | None


def relax_batch(cells: Sequence[Cell], settings: RelaxationSettings, potential: Potential) -> list[Relaxed | str]:
    """Relax cells together.

    Returns:
        Of each cell, in order, the relaxed one or the reason why there is none; never raises for a cell.

    Raises:
        ValueError: The potential gives no stress.
    """
    outcomes: list[Relaxed | str | None] = [None] * len(cells)
    waiting = deque(range(len(cells)))
    flying: dict[int, _Flight] = {}
    while waiting or flying:
        n_atoms = sum(flight.n_atoms for flight in flying.values())
        while waiting and (not flying or n_atoms + len(cells[waiting[0]].elements) <= potential.atoms_a_batch):
            place = waiting.popleft()
            begun = _guarded(cells[place], _begin, cells[place], settings, potential)
            if isinstance(begun, str):
                outcomes[place] = begun
            else:
                flying[place] = begun
                n_atoms += begun.n_atoms
        evaluations = _evaluated(potential, [flight.cell for flight in flying.values()]) if flying else []
        for (place, flight), evaluation in zip(list(flying.items()), evaluations, strict=True):
            outcome = _guarded(flight.cell, flight.advance, evaluation)
            if outcome is not None:
                outcomes[place] = outcome
                del flying[place]
    return outcomes


class _Flight:
    """A cell on its way, and what must not happen to it."""

    def __init__(self, cell: Cell, settings: RelaxationSettings):
        self._start, self._settings = cell, settings
        self._descent = Descent(*(symmetrised(cell, settings.symprec_angstrom) if settings.keep_symmetry else (cell,)))
        self.n_atoms = len(cell.elements)
        self.cell = self._descent.cell

    def advance(self, evaluation: Evaluation | str) -> Relaxed | str | None:
        """Take a step; None while there is another to come."""
        if isinstance(evaluation, str):
            return evaluation
        if not evaluation.is_finite:
            return NOT_FINITE
        forces = self._descent.forces(evaluation, self.cell.volume)
        converged = bool(np.linalg.norm(forces, axis=1).max() < self._settings.fmax_ev_per_angstrom)
        if converged or self._descent.n_steps == self._settings.max_steps:
            return self._relaxed(evaluation, converged)
        self._descent.step(forces)
        self.cell = self._descent.cell
        return self._fault()

    def _fault(self) -> str | None:
        """Looked for before the potential is asked: neighbour lists of a collapsing cell grow without limit."""
        if not self.cell.is_finite:
            return NOT_FINITE
        ratio = self.cell.volume / self._start.volume
        if not 1 / self._settings.max_volume_ratio <= ratio <= self._settings.max_volume_ratio:
            return VOLUME_CHANGED
        return TOO_CLOSE_RELAXED if too_close(self.cell, self._settings.min_distance_factor) else None

    def _relaxed(self, evaluation: Evaluation, converged: bool) -> Relaxed:
        before, after = (symmetry(cell, self._settings.symprec_angstrom) for cell in (self._start, self.cell))
        stress_33 = (evaluation.stress_33 + evaluation.stress_33.T) / 2
        return Relaxed(
            cell=self.cell,
            energy_ev_per_atom=evaluation.energy_ev / self.n_atoms,
            volume_ratio=self.cell.volume / self._start.volume,
            n_steps=self._descent.n_steps,
            maximum_force_ev_per_angstrom=float(np.linalg.norm(evaluation.forces_N3, axis=1).max()),
            maximum_stress_gpa=float(np.abs(np.linalg.eigvalsh(stress_33)).max()) * GPA_PER_EV_PER_A3,
            converged=converged,
            space_group_before=before and before.number,
            space_group_after=after and after.number,
        )


def _begin(cell: Cell, settings: RelaxationSettings, potential: Potential) -> _Flight | str:
    lengths = np.linalg.norm(cell.lattice, axis=1)
    if len(cell.elements) > settings.max_atoms:
        return TOO_MANY_ATOMS
    if not len(cell.elements) or not cell.is_finite:
        return NO_CRYSTAL
    if cell.volume <= _NO_VOLUME * lengths.prod():
        return NO_CRYSTAL
    if not potential.known_elements.issuperset(cell.elements.tolist()):
        return UNKNOWN_ELEMENT
    if too_close(cell, settings.min_distance_factor):
        return TOO_CLOSE_UNRELAXED
    return _Flight(cell, settings)


def _evaluated(potential: Potential, cells: list[Cell]) -> list[Evaluation | str]:
    """Evaluations of all cells at once, or of each alone where one of them makes the potential fail."""
    if len(cells) == 1:
        return [_guarded(cells[0], lambda: potential.evaluate(cells)[0])]
    try:
        return list(potential.evaluate(cells))
    except UnfitPotential:
        raise
    except Exception:
        return [evaluation for cell in cells for evaluation in _evaluated(potential, [cell])]


def _guarded(cell: Cell, function, *arguments):
    """What the function returns, or a reason where it raises: one bad cell must not stop the rest."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*arguments)
    except UnfitPotential:
        raise
    except IsolatedAtom:
        return ISOLATED_ATOM
    except Exception as error:
        sites = " ".join(
            SYMBOLS[z - 1] if 0 < z <= len(SYMBOLS) else str(z) for z in sorted(set(cell.elements.tolist()))
        )
        warnings.warn(f"a cell of {len(cell.elements)} atoms ({sites}) cannot be relaxed: {error!r}", stacklevel=2)
        return FAILED
