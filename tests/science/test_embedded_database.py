"""The embedded database after the paper's rules: as many formulas and the same elements every time."""

from pathlib import Path

import pytest
import yaml

from pipeline.composition import Compositions
from pipeline.database.cleaning import PAPER_VOCABULARY
from pipeline.database.schema import ENTRIES
from pipeline.tables import read, read_json
from tests.ingest import ingest

CONFIG = yaml.safe_load((Path(__file__).resolve().parents[2] / "config" / "config.yaml").read_text())["database"]


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("embedded")
    ingest(folder, CONFIG["sources"], CONFIG["cleaning"], CONFIG["max_rejected_share"])
    return folder


def test_rows(out):
    counts = read_json(out / "cleaning.json")
    assert counts["rows_in"] == 47737
    assert counts["rejected"] == 0
    assert counts["rows_out"] == 24332
    assert counts["rows_in"] == counts["rejected"] + sum(counts["dropped"].values()) + counts["rows_out"]


def test_vocabulary_is_the_papers(out):
    batch = Compositions.from_table(read(out / "entries.parquet", ENTRIES, ["elements", "counts"]))
    assert tuple(sorted(set(batch.elements.tolist()))) == PAPER_VOCABULARY
    assert batch.largest_count().max() <= 8 and batch.n_elements.min() >= 2 and batch.n_elements.max() <= 8
    assert len(batch.unique()[0]) == len(batch)
    assert batch.reduced().same_as(batch).all()
