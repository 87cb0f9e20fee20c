"""What the DFT colleague gets: POSCARs, a manifest that says where each came from, and check sums."""

import csv
import io
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from pipeline import tables
from pipeline.cells import Cell, from_table
from pipeline.composition import SYMBOLS
from pipeline.provenance import file_digest
from pipeline.structures.schema import STRUCTURES
from pipeline.text import visible

TOLERANCE = 1e-6  # angstrom for lattice vectors, fraction of a lattice vector for sites
_SAFE_ID = re.compile(r"[A-Za-z0-9-]+")
# What makes a spreadsheet run a text; some take the wide forms of East Asian keyboards for the same.
_LIVE = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_MEANING = {field.name: field.metadata[b"description"].decode() for field in STRUCTURES.fields}
_MANIFEST = {
    "id": "candidate: reduced formula and a hash of its cell",
    "formula": _MEANING["formula"],
    "rank": _MEANING["rank"],
    "file": "POSCAR of the candidate",
    "poscar_sha256": "SHA-256 of that file",
    **{
        name: _MEANING[name]
        for name in (
            "space_group_number",
            "space_group_symbol",
            "n_sites",
            "volume_a3_per_atom",
            "minimum_distance_angstrom",
            "template_source",
            "template_label",
            "template_formula",
            "substitution_similarity",
            "volume_method",
            "relaxed",
            "converged",
            "chgnet_energy_ev_per_atom",
            "formation_energy_ev_per_atom",
            "formation_energy_uncertainty_ev_per_atom",
            "band_gap_ev",
            "band_gap_uncertainty_ev",
            "probability_nonmetal",
        )
    },
    "oxidation_states": "oxidation state of each element; null: none was found or asked for",
    "verdict": _MEANING["verdict"],
    **{name: _MEANING[name] for name in ("nearest_known_id", "nearest_known_formula", "nearest_known_distance")},
    "seed": "seed of the campaign",
    "databases": "what the campaign read, with licence and citation: cite it",
    "model_sha256": "SHA-256 of the files of the models that generated and scored the candidate",
}
_README = """Candidate crystals for DFT, proposed by Kimberlite.

POSCAR/          one file a candidate: right-handed cell, sites grouped by element in the order of the formula, direct
                 coordinates; the first line holds id and formula
manifest.csv     one line a candidate, columns below; an empty field is a null
sources.json     the databases that the campaign read
provenance.json  code, settings, seed and inputs of the export
SHA256SUMS       check with: sha256sum -c SHA256SUMS

No DFT was done. Energies and gaps are predictions of machine-learning models from the formula alone, and a low
formation energy is not stability. Where the manifest names a template, the cell is that of a known crystal with other
elements on its sites and its volume scaled: a guess, and often a wrong one, `substitution_similarity` says how like its
elements are. Where it names none, the cell was made by the generator itself. Where `relaxed` is True, CHGNet then
relaxed atoms and cell. Order the elements of POTCAR as in the POSCAR.

Databases, to be cited; sources.json has their queries, dates and check sums:
{sources}

Models (SHA-256, file):
{models}

Columns of manifest.csv:
{columns}
"""


def export(
    *,
    structures_path: str | os.PathLike,
    sources_path: str | os.PathLike,
    output_dir: str | os.PathLike,
    model_paths: Sequence[str | os.PathLike],
    seed: int,
    provenance: dict | None = None,
) -> None:
    """Write the exported structures as a folder, whole or not at all.

    The folder is made under a temporary name beside ``output_dir`` and takes its place, and that of an earlier export,
    when every file was read back by pymatgen and ASE as the crystal that it should be.

    Args:
        structures_path: The structures stage's table; rows with ``rejected_by`` stay behind.
        sources_path: The database stage's ``sources.json``.
        output_dir: Folder to make: ``POSCAR/``, ``manifest.csv``, ``README.txt``, ``sources.json``,
            ``provenance.json``, ``SHA256SUMS``.
        model_paths: Files of the models used, for their check sums.
        seed: Seed of the campaign.
        provenance: Written as JSON.

    Raises:
        ValueError: An id is no safe file name, or a file reads back as another crystal.
    """
    structures = tables.read(structures_path, STRUCTURES)
    structures = structures.filter(pc.is_null(structures["rejected_by"]))
    structures = structures.sort_by([("rank", "ascending"), ("id", "ascending")])
    if not len(structures):
        print(f"nothing to export: no row of {structures_path} is without a reason in rejected_by", file=sys.stderr)
    sources = tables.read_json(sources_path)
    cited = [_cited(source) for source in sources]
    models = [(file_digest(path), Path(path).name) for path in model_paths]
    output = Path(output_dir)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary, previous = (output.with_name(f".{output.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        (temporary / "POSCAR").mkdir(parents=True)
        lines = []
        for row, cell in zip(structures.to_pylist(), from_table(structures), strict=True):
            file = _write_poscar(temporary, row, cell)
            known = {"file": file, "poscar_sha256": file_digest(temporary / file), "seed": seed}
            known["databases"] = " | ".join(cited)
            lines.append({**row, **known, "model_sha256": " ".join(digest for digest, _ in models)})
        (temporary / "manifest.csv").write_text(_manifest(lines))
        (temporary / "README.txt").write_text(
            _README.format(
                sources="\n".join(f"  {line}" for line in cited),
                models="\n".join(f"  {digest}  {name}" for digest, name in models),
                columns="\n".join(f"  {name}: {meaning}" for name, meaning in _MANIFEST.items()),
            )
        )
        tables.write_json(temporary / "sources.json", sources)
        tables.write_json(temporary / "provenance.json", provenance or {})
        files = sorted(path for path in temporary.rglob("*") if path.is_file())
        sums = "".join(f"{file_digest(path)}  {path.relative_to(temporary).as_posix()}\n" for path in files)
        (temporary / "SHA256SUMS").write_text(sums)
        _replace(output, temporary, previous)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


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


def read_back(path: str | os.PathLike, expected: Cell) -> None:
    """Read a POSCAR with pymatgen and with ASE.

    Raises:
        ValueError: One of them sees other species, another lattice or other sites than ``expected``.
    """
    import ase.io
    from pymatgen.io.vasp import Poscar

    atoms = ase.io.read(path, format="vasp")
    seen = {
        "pymatgen": Cell.from_structure(Poscar.from_file(path, check_for_potcar=False).structure),
        "ASE": Cell(np.array(atoms.cell), atoms.numbers.astype(np.uint8), atoms.get_scaled_positions()),
    }
    for reader, cell in seen.items():
        if not np.array_equal(cell.elements, expected.elements):
            raise ValueError(f"{path}: {reader} reads other species than were written")
        if not np.allclose(cell.lattice, expected.lattice, rtol=0, atol=TOLERANCE):
            raise ValueError(f"{path}: {reader} reads another lattice than was written")
        shift = cell.fractional - expected.fractional
        if np.abs(shift - np.rint(shift)).max() > TOLERANCE:
            raise ValueError(f"{path}: {reader} reads other sites than were written")


def _replace(output: Path, new: Path, previous: Path) -> None:
    """Put ``new`` in the place of ``output``; an earlier one is kept at ``previous`` until that is done."""
    if output.exists():
        output.rename(previous)
    try:
        new.rename(output)
    except OSError:
        if previous.exists():
            previous.rename(output)
        raise
    for left in output.parent.glob(f".{output.name}.*"):  # the earlier one, and what killed processes left
        shutil.rmtree(left, ignore_errors=True)


def _write_poscar(folder: Path, row: dict, cell: Cell) -> str:
    from pymatgen.io.vasp import Poscar

    if not _SAFE_ID.fullmatch(row["id"]):
        raise ValueError(f"id '{row['id']}': only letters, digits and '-' make a file name; rerun the structures stage")
    cell = poscar_cell(cell, row["elements"])
    file = f"POSCAR/POSCAR-{row['id']}.vasp"
    poscar = Poscar(cell.to_structure(), comment=f"{row['id']} {row['formula']}", sort_structure=False)
    (folder / file).write_text(poscar.get_str(significant_figures=16))
    read_back(folder / file, cell)
    return file


def _manifest(rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_MANIFEST)
    for row in rows:
        charges = _charges(row["elements"], row["oxidation_states"])
        writer.writerow(_field({**row, "oxidation_states": charges}[name]) for name in _MANIFEST)
    return text.getvalue()


def _cited(source: dict) -> str:
    said = [source.get(key) or f"no {key} stated" for key in ("licence", "citation")]
    provider = f" ({source['provider']})" if source.get("provider") else ""
    return visible(f"{source['name']}{provider}: {'; '.join(said)}")


def _charges(elements: list[int], states: list[int] | None) -> str | None:
    pairs = zip(elements, states or (), strict=states is not None)
    return states and " ".join(f"{SYMBOLS[z - 1]}{abs(state)}{'-' if state < 0 else '+'}" for z, state in pairs)


def _field(value: object) -> str:
    """A value as a CSV field; text that a spreadsheet would run as a formula is defused by an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_LIVE) else value
    return f"{value:.6g}" if isinstance(value, float) else str(value)
