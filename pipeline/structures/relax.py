"""Relaxation of many cells, in several processes; what is done is kept in files and never done again.

Results do not depend on the number of processes, nor on a run that was killed and started again: cells are relaxed
together in chunks (:func:`chunks_of`) that are made of the input alone, before what is known already is looked up. It
matters since cells of one batch share matrix products, and so their last digits. Only where some cells of a chunk are
known from another input are the rest evaluated in smaller company: equal to float32 rounding.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, from_table, to_columns
from pipeline.processes import pool
from pipeline.structures import potentials
from pipeline.structures.potentials import potential_name
from pipeline.structures.relax_batch import FAILED, Relaxed, relax_batch
from pipeline.structures.relaxation_schema import CHGNET, NONE, RELAXATIONS, RelaxationSettings

__all__ = ["Relaxed", "potential_name", "relax_all"]

# Cells and atoms of a chunk, at most: what a killed process loses, and on a GPU what fills it.
_CHUNK = {"cpu": (32, 160), "cuda": (1024, 16384)}
_DEVICES = ("auto", "cpu", "cuda")


def relax_all(
    cells: Sequence[Cell],
    settings: RelaxationSettings,
    *,
    cache_dir: Path | None,
    processes: int,
    device: str = "auto",
    what: str,
) -> list[Relaxed | str]:
    """Relax cells.

    Args:
        cells: Any cells; what cannot be relaxed gets a reason.
        settings: How.
        cache_dir: Folder of what is done, for all campaigns and settings, several runs at once too; None keeps nothing.
        processes: How many to use, each on one thread; on a GPU it is one.
        device: ``cpu``, ``cuda``, or ``auto`` for a GPU where there is one.
        what: Said beside the progress bar.

    Returns:
        Of each cell, in order, the relaxed one or the reason why there is none.

    Raises:
        ValueError: The potential cannot be loaded or gives no stress.
        MemoryError: A process was killed.
    """
    if settings.potential == NONE:
        raise ValueError(f"relaxation.potential: '{NONE}' relaxes nothing; give '{CHGNET}' or 'module:callable'")
    digest = settings.digest(potential_name(settings))
    device = _device(device)
    keys = [_key(cell) for cell in cells]
    of_key = dict(zip(keys, cells, strict=True))
    outcomes = {key: outcome for key, outcome in _read(cache_dir, digest) if key in of_key}
    with tqdm(desc=what, total=len(of_key), initial=len(outcomes), unit=" cells", mininterval=1) as progress:
        # A calculator takes one cell at a time, so that no GPU needs more of them at once.
        size = _CHUNK[device if settings.potential == CHGNET else "cpu"]
        left = [[key for key in chunk if key not in outcomes] for chunk in chunks_of(of_key, *size)]
        chunks = [chunk for chunk in left if chunk]
        work = [([of_key[key] for key in chunk], settings, device) for chunk in chunks]
        for place, found in _done(work, 1 if device == "cuda" else processes):
            chunk = chunks[place]
            outcomes.update(zip(chunk, found, strict=True))
            if cache_dir is not None:
                _write(cache_dir, digest, [pair for pair in zip(chunk, found, strict=True) if pair[1] != FAILED])
            progress.update(len(chunk))
    return [outcomes[key] for key in keys]


def chunks_of(cells: dict[str, Cell], n_cells: int, n_atoms: int) -> list[list[str]]:
    """Keys of the cells, the largest cells first, in runs of at most so many cells and so many atoms."""
    chunks: list[list[str]] = []
    atoms = 0
    for key in sorted(cells, key=lambda key: (-len(cells[key].elements), key)):
        size = len(cells[key].elements)
        if not chunks or len(chunks[-1]) == n_cells or atoms + size > n_atoms:
            chunks.append([])
            atoms = 0
        chunks[-1].append(key)
        atoms += size
    return chunks


def _done(work: Sequence[tuple], processes: int) -> Iterator[tuple[int, list[Relaxed | str]]]:
    """Place and outcomes of each chunk, as they come."""
    if min(processes, len(work)) <= 1:
        for place, chunk in enumerate(work):
            yield place, _relax(*chunk)
        return
    with pool(min(processes, len(work))) as submit:
        places: dict[Future, int] = {submit(_relax, *chunk): place for place, chunk in enumerate(work)}
        try:
            for future in as_completed(places):
                yield places[future], future.result()
        except BrokenProcessPool as error:
            raise MemoryError("a process of the relaxation was killed; what was done by then is kept") from error


_loaded: dict[str, potentials.Potential] = {}


def _relax(cells: Sequence[Cell], settings: RelaxationSettings, device: str) -> list[Relaxed | str]:
    name = json.dumps([settings.potential, settings.arguments, device], sort_keys=True, default=repr)
    if name not in _loaded:
        _loaded[name] = potentials.load(settings, device)
    with _one_thread():
        return relax_batch(cells, settings, _loaded[name])


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread for torch, if it is there: the number of threads is seen in the last digits."""
    torch = sys.modules.get("torch")
    before = torch and torch.get_num_threads()
    try:
        if torch:
            torch.set_num_threads(1)
        yield
    finally:
        if torch:
            torch.set_num_threads(before)


def _device(device: str) -> str:
    if device not in _DEVICES:
        raise ValueError(f"device '{device}'; choose from {list(_DEVICES)}")
    if device != "auto":
        return device
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _key(cell: Cell) -> str:
    parts = (cell.lattice.astype("<f8"), cell.elements.astype("u1"), cell.fractional.astype("<f8"))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()[:32]


_PLAIN = [field.name for field in RELAXATIONS.fields if field not in (*CELL_COLUMNS, RELAXATIONS.fields[0])]


def _read(cache_dir: Path | None, digest: str) -> Iterator[tuple[str, Relaxed | str]]:
    """Key and outcome of all that was done with these settings."""
    for path in sorted(Path(cache_dir).glob(f"{digest}-*.parquet")) if cache_dir else ():
        try:
            table = tables.read(path, RELAXATIONS)
        except ValueError as error:
            print(f"{error}; until then, what it held is relaxed again", file=sys.stderr)
            continue
        for row, cell in zip(table.select(["key", *_PLAIN]).to_pylist(), from_table(table), strict=True):
            key, reason = row.pop("key"), row.pop("reason")
            yield key, reason or Relaxed(cell=cell, **row)


def _write(cache_dir: Path, digest: str, done: list[tuple[str, Relaxed | str]]) -> None:
    """Keep what follows from the cells; a failure of the potential may be one of the machine, and is tried again."""
    if not done:
        return
    keys, outcomes = zip(*done, strict=True)
    chunk = hashlib.sha256("".join(keys).encode()).hexdigest()[:16]
    rows = [{"reason": outcome} if isinstance(outcome, str) else vars(outcome) for outcome in outcomes]
    columns = {
        "key": list(keys),
        **to_columns([row.get("cell") for row in rows]),
        **{name: [row.get(name) for row in rows] for name in _PLAIN},
    }
    try:
        tables.write(Path(cache_dir) / f"{digest}-{chunk}.parquet", RELAXATIONS, columns)
    except FileNotFoundError:  # another run writes the same file, and took ours for one left behind
        return
