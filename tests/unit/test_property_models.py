"""Property models: learners, intervals by groups, distance from training, training on labels, the shipped ones."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline import provenance, tables
from pipeline.composition import Compositions
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT
from pipeline.screening import boosted, elemnet, groups, metrics, models
from pipeline.screening.features import magpie
from pipeline.screening.interval import Interval
from pipeline.screening.learners import Inputs
from pipeline.screening.models import (
    BAND_GAP,
    DECOMPOSITION_ENERGY,
    EXPERIMENTAL_BAND_GAP,
    FORMATION_ENERGY,
    PARITY,
    PropertyModel,
)
from pipeline.screening.reach import Reach
from pipeline.screening.training import Training, train_model

SHIPPED = provenance.ROOT / "resources" / "models"
FOLDERS = {
    FORMATION_ENERGY: SHIPPED / "formation_energy_oqmd",
    DECOMPOSITION_ENERGY: SHIPPED / "decomposition_energy_mp",
    BAND_GAP: SHIPPED / "band_gap_mp",
}


def write(path: Path, table: tables.Table, data: dict) -> Path:
    """Write a table, columns not given as nulls."""
    n = len(next(iter(data.values())))
    tables.write(path, table, {f.name: data[f.name] if f.name in data else pa.nulls(n, f.type) for f in table.fields})
    return path


def binaries(n: int, seed: int = 0) -> Compositions:
    """Distinct binary compositions of twelve common elements."""
    rng = np.random.default_rng(seed)
    z = np.array([3, 8, 9, 11, 12, 13, 16, 17, 20, 22, 26, 29])
    drawn = [dict(zip(rng.choice(z, 2, replace=False), rng.integers(1, 9, 2), strict=True)) for _ in range(4 * n)]
    compositions = Compositions.from_dicts(drawn).reduced()
    return compositions.take(compositions.unique()[0][:n])


# --- measures ---------------------------------------------------------------------------------------------------------


def test_metrics_by_hand():
    found = metrics.regression(np.array([0.0, 2.0]), np.array([1.0, 2.0]), np.array([0.5, 0.5]), train_mean=3.0)
    assert found["mae"] == 0.5
    assert found["rmse"] == pytest.approx(np.sqrt(0.5))
    assert found["r2"] == pytest.approx(0.5)
    assert found["mean_predictor_mae"] == 2.0
    assert found["interval_coverage"] == 0.5


def test_errors_apart_by_kind_of_formula():
    compositions = Compositions.from_formulas(["NaCl", "MgO", "CaTiO3"])
    found = metrics.by_group(compositions, np.array([1.0, 3.0, 5.0]), np.array([2.0, 2.0, 9.0]))
    assert found == [
        {"group": "1 or 2 elements", "rows": 2, "mae": 2.0, "coverage": 0.5},
        {"group": "3 elements", "rows": 1, "mae": 5.0, "coverage": 1.0},
        {"group": "oxides", "rows": 2, "mae": 4.0, "coverage": 0.5},
        {"group": "heavier halides", "rows": 1, "mae": 1.0, "coverage": 1.0},
    ]


def test_errors_apart_by_distance():
    distance = np.array([3.0, 1.0, 2.0, 4.0])
    found = metrics.by_distance(distance, distance, np.full(4, 2.5), n_bins=2)
    assert [(each["from"], each["to"], each["mae"], each["coverage"]) for each in found] == [
        (1, 2, 1.5, 1),
        (3, 4, 3.5, 0),
    ]


def test_stability_is_told_by_a_low_number():
    true = np.array([-0.1, 0.0, 0.2, 0.3])
    assert metrics.of_stability(true, true)["stable_roc_auc"] == 1
    assert metrics.of_stability(true, -true) == {
        "stable_share": 0.5,
        "stable_roc_auc": 0.0,
        "stable_average_precision": pytest.approx((1 / 3 + 2 / 4) / 2),
    }


@pytest.mark.parametrize(
    ("formula", "size", "family"),
    [
        ("Fe3Al", "1 or 2 elements", "intermetallics"),
        ("Na3AlF6", "3 elements", "fluorides"),
        ("YOF", "3 elements", "fluorides"),
        ("KH2PO4", "4 elements", "oxides"),
        ("CsPbBr3", "3 elements", "heavier halides"),
        ("Cu2ZnSnS4", "4 elements", "chalcogenides"),
        ("GaAs", "1 or 2 elements", "pnictides"),
        ("LiH", "1 or 2 elements", "hydrides, borides, carbides"),
        ("LiNaKRbCs", "5 or more elements", "intermetallics"),
    ],
)
def test_each_formula_has_one_size_and_one_family(formula, size, family):
    (row,) = groups.membership(Compositions.from_formulas([formula]))
    assert [name for name, within in zip(groups.NAMES, row, strict=True) if within] == [size, family]


# --- learners ---------------------------------------------------------------------------------------------------------


def learn(module, compositions: Compositions, targets: np.ndarray, task: str, settings, threads: int = 1):
    """Train on all but every fifth row; the learner, and the rows kept back."""
    vocabulary = np.unique(compositions.elements).tolist()
    rows = Inputs(compositions, magpie(compositions))
    held = np.arange(len(rows)) % 5 == 0
    learner = module.fit(
        rows.take(~held),
        targets[~held],
        rows.take(held),
        targets[held],
        task=task,
        vocabulary=vocabulary,
        settings=settings,
        seed=3,
        threads=threads,
        report=lambda row: None,
    )
    return learner, rows.take(held), targets[held], vocabulary


def test_elemnet_is_the_published_network():
    widths = [layer.out_features for layer in elemnet.Network(86).modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [1024] * 4 + [512] * 3 + [256] * 3 + [128] * 3 + [64] * 2 + [32, 1]


def test_element_fractions_by_hand():
    fractions = elemnet.fractions(Compositions.from_formulas(["Fe2O3"]), [8, 11, 26])
    np.testing.assert_allclose(fractions, [[0.6, 0, 0.4]], rtol=1e-6)


@pytest.fixture
def small_elemnet(monkeypatch):
    monkeypatch.setattr(elemnet, "BLOCKS", ((64,), (32,)))
    torch.set_num_threads(1)


LEARNERS = [
    pytest.param(elemnet, elemnet.ElemNetTraining(epochs=40, batch_size=32), id="elemnet"),
    pytest.param(boosted, boosted.BoostedTraining(max_trees=150, leaves=15), id="boosted"),
]


@pytest.mark.parametrize("task", ["regression", "classification"])
@pytest.mark.parametrize(("module", "settings"), LEARNERS)
def test_a_learner_learns_repeats_itself_and_survives_saving(module, settings, task, small_elemnet, tmp_path):
    compositions = binaries(600)
    oxygen = compositions.dense(range(1, 119))[:, 7].astype(float) / compositions.n_atoms
    targets = 2 - 3 * oxygen if task == "regression" else oxygen > 0
    learner, held, wanted, vocabulary = learn(module, compositions, targets, task, settings)
    found = learner.predict(held, 1)
    if task == "regression":
        assert np.abs(found - wanted).mean() < 0.3 * np.abs(wanted - wanted.mean()).mean()
    else:
        assert found.min() >= 0 and found.max() <= 1
        assert ((found > 0.5) == wanted).mean() > 0.97
    learner.save(tmp_path / "weights")
    again = type(learner).load(tmp_path / "weights", vocabulary)
    np.testing.assert_allclose(again.predict(held, 1), found, rtol=0, atol=1e-12)
    assert learner.predict(held.take(np.arange(0)), 1).shape == (0,)
    other, *_ = learn(module, compositions, targets, task, settings, threads=2 if module is boosted else 1)
    other.save(tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == (tmp_path / "weights").read_bytes()
    (tmp_path / "weights").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="weights: no"):
        type(learner).load(tmp_path / "weights", vocabulary)


def test_elemnet_stops_when_validation_no_longer_improves(small_elemnet):
    compositions = binaries(200)
    noise = np.random.default_rng(0).normal(size=200)
    settings = elemnet.ElemNetTraining(epochs=200, batch_size=32, patience=3)
    learner, *_ = learn(elemnet, compositions, noise, "regression", settings)
    assert len(learner.history) < 200


# --- intervals and reach ----------------------------------------------------------------------------------------------


def test_intervals_hold_nine_in_ten_in_every_group_and_follow_the_noise():
    rng = np.random.default_rng(0)
    features = rng.uniform(size=(12000, 2))
    noisy = features[:, 0] > 0.5
    wide, odd = rng.random(12000) < 0.3, rng.random(12000) < 0.4  # two ways to sort the rows, which overlap
    size = np.where(noisy, 1.0, 0.1) * np.where(wide, 2.5, 1.0) * np.where(odd, 0.5, 1.0)
    residuals = np.abs(rng.normal(size=12000)) * size
    groups_NG = np.column_stack([wide, ~wide, odd, ~odd])
    fitted, tested = slice(0, 8000), slice(8000, None)
    kinds = ["width", "width", "parity", "parity"]
    interval, half = Interval.fit(features[fitted], residuals[fitted], groups_NG[fitted], kinds, seed=0, threads=1)
    assert (residuals[fitted] <= half).mean() == pytest.approx(0.9, abs=0.005)
    width = interval.half_width(features[tested], groups_NG[tested], threads=1)
    covered = residuals[tested] <= width
    assert covered.mean() == pytest.approx(0.9, abs=0.015)
    for group in groups_NG[tested].T:
        assert covered[group].mean() == pytest.approx(0.9, abs=0.025)
    assert width[noisy[tested]].mean() > 5 * width[~noisy[tested]].mean()


def test_a_group_of_few_rows_takes_the_widest_factor_of_its_kind():
    rng = np.random.default_rng(0)
    which = np.repeat([0, 1, 2], [400, 400, 10])
    residuals = rng.uniform(size=810) * np.array([1.0, 3.0, 1.0])[which]
    groups_NG = np.column_stack([which == 0, which == 1, which == 2])
    interval, _ = Interval.fit(np.zeros((810, 1)), residuals, groups_NG, ["size"] * 3, seed=0, threads=1)
    assert interval.factors[2] == interval.factors[1] > 2 * interval.factors[0]


@pytest.mark.parametrize("n", [20, 31, 60, 400])
def test_few_rows_have_intervals_too(n):
    """No group has rows enough for a factor, or some have: nine in ten of new rows are covered none the less."""
    covered = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        kinds = ["size"] * 4 + ["family"] * 7 + [models.METAL]
        size, family, metal = (rng.integers(0, k, n + 200) for k in (4, 7, 8))
        sure = metal == 0
        columns = [*((size == k) & ~sure for k in range(4)), *((family == k) & ~sure for k in range(7)), sure]
        groups_NG, residuals = np.column_stack(columns), rng.uniform(size=n + 200)
        fitted, tested = slice(0, n), slice(n, None)
        noise = rng.uniform(size=(n + 200, 1))
        interval, _ = Interval.fit(noise[fitted], residuals[fitted], groups_NG[fitted], kinds, seed=0, threads=1)
        covered.append((residuals[tested] <= interval.half_width(noise[tested], groups_NG[tested], 1)).mean())
    assert np.mean(covered) == pytest.approx(0.9, abs=0.04)


def test_distance_from_training_grows_outwards_and_survives_saving(tmp_path):
    rng = np.random.default_rng(0)
    reach = Reach.fit(rng.normal(size=(5000, 3)), seed=1)
    assert np.median(reach.distance(rng.normal(size=(5000, 3)))) == pytest.approx(1.1, abs=0.15)
    away = reach.distance(np.array([[0.0, 0, 0], [5, 0, 0], [10, 0, 0], [20, 0, 0]]))
    assert (np.diff(away) > 3).all()
    reach.save(tmp_path)
    np.testing.assert_array_equal(Reach.load(tmp_path, 3).distance(np.eye(3)), reach.distance(np.eye(3)))
    with pytest.raises(ValueError, match="no clusters over 4 features"):
        Reach.load(tmp_path, 4)
    (tmp_path / "reach.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"reach\.safetensors: no clusters"):
        Reach.load(tmp_path, 3)


# --- training on labels -----------------------------------------------------------------------------------------------


def settings(**learners) -> Training:
    some = {"boosted": {"max_trees": 30, "leaves": 7}}
    return Training(
        validation_share=0.2,
        test_share=0.2,
        learners=dict.fromkeys(models.TARGETS, some | learners),
        analogues=True,
    )


@pytest.fixture
def campaign(tmp_path) -> dict[str, Path]:
    """500 entries whose energy is minus the oxygen fraction; 100 of them are held out and labelled absurdly."""
    compositions = binaries(500)
    oxygen = compositions.dense(range(1, 119))[:, 7].astype(float)
    energy, gap = -oxygen / compositions.n_atoms, np.where(oxygen > 0, 3.0, 0.0)
    energy[:100], gap[:100] = 1e6, 1e6
    ids = [f"e{n}" for n in range(500)]
    entries = {"id": ids, "source": ids, "formula": compositions.formulas(), **compositions.columns()}
    entries |= {FORMATION_ENERGY: pa.array(energy), BAND_GAP: pa.array(gap)}
    split = {"id": ids, "held_out": [n < 100 for n in range(500)], "held_out_system": [False] * 500}
    return {
        "entries_path": write(tmp_path / "entries.parquet", ENTRIES, entries),
        "split_path": write(tmp_path / "split.parquet", SPLIT, split),
    }


@pytest.mark.parametrize("target", [FORMATION_ENERGY, BAND_GAP])
def test_trained_model_is_whole_repeatable_and_never_saw_the_held_out(target, campaign, tmp_path, small_elemnet):
    chosen = settings(elemnet={"epochs": 20, "batch_size": 32})
    for name in ("one", "two"):
        train_model(target=target, folder=tmp_path / name, settings=chosen, table=None, seed=5, **campaign)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert {"model.json", "parity.parquet", "README.md", "interval.txt.gz", "known.parquet"} < set(files)
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    description = models.read_description(tmp_path / "one", target)
    assert sum(description["rows"].values()) == 400
    parity = tables.read(tmp_path / "one" / "parity.parquet", PARITY).to_pandas()
    assert len(parity) == description["rows"]["test"] == description["metrics"]["rows"]
    assert parity.target.abs().max() < 10 and parity.prediction.abs().max() < 10
    error = (parity.target - parity.prediction).abs().mean()
    assert error == pytest.approx(description["metrics"]["mae"], abs=1e-3)
    assert error < description["metrics"]["mean_predictor_mae"]
    with pytest.raises(ValueError, match="was asked for"):
        models.read_description(tmp_path / "one", BAND_GAP if target == FORMATION_ENERGY else FORMATION_ENERGY)
    entries, split = tables.read(campaign["entries_path"], ENTRIES), tables.read(campaign["split_path"], SPLIT)
    held_out = Compositions.from_table(entries).take(split["held_out"].to_numpy()).reduced()
    known = PropertyModel.load(tmp_path / "one", target).estimator.analogues.known
    assert not held_out.contained_in(known).any()


def test_decomposition_energies_are_those_of_the_databases_own_hull(campaign, tmp_path):
    """Energies on a line from the metals to oxygen: every oxide lies on the hull, none below it."""
    entries = tables.read(campaign["entries_path"], ENTRIES).slice(100)
    tables.write(campaign["entries_path"], ENTRIES, entries)
    split = tables.read(campaign["split_path"], SPLIT).slice(100)
    tables.write(campaign["split_path"], SPLIT, split)
    train_model(
        target=DECOMPOSITION_ENERGY, folder=tmp_path / "model", settings=settings(), table=None, seed=5, **campaign
    )
    known = PropertyModel.load(tmp_path / "model", DECOMPOSITION_ENERGY).estimator.analogues
    oxides = known.known.dense(range(1, 119))[:, 7] > 0
    assert known.values[~oxides] == pytest.approx(0, abs=1e-9)
    assert known.values.max() < 1e-9


def test_labels_of_the_users_own_table(campaign, tmp_path):
    compositions = binaries(500)
    gaps = np.where(compositions.dense(range(1, 119))[:, 7] > 0, 2.0, 0.0)
    gaps[:100] = 1e6
    lines = [f"{formula},{gap}" for formula, gap in zip(compositions.formulas().to_pylist(), gaps, strict=True)]
    (tmp_path / "gaps.csv").write_text("\n".join(["compound,gap", *lines]))
    train_model(
        target=EXPERIMENTAL_BAND_GAP,
        folder=tmp_path / "model",
        settings=settings(),
        table={"path": tmp_path / "gaps.csv", "formula": "compound", "value": "gap"},
        seed=5,
        **campaign,
    )
    description = models.read_description(tmp_path / "model", EXPERIMENTAL_BAND_GAP)
    assert sum(description["rows"].values()) == 400
    assert description["metrics"]["classifier_roc_auc"] > 0.99


def test_too_few_labels_are_refused_with_the_mend(campaign, tmp_path):
    entries = tables.read(campaign["entries_path"], ENTRIES)
    tables.write(campaign["entries_path"], ENTRIES, entries.slice(0, 250))
    with pytest.raises(ValueError, match=r"150 formulas with 'band_gap_ev'.*shipped"):
        train_model(target=BAND_GAP, folder=tmp_path / "model", settings=settings(), table=None, seed=0, **campaign)
    assert not (tmp_path / "model").exists()
    with pytest.raises(ValueError, match=r"name a table in screening\.training\.tables"):
        train_model(
            target=EXPERIMENTAL_BAND_GAP, folder=tmp_path / "model", settings=settings(), table=None, seed=0, **campaign
        )


def test_gaps_without_metals_are_refused(tmp_path, campaign):
    entries = tables.read(campaign["entries_path"], ENTRIES)
    place = entries.schema.get_field_index(BAND_GAP)
    entries = entries.set_column(place, entries.schema.field(BAND_GAP), pa.array(np.ones(len(entries))))
    tables.write(campaign["entries_path"], ENTRIES, entries)
    with pytest.raises(ValueError, match="the training set has no metals or no non-metals"):
        train_model(target=BAND_GAP, folder=tmp_path / "model", settings=settings(), table=None, seed=0, **campaign)


# --- the shipped models -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", FOLDERS)
def test_shipped_models_beat_the_mean_by_what_they_claim(target):
    found = models.read_description(FOLDERS[target], target)["metrics"]
    parity = tables.read(FOLDERS[target] / "parity.parquet", PARITY).to_pandas()
    error = (parity.target - parity.prediction).abs()
    assert error.mean() == pytest.approx(found["mae"], rel=0.1)
    assert found["mae"] < {DECOMPOSITION_ENERGY: 0.7}.get(target, 0.35) * found["mean_predictor_mae"]
    assert (error <= parity.uncertainty).mean() == pytest.approx(found["interval_coverage"], abs=0.01)
    assert len(parity) <= models.PARITY_ROWS


@pytest.mark.parametrize("target", FOLDERS)
def test_shipped_intervals_hold_in_every_group(target):
    """Of gaps more than nine in ten are covered: most metals are told for sure, and 0 is either covered or not."""
    description = models.read_description(FOLDERS[target], target)
    most = 1.0 if target == BAND_GAP else 0.92
    assert 0.88 <= description["metrics"]["interval_coverage"] <= most
    for group in description["by_group"]:
        chance = 2 * np.sqrt(0.09 / group["rows"])  # two standard errors of a share counted in so many rows
        assert 0.85 - chance <= group["coverage"] <= most + 0.03 + chance, group


def test_no_data_are_shipped():
    """A model with analogues holds its training set, which is not ours to give away."""
    for target, folder in FOLDERS.items():
        assert not (folder / "known.parquet").exists()
        assert models.read_description(folder, target)["analogues"] is False


def test_shipped_models_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= 60e6


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"model\.json is missing"):
        models.read_description(tmp_path, BAND_GAP)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("target", BAND_GAP, "this model predicts 'band_gap_ev'"),
        ("elements", [], "no list of element symbols"),
        ("elements", ["H", "H"], "names one of them twice"),
        ("learners", {"regressor": ["boosted"]}, "does not name those of a regressor and a classifier"),
        ("learners", {"regressor": ["os"], "classifier": []}, "names others than elemnet, boosted, attention"),
        ("learners", {"regressor": [], "classifier": []}, "lacks the regressor's"),
        ("analogues", "yes", "neither true nor false"),
        ("interval_factors", {"oxides": 1.0}, "no number for each group"),
        ("residual_quantiles", [0.0], "no list of 201 numbers"),
        ("residual_quantiles", list(range(201, 0, -1)), "do not ascend"),
        ("sha256", {}, "is not the file whose check sum is listed"),
    ],
)
def test_a_description_that_no_model_has_is_named(key, value, said, tmp_path):
    for path in FOLDERS[DECOMPOSITION_ENERGY].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    description = json.loads((tmp_path / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**description, key: value}))
    with pytest.raises(ValueError, match=said):
        PropertyModel.load(tmp_path, DECOMPOSITION_ENERGY)
