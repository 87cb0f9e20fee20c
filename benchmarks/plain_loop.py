"""MatGAN as a plain PyTorch script: what training and sampling are measured against.

The layers, losses and hyperparameters of ``pipeline.generators.matgan``, written without its measures: one-hot
matrices in float32 on the host, a DataLoader, the penalty by autograd of autograd, default memory format, and formulas
decoded in numpy. The random numbers are drawn in the same order, so that both see the same examples and the same noise.
"""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pipeline.composition import SYMBOLS
from pipeline.generators.matgan import ARCHITECTURES, NOISE, Settings

KINDS = 8


def shapes(n_elements: int, layers) -> list[tuple[int, int]]:
    """Rows and columns before and after each of the critic's convolutions."""
    sizes = [(n_elements, KINDS)]
    for _, _, (down, across) in layers:
        sizes.append((-(-sizes[-1][0] // down), -(-sizes[-1][1] // across)))
    return sizes


class Generator(nn.Module):
    """Noise to scores of shape (batch, elements, 8)."""

    def __init__(self, n_elements: int, architecture: str) -> None:
        super().__init__()
        layers = ARCHITECTURES[architecture]
        sizes = shapes(n_elements, layers)
        self.start = (layers[-1][0], *sizes[-1])
        self.dense = nn.Sequential(nn.Linear(NOISE, int(np.prod(self.start))), nn.ReLU())
        channels = [1, *(filters for filters, _, _ in layers)]
        blocks = []
        for i in reversed(range(len(layers))):
            _, kernel, stride = layers[i]
            extra = [sizes[i][d] - ((sizes[i + 1][d] - 1) * stride[d] + kernel - 2 * (kernel // 2)) for d in range(2)]
            blocks.append(nn.ConvTranspose2d(channels[i + 1], channels[i], kernel, stride, kernel // 2, extra))
            blocks += [nn.BatchNorm2d(channels[i]), nn.ReLU()] if i else [nn.Sigmoid()]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, noise):
        return self.blocks(self.dense(noise).view(-1, *self.start)).squeeze(1)


class Critic(nn.Module):
    """One-hot matrices of shape (batch, elements, 8) to scores."""

    def __init__(self, n_elements: int, architecture: str, batch_norm: bool) -> None:
        super().__init__()
        layers = ARCHITECTURES[architecture]
        blocks, channels = [], 1
        for filters, kernel, stride in layers:
            blocks.append(nn.Conv2d(channels, filters, kernel, stride, kernel // 2))
            blocks += [nn.BatchNorm2d(filters)] if batch_norm else []
            blocks.append(nn.LeakyReLU(0.2))
            channels = filters
        rows, columns = shapes(n_elements, layers)[-1]
        self.blocks = nn.Sequential(*blocks, nn.Flatten(), nn.Linear(channels * rows * columns, 1))

    def forward(self, matrix):
        return self.blocks(matrix.unsqueeze(1)).squeeze(1)


class RandomBatches:
    """Places of random batches, without end."""

    def __init__(self, n: int, batch: int) -> None:
        self.n, self.batch = n, batch

    def __iter__(self):
        while True:
            yield torch.randint(self.n, (self.batch,)).tolist()


def one_hot(counts_NE: np.ndarray) -> torch.Tensor:
    """Count matrices as float32 one-hot matrices of shape (N, elements, 8)."""
    return torch.from_numpy((counts_NE[:, :, None] == np.arange(1, KINDS + 1)).astype(np.float32))


def gradient_penalty(critic, real, fake):
    """Mean of (|gradient| - 1)^2 between pairs of real and generated matrices."""
    share = torch.rand(len(real), 1, 1, device=real.device)
    between = (share * real + (1 - share) * fake).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    return ((gradient.flatten(1).norm(dim=1) - 1) ** 2).mean()


def train(counts_NE: np.ndarray, settings: Settings, seed: int, device: str) -> tuple[nn.Module, dict[str, float]]:
    """The trained generator, and the mean losses of the last epoch."""
    torch.manual_seed(seed)
    n_elements = counts_NE.shape[1]
    clipping = settings.constraint == "weight_clipping"
    generator = Generator(n_elements, settings.architecture).to(device)
    critic = Critic(n_elements, settings.architecture, batch_norm=clipping).to(device)
    betas = (settings.adam_beta1, 0.9)
    generator_step = torch.optim.Adam(generator.parameters(), settings.generator_rate, betas)
    critic_step = torch.optim.Adam(critic.parameters(), settings.critic_rate, betas)
    batch = min(settings.batch_size, len(counts_NE))
    dataset = TensorDataset(one_hot(counts_NE))
    loader = DataLoader(
        dataset,
        batch_sampler=RandomBatches(len(dataset), batch),
        generator=torch.Generator(),
        pin_memory=device == "cuda",
    )
    batches = iter(loader)
    for _ in range(settings.epochs):
        losses = []
        for _ in range(max(1, len(dataset) // (batch * settings.critic_steps))):
            for _ in range(settings.critic_steps):
                (real,) = next(batches)
                real = real.to(device)
                with torch.no_grad():
                    fake = generator(torch.randn(batch, NOISE, device=device))
                loss = critic(fake).mean() - critic(real).mean()
                if not clipping:
                    loss = loss + settings.penalty * gradient_penalty(critic, real, fake)
                critic_step.zero_grad()
                loss.backward()
                critic_step.step()
                if clipping:
                    with torch.no_grad():
                        for weight in critic.parameters():
                            weight.clamp_(-settings.clip_value, settings.clip_value)
            generator_loss = -critic(generator(torch.randn(batch, NOISE, device=device))).mean()
            generator_step.zero_grad()
            generator_loss.backward()
            generator_step.step()
            losses.append((loss.item(), generator_loss.item()))
    means = np.mean(losses, axis=0)
    return generator, {"critic_loss": float(means[0]), "generator_loss": float(means[1])}


def sample(generator: nn.Module, vocabulary: list[int], threshold: float, n: int, seed: int, device: str) -> list[str]:
    """Formulas of ``n`` draws as the generator says them, empty where it says none or two counts for an element."""
    symbols = [SYMBOLS[z - 1] for z in vocabulary]
    generator = generator.to(device).eval()
    torch.manual_seed(seed)
    formulas = []
    with torch.no_grad():
        for noise in torch.randn(n, NOISE).split(1000):
            on = generator(noise.to(device)).cpu().numpy() >= threshold
            clear = (on.sum(2) <= 1).all(1)
            counts = on.argmax(2) + on.any(2)
            for row, said in zip(counts, clear, strict=True):
                places = np.nonzero(row)[0] if said else ()
                formulas.append("".join(f"{symbols[place]}{row[place]}" for place in places))
    return formulas
