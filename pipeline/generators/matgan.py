"""MatGAN: a Wasserstein GAN over 8 x E one-hot matrices of compositions (Dan 2020, doi:10.1038/s41524-020-00352-0).

What the paper leaves open is our assumption, named at each field of :class:`Settings`.

Legend of suffixes: B batch, C channels, E elements of the vocabulary, K counts (8), Z noise.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.composition import Compositions
from pipeline.generators import Batch
from pipeline.generators.checkpoints import Progress, frozen, gradient_norm, weights_of
from pipeline.generators.counts import Encoding, encode  # noqa: F401 - asked of every generator

KINDS = 8
NOISE = 128

# Supplementary table 1: (filters, kernel, stride) of the critic's convolutions over (E, 8); the generator mirrors them.
ARCHITECTURES = {
    "oqmd": (
        (32, 3, (1, 1)),
        (32, 3, (2, 1)),
        (64, 3, (1, 1)),
        (64, 3, (2, 1)),
        (128, 3, (1, 1)),
        (128, 3, (2, 1)),
        (256, 5, (2, 2)),
    ),
    "icsd_mp": ((16, 3, (2, 1)), (32, 3, (2, 1)), (64, 3, (2, 1)), (128, 5, (2, 2))),
}


@dataclass(frozen=True)
class Settings:
    """How MatGAN trains.

    Args:
        architecture: ``oqmd`` (7 layers) or ``icsd_mp`` (4 layers), supplementary table 1.
        epochs: Passes over the training set. The paper took 1000, days on a CPU.
        batch_size: 512 for OQMD, 32 for ICSD and MP in the paper.
        generator_rate, critic_rate: Learning rates of Adam; 1e-3 and 1e-2 in the paper.
        constraint: ``weight_clipping`` (Arjovsky et al. 2017, arXiv:1701.07875; BatchNorm in both networks) or
            ``gradient_penalty`` (Gulrajani et al. 2017, arXiv:1704.00028; no BatchNorm in the critic, where it would
            invalidate a penalty on the gradient of single samples). The paper names the Wasserstein loss only.
        clip_value: Bound of the critic's weights; assumed, the value of Arjovsky et al.
        penalty: Weight of the gradient penalty; the value of Gulrajani et al.
        critic_steps: Critic updates for each of the generator; assumed, the value of both.
        adam_beta1: Assumed: 0.5 with clipping (the usual choice in DCGANs), 0 with the penalty.
        threshold: A cell of the output at or above this says "on"; assumed.
    """

    architecture: str
    epochs: int
    batch_size: int
    generator_rate: float
    critic_rate: float
    constraint: str
    clip_value: float = 0.01
    penalty: float = 10.0
    critic_steps: int = 5
    adam_beta1: float = 0.5
    threshold: float = 0.5


PRESETS = {
    "paper_oqmd": Settings("oqmd", 1000, 512, 1e-3, 1e-2, "weight_clipping"),
    "paper_icsd_mp": Settings("icsd_mp", 1000, 32, 1e-3, 1e-2, "weight_clipping"),
    "default": Settings("icsd_mp", 20, 128, 2e-4, 2e-4, "gradient_penalty", critic_steps=3, adam_beta1=0.0),
}


class Generator(nn.Module):
    """Noise (B, 128) to scores (B, E, 8) in 0 to 1, by the critic's layers transposed."""

    def __init__(self, n_elements: int, architecture: str) -> None:
        super().__init__()
        layers = ARCHITECTURES[architecture]
        shapes = _shapes(n_elements, layers)
        self.start = (layers[-1][0], *shapes[-1])
        self.dense = nn.Sequential(nn.Linear(NOISE, int(np.prod(self.start))), nn.ReLU())
        channels = [1, *(filters for filters, _, _ in layers)]
        blocks = []
        for index in reversed(range(len(layers))):
            _, kernel, stride = layers[index]
            pad = kernel // 2
            extra = [
                out - ((size - 1) * step + kernel - 2 * pad)
                for out, size, step in zip(shapes[index], shapes[index + 1], stride, strict=True)
            ]
            blocks.append(nn.ConvTranspose2d(channels[index + 1], channels[index], kernel, stride, pad, extra))
            blocks += [nn.BatchNorm2d(channels[index]), nn.ReLU()] if index else [nn.Sigmoid()]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, noise_BZ: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.dense(noise_BZ).view(-1, *self.start)).squeeze(1)


class Critic(nn.Module):
    """One-hot matrices (B, E, 8) to scores (B,); BatchNorm only where the constraint is weight clipping."""

    def __init__(self, n_elements: int, architecture: str, batch_norm: bool) -> None:
        super().__init__()
        layers = ARCHITECTURES[architecture]
        blocks, channels = [], 1
        for filters, kernel, stride in layers:
            blocks.append(nn.Conv2d(channels, filters, kernel, stride, kernel // 2))
            blocks += [nn.BatchNorm2d(filters)] if batch_norm else []
            blocks.append(nn.LeakyReLU(0.2))
            channels = filters
        rows, columns = _shapes(n_elements, layers)[-1]
        self.blocks = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(channels * rows * columns, 1))

    def forward(self, matrix_BEK: torch.Tensor) -> torch.Tensor:
        return self.blocks(matrix_BEK.unsqueeze(1)).squeeze(1)


def _shapes(n_elements: int, layers) -> list[tuple[int, int]]:
    shapes = [(n_elements, KINDS)]
    for _, _, stride in layers:
        shapes.append(tuple(-(-size // step) for size, step in zip(shapes[-1], stride, strict=True)))
    return shapes


def expand(counts_BE: torch.Tensor) -> torch.Tensor:
    """Counts as integers to one-hot matrices (B, E, 8), on the device that holds them."""
    kinds = torch.arange(1, KINDS + 1, device=counts_BE.device, dtype=counts_BE.dtype)
    return (counts_BE.unsqueeze(-1) == kinds).float()


def decode(scores_BEK: torch.Tensor, threshold: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Strict decoding: an element has a count where exactly one of its cells is on.

    Returns:
        Counts, uint8 (B, E), and whether a row is ambiguous (an element with two cells on), bool (B,).
    """
    on = scores_BEK >= threshold
    counts = (on * torch.arange(1, KINDS + 1, device=on.device, dtype=torch.uint8)).amax(-1)
    return counts, (on.sum(-1) > 1).any(-1)


def train(
    tensors: dict[str, np.ndarray],
    *,
    vocabulary: list[int],
    settings: Settings,
    seed: int,
    device: str,
    progress: Progress,
) -> dict[str, torch.Tensor]:
    """Train and return the generator's weights.

    Args:
        tensors: ``counts``, the count matrix of the training set, uint8 (N, E); it goes to the device once and is
            expanded there.
        vocabulary: Atomic numbers of the E columns.
        settings: See :class:`Settings`.
        seed: Of weights, noise and the order of examples.
        device: ``cpu`` or ``cuda``; on the latter, mixed precision (bfloat16) outside the gradient penalty.
        progress: Takes checkpoints, history and epoch samples, and says where to resume.
    """
    torch.manual_seed(seed)
    counts_NE = tensors["counts"]
    n_elements = counts_NE.shape[1]
    generator = Generator(n_elements, settings.architecture).to(device)
    clipping = settings.constraint == "weight_clipping"
    critic = Critic(n_elements, settings.architecture, batch_norm=clipping).to(device)
    betas = (settings.adam_beta1, 0.9)
    generator_step = torch.optim.Adam(generator.parameters(), settings.generator_rate, betas)
    critic_step = torch.optim.Adam(critic.parameters(), settings.critic_rate, betas)
    state = {"generator": generator, "critic": critic, "generator_step": generator_step, "critic_step": critic_step}
    data = torch.from_numpy(counts_NE).to(device)
    batch = min(settings.batch_size, len(data))
    steps = max(1, len(data) // (batch * settings.critic_steps))
    mixed = torch.autocast(device, torch.bfloat16, enabled=device == "cuda")
    for epoch in progress.epochs(settings.epochs, state):
        for _ in progress.steps(steps):
            for _ in range(settings.critic_steps):
                real = expand(data[torch.randint(len(data), (batch,), device=device)])
                with torch.no_grad(), mixed:
                    fake = generator(torch.randn(batch, NOISE, device=device)).float()
                with mixed:
                    wasserstein = critic(real).float().mean() - critic(fake).float().mean()
                loss = -wasserstein if clipping else -wasserstein + settings.penalty * _penalty(critic, real, fake)
                critic_step.zero_grad()
                loss.backward()
                norm = gradient_norm(critic)
                critic_step.step()
                if clipping:
                    with torch.no_grad():
                        for weight in critic.parameters():
                            weight.clamp_(-settings.clip_value, settings.clip_value)
            with frozen(critic), mixed:
                generator_loss = -critic(generator(torch.randn(batch, NOISE, device=device))).float().mean()
            generator_step.zero_grad()
            generator_loss.backward()
            progress.record(
                critic_loss=loss,
                generator_loss=generator_loss,
                wasserstein_estimate=wasserstein,
                critic_gradient_norm=norm,
                generator_gradient_norm=gradient_norm(generator),
            )
            generator_step.step()
        progress.samples(epoch, lambda n, seed: draw(weights_of(generator), vocabulary, settings, n, seed, device))
    return weights_of(generator)


def draw(
    weights: dict[str, torch.Tensor], vocabulary: list[int], settings: Settings, n: int, seed: int, device: str
) -> Batch:
    """Draw ``n`` samples; the same seed on the same kind of device gives the same samples."""
    generator = Generator(len(vocabulary), settings.architecture).to(device).eval()
    generator.load_state_dict(weights)
    random = torch.Generator().manual_seed(seed)
    counts, ambiguous = [], []
    with torch.inference_mode():
        for noise in torch.randn(n, NOISE, generator=random).split(1000):
            decoded, unclear = decode(generator(noise.to(device)), settings.threshold)
            counts.append(decoded.cpu())
            ambiguous.append(unclear.cpu())
    counts_NE, unclear = torch.cat(counts).numpy(), torch.cat(ambiguous).numpy()
    empty = ~unclear & (counts_NE == 0).all(1)
    compositions = Compositions.from_dense(counts_NE[~unclear & ~empty], vocabulary).reduced()
    return Batch(compositions, n, int(unclear.sum()), int(empty.sum()))


def _penalty(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """Mean of (|gradient| - 1)^2 between pairs of real and generated matrices, in full precision."""
    share = torch.rand(len(real), 1, 1, device=real.device)
    between = (share * real + (1 - share) * fake).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()
