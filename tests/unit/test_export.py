import csv
import hashlib
import json
import subprocess

import ase.io
import numpy as np
import pytest
from pymatgen.core import Structure
from pymatgen.core.structure_matcher import StructureMatcher

from pipeline import export as module
from pipeline import tables
from pipeline.cells import Cell, structure_hash, to_columns
from pipeline.composition import Compositions
from pipeline.export import export, poscar_cell, read_back
from pipeline.structures.schema import STRUCTURES

LEFT_HANDED = np.array([[0, 4.0, 0.3], [3.1, 0.2, 0], [0, 0.4, 5.2]])
# Without mirror symmetry, so that a mirrored cell is another crystal.
SITES = np.array([[0.02, 0.11, 0.07], [0.48, 0.55, 0.61], [0.31, 0.87, 0.24], [0.76, 0.23, 0.42], [0.9, 0.6, 0.95]])


def perovskite(a: float = 4.0) -> Cell:
    sites = np.array([[0.5, 0.5, 0], [0, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5], [0, 0.5, -0.5]])
    return Cell(a * np.eye(3), np.array([8, 38, 8, 22, 8], np.uint8), sites)


def shuffled() -> Cell:
    return Cell(LEFT_HANDED, np.array([8, 38, 8, 22, 8], np.uint8), SITES)


def write_structures(path, cells: list[Cell | None], **columns):
    compositions = Compositions.from_formulas(["SrTiO3"] * len(cells))
    n = len(cells)
    data = {name: [None] * n for name in STRUCTURES.schema.names} | {
        "id": [f"SrTiO3-{structure_hash(cell)}" if cell else "SrTiO3" for cell in cells],
        "formula": ["SrTiO3"] * n,
        "rank": list(range(n, 0, -1)),
        **compositions.columns(),
        "oxidation_states": [[2, 4, -2]] * n,
        "verdict": ["balanced"] * n,
        "nearest_known_id": ["mp-1"] * n,
        "nearest_known_formula": ["BaTiO3"] * n,
        "nearest_known_distance": [0.4] * n,
        "formation_energy_ev_per_atom": [-3.25] * n,
        "relaxed": [False if cell else None for cell in cells],
        "rejected_by": [None if cell else "no_template" for cell in cells],
        **to_columns(cells),
        **columns,
    }
    tables.write(path, STRUCTURES, data)
    return path


def run(tmp_path, cells, **columns):
    structures = write_structures(tmp_path / "structures.parquet", cells, **columns)
    model = tmp_path / "generator.safetensors"
    model.write_bytes(b"weights")
    output = tmp_path / "export"
    about = [{"name": "mine", "licence": "CC BY 4.0", "citation": "doi:10.1/x"}, {"name": "other", "provider": "P"}]
    tables.write_json(tmp_path / "sources.json", about)
    paths = {"structures_path": structures, "sources_path": tmp_path / "sources.json", "output_dir": output}
    export(**paths, model_paths=[model], seed=42, provenance={"stage": "export"})
    return output


def manifest(output) -> list[dict]:
    with open(output / "manifest.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_left_handed_cell_becomes_right_handed_and_is_not_mirrored():
    cell = poscar_cell(shuffled(), [38, 22, 8])
    assert np.linalg.det(shuffled().lattice) < 0 < np.linalg.det(cell.lattice)
    # Cartesian positions are the same, up to lattice vectors: the same crystal, not its mirror image.
    before = shuffled().fractional @ LEFT_HANDED
    order = np.argsort([{38: 0, 22: 1, 8: 2}[z] for z in shuffled().elements.tolist()], kind="stable")
    shift = (cell.fractional @ cell.lattice - before[order]) @ np.linalg.inv(LEFT_HANDED)
    np.testing.assert_allclose(shift, np.rint(shift), atol=1e-9)


def test_the_files_are_the_crystals_with_species_grouped(tmp_path):
    cells = [perovskite(), shuffled(), None]
    output = run(tmp_path, cells)
    rows = manifest(output)
    assert [row["rank"] for row in rows] == ["2", "3"]
    by_id = {f"SrTiO3-{structure_hash(cell)}": cell for cell in cells if cell}
    for row in rows:
        lines = (output / row["file"]).read_text().splitlines()
        assert lines[0] == f"{row['id']} SrTiO3"
        assert lines[5].split() == ["Sr", "Ti", "O"] and lines[6].split() == ["1", "1", "3"]
        structure = Structure.from_file(output / row["file"])
        atoms = ase.io.read(output / row["file"])
        assert structure.lattice.volume > 0 and np.linalg.det(atoms.cell) > 0
        np.testing.assert_allclose(structure.cart_coords, atoms.positions, atol=1e-6)
        matcher = StructureMatcher(ltol=1e-4, stol=1e-4, angle_tol=1e-3, scale=False, primitive_cell=False)
        assert matcher.fit(structure, by_id[row["id"]].to_structure())


def test_the_manifest_says_where_each_came_from(tmp_path):
    row = manifest(run(tmp_path, [perovskite()]))[0]
    assert row["oxidation_states"] == "Sr2+ Ti4+ O2-"
    assert row["verdict"] == "balanced"
    assert (row["formation_energy_ev_per_atom"], row["band_gap_ev"], row["seed"]) == ("-3.25", "", "42")
    assert (row["nearest_known_id"], row["nearest_known_formula"]) == ("mp-1", "BaTiO3")
    assert row["model_sha256"] == hashlib.sha256(b"weights").hexdigest()


def test_a_crystal_without_a_template_is_the_generator_s(tmp_path):
    """And one with, in the same export, is a template's."""
    labels = {"template_label": [None, "salt"], "volume_method": [None, "dls"], "template_formula": [None, "BaTiO3"]}
    output = run(tmp_path, [perovskite(), shuffled()], **labels)
    told = {
        row["rank"]: (row["template_label"], row["template_formula"], row["volume_method"]) for row in manifest(output)
    }
    assert told == {"2": ("", "", ""), "1": ("salt", "BaTiO3", "dls")}
    readme = " ".join((output / "README.txt").read_text().split())
    assert "Where it names none, the cell was made by the generator itself." in readme
    assert (
        "template_label: AFLOW prototype label, or id of the database entry; null: no structure, or the gen" in readme
    )


def test_sha256sum_agrees_and_covers_every_file(tmp_path):
    output = run(tmp_path, [perovskite(), shuffled()])
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=output, capture_output=True, text=True, check=True)
    listed = {line.split(": ")[0] for line in done.stdout.splitlines()}
    assert listed == {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()} - {
        "SHA256SUMS"
    }
    for row in manifest(output):
        assert f"{row['poscar_sha256']}  {row['file']}\n" in (output / "SHA256SUMS").read_text()


def test_the_readme_explains_every_column(tmp_path):
    output = run(tmp_path, [perovskite()])
    readme = (output / "README.txt").read_text()
    assert all(f"\n  {name}: " in readme for name in manifest(output)[0])
    assert "generator.safetensors" in readme
    said = "mine: CC BY 4.0; doi:10.1/x | other (P): no licence stated; no citation stated"
    assert manifest(output)[0]["databases"] == said
    assert "\n  mine: CC BY 4.0; doi:10.1/x\n  other (P): no licence stated; no citation stated\n" in readme
    assert json.loads((output / "sources.json").read_text())[0]["name"] == "mine"
    assert json.loads((output / "provenance.json").read_text()) == {"stage": "export"}


@pytest.mark.parametrize("text", ["=1+1", "+1", "-x", "@sum", "\tx"])
def test_no_spreadsheet_formula_leaves_a_text_column(tmp_path, text):
    row = manifest(run(tmp_path, [perovskite()], nearest_known_id=[text], template_label=[text]))[0]
    assert row["nearest_known_id"] == row["template_label"] == f"'{text}"


def test_an_id_that_is_no_file_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"id '\.\./evil': only letters"):
        run(tmp_path, [perovskite()], id=["../evil"])
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["generator.safetensors", "sources.json", "structures.parquet"]


def test_an_earlier_export_is_replaced_whole_and_only_by_a_whole_one(tmp_path, monkeypatch):
    output = run(tmp_path, [perovskite(), shuffled()])
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}

    def crash(*_):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(module, "read_back", crash)
        with pytest.raises(RuntimeError):
            run(tmp_path, [perovskite(4.2)])
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    run(tmp_path, [perovskite(4.2)])
    assert len(list((output / "POSCAR").iterdir())) == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".export")]


def test_same_input_same_bytes(tmp_path):
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        output = run(tmp_path / name, [perovskite(), shuffled()])
        contents.append({path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]


def test_no_structure_exports_an_empty_manifest(tmp_path):
    assert manifest(run(tmp_path, [None])) == []


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [("Sr Ti O", "Sr Zr O", "species"), ("4.0000", "4.0010", "lattice"), ("0.5000", "0.5010", "sites")],
)
def test_a_file_that_reads_back_as_another_crystal_is_refused(tmp_path, old, new, complaint):
    output = run(tmp_path, [perovskite()])
    path = next((output / "POSCAR").iterdir())
    cell = poscar_cell(perovskite(), [38, 22, 8])
    read_back(path, cell)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=f"pymatgen reads (other|another) {complaint}"):
        read_back(path, cell)
