"""OQMD formation energies on a split grouped by reduced formula, the one that the shipped model was tested on."""

from pathlib import Path

from benchmarks.properties import data
from benchmarks.properties.grouped import Variant, learning_curve, measure, split, whole
from pipeline import tables
from pipeline.provenance import ROOT
from pipeline.screening.models import DESCRIPTION_FILE, FORMATION_ENERGY

SEED = 20180904
VALIDATION_SHARE, TEST_SHARE = 0.05, 0.05
SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
TESTED_FILE = "oqmd-test.parquet"
SHIPPED = ROOT / "resources/models/formation_energy_oqmd"


def run(folder: Path, work: Path, variants: list[Variant], joined: list[str], curve_of: list[Variant]) -> dict:
    """Measure on a split grouped by reduced formula; arguments as in ``decomposition.run``."""
    sets = split(data.oqmd_formation_energies(folder), VALIDATION_SHARE, TEST_SHARE, SEED)
    found = measure(FORMATION_ENERGY, sets, variants, joined, SEED, work / TESTED_FILE)
    curve = learning_curve(FORMATION_ENERGY, sets, curve_of, SHARES, SEED) + whole(found, curve_of)
    return {**found, "curve": curve, "shipped": shipped(SHIPPED / DESCRIPTION_FILE)}


def shipped(path: Path) -> dict:
    """What the card of the shipped model says, which has the same test set: learners, rows and errors."""
    description = tables.read_json(path)
    learners = description.get("learners", {}).get("regressor") or [description["architecture"]["name"]]
    kept = {name: description["metrics"][name] for name in ("mae", "rmse", "r2", "interval_coverage")}
    return {"learners": learners, "rows": description["rows"], **kept}
