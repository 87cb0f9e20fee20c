"""Space groups and primitive cells, by spglib."""

import os
import warnings
from dataclasses import dataclass

import numpy as np

os.environ.setdefault("SPGLIB_WARNING", "OFF")  # what it cannot find is answered by None

import spglib

from pipeline.cells import Cell


@dataclass(frozen=True)
class Symmetry:
    """Space group number (1 to 230), Hermann-Mauguin symbol, and Wyckoff letter of each site."""

    number: int
    symbol: str
    wyckoffs: tuple[str, ...]


def symmetry(cell: Cell, symprec_angstrom: float) -> Symmetry | None:
    """The cell's symmetry, None where spglib finds none (sites on top of each other, a cell without volume)."""
    dataset = _quietly(spglib.get_symmetry_dataset, cell, symprec=symprec_angstrom)
    return dataset and Symmetry(int(dataset.number), dataset.international, tuple(dataset.wyckoffs))


def primitive(cell: Cell, symprec_angstrom: float) -> Cell | None:
    """The primitive cell in spglib's standard setting, idealised; None where spglib fails."""
    return _standardised(cell, symprec_angstrom, to_primitive=True)


def conventional(cell: Cell, symprec_angstrom: float) -> Cell | None:
    """The conventional cell in spglib's standard setting, idealised; None where spglib fails."""
    return _standardised(cell, symprec_angstrom, to_primitive=False)


def _standardised(cell: Cell, symprec_angstrom: float, to_primitive: bool) -> Cell | None:
    found = _quietly(spglib.standardize_cell, cell, to_primitive=to_primitive, symprec=symprec_angstrom)
    return found and Cell(np.ascontiguousarray(found[0]), found[2].astype(np.uint8), np.ascontiguousarray(found[1]))


def _quietly(function, cell: Cell, **options):
    if not cell.is_finite:
        return None  # spglib takes the process with it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older spglib answers None and warns, newer raises
        try:
            return function((cell.lattice, cell.fractional, cell.elements.astype(int)), **options)
        except spglib.SpglibError:
            return None
