"""The distance rule of CrystalGAN: what it asks of a crystal, and its losses, through differentiable distances.

Nouira, Sokolovska and Crivello 2018, hal-01902821: equations 12 to 14, d1 = 1.8 and d2 = 3.0 angstrom. Distances
between anions and between metals are ruled, those between an anion and a metal are free.

Legend of suffixes: B crystals, S slots of atoms, K images of the cell, M ruled atoms.
"""

import itertools

import numpy as np
import torch

from pipeline.cells import Cell, distance_matrix
from pipeline.structures.volume import covalent_radii

D1_ANGSTROM, D2_ANGSTROM = 1.8, 3.0
MARGIN_ANGSTROM = 0.1
WITHIN = 8.0  # angstrom up to which distances are exact
IMAGES = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=3)))
_HERE = 13  # the image that is the cell itself
_FAR = 1e6


def like_distances(cell: Cell, anion: int) -> tuple[np.ndarray, np.ndarray]:
    """Distance of each anion to its nearest anion, and of each metal atom to its nearest metal atom.

    Args:
        cell: A crystal; images of an atom itself count as neighbours.
        anion: Atomic number of the anion.

    Returns:
        Two float64 arrays in angstrom, in the order of the sites; exact up to 8 angstrom.
    """

    def nearest(of: np.ndarray) -> np.ndarray:
        part = Cell(cell.lattice, cell.elements[of], cell.fractional[of])
        return distance_matrix(part, within=WITHIN).min(axis=1) if of.any() else np.zeros(0)

    return nearest(cell.elements == anion), nearest(cell.elements != anion)


def obeys(cell: Cell, anion: int, d1: float = D1_ANGSTROM, d2: float = D2_ANGSTROM) -> bool:
    """Whether a crystal of the anion and two metals keeps the rule: all :func:`like_distances` lie within d1 and d2."""
    if len(set(cell.elements.tolist()) - {anion}) < 2 or anion not in cell.elements:
        return False
    distances = np.concatenate(like_distances(cell, anion))
    return bool(((distances >= d1) & (distances <= d2)).all())


def nearest(
    lattice_B33: torch.Tensor, cartesian_BS3: torch.Tensor, allowed_BSS: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance of each atom to the nearest image of an atom allowed as its neighbour, differentiable.

    The neighbour is found without gradient, among 27 images after wrapping (exact where the cell is not much skewed),
    then its distance is a smooth function of coordinates and lattice.

    Args:
        lattice_B33: Lattice vectors as rows, angstrom.
        cartesian_BS3: Coordinates, angstrom.
        allowed_BSS: bool; on the diagonal: whether an atom's own images count.

    Returns:
        Distances (B, S) in angstrom, 1e6 where no neighbour is allowed, and the neighbours' slots (B, S).
    """
    with torch.no_grad():
        difference, shift = wrapped(lattice_B33, cartesian_BS3)
        square_BSSK = squares(difference, lattice_B33)
        own = torch.eye(cartesian_BS3.shape[1], dtype=torch.bool, device=lattice_B33.device)
        square_BSSK[:, own, _HERE] = _FAR**2
        square_BSSK.masked_fill_(~allowed_BSS[..., None], _FAR**2)
        least, place = square_BSSK.flatten(2).min(-1)
        neighbour = place // len(IMAGES)
        shift = shift.gather(2, neighbour[..., None, None].expand(-1, -1, 1, 3)).squeeze(2)
        shift = shift + IMAGES.to(shift)[place % len(IMAGES)]
    to = cartesian_BS3.gather(1, neighbour[..., None].expand(-1, -1, 3))
    distance = length(to - cartesian_BS3 + shift @ lattice_B33)
    return torch.where(least < _FAR**2 / 4, distance, torch.full_like(distance, _FAR)), neighbour


def length(vectors: torch.Tensor) -> torch.Tensor:
    """Euclidean length over the last axis, with a finite gradient at 0."""
    return (vectors.square().sum(-1) + 1e-12).sqrt()


def squares(difference_BSS3: torch.Tensor, lattice_B33: torch.Tensor) -> torch.Tensor:
    """Squared lengths (B, S, S, K) of difference vectors to all 27 images."""
    images_BK3 = IMAGES.to(lattice_B33) @ lattice_B33
    cross = difference_BSS3.flatten(1, 2) @ images_BK3.transpose(1, 2)
    own = difference_BSS3.square().sum(-1).flatten(1)[..., None] + images_BK3.square().sum(-1)[:, None]
    return (own + 2 * cross).view(*difference_BSS3.shape[:3], -1)


def wrapped(lattice: torch.Tensor, cartesian: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Difference vectors (B, S, S, 3) from each atom to each other, wrapped, and the lattice steps of the wrapping."""
    difference = cartesian[:, None] - cartesian[:, :, None]
    inverse, _ = torch.linalg.inv_ex(lattice)
    shift = -torch.nan_to_num(difference.flatten(1, 2) @ inverse, 0.0, 0.0, 0.0).round().clamp(-1e3, 1e3)
    shift = shift.view_as(difference)
    return difference + (shift.flatten(1, 2) @ lattice).view_as(difference), shift


def like_neighbours(
    lattice_B33: torch.Tensor, cartesian_BS3: torch.Tensor, elements_BS: torch.Tensor, anion: int | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Distances (B, S) that the rule is about, and which of the slots hold an atom (bool); elements of 0 hold none.

    ``anion`` is an atomic number, or one of each crystal (B, 1).
    """
    present = elements_BS > 0
    kind = (elements_BS == anion).long()
    alike = (kind[:, :, None] == kind[:, None]) & present[:, :, None] & present[:, None]
    return nearest(lattice_B33, cartesian_BS3, alike)[0], present


def published_loss(distances_BS: torch.Tensor, present_BS: torch.Tensor, d1: float, d2: float) -> torch.Tensor:
    """Equations 12 to 14 as written, mean over the crystals: min (d1 - s)^2 - min (d2 - s)^2 over a crystal's atoms.

    The first term is content with one atom at d1, the second alone has no lower bound. With the same weight for both
    the sum is least, d1^2 - d2^2, where like atoms coincide: at equal distances s it is 2 s (d2 - d1) and a constant.
    """

    def least(d: float) -> torch.Tensor:
        return (d - distances_BS).square().masked_fill(~present_BS, torch.inf).amin(1)

    return (least(d1) - least(d2)).mean()


def window_loss(distances_BS: torch.Tensor, present_BS: torch.Tensor, d1: float, d2: float) -> torch.Tensor:
    """How far the distances lie outside d1 to d2: mean square over the atoms; 0 where the rule is kept with a margin.

    The margin of 0.1 angstrom at either end: where a square vanishes, so does what pushes the last atoms over the line.
    """
    outside = torch.relu(d1 + MARGIN_ANGSTROM - distances_BS) + torch.relu(distances_BS - d2 + MARGIN_ANGSTROM)
    return outside.square()[present_BS].mean()


def contact_loss(
    lattice_B33: torch.Tensor,
    cartesian_BS3: torch.Tensor,
    elements_BS: torch.Tensor,
    anion: int | torch.Tensor,
    factor: float,
) -> torch.Tensor:
    """How much nearer than ``factor`` times the covalent radii anions and metals stand: mean square over the atoms."""
    present = elements_BS > 0
    metal = elements_BS != anion
    unlike = (metal[:, :, None] != metal[:, None]) & present[:, :, None] & present[:, None]
    distance, neighbour = nearest(lattice_B33, cartesian_BS3, unlike)
    radii = torch.as_tensor(covalent_radii(), dtype=lattice_B33.dtype, device=lattice_B33.device)[elements_BS]
    return torch.relu(factor * (radii + radii.gather(1, neighbour)) - distance).square()[present].mean()
