"""Crystal structures inside JSON records, in the forms that databases write, and what any crystal must pass."""

import math

import numpy as np

from pipeline.cells import Cell, closer_than
from pipeline.composition import ATOMIC_NUMBERS, ISOTOPES
from pipeline.database.records import MAX_REASON
from pipeline.text import visible

# Two nuclei never come this close in a crystal (H-H in H2: 0.74 angstrom).
OVERLAP_ANGSTROM = 0.5
MAX_SITES = 2000  # the search for overlaps takes memory by the square


def cell_fault(cell: Cell) -> str | None:
    """Why the cell can be no crystal's, None if it can."""
    if not 0 < len(cell.elements) <= MAX_SITES:
        return f"cell has {len(cell.elements)} sites, 1 to {MAX_SITES} can be read"
    if not (np.isfinite(cell.lattice).all() and np.isfinite(cell.fractional).all()):
        return "lattice or coordinates hold values that are not finite"
    if not 1.0 <= cell.volume < np.inf:
        return f"cell volume is {cell.volume:.3g} cubic angstrom"
    if (shortest := closer_than(cell, OVERLAP_ANGSTROM)) is not None:
        return f"atoms overlap: {shortest:.3f} angstrom apart, at least {OVERLAP_ANGSTROM} are possible"
    return None


def cell_of(value: dict) -> Cell:
    """The cell that a JSON object describes.

    Args:
        value: ``{cell: [a, b, c, alpha, beta, gamma], el, frac}``; pymatgen's ``Structure.as_dict()``; or JARVIS'
            ``{lattice_mat, elements, coords, cartesian}``. Angstrom and degrees.

    Raises:
        ValueError: It is none of these, its numbers do not fit together, or a site is shared or partly empty.
    """
    try:
        if "sites" in value:
            lattice = np.array(value["lattice"]["matrix"], dtype=float)
            symbols, positions = [_only(site["species"]) for site in value["sites"]], [s["abc"] for s in value["sites"]]
        elif "lattice_mat" in value:
            lattice = np.array(value["lattice_mat"], dtype=float)
            symbols, positions = value["elements"], value["coords"]
        else:
            lattice = lattice_from_parameters(*map(float, value["cell"]))
            symbols, positions = value["el"], value["frac"]
        numbers = [_number(symbol) for symbol in symbols]
        fractional = np.array(positions, dtype=float).reshape(len(numbers), 3)
        if value.get("cartesian"):
            fractional = np.linalg.solve(lattice.T, fractional.T).T
        return Cell(lattice.reshape(3, 3), np.array(numbers, np.uint8), fractional)
    except (KeyError, TypeError, ArithmeticError, AttributeError, IndexError, np.linalg.LinAlgError) as error:
        raise ValueError(visible(f"no cell: {type(error).__name__} {error}"[:MAX_REASON])) from None
    except ValueError as error:
        raise ValueError(visible(f"no cell: {error}"[:MAX_REASON])) from None


def _only(species: list[dict]) -> str:
    if len(species) != 1 or species[0].get("occu", 1) != 1:
        raise ValueError("partial occupancies")
    return species[0]["element"]


def _number(symbol: str) -> int:
    symbol = symbol.strip().rstrip("+-0123456789")  # "Fe3+" is Fe
    return ATOMIC_NUMBERS[ISOTOPES.get(symbol, symbol)]


def lattice_from_parameters(a: float, b: float, c: float, alpha: float, beta: float, gamma: float) -> np.ndarray:
    """Lattice vectors as rows, (3, 3) in angstrom, a along x and b in the xy plane, from lengths and degrees."""
    cos_a, cos_b, cos_g = (math.cos(math.radians(angle)) for angle in (alpha, beta, gamma))
    sin_g = math.sin(math.radians(gamma))
    cx, cy = cos_b, (cos_a - cos_b * cos_g) / sin_g
    cz = math.sqrt(1 - cx * cx - cy * cy)
    return np.array([[a, 0, 0], [b * cos_g, b * sin_g, 0], [c * cx, c * cy, c * cz]])
