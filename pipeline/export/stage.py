"""Make the hand-over folder, whole or not at all."""

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow.compute as pc

from pipeline import tables
from pipeline.cells import Cell, from_table
from pipeline.export.checks import check_candidate, write_sums
from pipeline.export.crystal import poscar_cell, write_cif, write_poscar
from pipeline.export.espresso import FILE, write_espresso
from pipeline.export.manifest import manifest_line, write_manifest
from pipeline.export.readme import readme
from pipeline.export.settings import ESPRESSO, VASP, ExportSettings
from pipeline.export.vasp import vasp_inputs, write_vasp
from pipeline.provenance import file_digest
from pipeline.structures.schema import STRUCTURES
from pipeline.text import visible

_SAFE_ID = re.compile(r"[A-Za-z0-9-]+")


def export(
    *,
    structures_path: str | os.PathLike,
    sources_path: str | os.PathLike,
    output_dir: str | os.PathLike,
    model_paths: Sequence[str | os.PathLike],
    seed: int,
    settings: ExportSettings,
    provenance: dict | None = None,
) -> None:
    """Write the exported structures as a folder, whole or not at all.

    The folder is made under a temporary name beside ``output_dir`` and takes its place, and that of an earlier export,
    when every file was read back by pymatgen and ASE as the crystal that it should be.

    Args:
        structures_path: The structures stage's table; rows with ``rejected_by`` stay behind.
        sources_path: The database stage's ``sources.json``.
        output_dir: Folder to make: ``POSCAR/``, ``cif/``, ``vasp/``, ``espresso/``, ``manifest.csv``,
            ``manifest.parquet``, ``README.txt``, ``sources.json``, ``provenance.json``, ``SHA256SUMS``.
        model_paths: Files of the models used, for their check sums.
        seed: Seed of the campaign.
        settings: Which inputs of DFT codes are made, and how.
        provenance: Written as JSON.

    Raises:
        ValueError: An id is no safe file name, or a file reads back as another crystal.
    """
    structures = tables.read(structures_path, STRUCTURES)
    structures = structures.filter(pc.is_null(structures["rejected_by"]))
    structures = structures.sort_by([("rank", "ascending"), ("structure_rank", "ascending"), ("id", "ascending")])
    if not len(structures):
        print(f"nothing to export: no row of {structures_path} is without a reason in rejected_by", file=sys.stderr)
    sources = tables.read_json(sources_path)
    cited = [_cited(source) for source in sources]
    models = [(file_digest(path), Path(path).name) for path in model_paths]
    campaign = {
        "seed": seed,
        "databases": " | ".join(cited),
        "model_sha256": " ".join(digest for digest, _ in models),
    }
    output = Path(output_dir)
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary, previous = (output.with_name(f".{output.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        for name in ("POSCAR", "cif"):
            (temporary / name).mkdir(parents=True)
        lines = []
        for row, cell in zip(structures.to_pylist(), from_table(structures), strict=True):
            cell = poscar_cell(cell, row["elements"])
            line = manifest_line(row, _write_candidate(temporary, row, cell, settings), campaign)
            check_candidate(temporary, line, cell)
            lines.append(line)
        write_manifest(temporary, lines, provenance or {})
        (temporary / "README.txt").write_text(readme(lines, cited, models, settings), encoding="utf-8")
        tables.write_json(temporary / "sources.json", sources)
        tables.write_json(temporary / "provenance.json", provenance or {})
        write_sums(temporary)
        _replace(output, temporary, previous)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    left_out = [line for line in lines if line["vasp"] is None and VASP in settings.inputs]
    if left_out:
        print(f"{len(left_out)} of {len(lines)} candidates have no inputs of VASP; the manifest says why")


def _write_candidate(folder: Path, row: dict, cell: Cell, settings: ExportSettings) -> dict:
    """Write all files of one candidate; the columns of the manifest that name them."""
    name = row["id"]
    if not _SAFE_ID.fullmatch(name):
        raise ValueError(f"id '{name}': only letters, digits and '-' make a file name; rerun the structures stage")
    file, cif = f"POSCAR/POSCAR-{name}.vasp", f"cif/{name}.cif"
    write_poscar(folder / file, cell, f"{name} {row['formula']}")
    write_cif(folder / cif, cell)
    files = {"file": file, "poscar_sha256": file_digest(folder / file), "cif": cif}
    files |= dict.fromkeys(("vasp", "vasp_input_set", "vasp_left_out", "vasp_remarks", "espresso"))
    if VASP in settings.inputs:
        inputs = vasp_inputs(cell, settings.vasp_input_set)
        if isinstance(inputs, str):
            files["vasp_left_out"] = inputs
        else:
            write_vasp(folder / VASP / name, inputs, (folder / file).read_text())
            remarks = visible(" | ".join(inputs.remarks)) or None
            files |= {"vasp": f"{VASP}/{name}", "vasp_input_set": settings.vasp_input_set, "vasp_remarks": remarks}
    else:
        files["vasp_left_out"] = "inputs of VASP were not asked for"
    if ESPRESSO in settings.inputs:
        write_espresso(folder / ESPRESSO / name / FILE, cell, name, settings.espresso)
        files["espresso"] = f"{ESPRESSO}/{name}"
    return files


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


def _cited(source: dict) -> str:
    said = [source.get(key) or f"no {key} stated" for key in ("licence", "citation")]
    provider = f" ({source['provider']})" if source.get("provider") else ""
    return visible(f"{source['name']}{provider}: {'; '.join(said)}")
