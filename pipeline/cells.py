"""Crystal cells: the columns in which structures travel between stages, and what is asked of one cell everywhere.

Light to import: pymatgen is loaded only when a cell is turned into its ``Structure`` or made from one.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.composition import Compositions
from pipeline.tables import column

if TYPE_CHECKING:
    from pymatgen.core import Structure

LATTICE = column("lattice_angstrom", pa.list_(pa.float64(), 9), "lattice vectors, row by row", null="no structure")
SITE_ELEMENTS = column("site_elements", pa.list_(pa.uint8()), "atomic number of each site", null="no structure")
FRACTIONAL_COORDINATES = column(
    "fractional_coordinates", pa.list_(pa.float64()), "three of each site, flattened", null="no structure"
)
CELL_COLUMNS = (LATTICE, SITE_ELEMENTS, FRACTIONAL_COORDINATES)

HASH_DECIMALS = 3


@dataclass(frozen=True, eq=False)
class Cell:
    """One periodic crystal of n sites.

    Attributes:
        lattice: float64 array of shape (3, 3), angstrom, one lattice vector a row.
        elements: uint8 array of shape (n,), atomic numbers.
        fractional: float64 array of shape (n, 3), coordinates along the lattice vectors.
    """

    lattice: np.ndarray
    elements: np.ndarray
    fractional: np.ndarray

    @classmethod
    def from_structure(cls, structure: "Structure") -> "Cell":
        """Take over a pymatgen structure; oxidation states and site properties are left behind.

        Raises:
            ValueError: A site is shared by several species or partly empty.
        """
        if not structure.is_ordered:
            raise ValueError(f"structure {structure.formula}: sites are partly occupied; order it first")
        return cls(
            np.array(structure.lattice.matrix, dtype=np.float64),
            np.array([site.specie.Z for site in structure], dtype=np.uint8),
            np.array(structure.frac_coords, dtype=np.float64).reshape(-1, 3),
        )

    def to_structure(self) -> "Structure":
        """The same crystal as a pymatgen structure, sites in the same order."""
        from pymatgen.core import Element, Structure

        species = [Element.from_Z(int(z)) for z in self.elements]
        return Structure(self.lattice, species, self.fractional)

    @property
    def volume(self) -> float:
        """Volume in cubic angstrom, positive for left-handed cells too."""
        return abs(float(np.linalg.det(self.lattice)))

    @property
    def is_finite(self) -> bool:
        """Whether lattice and coordinates are numbers."""
        return bool(np.isfinite(self.lattice).all() and np.isfinite(self.fractional).all())

    def scaled(self, volume: float) -> "Cell":
        """The same cell blown up evenly to ``volume`` cubic angstrom."""
        return Cell(self.lattice * np.cbrt(volume / self.volume), self.elements, self.fractional)


def to_columns(cells: Sequence[Cell | None]) -> dict[str, pa.Array]:
    """The three cell columns of a table, null where there is no cell."""
    missing = pa.array([cell is None for cell in cells], type=pa.bool_())
    lattices = [np.zeros(9) if cell is None else cell.lattice.ravel() for cell in cells]
    present = [cell for cell in cells if cell is not None]
    sizes = np.array([0 if cell is None else len(cell.elements) for cell in cells], dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    elements = np.concatenate([np.zeros(0, np.uint8), *(cell.elements for cell in present)])
    fractional = np.concatenate([np.zeros(0), *(cell.fractional.ravel() for cell in present)])
    return {
        LATTICE.name: pa.FixedSizeListArray.from_arrays(
            pa.array(np.concatenate([np.zeros(0), *lattices])), type=LATTICE.type, mask=missing
        ),
        SITE_ELEMENTS.name: pa.ListArray.from_arrays(
            pa.array(offsets, type=pa.int32()), pa.array(elements, type=pa.uint8()), mask=missing
        ),
        FRACTIONAL_COORDINATES.name: pa.ListArray.from_arrays(
            pa.array(3 * offsets, type=pa.int32()), pa.array(fractional, type=pa.float64()), mask=missing
        ),
    }


def from_table(table: pa.Table) -> list[Cell | None]:
    """The cells of a table that has the three cell columns, None where they are null."""
    lattices, elements, fractional = (table.column(field.name).combine_chunks() for field in CELL_COLUMNS)
    return [
        Cell(
            lattice.values.to_numpy().reshape(3, 3),
            sites.values.to_numpy(),
            coordinates.values.to_numpy().reshape(-1, 3),
        )
        if lattice.is_valid
        else None
        for lattice, sites, coordinates in zip(lattices, elements, fractional, strict=True)
    ]


def plain_rows(table: pa.Table) -> list[dict]:
    """The rows of a table without its cell columns."""
    return table.drop_columns([field.name for field in CELL_COLUMNS]).to_pylist()


def with_cells(names: Sequence[str], rows: Sequence[dict], cells: Sequence[Cell | None]) -> dict[str, list | pa.Array]:
    """Columns of a table with these names from plain rows and their cells."""
    columns = to_columns(cells)
    return {name: columns[name] if name in columns else [row[name] for row in rows] for name in names}


def compositions_of(cells: Sequence[Cell]) -> Compositions:
    """Reduced compositions of cells, in order."""
    counted = [np.unique(cell.elements, return_counts=True) for cell in cells]
    amounts = [dict(zip(elements.tolist(), counts.tolist(), strict=True)) for elements, counts in counted]
    return Compositions.from_dicts(amounts).reduced()


def minimum_distance(cell: Cell) -> float:
    """Shortest distance between two sites of the crystal, a site's own images included, in angstrom.

    Exact for every cell, however skewed: no pair closer than the shortest found so far can lie outside the images
    searched. 0 for a cell without volume.
    """
    return float(distance_matrix(cell, within=0.0).min())


def closer_than(cell: Cell, distance: float) -> float | None:
    """The shortest distance between two sites, a site's own images included, if it is below ``distance`` angstrom.

    As :func:`minimum_distance`, in a sixth of its time: where all lattice planes lie more than twice ``distance``
    apart, a vector as short is the one that is wrapped to half a cell, and no other image need be looked at.
    """
    if cell.volume > 0 and (np.linalg.norm(np.linalg.inv(cell.lattice), axis=0) * 2 * distance < 1).all():
        difference = cell.fractional[:, None] - cell.fractional[None]
        difference -= np.rint(difference)
        vectors = difference @ cell.lattice
        squares = np.einsum("ijk,ijk->ij", vectors, vectors)
        np.fill_diagonal(squares, np.inf)
        shortest = float(np.sqrt(squares.min()))
    else:
        shortest = minimum_distance(cell)
    return shortest if shortest < distance else None


def distance_matrix(cell: Cell, within: float = np.inf) -> np.ndarray:
    """Distance from each site to the nearest image of each other, float64 of shape (n, n), in angstrom.

    The diagonal holds the distance of a site to its own nearest image. The smallest value and all up to ``within``
    are exact for every cell, however skewed; larger ones may be those of an image that is not the nearest. 0 for a
    cell without volume.
    """
    n = len(cell.elements)
    lengths = np.linalg.norm(cell.lattice, axis=1)
    if cell.volume <= 1e-9 * lengths.prod():
        return np.zeros((n, n))
    lattice, fractional = cell.lattice, cell.fractional
    if lengths.prod() > 4 * cell.volume:  # millions of images lie near in a skewed cell, over its shortest vectors few
        from ase.geometry.minkowski_reduction import minkowski_reduce

        lattice, operation = minkowski_reduce(lattice)
        fractional = fractional @ np.linalg.inv(operation)
    difference = fractional[:, None] - fractional[None]
    difference -= np.rint(difference)
    vectors = difference @ lattice
    nearest = np.linalg.norm(vectors, axis=2)
    np.fill_diagonal(nearest, np.linalg.norm(lattice, axis=1).min())
    # A vector of length d crosses at most d / height lattice planes; the differences are wrapped to half a vector.
    bound = min(nearest.max(), max(nearest.min(), within))
    heights = 1 / np.linalg.norm(np.linalg.inv(lattice), axis=0)
    reach = np.floor(bound / heights + 0.5 + 1e-9).astype(int)
    for shift in np.ndindex(*(2 * reach + 1)):
        shift = np.array(shift) - reach
        if shift.any():
            np.minimum(nearest, np.linalg.norm(vectors + shift @ lattice, axis=2), out=nearest)
    return nearest


def structure_hash(cell: Cell) -> str:
    """Eight hexadecimal digits that name a cell: the suffix of a candidate's id.

    Independent of rotation, of the order of the sites and of the choice of image. Gram matrix and coordinates are
    rounded to ``HASH_DECIMALS`` decimals (square angstrom; fraction of a lattice vector). Another choice of lattice
    vectors or of origin names the same crystal differently: an id, not a structure matcher.
    """
    gram = _rounded(cell.lattice @ cell.lattice.T)
    sites = np.column_stack([cell.elements.astype(np.int64), _rounded(cell.fractional) % 10**HASH_DECIMALS])
    sites = sites[np.lexsort(sites.T[::-1])]
    return hashlib.sha256(gram.astype("<i8").tobytes() + sites.astype("<i8").tobytes()).hexdigest()[:8]


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(values * 10**HASH_DECIMALS).astype(np.int64)
