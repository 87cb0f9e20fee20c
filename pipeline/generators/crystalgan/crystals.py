"""Batches of crystals as the networks see them.

Legend of suffixes: B crystals, S slots of atoms.
"""

from typing import NamedTuple

import numpy as np
import torch

from pipeline.cells import Cell

SLOTS = 18  # of the anion, of metal A and of metal B each
X_BLOCK, A_BLOCK, B_BLOCK = (slice(SLOTS * block, SLOTS * (block + 1)) for block in range(3))


class Crystals(NamedTuple):
    """Crystals of the anion X and the metals A and B.

    Attributes:
        lattice: (B, 3, 3), vectors as rows, angstrom.
        cartesian: (B, S, 3), angstrom.
        elements: int64 (B, S), atomic numbers; 0 where a slot holds no atom.
        triple: int64 (B, 3), atomic numbers of X, A and B.
    """

    lattice: torch.Tensor
    cartesian: torch.Tensor
    elements: torch.Tensor
    triple: torch.Tensor

    def take(self, rows: torch.Tensor) -> "Crystals":
        """The crystals of those positions, in their order."""
        return Crystals(*(part[rows] for part in self))

    def detached(self) -> "Crystals":
        """The same crystals, through which no gradient flows back."""
        return self._replace(lattice=self.lattice.detach(), cartesian=self.cartesian.detach())

    def compact(self) -> "Crystals":
        """The same crystals with their atoms in the first slots, and no more slots than the largest needs."""
        order = (self.elements == 0).long().argsort(dim=1, stable=True)[:, : int((self.elements > 0).sum(1).max())]
        cartesian = self.cartesian.gather(1, order[..., None].expand(-1, -1, 3))
        return self._replace(cartesian=cartesian, elements=self.elements.gather(1, order))


def domains(tensors: dict[str, np.ndarray], device: str) -> tuple[Crystals, Crystals]:
    """The A-X and the B-X binaries of the encoding's tensors, slots in blocks of X, A and B.

    Raises:
        ValueError: One of the domains is empty.
    """
    tensor = torch.from_numpy(np.asarray(tensors["tensor"], dtype=np.float32))
    triple = torch.from_numpy(tensors["elements"].astype(np.int64))
    occupied = torch.from_numpy(tensors["occupied"].astype(bool))
    elements = (triple[:, :, None] * occupied).flatten(1)
    every = Crystals(tensor[:, 0, :3], tensor[:, 1:].flatten(1, 2), elements, triple)
    domain = torch.from_numpy(tensors["domain"].astype(np.int64)).flatten()
    found = tuple(Crystals(*(part[domain == side].to(device) for part in every)) for side in (0, 1))
    for side, name in zip(found, ("A-X", "B-X"), strict=True):
        if not len(side.lattice):
            raise ValueError(f"domain {name}: no crystal is left to train on; lower encoding.holdout_share")
    return found


def cell_of(lattice: np.ndarray, cartesian: np.ndarray, elements: np.ndarray) -> Cell:
    """One crystal as a cell, its atoms in the order of the slots; fractional coordinates from 0 to below 1.

    Args:
        lattice: (3, 3), angstrom.
        cartesian: (S, 3), angstrom; what stands in an empty slot does not matter.
        elements: (S,), atomic numbers, 0 where a slot is empty.

    Raises:
        numpy.linalg.LinAlgError: The lattice vectors span no volume.
    """
    present = elements > 0
    lattice = np.array(lattice, dtype=np.float64)
    fractional = np.linalg.solve(lattice.T, cartesian[present].T.astype(np.float64)).T % 1.0
    fractional[fractional == 1.0] = 0.0  # -1e-17 % 1.0 is 1.0
    return Cell(lattice, elements[present].astype(np.uint8), fractional)
