"""Drawing from a trained CrystalGAN: crystals of the database in, crystals of three elements out."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from pipeline.cells import Cell, compositions_of
from pipeline.generators import Batch
from pipeline.generators.checkpoints import under
from pipeline.generators.crystalgan import dense
from pipeline.generators.crystalgan.adversarial import (
    Domains,
    imagined,
    networks_of,
    prepared,
    steps_of,
    transferred,
)
from pipeline.generators.crystalgan.crystals import Crystals, cell_of, domains
from pipeline.generators.crystalgan.settings import Settings

BATCH = 35
EMPTY_ANGSTROM = 1.0  # the dense networks' zeros: a slot nearer to the origin holds no atom; not published
LEAST_VOLUME_A3 = 1.0  # of an atom; flatter cells are no crystal


def draw(
    weights: dict[str, torch.Tensor], vocabulary: list[int], settings: Settings, n: int, seed: int, device: str
) -> Batch:
    """Draw ``n`` crystals, half of them from either domain; the same seed gives the same crystals.

    The sources of a domain take turns in random order, none twice before all were taken. Outputs that are no crystal
    (no atom, no volume, not finite) are left out and counted as empty.
    """
    kept = {name: value.numpy() for name, value in under("domains", weights).items()}
    data = prepared(domains(kept, device), settings)
    weights = {name: value for name, value in weights.items() if not name.startswith("domains/")}
    with torch.random.fork_rng(), torch.inference_mode():
        generator = dense.Generator(dense.NOISE) if settings.method == "gan" else steps_of(settings)
        generator.load_state_dict(weights)
        generator.to(device).eval()
        torch.manual_seed(seed)
        cells = [cell for crystals in _outputs(generator, data, n, settings) for cell in _cells(crystals, settings)]
    found = [cell for cell in cells if cell is not None]
    return Batch(compositions_of(found), n, 0, n - len(found), found)


def _outputs(generator: nn.Module, data: Domains, n: int, settings: Settings) -> Iterator[Crystals]:
    """``n`` outputs in batches, half of them from either domain; the odd one from either."""
    odd = int(torch.randint(2, ())) if n % 2 else 0
    quotas = [(n + (side == odd)) // 2 for side in range(2)]
    turns = [_turns(len(side.lattice), quota) for side, quota in zip(data, quotas, strict=True)]
    for side, order in enumerate(turns):
        for piece in filter(len, order.split(BATCH)):
            crystals = data[side].take(piece.to(data[side].lattice.device))
            if settings.method == "gan":
                yield imagined(generator, crystals.triple)
            else:
                yield _translated(generator, crystals, side, settings)


def _turns(n_sources: int, n: int) -> torch.Tensor:
    """Which source makes each of ``n`` outputs: all of them in random order, then again in another."""
    rounds = -(-n // n_sources)
    return torch.cat([torch.randperm(n_sources) for _ in range(rounds)] or [torch.zeros(0, dtype=torch.long)])[:n]


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
        if settings.networks == "dense" and settings.method != "crystalgan":
            elements = np.where(np.linalg.norm(cartesian, axis=1) > EMPTY_ANGSTROM, elements, 0)
        n_atoms = np.count_nonzero(elements)
        usable = n_atoms and np.isfinite(lattice).all() and np.isfinite(cartesian).all()
        if usable and abs(np.linalg.det(lattice.astype(np.float64))) >= LEAST_VOLUME_A3 * n_atoms:
            order = np.argsort(elements, kind="stable")
            cells.append(cell_of(lattice, cartesian[order], elements[order]))
        else:
            cells.append(None)
    return cells
