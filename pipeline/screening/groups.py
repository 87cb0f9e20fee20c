"""Kinds of formulas that a mean hides: numbers of elements and anion families.

Suffixes: N formulas, G groups.
"""

import numpy as np

from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, Compositions

SIZES = {"1 or 2 elements": (1, 2), "3 elements": (3, 3), "4 elements": (4, 4), "5 or more elements": (5, 255)}
FAMILIES = {
    "fluorides": ("F",),
    "oxides": ("O",),
    "heavier halides": ("Cl", "Br", "I"),
    "chalcogenides": ("S", "Se", "Te"),
    "pnictides": ("N", "P", "As", "Sb"),
    "hydrides, borides, carbides": ("H", "B", "C"),
}
NO_ANION = "intermetallics"
"""Of a formula with several of these elements, the first family in the order above has it."""

KINDS = dict.fromkeys(SIZES, "size") | dict.fromkeys((*FAMILIES, NO_ANION), "family")
NAMES = tuple(KINDS)


def membership(compositions: Compositions) -> np.ndarray:
    """Which groups each formula belongs to: one size and one family, columns as ``NAMES``; bool of shape (N, G)."""
    n_elements = compositions.n_elements
    sizes = [(low <= n_elements) & (n_elements <= high) for low, high in SIZES.values()]
    order_Z = np.full(len(SYMBOLS) + 1, len(FAMILIES))
    for place, symbols in enumerate(FAMILIES.values()):
        order_Z[[ATOMIC_NUMBERS[symbol] for symbol in symbols]] = place
    family = np.full(len(compositions), len(FAMILIES))
    np.minimum.at(family, compositions.rows, order_Z[compositions.elements])
    return np.column_stack([*sizes, *(family == place for place in range(len(FAMILIES) + 1))])
