"""Adversarial training of CrystalGAN's two steps (Nouira et al. 2018, hal-01902821, equations 1 to 26).

Both steps are the same exchange between two domains: translate, tell translated from real, translate back. They differ
in their domains (binaries; ternaries made by feature transfer) and in the distance rule, which the second step alone
has to keep.
"""

import sys
from types import ModuleType

import numpy as np
import torch
from torch import nn
from torch.nn.functional import softplus

from pipeline.generators.checkpoints import Progress, frozen, weights_of
from pipeline.generators.crystalgan import dense, graph
from pipeline.generators.crystalgan.crystals import Crystals, domains
from pipeline.generators.crystalgan.geometry import (
    contact_loss,
    like_neighbours,
    published_loss,
    window_loss,
)
from pipeline.generators.crystalgan.settings import Settings

Domains = tuple[Crystals, Crystals]
FIGURES = ("adversarial_loss", "reconstruction_loss", "geometry_loss", "share_within_rule")  # means of both directions


class Exchange(nn.Module):
    """A generator into each of two domains, and a critic of each."""

    def __init__(self, networks: ModuleType) -> None:
        super().__init__()
        self.generators = nn.ModuleList(networks.Generator() for _ in range(2))
        self.critics = nn.ModuleList(networks.Critic() for _ in range(2))

    def translate(self, crystals: Crystals, to: int, elements: torch.Tensor) -> Crystals:
        """Crystals of the other domain into domain ``to``; ``elements`` is what their slots hold there."""
        return self.generators[to](crystals, elements, crystals.triple)


def train(
    tensors: dict[str, np.ndarray],
    *,
    vocabulary: list[int],
    settings: Settings,
    seed: int,
    device: str,
    progress: Progress,
) -> dict[str, torch.Tensor]:
    """Train and return the weights, and with them the crystals that drawing starts from.

    Args:
        tensors: Columns of the encoding, N rows each.
        vocabulary: Not used: the tensors say their elements.
        settings: See :class:`Settings`.
        seed: Of weights, swaps and the order of examples.
        device: ``cpu`` or ``cuda``.
        progress: Takes checkpoints and history, and says where to resume.

    Raises:
        ValueError: An empty domain, or several pairs of metals for networks that know no elements.
    """
    torch.manual_seed(seed)
    networks = networks_of(settings)
    found = domains(tensors, device)
    data = prepared(found, settings)
    if lost := sum(len(side.lattice) for side in found) - sum(len(side.lattice) for side in data):
        print(f"{lost} crystals left out: two metals cannot share their only metal atom", file=sys.stderr)
    kept = {f"domains/{name}": torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()}
    if settings.method == "gan":
        return weights_of(_noise_gan(data, settings, progress)) | kept
    steps = steps_of(settings).to(device)
    state = {"steps": steps}
    for index, step in enumerate(steps):
        optimizers = _optimizers(step.generators, step.critics, settings)
        state |= {f"{name}_{index}": optimizer for name, optimizer in optimizers.items()}
    size = min(settings.batch_size, *(len(side.lattice) for side in data))
    batches = -(-max(len(side.lattice) for side in data) // size)
    for epoch in progress.epochs(settings.epochs * len(steps), state):
        second = epoch >= settings.epochs
        for _ in progress.steps(batches):
            batch = tuple(side.take(torch.randperm(len(side.lattice), device=device)[:size]) for side in data)
            if second:
                batch = tuple(transferred(networks, steps[0], crystals, side) for side, crystals in enumerate(batch))
            index = int(second)
            own = {name: state[f"{name}_{index}"] for name in ("generator_step", "critic_step")}
            progress.record(**_update(networks, steps[index], own, batch, settings, second))
    return weights_of(steps) | kept


def networks_of(settings: Settings) -> ModuleType:
    """The module of the networks."""
    return {"dense": dense, "graph": graph}[settings.networks]


def steps_of(settings: Settings) -> nn.ModuleList:
    """New networks of the steps that the method has."""
    networks = networks_of(settings)
    return nn.ModuleList(Exchange(networks) for _ in range(2 if settings.method == "crystalgan" else 1))


def prepared(data: Domains, settings: Settings) -> Domains:
    """The domains as the networks of that kind take them.

    Raises:
        ValueError: As :func:`train`.
    """
    if settings.networks == "dense":
        pairs = torch.cat([side.triple for side in data]).unique(dim=0)
        if len(pairs) > 1:
            raise ValueError(
                f"encoding.settings.pairs: {len(pairs)} pairs, and the dense networks know no elements; "
                "give one pair, or take training.preset 'default'"
            )
        return data
    shared = tuple(side.take(((side.elements > 0) & (side.elements != side.triple[:, :1])).sum(1) > 1) for side in data)
    if not all(len(side.lattice) for side in shared):
        raise ValueError(
            "encoding.settings: no crystal of a domain has two atoms of its metal, so none can be shared by two "
            "metals; write setting: reduced, which doubles such cells, or add some of at most 9 anions to the metal"
        )
    return tuple(side.compact() for side in shared)


def transferred(networks: ModuleType, step: Exchange, crystals: Crystals, side: int) -> Crystals:
    """Feature transfer: crystals of domain ``side`` with features of their translations by the first step."""
    with torch.no_grad():
        translated = step.translate(crystals, 1 - side, networks.translated_elements(crystals))
        return networks.transfer(crystals, translated)


def _update(
    networks: ModuleType, step: Exchange, optimizers: dict, batch: Domains, settings: Settings, second: bool
) -> dict[str, torch.Tensor]:
    """One update of the generators (equations 10 and 25), then of the critics (equations 11 and 26)."""
    translated, figures = [], dict.fromkeys(FIGURES if second else FIGURES[:2], 0.0)
    with frozen(step.critics):
        for side, crystals in enumerate(batch):
            other = 1 - side
            there = step.translate(crystals, other, _held(networks, crystals, second))
            back = step.translate(there, side, _held(networks, there, second))
            translated.append(there)
            values = [softplus(-step.critics[other](there)).mean(), networks.distance(back, crystals)]
            if second:
                values += _geometry(there, settings)
            for name, value in zip(figures, values, strict=True):
                figures[name] = figures[name] + value / len(batch)
    weights = settings.adversarial_weight, settings.reconstruction_weight, settings.geometry_weight
    losses = zip(weights, figures.values(), strict=False)  # without the last figure, which is none
    generator_loss = len(batch) * sum(weight * loss for weight, loss in losses)
    _descend(optimizers["generator_step"], generator_loss)
    critic_loss = 0.0
    for side, there in enumerate(translated):
        critic = step.critics[1 - side]
        critic_loss = critic_loss + softplus(-critic(batch[1 - side])).mean()
        critic_loss = critic_loss + softplus(critic(there.detached())).mean()
    _descend(optimizers["critic_step"], critic_loss)
    return {"generator_loss": generator_loss, "critic_loss": critic_loss, **figures}


def _held(networks: ModuleType, crystals: Crystals, second: bool) -> torch.Tensor:
    """What the slots hold after a translation: the first step exchanges the metal, the second moves atoms only."""
    return crystals.elements if second else networks.translated_elements(crystals)


def _geometry(crystals: Crystals, settings: Settings) -> tuple[torch.Tensor, torch.Tensor]:
    """The geometric loss, and the share of the crystals that keep the distance rule."""
    anion = crystals.triple[:, :1]
    own = crystals.compact()
    place = own.lattice, own.cartesian, own.elements
    distances, present = like_neighbours(*place, anion)
    within = (distances >= settings.d1_angstrom) & (distances <= settings.d2_angstrom)
    share = (within | ~present).all(1).float().mean()
    bounds = settings.d1_angstrom, settings.d2_angstrom
    if settings.geometry == "none":
        return distances.new_zeros(()), share
    if settings.geometry == "published":
        return published_loss(distances, present, *bounds), share
    return window_loss(distances, present, *bounds) + contact_loss(*place, anion, settings.contact_factor), share


def _optimizers(generator: nn.Module, critic: nn.Module, settings: Settings) -> dict[str, torch.optim.Optimizer]:
    betas = (settings.adam_beta1, 0.999)
    return {
        "generator_step": torch.optim.Adam(generator.parameters(), settings.generator_rate, betas),
        "critic_step": torch.optim.Adam(critic.parameters(), settings.critic_rate, betas),
    }


def _descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _noise_gan(data: Domains, settings: Settings, progress: Progress) -> nn.Module:
    """The standard GAN of table II: noise to tensors of both domains together."""
    device = data[0].lattice.device
    every = Crystals(*(torch.cat(parts) for parts in zip(*data, strict=True)))
    generator, critic = dense.Generator(dense.NOISE).to(device), dense.Critic().to(device)
    steps = _optimizers(generator, critic, settings)
    state = {"generator": generator, "critic": critic, **steps}
    size = min(settings.batch_size, len(every.lattice))
    for _ in progress.epochs(settings.epochs, state):
        for _ in progress.steps(-(-len(every.lattice) // size)):
            real = every.take(torch.randperm(len(every.lattice), device=device)[:size])
            fake = imagined(generator, real.triple)
            with frozen(critic):
                generator_loss = softplus(-critic(fake)).mean()
            _descend(steps["generator_step"], generator_loss)
            critic_loss = softplus(-critic(real)).mean() + softplus(critic(fake.detached())).mean()
            _descend(steps["critic_step"], critic_loss)
            progress.record(generator_loss=generator_loss, critic_loss=critic_loss)
    return generator


def imagined(generator: dense.Generator, triple: torch.Tensor) -> Crystals:
    """Crystals of those elements out of noise."""
    noise = torch.randn(len(triple), dense.NOISE, device=triple.device)
    return generator(noise, dense.everywhere(triple), triple)
