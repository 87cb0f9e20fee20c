"""Stage `sampling`: draw by blocks of their own seeds, reduce, and deduplicate within hash partitions.

A sample is a composition or, from a generator of crystals, a crystal, of which a composition may have several. Its
partition depends on its composition alone, and its place in a partition on what it is: the tables hold the same bytes
whatever the number of jobs.
"""

import sys
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from tqdm import tqdm

from pipeline.cells import CELL_COLUMNS, LATTICE, Cell, from_table, structure_hash, to_columns
from pipeline.composition import ATOMIC_NUMBERS, COUNTS, ELEMENTS, Compositions, concatenate
from pipeline.generators import load
from pipeline.provenance import derived_seed
from pipeline.tables import Table, column, read, read_json, write, write_json
from pipeline.training.settings import pick_device, settings_of
from pipeline.weights import read_weights

N_DRAWN = column("n_drawn", pa.int32(), "times that the generator drew the sample")
DRAWN = Table(
    "drawn", (column("partition", pa.int32(), "hash partition, ascending"), N_DRAWN, ELEMENTS, COUNTS, *CELL_COLUMNS)
)
SAMPLES = Table(
    "samples",
    (
        column("id", pa.string(), "reduced formula, with a hash of the cell where there is one"),
        N_DRAWN,
        ELEMENTS,
        COUNTS,
        *CELL_COLUMNS,
    ),
)


class Distinct(NamedTuple):
    """Samples, each once.

    Attributes:
        compositions: Of the N samples, reduced.
        n_drawn: Times that each was drawn, integers of shape (N,).
        cells: Their crystals; None from a generator of compositions.
    """

    compositions: Compositions
    n_drawn: np.ndarray
    cells: list[Cell] | None

    def columns(self, order: np.ndarray) -> dict:
        """The columns of a table for the samples at these positions."""
        cells = self.cells and [self.cells[place] for place in order]
        nulls = {field.name: pa.nulls(len(order), field.type) for field in CELL_COLUMNS}
        return {
            "n_drawn": self.n_drawn[order].astype(np.int32),
            **self.compositions.take(order).columns(),
            **(to_columns(cells) if cells else nulls),
        }


def draw(
    *,
    generator_path: str,
    vocabulary_path: str,
    drawn_path: str,
    counts_path: str,
    n_samples: int,
    block_size: int,
    partitions: int,
    job: int,
    jobs: int,
    seed: int,
    device: str,
    provenance: dict | None = None,
) -> None:
    """Draw the blocks of one job: block ``b`` of all belongs to job ``b % jobs``.

    Args:
        generator_path: Weights with their metadata.
        vocabulary_path: Elements of the generator's columns.
        drawn_path: Gets the distinct samples, ordered by partition.
        counts_path: Gets JSON: how many were drawn, ambiguous, empty.
        n_samples: Draws of all jobs together; the last block is shorter where it must be.
        block_size: Draws of one block.
        partitions: Hash partitions.
        job, jobs: Which job this is, and of how many.
        seed: Campaign seed.
        device: ``auto``, ``cpu`` or ``cuda``.
        provenance: Stored in the table.
    """
    torch.set_num_threads(1)  # several jobs share a machine; and the same sums whatever the number of cores
    try:
        weights, about = read_weights(generator_path)
    except ValueError as error:
        raise ValueError(f"{error}; delete it and rerun training") from error
    module = load(about["generator"])
    settings = settings_of(module, about["preset"], about["overrides"])
    vocabulary = [ATOMIC_NUMBERS[symbol] for symbol in read_json(vocabulary_path)["elements"]]
    where = pick_device(device)
    blocks = range(job, -(-n_samples // block_size), jobs)
    totals = {"drawn": 0, "ambiguous": 0, "empty": 0}
    pieces = []
    for block in tqdm(blocks, "sampling", unit=" blocks", file=sys.stderr, mininterval=2):
        size = min(block_size, n_samples - block * block_size)
        batch = module.draw(weights, vocabulary, settings, size, derived_seed(seed, "sampling", block), where)
        totals["drawn"] += batch.n_drawn
        totals["ambiguous"] += batch.n_ambiguous
        totals["empty"] += batch.n_empty
        once = np.ones(len(batch.compositions), dtype=np.int64)
        pieces.append(_merge([Distinct(batch.compositions, once, batch.cells)]))
    distinct = _merge(pieces)
    partition = partition_of(distinct.compositions, partitions)
    order = np.argsort(partition, kind="stable")
    write(drawn_path, DRAWN, {"partition": partition[order].astype(np.int32), **distinct.columns(order)}, provenance)
    write_json(counts_path, totals)


def collect(*, drawn_paths: list[str], samples_path: str, partition: int, provenance: dict | None = None) -> None:
    """Merge one partition of all jobs into a part of the SAMPLES table, ordered by hash of the composition and id."""
    pieces = []
    for path in drawn_paths:
        rows = read(path, DRAWN, rows=pc.field("partition") == partition)
        cells = None if rows[LATTICE.name].null_count else from_table(rows)
        pieces.append(Distinct(Compositions.from_table(rows), rows["n_drawn"].to_numpy(), cells))
    distinct = _merge(pieces)
    ids = distinct.compositions.formulas()
    if distinct.cells:
        pairs = zip(ids.to_pylist(), distinct.cells, strict=True)
        ids = pa.array([f"{formula}-{structure_hash(cell)}" for formula, cell in pairs], pa.string())
    keys = pa.table({"hash": distinct.compositions.hashes(), "id": ids})
    order = pc.sort_indices(keys, [("hash", "ascending"), ("id", "ascending")]).to_numpy()
    write(samples_path, SAMPLES, {"id": ids.take(pa.array(order)), **distinct.columns(order)}, provenance)


def partition_of(compositions: Compositions, partitions: int) -> np.ndarray:
    """The partition of each composition: its hash modulo their number."""
    return (compositions.hashes() % np.uint64(partitions)).astype(np.int64)


def _merge(pieces: list[Distinct]) -> Distinct:
    """Each sample once, in order of first appearance; of equal crystals stays the one whose numbers come first."""
    every = concatenate([piece.compositions for piece in pieces])
    cells = list(chain.from_iterable(piece.cells or () for piece in pieces)) or None
    first, inverse = every.unique()
    if cells:
        rows_of: dict[tuple[int, str], list[int]] = {}
        for row, (composition, cell) in enumerate(zip(inverse.tolist(), cells, strict=True)):
            rows_of.setdefault((composition, structure_hash(cell)), []).append(row)
        first = np.array([min(rows, key=lambda row: _bytes(cells[row])) for rows in rows_of.values()])
        inverse = np.empty(len(cells), dtype=np.int64)
        for place, rows in enumerate(rows_of.values()):
            inverse[rows] = place
    repeats = np.concatenate([np.zeros(0, np.int64), *(piece.n_drawn for piece in pieces)])
    n_drawn = np.bincount(inverse, weights=repeats, minlength=len(first))
    return Distinct(every.take(first), n_drawn, cells and [cells[row] for row in first])


def _bytes(cell: Cell) -> bytes:
    return cell.lattice.tobytes() + cell.elements.tobytes() + cell.fractional.tobytes()
