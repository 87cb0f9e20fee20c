"""A training run that can be killed: checkpoints at the end of an epoch, history, and samples of each epoch."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from tqdm import tqdm

from pipeline.composition import Compositions, concatenate
from pipeline.generators import Batch
from pipeline.provenance import derived_seed
from pipeline.tables import atomic

FILE = "last.safetensors"
State = dict[str, nn.Module | torch.optim.Optimizer]


class Progress:
    """What a generator reports to while it trains, and where it finds how far an earlier run came.

    Args:
        folder: Where the checkpoint lies; None keeps none.
        fingerprint: Names code, settings, seed and data; a checkpoint of another fingerprint is left unused.
        seed: Campaign seed.
        n_samples: Samples drawn at the end of each epoch, 0 for none.

    Attributes:
        history: One dict an epoch: the means of what was recorded.
        epoch_samples: One batch of compositions an epoch.
    """

    def __init__(self, folder: Path | None, fingerprint: str, seed: int, n_samples: int = 0) -> None:
        self.path = None if folder is None else Path(folder) / FILE
        self.fingerprint = fingerprint
        self.seed = seed
        self.n_samples = n_samples
        self.history: list[dict[str, float]] = []
        self.epoch_samples: list[Compositions] = []
        self._recorded: list[dict[str, torch.Tensor]] = []

    def epochs(self, total: int, state: State) -> Iterator[int]:
        """Yield the epochs still to do, saving after each; ``state`` is restored from a checkpoint first."""
        self._restore(state)
        start = len(self.history)
        bar = tqdm(
            range(start, total), "training", total, initial=start, unit=" epochs", file=sys.stderr, mininterval=2
        )
        for epoch in bar:
            yield epoch
            means = {name: float(np.mean([float(row[name]) for row in self._recorded])) for name in self._recorded[0]}
            if not all(np.isfinite(value) for value in means.values()):
                raise ValueError(
                    f"training diverged in epoch {epoch + 1} ({means}); lower training.settings' learning rates"
                )
            self.history.append({"epoch": epoch + 1, **means})
            self._recorded = []
            bar.set_postfix({name: f"{value:.3g}" for name, value in means.items() if "norm" not in name})
            self._save(state)

    def record(self, **values: torch.Tensor) -> None:
        """Note one step's figures; their means over the epoch become a row of the history."""
        self._recorded.append({name: torch.as_tensor(value).detach() for name, value in values.items()})

    def samples(self, epoch: int, draw: Callable[[int, int], Batch]) -> None:
        """Keep what ``draw(n, seed)`` yields at the end of an epoch; training's own randomness is left alone."""
        if self.n_samples:
            with torch.random.fork_rng():  # the network that draws is first made with random weights
                self.epoch_samples.append(draw(self.n_samples, derived_seed(self.seed, "epoch", epoch)).compositions)

    def finished(self) -> None:
        """Remove the checkpoint: its weights are in the generator's own file by now."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _save(self, state: State) -> None:
        if self.path is None:
            return
        tensors = {"random": torch.get_rng_state()}
        if torch.cuda.is_available():
            tensors["random_cuda"] = torch.cuda.get_rng_state()
        for name, part in state.items():
            for key, value in _tensors(part).items():
                tensors[f"{name}/{key}"] = value.detach().cpu().contiguous()
        if self.epoch_samples:
            kept = concatenate(self.epoch_samples)
            tensors["samples/size"] = torch.tensor([len(batch) for batch in self.epoch_samples])
            tensors["samples/offsets"] = torch.from_numpy(kept.offsets)
            tensors["samples/elements"] = torch.from_numpy(kept.elements.astype(np.int32))
            tensors["samples/counts"] = torch.from_numpy(kept.counts.astype(np.int32))
        with atomic(self.path) as temporary:
            save_file(tensors, temporary, {"fingerprint": self.fingerprint, "history": json.dumps(self.history)})

    def _restore(self, state: State) -> None:
        if self.path is None or not self.path.exists():
            return
        try:
            with safe_open(self.path, "pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except (SafetensorError, OSError) as error:
            print(f"{self.path} is damaged ({error}): training starts afresh", file=sys.stderr)
            return
        if about.get("fingerprint") != self.fingerprint:
            print(f"{self.path} is of other code, settings or data: training starts afresh", file=sys.stderr)
            return
        for name, part in state.items():
            prefix = f"{name}/"
            _load(part, {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)})
        torch.set_rng_state(tensors["random"])
        if "random_cuda" in tensors and torch.cuda.is_available():
            torch.cuda.set_rng_state(tensors["random_cuda"])
        self.history = json.loads(about["history"])
        if "samples/size" in tensors:
            kept = Compositions(
                tensors["samples/offsets"].numpy(),
                tensors["samples/elements"].numpy().astype(np.uint8),
                tensors["samples/counts"].numpy().astype(np.uint16),
            )
            ends = np.cumsum(tensors["samples/size"].numpy())
            self.epoch_samples = [
                kept.take(np.arange(begin, end)) for begin, end in zip([0, *ends[:-1]], ends, strict=True)
            ]
        print(f"resuming after epoch {len(self.history)}", file=sys.stderr)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Inside the block, no gradients are computed for the network's weights."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def weights_of(network: nn.Module) -> dict[str, torch.Tensor]:
    """The network's weights on the CPU, detached copies."""
    return {name: value.detach().cpu().clone().contiguous() for name, value in network.state_dict().items()}


def gradient_norm(network: nn.Module) -> torch.Tensor:
    """Euclidean norm of all gradients of the network."""
    return torch.stack([weight.grad.norm() for weight in network.parameters() if weight.grad is not None]).norm()


def _tensors(part: nn.Module | torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    if isinstance(part, nn.Module):
        return part.state_dict()
    return {f"{i}.{key}": value for i, own in part.state_dict()["state"].items() for key, value in own.items()}


def _load(part: nn.Module | torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    if isinstance(part, nn.Module):
        part.load_state_dict(tensors)
        return
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    part.load_state_dict({"state": state, "param_groups": part.state_dict()["param_groups"]})
