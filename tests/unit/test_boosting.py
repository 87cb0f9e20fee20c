"""Gradient-boosted trees on disk: what was trained is what is read, also where values are missing."""

import gzip

import numpy as np
import pytest

from pipeline import boosting


@pytest.fixture(scope="module")
def by_missing():
    """Trees of a value that is missing or not, where that alone tells the target."""
    rng = np.random.default_rng(0)
    values = np.where(rng.random(2000) < 0.5, np.nan, rng.normal(size=2000))
    features_NF = np.column_stack([values, rng.random(2000)])
    booster = boosting.train(
        "regression",
        (features_NF, np.isnan(values).astype(float)),
        trees=3,
        leaves=7,
        learning_rate=0.5,
        seed=1,
        threads=1,
    )
    return booster, features_NF


def _changed(path, old, new):
    text = gzip.decompress(path.read_bytes()).decode()
    head, _, body = text.partition("\nTree=0\n")
    size = len("Tree=0\n") + len(body.partition("Tree=1\n")[0])
    assert old in body.partition("Tree=1\n")[0]
    head = head.replace(f"tree_sizes={size} ", f"tree_sizes={size + len(new) - len(old)} ")
    path.write_bytes(gzip.compress(f"{head}\nTree=0\n{body.replace(old, new, 1)}".encode()))


def test_trees_that_split_missing_values_from_all_others_are_read(by_missing, tmp_path):
    booster, features_NF = by_missing
    path = tmp_path / "trees.txt.gz"
    boosting.save(booster, path)
    assert "threshold=inf" in gzip.decompress(path.read_bytes()).decode()
    read = boosting.load(path)
    assert (boosting.predict(read, features_NF, 1) == boosting.predict(booster, features_NF, 1)).all()


@pytest.mark.parametrize("other", ["1inf", "nan", "infinity"])
def test_other_letters_in_a_threshold_are_refused(by_missing, tmp_path, other):
    path = tmp_path / "trees.txt.gz"
    boosting.save(by_missing[0], path)
    _changed(path, "threshold=inf\n", f"threshold={other}\n")
    with pytest.raises(ValueError, match="letters stand where numbers should"):
        boosting.load(path)
