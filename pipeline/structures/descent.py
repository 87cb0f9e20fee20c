"""One cell on its way downhill: ASE's FIRE on ASE's coordinates of atoms and cell, a step at a time.

The coordinates are those of ``ase.filters.FrechetCellFilter``: where the atoms would be in the cell at the start, and
the logarithm of the deformation since then, times the number of atoms. The steps are those of ``ase.optimize.FIRE``
with its defaults (Bitzek et al., Phys. Rev. Lett. 97, 170201 (2006), doi:10.1103/PhysRevLett.97.170201). The path is
ASE's to rounding; written again because ASE's objects took 5 ms a step, and 11 with ``FixSymmetry``, which is as long
as the potential itself takes.

Legend of suffixes: N sites, K symmetry operations.
"""

from dataclasses import dataclass

import numpy as np
import spglib

from pipeline.cells import Cell
from pipeline.structures.potentials import Evaluation

# Defaults of ase.optimize.FIRE.
_DT, _DT_MAX, _MAX_STEP = 0.1, 1.0, 0.2
_N_MIN, _INCREASE, _DECREASE = 5, 1.1, 0.5
_A_START, _A_FACTOR = 0.1, 0.99


@dataclass(frozen=True, eq=False)
class Operations:
    """Symmetry operations of a cell.

    Attributes:
        rotations_K33: Orthogonal matrices on Cartesian column vectors.
        images_KN: Site onto which each site is carried.
    """

    rotations_K33: np.ndarray
    images_KN: np.ndarray

    def symmetric_vectors(self, vectors_N3: np.ndarray) -> np.ndarray:
        """The part of one vector a site that the operations leave alone."""
        return np.matmul(vectors_N3[self.images_KN], self.rotations_K33).mean(axis=0)

    def symmetric_tensor(self, tensor_33: np.ndarray) -> np.ndarray:
        """The part of a tensor that the operations leave alone."""
        return (self.rotations_K33.transpose(0, 2, 1) @ tensor_33 @ self.rotations_K33).mean(axis=0)


def symmetrised(cell: Cell, symprec_angstrom: float) -> tuple[Cell, Operations | None]:
    """The cell moved onto the symmetry that it has within a tolerance, and that symmetry.

    Lattice vectors and sites stay near where they were: the metric becomes the mean of its images, the lattice keeps
    its orientation, and each site goes to the mean of what is carried onto it.

    Returns:
        The cell as it is, and None, where spglib finds no symmetry.
    """
    try:
        found = spglib.get_symmetry_dataset(
            (cell.lattice, cell.fractional, cell.elements.astype(int)), symprec=symprec_angstrom
        )
    except spglib.SpglibError:
        found = None
    if found is None or len(found.rotations) == 1:
        return cell, None
    turns_K33, shifts_K3 = found.rotations.astype(float), found.translations
    metric = (turns_K33.transpose(0, 2, 1) @ (cell.lattice @ cell.lattice.T) @ turns_K33).mean(axis=0)
    inverse = np.linalg.inv(cell.lattice)
    squares, axes = np.linalg.eigh(inverse @ metric @ inverse.T)
    lattice = cell.lattice @ (axes * np.sqrt(squares)) @ axes.T
    carried_KN3 = cell.fractional @ turns_K33.transpose(0, 2, 1) + shifts_K3[:, None]
    images_KN, moved_N3 = [], np.zeros_like(cell.fractional)
    for carried_N3 in carried_KN3:
        difference_NN3 = carried_N3[:, None] - cell.fractional
        difference_NN3 -= np.rint(difference_NN3)
        distance_NN = np.linalg.norm(difference_NN3 @ lattice, axis=2)
        distance_NN[cell.elements[:, None] != cell.elements] = np.inf
        image_N = distance_NN.argmin(axis=1)
        moved_N3[image_N] += difference_NN3[np.arange(len(image_N)), image_N]
        images_KN.append(image_N)
    images_KN = np.array(images_KN)
    if (np.sort(images_KN, axis=1) != np.arange(len(cell.elements))).any():
        return cell, None  # two sites carried onto one: sites so near each other that no symmetry is worth keeping
    rotations_K33 = lattice.T @ turns_K33 @ np.linalg.inv(lattice.T)
    ideal = Cell(lattice, cell.elements, cell.fractional + moved_N3 / len(images_KN))
    return ideal, Operations(rotations_K33, images_KN)


class Descent:
    """A cell that is being relaxed.

    Args:
        cell: At the start.
        operations: Symmetry that every step keeps; None for none. The cell must have it.

    Attributes:
        n_steps: Steps taken.
    """

    def __init__(self, cell: Cell, operations: Operations | None = None):
        self.n_steps = 0
        self._elements = cell.elements
        self._lattice = cell.lattice
        self._operations = operations
        self._positions_N3 = cell.fractional @ cell.lattice
        self._strain_33 = np.zeros((3, 3))  # logarithm of the deformation, times the number of atoms
        self._velocity = np.zeros((len(cell.elements) + 3, 3))
        self._dt, self._a, self._n_downhill = _DT, _A_START, 0

    @property
    def cell(self) -> Cell:
        """The cell as it is now."""
        return Cell(
            self._lattice @ self._deformation().T, self._elements, self._positions_N3 @ np.linalg.inv(self._lattice)
        )

    def forces(self, evaluation: Evaluation, volume: float) -> np.ndarray:
        """Forces along the coordinates, of shape (n + 3, 3): those on atoms, then those on the cell; eV/angstrom."""
        from scipy.linalg import expm_frechet

        n = len(self._elements)
        deformation = self._deformation()
        stress_33 = (evaluation.stress_33 + evaluation.stress_33.T) / 2
        along_cell = -volume * stress_33 @ np.linalg.inv(deformation).T
        # The derivative of the exponential is its own adjoint at the transposed point.
        on_cell_33 = expm_frechet(self._strain_33.T / n, along_cell, compute_expm=False) / n
        on_atoms_N3 = evaluation.forces_N3 @ deformation
        if self._operations is not None:
            on_atoms_N3 = self._operations.symmetric_vectors(on_atoms_N3)
            on_cell_33 = self._operations.symmetric_tensor(on_cell_33)
        return np.concatenate([on_atoms_N3, on_cell_33])

    def step(self, forces: np.ndarray) -> None:
        """One step of FIRE."""
        if self.n_steps:
            power = np.vdot(forces, self._velocity)
            if power > 0:
                along = forces * (np.linalg.norm(self._velocity) / np.linalg.norm(forces))
                self._velocity = (1 - self._a) * self._velocity + self._a * along
                if self._n_downhill > _N_MIN:
                    self._dt = min(self._dt * _INCREASE, _DT_MAX)
                    self._a *= _A_FACTOR
                self._n_downhill += 1
            else:
                self._velocity = np.zeros_like(forces)
                self._dt, self._a, self._n_downhill = self._dt * _DECREASE, _A_START, 0
        self._velocity = self._velocity + self._dt * forces
        move = self._dt * self._velocity
        length = np.linalg.norm(move)
        if length > _MAX_STEP:
            move *= _MAX_STEP / length
        self._positions_N3 = self._positions_N3 + move[:-3]
        self._strain_33 = self._strain_33 + move[-3:]
        self.n_steps += 1

    def _deformation(self) -> np.ndarray:
        from scipy.linalg import expm

        return expm(self._strain_33 / len(self._elements))
