"""Structures inside JSON records, and records of one large JSON array as JARVIS writes them."""

import gzip
import json
import zipfile

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.database.crystals import cell_of
from pipeline.database.records import MAX_RECORD, records
from pipeline.database.sources import read_source

TRICLINIC = Lattice.from_parameters(3, 4, 5, 80, 95, 110)
CRYSTAL = Structure(TRICLINIC, ["Na", "Cl"], [[0.1, 0.2, 0.3], [0.6, 0.7, 0.9]])
JARVIS = {
    "lattice_mat": TRICLINIC.matrix.tolist(),
    "elements": ["Na", "Cl"],
    "coords": CRYSTAL.cart_coords.tolist(),
    "cartesian": True,
}


@pytest.mark.parametrize(
    "value",
    [
        CRYSTAL.as_dict(),
        CRYSTAL.copy().add_oxidation_state_by_element({"Na": 1, "Cl": -1}).as_dict(),
        JARVIS,
        JARVIS | {"coords": CRYSTAL.frac_coords.tolist(), "cartesian": False},
        {"cell": [*TRICLINIC.abc, *TRICLINIC.angles], "el": ["Na", "Cl"], "frac": CRYSTAL.frac_coords.tolist()},
    ],
    ids=["pymatgen", "with charges", "JARVIS", "JARVIS, fractional", "parameters"],
)
def test_the_same_crystal_in_each_form(value):
    cell = cell_of(json.loads(json.dumps(value)))
    assert cell.elements.tolist() == [11, 17]
    np.testing.assert_allclose(cell.fractional, CRYSTAL.frac_coords, atol=1e-12)
    np.testing.assert_allclose(cell.lattice @ cell.lattice.T, TRICLINIC.matrix @ TRICLINIC.matrix.T, atol=1e-9)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "x",
        {},
        {"sites": 3},
        JARVIS | {"coords": [[0, 0]]},
        JARVIS | {"lattice_mat": [[0, 0, 0]] * 3},
        JARVIS | {"elements": ["Na", "Qq"]},
        Structure(TRICLINIC, [{"Na": 0.5, "K": 0.5}], [[0, 0, 0]]).as_dict(),
        Structure(TRICLINIC, [{"Na": 0.5}], [[0, 0, 0]]).as_dict(),
    ],
)
def test_what_is_no_cell_says_so(value):
    with pytest.raises(ValueError, match=r"^no cell: "):
        cell_of(value)


ENTRIES = [{"jid": f"J-{i}", "atoms": JARVIS, "e": {"f": -i / 10}, "note": "[{]}" * i} for i in range(300)]


def as_zip(path, text):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("jdft_3d.json", text)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.json", lambda path, text: path.write_text(text)),
        ("a.json.gz", lambda path, text: path.write_bytes(gzip.compress(text.encode()))),
        ("a.json.zip", as_zip),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_gives_its_objects(tmp_path, name, write, indent):
    write(tmp_path / name, json.dumps(ENTRIES, indent=indent))
    assert list(records(tmp_path / name, {"jid", "e"})) == list(enumerate(ENTRIES, start=1))
    columns = {"id": "jid", "structure": "atoms", "formation_energy_ev_per_atom": {"column": "e.f", "unit": "eV/atom"}}
    rows = list(read_source({"name": "j", "kind": "table", "path": str(tmp_path / name), "columns": columns}))
    assert [row.id for row in rows] == [f"J-{i}" for i in range(300)] and not any(row.reason for row in rows)
    assert rows[7].amounts == {11: 1, 17: 1} and rows[7].targets["formation_energy_ev_per_atom"] == -0.7
    assert rows[7].targets["volume_a3_per_atom"] == pytest.approx(CRYSTAL.volume / 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[{}", "object 2 of the array is not whole"),
        ('[{"a": 1}, {"a": ', "object 2 of the array is not whole"),
        ('{"a": 1}', "no JSON array of objects; one object a line goes by the name .jsonl"),
        ("", "no JSON array"),
        ('[{"b": 1}]', r"no column \['a'\]"),
        ('[{"a": 1}]  [{"a": 2}]', "goes on after its array of 1 objects"),
        ('[{"a": 1}]' + " " * (1 << 17) + "x", "goes on after its array of 1 objects"),
        ('[{"a": "' + "x" * 5 * MAX_RECORD, "object 1 of the array is not whole"),
    ],
)
def test_an_array_that_is_none(tmp_path, text, expected):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=expected):
        list(records(tmp_path / "x.json", {"a"}))


def test_what_is_no_object_costs_its_row(tmp_path):
    (tmp_path / "x.json").write_text('[{"a": 1}, 3, [1], {"a": 2}]')
    reason = "no JSON object"
    assert list(records(tmp_path / "x.json", {"a"})) == [(1, {"a": 1}), (2, reason), (3, reason), (4, {"a": 2})]


def test_a_zip_with_its_folder(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.json.zip", "w") as archive:
        archive.mkdir("folder")
        archive.writestr("__MACOSX/folder/._x.json", b"\0\5\x16\7")
        archive.writestr("folder/x.json", '[{"a": 1}] \n')
    assert list(records(tmp_path / "x.json.zip", {"a"})) == [(1, {"a": 1})]


@pytest.mark.parametrize(("place", "value"), [(8, 1), (10, 9)], ids=["encrypted", "packed by deflate64"])
def test_a_zip_that_cannot_be_unpacked(tmp_path, place, value):
    as_zip(tmp_path / "x.json.zip", '[{"a": 1}]')
    content = bytearray((tmp_path / "x.json.zip").read_bytes())
    content[content.find(b"PK\x01\x02") + place] = content[place - 2] = value
    (tmp_path / "x.json.zip").write_bytes(content)
    with pytest.raises(ValueError, match="cannot be unpacked"):
        list(records(tmp_path / "x.json.zip", {"a"}))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.csv", "f,e.v\nNaCl,-1\n"),
        ("x.jsonl", '{"f": "NaCl", "e.v": -1}'),
        ("y.jsonl", '{"f": "NaCl", "e": {"v": -1}}'),
    ],
)
def test_a_dot_may_be_part_of_a_name(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    columns = {"formula": "f", "formation_energy_ev_per_atom": {"column": "e.v", "unit": "eV/atom"}}
    (row,) = read_source({"name": "x", "kind": "table", "path": str(tmp_path / name), "columns": columns})
    assert row.targets == {"formation_energy_ev_per_atom": -1.0}


def test_a_structure_of_another_formula_is_refused(tmp_path):
    lines = [json.dumps({"f": formula, "s": JARVIS}) + "\n" for formula in ("Na2Cl2", "NaCl2")]
    (tmp_path / "x.jsonl").write_text("".join(lines))
    columns = {"formula": "f", "structure": "s"}
    rows = list(read_source({"name": "x", "kind": "table", "path": str(tmp_path / "x.jsonl"), "columns": columns}))
    assert [row.reason for row in rows] == [None, "the sites of the structure do not make up the formula"]
