"""Magpie features equal those of matminer, the library that defines them."""

import numpy as np
import pytest
from matminer.featurizers.composition import ElementProperty
from matminer.utils.data import MagpieData
from pymatgen.core import Composition

from pipeline.composition import SYMBOLS, Compositions
from pipeline.screening import features


@pytest.fixture(scope="module")
def reference():
    return ElementProperty.from_preset("magpie")


def random_compositions(n: int, seed: int) -> Compositions:
    rng = np.random.default_rng(seed)
    amounts = [
        dict(zip(rng.choice(np.arange(1, 119), size, replace=False), rng.integers(1, 25, size), strict=True))
        for size in rng.integers(1, 9, n)
    ]
    return Compositions.from_dicts(amounts)


def test_names_are_matminers(reference):
    assert list(features.FEATURE_NAMES) == reference.feature_labels()


def test_element_table_is_matminers():
    data = MagpieData(impute_nan=True).all_elemental_props
    expected = [[data[name][symbol] for name in features.PROPERTIES] for symbol in SYMBOLS]
    np.testing.assert_array_equal(features.element_properties()[1:], expected)


def test_equal_to_matminer_on_random_formulas_of_all_elements(reference):
    compositions = random_compositions(400, seed=0)
    expected = np.array([reference.featurize(Composition(text)) for text in compositions.formulas().to_pylist()])
    scale = np.maximum(np.abs(expected), 1)
    assert (np.abs(features.magpie(compositions) - expected) / scale).max() < 1e-9


def test_sodium_chloride_by_hand():
    row = dict(zip(features.FEATURE_NAMES, features.magpie(Compositions.from_formulas(["NaCl"]))[0], strict=True))
    assert row["MagpieData minimum Number"] == 11
    assert row["MagpieData maximum Number"] == 17
    assert row["MagpieData range Number"] == 6
    assert row["MagpieData mean Number"] == 14
    assert row["MagpieData avg_dev Number"] == 3
    assert row["MagpieData mode Number"] == 11  # a tie goes to the smaller value


def test_mode_is_the_most_abundant_element():
    row = dict(zip(features.FEATURE_NAMES, features.magpie(Compositions.from_formulas(["Fe2O3"]))[0], strict=True))
    assert row["MagpieData mode Number"] == 8
    assert row["MagpieData mean Number"] == pytest.approx((2 * 26 + 3 * 8) / 5)


def test_multiples_of_a_formula_have_its_features():
    few, many = (features.magpie(Compositions.from_formulas([text])) for text in ("Li3Fe2P3O12", "Li9Fe6P9O36"))
    np.testing.assert_allclose(few, many, rtol=1e-12)


def test_a_batch_is_its_rows_whatever_the_block(monkeypatch):
    compositions = random_compositions(50, seed=1)
    whole = features.magpie(compositions)
    monkeypatch.setattr(features, "BLOCK", 7)
    np.testing.assert_array_equal(features.magpie(compositions), whole)
    np.testing.assert_array_equal(features.magpie(compositions.take(np.arange(50)[::-1])), whole[::-1])


def test_an_empty_composition_is_nan_and_disturbs_no_other():
    three = features.magpie(Compositions.from_dicts([{11: 1, 17: 1}, {}, {26: 2, 8: 3}]))
    assert np.isnan(three[1]).all()
    np.testing.assert_array_equal(three[[0, 2]], features.magpie(Compositions.from_formulas(["NaCl", "Fe2O3"])))
    assert features.magpie(Compositions.from_dicts([])).shape == (0, 132)
