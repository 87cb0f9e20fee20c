"""Inputs of VASP by an input set of pymatgen, their lists in the order of the POSCAR's species.

VASP takes the first potential of POTCAR for the first run of sites in POSCAR, and does not look at names. pymatgen's
sets sort the sites by electronegativity unless told not to; here they keep the POSCAR's order, and the files are held
to it by what the same set says of the same crystal with its sites in reverse.
"""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

from pipeline.cells import Cell
from pipeline.export.crystal import reading, species_of

INCAR, KPOINTS, POTCAR, POTCAR_SPEC = "INCAR", "KPOINTS", "POTCAR", "POTCAR.spec"
_TITLE = re.compile(r"TITEL\s*=\s*\S+\s+([A-Z][a-z]?)")


@dataclass(frozen=True)
class VaspInputs:
    """What an input set says of one crystal.

    Attributes:
        incar: Tags and values; lists are of the species or of the sites, in their order.
        kpoints: Text of KPOINTS; None where the set says KSPACING in INCAR instead.
        symbols: Potential of each species, e.g. ``Ti_pv``.
        remarks: pymatgen's warnings.
    """

    incar: dict
    kpoints: str | None
    symbols: tuple[str, ...]
    remarks: tuple[str, ...]


def vasp_inputs(cell: Cell, input_set: str) -> VaspInputs | str:
    """What the set says of a cell, or the reason why it says nothing."""
    from pymatgen.io.vasp import sets

    make = getattr(sets, input_set)
    unknown = [symbol for symbol in species_of(cell) if symbol not in make.CONFIG["POTCAR"]]
    if unknown:  # pymatgen would write the bare symbol, which need not be a potential
        return f"{input_set} has no potential for {' '.join(unknown)}"
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            asked = make(cell.to_structure(), sort_structure=False)
            incar, kpoints, symbols = asked.incar, asked.kpoints, asked.potcar_symbols
        except (ValueError, KeyError, RuntimeError) as error:
            return f"{input_set}: {' '.join(str(error).split())}"
    remarks = {
        " ".join(str(each.message).split()): None for each in said if not issubclass(each.category, DeprecationWarning)
    }
    return VaspInputs(dict(incar), None if kpoints is None else str(kpoints), tuple(symbols), tuple(remarks))


def potcar_functional(input_set: str) -> str:
    """The family of potentials that the set is made for, e.g. ``PBE_54``."""
    from pymatgen.io.vasp import sets

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(sets, input_set)().user_potcar_functional


def write_vasp(folder: Path, inputs: VaspInputs, poscar: str) -> None:
    """Make the folder of one candidate: POSCAR, INCAR, KPOINTS and POTCAR.spec, never a POTCAR."""
    from pymatgen.io.vasp import Incar

    folder.mkdir(parents=True)
    (folder / "POSCAR").write_text(poscar)
    (folder / INCAR).write_text(Incar(inputs.incar).get_str(sort_keys=True))
    if inputs.kpoints is not None:
        (folder / KPOINTS).write_text(inputs.kpoints)
    (folder / POTCAR_SPEC).write_text("".join(f"{symbol}\n" for symbol in inputs.symbols))


def check_vasp(folder: Path, cell: Cell, input_set: str) -> None:
    """Read INCAR, KPOINTS, POTCAR.spec, and POTCAR where somebody has made one, and hold them to the POSCAR's order.

    Args:
        folder: Of one candidate.
        cell: What its POSCAR holds.
        input_set: The set that it was made by.

    Raises:
        ValueError: A list is in another order than the POSCAR's species, or a value is not the set's.
    """
    species = species_of(cell)
    inputs = vasp_inputs(Cell(cell.lattice, cell.elements[::-1], cell.fractional[::-1]), input_set)
    if isinstance(inputs, str):
        raise ValueError(f"{folder}: {inputs}, but there is a folder")
    symbols = (folder / POTCAR_SPEC).read_text().split()
    if symbols != list(inputs.symbols[::-1]):
        expected = " ".join(inputs.symbols[::-1])
        raise ValueError(f"{folder / POTCAR_SPEC}: {' '.join(symbols)}; the POSCAR's order asks for {expected}")
    if (folder / POTCAR).exists():
        titles = _TITLE.findall((folder / POTCAR).read_text(errors="replace"))
        if titles != species:
            raise ValueError(f"{folder / POTCAR}: potentials of {' '.join(titles)}, POSCAR of {' '.join(species)}")
    _check_incar(folder / INCAR, inputs.incar)
    with reading(folder / KPOINTS, "KPOINTS"):
        grid = _grid((folder / KPOINTS).read_text() if (folder / KPOINTS).exists() else None)
    if grid != _grid(inputs.kpoints):
        raise ValueError(f"{folder / KPOINTS}: {grid}, {input_set} asks for {_grid(inputs.kpoints)}")


def _grid(kpoints: str | None) -> list[tuple] | None:
    """The divisions; whether Gamma is among the points hangs on the symmetry found, which the sites' order may turn."""
    from pymatgen.io.vasp import Kpoints

    return None if kpoints is None else list(Kpoints.from_str(kpoints).kpts)


def _check_incar(path: Path, reverse: dict) -> None:
    """Hold an INCAR to that of the crystal with its sites in reverse."""
    from pymatgen.io.vasp import Incar

    forward = {tag: value[::-1] if isinstance(value, list) else value for tag, value in reverse.items()}
    expected = Incar.from_str(Incar(forward).get_str())  # numbers as they are written
    with reading(path, "INCAR"):
        found = Incar.from_file(path)
    for tag in sorted({*expected, *found}):
        if expected.get(tag) != found.get(tag):
            raise ValueError(
                f"{path}: {tag} is {found.get(tag)}; the order of the POSCAR's species asks for {expected.get(tag)}"
            )
