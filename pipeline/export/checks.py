"""Whether the files of an export are whole, agree with each other, and hold what the manifest says."""

import math
import os
from pathlib import Path

from pipeline.cells import Cell, compositions_of
from pipeline.export.crystal import check_cif, check_poscar
from pipeline.export.espresso import FILE, check_espresso
from pipeline.export.manifest import read_manifest
from pipeline.export.vasp import check_vasp
from pipeline.provenance import file_digest

SUMS = "SHA256SUMS"


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
    lines = read_manifest(folder)
    for line in lines:
        check_candidate(folder, line)
    return len(lines), len(sums) + 1


def write_sums(folder: Path) -> None:
    """Write the check sums of all files, as sha256sum prints them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = "".join(f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files)
    (folder / SUMS).write_text(sums)


def check_sums(folder: Path) -> list[str]:
    """Hold the files to ``SHA256SUMS``; others that lie beside them (results of a calculation) do not matter.

    Returns:
        Names of the files.
    """
    if not (folder / SUMS).is_file():
        raise ValueError(f"{folder}: no {SUMS}; give the folder of an export")
    lines = [line.split("  ", 1) for line in (folder / SUMS).read_text().splitlines()]
    for digest, name in lines:
        if not (folder / name).is_file():
            raise ValueError(f"{folder / name}: missing")
        if file_digest(folder / name) != digest:
            raise ValueError(f"{folder / name}: changed since the export")
    return [name for _, name in lines]
