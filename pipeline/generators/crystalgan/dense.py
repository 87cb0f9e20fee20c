"""CrystalGAN's networks as published: dense layers over the flat 4 x 18 x 3 tensor of Cartesian coordinates."""

import itertools

import torch
from torch import nn

from pipeline.generators.crystalgan.crystals import A_BLOCK, B_BLOCK, SLOTS, Crystals

HIDDEN_LAYERS, UNITS = 5, 100
SIZE = 4 * SLOTS * 3
NOISE = 100  # of the standard GAN; not published


def _layers(inputs: int, outputs: int) -> nn.Sequential:
    sizes = [inputs, *[UNITS] * HIDDEN_LAYERS]
    hidden = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(UNITS, outputs))


def flat(crystals: Crystals) -> torch.Tensor:
    """The tensors (B, 216): lattice padded to 18 rows, then the blocks of X, A and B."""
    padded = nn.functional.pad(crystals.lattice, (0, 0, 0, SLOTS - 3))
    return torch.cat([padded, crystals.cartesian], 1).flatten(1)


class Generator(nn.Module):
    """Crystals to crystals, or noise (B, 100) to crystals."""

    def __init__(self, inputs: int = SIZE) -> None:
        super().__init__()
        self.layers = _layers(inputs, SIZE)

    def forward(self, given: Crystals | torch.Tensor, elements: torch.Tensor, triple: torch.Tensor) -> Crystals:
        """``elements`` (B, S) says what the slots of the output hold; coordinates of empty ones are 0."""
        said = self.layers(flat(given) if isinstance(given, Crystals) else given).view(-1, 4 * SLOTS, 3)
        return Crystals(said[:, :3], said[:, SLOTS:] * (elements > 0)[..., None], elements, triple)


class Critic(nn.Module):
    """Crystals to logits (B,)."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = _layers(SIZE, 1)

    def forward(self, crystals: Crystals) -> torch.Tensor:
        return self.layers(flat(crystals)).squeeze(1)


def distance(ours: Crystals, theirs: Crystals) -> torch.Tensor:
    """Squared Euclidean distance of the tensors, mean over the crystals.

    The paper does not say which distance it takes. With the mean over a tensor's entries instead, DiscoGAN's outputs
    are no binaries, which the paper says they are.
    """
    return (flat(ours) - flat(theirs)).square().sum(1).mean()


def everywhere(triple: torch.Tensor) -> torch.Tensor:
    """The elements (B, S) of the blocks, in every slot."""
    return triple.repeat_interleave(SLOTS, 1)


def translated_elements(crystals: Crystals) -> torch.Tensor:
    """Any slot may hold an atom after the first step: the paper's placeholders are zeros that the networks learn."""
    return everywhere(crystals.triple)


def transfer(crystals: Crystals, translated: Crystals) -> Crystals:
    """Feature transfer: the placeholder of a crystal is filled with the new metal of its translation.

    Lattice, anions and own metal stay as they are; as many atoms of the new metal come in as there are of the own. The
    paper does not say how many are meant to be there, and could be read as if lattice and anions were those of the
    translation.
    """
    a, b = (crystals.elements[:, block] > 0 for block in (A_BLOCK, B_BLOCK))
    elements, cartesian = crystals.elements.clone(), crystals.cartesian.clone()
    for block, own, other in ((A_BLOCK, a, b), (B_BLOCK, b, a)):
        new = other & ~own.any(1, keepdim=True)
        elements[:, block] = torch.where(new, translated.elements[:, block], elements[:, block])
        cartesian[:, block] = torch.where(new[..., None], translated.cartesian[:, block], cartesian[:, block])
    return Crystals(crystals.lattice, cartesian, elements, crystals.triple)
