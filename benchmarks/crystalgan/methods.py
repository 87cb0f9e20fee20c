"""Outputs of CrystalGAN and of its baselines, trained and drawn once and kept."""

import json
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, from_table, to_columns
from pipeline.database.schema import ENTRIES
from pipeline.generators import crystalgan
from pipeline.generators.checkpoints import Progress
from pipeline.provenance import derived_seed, file_digest, source_digest

ANION = "H"
DRAWN = tables.Table("drawn", CELL_COLUMNS)
UNTRAINED = "untrained"  # the preset `default` before its first step: what its networks and the input give for nothing
SETTINGS = {
    **crystalgan.PRESETS,
    UNTRAINED: replace(crystalgan.PRESETS["default"], epochs=0),
}


class Job(NamedTuple):
    """One training: the method (one of ``SETTINGS``), the pairs of metals that one model learns, and the seed."""

    method: str
    pairs: tuple[tuple[str, str], ...]
    seed: int


@dataclass(frozen=True, eq=False)
class Outputs:
    """What a method drew.

    Attributes:
        cells: Those draws that are crystals.
        epochs: Epochs trained, of all steps together.
        seconds: Processor time of the training, on one thread and without checkpoints.
    """

    cells: list[Cell]
    epochs: int
    seconds: float


def outputs(jobs: Sequence[Job], n: int, entries_path: Path, work: Path, processes: int) -> dict[Job, Outputs]:
    """Encode, train and draw, or read what an earlier run with the same code, data and settings drew.

    Args:
        jobs: What to train.
        n: Outputs of each job.
        entries_path: The ENTRIES table of binaries.
        work: Folder of what is kept.
        processes: How many jobs at once, each on one thread.
    """
    found = {job: _kept(job, n, entries_path, work) for job in jobs}
    waiting = [job for job in jobs if found[job] is None]
    if waiting:
        with ProcessPoolExecutor(min(processes, len(waiting)), get_context("spawn")) as pool:
            futures = {pool.submit(_run, job, n, entries_path, work): job for job in waiting}
            for future in tqdm(as_completed(futures), "trainings", len(futures), unit=" trainings", mininterval=2):
                found[futures[future]] = future.result()
    return found


def _run(job: Job, n: int, entries_path: Path, work: Path) -> Outputs:
    torch.set_num_threads(1)
    settings, encoding = SETTINGS[job.method], _encoding(job)
    encoded = crystalgan.encode(tables.read(entries_path, ENTRIES), [], encoding, job.seed)
    tensors = {name: array for name, (array, _) in encoded.columns.items()}
    progress = Progress(None, "", job.seed)
    start = time.process_time()
    weights = crystalgan.train(
        tensors, vocabulary=[], settings=settings, seed=job.seed, device="cpu", progress=progress
    )
    seconds = time.process_time() - start
    batch = crystalgan.draw(weights, [], settings, n, derived_seed(job.seed, "draw"), "cpu")
    said = {"about": _about(job, n, entries_path), "epochs": len(progress.history), "seconds": seconds}
    tables.write(_path(job, work), DRAWN, to_columns(batch.cells), said)
    return Outputs(batch.cells, said["epochs"], seconds)


def _kept(job: Job, n: int, entries_path: Path, work: Path) -> Outputs | None:
    path = _path(job, work)
    if not path.exists():
        return None
    said = tables.provenance(path)
    if said["about"] != _about(job, n, entries_path):
        return None
    return Outputs(from_table(tables.read(path, DRAWN)), said["epochs"], said["seconds"])


def _path(job: Job, work: Path) -> Path:
    return work / "drawn" / f"{'_'.join([job.method, *map('-'.join, job.pairs), str(job.seed)])}.parquet"


def _about(job: Job, n: int, entries_path: Path) -> dict:
    about = {
        "settings": vars(SETTINGS[job.method]),
        "encoding": vars(_encoding(job)),
        "seed": job.seed,
        "n": n,
        "entries": file_digest(entries_path),
        "code": source_digest("pipeline.generators.crystalgan"),
        "torch": torch.__version__,
    }
    return json.loads(json.dumps(about))


def _encoding(job: Job) -> crystalgan.Encoding:
    """The paper's networks take the cells as the database gives them."""
    setting = "reduced" if SETTINGS[job.method].networks == "graph" else "given"
    return crystalgan.Encoding(pairs=job.pairs, anion=ANION, setting=setting)
