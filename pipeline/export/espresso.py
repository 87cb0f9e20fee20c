"""Inputs of Quantum ESPRESSO's pw.x: relaxation of cell and atoms, species in the order of the POSCAR."""

import io
import re
from pathlib import Path

import numpy as np

from pipeline.cells import Cell
from pipeline.export.crystal import agree, of_atoms, reading, species_of
from pipeline.export.settings import EspressoSettings

FILE = "pw.in"
# Open d and f shells: these start with a moment, the rest with none, and a cell without them is not spin-polarised.
MAGNETIC = frozenset("V Cr Mn Fe Co Ni Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb U Np Pu Am Cm".split())
_MOMENT = 0.5  # pw.x's starting_magnetization, of the valence electrons
_CARD = re.compile(r"^ATOMIC_SPECIES\n((?:\S+ +\S+ +\S+\n)*)", re.MULTILINE)
_EMPTY = re.compile(r"^&(FCP|RISM)\n/\n", re.MULTILINE)  # ASE writes them always, pw.x reads them for electrodes only
_START = re.compile(r"^ *starting_magnetization\((\d+)\) += +(\S+)\n", re.MULTILINE)
_CONVERGENCE_RY = 1e-8  # of the energy of an SCF, for each atom


def write_espresso(path: Path, cell: Cell, name: str, settings: EspressoSettings) -> None:
    """Write one pw.in; pseudopotentials are called ``Ti.upf`` and sought in ``../pseudo``.

    Args:
        path: The file.
        cell: What the POSCAR holds.
        name: Prefix of pw.x's own files.
        settings: Cutoffs and grid.
    """
    from ase import Atoms
    from ase.io.espresso import write_espresso_in

    atoms = Atoms(numbers=cell.elements, cell=cell.lattice, scaled_positions=cell.fractional, pbc=True)
    magnetic = [symbol in MAGNETIC for symbol in atoms.symbols]
    atoms.set_initial_magnetic_moments(_MOMENT * np.array(magnetic))
    text = io.StringIO()
    write_espresso_in(
        text,
        atoms,
        input_data={
            "control": {"calculation": "vc-relax", "prefix": name, "pseudo_dir": "../pseudo", "outdir": "./out"},
            "system": {
                "ecutwfc": settings.cutoff_ry,
                "ecutrho": settings.density_cutoff_ry,
                "occupations": "smearing",
                "smearing": "cold",
                "degauss": settings.smearing_ry,
                "nspin": 2 if any(magnetic) else 1,
            },
            "electrons": {"conv_thr": _CONVERGENCE_RY * len(atoms)},
        },
        pseudopotentials={symbol: f"{symbol}.upf" for symbol in species_of(cell)},
        kpts=_grid(cell, settings.reciprocal_density),
        crystal_coordinates=True,
    )
    path.parent.mkdir(parents=True)
    path.write_text(_EMPTY.sub("", text.getvalue()))


def check_espresso(path: Path, cell: Cell) -> None:
    """Read a pw.in with ASE and pymatgen, and hold it to the POSCAR.

    Args:
        path: The file.
        cell: What the candidate's POSCAR holds.

    Raises:
        ValueError: Another crystal, or ATOMIC_SPECIES, masses, pseudopotentials or moments of other species.
    """
    import ase.io
    from ase.data import atomic_masses, atomic_numbers
    from pymatgen.io.pwscf import PWInput

    with reading(path, "input of pw.x"):
        text = path.read_text()
        rows = [line.split() for line in _CARD.search(text)[1].splitlines()]
        masses = [float(mass) for _, mass, _ in rows]
        moments = {int(place): float(moment) for place, moment in _START.findall(text)}
        read = PWInput.from_str(_START.sub("", text))  # pymatgen takes a list of species for one of sites, and fails
        system = read.sections["system"]
        atoms = ase.io.read(path, format="espresso-in")
    species = species_of(cell)
    if [row[0] for row in rows] != species:
        found = " ".join(row[0] for row in rows)
        raise ValueError(f"{path}: ATOMIC_SPECIES {found}, the POSCAR has {' '.join(species)}")
    for (symbol, _, file), mass in zip(rows, masses, strict=True):
        if file != f"{symbol}.upf" or abs(mass - atomic_masses[atomic_numbers[symbol]]) > 1e-3:
            raise ValueError(f"{path}: ATOMIC_SPECIES gives {symbol} the mass {mass:g} and the potential {file}")
    agree(path, "ASE", of_atoms(atoms), cell)
    agree(path, "pymatgen", Cell.from_structure(read.structure), cell)
    expected = {place: _MOMENT * (symbol in MAGNETIC) for place, symbol in enumerate(species, start=1)}
    if moments != (expected if any(expected.values()) else {}):
        raise ValueError(f"{path}: starting_magnetization {moments}, species in the order {' '.join(species)}")
    counts = {"nat": len(cell.elements), "ntyp": len(species), "nspin": 2 if moments else 1}
    if any(system.get(tag) != count for tag, count in counts.items()):
        raise ValueError(f"{path}: nat, ntyp or nspin is not {', '.join(map(str, counts.values()))}")


def _grid(cell: Cell, reciprocal_density: float) -> tuple[int, ...]:
    from pymatgen.io.vasp import Kpoints

    return tuple(Kpoints.automatic_density_by_vol(cell.to_structure(), reciprocal_density, force_gamma=True).kpts[0])
