"""Sources and cleaning: same entries from every kind of file, a reason for each row that falls, errors that help."""

import csv
import gzip
import io
import json
import re
import tarfile
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.cells import Cell, from_table
from pipeline.composition import Compositions
from pipeline.database.cleaning import PAPER_VOCABULARY, Cleaning, clean, symbols_to_numbers
from pipeline.database.crystals import MAX_SITES, lattice_from_parameters
from pipeline.database.records import MAX_ID_LENGTH, MAX_RECORD
from pipeline.database.schema import ENTRIES, REJECTS
from pipeline.database.sources import read_source
from pipeline.tables import provenance, read, read_json
from tests.ingest import ingest

OFF = {
    "keep_lowest_energy": False,
    "drop_single_elements": False,
    "max_elements": None,
    "max_atoms_per_element": None,
    "drop_elements": [],
    "formation_energy_sigma": None,
    "vocabulary": "data",
}
COLUMNS = {
    "id": "name",
    "formula": "formula",
    "formation_energy_ev_per_atom": {"column": "energy", "unit": "eV/atom"},
    "band_gap_ev": {"column": "gap", "unit": "eV"},
}
RECORDS = [
    {"name": "a", "formula": "Na2Cl2", "energy": -2.1, "gap": 5.0},
    {"name": "b", "formula": "Li3Fe2(PO4)3", "energy": None, "gap": 0.0},
    {"name": "c", "formula": "NaN", "energy": -0.5, "gap": None},
]


class Run:
    """One ingest in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, name, content=None, columns=COLUMNS, share=1.0, cleaning=None, **source):
        """Ingest a file of that name and content; returns entries, rejects and counts."""
        if content is not None:
            (self.folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        source = {"kind": "table", "columns": columns, "path": str(self.folder / name), **source}
        return self.source({key: value for key, value in source.items() if value is not None}, share, cleaning)

    def source(self, source, share=1.0, cleaning=None):
        out = self.folder / "out"
        ingest(out, [{"name": "mine", **source}], {**OFF, **(cleaning or {})}, share)
        counts = read_json(out / "cleaning.json")
        entries, rejects = read(out / "entries.parquet", ENTRIES), self.rejects()
        assert counts["rows_in"] == counts["rejected"] + sum(counts["dropped"].values()) + counts["rows_out"]
        assert counts["rows_out"] == entries.num_rows and counts["rejected"] == len(rejects)
        return entries.to_pylist(), rejects, counts

    def rejects(self):
        return read(self.folder / "out" / "mine" / "rejects.parquet", REJECTS).to_pylist()


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def as_csv(records, **options) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), **options)
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def as_jsonl(records) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


def as_parquet(records) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), buffer)
    return buffer.getvalue()


def brief(entries):
    return [(e["id"], e["formula"], e["formation_energy_ev_per_atom"], e["band_gap_ev"]) for e in entries]


EXPECTED = [("b", "Li3Fe2P3O12", None, 0.0), ("a", "NaCl", -2.1, 5.0), ("c", "Na" + "N", -0.5, None)]


# Sources --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", as_csv(RECORDS)),
        ("x.CSV", as_csv(RECORDS)),
        ("x.csv.gz", gzip.compress(as_csv(RECORDS).encode(), mtime=0)),
        ("X.CSV.GZ", gzip.compress(as_csv(RECORDS).encode(), mtime=0)),
        ("x.csv", as_csv(RECORDS, lineterminator="\n", quoting=csv.QUOTE_ALL)),
        ("x.csv", "\ufeff" + as_csv(RECORDS)),
        ("x.csv", as_csv(RECORDS).replace("\r\n", "\r\n\r\n")),
        ("v1.2.x.csv", as_csv(RECORDS).rstrip()),
        ("x.csv", as_csv([{"note": "a,\nb", **record} for record in RECORDS])),
        ("x.jsonl", as_jsonl(RECORDS)),
        ("x.ndjson", as_jsonl(RECORDS).replace("\n", "\r\n")),
        ("x.jsonl", as_jsonl(RECORDS).replace("\n", "\n\n")),
        ("x.jsonl", as_jsonl([{k: v for k, v in record.items() if v is not None} for record in RECORDS])),
        ("x.jsonl.gz", gzip.compress(as_jsonl(RECORDS).encode(), mtime=0)),
        ("x.parquet", as_parquet(RECORDS)),
    ],
)
def test_every_kind_of_file_gives_the_same_entries(run, name, content):
    entries, rejects, counts = run(name, content)
    assert sorted(brief(entries)) == sorted(EXPECTED, key=lambda row: row[0])
    assert rejects == [] and counts["rows_in"] == 3
    assert [entry["formula"] for entry in entries] == sorted(entry["formula"] for entry in entries)
    assert {entry["volume_a3_per_atom"] for entry in entries} == {None}
    assert entries[0]["lattice_angstrom"] is None


def test_entries_carry_their_provenance(run):
    run("x.csv", as_csv(RECORDS))
    assert provenance(run.folder / "out" / "entries.parquet") == {"table": "entries", "seed": 1}


def test_same_input_same_bytes_whatever_the_order_of_rows(run):
    run("x.csv", as_csv(RECORDS))
    first = (run.folder / "out" / "entries.parquet").read_bytes()
    run("x.csv", as_csv(RECORDS[::-1]))
    assert (run.folder / "out" / "entries.parquet").read_bytes() == first


def test_ids_default_to_file_and_line(run):
    entries, _, _ = run("x.csv", "formula,z\nNaCl,1\n\nMgO,2\n", {"formula": "formula"})
    assert {entry["formula"]: entry["id"] for entry in entries} == {"NaCl": "x.csv:2", "MgO": "x.csv:4"}


def test_numbers_as_ids_zero_included(run):
    records = [{"name": 0, "formula": "NaCl"}, {"name": 1, "formula": "MgO"}]
    columns = {"id": "name", "formula": "formula"}
    for name, content in (("x.jsonl", as_jsonl(records)), ("x.parquet", as_parquet(records))):
        entries, rejects, _ = run(name, content, columns)
        assert sorted(entry["id"] for entry in entries) == ["0", "1"] and not rejects


@pytest.mark.parametrize(
    ("target", "unit", "value", "expected"),
    [
        ("formation_energy_ev_per_atom", "eV/atom", -2.5, -2.5),
        ("formation_energy_ev_per_atom", "meV/atom", -250.0, -0.25),
        ("formation_energy_ev_per_atom", "kJ/mol", 96.48533212, 1.0),
        ("formation_energy_ev_per_atom", "kJ/mol", -192.97066424, -2.0),
        ("energy_above_hull_ev_per_atom", "meV/atom", 50.0, 0.05),
        ("band_gap_ev", "meV", 1120.0, 1.12),
        ("volume_a3_per_atom", "nm^3/atom", 0.0224, 22.4),
    ],
)
def test_units(run, target, unit, value, expected):
    columns = {"formula": "formula", target: {"column": "x", "unit": unit}}
    entries, _, _ = run("x.csv", f"formula,x\nNaCl,{value}\n", columns)
    assert entries[0][target] == pytest.approx(expected, rel=1e-12)


def test_unknown_unit_is_named_with_the_known(run):
    columns = {"formula": "formula", "band_gap_ev": {"column": "x", "unit": "Ry"}}
    with pytest.raises(ValueError, match=r"columns\.band_gap_ev\.unit: 'Ry' is unknown; one of \['eV', 'meV'\]"):
        run("x.csv", "formula,x\nNaCl,1\n", columns)


@pytest.mark.parametrize("missing", ["", " ", "nan", "NaN", "N/A", "None", "null", "NA"])
def test_a_missing_target_is_null(run, missing):
    entries, rejects, _ = run("x.csv", f"name,formula,energy,gap\na,NaCl,{missing},1\n")
    assert brief(entries) == [("a", "NaCl", None, 1.0)] and not rejects
    entries, _, _ = run("x.jsonl", '{"name": "a", "formula": "NaCl", "energy": NaN, "gap": 1}\n')
    assert brief(entries) == [("a", "NaCl", None, 1.0)]


GOOD = "good,MgO,-3,4"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("x,NaCl,low,1", "column 'energy': 'low' is no number"),
        ("x,NaCl,inf,1", "column 'energy': 'inf' is not finite"),
        ("x,NaCl,1,-1e999", "column 'gap': '-1e999' is not finite"),
        ('x,NaCl,"1,5",1', "column 'energy': '1,5' is no number"),
        ("x,Xx2O3,1,1", "'Xx' is no element"),
        ("x,,1,1", "formula '': cannot be read"),
        ("x,Fe0.5O,1,1", "amount 0.5 is fractional"),
        ("x,Fe" + "9" * 190 + ",1,1", "above 65535"),
        ("x," + "Fe2O3" * 1000 + ",1,1", "5000 characters"),
        (",NaCl,1,1", "column 'name' is empty"),
        ("good,NaCl,1,1", "id 'good' is already taken at line 2"),
        ("x,NaCl,1", "3 fields where the header has 4"),
        ("x,NaCl,1,1,1", "5 fields where the header has 4"),
        ("x" * (MAX_ID_LENGTH + 1) + ",NaCl,1,1", "201 characters"),
        ("x," + "N" * 1_000_000 + ",1,1", "no CSV: field larger than field limit"),
        ("x," + "N" * 10_000_000 + ",1,1", f"no CSV: the line has more than {MAX_RECORD} characters"),
        ("x,NaCl,1,1" + "," * 2_000_000, "2000004 fields where the header has 4"),
        ("x,NaCl\x00,1,1", "cannot be read at"),
        ('x,"Na"Cl,1,1', "no CSV: ',' expected"),
    ],
)
def test_a_bad_row_of_csv_is_rejected_with_file_line_and_reason(run, bad, reason):
    entries, rejects, counts = run("x.csv", f"name,formula,energy,gap\n{GOOD}\n{bad}\nlast,KBr,1,1\n")
    assert [entry["id"] for entry in entries] == ["last", "good"]
    assert [(row["file"], row["line"]) for row in rejects] == [("x.csv", 3)]
    assert reason in rejects[0]["reason"] and len(rejects[0]["reason"]) < 500
    assert counts["rejected"] == 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("{", "no JSON"),
        ("not json", "no JSON"),
        ("[1, 2]", "no JSON object"),
        ("null", "no JSON object"),
        ("[" * 200_000, "no JSON"),
        ('{"name": "x", "formula": "NaCl", "energy": ' + "1" * 400 + "}", "is no number"),
        ('{"name": "x", "formula": "NaCl", "energy": ' + "1" * 5000 + "}", "no JSON"),
        ('{"name": "x", "formula": "NaCl", "energy": [1]}', "'[1]' is no number"),
        ('{"name": "x", "formula": "NaCl", "energy": "\\ud800"}', "is no number"),
        ('{"name": "x", "formula": "NaCl", "energy": Infinity}', "is not finite"),
        ('{"name": "x", "formula": {"Na": 1}, "energy": 1}', "cannot be read"),
        ('{"name": "x", "formula": "Na\\ud800", "energy": 1}', "cannot be read"),
        ('{"name": "x", "energy": 1}', "formula '': cannot be read"),
        ('{"formula": "NaCl", "energy": 1}', "column 'name' is empty"),
        ('{"name": "' + "x" * 1_000_000 + '", "formula": "NaCl"}', "1000000 characters"),
        ('{"name": "' + "x" * 10_000_000 + '", "formula": "NaCl"}', f"the line has more than {MAX_RECORD} characters"),
    ],
)
def test_a_bad_line_of_jsonl_is_rejected_with_file_line_and_reason(run, bad, reason):
    good = json.dumps({"name": "good", "formula": "MgO", "energy": -3, "gap": 4})
    entries, rejects, _ = run("x.jsonl", f"{good}\n{bad}\n{good.replace('good', 'last')}\n")
    assert [entry["id"] for entry in entries] == ["good", "last"]
    assert [(row["file"], row["line"]) for row in rejects] == [("x.jsonl", 2)]
    assert reason in rejects[0]["reason"] and len(rejects[0]["reason"]) < 300


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"formula": "\x1b[31mNa" * 50}, "350 characters, 200 can be read"),
        ({"formula": "Na\x00Cl"}, r"cannot be read at '\x00Cl'"),
        ({"energy": "\x1b[31m"}, r"'\x1b[31m' is no number"),
        ({"energy": "\u202e1"}, r"'\u202e1' is no number"),
        ({"name": "a\x1b[31mb"}, r"column 'name' holds characters that cannot be printed: a\x1b[31mb"),
        ({"name": "a\u2028b"}, r"cannot be printed: a\u2028b"),
    ],
)
def test_a_reason_never_steers_the_terminal(run, change, reason):
    good = {"name": "good", "formula": "MgO", "energy": -3, "gap": 4}
    entries, rejects, _ = run("x.jsonl", as_jsonl([good, {**good, "name": "bad", **change}]))
    assert [entry["id"] for entry in entries] == ["good"]
    assert reason in rejects[0]["reason"] and rejects[0]["reason"].isprintable() and rejects[0]["id"].isprintable()


def test_a_value_that_its_unit_makes_infinite(run):
    columns = {"formula": "formula", "volume_a3_per_atom": {"column": "x", "unit": "nm^3/atom"}}
    _, rejects, _ = run("x.csv", "formula,x\nNaCl,1e307\nMgO,1\n", columns)
    assert [row["reason"] for row in rejects] == ["column 'x': '1e307' is not finite"]


def test_a_bad_row_of_parquet_is_rejected_with_its_number(run):
    records = [*RECORDS, {"name": "d", "formula": "Qq", "energy": 1.0, "gap": None}]
    entries, rejects, _ = run("x.parquet", as_parquet(records))
    assert len(entries) == 3
    assert [(row["file"], row["line"], row["id"]) for row in rejects] == [("x.parquet", 4, "d")]


def test_lines_count_embedded_newlines(run):
    text = 'note,name,formula,energy,gap\n"a\nb",a,NaCl,1,1\n"c\r\n\nd",c,Zz,1,1\n,e,Yy,1,1\n'
    entries, rejects, _ = run("x.csv", text)
    assert entries[0]["id"] == "a"
    assert [row["line"] for row in rejects] == [4, 7]


def test_latin_1_bytes(run):
    """A note that is not UTF-8 costs nothing, and in an id one character."""
    entries, rejects, _ = run("x.csv", "name,formula,energy,gap,note\nMüller,NaCl,1,1,Bäcker\n".encode("latin-1"))
    assert [entry["id"] for entry in entries] == ["M\ufffdller"] and not rejects


def test_surrogates_in_an_id(run):
    entries, _, _ = run("x.jsonl", '{"name": "a\\ud800", "formula": "NaCl", "energy": 1, "gap": 1}\n')
    assert [entry["id"] for entry in entries] == ["a?"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.csv", "", "the file is empty"),
        ("x.csv", "name,formula,energy,gap\n", "holds no rows"),
        ("x.csv", "name,formula,energy,gap,gap\na,NaCl,1,1,2\n", r"column \['gap'\] stands twice"),
        ("x.csv", as_csv(RECORDS) + 'd,KBr,1,"1\ne,KCl,1,1\n', "a quote in line 5 is not closed"),
        ("x.csv", as_csv(RECORDS) + 'd,"KBr,1,1\ne,"KCl",1,1\n', "a quote in line 5 is not closed"),
        ("x.csv", as_csv(RECORDS) + 'd,"KBr,1,1\n' + "e,KCl,1,1\n" * 20_000, "a quote in line 5 is not closed"),
        ("x.csv", "x" * 1_000_000, "the header is no CSV"),
        ("x.jsonl", "", "holds no rows"),
        ("x.jsonl", "\n\n", "holds no rows"),
        ("x.parquet", as_parquet(RECORDS)[:100], "not a whole Parquet file"),
        ("x.parquet", b"", "not a whole Parquet file"),
        (
            "x.csv",
            "name,composition,energy,gap\na,NaCl,1,1\n",
            r"no column \['formula'\]; the file has .*compos",
        ),
        ("x.jsonl", '{"name": "a"}\n', r"no column \['energy', 'formula', 'gap'\]"),
        ("x.parquet", as_parquet([{"name": "a"}]), r"no column \['energy', 'formula', 'gap'\]"),
        ("x.csv.gz", gzip.compress(as_csv(RECORDS * 99).encode(), mtime=0)[:-40], "damaged or cut short"),
        ("x.csv.gz", as_csv(RECORDS), "damaged or cut short"),
        ("x.jsonl.gz", gzip.compress(as_jsonl(RECORDS).encode(), mtime=0)[:40], "damaged or cut short"),
        ("x.xlsx", b"PK", "unknown kind of table; .csv, .jsonl"),
        ("x", b"", "unknown kind of table"),
    ],
)
def test_a_bad_file_is_named_with_its_mend(run, name, content, reason):
    with pytest.raises(ValueError, match=reason) as error:
        run(name, content)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_bits_flipped_in_gz(run):
    whole = gzip.compress(as_csv([{**RECORDS[0], "name": f"n{i}"} for i in range(200)]).encode())
    for place in range(12, len(whole), 11):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r"x\.csv\.gz"):
            run("x.csv.gz", bytes(flipped))


def test_missing_file(run):
    with pytest.raises(ValueError, match=r"database\.sources: '.*no\.csv' does not exist; set it to your file"):
        run("no.csv")


def test_too_many_rejects(run):
    text = "name,formula,energy,gap\na,NaCl,1,1\nb,Qq,1,1\nc,MgO,1,1\nd,KBr,1,1\n"
    assert len(run("x.csv", text, share=0.25)[0]) == 3
    before = (run.folder / "out" / "entries.parquet").read_bytes()
    with pytest.raises(
        ValueError,
        match=r"1 of 4 rows cannot be read, more than database\.max_rejected_share = 0.24"
        r".*x\.csv line 3: .*'Qq' is no element.*refused\.parquet",
    ):
        run("x.csv", text, share=0.24)
    refused = read(run.folder / "out" / "mine" / "refused.parquet", REJECTS).to_pylist()
    assert [row["line"] for row in refused] == [3]
    assert (run.folder / "out" / "entries.parquet").read_bytes() == before


def test_every_row_bad(run):
    with pytest.raises(ValueError, match="none of 0 readable rows"):
        run("x.csv", "name,formula,energy,gap\na,Qq,1,1\n", share=1.0)


def test_nothing_left_after_cleaning(run):
    with pytest.raises(ValueError, match=r"database\.cleaning: none of 3 readable rows is left.*'excluded_element': 3"):
        run("x.csv", as_csv(RECORDS), cleaning={"drop_elements": ["Na", "Li"]})


# Structures -----------------------------------------------------------------------------------------------------------

CIF = """data_x
_cell_length_a {a}
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Cs1 Cs 0 0 0 1
Cl1 Cl {x} 0.5 0.5 {occupancy}
"""
POSCAR = "CsCl\n1.0\n4 0 0\n0 4 0\n0 0 4\n{symbols}2 1\ndirect\n0 0 0\n0.5 0.5 0.5\n0.5 0 0.5\n"
FILES = {
    "__MACOSX/deep/._POSCAR": b"\0\5\x16\7",
    "deep/.DS_Store": b"\0\0\0\1Bud1",
    "good.cif": CIF.format(a=4, x=0.5, occupancy=1),
    "deep/POSCAR": POSCAR.format(symbols="O Ti\n"),
    "half.cif": CIF.format(a=4, x=0.5, occupancy=0.5),
    "close.vasp": POSCAR.format(symbols="O Ti\n").replace("0.5 0.5 0.5", "0.05 0 0"),
    "flat.vasp": POSCAR.format(symbols="O Ti\n").replace("0 0 4", "0 0 0.01"),
    "nameless.vasp": POSCAR.format(symbols=""),
    "garbage.cif": "garbage",
    "binary.vasp": b"\x00\xff" * 50,
    "empty": "",
    "readme.md": "# Structures\n",
}
REASONS = {
    "half.cif": "partial occupancies",
    "close.vasp": "atoms overlap: 0.200 angstrom",
    "flat.vasp": "cell volume is 0.16 cubic angstrom",
    "nameless.vasp": "Elements in POSCAR cannot be determined",
    "garbage.cif": "cannot be read as cif",
    "binary.vasp": "cannot be read as poscar",
    "empty": "cannot be read as poscar",
    "readme.md": "cannot be read as poscar",
}


def content(text) -> bytes:
    return text if isinstance(text, bytes) else text.encode()


def as_folder(folder):
    for name, text in FILES.items():
        (folder / "cells" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "cells" / name).write_bytes(content(text))
    return folder / "cells"


def as_zip(folder):
    with zipfile.ZipFile(folder / "cells.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.mkdir("deep")
        for name, text in FILES.items():
            archive.writestr(name, content(text))
    return folder / "cells.zip"


def as_tar(folder, mode="w:gz", name="cells.tar.gz"):
    with tarfile.open(folder / name, mode) as archive:
        for member, text in FILES.items():
            info = tarfile.TarInfo(member)
            info.size = len(content(text))
            archive.addfile(info, io.BytesIO(content(text)))
    return folder / name


@pytest.mark.parametrize("make", [as_folder, as_zip, as_tar, lambda folder: as_tar(folder, "w:xz", "cells.tar.xz")])
def test_structures_of_folder_and_archives(run, make):
    path = make(run.folder)
    entries, rejects, _ = run.source({"kind": "structures", "path": str(path)})
    assert [(entry["id"], entry["formula"], entry["volume_a3_per_atom"]) for entry in entries] == [
        ("good.cif", "CsCl", pytest.approx(32)),
        ("deep/POSCAR", "TiO2", pytest.approx(64 / 3)),
    ]
    assert {row["id"] for row in rejects} == REASONS.keys()
    for row in rejects:
        assert REASONS[row["id"]] in row["reason"] and row["line"] is None and row["file"] == row["id"]
    cells = from_table(read(run.folder / "out" / "entries.parquet", ENTRIES))
    assert cells[0].elements.tolist() == [55, 17]
    assert cells[1].elements.tolist() == [8, 8, 22]
    assert np.allclose(cells[1].fractional, [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0.5]])
    assert np.allclose(cells[1].lattice, 4 * np.eye(3))


def test_damaged_archives(run):
    for path in (as_zip(run.folder), as_tar(run.folder), as_tar(run.folder, "w:xz", "cells.tar.xz")):
        whole = path.read_bytes()
        for damaged in (whole[: len(whole) // 2], b"", bytes(b ^ (i % 97 == 60) for i, b in enumerate(whole))):
            path.write_bytes(damaged)
            try:
                run.source({"kind": "structures", "path": str(path)})
            except ValueError as error:
                assert str(path) in str(error)


def test_the_check_sum_of_a_packed_tar_is_read(run):
    path = as_tar(run.folder)
    whole = bytearray(path.read_bytes())
    whole[-5] ^= 1
    path.write_bytes(whole)
    with pytest.raises(ValueError, match=r"cells\.tar\.gz: the archive is damaged .*CRC"):
        run.source({"kind": "structures", "path": str(path)})


JSON_CELL = {"id": "m1", "cell": [4, 4, 4, 90, 90, 90], "el": ["Cs", "Cl"], "frac": [[0, 0, 0], [0.5, 0.5, 0.5]]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"el": []}, "no cell"),
        ({"el": [], "frac": []}, "cell has 0 sites"),
        ({"el": ["Cs", "Qq"]}, "no cell: KeyError 'Qq'"),
        ({"el": "CsCl"}, "no cell"),
        ({"el": [["Cs"], "Cl"]}, "no cell"),
        ({"el": None}, "no cell"),
        ({"frac": [[0, 0, 0], [0.5, 0.5]]}, "no cell"),
        ({"frac": [[0, 0, 0], [0.5, 0.5, None]]}, "not finite|no cell"),
        ({"frac": [[0, 0, 0], ["a", "b", "c"]]}, "no cell"),
        ({"frac": [[0, 0, 0], [1, 1, 1]]}, "atoms overlap: 0.000"),
        ({"cell": [4, 4, 4, 90, 90, 0]}, "no cell"),
        ({"cell": [4, 4, 4, 90, 90, 180]}, "no cell|volume"),
        ({"cell": [4, 4, 4, 10, 90, 170]}, "no cell"),
        ({"cell": [4, 4, 4, 90, 90]}, "no cell"),
        ({"cell": [4, 4, 1e-9, 90, 90, 90]}, "cell volume"),
        ({"cell": [0, 0, 0, 90, 90, 90]}, "cell volume"),
        ({"cell": [1e200, 1e200, 1e200, 90, 90, 90]}, "cell volume is inf"),
        ({"cell": [float("nan"), 4, 4, 90, 90, 90]}, "not finite"),
        ({"el": ["H"] * (MAX_SITES + 1), "frac": [[0, 0, i / 3000] for i in range(MAX_SITES + 1)]}, "2001 sites"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_structures_of_json_lines(run, change, reason):
    text = as_jsonl([JSON_CELL, {**JSON_CELL, "id": "bad", **change}, {**JSON_CELL, "id": "m2"}])
    entries, rejects, _ = run("cells.jsonl", text, None, kind="structures")
    assert [(entry["id"], entry["formula"], entry["volume_a3_per_atom"]) for entry in entries] == [
        ("m1", "CsCl", pytest.approx(32.0)),
        ("m2", "CsCl", pytest.approx(32.0)),
    ]
    assert [(row["file"], row["line"], row["id"]) for row in rejects] == [("cells.jsonl", 2, "bad")]
    assert re.search(reason, rejects[0]["reason"])


def test_deuterium_in_a_structure_is_hydrogen(run):
    text = as_jsonl([{**JSON_CELL, "el": ["D", "Cl"]}])
    assert run("cells.jsonl", text, None, kind="structures")[0][0]["formula"] == "HCl"


def test_a_table_with_structures_beside_it(run):
    cells = [
        {**JSON_CELL, "id": "a", "el": ["Na", "Cl"]},
        {**JSON_CELL, "id": "b"},
    ]  # b is a crystal of another compound
    (run.folder / "cells.jsonl.gz").write_bytes(gzip.compress(as_jsonl(cells).encode()))
    entries, _, _ = run("x.csv", as_csv(RECORDS), structures=str(run.folder / "cells.jsonl.gz"))
    sites = {entry["id"]: entry["site_elements"] for entry in entries}
    assert sites == {"a": [11, 17], "b": None, "c": None}
    with pytest.raises(ValueError, match=r"database\.sources: structures '.*no.zip' does not exist"):
        run("x.csv", as_csv(RECORDS), structures=str(run.folder / "no.zip"))


def test_structures_of_another_kind(run):
    (run.folder / "cells.txt").write_text("x")
    with pytest.raises(ValueError, match=r"cells\.txt: no folder, zip, tar or \.jsonl"):
        run.source({"kind": "structures", "path": str(run.folder / "cells.txt")})


def test_lattice_from_parameters_is_pymatgens():
    from pymatgen.core import Lattice

    for parameters in ([3, 4, 5, 90, 90, 90], [3, 3, 5, 90, 90, 120], [3, 4, 5, 71, 82, 103]):
        ours = lattice_from_parameters(*parameters)
        theirs = Lattice.from_parameters(*parameters).matrix
        assert np.allclose(ours @ ours.T, theirs @ theirs.T)
        assert Cell(ours, np.array([1]), np.zeros((1, 3))).volume == pytest.approx(abs(np.linalg.det(theirs)))


# Cleaning -------------------------------------------------------------------------------------------------------------


def cleaned(formulas, energies=None, ids=None, **rules):
    """Formulas kept and rows dropped."""
    batch = Compositions.from_formulas(formulas).reduced()
    ids = np.array(ids if ids else [f"{i:03d}" for i in range(len(formulas))])
    energies = np.array([np.nan] * len(formulas) if energies is None else energies, dtype=float)
    kept, dropped = clean(batch, ids, energies, np.zeros(len(batch), int), Cleaning(**{**OFF, **rules}))
    assert len(kept) + sum(dropped.values()) == len(formulas)
    assert kept.tolist() == sorted(kept.tolist())
    return [formulas[i] for i in kept], dropped


def test_no_rule_keeps_all():
    assert cleaned(["Fe", "NaCl", "NaCl", "He2O99"]) == (["Fe", "NaCl", "NaCl", "He2O99"], {})


@pytest.mark.parametrize(
    ("rules", "kept", "dropped"),
    [
        ({"drop_single_elements": True}, ["NaCl", "HeO9", "KNaLiO"], {"single_element": 1}),
        ({"max_elements": 3}, ["Fe2", "NaCl", "HeO9"], {"too_many_elements": 1}),
        ({"max_elements": 4}, ["Fe2", "NaCl", "HeO9", "KNaLiO"], {"too_many_elements": 0}),
        ({"max_atoms_per_element": 8}, ["Fe2", "NaCl", "KNaLiO"], {"too_many_atoms_of_an_element": 1}),
        ({"max_atoms_per_element": 9}, ["Fe2", "NaCl", "HeO9", "KNaLiO"], {"too_many_atoms_of_an_element": 0}),
        ({"drop_elements": ["He", "Li"]}, ["Fe2", "NaCl"], {"excluded_element": 2}),
        ({"vocabulary": "paper"}, ["Fe2", "NaCl", "KNaLiO"], {"outside_vocabulary": 1}),
    ],
)
def test_each_rule_alone(rules, kept, dropped):
    assert cleaned(["Fe2", "NaCl", "HeO9", "KNaLiO"], **rules) == (kept, dropped)


def test_counts_are_of_the_reduced_formula():
    assert cleaned(["Na9Cl9"], max_atoms_per_element=8)[0] == ["Na9Cl9"]


def test_a_row_is_counted_under_the_first_rule():
    rules = {"drop_single_elements": True, "drop_elements": ["He"], "vocabulary": "paper"}
    dropped = {"single_element": 1, "excluded_element": 1, "outside_vocabulary": 1}
    assert cleaned(["He", "HeO", "PoO", "NaCl"], **rules) == (["NaCl"], dropped)


@pytest.mark.parametrize(
    ("energies", "ids", "kept"),
    [
        ([-1, -2, -1.5], "abc", "b"),
        ([-1, np.nan, np.nan], "cab", "c"),
        ([np.nan, np.nan, 5], "abc", "c"),
        ([np.nan, np.nan, np.nan], "cab", "a"),
        ([-1, -1, -1], "bca", "a"),
    ],
)
def test_lowest_energy_is_kept(energies, ids, kept):
    batch = Compositions.from_formulas(["Na2Cl2", "NaCl", "ClNa"]).reduced()
    rules = Cleaning(**{**OFF, "keep_lowest_energy": True})
    found, dropped = clean(batch, np.array(list(ids)), np.array(energies, float), np.zeros(3, int), rules)
    assert [ids[i] for i in found] == [kept] and dropped == {"higher_energy_duplicate": 2}


def test_lowest_energy_leaves_other_formulas_alone():
    kept, dropped = cleaned(["NaCl", "NaCl2", "NaCl", "Na2Cl"], [3, 9, 1, 9], keep_lowest_energy=True)
    assert kept == ["NaCl2", "NaCl", "Na2Cl"] and dropped == {"higher_energy_duplicate": 1}


def test_outliers_over_present_values_only():
    """100 values of -1 and +1: mean 0, deviation 1. A thousand unknown ones change neither."""
    formulas = [f"Na{i + 1}Cl" for i in range(102)]
    energies = np.array([-1.0, 1.0] * 50 + [0, 0])
    assert cleaned(formulas, energies, formation_energy_sigma=0.999)[1] == {"formation_energy_outlier": 100}
    assert cleaned(formulas, energies, formation_energy_sigma=1.02)[1] == {"formation_energy_outlier": 0}
    energies[100] = 6
    deviation = energies.std()
    assert 5 < (6 - energies.mean()) / deviation < 6
    assert cleaned(formulas, energies, formation_energy_sigma=5)[1] == {"formation_energy_outlier": 1}
    with_unknown = np.concatenate([energies, np.full(1000, np.nan)])
    more = formulas + [f"K{i + 1}Cl" for i in range(1000)]
    kept, dropped = cleaned(more, with_unknown, formation_energy_sigma=5)
    assert dropped == {"formation_energy_outlier": 1} and formulas[100] not in kept and len(kept) == 1101
    with_unknown[100] = 0
    assert cleaned(more, with_unknown, formation_energy_sigma=2)[1] == {"formation_energy_outlier": 0}


def test_outliers_without_values():
    assert cleaned(["NaCl", "KCl"], formation_energy_sigma=5)[0] == ["NaCl", "KCl"]
    assert cleaned(["NaCl", "KCl"], [1, 1], formation_energy_sigma=5)[0] == ["NaCl", "KCl"]


def test_unknown_symbols_are_named():
    with pytest.raises(ValueError, match=r"database\.cleaning\.drop_elements: \['Xx', 'he'\]"):
        symbols_to_numbers(["He", "Xx", "he"])
    assert symbols_to_numbers(["He", "Og"]).tolist() == [2, 118]


def test_paper_vocabulary():
    assert len(PAPER_VOCABULARY) == 85 and 94 in PAPER_VOCABULARY and 2 not in PAPER_VOCABULARY


def test_sources_are_read_lazily(run):
    """The reader yields while it reads: memory does not hold the file."""
    (run.folder / "x.csv").write_text("formula\n" + "NaCl\n" * 10)
    rows = read_source({"kind": "table", "path": str(run.folder / "x.csv"), "columns": {"formula": "formula"}})
    assert next(rows).amounts == {11: 1, 17: 1}
