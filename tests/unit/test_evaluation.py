import json
import zipfile

import numpy as np
import pytest

from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, Compositions, concatenate
from pipeline.evaluation.baselines import BASELINES, NEUTRAL
from pipeline.evaluation.evaluate import Known, evaluate
from pipeline.evaluation.likelihood import likelihood
from pipeline.evaluation.metrics import (
    FormulaSet,
    distances,
    marginals,
    rarefaction,
    rarefaction_error,
    ratio,
    rediscovery,
    roc_auc,
    share,
)
from pipeline.evaluation.page import render
from pipeline.evaluation.read import read_set
from pipeline.evaluation.stage import evaluate_baseline, known_of, write_figures
from pipeline.filtering.rules import assess

TRAINING = ["NaCl", "KCl", "MgO", "CaO", "TiO2", "ZrO2", "Li2O", "Na2O", "CaTiO3", "SrTiO3", "LiFePO4", "NaFePO4"]


def formulas(*texts) -> Compositions:
    return Compositions.from_formulas(texts)


def rng():
    return np.random.default_rng(0)


def test_a_set_reduces_counts_repeats_and_leaves_out_single_elements():
    drawn = FormulaSet.of(formulas("NaCl", "Na2Cl2", "Fe", "MgO", "NaCl"), np.array([1, 2, 5, 1, 1]))
    assert dict(zip(drawn.formulas.formulas().to_pylist(), drawn.n_drawn.tolist(), strict=True)) == {
        "NaCl": 4,
        "MgO": 1,
    }


def test_rarefaction_of_three_draws_by_hand():
    # Of a, a, b two stay: aa, ab, ab, so 5/3 distinct on average.
    assert rarefaction(np.array([2, 1]), [1, 2, 3]) == pytest.approx([1, 5 / 3, 2])


def test_rarefaction_of_a_hundred_million_draws():
    # 10^7 formulas of 10 draws each: of 1000 draws, two are of one formula with a chance of 9 in 10^8 - 1.
    n, pairs, triples = 10**8, 1000 * 999 / 2, 1000 * 999 * 998 / 6
    expected = 1000 - pairs * 9 / (n - 1) + triples * 9 * 8 / ((n - 1) * (n - 2))
    assert rarefaction(np.full(10**7, 10), [1000])[0] == pytest.approx(expected, abs=1e-7)


def test_rarefaction_is_the_mean_over_random_subsets():
    n_drawn = np.array([50, 20, 7, 3, 1, 1, 1])
    draws = np.repeat(np.arange(len(n_drawn)), n_drawn)
    random = rng()
    seen = [len(np.unique(random.permutation(draws)[:20])) for _ in range(4000)]
    expected = rarefaction(n_drawn, [20])[0]
    assert expected == pytest.approx(np.mean(seen), abs=4 * np.std(seen) / np.sqrt(len(seen)))


def test_the_error_of_a_curve_covers_what_another_sample_gives():
    chances = np.random.default_rng(1).pareto(1.5, 3000)
    chances /= chances.sum()
    random, inside = rng(), 0
    truth = np.mean([np.count_nonzero(random.multinomial(2000, chances)) for _ in range(200)])
    for _ in range(200):
        n_drawn = random.multinomial(5000, chances)
        n_drawn = n_drawn[n_drawn > 0]
        inside += abs(rarefaction(n_drawn, [2000])[0] - truth) < 1.96 * rarefaction_error(n_drawn, [2000])[0]
    assert inside >= 180


def test_share_and_its_interval():
    # Newcombe 1998, doi:10.1002/(sici)1097-0258(19980430)17:8<857::aid-sim777>3.0.co;2-e, table I, method 3.
    for hits, total, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        found = share(hits, total)
        assert (found["value"], found["of"]) == (hits / total, total)
        assert (found["low"], found["high"]) == pytest.approx((low, high), abs=5e-5)
    assert share(7, 7)["high"] == 1 and share(7, 7)["low"] < 0.7
    assert share(0, 0)["value"] is None


def test_a_ratio_covers_the_truth():
    random, inside = rng(), 0
    for _ in range(500):
        one, other = (share(random.binomial(n, p), n) for n, p in ((2000, 0.3), (5000, 0.05)))
        found = ratio(one, other)
        inside += found["low"] < 6 < found["high"]
    assert 450 <= inside <= 495
    assert ratio(share(1, 2), share(0, 5))["value"] is None


def test_marginals_by_hand():
    found = marginals(formulas("NaCl", "TiO2"), np.array([3.0, 1.0]))
    z = ATOMIC_NUMBERS
    assert found["elements"][[z["Na"], z["Cl"], z["Ti"], z["O"]]].tolist() == [0.375, 0.375, 0.125, 0.125]
    assert found["counts"][[1, 2]].tolist() == [7 / 8, 1 / 8]
    assert found["n_elements"][2] == 1
    pairs = found["element_pairs"].reshape(len(SYMBOLS) + 1, -1)
    assert pairs[z["Na"], z["Cl"]] == 0.75 and pairs[z["O"], z["Ti"]] == 0.25 and pairs.sum() == 1


def test_all_pairs_of_elements_are_counted():
    found = marginals(formulas("LiFePO4"), np.array([1.0]))["element_pairs"]
    assert np.count_nonzero(found) == 6 and found.sum() == pytest.approx(1)


def test_distances_of_equal_and_of_disjoint_sets():
    ours, theirs = FormulaSet.of(formulas("NaCl", "KBr")), formulas("MgO", "CaS")
    assert distances(ours, ours.formulas, rng(), 3)["elements"]["value"] == 0
    assert all(each["floor"] >= 0 for each in distances(ours, ours.formulas, rng(), 3).values())
    apart = distances(ours, theirs, rng(), 3)
    assert apart["elements"]["value"] == apart["element_pairs"]["value"] == 1
    assert apart["n_elements"]["value"] == apart["counts"]["value"] == 0


def test_area_under_the_curve_by_hand():
    # 2 beats 1 and -inf, 1 ties with 1 and beats -inf: 3.5 of 4.
    assert roc_auc(np.array([2.0, 1.0]), np.array([1.0, -np.inf]), rng())["value"] == 0.875
    assert roc_auc(np.array([True, True, False]), np.array([False, False, False]), rng())["value"] == pytest.approx(
        5 / 6
    )


def test_area_equals_scikit_learn():
    from sklearn.metrics import roc_auc_score

    random = rng()
    positive, negative = np.round(random.normal(0.5, 1, 300), 1), np.round(random.normal(0, 1, 500), 1)
    expected = roc_auc_score(np.r_[np.ones(300), np.zeros(500)], np.r_[positive, negative])
    area = roc_auc(positive, negative, random)
    assert area["value"] == pytest.approx(expected, abs=1e-12)
    assert area["low"] < expected < area["high"]


def test_rediscovery_by_hand():
    drawn = FormulaSet.of(formulas("NaCl", "MgO", "CaO"), np.array([2, 1, 1]))
    found = rediscovery(drawn, formulas("NaCl", "KBr", "Fe9O"), [2, 4])
    # NaCl is missed by 2 of 4 draws with probability 1/6.
    assert [point["share"] for point in found["curve"]] == pytest.approx([(1 - 1 / 6) / 3, 1 / 3])
    assert found["share"]["value"] == pytest.approx(1 / 3)
    assert found["found"] == 1
    assert found["ceiling"] == pytest.approx(2 / 3)


def test_likelihood_prefers_common_states():
    scores = dict(
        zip(("NaCl", "FeCl3", "NaFe", "Na2Cl"), likelihood(formulas("NaCl", "FeCl3", "NaFe", "Na2Cl")), strict=True)
    )
    assert -0.1 < scores["NaCl"] < 0 and scores["FeCl3"] < scores["NaCl"]
    assert scores["Na2Cl"] == -np.inf


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_draws_what_it_is_asked_for(name):
    training = formulas(*TRAINING)
    drawn = BASELINES[name](training, 500, 3)
    assert len(drawn) == 500 and drawn.reduced().same_as(drawn).all()
    assert set(drawn.elements) <= set(training.elements)
    rows, elements = drawn.rows, drawn.elements
    assert len(set(zip(rows.tolist(), elements.tolist(), strict=True))) == len(rows)
    assert BASELINES[name](training, 500, 3).same_as(drawn).all()
    assert not BASELINES[name](training, 500, 4).formulas().equals(drawn.formulas())


def test_an_enumeration_of_what_is_never_neutral_ends():
    assert len(BASELINES["enumeration"](formulas("CuZn", "NiAl", "FeAl"), 100, 0)) in (0, 100)
    nothing = FormulaSet.of(BASELINES["enumeration"](formulas("LiNa", "NaK"), 100, 0))
    assert len(nothing) == 0 and evaluate_baseline(nothing, Known(formulas("LiNa", "NaK"), {}), 1) is None


def test_every_enumerated_formula_passes():
    drawn = BASELINES["enumeration"](formulas(*TRAINING), 300, 0)
    assert assess(drawn, NEUTRAL).smact_valid.all()


def test_a_trigram_says_what_it_read():
    training = formulas("NaCl", "KCl", "CaTiO3")
    drawn = set(BASELINES["ngram"](training, 300, 0).formulas().to_pylist())
    assert drawn == {"NaCl", "KCl", "CaTiO3"}


def test_a_trigram_joins_what_follows_the_same_two():
    # After Ti and O3 of CaTiO3 and SrTiO3 alike, but the context of the third pair holds the first no longer.
    training = formulas("LiNaTiO3", "KNaTiO2")
    drawn = set(BASELINES["ngram"](training, 300, 0).formulas().to_pylist())
    assert drawn >= set(training.formulas().to_pylist())


def test_substitution_stays_within_groups():
    drawn = BASELINES["substitution"](formulas("NaCl", "KBr", "LiF", "CaO"), 400, 0)
    said = set(drawn.formulas().to_pylist())
    assert said == {f"{a}{x}" for a in ("Li", "Na", "K") for x in ("F", "Cl", "Br")} | {"CaO"}


def test_a_baseline_that_can_say_nothing_is_named(figures, tmp_path):
    write_figures({"samples": figures["ngram"], "enumeration": None}, tmp_path / "a.html", tmp_path / "a.json", {})
    told = json.loads((tmp_path / "a.json").read_text())
    assert list(told["sets"]) == ["samples"] and "enumeration" in told["about"].values()
    assert "<dd>enumeration</dd>" in (tmp_path / "a.html").read_text()


def test_too_few_formulas_are_refused():
    few = FormulaSet.of(formulas(*TRAINING))
    with pytest.raises(ValueError, match=r"12 formulas of 2 to 8 elements are too few to tell anything; give 1,000"):
        evaluate(few, Known(formulas("NaCl"), {}), 1)


@pytest.fixture(scope="module")
def figures():
    training = formulas(*TRAINING)
    held_out = np.array([text in ("KCl", "SrTiO3") for text in TRAINING])
    known = known_of(training, held_out, np.array([text == "SrTiO3" for text in TRAINING]))
    sets = {
        name: FormulaSet.of(BASELINES[name](known.training, 2000, 1)) for name in ("random", "ngram", "substitution")
    }
    again = FormulaSet.of(concatenate([training] * 100))
    return {name: evaluate(each, known, 1) for name, each in {"mine<b>": again, **sets}.items()}


def test_figures_of_the_training_set_itself(figures):
    mine = figures["mine<b>"]
    assert (mine["draws"], mine["distinct"]) == (1200, 12)
    assert mine["uniqueness"]["value"] == 0.01
    points = [point for result in figures.values() for point in result["uniqueness"]["curve"]]
    assert all(0 <= point["low"] <= point["value"] <= point["high"] <= 1 for point in points)
    assert mine["novelty"]["distinct"]["value"] == pytest.approx(2 / 12)  # the two that were held out
    assert {kind: found["share"]["value"] for kind, found in mine["rediscovery"].items()} == {
        "formula": 1,
        "chemical_system": 1,
    }
    strict = mine["validity"]["icsd24_medium_no_alloys"]["draws"]
    assert strict["value"] == pytest.approx(
        strict["of_training"] * mine["validity"]["icsd24_medium_no_alloys"]["training"]
    )
    assert mine["likelihood"]["generated"]["likelihood"]["value"] > 0.6


def test_figures_are_json_and_the_page_names_every_set(figures):
    json.dumps(figures, allow_nan=False)
    html = render({"generated": figures["mine<b>"], **figures}, {"set": "mine<b>", "first unreadable": "<!--<script>"})
    for title in ("mine&lt;b&gt;", "trigram", "substitution", "random of training"):
        assert title in html
    assert "mine<b>" not in html and "<!--<script>" not in html


def test_the_same_draws_in_any_order_give_the_same_figures():
    known = Known(formulas(*TRAINING), {})
    draws = BASELINES["random"](known.training, 1500, 1)
    shuffled = draws.take(rng().permutation(1500))
    assert evaluate(FormulaSet.of(draws), known, 5) == evaluate(FormulaSet.of(shuffled), known, 5)


def test_a_generator_that_says_what_the_trigram_says_is_not_told_apart(figures):
    html = render({"samples": figures["ngram"], "ngram": figures["ngram"]}, {})
    assert "better in" not in html.split("<script")[0] and "worse in" not in html.split("<script")[0]
    assert "not told apart in uniqueness" in html
    html = render({"generated": figures["mine<b>"], "ngram": figures["ngram"]}, {"set": "twelve"})
    assert "<b>twelve</b> beside trigram: " in html and "worse in" in html


def test_a_peers_table_is_read(tmp_path):
    path = tmp_path / "theirs.csv"
    path.write_text("name,composition\n1,NaCl\n2,Na2Cl2\n3,Xx\n4,Fe\n5,CaTiO3\n")
    drawn, left_out = read_set(path, "composition")
    assert dict(zip(drawn.formulas.formulas().to_pylist(), drawn.n_drawn.tolist(), strict=True)) == {
        "NaCl": 2,
        "CaTiO3": 1,
    }
    assert left_out == {
        "rows": 5,
        "unreadable": 1,
        "first_unreadable": "theirs.csv line 4: formula 'Xx': 'Xx' is no element",
        "single_or_many_elements": 1,
    }
    with pytest.raises(ValueError, match=r"theirs\.csv: no column \['formula'\]"):
        read_set(path, "formula")
    path.write_text("formula\nXx\nYy\nNaCl\n")
    with pytest.raises(ValueError, match=r"2 of 3 rows cannot be read; the first: theirs.csv line 2"):
        read_set(path, "formula")


def test_structures_are_read_as_their_formulas(tmp_path):
    from ase.build import bulk
    from ase.io import write
    from pymatgen.core import Lattice, Structure

    salt = bulk("NaCl", "rocksalt", a=5.64)
    write(tmp_path / "cells.extxyz", [salt, salt, bulk("MgO", "rocksalt", a=4.2)], format="extxyz")
    drawn, _ = read_set(tmp_path / "cells.extxyz", "formula")
    assert dict(zip(drawn.formulas.formulas().to_pylist(), drawn.n_drawn.tolist(), strict=True)) == {
        "NaCl": 2,
        "MgO": 1,
    }

    structure = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    with zipfile.ZipFile(tmp_path / "cells.zip", "w") as archive:
        archive.writestr("a.cif", structure.to(fmt="cif"))
        archive.writestr("b.cif", "no cif")
    drawn, left_out = read_set(tmp_path / "cells.zip", "formula")
    assert drawn.formulas.formulas().to_pylist() == ["NaCl"]
    assert (left_out["rows"], left_out["unreadable"]) == (2, 1)
    with pytest.raises(ValueError, match="no such file"):
        read_set(tmp_path / "nowhere.csv", "formula")
