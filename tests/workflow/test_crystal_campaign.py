"""A campaign whose generator draws crystals, through Snakemake: binaries in, POSCARs of three elements out."""

import csv
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from pymatgen.core import Lattice, Structure

from tests.campaign import Campaign

pytestmark = pytest.mark.slow

EDGES = {"Ni": 3.7, "Pd": 4.1, "Ti": 4.4, "Cu": 3.8, "Mg": 4.7, "Zr": 4.8}  # angstrom, about right
OVERLAY = {
    "campaign": "crystals",
    "generator": "crystalgan",
    "database": {
        "sources": [{"name": "crystals", "kind": "structures", "path": "hydrides"}],
        "cleaning": {"keep_lowest_energy": False},
    },
    "encoding": {
        "holdout_share": 0,
        "holdout_systems_share": 0,
        "settings": {"pairs": [["Pd", "Ni"]], "n_per_domain": 12},
    },
    "training": {"settings": {"epochs": 3}, "autoencoder": {"epochs": 1}},
    "sampling": {"n_samples": 60, "block_size": 20, "shard_size": 30},
    "filtering": {"reject": False},
    "screening": {
        "select": {
            "max_atoms": None,
            "max_formation_energy_ev_per_atom": None,
            "min_band_gap_ev": None,
            "max_per_chemical_system": None,
        }
    },
    "structures": {
        "templates": {"sources": ["aflow"]},
        "build": {"n_candidates": 5, "max_structures_per_formula": 3},
        "relax": {"potential": "none"},
        "hull": {"source": "none"},
        "judge": {"max_per_formula": 3},
    },
}
AFTER_BUILDING = {"relax", "references", "judge", "export_folder", "write_report"}
AFTER_SELECTION = {"select_candidates", "build_structures", *AFTER_BUILDING}


def hydrides(folder: Path) -> None:
    """MH in rock salt and zinc blende, MH2 in fluorite, MH3 in BiF3's type, of each metal."""
    folder.mkdir()
    for metal, edge in EDGES.items():
        lattice = Lattice.cubic(edge)
        for name, anions in {
            "rocksalt": [[0.5, 0.5, 0.5]],
            "zincblende": [[0.25, 0.25, 0.25]],
            "fluorite": [[0.25, 0.25, 0.25], [0.75, 0.75, 0.75]],
            "bif3": [[0.25, 0.25, 0.25], [0.75, 0.75, 0.75], [0.5, 0.5, 0.5]],
        }.items():
            species = [metal, *["H"] * len(anions)]
            crystal = Structure.from_spacegroup("F-43m", lattice, species, [[0, 0, 0], *anions])
            crystal.to(str(folder / f"POSCAR_{metal}_{name}"), fmt="poscar")


@pytest.fixture(scope="module")
def crystals(tmp_path_factory, root) -> Campaign:
    made = Campaign.new(root, tmp_path_factory.mktemp("crystals"))
    hydrides(made.folder / "hydrides")
    made = Campaign(made.folder, "crystals")
    said = made.run(overlay=overlay(made))
    assert said.returncode == 0, said.stdout[-5000:]
    return made


def overlay(made: Campaign, **changes) -> str:
    """Write the overlay of this campaign, some sections replaced."""
    (made.folder / "crystals.yaml").write_text(yaml.safe_dump({**OVERLAY, **changes}))
    return "crystals.yaml"


def test_poscars_hold_three_elements_and_their_ids(crystals):
    with (crystals.results / "export" / "manifest.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert 3 <= len(rows) <= 5
    for row in rows:
        structure = Structure.from_file(crystals.results / "export" / row["file"])
        assert {element.symbol for element in structure.elements} == {"H", "Ni", "Pd"}
        assert re.fullmatch(rf"{row['formula']}-[0-9a-f]{{8}}", row["id"])
        assert row["template_label"] == "" and float(row["minimum_distance_angstrom"]) > 1.0
    page = (crystals.results / "report" / "report.html").read_text()
    assert "the generator" in page and "Traceback" not in page


def test_every_draw_is_counted_and_distinct_crystals_are_told_apart(crystals):
    parts = [pq.read_table(path) for path in sorted((crystals.results / "sampling" / "samples").glob("*.parquet"))]
    ids = [name for part in parts for name in part["id"].to_pylist()]
    assert sum(sum(part["n_drawn"].to_pylist()) for part in parts) == 60
    assert len(ids) == len(set(ids)) > len({name.rsplit("-", 1)[0] for name in ids}), "several crystals of a formula"
    screened = [pq.read_table(path) for path in (crystals.results / "screening" / "screened").glob("*.parquet")]
    assert sorted(name for part in screened for name in part["id"].to_pylist()) == sorted(ids)


def test_the_number_of_jobs_does_not_change_the_crystals(crystals):
    sampling = {**OVERLAY["sampling"], "shard_size": 20}
    name = overlay(crystals, campaign="jobs", sampling=sampling)
    assert crystals.run("sampling", overlay=name).returncode == 0

    def rows(results: Path) -> list[dict]:
        parts = [pq.read_table(path) for path in (results / "sampling" / "samples").glob("*.parquet")]
        return sorted((row for part in parts for row in part.to_pylist()), key=lambda row: row["id"])

    more = crystals.results.parent / "jobs"
    assert len(list((more / "sampling" / "samples").glob("*.parquet"))) == 3
    assert rows(more) == rows(crystals.results)


def test_only_what_a_change_concerns_runs_again(crystals):
    assert crystals.planned(overlay=overlay(crystals)) == set()
    select = {"select": {**OVERLAY["screening"]["select"], "n_selected": 10}}
    assert crystals.planned(overlay=overlay(crystals, screening=select)) == AFTER_SELECTION
    training = {**OVERLAY["training"], "settings": {"epochs": 4}}
    planned = crystals.planned(overlay=overlay(crystals, training=training))
    assert "train" in planned and "encode" not in planned
    encoding = {"holdout_share": 0, "holdout_systems_share": 0, "settings": {"pairs": [["Mg", "Ti"]]}}
    planned = crystals.planned(overlay=overlay(crystals, encoding=encoding))
    assert {"encode", "train", "draw"} <= planned and not {"hold_out", "templates", "autoencode"} & planned


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pairs": [["Pd", "Xx"]]}, "'Xx' is no element symbol"),
        ({"pairs": [["Pd", "Pd"]]}, "name three different elements"),
        ({"pairs": [["Pd", "Ni"]], "anion": "O"}, "domain Pd-O needs at least 2 structures and has 0"),
        ({"pairs": [["Pd", "Ni"]], "colour": "blue"}, "unknown key 'colour' at encoding.settings"),
    ],
)
def test_bad_settings_are_one_clear_line(crystals, settings, said):
    encoding = {"holdout_share": 0, "holdout_systems_share": 0, "settings": settings}
    name = overlay(crystals, campaign="bad", encoding=encoding)
    run = crystals.run("encoding", overlay=name)
    lines = [line for line in run.stdout.splitlines() if line.startswith("kimberlite:")]
    assert run.returncode != 0 and "Traceback" not in run.stdout
    assert lines and said in lines[-1], run.stdout[-3000:]
