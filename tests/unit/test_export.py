import csv
import hashlib
import json
import re
import subprocess
import sys

import ase.io
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Structure
from pymatgen.core.structure_matcher import StructureMatcher
from pymatgen.io.vasp import sets

from pipeline.cells import Cell, structure_hash
from pipeline.export import stage
from pipeline.export.checks import check_folder
from pipeline.export.crystal import check_cif, check_poscar, poscar_cell, write_cif, write_poscar
from pipeline.export.manifest import MANIFEST, meanings, read_manifest
from pipeline.export.settings import INPUT_SETS, EspressoSettings, ExportSettings
from pipeline.provenance import ROOT
from tests.exported import known_crystals, magnetic, make_export, perovskite, shuffled


def manifest(output) -> list[dict]:
    with open(output / "manifest.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def test_a_left_handed_cell_becomes_right_handed_and_is_not_mirrored():
    cell = poscar_cell(shuffled(), [38, 22, 8])
    assert np.linalg.det(shuffled().lattice) < 0 < np.linalg.det(cell.lattice)
    # Cartesian positions are the same, up to lattice vectors: the same crystal, not its mirror image.
    before = shuffled().fractional @ shuffled().lattice
    order = np.argsort([{38: 0, 22: 1, 8: 2}[z] for z in shuffled().elements.tolist()], kind="stable")
    shift = (cell.fractional @ cell.lattice - before[order]) @ np.linalg.inv(shuffled().lattice)
    np.testing.assert_allclose(shift, np.rint(shift), atol=1e-9)


def test_the_files_are_the_crystals_with_species_grouped(tmp_path):
    cells = [perovskite(), shuffled(), None]
    output = make_export(tmp_path, cells)
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
    row = manifest(make_export(tmp_path, [perovskite()], oxidation_states=[[2, 4, -2]]))[0]
    assert row["oxidation_states"] == "Sr2+ Ti4+ O2-"
    assert row["verdict"] == "balanced"
    assert (row["formation_energy_ev_per_atom"], row["band_gap_ev"], row["seed"]) == ("-3.25", "", "42")
    assert (row["nearest_known_id"], row["nearest_known_formula"]) == ("mp-1", "BaTiO3")
    assert row["model_sha256"] == hashlib.sha256(b"weights").hexdigest()


def test_scores_travel_with_their_uncertainty(tmp_path):
    scores = {
        "decomposition_energy_ev_per_atom": 0.012,
        "decomposition_energy_uncertainty_ev_per_atom": 0.07,
        "probability_near_hull": 0.81,
        "experimental_band_gap_ev": 3.1,
        "experimental_band_gap_uncertainty_ev": 0.6,
        "likeness": 0.93,
        "distance_from_training": 1.4,
        "hhi_production": 2340.5,
        "usefulness": 0.41,
    }
    output = make_export(tmp_path, [perovskite()], **{name: [value] for name, value in scores.items()})
    row = manifest(output)[0]
    assert {name: float(row[name]) for name in scores} == scores
    assert row["diversity"] == ""
    told = " ".join((output / "README.txt").read_text().split())
    assert "decomposition_energy_uncertainty_ev_per_atom: half-width of its 90 % interval" in told
    assert "likeness: 0 to 1: how much the formula is like those of the database" in told


def test_a_crystal_without_a_template_is_the_generator_s(tmp_path):
    """And one with, in the same export, is a template's."""
    labels = {"template_label": [None, "salt"], "volume_method": [None, "dls"], "template_formula": [None, "BaTiO3"]}
    output = make_export(tmp_path, [perovskite(), shuffled()], **labels)
    told = {
        row["rank"]: (row["template_label"], row["template_formula"], row["volume_method"]) for row in manifest(output)
    }
    assert told == {"2": ("", "", ""), "1": ("salt", "BaTiO3", "dls")}
    readme = " ".join((output / "README.txt").read_text().split())
    assert "where it is generator a model drew it" in readme
    assert (
        "template_label: AFLOW prototype label, or id of the database entry; null: the structure is not from a"
        in readme
    )


def test_sha256sum_agrees_and_covers_every_file(tmp_path):
    output = make_export(tmp_path, [perovskite(), shuffled()])
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=output, capture_output=True, text=True, check=True)
    listed = {line.split(": ")[0] for line in done.stdout.splitlines()}
    assert listed == {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()} - {
        "SHA256SUMS"
    }
    for row in manifest(output):
        assert f"{row['poscar_sha256']}  {row['file']}\n" in (output / "SHA256SUMS").read_text()


def test_the_readme_explains_every_column(tmp_path):
    output = make_export(tmp_path, [perovskite()])
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
    row = manifest(make_export(tmp_path, [perovskite()], nearest_known_id=[text], template_label=[text]))[0]
    assert row["nearest_known_id"] == row["template_label"] == f"'{text}"


def test_an_id_that_is_no_file_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"id '\.\./evil': only letters"):
        make_export(tmp_path, [perovskite()], id=["../evil"])
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["generator.safetensors", "sources.json", "structures.parquet"]


def test_an_earlier_export_is_replaced_whole_and_only_by_a_whole_one(tmp_path, monkeypatch):
    output = make_export(tmp_path, [perovskite(), shuffled()])
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}

    def crash(*_):
        raise RuntimeError("power cut")

    with monkeypatch.context() as patched:
        patched.setattr(stage, "check_candidate", crash)
        with pytest.raises(RuntimeError):
            make_export(tmp_path, [perovskite(4.2)])
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before
    make_export(tmp_path, [perovskite(4.2)])
    assert len(list((output / "POSCAR").iterdir())) == 1
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".export")]


def test_same_input_same_bytes(tmp_path):
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        output = make_export(tmp_path / name, [perovskite(), shuffled()])
        contents.append({path.relative_to(output): path.read_bytes() for path in output.rglob("*") if path.is_file()})
    assert contents[0] == contents[1]


def test_no_structure_exports_an_empty_manifest(tmp_path):
    output = make_export(tmp_path, [None])
    assert manifest(output) == read_manifest(output) == []
    assert check_folder(output) == (0, 6)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [("Sr Ti O", "Sr Zr O", "species"), ("4.0000", "4.0010", "lattice"), ("0.5000", "0.5010", "sites")],
)
def test_a_file_that_reads_back_as_another_crystal_is_refused(tmp_path, old, new, complaint):
    path = tmp_path / "POSCAR"
    cell = poscar_cell(perovskite(), [38, 22, 8])
    write_poscar(path, cell, "x")
    check_poscar(path, cell)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ValueError, match=f"POSCAR: pymatgen reads (other|another) {complaint}"):
        check_poscar(path, cell)


def test_a_cif_is_read_as_it_stands(tmp_path):
    """Also near 1/3, which pymatgen's reader takes for exact unless told otherwise, and turned in space."""
    sites = np.array([[0.33334, 0.66661, 0.25], [0.66661, 0.33334, 0.75], [0.0, 0.0, 0.0]])
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    lattice = np.array([[3.1, 0, 0], [-1.55, 2.6847, 0], [0, 0, 5.2]]) @ turn
    cell = poscar_cell(Cell(lattice, np.array([30, 30, 8], np.uint8), sites), [30, 8])
    path = tmp_path / "x.cif"
    write_cif(path, cell)
    check_cif(path, cell)
    for complaint, other in (
        ("sites", Cell(cell.lattice, cell.elements, cell.fractional + 2e-6 * np.eye(3))),
        ("lattice", Cell(cell.lattice * (1 + 1e-6), cell.elements, cell.fractional)),
        ("species", Cell(cell.lattice, cell.elements[::-1], cell.fractional)),
    ):
        with pytest.raises(ValueError, match=f"x.cif: pymatgen reads (other|another) {complaint}"):
            check_cif(path, other)


def test_any_cell_goes_round(tmp_path):
    """Random cells of either hand, with sites at and near the faces, known crystals, and one as skewed as they come."""
    random = np.random.default_rng(1)
    cells = known_crystals()
    for n in range(2, 14):
        sites = np.round(random.random((n, 3)), int(random.integers(2, 9)))
        sites[0] = [0, 1 - 1e-9, -1e-12]
        elements = random.choice([3, 8, 9, 12, 26, 38, 57], n).astype(np.uint8)
        cells.append(Cell(random.normal(scale=3, size=(3, 3)) + 5 * np.eye(3)[random.permutation(3)], elements, sites))
    cells.append(Cell(np.array([[4, 0, 0], [11.7, 3.9, 0], [-7.5, 9.1, 4.2]]), cells[4].elements, cells[4].fractional))
    output = make_export(tmp_path, cells)
    assert check_folder(output)[0] == len(cells)


def test_an_element_without_a_potential_costs_the_vasp_folder_alone(tmp_path):
    polonium = Cell(3.3 * np.eye(3), np.array([84], np.uint8), np.zeros((1, 3)))
    output = make_export(tmp_path, [polonium, perovskite()])
    told = {line["formula"]: line for line in read_manifest(output)}
    assert told["Po"]["vasp_left_out"] == "MPRelaxSet has no potential for Po"
    assert told["Po"]["vasp"] is told["Po"]["vasp_input_set"] is None and told["SrTiO3"]["vasp_left_out"] is None
    assert [path.name for path in (output / "vasp").iterdir()] == [told["SrTiO3"]["id"]]
    assert (output / told["Po"]["espresso"] / "pw.in").exists()
    check_folder(output)


def test_every_input_set_makes_inputs(tmp_path):
    for name in INPUT_SETS:
        assert issubclass(getattr(sets, name), sets.VaspInputSet)
        (tmp_path / name).mkdir()
        settings = ExportSettings(inputs=("vasp",), vasp_input_set=name)
        output = make_export(tmp_path / name, [magnetic(), perovskite()], settings)
        assert [line["vasp_input_set"] for line in read_manifest(output)] == [name, name]
        check_folder(output)


def test_settings_are_refused_with_the_choices(tmp_path):
    with pytest.raises(ValueError, match=r"export\.vasp_input_set: 'MPRelax'; choose from .*'MPRelaxSet'"):
        ExportSettings(vasp_input_set="MPRelax")
    with pytest.raises(ValueError, match=r"export\.inputs: \['abinit'\]; choose from \['vasp', 'espresso'\]"):
        ExportSettings(inputs=("vasp", "abinit"))
    with pytest.raises(ValueError, match=r"export\.espresso\.cutoff_ry: 0; write a number above 0"):
        EspressoSettings(cutoff_ry=0)
    section = {"inputs": ["espresso"], "vasp_input_set": "MPScanRelaxSet", "espresso": {"cutoff_ry": 50}}
    settings = ExportSettings.from_config(section)
    assert settings == ExportSettings(("espresso",), "MPScanRelaxSet", EspressoSettings(cutoff_ry=50))


def test_inputs_are_a_choice(tmp_path):
    (tmp_path / "none").mkdir()
    bare = make_export(tmp_path / "none", [perovskite()], ExportSettings(inputs=()))
    assert not (bare / "vasp").exists() and not (bare / "espresso").exists()
    assert "First steps" not in (bare / "README.txt").read_text()
    assert read_manifest(bare)[0]["vasp_left_out"] == "inputs of VASP were not asked for"
    full = make_export(tmp_path, [perovskite()], ExportSettings(("vasp", "espresso"), "MPScanRelaxSet"))
    assert {path.name for path in next((full / "vasp").iterdir()).iterdir()} == {"POSCAR", "INCAR", "POTCAR.spec"}
    readme = (full / "README.txt").read_text()
    assert "PBE_54" in readme and "First steps with Quantum ESPRESSO" in readme


def test_both_manifests_say_the_same(tmp_path):
    columns = {"energy_above_hull_ev_per_atom": [0.0123456789, None], "potential": ["chgnet 0.4.2", None]}
    columns |= {"hull_source": ["chgnet 0.4.2 on mp.csv", None], "n_hull_references": [7, None]}
    columns |= {"relaxed_formation_energy_ev_per_atom": [-1.25, None], "hull_remark": ["no reference: TiO2", None]}
    output = make_export(tmp_path, [perovskite(), shuffled()], **columns)
    table = pq.read_table(output / "manifest.parquet")
    assert table.schema.names == MANIFEST.schema.names == list(manifest(output)[0]) == list(meanings())
    assert table["energy_above_hull_ev_per_atom"].to_pylist() == [None, 0.0123456789]
    assert table["relaxed_formation_energy_ev_per_atom"].to_pylist() == [None, -1.25]
    assert table["hull_remark"].to_pylist() == [None, "no reference: TiO2"]
    for line, row in zip(manifest(output), table.to_pylist(), strict=True):
        for name, value in row.items():
            if isinstance(value, float):
                assert float(line[name]) == pytest.approx(value, rel=1e-5)
            else:
                assert line[name] == ("" if value is None else str(value))
    assert "CHGNet (`potential`): Deng et al." in (output / "README.txt").read_text()
    (output / "manifest.csv").write_text((output / "manifest.csv").read_text().replace("-3.25", "-4.25", 1))
    with pytest.raises(ValueError, match=r"manifest\.csv: not the rows of manifest\.parquet"):
        read_manifest(output)


def test_the_folder_can_be_checked_from_the_command_line(tmp_path):
    output = make_export(tmp_path, [perovskite()])

    def check() -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "pipeline.export", "check", str(output)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    done = check()
    assert done.returncode == 0 and "1 candidates in 13 files, all whole" in done.stdout
    path = next((output / "cif").iterdir())
    path.write_text(path.read_text() + "#\n")
    done = check()
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == f"kimberlite: {path}: changed since the export"
    path.unlink()
    with pytest.raises(ValueError, match="cif: missing"):
        check_folder(output)
    with pytest.raises(ValueError, match="no SHA256SUMS; give the folder of an export"):
        check_folder(tmp_path)


def test_check_sums_that_leave_a_file_out_are_refused(tmp_path):
    """An empty list, one without each of its files in turn, and one beside a file of another export."""
    output = make_export(tmp_path, [perovskite()])
    sums = output / "SHA256SUMS"
    text = sums.read_text()
    sums.write_text("")
    with pytest.raises(ValueError, match=r"SHA256SUMS: does not name README\.txt and 4 more; copy the whole folder"):
        check_folder(output)
    lines = text.splitlines(keepends=True)
    assert len(lines) == 12
    for n, line in enumerate(lines):
        sums.write_text("".join(lines[:n] + lines[n + 1 :]))
        with pytest.raises(ValueError, match=f"does not name {re.escape(line.split()[1])}; .*copy the whole folder"):
            check_folder(output)
    sums.write_text(text)
    check_folder(output)
    (output / line.split()[1]).with_name("OUTCAR").write_text("a result")
    (output / "espresso" / "pseudo").mkdir()
    check_folder(output)
    for stray in ("POSCAR/POSCAR-MgO-1.vasp", "cif/MgO-1.cif", "vasp/MgO-1/INCAR", "espresso/MgO-1/pw.in"):
        (output / stray).parent.mkdir(exist_ok=True)
        (output / stray).write_text("of another export")
        with pytest.raises(ValueError, match=f"does not name {re.escape(stray)}; move it elsewhere"):
            check_folder(output)
        (output / stray).unlink()
    check_folder(output)


@pytest.mark.parametrize("bad", [b"", b"no sum", b"0123  README.txt", b"\xff\xfe\x00", b"0" * 63 + b"G  README.txt"])
def test_a_bad_line_of_the_check_sums_is_named_by_its_number(tmp_path, bad):
    output = make_export(tmp_path, [perovskite()])
    lines = (output / "SHA256SUMS").read_bytes().splitlines()
    (output / "SHA256SUMS").write_bytes(b"\n".join([*lines[:4], bad, *lines[5:]]) + b"\n")
    with pytest.raises(
        ValueError, match=r"SHA256SUMS: line 5 is '.*', not a SHA-256 and a name .*copy the whole folder"
    ):
        check_folder(output)


def test_sodium_nitride_is_no_missing_value_to_those_who_follow_the_readme(tmp_path):
    salt = known_crystals()[0]
    nitride = Cell(salt.lattice, np.array([11, 7], np.uint8), salt.fractional)
    output = make_export(tmp_path, [nitride])
    readme = " ".join((output / "README.txt").read_text().split())
    assert "pandas.read_csv the arguments keep_default_na=False, na_values=['']" in readme
    line = pd.read_csv(output / "manifest.csv", keep_default_na=False, na_values=[""]).iloc[0]
    assert line["formula"] == "NaN" and np.isnan(line["band_gap_ev"])
    assert pd.read_parquet(output / "manifest.parquet")["formula"].tolist() == ["NaN"]


def test_what_rejects_a_structure_is_no_column(tmp_path):
    """It would be empty in every line: such structures stay behind."""
    assert not {"matches", "rejected_by"} & set(MANIFEST.schema.names)


def test_the_config_knows_the_input_sets():
    schema = json.loads((ROOT / "workflow" / "schemas" / "config.schema.json").read_text())
    assert schema["properties"]["export"]["properties"]["vasp_input_set"]["enum"] == list(INPUT_SETS)
