"""Relaxation of many cells in several processes; what is done is kept in a file and never done again."""

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import astuple
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pipeline.cells import Cell
from pipeline.provenance import file_digest
from pipeline.structures import relax
from pipeline.structures.relax import Relaxed
from pipeline.structures.schema import StructureSettings

# As in the config of a campaign, but for cells of any size and as many as there are.
SETTINGS = StructureSettings(relaxation="chgnet", n_relaxed=10**9, max_steps=100, max_relaxed_atoms=200)


def relax_all(cells: Sequence[Cell], path: Path, processes: int, what: str) -> list[Relaxed | str]:
    """Relax cells with CHGNet.

    Args:
        cells: Any cells; what CHGNet cannot take gets a reason.
        path: JSON lines of earlier results, appended to as results come, so that a killed run goes on.
        processes: How many to use, each on one thread.
        what: Said beside the progress bar.

    Returns:
        Of each cell, in order, the relaxed one or the reason why there is none.
    """
    keys = [_key(cell) for cell in cells]
    done = _read(path)
    waiting = {key: cell for key, cell in zip(keys, cells, strict=True) if key not in done}
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("a") as file,
        ProcessPoolExecutor(max(1, min(processes, len(waiting))), get_context("spawn"), _start) as pool,
    ):
        futures = {pool.submit(_relax, cell): key for key, cell in waiting.items()}
        for future in tqdm(as_completed(futures), what, len(futures), unit=" cells", mininterval=2):
            key = futures[future]
            done[key] = future.result()
            file.write("\n" + json.dumps({"key": key, "outcome": _plain(done[key])}))  # a torn line stays alone
            file.flush()
    return [done[key] for key in keys]


def _start() -> None:
    global _relaxer
    _relaxer = relax.Relaxer(SETTINGS)


def _relax(cell: Cell) -> Relaxed | str:
    return _relaxer.relax(cell) if _relaxer.can_relax(cell) else "beyond_chgnet"


def _key(cell: Cell) -> str:
    about = (astuple(SETTINGS), version("chgnet"), file_digest(relax.__file__))
    parts = (cell.lattice.astype("<f8"), cell.elements.astype("u1"), cell.fractional.astype("<f8"))
    return hashlib.sha256(repr(about).encode() + b"".join(part.tobytes() for part in parts)).hexdigest()


def _read(path: Path) -> dict[str, Relaxed | str]:
    done = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except ValueError:  # empty, or torn by the end of a run that was killed
            continue
        outcome = row["outcome"]
        done[row["key"]] = outcome if isinstance(outcome, str) else _relaxed(outcome)
    return done


def _plain(outcome: Relaxed | str) -> dict | str:
    if isinstance(outcome, str):
        return outcome
    return {**vars(outcome), "cell": {name: array.tolist() for name, array in vars(outcome.cell).items()}}


def _relaxed(plain: dict) -> Relaxed:
    lattice, elements, fractional = plain["cell"].values()
    return Relaxed(**{**plain, "cell": Cell(np.array(lattice), np.array(elements, np.uint8), np.array(fractional))})
