"""The whole chain on a small database, as Snakemake runs it."""

import csv
import hashlib
import json

import pyarrow.parquet as pq
import pytest

pytestmark = pytest.mark.slow


def test_poscars_are_exported_and_listed(campaign):
    export = campaign.results / "export"
    with open(export / "manifest.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert 1 <= len(lines) <= 5
    assert {line["file"] for line in lines} == {f"POSCAR/{path.name}" for path in (export / "POSCAR").iterdir()}
    for line in lines:
        assert hashlib.sha256((export / line["file"]).read_bytes()).hexdigest() == line["poscar_sha256"]


def test_every_row_is_accounted_for(campaign):
    counts = json.loads((campaign.results / "database" / "cleaning.json").read_text())
    assert counts["rejected"] == 1
    assert counts["rows_in"] == counts["rejected"] + sum(counts["dropped"].values()) + counts["rows_out"]
    assert pq.read_table(campaign.results / "database" / "small" / "rejects.parquet")["reason"].to_pylist() == [
        "formula 'Xx2O3': 'Xx' is no element"
    ]
    drawn = [json.loads(path.read_text()) for path in sorted((campaign.results / "sampling" / "drawn").glob("*.json"))]
    samples = pq.read_table(campaign.results / "sampling" / "samples")
    decoded = sum(count["drawn"] - count["ambiguous"] - count["empty"] for count in drawn)
    assert sum(samples["n_drawn"].to_pylist()) == decoded
    assert sum(count["drawn"] for count in drawn) == 4000
    filtered = pq.read_table(campaign.results / "filtering" / "filtered")
    assert sorted(filtered["id"].to_pylist()) == sorted(samples["id"].to_pylist())
    survivors = {row["id"] for row in filtered.to_pylist() if row["rejected_by"] is None}
    screened = pq.read_table(campaign.results / "screening" / "screened").to_pylist()
    assert {row["id"] for row in screened} == survivors
    assert all((row["rank"] is None) == (row["rejected_by"] is not None) for row in screened)


def test_tables_say_where_they_come_from(campaign):
    metadata = pq.read_schema(campaign.results / "screening" / "selected.parquet").metadata
    provenance = json.loads(metadata[b"kimberlite"])
    assert provenance["table"] == "selected"
    assert provenance["settings"]["n_selected"] == 60
    assert provenance["versions"]["pymatgen"]


def test_report_is_written(campaign):
    page = (campaign.results / "report" / "report.html").read_text()
    assert "campaign small" in page
    said = campaign.run("--report", "workflow_report.html")
    assert said.returncode == 0, said.stdout[-2000:]
    assert (campaign.folder / "workflow_report.html").stat().st_size > 10_000


def test_samples_do_not_depend_on_the_number_of_shards(finished, tmp_path):
    """Three shards instead of two hold the same rows; and back again, no part of the three is left."""
    site = finished.copy(tmp_path)

    def parts():
        return sorted((site.results / "sampling" / "samples").glob("*.parquet"))

    def rows():
        return sorted((row["id"], row["n_drawn"]) for path in parts() for row in pq.read_table(path).to_pylist())

    before, names = rows(), [path.name for path in parts()]
    for overlay, number in ((site.overlay("three.yaml", sampling={"shard_size": 1500}), 3), ("small.yaml", 2)):
        said = site.run("sampling", overlay=overlay)
        assert said.returncode == 0, said.stdout[-3000:]
        assert rows() == before and len(parts()) == number
    assert [path.name for path in parts()] == names and site.files() == finished.files()
