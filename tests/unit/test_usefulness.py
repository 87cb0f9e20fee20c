"""Terms of the ranking by hand-made numbers, and what elements bring with them."""

import json

import numpy as np
import pytest
from pymatgen.core import Element
from scipy import stats

from pipeline.composition import SYMBOLS, Compositions
from pipeline.screening.criteria import Criteria, Weights
from pipeline.screening.distribution import LEAST, N_QUANTILES, Residuals, probability_below, read_quantiles
from pipeline.screening.elements import RADIOACTIVE, TOXIC, herfindahl_hirschman
from pipeline.screening.usefulness import log_merit, log_usefulness, probability_in_window, terms
from tests.predicted import UNIFORM, predicted

ONE = np.ones(1)


# --- distributions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "half_width", "cutoff", "expected"),
    [
        (0.0, 0.1, 0.0, 0.5),
        (0.0, 0.1, 0.05, 0.75),
        (0.2, 0.4, 0.05, 0.3125),  # (0.05 - 0.2) / 0.4 = -0.375
        (0.2, 0.1, 0.05, LEAST),
        (-0.2, 0.1, 0.05, 1 - LEAST),
        (0.2, 0.0, 0.2, 1 - LEAST),
        (0.2, 0.0, 0.1, LEAST),
        (np.nan, np.nan, 0.1, np.nan),
    ],
)
def test_probability_of_evenly_spread_residuals(value, half_width, cutoff, expected):
    found = probability_below(np.array([value]), np.array([half_width]), cutoff, UNIFORM)
    np.testing.assert_allclose(found, [expected], rtol=1e-12)


def test_probability_equals_the_distribution_that_the_quantiles_came_from():
    skewed = stats.skewnorm(3, loc=-0.4, scale=0.7)
    quantiles = skewed.ppf(np.clip(np.linspace(0, 1, N_QUANTILES), 1e-4, 1 - 1e-4))
    cutoffs = np.linspace(-1, 2, 50)
    found = [probability_below(np.array([0.3]), np.array([0.5]), cutoff, quantiles)[0] for cutoff in cutoffs]
    np.testing.assert_allclose(found, np.clip(skewed.cdf((cutoffs - 0.3) / 0.5), LEAST, 1 - LEAST), atol=2e-3)


def test_quantiles_that_are_none_are_refused(tmp_path):
    path = tmp_path / "model.json"
    for found in (None, UNIFORM[:-1], UNIFORM[::-1], [None] * N_QUANTILES):
        path.write_text(json.dumps({"residual_quantiles": found}))
        with pytest.raises(ValueError, match=r"model\.json: 'residual_quantiles' is no list of 201 ascending numbers"):
            read_quantiles(path)
    path.write_text(json.dumps({"residual_quantiles": UNIFORM}))
    assert read_quantiles(path) == UNIFORM


# --- terms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("nonmetal", "gap", "window", "expected"),
    [
        (0.8, 2.0, (None, None), 1.0),
        (0.8, 2.0, (0.0, None), 1.0),  # no gap is below 0
        (0.8, 2.0, (2.0, None), 0.4),
        (0.8, 2.0, (1.75, 2.25), 0.4),
        (0.8, 2.0, (None, 2.0), 0.2 + 0.4),
        (0.8, 2.0, (4.0, 5.0), LEAST),
        (0.8, 2.0, (1.0, 3.0), 0.8),
        (0.3, 0.0, (1.0, None), LEAST),  # called a metal: its share of being none counts as outside
        (0.3, 0.0, (None, 1.0), 0.7),
        (np.nan, np.nan, (1.0, None), np.nan),
        (np.nan, np.nan, (None, None), np.nan),
    ],
)
def test_probability_of_a_gap_in_the_window(nonmetal, gap, window, expected):
    found = probability_in_window(nonmetal * ONE, gap * ONE, 0.5 * ONE, window, UNIFORM)
    np.testing.assert_allclose(found, [expected], atol=0.005)


def test_terms_of_scored_rows():
    table = predicted(
        ["NaCl", "MgO"],
        decomposition_energy_ev_per_atom=[0.0, None],
        nearest_known_distance=[0.5, 2.0],
        probability_nonmetal=[0.8, None],
    )
    criteria = Criteria(near_hull_ev_per_atom=0.05, min_band_gap_ev=2.0)
    found = terms(table, criteria, Residuals(UNIFORM, UNIFORM))
    assert {name: values.tolist()[0] for name, values in found.items()} == {
        "probability_near_hull": 0.75,
        "probability_gap_in_window": 0.4,
        "novelty": 0.25,
    }
    assert np.isnan(found["probability_near_hull"][1]) and found["novelty"][1] == 1


COLUMNS = {
    "probability_near_hull": np.array([0.5, 0.5]),
    "likeness": np.array([0.8, 0.0]),
    "probability_gap_in_window": np.array([0.25, 0.25]),
    "novelty": np.array([0.0, 0.1]),
}


def test_usefulness_is_the_weighted_product():
    weights = Weights(near_hull=1, likeness=2, gap=0.5, novelty=0, diversity=1)
    merit = log_merit(COLUMNS, weights)
    np.testing.assert_allclose(np.exp(merit), [0.5 * 0.64 * 0.5, 0], rtol=1e-8)
    np.testing.assert_allclose(np.exp(log_usefulness(merit, np.array([4, 1]), weights)), [0.04, 0], rtol=1e-8)


def test_a_term_without_weight_is_not_looked_at():
    weights = Weights(near_hull=1, likeness=0, gap=0, novelty=0, diversity=0)
    merit = log_merit(COLUMNS, weights)
    assert np.exp(merit).tolist() == pytest.approx([0.5, 0.5])
    assert np.exp(log_usefulness(merit, np.array([9, 1]), weights)).tolist() == pytest.approx([0.5, 0.5])


# --- elements ---------------------------------------------------------------------------------------------------------


def test_radioactive_elements_are_pymatgens():
    assert {symbol for symbol in SYMBOLS if Element(symbol).is_radioactive} == RADIOACTIVE
    assert "Bi" not in RADIOACTIVE and {"Tc", "Pm", "Th", "U"} < RADIOACTIVE


def test_toxic_elements():
    assert set(TOXIC) == {"Be", "As", "Cd", "Hg", "Tl", "Pb"}


def test_indices_of_supply_are_means_by_mass():
    production, reserve = herfindahl_hirschman(Compositions.from_formulas(["Fe2O3", "H2O", "H2", "XeF2", "Og2O"]))
    iron, oxygen = 2 * 55.845, 3 * 15.999
    expected = [(iron * 2400 + oxygen * 500) / (iron + oxygen), 500, np.nan, np.nan, np.nan]
    np.testing.assert_allclose(production, expected, rtol=1e-5)
    np.testing.assert_allclose(reserve[0], (iron * 1400 + oxygen * 500) / (iron + oxygen), rtol=1e-5)
