"""Several sources at once: precedence, references that do not mix, and what is said of each."""

import gzip
import hashlib
import json

import pytest

from pipeline.database.schema import ENTRIES
from pipeline.tables import read, read_json
from tests.ingest import ingest

RULES = {
    "keep_lowest_energy": True,
    "drop_single_elements": True,
    "max_elements": None,
    "max_atoms_per_element": None,
    "drop_elements": [],
    "formation_energy_sigma": None,
    "vocabulary": "data",
}
ENERGY, GAP = "formation_energy_ev_per_atom", "band_gap_ev"
COLUMNS = {
    "id": "id",
    "formula": "f",
    ENERGY: {"column": "e", "unit": "eV/atom"},
    GAP: {"column": "g", "unit": "eV"},
}


@pytest.fixture
def run(tmp_path):
    def run(*sources, cleaning=None):
        """Each source is (name, settings, [(id, formula, energy, gap), ...]); entries by id, and what is said."""
        given = []
        for name, settings, rows in sources:
            records = [{"id": i, "f": f, "e": e, "g": g} for i, f, e, g in rows]
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(json.dumps(record) + "\n" for record in records))
            given.append({"name": name, "kind": "table", "path": str(path), "columns": COLUMNS, **settings})
        ingest(tmp_path / "out", given, RULES | (cleaning or {}))
        entries = {row["id"]: row for row in read(tmp_path / "out" / "entries.parquet", ENTRIES).to_pylist()}
        return entries, read_json(tmp_path / "out" / "sources.json"), read_json(tmp_path / "out" / "cleaning.json")

    return run


def test_the_first_source_that_has_a_formula_stands_for_it(run):
    entries, said, counts = run(
        ("a", {}, [("1", "NaCl", -1.0, None), ("2", "NaCl", -2.0, None), ("3", "MgO", None, None)]),
        ("b", {"reference": "a"}, [("1", "Na2Cl2", -9.0, None), ("4", "KBr", -1.5, None), ("5", "KBr", -1.0, None)]),
    )
    assert {(row["id"], row["source"], row["formula"]) for row in entries.values()} == {
        ("a:2", "a", "NaCl"),
        ("a:3", "a", "MgO"),
        ("b:4", "b", "KBr"),
    }
    assert counts["dropped"] == {"single_element": 0, "formula_of_an_earlier_source": 1, "higher_energy_duplicate": 2}
    assert [(one["name"], one["rows_read"], one["entries"]) for one in said] == [("a", 3, 2), ("b", 3, 1)]


def test_energies_of_another_reference_are_left_out(run, capsys):
    entries, said, _ = run(
        ("a", {}, [("1", "NaCl", -1.0, None)]),
        ("b", {}, [("1", "KBr", -2.0, 4.0)]),
        ("c", {"reference": "a"}, [("1", "MgO", -3.0, 7.0)]),
        ("d", {}, [("1", "CaO", None, None)]),
    )
    assert {name: (row[ENERGY], row[GAP]) for name, row in entries.items()} == {
        "a:1": (-1.0, None),
        "b:1": (None, 4.0),  # the first that has gaps
        "c:1": (-3.0, None),
        "d:1": (None, None),
    }
    assert [one["left_out"] for one in said] == [{}, {ENERGY: 1}, {GAP: 1}, {}]
    assert "b: 1 values of formation_energy_ev_per_atom are left out: their reference is 'b'" in capsys.readouterr().err


def test_one_source_keeps_its_ids_and_the_order_of_sources_is_theirs(run):
    rows = [("1", "NaCl", -1.0, None)]
    assert set(run(("a", {}, rows))[0]) == {"1"}
    assert set(run(("b", {}, rows), ("a", {}, rows))[0]) == {"b:1"}


def test_all_polymorphs_of_the_first_source_stay_where_none_is_chosen(run):
    entries, _, counts = run(
        ("a", {}, [("1", "NaCl", -1.0, None), ("2", "NaCl", -2.0, None)]),
        ("b", {}, [("1", "NaCl", -1.0, None)]),
        cleaning={"keep_lowest_energy": False},
    )
    assert set(entries) == {"a:1", "a:2"} and counts["dropped"]["formula_of_an_earlier_source"] == 1


def test_the_summary_shows_what_came_and_why_the_rest_fell(run, tmp_path):
    run(
        ("a", {"licence": "CC BY 4.0", "citation": "doi:10.1/x\x1b[2J"}, [("1", "NaCl", -1.0, 2.0), ("2", "Qq", 0, 0)]),
        ("b", {}, [("1", "KBrO3", -2.0, 4.0), ("2", "Xx2", 0, 0), ("3", "O2", -5, 0)]),
    )
    text = (tmp_path / "out" / "summary.txt").read_text()
    assert "a (table): 2 rows, 1 rejected, 1 entries" in text and "licence: CC BY 4.0" in text and "\x1b" not in text
    assert "1 dropped: single element" in text and "2 entries of 5 elements" in text
    assert "2 x formula .." in text, "reasons that differ in their values alone are one"
    assert "2 | ######################################## 1" in text
    assert "formation_energy_ev_per_atom: 1 of 2 entries" in text
    assert "2 values of formation_energy_ev_per_atom left out" in text


@pytest.fixture
def far(tmp_path):
    """A snapshot and what is said of it, read by themselves; gives what sources.json holds."""
    snapshot = tmp_path / "shared.jsonl.gz"
    snapshot.write_bytes(gzip.compress(b'{"id": "1", "attributes": {"chemical_formula_reduced": "ClNa"}}\n', mtime=0))

    def read_it(about):
        (tmp_path / "shared.json").write_text(json.dumps(about))
        source = {"name": "far", "kind": "optimade", "url": "http://far"}
        ingest(tmp_path / "far", [source], RULES, snapshots={"far": (snapshot, tmp_path / "shared.json")})
        return read_json(tmp_path / "far" / "sources.json")[0]

    read_it.digest = hashlib.sha256(snapshot.read_bytes()).hexdigest()
    return read_it


def test_what_lies_beside_a_snapshot_of_others_says_nothing_of_our_counts(far):
    said = far({"name": "x", "rows_read": 9, "left_out": 3, "licence": None, "provider": "Far", "sha256": far.digest})
    assert (said["name"], said["rows_read"], said["left_out"]) == ("far", 1, {})
    assert said["provider"] == "Far" and said["licence"] is None


@pytest.mark.parametrize(
    ("about", "reason"),
    [
        ({"sha256": "0" * 64}, "another file than .*shared.json tells of"),
        ([], "no account of a snapshot"),
        ({"licence": ["CC BY 4.0"]}, "'licence' is no text"),
    ],
)
def test_what_lies_beside_a_snapshot_and_does_not_fit(far, about, reason):
    with pytest.raises(ValueError, match=reason):
        far(about)
