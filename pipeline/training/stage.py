"""The stage's entry point: train the generator, and keep its weights, its history and samples of each epoch."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from pipeline.composition import COUNTS, ELEMENTS, concatenate
from pipeline.encoding import read_vocabulary
from pipeline.generators import load, parallel
from pipeline.generators.checkpoints import Progress
from pipeline.tables import Table, column, write
from pipeline.training.data import fingerprint, training_tensors
from pipeline.training.launch import launch, number_of
from pipeline.training.settings import pick_device, settings_of
from pipeline.weights import write_weights

SAMPLES_PER_EPOCH = 2000

EPOCH_SAMPLES = Table(
    "epoch_samples",
    (column("epoch", pa.int32(), "epoch at whose end the sample was drawn, from 1"), ELEMENTS, COUNTS),
)


def history_table(names: list[str]) -> Table:
    """History of one run: the figures that its generator records, means over each epoch."""
    figures = (column(name, pa.float64(), "mean over the epoch", null="not recorded in this phase") for name in names)
    return Table("history", (column("epoch", pa.int32(), "from 1"), *figures))


def train(
    *,
    generator: str,
    preset: str,
    overrides: dict,
    tensors_path: str,
    vocabulary_path: str,
    split_path: str,
    generator_path: str,
    history_path: str,
    epoch_samples_path: str,
    checkpoints: str,
    seed: int,
    device: str,
    threads: int,
    provenance: dict,
    processes: int | str = 1,
    nodes: int = 1,
) -> None:
    """Train the generator of that name, in one process or in several that share each batch.

    Args:
        generator: Module in ``pipeline.generators``.
        preset: One of its ``PRESETS``.
        overrides: Fields of its ``Settings`` that differ from the preset.
        tensors_path, vocabulary_path, split_path: What the encoding stage wrote.
        generator_path: Gets the weights, with all that sampling needs in the file's metadata.
        history_path: Gets one row an epoch.
        epoch_samples_path: Gets 2,000 samples of each epoch at which the generator says some, or no row.
        checkpoints: Folder of the checkpoint; a later run goes on from it, if torch, code, settings and data are the
            same, and has nothing left to train if it was the last.
        seed: Campaign seed.
        device: ``auto``, ``cpu`` or ``cuda``.
        threads: CPU threads of each process.
        provenance: Stored in the tables and with the weights.
        processes: On each node, see :func:`pipeline.training.launch.number_of`. The result is that of one process but
            for the order of sums (and, of the sequence GAN, for the critic's dropout).
        nodes: Of a Slurm job.

    Raises:
        ValueError: An unknown preset or setting, no training data, or training diverged.
    """
    where = pick_device(device)
    together = number_of(processes, where)
    if together * nodes > 1 and not getattr(load(generator), "DATA_PARALLEL", False):
        print(f"{generator} trains in one process: training.processes and training.nodes are left out", file=sys.stderr)
        together = nodes = 1
    arguments = {
        "generator": generator,
        "preset": preset,
        "overrides": overrides,
        "tensors_path": tensors_path,
        "vocabulary_path": vocabulary_path,
        "split_path": split_path,
        "generator_path": generator_path,
        "history_path": history_path,
        "epoch_samples_path": epoch_samples_path,
        "checkpoints": checkpoints,
        "seed": seed,
        "device": where,
        "threads": threads,
        "provenance": provenance,
    }
    if together * nodes > 1:
        launch(arguments, Path(checkpoints), together, nodes)
    else:
        train_here(**arguments)


def train_here(
    *,
    generator: str,
    preset: str,
    overrides: dict,
    tensors_path: str,
    vocabulary_path: str,
    split_path: str,
    generator_path: str,
    history_path: str,
    epoch_samples_path: str,
    checkpoints: str,
    seed: int,
    device: str,
    threads: int,
    provenance: dict,
) -> None:
    """Train in this process, alone or with the others that torchrun started; see :func:`train`."""
    torch.set_num_threads(threads)
    module = load(generator)
    settings = settings_of(module, preset, overrides)
    tensors = training_tensors(tensors_path, split_path)
    if parallel.rank() == 0:
        on = device if parallel.size() == 1 else f"{parallel.size()} times {device}"
        print(f"{generator} ({preset}): {len(next(iter(tensors.values())))} examples on {on}", file=sys.stderr)
    own = fingerprint(provenance["code"], settings, seed, tensors_path, vocabulary_path, split_path)
    progress = Progress(Path(checkpoints), own, seed, SAMPLES_PER_EPOCH)
    vocabulary = read_vocabulary(vocabulary_path)
    weights = module.train(
        tensors, vocabulary=vocabulary, settings=settings, seed=seed, device=device, progress=progress
    )
    if parallel.rank() > 0:
        return
    names = list(dict.fromkeys(name for row in progress.history for name in row if name != "epoch"))
    history = {name: [row.get(name) for row in progress.history] for name in ("epoch", *names)}
    write(history_path, history_table(names), history, provenance)
    batches = progress.epoch_samples
    epochs = np.repeat(np.array(list(batches), dtype=np.int32), [len(batch) for batch in batches.values()])
    drawn = concatenate(list(batches.values()))
    write(epoch_samples_path, EPOCH_SAMPLES, {"epoch": epochs, **drawn.columns()}, provenance)
    about = {"generator": generator, "preset": preset, "overrides": overrides, "provenance": provenance}
    write_weights(generator_path, weights, about)
