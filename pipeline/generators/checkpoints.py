"""A training run that can be killed: checkpoints, history, and samples of each epoch."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from pipeline.composition import Compositions, concatenate
from pipeline.generators import Batch, parallel
from pipeline.provenance import derived_seed
from pipeline.weights import read_weights, write_weights

FILE = "last.safetensors"
SAVE_EVERY_S = 600.0  # within an epoch: what a kill without warning may cost
SAVE_EPOCHS_EVERY_S = 5.0  # a thousand epochs of 20 ms would wait for the disk longer than they train
State = dict[str, nn.Module | torch.optim.Optimizer]


class Progress:
    """What a generator reports to while it trains, and where it finds how far an earlier run came.

    Where several processes train together, all go on from the same checkpoint and end at the same step; one writes.

    Args:
        folder: Where the checkpoint lies; None keeps none.
        fingerprint: Names code, settings, seed and data; a checkpoint of another fingerprint is left unused.
        seed: Campaign seed.
        n_samples: Samples drawn at the end of an epoch, 0 for none.

    Attributes:
        history: One dict an epoch: the means of what was recorded.
        epoch_samples: Epoch, from 1, to a batch of compositions, where the generator drew some.
    """

    def __init__(self, folder: Path | None, fingerprint: str, seed: int, n_samples: int = 0) -> None:
        self.path = None if folder is None else Path(folder) / FILE
        self.fingerprint = fingerprint
        self.seed = seed
        self.n_samples = n_samples
        self.history: list[dict[str, float]] = []
        self.epoch_samples: dict[int, Compositions] = {}
        self._recorded: list[dict[str, torch.Tensor]] = []
        self._step = 0  # steps of this epoch that are done
        self._random_at_epoch: dict[str, torch.Tensor] = {}
        self._random_at_step: dict[str, torch.Tensor] = {}
        self._signal: int | None = None
        self._saved = 0.0  # when

    def epochs(self, total: int, state: State) -> Iterator[int]:
        """Yield the epochs still to do, saving after each of five seconds or more, after several shorter ones together
        and after the last; ``state`` is restored from a checkpoint first.

        The last checkpoint stays: a job whose outputs are lost after its training (a scheduler that calls it late, a
        file that was deleted) finds no epoch to do and writes the same outputs at once.

        An epoch begun by an earlier run begins anew with the randomness that it had then, and :meth:`steps` leaves out
        what is done: its own draws before the steps (the order of the examples) come out the same.
        """
        self._state = state
        self._restore()
        self._saved = time.monotonic() - SAVE_EPOCHS_EVERY_S  # the first epoch is saved, whatever it takes
        with self._signals():
            yield from self._epochs(total)

    def steps(self, total: int) -> Iterator[int]:
        """Yield the steps of this epoch still to do.

        SIGTERM (a scheduler's time limit, which Slurm sends to job and step, so twice) and SIGINT save after the step
        and end the process, and those that train with it; a second SIGINT ends it at once.
        """
        if self._step:
            _set_random(self._random_at_step)
        for step in range(self._step, total):
            yield step
            self._step = step + 1
            number = parallel.largest(self._signal or 0)
            if number or time.monotonic() - self._saved > SAVE_EVERY_S:
                self._save()
            if number:
                kept = f"saved in {self.path}; the next run goes on there" if self.path else "nothing is kept"
                name = signal.Signals(number).name
                _say(f"{name} at step {step + 1} of epoch {len(self.history) + 1}: {kept}")
                sys.exit(128 + number)
        self._step = 0

    def _epochs(self, total: int) -> Iterator[int]:
        start = len(self.history)
        bar = tqdm(
            range(start, total),
            "training",
            total,
            initial=start,
            unit=" epochs",
            file=sys.stderr,
            mininterval=2,
            disable=parallel.rank() > 0,
        )
        for epoch in bar:
            self._random_at_epoch = _random()
            yield epoch
            means = {name: float(np.mean([float(row[name]) for row in self._recorded])) for name in self._recorded[0]}
            if not all(np.isfinite(value) for value in means.values()):
                raise ValueError(
                    f"training diverged in epoch {epoch + 1} ({means}); lower training.settings' learning rates"
                )
            self.history.append({"epoch": epoch + 1, **means})
            self._recorded = []
            bar.set_postfix(
                {name: f"{value:.3g}" for name, value in means.items() if "norm" not in name}, refresh=False
            )
            if epoch + 1 == total or time.monotonic() - self._saved > SAVE_EPOCHS_EVERY_S:
                self._save()

    def record(self, **values: torch.Tensor) -> None:
        """Note one step's figures; their means over the epoch become a row of the history."""
        self._recorded.append({name: torch.as_tensor(value).detach().clone() for name, value in values.items()})

    def samples(self, epoch: int, draw: Callable[[int, int], Batch]) -> None:
        """Keep what ``draw(n, seed)`` yields at the end of an epoch; training's own randomness is left alone."""
        if self.n_samples and parallel.rank() == 0:
            with torch.random.fork_rng(_gpu()):  # the network that draws is first made with random weights
                batch = draw(self.n_samples, derived_seed(self.seed, "epoch", epoch))
                self.epoch_samples[epoch + 1] = batch.compositions

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def note(number: int, frame: object) -> None:
            self._signal = number
            if number == signal.SIGINT:
                signal.signal(number, before[number])

        before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _save(self) -> None:
        self._saved = time.monotonic()
        if self.path is None or parallel.rank() > 0:
            return
        tensors = {f"random/{name}": value for name, value in _random().items()}
        tensors |= {f"random_at_epoch/{name}": value for name, value in self._random_at_epoch.items()}
        for name, part in self._state.items():
            for key, value in _tensors(part).items():
                tensors[f"{name}/{key}"] = value.detach().cpu().contiguous()
        if self.epoch_samples:
            kept = concatenate(list(self.epoch_samples.values()))
            tensors["samples/epoch"] = torch.tensor(list(self.epoch_samples))
            tensors["samples/size"] = torch.tensor([len(batch) for batch in self.epoch_samples.values()])
            tensors["samples/offsets"] = torch.from_numpy(kept.offsets)
            tensors["samples/elements"] = torch.from_numpy(kept.elements.astype(np.int32))
            tensors["samples/counts"] = torch.from_numpy(kept.counts.astype(np.int32))
        about = {
            "fingerprint": self.fingerprint,
            "history": self.history,
            "step": self._step,
            "recorded": [{name: float(value) for name, value in row.items()} for row in self._recorded],
        }
        write_weights(self.path, tensors, about)

    def _restore(self) -> None:
        found = self._read()
        if parallel.largest(int(found is not None)) and found is None:
            raise ValueError(f"{self.path} is seen by some processes only; put it where all nodes can read it")
        if found is None:
            return
        tensors, about = found
        for name, part in self._state.items():
            _load(part, under(name, tensors))
        self.history, self._step = about["history"], about["step"]
        self._recorded = [{name: torch.tensor(value) for name, value in row.items()} for row in about["recorded"]]
        self._random_at_step = under("random", tensors)
        _set_random(under("random_at_epoch", tensors) if self._step else self._random_at_step)
        if "samples/size" in tensors:
            kept = Compositions(
                tensors["samples/offsets"].numpy(),
                tensors["samples/elements"].numpy().astype(np.uint8),
                tensors["samples/counts"].numpy().astype(np.uint16),
            )
            sizes = tensors["samples/size"].numpy()
            self.epoch_samples = {
                epoch: kept.take(np.arange(end - size, end))
                for epoch, size, end in zip(tensors["samples/epoch"].tolist(), sizes, np.cumsum(sizes), strict=True)
            }
        within = f" and {self._step} steps" if self._step else ""
        _say(f"resuming after epoch {len(self.history)}{within}")

    def _read(self) -> tuple[dict[str, torch.Tensor], dict] | None:
        """The checkpoint, where there is one of this work."""
        if self.path is None or not self.path.exists():
            return None
        try:
            tensors, about = read_weights(self.path)
        except ValueError as error:
            _say(f"{error}: training starts afresh")
            return None
        if about.get("fingerprint") != self.fingerprint:
            _say(f"{self.path} is of other code, settings or data: training starts afresh")
            return None
        return tensors, about


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


def _say(line: str) -> None:
    if parallel.rank() == 0:
        print(line, file=sys.stderr)


def _gpu() -> list[int]:
    return [torch.cuda.current_device()] if torch.cuda.is_available() else []


def _random() -> dict[str, torch.Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random(states: dict[str, torch.Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def under(name: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose names begin with ``name`` and a slash, without it."""
    prefix = f"{name}/"
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


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
