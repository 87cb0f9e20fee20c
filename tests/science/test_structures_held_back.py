"""How often a known crystal is found from others, none of its formula among them, and how well its volume."""

import numpy as np
import pytest

from benchmarks.structures.assignment import before_relaxation, proposals
from benchmarks.structures.known import MAX_SITES, database_rows, targets
from pipeline import tables
from pipeline.structures.assign import Library, same_crystal
from pipeline.structures.template_schema import TemplateSettings
from pipeline.structures.templates import ROWS, build_templates

pytestmark = pytest.mark.slow
N_TARGETS = 100


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("known")


@pytest.fixture(scope="module")
def known(data, work):
    """The first of the compounds that ``docs/structures.md`` is about: no lessons of the shipped ranking."""
    return targets(data, work, N_TARGETS)


@pytest.fixture(scope="module")
def library(data, work) -> Library:
    """Templates from the stable crystals of the Materials Project, of few sites: a part of the library of the docs."""
    rows = tables.read(database_rows(data, work), ROWS)
    sites = np.diff(rows["site_elements"].combine_chunks().offsets.to_numpy())
    stable = np.nan_to_num(rows["energy_above_hull_ev_per_atom"].to_numpy().astype(float), nan=1.0) <= 0.01
    tables.write(work / "stable.parquet", ROWS, rows.filter(stable & (sites <= MAX_SITES)))
    settings = TemplateSettings(sources=("database",), max_sites=MAX_SITES)
    build_templates(
        rows_paths=[work / "stable.parquet"], output_path=work / "t.parquet", settings=settings, processes=2
    )
    return Library(work / "t.parquet")


def test_held_back_crystals_from_the_rest_of_the_database(library, known):
    built = proposals(library, known)
    found = before_relaxation(library, known, built)
    print(found)
    assert found["first"] > 0.7
    assert found["five"] > 0.82
    assert found["lookup_ms"] < 50
    right = [
        (one.cell.volume / len(one.cell.elements)) / (target.cell.volume / len(target.cell.elements))
        for target, mine in zip(known, built, strict=True)
        for one in mine[:1]
        if same_crystal(one.cell, target.cell)
    ]
    assert np.median(np.abs(np.log(right))) < 0.05


def test_held_back_crystals_from_aflow_alone(known, work):
    settings = TemplateSettings(sources=("aflow",))
    build_templates(rows_paths=[], output_path=work / "aflow.parquet", settings=settings)
    library = Library(work / "aflow.parquet")
    found = before_relaxation(library, known, proposals(library, known))
    print(found)
    assert found["first"] > 0.1
    sure = [right for _, said, right in found["probability"] if said > 0.6]
    assert not sure or min(sure) > 0.5
