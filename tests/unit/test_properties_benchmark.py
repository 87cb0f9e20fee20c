"""Benchmarks of properties: rankings counted by hand, official folds, and that nothing held out is learnt from."""

import gzip
import os
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import precision_recall_curve

from benchmarks.properties import asked, calibration, campaign, data, discovery, folds, grouped, matbench, ranking
from benchmarks.properties.__main__ import main
from pipeline import hull, tables
from pipeline.composition import Compositions, concatenate
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT
from pipeline.filtering.rules import assess
from pipeline.filtering.schema import DRAWN, FILTERED, Rules
from pipeline.screening.features import FEATURE_NAMES, magpie
from pipeline.screening.labelled import Labelled

RULES = Rules("icsd24_medium", include_alloys=False)
DATA = os.environ.get("KIMBERLITE_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="KIMBERLITE_DATA names no folder of public tables")


class TestRanking:
    def test_best_first_orders_by_score_with_missing_ones_last(self):
        scores = np.array([0.1, np.nan, 3.0, -2.0, np.nan, 1.0])
        order = ranking.best_first(scores)
        assert order[:4].tolist() == [2, 5, 0, 3]
        assert set(order[4:]) == {1, 4}

    def test_ties_are_in_an_order_of_the_seed_not_of_the_rows(self):
        scores = np.zeros(1000)
        assert (ranking.best_first(scores, 1) == ranking.best_first(scores, 1)).all()
        assert abs(ranking.best_first(scores, 1)[:500].mean() - 500) < 50
        assert (ranking.best_first(scores, 1) != ranking.best_first(scores, 2)).any()

    def test_enrichment_of_two_in_five_where_two_in_ten_are_wanted(self):
        wanted = np.zeros(10, dtype=bool)
        wanted[[3, 7]] = True
        order = np.array([3, 0, 1, 7, 2, 4, 5, 6, 8, 9])
        rows = ranking.found_within(wanted, order, (1, 5, 10))
        assert [row["found"] for row in rows] == [1, 2, 2]
        assert [row["recall"] for row in rows] == [0.5, 1.0, 1.0]
        assert [row["enrichment"] for row in rows] == pytest.approx([5, 2, 1])
        assert [row["most"] for row in rows] == pytest.approx([5, 2, 1])

    def test_a_random_order_has_an_enrichment_of_one_on_average(self):
        wanted = np.arange(2000) < 200
        scores = np.zeros(2000)
        found = [
            ranking.found_within(wanted, ranking.best_first(scores, k), (100,))[0]["enrichment"] for k in range(200)
        ]
        assert np.mean(found) == pytest.approx(1, abs=0.07)

    def test_precision_at_recall_by_hand(self):
        wanted = np.array([True, False, True, False, True, True])
        precision = ranking.precision_at_recall(wanted, np.arange(6), steps=4)
        assert precision == pytest.approx([1, 2 / 3, 3 / 5, 4 / 6])

    def test_precision_at_recall_agrees_with_scikit_learn(self):
        rng = np.random.default_rng(3)
        wanted = rng.random(500) < 0.3
        scores = wanted + rng.normal(size=500)
        ours = ranking.precision_at_recall(wanted, ranking.best_first(scores), steps=wanted.sum())
        precision, recall, _ = precision_recall_curve(wanted, scores)
        theirs = [precision[np.isclose(recall, (k + 1) / wanted.sum())].max() for k in range(wanted.sum())]
        assert ours == pytest.approx(theirs)

    def test_the_recall_curve_ends_at_one(self):
        curve = ranking.recall_curve(np.arange(100) % 7 == 0, np.arange(100))
        assert curve["rows"][-1] == 100
        assert curve["recall"][-1] == 1
        assert curve["recall"] == sorted(curve["recall"])


# Of a predictor of the training mean, by fold: Matbench's own page of its benchmark "Dummy".
PUBLISHED = {
    "expt_gap": [1.0965, 1.1922, 1.1527, 1.1445, 1.1317],
    "mp_gap": [1.3199, 1.3224, 1.3252, 1.3335, 1.3348],
    "mp_e_form": [1.0063, 1.0036, 1.0062, 1.0024, 1.0111],
}


class TestFolds:
    @needs_data
    @pytest.mark.parametrize("name", PUBLISHED)
    def test_the_folds_are_matbenchs_own(self, name):
        targets = _targets(Path(DATA), name)
        errors = [
            np.abs(targets[test] - targets[train].mean()).mean() for train, test in folds.official(targets, False)
        ]
        assert errors == pytest.approx(PUBLISHED[name], abs=6e-5)

    @needs_data
    def test_classes_have_the_published_shares_in_training(self):
        targets = _targets(Path(DATA), "expt_is_metal")
        shares = [targets[train].mean() for train, _ in folds.official(targets, True)]
        assert shares == pytest.approx([0.49796747967479676] + [0.49809499618999237] * 4, abs=1e-12)

    def test_each_row_is_tested_once(self):
        parts = folds.official(np.arange(53.0), False)
        assert sorted(np.concatenate([test for _, test in parts])) == list(range(53))
        assert all(len(np.intersect1d(train, test)) == 0 for train, test in parts)

    def test_rows_of_the_same_formula_by_hand(self):
        known = Compositions.from_formulas(["NaCl", "ClNa", "MgO", "NaCl"])
        targets = np.array([1.0, 2.0, 9.0, 6.0])
        found = folds.same_formula(known, targets, Compositions.from_formulas(["NaCl", "MgO", "KBr"]))
        assert found[:2].tolist() == [[3, 3, 1, 6, 2], [1, 9, 9, 9, 9]]
        assert found[2, 0] == 0
        assert np.isnan(found[2, 1:]).all()

    def test_a_row_does_not_see_its_own_target(self):
        known = Compositions.from_formulas(["NaCl", "NaCl", "MgO", "NaCl"])
        targets = np.array([1.0, 2.0, 9.0, 6.0])
        found = folds.same_formula_of_others(known, targets)
        assert found[[0, 1]].tolist() == [[2, 4, 2, 6, 4], [2, 3.5, 1, 6, 3.5]]
        for row in range(4):
            changed = targets.copy()
            changed[row] += 100
            again = folds.same_formula_of_others(known, changed)
            assert np.array_equal(again[row], found[row], equal_nan=True)

    def test_analogues_get_the_mean_of_a_formula(self):
        known = folds.mean_by_formula(Compositions.from_formulas(["NaCl", "MgO", "NaCl"]), np.array([1.0, 9.0, 2.0]))
        assert known.known.formulas().to_pylist() == ["NaCl", "MgO"]
        assert known.values.tolist() == [1.5, 9.0]

    def test_no_target_of_a_test_row_reaches_a_feature(self, folder):
        rows = data.matbench(folder, "mp_e_form")
        magpie_NF = magpie(rows.compositions)
        train, test = folds.official(rows.targets, False)[0]
        found = matbench.row_features(rows, magpie_NF, None, train, test)
        changed = rows.targets.copy()
        changed[test] += 100
        again = matbench.row_features(data.Rows(rows.compositions, changed), magpie_NF, None, train, test)
        assert all(np.array_equal(found[name], again[name], equal_nan=True) for name in found)
        changed[train[0]] += 100
        again = matbench.row_features(data.Rows(rows.compositions, changed), magpie_NF, None, train, test)
        assert not all(np.array_equal(found[name], again[name], equal_nan=True) for name in found)

    def test_means_over_folds(self):
        rows = [{"fold": fold, "name": "a", "mae": value, "seconds": 3} for fold, value in ((0, 1.0), (1, 3.0))]
        assert folds.summary(rows) == {"a": {"folds": 2, "mae": (2.0, 1.0)}}


class TestData:
    @pytest.mark.parametrize(
        ("formula", "whole"),
        [
            ("Ag0.5Ge1Pb1.75S4", {47: 2, 32: 4, 82: 7, 16: 16}),
            ("Ag(W3Br7)2", {47: 1, 74: 6, 35: 14}),
            ("Fe0.333S", {26: 333, 16: 1000}),
            ("D2O", {1: 2, 8: 1}),
        ],
    )
    def test_amounts_become_whole(self, formula, whole):
        assert data.whole_amounts(formula) == whole

    @needs_data
    def test_whole_amounts_keep_the_fractions_of_a_table(self):
        from pymatgen.core import Composition

        text = gzip.decompress(Path(DATA, "matbench/expt_gap.csv.gz").read_bytes()).decode()
        formulas = [line.split(",")[0] for line in text.splitlines()[1:]]
        for formula in formulas[::7]:
            whole, given = data.whole_amounts(formula), Composition(formula)
            for element, amount in given.items():
                assert whole[element.Z] / sum(whole.values()) == pytest.approx(amount / given.num_atoms, abs=2e-3)

    def test_a_missing_table_is_named(self, tmp_path):
        with pytest.raises(ValueError, match=r"oqmd.csv.gz: no such file; --data names a folder"):
            data.oqmd_formation_energies(tmp_path)


class TestGrouped:
    def test_no_formula_is_in_two_sets(self):
        rows = _labelled(400)
        sets = grouped.split(rows, 0.2, 0.2, 1)
        parts = [sets.train.compositions, sets.validation.compositions, sets.test.compositions]
        assert sum(map(len, parts)) == len(rows.without_rare_elements())
        assert len(concatenate(parts).unique()[0]) == sum(map(len, parts))
        assert min(sets.sizes.values()) > 20

    def test_the_mean_of_two_estimators_is_the_mean_of_their_predictions(self):
        sets = grouped.split(_labelled(400), 0.2, 0.2, 1)
        target, few = "formation_energy_ev_per_atom", {"max_trees": 5, "leaves": 7}
        one = grouped.train(target, sets.train, sets.validation, grouped.Variant("boosted", False, few), 1)
        quick = {"epochs": 1, "width": 16, "layers": 1, "heads": 2}
        other = grouped.train(target, sets.train, sets.validation, grouped.Variant("attention", False, quick), 1)
        features = magpie(sets.test.compositions)
        said = [grouped.predict(each, sets.test, features) for each in (one, other, grouped.join([one, other]))]
        assert said[2] == pytest.approx((said[0] + said[1]) / 2)

    def test_analogues_are_those_of_the_training_set(self):
        sets = grouped.split(_labelled(400), 0.2, 0.2, 1)
        few = grouped.Variant("boosted", True, {"max_trees": 5, "leaves": 7})
        fitted = grouped.train("formation_energy_ev_per_atom", sets.train, sets.validation, few, 1)
        assert fitted.analogues.known.contained_in(sets.train.compositions).all()
        assert not fitted.analogues.known.contained_in(sets.test.compositions).any()


class TestCalibration:
    def test_reliability_by_hand(self):
        probability = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
        found = calibration.reliability(probability, np.array([False, True, True, True, True]))
        assert [row["rows"] for row in found["bins"]] == [2, 3]
        assert [row["happened"] for row in found["bins"]] == [0.5, 1.0]
        assert found["bins"][1]["said"] == pytest.approx(2.9 / 3)
        assert found["expected_calibration_error"] == pytest.approx((2 * 0.45 + 3 * (1 - 2.9 / 3)) / 5)
        assert found["brier"] == pytest.approx((0.05**2 + 0.95**2 + 2 * 0.05**2) / 5)
        assert found["brier_of_mean_share"] == pytest.approx(0.8 * 0.2)

    def test_probabilities_that_come_true_are_reliable(self):
        rng = np.random.default_rng(0)
        probability = rng.random(100_000)
        assert (
            calibration.reliability(probability, rng.random(100_000) < probability)["expected_calibration_error"] < 0.01
        )


class TestAsked:
    def test_bounds(self):
        assert asked.Goal("error", None, 0.1, 0.1, "").reached
        assert not asked.Goal("error", None, 0.1, 0.11, "").reached
        assert not asked.Goal("area", 0.85, None, 0.84, "").reached
        assert asked.Goal("coverage", 0.88, 0.92, 0.9, "").reached
        assert asked.Goal("coverage", 0.88, 0.92, 0.9, "").bounds == "0.88 to 0.92"


class TestCampaign:
    def test_nothing_held_out_is_in_the_labels(self, folder, results):
        known = campaign.read_campaign(results)
        for rows in campaign.labels(folder, known):
            assert not rows.compositions.contained_in(known.held_out).any()

    def test_decomposition_energies_do_not_depend_on_held_out_compounds(self, folder, results):
        known = campaign.read_campaign(results)
        own, formation, published = campaign.labels(folder, known)
        assert own.values == pytest.approx(hull.decomposition_energies(formation.compositions, formation.values))
        rows, energies = data.decomposition_energies(folder)
        kept = rows.compositions.contained_in(formation.compositions)
        assert (energies[kept] == formation.values).all()
        assert (
            own.values > published.values + 1e-9
        ).sum() == 0  # others can only raise what a compound is held against

    def test_a_pool_holds_each_hidden_compound_once_and_no_training_formula(self, results):
        known = campaign.read_campaign(results)
        hidden = campaign.hide(known)
        drawn = concatenate(
            [known.training.take(np.arange(30)), hidden.compositions.take(np.arange(3)), known.survivors]
        )
        pool = campaign.make_pool(known, drawn)
        assert pool.stable.sum() == hidden.stable.sum()
        assert pool.unstable.sum() == hidden.unstable.sum()
        assert not pool.compositions.contained_in(known.training).any()
        assert len(pool.compositions.unique()[0]) == len(pool.compositions)
        assert pool.compositions.take(pool.stable).contained_in(known.held_out).all()

    def test_draws_pass_the_filter_and_are_new(self, results):
        known = campaign.read_campaign(results)
        drawn = campaign.draw("random", known, 50)
        assert len(drawn.unique()[0]) == 50
        assert assess(drawn, known.rules).smact_valid.all()
        assert not drawn.contained_in(known.training).any()


def test_products_are_powers_of_the_terms():
    terms = {
        f"{name} {what}": np.array([0.1, 0.9]) for name in ("hull", "without analogues") for what in ("near hull",)
    }
    terms |= {"labels of the whole hull near hull": np.array([0.5, 0.5]), "likeness": np.array([0.8, 0.2])}
    terms |= {"formation value": np.array([-1.0, 0.0]), "hull value": np.array([0.3, -0.1])}
    found = discovery.rankings(terms)
    assert np.exp(found["P(near hull) x likeness"]) == pytest.approx([0.08, 0.18])
    assert np.exp(found["P(near hull)^2 x likeness"]) == pytest.approx([0.008, 0.162])
    assert found["formation energy"].tolist() == [1.0, 0.0]


@pytest.mark.slow
def test_every_task_runs_and_the_page_tells_what_it_found(folder, results, tmp_path, monkeypatch):
    monkeypatch.setattr(discovery, "MADE_EV_PER_ATOM", None)  # most of the made-up compounds lie far above the hull
    page, work = tmp_path / "docs/screening.md", tmp_path / "work"
    given = ["--data", folder, "--campaign", results, "--work", work, "--output", page, "--quick", "--folds", "1"]
    main([str(each) for each in given])
    text = page.read_text()
    for title in ("Does it find materials?", "Decomposition energy", "How sure the models are", "OQMD", "### expt_gap"):
        assert title in text
    pictures = {path.name for path in page.parent.glob("*.png")}
    assert pictures == {
        f"screening-{name}.png" for name in ("recall", "precision", "parity", "calibration", "learning")
    }
    assert all(name in text for name in pictures)
    written = page.read_bytes()
    main([*map(str, given), "page"])
    assert page.read_bytes() == written


def _targets(folder: Path, name: str) -> np.ndarray:
    lines = gzip.decompress((folder / f"matbench/{name}.csv.gz").read_bytes()).decode().splitlines()
    assert lines[0] == "formula,target"
    return np.array([float(line.rsplit(",", 1)[1]) for line in lines[1:]])


def _labelled(n: int) -> Labelled:
    """Distinct charge-balanced compounds of two metals with a made-up, smooth formation energy."""
    metals = "Li Na K Mg Ca Sr Ba Al Ti Mn Fe Zn".split()
    formulas = (
        f"{a}{i}{b}{j}{anion}{k}"
        for a, b in combinations(metals, 2)
        for anion in ("O", "F", "Cl", "S")
        for i, j, k in product((1, 2, 3), (1, 2, 3), range(1, 9))
    )
    compositions = Compositions.from_formulas(formulas).reduced()
    compositions = compositions.take(compositions.unique()[0])
    compositions = compositions.take(np.random.default_rng(1).permutation(len(compositions))[: 12 * n])
    compositions = compositions.take(np.flatnonzero(assess(compositions, RULES).smact_valid)[:n])
    assert len(compositions) == n
    features_NF = magpie(compositions)
    spread = features_NF[:, FEATURE_NAMES.index("MagpieData avg_dev Electronegativity")]
    values = -spread - 0.1 * np.sin(features_NF[:, FEATURE_NAMES.index("MagpieData mean MendeleevNumber")])
    return Labelled(compositions.formulas().to_numpy(zero_copy_only=False), compositions, values)


def _write(path: Path, head: str, *columns) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [head, *(",".join(map(str, row)) for row in zip(*columns, strict=True))]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Public tables in small, with made-up values."""
    path, rows = tmp_path_factory.mktemp("data"), _labelled(700)
    formulas, values = rows.ids, rows.values
    decomposition = hull.decomposition_energies(rows.compositions, values)
    _write(path / "oqmd/oqmd.csv.gz", "formula,formation_energy_per_atom", formulas, values)
    _write(
        path / "mp/decomposition_energy.csv.gz",
        "formula,formation_energy_per_atom,decomposition_energy_per_atom",
        formulas,
        values,
        decomposition,
    )
    again = np.concatenate([formulas[:300], formulas[:50]])
    for name in ("mp_e_form", "mp_gap", "expt_gap", "expt_is_metal"):
        targets = np.maximum(-np.concatenate([values[:300], values[:50] + 0.05]) - 0.8, 0)
        _write(
            path / f"matbench/{name}.csv.gz", "formula,target", again, (targets > 0) * 1 if "is" in name else targets
        )
    return path


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A campaign on those formulas: a fifth is held out, of which half is on the hull and half far above it."""
    path, rows = tmp_path_factory.mktemp("campaign"), _labelled(700)
    n = len(rows)
    hidden = np.arange(n) % 5 == 0
    above = np.where(hidden & (np.arange(n) % 2 == 1), 0.3, 0.0)
    entries = {
        "id": rows.ids,
        "source": ["made up"] * n,
        "formula": rows.ids,
        **rows.compositions.columns(),
        "formation_energy_ev_per_atom": rows.values,
        "energy_above_hull_ev_per_atom": above,
    }
    nulls = {field.name: pa.nulls(n, field.type) for field in ENTRIES.schema if field.name not in entries}
    tables.write(path / "database/entries.parquet", ENTRIES, _ordered(ENTRIES, entries | nulls))
    split = {"id": rows.ids, "held_out": hidden, "held_out_system": np.zeros(n, dtype=bool)}
    tables.write(path / "encoding/split.parquet", SPLIT, split)
    drawn = Compositions.from_formulas(
        ["Li3Na3O3", "Li2MgCl4", "NaAlS2", "CaTiO3", "Ba3Zn3S6", "KMgF3", "Li9FeO6"]
    ).reduced()
    samples = {"id": drawn.formulas(), "n_drawn": np.ones(len(drawn), dtype=np.int32), **drawn.columns()}
    tables.write(path / "sampling/samples/part-0000.parquet", DRAWN, samples)
    samples |= {"verdict": ["balanced"] * len(drawn), "smact_valid": np.ones(len(drawn), dtype=bool)}
    samples |= {field.name: pa.nulls(len(drawn), field.type) for field in FILTERED.schema if field.name not in samples}
    settings = {"settings": {**vars(RULES), "reject": True}}
    tables.write(path / "filtering/filtered/part-0000.parquet", FILTERED, _ordered(FILTERED, samples), settings)
    return path


def _ordered(table: tables.Table, columns: dict) -> dict:
    return {name: columns[name] for name in table.schema.names}
