"""Generators, one module each, chosen by the config's `generator`.

A generator module owns how entries become what it learns from, how it trains and how it samples:

    Encoding                                           frozen dataclass of the keys of `encoding.settings`
    encode(entries, vocabulary, encoding, seed)        makes Tensors of the ENTRIES table, its cells included
    Settings                                           frozen dataclass of the keys of `training.settings`
    PRESETS                                            name -> Settings
    train(tensors, vocabulary, settings, seed, ...)    trains and returns weights; saves and resumes through Progress
    draw(weights, vocabulary, settings, n, seed, ...)  yields a Batch

`train` is handed the columns of the Tensors as a dict of arrays, rows of held-out entries left out. Nothing outside the
module asks which generator it is, and none is imported here, so that adding one changes the digest of no rule that
runs another.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from pipeline.cells import Cell
from pipeline.composition import Compositions


@dataclass(frozen=True, eq=False)
class Tensors:
    """What a generator learns from.

    Attributes:
        entry_ids: Id of the entry that each of the N rows comes from: a row of a held-out entry is not trained on. An
            entry may have several rows, or none.
        columns: Name to (array of shape (N, ...), what a value says); any fixed dtype of numpy's.
    """

    entry_ids: list[str]
    columns: dict[str, tuple[np.ndarray, str]]


@dataclass(frozen=True)
class Batch:
    """What a generator draws.

    Attributes:
        compositions: Decoded draws, reduced; together with the ambiguous and the empty they make the draws.
        n_drawn: Draws made.
        n_ambiguous: Draws that said two counts for one element.
        n_empty: Draws with no element at all, or that are no crystal where crystals are drawn.
        cells: A crystal for each of ``compositions``, in order, all numbers finite; None from a generator of
            compositions.
    """

    compositions: Compositions
    n_drawn: int
    n_ambiguous: int
    n_empty: int
    cells: list[Cell] | None = None


def load(name: str) -> ModuleType:
    """The generator module of that name."""
    return importlib.import_module(f"pipeline.generators.{name}")
