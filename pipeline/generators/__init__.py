"""Generators, one module each, chosen by the config's `generator`.

A generator module owns how entries become what it learns from, how it trains and how it samples:

    Settings                           frozen dataclass of the keys of `training.settings`; PRESETS, name -> Settings
    train(counts_NE, settings, ...)    trains and returns weights; writes checkpoints, resumes from them
    draw(weights, ..., n, seed)        yields a Batch

Nothing outside the module asks which generator it is, and none is imported here, so that adding one changes the digest
of no rule that runs another.
"""

import importlib
from dataclasses import dataclass
from types import ModuleType

from pipeline.composition import Compositions


@dataclass(frozen=True)
class Batch:
    """What a generator draws.

    Attributes:
        compositions: Decoded draws, reduced; fewer than were drawn where some could not be decoded.
        n_drawn: Draws made.
        n_ambiguous: Draws that said two counts for one element.
        n_empty: Draws with no element at all.
    """

    compositions: Compositions
    n_drawn: int
    n_ambiguous: int
    n_empty: int


def load(name: str) -> ModuleType:
    """The generator module of that name."""
    return importlib.import_module(f"pipeline.generators.{name}")
