"""Bad input through the command line: one clear line, an exit code that is not 0, earlier results untouched."""

import re
import shutil

import pytest

pytestmark = pytest.mark.slow


def fails(campaign, overlay: str, *arguments: str) -> str:
    """Run, and return the line that Kimberlite says."""
    said = campaign.run(*arguments, overlay=overlay)
    assert said.returncode != 0
    lines = [line for line in said.stdout.splitlines() if line.startswith("kimberlite:")]
    assert lines, said.stdout[-3000:]
    assert "Traceback" not in said.stdout
    return lines[-1]


def source(path: str, column: str = "formula") -> dict:
    return {"sources": [{"name": "small", "kind": "table", "path": path, "columns": {"id": "id", "formula": column}}]}


def test_unknown_key(campaign):
    overlay = campaign.overlay("bad.yaml", screening={"select": {"min_bandgap_ev": 1.0}})
    line = fails(campaign, overlay, "--dry-run")
    assert "unknown key 'min_bandgap_ev' at screening.select; did you mean 'min_band_gap_ev'?" in line


def test_wrong_type(campaign):
    overlay = campaign.overlay("bad.yaml", sampling={"n_samples": "many"})
    assert "sampling.n_samples is 'many'; write a value of type integer" in fails(campaign, overlay, "--dry-run")


def test_missing_file(campaign):
    overlay = campaign.overlay("bad.yaml", campaign="bad", database=source("nowhere.csv"))
    line = fails(campaign, overlay, "database")
    assert re.search(r"database.sources: path of 'small': '.*nowhere.csv' does not exist", line)


def test_empty_database(campaign):
    (campaign.folder / "empty.csv").write_text("id,formula\n")
    overlay = campaign.overlay("bad.yaml", campaign="bad", database=source("empty.csv"))
    assert "'empty.csv' holds no rows" in fails(campaign, overlay, "database")


def test_no_formula_column(campaign):
    overlay = campaign.overlay("bad.yaml", campaign="bad", database=source("small.csv", "composition"))
    line = fails(campaign, overlay, "database")
    assert "no column ['composition']" in line and "'formula'" in line


def test_truncated_parquet(campaign):
    whole = campaign.results / "database" / "entries.parquet"
    cut = campaign.folder / "cut.parquet"
    cut.write_bytes(whole.read_bytes()[:5000])
    overlay = campaign.overlay("bad.yaml", campaign="bad", database=source("cut.parquet"))
    assert "cut.parquet: not a whole Parquet file" in fails(campaign, overlay, "database")


def test_too_many_bad_formulas(campaign):
    (campaign.folder / "fractional.csv").write_text("id,formula\n1,Fe0.5O\n2,Xx2O3\n3,NaCl\n4,MgO\n")
    overlay = campaign.overlay("bad.yaml", campaign="bad", database=source("fractional.csv"))
    line = fails(campaign, overlay, "database")
    assert "2 of 4 rows cannot be read" in line and "amount 0.5 is fractional" in line


def test_results_folder_that_cannot_be_written(campaign, tmp_path):
    folder = tmp_path / "repository"
    folder.mkdir()
    for name in ("Snakefile", "pipeline", "workflow", "config", "resources"):
        (folder / name).symlink_to(campaign.folder / name)
    (folder / "results").write_text("a file where the folder should be")
    shutil.copy(campaign.folder / "small.yaml", folder)
    line = fails(type(campaign)(folder), "small.yaml", "database")
    assert "results" in line and "cannot be written" in line


def test_wrong_preset(campaign):
    overlay = campaign.overlay("bad.yaml", training={"preset": "papr"})
    assert "training.preset is 'papr'; write one of default" in fails(campaign, overlay, "--dry-run")


def test_earlier_results_stay_and_a_failure_is_not_forgotten(campaign):
    overlay = campaign.overlay("kept.yaml", campaign="kept")
    assert campaign.run("database", overlay=overlay).returncode == 0
    folder = campaign.folder / "results" / "kept" / "database"
    before = {name: (folder / name).read_bytes() for name in ("entries.parquet", "cleaning.json")}
    (campaign.folder / "all_bad.csv").write_text("id,formula\n1,Xx2O3\n")
    overlay = campaign.overlay("bad.yaml", campaign="kept", database=source("all_bad.csv"))
    for _ in range(2):
        assert "1 of 1 rows cannot be read" in fails(campaign, overlay, "database")
        assert {name: (folder / name).read_bytes() for name in before} == before
