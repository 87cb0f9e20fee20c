"""ElemNet: formation energy from element fractions alone (Jha et al. 2018, doi:10.1038/s41598-018-35934-y).

Suffixes: N formulas, E elements of the vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from pipeline.composition import Compositions

BLOCKS = ((1024,) * 4, (512,) * 3, (256,) * 3, (128,) * 3, (64,) * 2, (32,))
BLOCKS_WITH_DROPOUT = 4
WEIGHTS_FILE = "weights.safetensors"
INFERENCE_BATCH = 1024
METHOD = """ElemNet's layers and ReLU (Jha et al. 2018, doi:10.1038/s41598-018-35934-y): element fractions in, eV/atom
out. Other than in the paper: mean absolute error as the loss, Adam with a warm-up and a cosine decay instead of a fixed
1e-4, dropout as below, the vocabulary taken from the data, weights rounded to float16 before they were tested."""


@dataclass(frozen=True)
class ElemNetTraining:
    """How an ElemNet is trained.

    Args:
        epochs: Passes over the training set; the learning rate falls to zero along a cosine over them.
        batch_size: Rows a step.
        learning_rate: Peak rate of Adam, reached after a twentieth of the steps. The paper keeps 1e-4, for which it
            needs many more epochs.
        dropout: Share of activations dropped after each of the four widest blocks.
        patience: Epochs without a better validation error after which training ends.
    """

    epochs: int
    batch_size: int = 256
    learning_rate: float = 1e-3
    dropout: float = 0.0
    patience: int = 20


class ElemNet(nn.Module):
    """Dense network 1024x4-512x3-256x3-128x3-64x2-32-1 with ReLU."""

    def __init__(self, n_elements: int, dropout: float = 0.0):
        super().__init__()
        layers, width = [], n_elements
        for place, block in enumerate(BLOCKS):
            for size in block:
                layers += [nn.Linear(width, size), nn.ReLU()]
                width = size
            if place < BLOCKS_WITH_DROPOUT:
                layers.append(nn.Dropout(dropout))
        self.trunk = nn.Sequential(*layers)
        self.energy = nn.Linear(width, 1)
        for layer in self.trunk:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, fractions_NE: torch.Tensor) -> torch.Tensor:
        """Formation energy, shape (N,)."""
        return self.energy(self.trunk(fractions_NE))[:, 0]


def has_few_elements(compositions: Compositions) -> np.ndarray:
    """Formulas of at most two elements, bool of shape (N,): their intervals are calibrated apart.

    Such formulas are rare in training sets and their errors larger: in OQMD more than twice those of ternaries.
    """
    return compositions.n_elements <= 2


def fractions(compositions: Compositions, vocabulary: Sequence[int]) -> torch.Tensor:
    """Element fractions, float32 of shape (N, E)."""
    counts_NE = compositions.dense(vocabulary).astype(np.float32)
    return torch.from_numpy(counts_NE / counts_NE.sum(axis=1, keepdims=True))


def predict(network: ElemNet, fractions_NE: torch.Tensor) -> np.ndarray:
    """Formation energy in eV/atom, float64 of shape (N,)."""
    network.eval()
    with torch.inference_mode():
        return torch.cat([network(batch) for batch in fractions_NE.split(INFERENCE_BATCH)]).double().numpy()


def fit(
    train: tuple[torch.Tensor, np.ndarray],
    validation: tuple[torch.Tensor, np.ndarray],
    settings: ElemNetTraining,
    seed: int,
    report: Callable[[dict], None] = lambda row: None,
) -> tuple[ElemNet, list[dict]]:
    """Train on one set, stop on another; the loss is the mean absolute error.

    Args:
        train: Element fractions of shape (N, E) and energies in eV/atom of shape (N,).
        validation: The same; chooses the epoch that is kept, trains nothing.
        settings: How to train.
        seed: Of the initial weights, the order of rows and dropout.
        report: Called after each epoch with its row of history.

    Returns:
        The network of the best epoch, its weights rounded to float16 as :func:`save` keeps them (so that what is
        measured is what is shipped), and the history: epoch and both mean absolute errors in eV/atom.
    """
    torch.manual_seed(seed)
    fractions_NE, energies = train
    mean, scale = float(energies.mean()), float(energies.std()) or 1.0
    targets = torch.from_numpy((energies - mean) / scale).float()
    network = ElemNet(fractions_NE.shape[1], settings.dropout)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    steps = settings.epochs * -(-len(targets) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=steps + 1, pct_start=0.05, cycle_momentum=False
    )
    history, kept, kept_epoch = [], {}, -1
    for epoch in range(settings.epochs):
        network.train()
        total = 0.0
        for rows in torch.randperm(len(targets)).split(settings.batch_size):
            loss = (network(fractions_NE[rows]) - targets[rows]).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        error = np.abs(predict(network, validation[0]) * scale + mean - validation[1]).mean()
        row = {"epoch": epoch, "train_mae": scale * total / len(targets), "validation_mae": float(error)}
        if not history or error < min(past["validation_mae"] for past in history):
            kept, kept_epoch = {name: value.clone() for name, value in network.state_dict().items()}, epoch
        history.append(row)
        report(row)
        if epoch - kept_epoch >= settings.patience:
            break
    network.load_state_dict(kept)
    with torch.no_grad():
        network.energy.weight *= scale
        network.energy.bias.mul_(scale).add_(mean)
        for parameter in network.parameters():
            parameter.copy_(parameter.half())
    return network, history


def save(network: ElemNet, path: str | Path) -> None:
    """Write the weights as float16."""
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    Path(path).write_bytes(safetensors.torch.save(weights))


def load(path: str | Path, n_elements: int) -> ElemNet:
    """Read weights written by :func:`save`.

    Raises:
        ValueError: The file is missing, damaged, or of another architecture.
    """
    network = ElemNet(n_elements)
    try:
        network.load_state_dict({name: value.float() for name, value in safetensors.torch.load_file(path).items()})
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path}: not the weights of an ElemNet over {n_elements} elements ({reason})") from error
    return network
