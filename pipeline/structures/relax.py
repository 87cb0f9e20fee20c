"""Relaxation of single cells with CHGNet, each failure kept to its own cell.

Deng et al., Nat. Mach. Intell. 5, 1031 (2023), doi:10.1038/s42256-023-00716-3; weights ship with the package.
"""

import contextlib
import io
import warnings
from dataclasses import dataclass

import numpy as np

from pipeline.cells import Cell
from pipeline.structures.schema import StructureSettings
from pipeline.structures.volume import too_close

FAILED, ENERGY_NOT_FINITE, VOLUME_CHANGED, TOO_CLOSE_RELAXED = (
    "relaxation_failed",
    "energy_not_finite",
    "volume_changed",
    "too_close_after_relaxation",
)
# Elements of CHGNet's training set: up to plutonium, without polonium to radium.
_UNKNOWN_TO_CHGNET = frozenset([*range(84, 89), *range(95, 119)])


@dataclass(frozen=True)
class Relaxed:
    """A relaxed cell.

    Attributes:
        cell: The crystal.
        energy_ev_per_atom: CHGNet's energy, on the scale of Materials Project's corrected energies.
        volume_ratio: Volume after over volume before.
        n_steps: Steps taken.
        maximum_force_ev_per_angstrom: Largest force on an atom.
        converged: Whether forces on atoms and cell came below the limit before the last step allowed.
    """

    cell: Cell
    energy_ev_per_atom: float
    volume_ratio: float
    n_steps: int
    maximum_force_ev_per_angstrom: float
    converged: bool


class _VolumeChanged(Exception):
    """The cell collapsed or blew up on the way."""


class Relaxer:
    """CHGNet, loaded once, on one CPU thread so that results do not depend on the machine's cores."""

    def __init__(self, settings: StructureSettings):
        import torch
        from chgnet.model.dynamics import CHGNetCalculator, StructOptimizer

        class Guarded(CHGNetCalculator):
            """Stops at a volume out of bounds: neighbour lists of a collapsing cell grow without limit."""

            bounds = (0.0, np.inf)

            def calculate(self, atoms=None, *arguments, **options):
                if not self.bounds[0] <= atoms.get_volume() <= self.bounds[1]:
                    raise _VolumeChanged
                super().calculate(atoms, *arguments, **options)

        torch.set_num_threads(1)
        self._settings = settings
        self._attempts = 0
        with contextlib.redirect_stdout(io.StringIO()):
            self._calculator = Guarded(use_device="cpu", on_isolated_atoms="error")
            self._optimizer = StructOptimizer(self._calculator)

    def can_relax(self, cell: Cell) -> bool:
        """Whether CHGNet knows the elements, the cell is small enough and relaxations are left to do."""
        small = len(cell.elements) <= self._settings.max_relaxed_atoms
        return (
            small
            and self._attempts < self._settings.n_relaxed
            and _UNKNOWN_TO_CHGNET.isdisjoint(cell.elements.tolist())
        )

    def relax(self, cell: Cell) -> Relaxed | str:
        """Relax atoms and cell.

        Returns:
            The relaxed cell, or the reason why there is none; never raises for a cell.
        """
        self._attempts += 1
        ratio = self._settings.max_volume_ratio
        self._calculator.bounds = (cell.volume / ratio, cell.volume * ratio)
        self._calculator.reset()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = self._optimizer.relax(
                    cell.to_structure(),
                    fmax=self._settings.fmax_ev_per_angstrom,
                    steps=self._settings.max_steps,
                    verbose=False,
                    assign_magmoms=False,
                )
            found = Cell.from_structure(result["final_structure"])
            path = result["trajectory"]
            energy = float(path.energies[-1]) / len(cell.elements)
            force = float(np.linalg.norm(path.forces[-1], axis=1).max())
        except _VolumeChanged:
            return VOLUME_CHANGED
        except Exception as error:  # one bad cell must not stop the rest, whatever the libraries raise
            warnings.warn(f"{cell.to_structure().formula}: relaxation failed: {error!r}", stacklevel=2)
            return FAILED
        if not np.isfinite([energy, force, *found.lattice.ravel(), *found.fractional.ravel()]).all():
            return ENERGY_NOT_FINITE
        if too_close(found, self._settings.min_distance_factor):
            return TOO_CLOSE_RELAXED
        n_steps = len(path.energies) - 2  # the start and a repeat of the end are recorded too
        converged = n_steps < self._settings.max_steps
        return Relaxed(found, energy, found.volume / cell.volume, n_steps, force, converged)
