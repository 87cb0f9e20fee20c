"""Networks that know what a crystal is: messages between neighbouring atoms, periodic images counted.

A generator moves the atoms along the bonds and strains the lattice, so its output turns and shifts with its input, does
not depend on the order of the atoms nor on the choice of images, and knows the elements by their properties: several
pairs of metals share one network. What the paper's dense layers would have to learn from 35 crystals holds by
construction. Legend of suffixes: B crystals, S slots, M atoms of a batch, N neighbours,
H hidden, R radial functions.
"""

import warnings
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from pipeline.generators.crystalgan.crystals import Crystals
from pipeline.generators.crystalgan.geometry import IMAGES, length, squares, wrapped
from pipeline.structures.volume import covalent_radii

HIDDEN, NEIGHBOURS, RADIAL, LAYERS = 48, 12, 16, 2
CUTOFF_ANGSTROM = 6.0
MOST_MOVED_ANGSTROM, MOST_STRAINED = 0.5, 0.2  # of one pass


@cache
def properties() -> torch.Tensor:
    """What the networks know of an element, float32 (119, 6); row 0 is zeros.

    Pauling electronegativity, covalent radius (angstrom), group, row, whether it is a metal, and a constant; the
    first four scaled to about 1.
    """
    from pymatgen.core import Element

    known = np.zeros((119, 6), dtype=np.float32)
    for z in range(1, len(known)):
        element = Element.from_Z(z)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no electronegativity for some noble gases and the heaviest elements
            x = 0.0 if np.isnan(element.X) else element.X
        known[z] = (x / 2, covalent_radii()[z] / 1.5, element.group / 9, element.row / 4, element.is_metal, 1)
    return torch.from_numpy(known)


class Bonds(NamedTuple):
    """The nearest neighbours of the M atoms of a batch.

    Attributes:
        places: Which slots of the batch hold the atoms, two int64 tensors (M,): crystal and slot.
        others: Which atom each neighbour is, int64 (M, N).
        units: Vectors to them of length 1, (M, N, 3).
        radial: Gaussians of the distance, (M, N, R).
        weights: Falls smoothly from 1 at no distance to 0 at the farthest neighbour, or at 6 angstrom, (M, N, 1).
    """

    places: tuple[torch.Tensor, torch.Tensor]
    others: torch.Tensor
    units: torch.Tensor
    radial: torch.Tensor
    weights: torch.Tensor


class Pairs(nn.Module):
    """Features of atoms and bonds to features (M, N, H) of the bonds."""

    def __init__(self) -> None:
        super().__init__()
        self.own, self.other, self.radial = (nn.Linear(size, HIDDEN) for size in (HIDDEN, HIDDEN, RADIAL))

    def forward(self, features: torch.Tensor, bonds: Bonds) -> torch.Tensor:
        told = self.own(features)[:, None] + self.other(features)[bonds.others] + self.radial(bonds.radial)
        return nn.functional.silu(told)


class Messages(nn.Module):
    """Atoms to features (M, H) by messages along the bonds."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Linear(properties().shape[1], HIDDEN)
        self.pairs = nn.ModuleList(Pairs() for _ in range(LAYERS))
        self.edges = nn.ModuleList(nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.SiLU()) for _ in range(LAYERS))
        self.nodes = nn.ModuleList(nn.Linear(2 * HIDDEN, HIDDEN) for _ in range(LAYERS))

    def forward(self, crystals: Crystals, bonds: Bonds) -> torch.Tensor:
        elements = crystals.elements[bonds.places]
        features = self.start(properties().to(elements.device)[elements])
        for pairs, edge, node in zip(self.pairs, self.edges, self.nodes, strict=True):
            told = (edge(pairs(features, bonds)) * bonds.weights).sum(1)
            features = features + nn.functional.silu(node(torch.cat([features, told], -1)))
        return features


class Generator(nn.Module):
    """Crystals to crystals of the elements asked for, in two passes; at first it leaves them as they are."""

    PASSES = 2

    def __init__(self) -> None:
        super().__init__()
        self.messages = nn.ModuleList(Messages() for _ in range(self.PASSES))
        self.pairs = nn.ModuleList(Pairs() for _ in range(self.PASSES))
        self.forces = nn.ModuleList(nn.Linear(HIDDEN, 2) for _ in range(self.PASSES))
        for layer in self.forces:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, given: Crystals, elements: torch.Tensor, triple: torch.Tensor) -> Crystals:
        """``elements`` (B, S) says what the slots hold from now on."""
        crystals = Crystals(given.lattice, given.cartesian, elements, triple)
        present = elements > 0
        for messages, pairs, forces in zip(self.messages, self.pairs, self.forces, strict=True):
            bonds = bonds_of(crystals)
            told = forces(pairs(messages(crystals, bonds), bonds)) * bonds.weights
            push, pull = told[..., :1] * bonds.units, told[..., 1:] * bonds.units
            moved = torch.zeros_like(crystals.cartesian)
            moved[bonds.places] = _bounded(push.sum(1), MOST_MOVED_ANGSTROM, 1)
            stress = torch.zeros_like(crystals.lattice)
            stress = stress.index_add(0, bonds.places[0], pull.transpose(1, 2) @ bonds.units)
            stress = stress / present.sum(1)[:, None, None]
            strain = torch.eye(3, device=stress.device) + _bounded(stress, MOST_STRAINED, 2)
            lattice, cartesian = crystals.lattice @ strain, crystals.cartesian @ strain + moved
            crystals = Crystals(lattice, cartesian, elements, triple)
        return crystals


class Critic(nn.Module):
    """Crystals to logits (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.messages = Messages()
        self.said = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, 1))

    def forward(self, crystals: Crystals) -> torch.Tensor:
        bonds = bonds_of(crystals)
        features = self.messages(crystals, bonds)
        total = features.new_zeros(len(crystals.lattice), HIDDEN).index_add(0, bonds.places[0], features)
        return self.said(total / (crystals.elements > 0).sum(1)[:, None]).squeeze(1)


def _bounded(vectors: torch.Tensor, most: float, axes: int) -> torch.Tensor:
    """The same directions, lengths below ``most``."""
    size = length(vectors.flatten(-axes)).view(*vectors.shape[:-axes], *[1] * axes)
    return vectors * (most * torch.tanh(size / most) / size)


def bonds_of(crystals: Crystals) -> Bonds:
    """The nearest neighbours of each atom among all images; found without gradient, measured with."""
    lattice, cartesian = crystals.lattice, crystals.cartesian
    present = crystals.elements > 0
    places = present.nonzero(as_tuple=True)
    with torch.no_grad():
        difference, shift = wrapped(lattice, cartesian)
        square = squares(difference, lattice)
        square.masked_fill_(~present[:, None, :, None], torch.inf)
        square = square[places].flatten(1)
        least, place = square.masked_fill_(square < 1e-6, torch.inf).topk(NEIGHBOURS, largest=False)  # not itself
        slots = place // len(IMAGES)
        steps = shift[places].gather(1, slots[..., None].expand(-1, -1, 3)) + IMAGES.to(shift)[place % len(IMAGES)]
        number = (present.flatten().cumsum(0) - 1).view_as(present).clamp(min=0)
    crystal = places[0][:, None]
    vectors = cartesian[crystal, slots] - cartesian[places][:, None] + (steps @ lattice[places[0]])
    near = torch.isfinite(least)
    distance = length(torch.where(near[..., None], vectors, torch.full_like(vectors, CUTOFF_ANGSTROM)))
    centres = torch.linspace(0.5, CUTOFF_ANGSTROM, RADIAL, device=distance.device)
    radial = torch.exp(-(((distance[..., None] - centres) / (CUTOFF_ANGSTROM / RADIAL)) ** 2))
    # Smoothly to 0 at the farthest of them: nothing jumps where two neighbours change places in that order.
    cutoff = distance.detach().amax(1, keepdim=True).clamp(max=CUTOFF_ANGSTROM)
    weights = 0.5 * (torch.cos(distance / cutoff * torch.pi) + 1) * (distance < cutoff)
    return Bonds(places, number[crystal, slots], vectors / distance[..., None], radial, weights[..., None])


def distance(ours: Crystals, theirs: Crystals) -> torch.Tensor:
    """Mean squared displacement of the atoms plus that of the lattice vectors, square angstrom."""
    present = theirs.elements > 0
    moved = (ours.cartesian - theirs.cartesian).square().sum(-1)[present].mean()
    return moved + (ours.lattice - theirs.lattice).square().sum(-1).mean()


def translated_elements(crystals: Crystals) -> torch.Tensor:
    """The same sites with the other metal on those of a metal."""
    x, a, b = crystals.triple.unbind(1)
    other = torch.where((crystals.elements == a[:, None]).any(1), b, a)[:, None]
    return torch.where((crystals.elements > 0) & (crystals.elements != x[:, None]), other, crystals.elements)


def transfer(crystals: Crystals, translated: Crystals) -> Crystals:
    """Feature transfer: some of the metal sites, at random, take the new metal.

    At least one and not all; lattice and coordinates lie between those of the crystal and of its translation, by the
    share of the sites that changed hands.
    """
    metal = translated.elements != crystals.elements
    n_metals = metal.sum(1)
    order = torch.rand(metal.shape, device=metal.device).masked_fill(~metal, torch.inf).argsort(1).argsort(1)
    n_swapped = 1 + (torch.rand(len(metal), device=metal.device) * (n_metals - 1)).long()
    swapped = metal & (order < n_swapped[:, None])
    share = (n_swapped / n_metals)[:, None, None]
    return Crystals(
        torch.lerp(crystals.lattice, translated.lattice, share),
        torch.lerp(crystals.cartesian, translated.cartesian, share),
        torch.where(swapped, translated.elements, crystals.elements),
        crystals.triple,
    )
