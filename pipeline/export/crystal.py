"""POSCAR and CIF: written, and read back by pymatgen and ASE as the crystal that they should hold."""

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.cells import Cell

TOLERANCE = 1e-6  # angstrom for lattice vectors, fraction of a lattice vector for sites
_DIGITS = 16  # of a POSCAR; a double has no more
_CIF_DIGITS = 12  # its cell lengths and angles go through trigonometric functions, which cost some


def poscar_cell(cell: Cell, order: Sequence[int]) -> Cell:
    """The same crystal as a POSCAR should hold it.

    Sites are grouped by element in the given order. A left-handed cell has its first two vectors exchanged, and the
    coordinates with them; turning the vectors' signs instead would mirror the crystal.

    Args:
        cell: Any cell.
        order: Atomic numbers of all its elements.
    """
    place = {z: position for position, z in enumerate(order)}
    sites = np.argsort([place[int(z)] for z in cell.elements], kind="stable")
    axes = [1, 0, 2] if np.linalg.det(cell.lattice) < 0 else [0, 1, 2]
    return Cell(cell.lattice[axes], cell.elements[sites], cell.fractional[sites][:, axes] % 1.0)


def species_of(cell: Cell) -> list[str]:
    """Symbols of the elements in the order of the sites, one of each run: the order in which VASP reads POTCAR."""
    from ase.data import chemical_symbols

    starts = np.flatnonzero(np.diff(cell.elements.astype(int), prepend=0))
    return [chemical_symbols[z] for z in cell.elements[starts]]


def write_poscar(path: Path, cell: Cell, comment: str) -> None:
    """Write a POSCAR in direct coordinates, sites in the order of the cell."""
    from pymatgen.io.vasp import Poscar

    poscar = Poscar(cell.to_structure(), comment=comment, sort_structure=False)
    path.write_text(poscar.get_str(significant_figures=_DIGITS))


def write_cif(path: Path, cell: Cell) -> None:
    """Write a CIF in P1: the very cell and sites of the POSCAR, which a symmetrised one would exchange for others."""
    from pymatgen.io.cif import CifWriter

    path.write_text(str(CifWriter(cell.to_structure(), significant_figures=_CIF_DIGITS)))


def check_poscar(path: str | os.PathLike, expected: Cell | None = None) -> Cell:
    """Read a POSCAR with pymatgen and with ASE.

    Args:
        path: The file.
        expected: What it should hold; without it, only that both read the same, each element in one run of sites.

    Returns:
        The cell as pymatgen reads it.

    Raises:
        ValueError: One of them sees other species, another lattice or other sites.
    """
    import ase.io
    from pymatgen.io.vasp import Poscar

    with reading(path, "POSCAR"):
        cell = Cell.from_structure(Poscar.from_file(path, check_for_potcar=False).structure)
        atoms = ase.io.read(path, format="vasp")
        lines = Path(path).read_text().splitlines()
    agree(path, "pymatgen", cell, cell if expected is None else expected)
    agree(path, "ASE", of_atoms(atoms), cell if expected is None else expected)
    species = species_of(cell)
    if len(set(species)) < len(species):
        raise ValueError(f"{path}: species {' '.join(species)}, one of them in several runs of sites")
    # Readers look for the names elsewhere where one of the two is wrong or missing.
    behind_sites = [line.split()[-1] for line in lines[8 : 8 + len(atoms)]]
    if lines[5].split() != species or behind_sites != list(atoms.symbols):
        raise ValueError(f"{path}: the names of the species in line 6 and behind the sites do not agree")
    return cell


def check_cif(path: str | os.PathLike, expected: Cell) -> None:
    """Read a CIF with pymatgen and with ASE.

    Raises:
        ValueError: One of them sees other species, another cell or other sites than ``expected``.
    """
    import ase.io
    from pymatgen.io.cif import CifParser

    with reading(path, "CIF"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters is compared below
        # As it stands: by default pymatgen makes 1/3 and 2/3 of what is within 1e-4 of them.
        structure = CifParser(path, frac_tolerance=0).parse_structures(primitive=False)[0]
        atoms = ase.io.read(path, format="cif")
    agree(path, "pymatgen", Cell.from_structure(structure), expected, rotated=True)
    agree(path, "ASE", of_atoms(atoms), expected, rotated=True)


@contextmanager
def reading(path: str | os.PathLike, kind: str) -> Iterator[None]:
    """Turn whatever a reader says of a damaged file, and readers say much, into one line that names the file."""
    try:
        yield
    except Exception as error:
        raise ValueError(f"{path}: no whole {kind} ({type(error).__name__}: {error})") from error


def of_atoms(atoms) -> Cell:
    """ASE's atoms as a cell."""
    return Cell(np.array(atoms.cell), atoms.numbers.astype(np.uint8), atoms.get_scaled_positions())


def agree(path: str | os.PathLike, reader: str, cell: Cell, expected: Cell, *, rotated: bool = False) -> None:
    """Hold what a reader saw to what was written, within ``TOLERANCE``; sites may be other periodic images.

    Args:
        path: The file read, for the message.
        reader: Who read it, for the message.
        cell: What it saw.
        expected: What was written.
        rotated: Whether the lattices may differ by a rotation, as those of CIFs do.

    Raises:
        ValueError: Other species, another lattice, other sites.
    """
    if not np.array_equal(cell.elements, expected.elements):
        raise ValueError(f"{path}: {reader} reads other species than were written")
    lattices = [_upright(each.lattice) if rotated else each.lattice for each in (cell, expected)]
    if not np.allclose(*lattices, rtol=0, atol=TOLERANCE):
        raise ValueError(f"{path}: {reader} reads another lattice than was written")
    shift = cell.fractional - expected.fractional
    if not np.abs(shift - np.rint(shift)).max() <= TOLERANCE:  # also where one is NaN
        raise ValueError(f"{path}: {reader} reads other sites than were written")


def _upright(lattice: np.ndarray) -> np.ndarray:
    """The lattice turned so that the first vector lies along x and the second in the plane of x and y."""
    upright = np.linalg.cholesky(lattice @ lattice.T)
    return upright if np.linalg.det(lattice) > 0 else -upright
