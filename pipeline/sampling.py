"""Stage `sampling`: draw by blocks of their own seeds, reduce, and deduplicate within hash partitions.

A sample's partition depends on its composition alone, and its place in a partition too: the tables hold the same bytes
whatever the number of jobs.
"""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from tqdm import tqdm

from pipeline.composition import ATOMIC_NUMBERS, COUNTS, ELEMENTS, Compositions, concatenate
from pipeline.generators import load
from pipeline.provenance import derived_seed
from pipeline.tables import Table, column, read, read_json, write, write_json
from pipeline.training.settings import pick_device, settings_of
from pipeline.weights import read_weights

N_DRAWN = column("n_drawn", pa.int32(), "times that the generator drew the composition")
DRAWN = Table("drawn", (column("partition", pa.int32(), "hash partition, ascending"), N_DRAWN, ELEMENTS, COUNTS))
SAMPLES = Table("samples", (column("id", pa.string(), "reduced formula"), N_DRAWN, ELEMENTS, COUNTS))


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
        drawn_path: Gets the distinct compositions, ordered by partition.
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
    pieces, repeats = [], []
    for block in tqdm(blocks, "sampling", unit=" blocks", file=sys.stderr, mininterval=2):
        size = min(block_size, n_samples - block * block_size)
        batch = module.draw(weights, vocabulary, settings, size, derived_seed(seed, "sampling", block), where)
        totals["drawn"] += batch.n_drawn
        totals["ambiguous"] += batch.n_ambiguous
        totals["empty"] += batch.n_empty
        first, inverse = batch.compositions.unique()
        pieces.append(batch.compositions.take(first))
        repeats.append(np.bincount(inverse, minlength=len(first)))
    distinct, n_drawn = _merge(pieces, repeats)
    partition = partition_of(distinct, partitions)
    order = np.argsort(partition, kind="stable")
    columns = {"partition": partition[order].astype(np.int32), "n_drawn": n_drawn[order].astype(np.int32)}
    write(drawn_path, DRAWN, {**columns, **distinct.take(order).columns()}, provenance)
    write_json(counts_path, totals)


def collect(*, drawn_paths: list[str], samples_path: str, partition: int, provenance: dict | None = None) -> None:
    """Merge one partition of all jobs into a part of the SAMPLES table, ordered by hash."""
    pieces, repeats = [], []
    for path in drawn_paths:
        rows = read(path, DRAWN, rows=pc.field("partition") == partition)
        pieces.append(Compositions.from_table(rows))
        repeats.append(rows["n_drawn"].to_numpy())
    distinct, n_drawn = _merge(pieces, repeats)
    formulas = distinct.formulas()
    order = np.lexsort((np.array(formulas.to_pylist(), dtype=str), distinct.hashes()))
    columns = {"id": formulas.take(pa.array(order)), "n_drawn": n_drawn[order].astype(np.int32)}
    write(samples_path, SAMPLES, {**columns, **distinct.take(order).columns()}, provenance)


def partition_of(compositions: Compositions, partitions: int) -> np.ndarray:
    """The partition of each composition: its hash modulo their number."""
    return (compositions.hashes() % np.uint64(partitions)).astype(np.int64)


def _merge(pieces: list[Compositions], repeats: list[np.ndarray]) -> tuple[Compositions, np.ndarray]:
    every = concatenate(pieces)
    first, inverse = every.unique()
    n_drawn = np.bincount(inverse, weights=np.concatenate([[], *repeats]), minlength=len(first))
    return every.take(first), n_drawn
