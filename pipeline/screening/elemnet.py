"""ElemNet: a property from element fractions alone (Jha et al. 2018, doi:10.1038/s41598-018-35934-y).

Suffixes: N formulas, E elements of the vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import nn

from pipeline.composition import Compositions
from pipeline.screening.learners import Inputs, Report, Task

BLOCKS = ((1024,) * 4, (512,) * 3, (256,) * 3, (128,) * 3, (64,) * 2, (32,))
BLOCKS_WITH_DROPOUT = 4
SUFFIX = "safetensors"
INFERENCE_BATCH = 1024
METHOD = """ElemNet's layers and ReLU (Jha et al. 2018, doi:10.1038/s41598-018-35934-y): element fractions in, eV/atom
out. Other than in the paper: mean absolute error as the loss, Adam with a warm-up and a cosine decay instead of a fixed
1e-4, dropout by choice, the vocabulary taken from the data, weights rounded to float16 before they were tested. As a
classifier the last unit is a logit and the loss the cross entropy."""


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

    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 1e-3
    dropout: float = 0.0
    patience: int = 20


class Network(nn.Module):
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
        self.last = nn.Linear(width, 1)
        for layer in self.trunk:
            if isinstance(layer, nn.Linear):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def forward(self, fractions_NE: torch.Tensor) -> torch.Tensor:
        """Formation energy or logit, shape (N,)."""
        return self.last(self.trunk(fractions_NE))[:, 0]


def fractions(compositions: Compositions, vocabulary: Sequence[int]) -> torch.Tensor:
    """Element fractions, float32 of shape (N, E)."""
    counts_NE = compositions.dense(vocabulary).astype(np.float32)
    return torch.from_numpy(counts_NE / counts_NE.sum(axis=1, keepdims=True))


@dataclass(frozen=True)
class ElemNet:
    """A trained network.

    Attributes:
        network: The network.
        vocabulary: Atomic numbers of its inputs, ascending.
        task: What its last unit is.
        history: Epoch and both losses, in the target's unit (a classifier's are cross entropies).
    """

    network: Network
    vocabulary: list[int]
    task: Task
    history: list[dict] = field(default_factory=list)

    def predict(self, inputs: Inputs, threads: int) -> np.ndarray:
        """The target of each formula, or the probability of True; float64 of shape (N,)."""
        torch.set_num_threads(threads)
        value = _outputs(self.network, fractions(inputs.compositions, self.vocabulary))
        return (torch.sigmoid(value) if self.task == "classification" else value).numpy()

    def save(self, path: Path) -> None:
        """Write the weights as float16."""
        weights = {name: value.half().contiguous() for name, value in self.network.state_dict().items()}
        path.write_bytes(safetensors.torch.save(weights, {"task": self.task}))

    @classmethod
    def load(cls, path: Path, vocabulary: list[int]) -> "ElemNet":
        """Read weights written by :meth:`save`.

        Raises:
            ValueError: The file is missing, damaged, or of another architecture.
        """
        network = Network(len(vocabulary))
        try:
            with safetensors.safe_open(path, "pt") as file:
                task = file.metadata()["task"]
                network.load_state_dict({name: file.get_tensor(name).float() for name in file.keys()})  # noqa: SIM118
        except (OSError, RuntimeError, SafetensorError, LookupError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{path}: not the weights of an ElemNet over {len(vocabulary)} elements ({reason})"
            ) from error
        return cls(network, vocabulary, task)


def _outputs(network: Network, fractions_NE: torch.Tensor) -> torch.Tensor:
    """The last unit of each formula, float64 of shape (N,)."""
    network.eval()
    with torch.inference_mode():
        batches = [network(batch) for batch in fractions_NE.split(INFERENCE_BATCH)]
    return torch.cat(batches).double() if batches else torch.zeros(0, dtype=torch.float64)


def fit(
    train: Inputs,
    targets_N: np.ndarray,
    validation: Inputs,
    validation_targets_N: np.ndarray,
    *,
    task: Task,
    vocabulary: list[int],
    settings: ElemNetTraining,
    seed: int,
    threads: int,
    report: Report,
) -> ElemNet:
    """Train on one set, stop on another; see :mod:`pipeline.screening.learners`.

    The network is that of the best epoch, its weights rounded to float16 as they are kept, so that what is measured is
    what is shipped.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    fractions_NE, held_NE = (fractions(each.compositions, vocabulary) for each in (train, validation))
    is_number = task == "regression"
    mean, scale = (float(targets_N.mean()), float(targets_N.std()) or 1.0) if is_number else (0.0, 1.0)
    targets, held = (
        torch.from_numpy((np.asarray(each, dtype=np.float64) - mean) / scale).float()
        for each in (targets_N, validation_targets_N)
    )
    loss_of = nn.functional.l1_loss if is_number else nn.functional.binary_cross_entropy_with_logits
    network = Network(len(vocabulary), settings.dropout)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    steps = settings.epochs * -(-len(targets) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=steps + 1, pct_start=0.05, cycle_momentum=False
    )
    history, kept, kept_epoch, best = [], {}, -1, np.inf
    for epoch in range(settings.epochs):
        network.train()
        total = 0.0
        for rows in torch.randperm(len(targets)).split(settings.batch_size):
            loss = loss_of(network(fractions_NE[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(rows)
        error = scale * loss_of(_outputs(network, held_NE).float(), held).item()
        row = {"epoch": epoch, "train_loss": scale * total / len(targets), "validation_loss": error}
        if error < best:
            kept, kept_epoch, best = {name: value.clone() for name, value in network.state_dict().items()}, epoch, error
        history.append(row)
        report(row)
        if epoch - kept_epoch >= settings.patience:
            break
    if not kept:
        raise ValueError(
            f"ElemNet: the loss is {error} after the first epoch; lower learning_rate {settings.learning_rate}"
        )
    network.load_state_dict(kept)
    with torch.no_grad():
        network.last.weight *= scale
        network.last.bias.mul_(scale).add_(mean)
        for parameter in network.parameters():
            parameter.copy_(parameter.half())
    return ElemNet(network, vocabulary, task, history)
