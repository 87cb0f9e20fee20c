"""Drawing from a trained CrystalGAN: crystals of the database in, crystals of three elements out."""

import numpy as np
import torch
from torch import nn

from pipeline.cells import Cell
from pipeline.composition import Compositions
from pipeline.generators import Batch
from pipeline.generators.crystalgan import dense
from pipeline.generators.crystalgan.adversarial import (
    Domains,
    Exchange,
    imagined,
    networks_of,
    prepared,
    transferred,
)
from pipeline.generators.crystalgan.crystals import Crystals, cell_of, domains
from pipeline.generators.crystalgan.settings import Settings

EMPTY_ANGSTROM = 0.5  # the dense networks' zeros: a slot nearer to the origin holds no atom; not published
LEAST_VOLUME_A3 = 1.0  # of an atom; flatter cells are no crystal


def draw(
    weights: dict[str, torch.Tensor], vocabulary: list[int], settings: Settings, n: int, seed: int, device: str
) -> Batch:
    """Draw ``n`` crystals, as many from either domain; the same seed gives the same crystals.

    The sources take turns in random order, so that the first as many draws as there are sources come from different
    ones. Outputs that are no crystal (no atom, no volume, not finite) are left out and counted as empty.
    """
    networks = networks_of(settings)
    kept = {name.removeprefix("domains/"): value.numpy() for name, value in weights.items() if "domains/" in name}
    data = prepared(domains(kept, device), settings)
    weights = {name: value for name, value in weights.items() if "domains/" not in name}
    with torch.random.fork_rng(), torch.inference_mode():
        if settings.method == "gan":
            generator = dense.Generator(dense.NOISE)
        else:
            generator = nn.ModuleList(Exchange(networks) for _ in range(2 if settings.method == "crystalgan" else 1))
        generator.load_state_dict(weights)
        generator.to(device).eval()
        torch.manual_seed(seed)
        cells = []
        while len(cells) < n:
            for crystals in _outputs(generator, data, settings):
                cells += _cells(crystals, settings)
    cells = cells[:n]
    found = [cell for cell in cells if cell is not None]
    amounts = [dict(zip(*np.unique(cell.elements, return_counts=True), strict=True)) for cell in found]
    compositions = Compositions.from_dicts([{int(z): int(k) for z, k in row.items()} for row in amounts]).reduced()
    return Batch(compositions, n, 0, n - len(found), found)


def _outputs(generator: nn.Module, data: Domains, settings: Settings) -> list[Crystals]:
    """One output of each source crystal, the domains alternating in pieces of 35."""
    device = data[0].lattice.device
    orders = [torch.randperm(len(side.lattice)).to(device).split(35) for side in data]
    outputs = []
    for piece in range(max(len(order) for order in orders)):
        for side, order in enumerate(orders):
            if piece >= len(order):
                continue
            crystals = data[side].take(order[piece])
            if settings.method == "gan":
                outputs.append(imagined(generator, crystals.triple))
            else:
                outputs.append(_translated(generator, crystals, side, settings))
    return outputs


def _translated(steps: nn.ModuleList, crystals: Crystals, side: int, settings: Settings) -> Crystals:
    networks = networks_of(settings)
    if settings.method == "discogan":
        return steps[0].translate(crystals, 1 - side, networks.translated_elements(crystals))
    between = transferred(networks, steps[0], crystals, side)
    return steps[1].translate(between, 1 - side, between.elements)


def _cells(crystals: Crystals, settings: Settings) -> list[Cell | None]:
    """Cells with the atoms of each element together; None for what is no crystal."""
    cells = []
    for parts in zip(*(part.cpu().numpy() for part in crystals[:3]), strict=True):
        lattice, cartesian, elements = parts
        if settings.method != "crystalgan":
            elements = np.where(np.linalg.norm(cartesian, axis=1) > EMPTY_ANGSTROM, elements, 0)
        n_atoms = np.count_nonzero(elements)
        usable = n_atoms and np.isfinite(lattice).all() and np.isfinite(cartesian).all()
        if usable and abs(np.linalg.det(lattice.astype(np.float64))) >= LEAST_VOLUME_A3 * n_atoms:
            order = np.argsort(elements, kind="stable")
            cells.append(cell_of(lattice, cartesian[order], elements[order]))
        else:
            cells.append(None)
    return cells
