"""Whether the files of an export are whole, agree with each other, and hold what the manifest says."""

import math
import os
import re
from collections.abc import Iterable
from pathlib import Path

from pipeline.cells import Cell, compositions_of
from pipeline.export.crystal import check_cif, check_poscar
from pipeline.export.espresso import FILE, check_espresso
from pipeline.export.manifest import read_manifest
from pipeline.export.settings import ESPRESSO, VASP
from pipeline.export.vasp import INCAR, KPOINTS, POTCAR_SPEC, check_vasp
from pipeline.provenance import file_digest

SUMS = "SHA256SUMS"
_ALWAYS = ("README.txt", "manifest.csv", "manifest.parquet", "provenance.json", "sources.json")
# What only the export writes into its folders; results of a calculation may lie beside it.
_INPUTS = ("POSCAR", INCAR, KPOINTS, POTCAR_SPEC)
_OWN = ("POSCAR/*.vasp", "cif/*.cif", *(f"{VASP}/*/{name}" for name in _INPUTS), f"{ESPRESSO}/*/{FILE}")
_MEND = "copy the whole folder anew, or delete it and rerun the export"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


def check_candidate(folder: str | os.PathLike, line: dict, expected: Cell | None = None) -> None:
    """Read all files of one candidate back, with pymatgen and with ASE.

    Args:
        folder: The export.
        line: The candidate's line of the manifest.
        expected: The cell that the files should hold; without it, what the POSCAR holds.

    Raises:
        ValueError: A file holds another crystal, or a list in another order than the POSCAR's species; the file is
            named.
    """
    folder = Path(folder)
    poscar = folder / line["file"]
    cell = check_poscar(poscar, expected)
    formula = compositions_of([cell]).formulas()[0].as_py()
    volume = line["volume_a3_per_atom"]
    if formula != line["formula"] or line["n_sites"] not in (None, len(cell.elements)):
        raise ValueError(f"{poscar}: {len(cell.elements)} atoms of {formula}, the manifest says {line['formula']}")
    if volume is not None and not math.isclose(volume, cell.volume / len(cell.elements), rel_tol=1e-6):
        raise ValueError(f"{poscar}: another volume than the manifest says")
    check_cif(folder / line["cif"], cell)
    if line["vasp"] is not None:
        inputs = folder / line["vasp"]
        if (inputs / "POSCAR").read_bytes() != poscar.read_bytes():
            raise ValueError(f"{inputs / 'POSCAR'}: not the POSCAR of {line['id']}")
        check_vasp(inputs, cell, line["vasp_input_set"])
    if line["espresso"] is not None:
        check_espresso(folder / line["espresso"] / FILE, cell)
    if file_digest(poscar) != line["poscar_sha256"]:
        raise ValueError(f"{poscar}: another file than the manifest's check sum says")


def check_folder(folder: str | os.PathLike) -> tuple[int, int]:
    """Check a whole export: its check sums, its manifest, and all files of each candidate.

    Returns:
        Number of candidates, and of files.

    Raises:
        ValueError: The first file that is missing, changed, or does not agree with the others.
    """
    folder = Path(folder)
    sums = check_sums(folder)
    _check_named(folder, _ALWAYS, sums)
    lines = read_manifest(folder)
    _check_named(folder, [name for line in lines for name in _files(line)], sums)
    found = (path.relative_to(folder).as_posix() for pattern in _OWN for path in folder.glob(pattern))
    _check_named(folder, found, sums, f"move it elsewhere if it is not of this export, otherwise {_MEND}")
    for line in lines:
        check_candidate(folder, line)
    return len(lines), len(sums) + 1


def write_sums(folder: Path) -> None:
    """Write the check sums of all files, as sha256sum prints them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    (folder / SUMS).write_text(sums)


def check_sums(folder: Path) -> set[str]:
    """Hold the files to ``SHA256SUMS``; others that lie beside them (results of a calculation) do not matter.

    Returns:
        Names of the files.

    Raises:
        ValueError: There is no such list, a line of it is no check sum and name, or a file is missing or changed.
    """
    path = folder / SUMS
    if not path.is_file():
        raise ValueError(f"{folder}: no {SUMS}; give the folder of an export")
    names = set()
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(
                f"{path}: line {number} is {line[:80]!r}, not a SHA-256 and a name as sha256sum prints them; {_MEND}"
            )
        digest, name = match.groups()
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: missing")
        if file_digest(folder / name) != digest:
            raise ValueError(f"{folder / name}: changed since the export")
        names.add(name)
    return names


def _check_named(folder: Path, expected: Iterable[str], sums: set[str], mend: str = _MEND) -> None:
    """Hold ``SHA256SUMS`` to the files that it should name."""
    left_out = sorted(set(expected) - sums)
    if left_out:
        more = f" and {len(left_out) - 1} more" if len(left_out) > 1 else ""
        raise ValueError(f"{folder / SUMS}: does not name {left_out[0]}{more}; {mend}")


def _files(line: dict) -> list[str]:
    """The files that a line of the manifest names; KPOINTS, which some input sets do without, is ``check_vasp``'s."""
    vasp = [f"{line['vasp']}/{name}" for name in ("POSCAR", INCAR, POTCAR_SPEC)] if line["vasp"] else []
    espresso = [f"{line['espresso']}/{FILE}"] if line["espresso"] else []
    return [line["file"], line["cif"], *vasp, *espresso]
