"""Stage `encoding`: vocabulary, the hold-out that no later stage trains on, and the chosen generator's tensors."""

import dataclasses
import sys
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.composition import ATOMIC_NUMBERS, Compositions
from pipeline.database.schema import ENTRIES
from pipeline.generators import load
from pipeline.provenance import derived_seed
from pipeline.tables import Table, column, read, read_json, write, write_json

SPLIT = Table(
    "split",
    (
        column("id", pa.string(), "id of the entry"),
        column("held_out", pa.bool_(), "true: no later stage trains on this entry"),
        column("held_out_system", pa.bool_(), "true: held out with all entries of the same elements"),
    ),
)
TENSOR_IDS = Table("tensors", (column("id", pa.string(), "id of the entry that the row comes from; it may repeat"),))
"""What every generator's tensors have; the columns beside it are the generator's own."""


def hold_out(
    *,
    entries_path: str,
    cleaning_path: str,
    vocabulary_path: str,
    split_path: str,
    holdout_share: float,
    holdout_systems_share: float,
    seed: int,
    provenance: dict | None = None,
) -> None:
    """Fix the vocabulary, and which entries are held out.

    Args:
        entries_path: The ENTRIES table.
        cleaning_path: The database stage's JSON; its ``vocabulary`` names the elements.
        vocabulary_path: Gets JSON: element symbols by atomic number, and how many entries there are and are held out.
        split_path: Gets the SPLIT table.
        holdout_share: Share of reduced formulas to hold out, 0 to below 1; all entries of a formula go together, and
            which side a formula takes depends on it and the seed alone, not on the other entries.
        holdout_systems_share: Share of chemical systems to hold out with all that they have, decided in the same way.
        seed: Campaign seed.
        provenance: Stored in the table.
    """
    entries = read(entries_path, ENTRIES, ["id", "elements", "counts"])
    compositions = Compositions.from_table(entries)
    by_system = split(compositions.chemical_systems(), holdout_systems_share, derived_seed(seed, "systems"))
    held_out = split(compositions, holdout_share, seed) | by_system
    write(split_path, SPLIT, {"id": entries["id"], "held_out": held_out, "held_out_system": by_system}, provenance)
    elements = read_json(cleaning_path)["vocabulary"]
    write_json(vocabulary_path, {"elements": elements, "entries": len(held_out), "held_out": int(held_out.sum())})
    print(
        f"{held_out.sum()} of {len(held_out)} entries held out, {by_system.sum()} of them with their chemical systems",
        file=sys.stderr,
    )


def encode(
    *,
    generator: str,
    settings: dict,
    entries_path: str,
    vocabulary_path: str,
    tensors_path: str,
    seed: int,
    provenance: dict | None = None,
) -> None:
    """Make what the generator of that name learns from.

    Args:
        generator: Module in ``pipeline.generators``.
        settings: Fields of its ``Encoding``.
        entries_path: The ENTRIES table.
        vocabulary_path: What :func:`hold_out` wrote.
        tensors_path: Gets the generator's tensors, those of held-out entries included.
        seed: Campaign seed.
        provenance: Stored in the table.

    Raises:
        ValueError: An unknown or missing setting, or entries that the generator cannot learn from.
    """
    module = load(generator)
    encoding = encoding_of(module, settings)
    entries = read(entries_path, ENTRIES)
    tensors = module.encode(entries, read_vocabulary(vocabulary_path), encoding, seed)
    fields = tuple(
        column(name, pa.fixed_shape_tensor(pa.from_numpy_dtype(array.dtype), array.shape[1:]), meaning)
        for name, (array, meaning) in tensors.columns.items()
    )
    arrays = {
        name: pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(array))
        for name, (array, _) in tensors.columns.items()
    }
    table = Table(TENSOR_IDS.name, (*TENSOR_IDS.fields, *fields))
    write(tensors_path, table, {"id": tensors.entry_ids, **arrays}, provenance)
    used = len(set(tensors.entry_ids))
    print(f"{len(tensors.entry_ids)} rows of tensors from {used} of {len(entries)} entries", file=sys.stderr)


def encoding_of(module: ModuleType, settings: dict):
    """The generator's ``Encoding`` with these fields.

    Raises:
        ValueError: Names the unknown or the missing field, and what there is.
    """
    fields = {field.name: field for field in dataclasses.fields(module.Encoding)}
    for name in settings:
        if name not in fields:
            there = ", ".join(fields) or "none"
            raise ValueError(f"encoding.settings: '{name}' is unknown; {module.__name__} has {there}")
    for name, field in fields.items():
        if name not in settings and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"encoding.settings: '{name}' is missing; {module.__name__} needs it")
    return module.Encoding(**settings)


def read_vocabulary(path: str) -> list[int]:
    """The vocabulary's atomic numbers."""
    return [ATOMIC_NUMBERS[symbol] for symbol in read_json(path)["elements"]]


def read_tensors(path: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """Entry ids and tensors of shape (N, ...) by name, as the generator made them.

    Raises:
        ValueError: The file is missing, damaged or holds no tensors.
    """
    read(path, TENSOR_IDS)  # refuses what is no such file, before its schema is asked what it holds
    fields = tuple(field for field in pq.read_schema(path) if isinstance(field.type, pa.FixedShapeTensorType))
    if not fields:
        raise ValueError(f"{path}: holds no tensors; delete the file and rerun the stage that writes it")
    table = read(path, Table(TENSOR_IDS.name, (*TENSOR_IDS.fields, *fields)))
    tensors = {field.name: table[field.name].combine_chunks().to_numpy_ndarray() for field in fields}
    return table["id"].to_pylist(), tensors


def split(compositions: Compositions, holdout_share: float, seed: int) -> np.ndarray:
    """Which reduced compositions are held out; bool of shape (N,), equal compositions alike."""
    draw = np.random.SeedSequence([seed]).generate_state(1, np.uint64)[0]
    mixed = (compositions.hashes() ^ draw) * np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(32)
    return mixed.astype(np.float64) / 2.0**64 < holdout_share
