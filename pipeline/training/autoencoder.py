"""MatGAN's autoencoder: which formulas could such a network say at all? (Dan et al. 2020, figure 2 and table S2)"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pipeline.encoding import read_vocabulary
from pipeline.generators.checkpoints import Progress
from pipeline.generators.matgan import NOISE, Critic, Generator, decode, expand
from pipeline.tables import write_json
from pipeline.training.data import count_matrices, fingerprint
from pipeline.training.settings import pick_device


@dataclass(frozen=True)
class AutoencoderSettings:
    """How the autoencoder trains.

    Args:
        architecture: ``oqmd`` (table S2), ``icsd_mp`` (the smaller GAN's layers), or ``dense`` (one hidden layer each
            way; ours, for CPUs: as many formulas decoded as by 3 epochs of ``icsd_mp``, in half the time).
        epochs: Passes over the training set.
        batch_size: 1024 in the paper.
        rate: Learning rate of Adam at first, falling to a hundredth; 1e-3 in the paper.
    """

    architecture: str
    epochs: int
    batch_size: int
    rate: float


class Autoencoder(nn.Module):
    """One-hot matrices (B, E, 8) to 128 numbers and back to scores (B, E, 8); the decoder is MatGAN's generator."""

    def __init__(self, n_elements: int, architecture: str, width: int = 1024) -> None:
        super().__init__()
        if architecture == "dense":
            size = n_elements * 8
            hidden = (nn.BatchNorm1d(width), nn.ReLU())
            self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(size, width), *hidden, nn.Linear(width, NOISE))
            hidden, said = (nn.BatchNorm1d(width), nn.ReLU()), nn.Linear(width, size)
            nn.init.constant_(said.bias, -4.0)  # most cells are off: from 0, Dice drives every sigmoid to saturation
            output = (said, nn.Sigmoid(), nn.Unflatten(1, (n_elements, 8)))
            self.decoder = nn.Sequential(nn.Linear(NOISE, width), *hidden, *output)
        else:
            self.encoder = Critic(n_elements, architecture, batch_norm=True)
            last = self.encoder.blocks[-1]
            self.encoder.blocks[-1] = nn.Linear(last.in_features, NOISE)
            self.decoder = Generator(n_elements, architecture)

    def forward(self, matrix_BEK: torch.Tensor) -> torch.Tensor:
        return self.decoder(self.encoder(matrix_BEK).view(len(matrix_BEK), NOISE))


def dice_loss(scores_BEK: torch.Tensor, truth_BEK: torch.Tensor) -> torch.Tensor:
    """Negative Dice coefficient, -2 A.B / (sum A + sum B), mean over the batch: -1 is perfect."""
    overlap = (scores_BEK * truth_BEK).flatten(1).sum(1)
    return -(2 * overlap / (scores_BEK + truth_BEK).flatten(1).sum(1)).mean()


def autoencode(
    *,
    settings: AutoencoderSettings,
    entries_path: str,
    vocabulary_path: str,
    split_path: str,
    reconstruction_path: str,
    checkpoints: str,
    seed: int,
    device: str,
    threads: int,
    provenance: dict,
) -> None:
    """Train the autoencoder and write the shares of formulas that it decodes exactly, training set and hold-out.

    Args:
        settings: See :class:`AutoencoderSettings`.
        entries_path: The ENTRIES table; formulas that fit MatGAN's box are taken, whatever the campaign's generator.
        vocabulary_path, split_path: What the encoding stage wrote.
        reconstruction_path: Gets the JSON.
        checkpoints, seed, device, threads, provenance: As in training.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device = pick_device(device)
    train_NE, held_out_NE = count_matrices(entries_path, read_vocabulary(vocabulary_path), split_path)
    if len(train_NE) < 2:
        raise ValueError(
            f"training.autoencoder: {len(train_NE)} formula to learn from, at least 2 are needed; add entries to "
            "database.sources or lower encoding.holdout_share"
        )
    data = torch.from_numpy(train_NE).to(device)
    network = Autoencoder(data.shape[1], settings.architecture).to(device)
    step = torch.optim.Adam(network.parameters(), settings.rate)
    batch = min(settings.batch_size, len(data))
    mixed = torch.autocast(device, torch.bfloat16, enabled=device == "cuda")
    own = fingerprint(provenance["code"], settings, seed, entries_path, vocabulary_path, split_path)
    progress = Progress(Path(checkpoints), own, seed)
    for epoch in progress.epochs(settings.epochs, {"network": network, "step": step}):
        parts = torch.randperm(len(data), device=device).tensor_split(len(data) // batch)  # none of a single row
        for index in progress.steps(len(parts)):
            share = (epoch + index / len(parts)) / settings.epochs
            step.param_groups[0]["lr"] = settings.rate * (1 - 0.99 * share)
            truth = expand(data[parts[index]])
            with mixed:
                loss = dice_loss(network(truth).float(), truth)
            step.zero_grad()
            loss.backward()
            step.step()
            progress.record(dice=-loss)
    result = {
        "architecture": settings.architecture,
        "epochs": settings.epochs,
        "dice": progress.history[-1]["dice"],
        "training_exact": exact_share(network, data),
        "held_out_exact": exact_share(network, torch.from_numpy(held_out_NE).to(device)),
        "training_formulas": len(train_NE),
        "held_out_formulas": len(held_out_NE),
    }
    write_json(reconstruction_path, result)
    print(result, file=sys.stderr)


def exact_share(network: nn.Module, counts_NE: torch.Tensor) -> float | None:
    """Share of formulas that strict decoding at 0.5 gives back exactly; None for an empty set."""
    if len(counts_NE) == 0:
        return None
    network.eval()
    exact = []
    with torch.inference_mode():
        for counts_BE in counts_NE.split(2048):
            decoded, ambiguous = decode(network(expand(counts_BE)), 0.5)
            exact.append(((decoded == counts_BE).all(1) & ~ambiguous).cpu())
    return float(np.mean(torch.cat(exact).numpy()))
