"""MatGAN: a Wasserstein GAN over 8 x E one-hot matrices of compositions (Dan 2020, doi:10.1038/s41524-020-00352-0).

What the paper leaves open is our assumption, named at each field of :class:`Settings`.

Legend of suffixes: B batch, C channels, E elements of the vocabulary, K counts (8), Z noise.
"""

from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipeline.composition import Compositions
from pipeline.generators import Batch, parallel
from pipeline.generators.checkpoints import Progress, frozen, gradient_norm, weights_of
from pipeline.generators.counts import Encoding, encode  # noqa: F401 - asked of every generator
from pipeline.generators.graphs import captured

DATA_PARALLEL = True
KINDS = 8
NOISE = 128
DRAWN_AT_ONCE = {"cpu": 250, "cuda": 10000}  # a CPU's cache holds one layer of so many; a GPU needs more to be busy

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
            kind = nn.ConvTranspose2d if index else LastConvolution
            blocks.append(kind(channels[index + 1], channels[index], kernel, stride, pad, extra))
            blocks += [parallel.BatchNorm2d(channels[index]), nn.ReLU()] if index else [nn.Sigmoid()]
        self.blocks = nn.Sequential(*blocks)
        self.to(memory_format=torch.channels_last)

    def forward(self, noise_BZ: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.dense(noise_BZ).view(-1, *self.start)).squeeze(1)


class Critic(nn.Module):
    """One-hot matrices (B, E, 8) to scores (B,); BatchNorm only where the constraint is weight clipping."""

    def __init__(self, n_elements: int, architecture: str, batch_norm: bool) -> None:
        super().__init__()
        layers = ARCHITECTURES[architecture]
        blocks, channels = [], 1
        for filters, kernel, stride in layers:
            kind = FirstConvolution if channels == 1 else nn.Conv2d
            blocks.append(kind(channels, filters, kernel, stride, kernel // 2))
            blocks += [parallel.BatchNorm2d(filters)] if batch_norm else []
            blocks.append(nn.LeakyReLU(0.2))
            channels = filters
        rows, columns = _shapes(n_elements, layers)[-1]
        self.blocks = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(channels * rows * columns, 1))
        self.to(memory_format=torch.channels_last)

    def forward(self, matrix_BEK: torch.Tensor) -> torch.Tensor:
        return self.blocks(matrix_BEK.unsqueeze(1)).squeeze(1)

    def gradient(self, matrix_BEK: torch.Tensor) -> torch.Tensor:
        """Gradient of each score by its matrix (B, E, 8), for a critic without BatchNorm.

        Between two kinks of its LeakyReLUs the critic is linear: the gradient is a product of the transposed layers and
        the slopes. Written so, it is differentiated by the weights in one pass backwards, where autograd of autograd
        would also go back through the layers that led to the slopes, with zeros.
        """
        *layers, _, last = self.blocks
        convolutions, slopes = layers[::2], []
        with torch.no_grad():
            x_BCEK = matrix_BEK.unsqueeze(1)
            sizes = []
            for convolution, bent in zip(convolutions, layers[1::2], strict=True):
                sizes.append(x_BCEK.shape[2:])
                x_BCEK = convolution(x_BCEK)
                slopes.append(torch.ones_like(x_BCEK).masked_fill_(x_BCEK <= 0, bent.negative_slope))
                x_BCEK = x_BCEK * slopes[-1]
        gradient = last.weight.view(1, *x_BCEK.shape[1:])
        for convolution, slope, size in zip(reversed(convolutions), reversed(slopes), reversed(sizes), strict=True):
            gradient = _transposed(gradient * slope, convolution.weight, convolution.stride, size)
        return gradient.squeeze(1)


class FirstConvolution(nn.Conv2d):
    """A convolution of one channel; on a CPU a product of its windows, as oneDNN is built for 16 channels and more."""

    def forward(self, x_B1EK: torch.Tensor) -> torch.Tensor:
        if x_B1EK.is_cuda:
            return super().forward(x_B1EK)
        (pad, _), (down, across) = self.padding, self.stride
        rows, columns = (-(-length // step) for length, step in zip(x_B1EK.shape[2:], self.stride, strict=True))
        padded = F.pad(x_B1EK.squeeze(1), (pad, pad, pad, pad))
        windows = [padded[:, i:, j:][:, ::down, ::across][:, :rows, :columns] for i, j in _cells(self.weight)]
        return F.linear(torch.stack(windows, -1), self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class LastConvolution(nn.ConvTranspose2d):
    """A transposed convolution to one channel, see :class:`FirstConvolution`."""

    def forward(self, x_BCEK: torch.Tensor) -> torch.Tensor:
        size = [
            (length - 1) * step + kernel - 2 * pad + extra
            for length, step, kernel, pad, extra in zip(
                x_BCEK.shape[2:], self.stride, self.kernel_size, self.padding, self.output_padding, strict=True
            )
        ]
        return _transposed(x_BCEK, self.weight, self.stride, size) + self.bias.view(1, 1, 1, 1)


def _transposed(x_BCEK: torch.Tensor, weight: torch.Tensor, stride: tuple[int, int], size) -> torch.Tensor:
    """A transposed convolution without bias, to a picture of that size."""
    kernel = weight.shape[-1]
    if weight.shape[1] == 1 and not x_BCEK.is_cuda:
        pad, (rows, columns), (down, across) = kernel // 2, x_BCEK.shape[2:], stride
        windows = x_BCEK.permute(0, 2, 3, 1) @ weight.flatten(1)
        padded = windows.new_zeros(len(windows), (rows - 1) * down + kernel, (columns - 1) * across + kernel)
        for place, (i, j) in enumerate(_cells(weight)):
            padded[:, i:, j:][:, ::down, ::across][:, :rows, :columns] += windows[..., place]
        padded = F.pad(padded, (0, size[1] + 2 * pad - padded.shape[2], 0, size[0] + 2 * pad - padded.shape[1]))
        return padded[:, None, pad : pad + size[0], pad : pad + size[1]]
    least = [
        (length - 1) * step + kernel - 2 * (kernel // 2) for length, step in zip(x_BCEK.shape[2:], stride, strict=True)
    ]
    extra = [wanted - length for wanted, length in zip(size, least, strict=True)]
    return F.conv_transpose2d(x_BCEK, weight, None, stride, kernel // 2, extra)


def _cells(weight: torch.Tensor) -> list[tuple[int, int]]:
    return list(product(*map(range, weight.shape[2:])))


def _shapes(n_elements: int, layers) -> list[tuple[int, int]]:
    shapes = [(n_elements, KINDS)]
    for _, _, stride in layers:
        shapes.append(tuple(-(-size // step) for size, step in zip(shapes[-1], stride, strict=True)))
    return shapes


def expand(counts_BE: torch.Tensor) -> torch.Tensor:
    """Counts as integers to one-hot matrices (B, E, 8), on the device that holds them."""
    kinds = torch.arange(1, KINDS + 1, device=counts_BE.device, dtype=counts_BE.dtype)
    return (counts_BE.unsqueeze(-1) == kinds).to(torch.get_default_dtype())


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
        device: ``cpu`` or ``cuda``; mixed precision (bfloat16) outside the gradient penalty where the hardware
            multiplies bfloat16.
        progress: Takes checkpoints, history and epoch samples, and says where to resume.
    """
    torch.manual_seed(seed)
    counts_NE = tensors["counts"]
    n_elements = counts_NE.shape[1]
    generator = Generator(n_elements, settings.architecture).to(device)
    clipping = settings.constraint == "weight_clipping"
    critic = Critic(n_elements, settings.architecture, batch_norm=clipping).to(device)
    adam = partial(torch.optim.Adam, betas=(settings.adam_beta1, 0.9), capturable=device == "cuda")
    generator_step = adam(generator.parameters(), settings.generator_rate)
    critic_step = adam(critic.parameters(), settings.critic_rate)
    state = {"generator": generator, "critic": critic, "generator_step": generator_step, "critic_step": critic_step}
    data = torch.from_numpy(counts_NE).to(device)
    batch = min(settings.batch_size, len(data))
    steps = max(1, len(data) // (batch * settings.critic_steps))
    # A graph cannot hold what autocast keeps from one call to the next.
    mixed = torch.autocast(device, torch.bfloat16, multiplies_bfloat16(device), cache_enabled=device != "cuda")

    def noise() -> torch.Tensor:
        return parallel.mine(torch.randn(batch, NOISE, device=device))

    def update_critic() -> dict[str, torch.Tensor]:
        real = expand(data[parallel.mine(torch.randint(len(data), (batch,), device=device))])
        with torch.no_grad(), mixed:
            fake = generator(noise()).to(real.dtype)
        with mixed:
            wasserstein = (critic(real).sum(dtype=real.dtype) - critic(fake).sum(dtype=real.dtype)) / batch
        loss = -wasserstein
        if not clipping:
            share = parallel.mine(torch.rand(batch, 1, 1, device=device))
            loss = loss + settings.penalty * penalty(critic, share * real + (1 - share) * fake).sum() / batch
        critic_step.zero_grad()
        loss.backward()
        loss, wasserstein = parallel.sum_gradients(critic, loss, wasserstein)
        norm = gradient_norm(critic)
        critic_step.step()
        if clipping:
            with torch.no_grad():
                for weight in critic.parameters():
                    weight.clamp_(-settings.clip_value, settings.clip_value)
        return {"critic_loss": loss, "wasserstein_estimate": wasserstein, "critic_gradient_norm": norm}

    def update_generator() -> dict[str, torch.Tensor]:
        with frozen(critic), mixed:
            loss = -critic(generator(noise())).sum(dtype=torch.get_default_dtype()) / batch
        generator_step.zero_grad()
        loss.backward()
        (loss,) = parallel.sum_gradients(generator, loss)
        norm = gradient_norm(generator)
        generator_step.step()
        return {"generator_loss": loss, "generator_gradient_norm": norm}

    train_critic, train_generator = (captured(step, state, device) for step in (update_critic, update_generator))
    for epoch in progress.epochs(settings.epochs, state):
        for _ in progress.steps(steps):
            for _ in range(settings.critic_steps):
                figures = train_critic()
            progress.record(**figures, **train_generator())
        progress.samples(epoch, lambda n, seed: draw(weights_of(generator), vocabulary, settings, n, seed, device))
    return weights_of(generator)


def draw(
    weights: dict[str, torch.Tensor], vocabulary: list[int], settings: Settings, n: int, seed: int, device: str
) -> Batch:
    """Draw ``n`` samples; the same seed on the same kind of device gives the same samples."""
    generator = Generator(len(vocabulary), settings.architecture).to(device).eval()
    generator.load_state_dict(weights)
    fold_norms(generator)
    random = torch.Generator().manual_seed(seed)
    mixed = torch.autocast(device, torch.bfloat16, enabled=device == "cuda")
    drawn = []
    with torch.inference_mode(), mixed:
        for noise_BZ in torch.randn(n, NOISE, generator=random).to(device).split(DRAWN_AT_ONCE[device]):
            drawn.append(decode(generator(noise_BZ), settings.threshold))
    counts_NE, unclear = (torch.cat(part).cpu().numpy() for part in zip(*drawn, strict=True))
    empty = ~unclear & (counts_NE == 0).all(1)
    compositions = Compositions.from_dense(counts_NE[~unclear & ~empty], vocabulary).reduced()
    return Batch(compositions, n, int(unclear.sum()), int(empty.sum()))


def fold_norms(generator: Generator) -> None:
    """Make each BatchNorm of a network in evaluation a part of the layer before it: for draws, not for training."""
    blocks = generator.blocks
    for place, norm in enumerate(blocks):
        if isinstance(norm, nn.BatchNorm2d):
            blocks[place - 1] = fuse_conv_bn_eval(blocks[place - 1], norm, transpose=True)
            blocks[place] = nn.Identity()


def penalty(critic: nn.Module, matrix_BEK: torch.Tensor) -> torch.Tensor:
    """(|gradient| - 1)^2 at each matrix, in full precision; (B,)."""
    return (critic.gradient(matrix_BEK).flatten(1).norm(dim=1) - 1) ** 2


def multiplies_bfloat16(device: str) -> bool:
    """Whether the hardware does: a GPU, or a CPU with AVX-512 BF16 (all that have AMX have it too)."""
    return device == "cuda" or torch.cpu.get_capabilities().get("avx512_bf16", False)
