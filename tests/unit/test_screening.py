"""Screening: splits, property models and their intervals, prediction of a part."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline import provenance, tables
from pipeline.composition import Compositions
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT
from pipeline.filtering.schema import FILTERED
from pipeline.screening import band_gap, elemnet, models
from pipeline.screening.interval import Interval
from pipeline.screening.models import BAND_GAP, FORMATION_ENERGY, PARITY, Labelled
from pipeline.screening.predict import predict_part
from pipeline.screening.schema import PREDICTED
from pipeline.screening.training import Training, train_model

SHIPPED = provenance.ROOT / "resources" / "models"


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


# --- data -------------------------------------------------------------------------------------------------------------


def test_split_keeps_a_formula_together_and_its_place():
    some = binaries(1000)
    part = models.three_way_split(some, 0.1, 0.2, seed=1)
    tripled = Compositions(some.offsets, some.elements, some.counts * 3)
    np.testing.assert_array_equal(models.three_way_split(tripled, 0.1, 0.2, seed=1), part)
    np.testing.assert_array_equal(models.three_way_split(some.take(np.arange(500)), 0.1, 0.2, seed=1), part[:500])
    assert np.bincount(part, minlength=3) / 1000 == pytest.approx([0.7, 0.1, 0.2], abs=0.05)
    assert (models.three_way_split(some, 0.1, 0.2, seed=2) != part).any()


def test_lowest_energy_polymorph_is_kept():
    compositions = Compositions.from_formulas(["NaCl", "MgO", "NaCl", "NaCl", "MgO"])
    rows = Labelled(np.array(list("abcde")), compositions, np.arange(5.0))
    assert rows.lowest_energy(np.array([-1, np.nan, -2, np.nan, -3])).ids.tolist() == ["c", "e"]


def test_rare_elements_are_left_out():
    compositions = Compositions.from_formulas([f"NaCl{n}" for n in range(1, 11)] + ["XeF2"])
    rows = Labelled(np.arange(11), compositions, np.zeros(11)).without_rare_elements()
    assert rows.ids.tolist() == list(range(10))


def test_metrics_by_hand():
    metrics = models.regression_metrics(
        np.array([0.0, 2.0]), np.array([1.0, 2.0]), np.array([0.5, 0.5]), train_mean=3.0
    )
    assert metrics["mae"] == 0.5
    assert metrics["rmse"] == pytest.approx(np.sqrt(0.5))
    assert metrics["r2"] == pytest.approx(0.5)
    assert metrics["mean_predictor_mae"] == 2.0
    assert metrics["interval_coverage"] == 0.5


def test_errors_apart_by_number_of_elements():
    rows = Labelled(np.arange(3), Compositions.from_formulas(["NaCl", "MgO", "CaTiO3"]), np.zeros(3))
    groups = models.by_n_elements(rows, np.array([1.0, 3.0, 5.0]), np.array([2.0, 2.0, 9.0]))
    assert groups == [
        {"n_elements": 2, "rows": 2, "mae": 2.0, "coverage": 0.5},
        {"n_elements": 3, "rows": 1, "mae": 5.0, "coverage": 1.0},
    ]


# --- models -----------------------------------------------------------------------------------------------------------


def test_elemnet_is_the_published_network():
    network = elemnet.ElemNet(86)
    widths = [layer.out_features for layer in network.modules() if isinstance(layer, torch.nn.Linear)]
    assert widths == [1024] * 4 + [512] * 3 + [256] * 3 + [128] * 3 + [64] * 2 + [32, 1]


def test_element_fractions_by_hand():
    fractions = elemnet.fractions(Compositions.from_formulas(["Fe2O3"]), [8, 11, 26])
    np.testing.assert_allclose(fractions, [[0.6, 0, 0.4]], rtol=1e-6)


@pytest.fixture
def small_elemnet(monkeypatch):
    monkeypatch.setattr(elemnet, "BLOCKS", ((64,), (32,)))
    torch.set_num_threads(1)


def test_elemnet_learns_and_survives_saving(small_elemnet, tmp_path):
    x = torch.rand(2000, 5, generator=torch.Generator().manual_seed(0))
    y = 3 * x[:, 0].double().numpy() - 2
    settings = elemnet.ElemNetTraining(epochs=20, batch_size=64)
    network, history = elemnet.fit((x[:1500], y[:1500]), (x[1500:], y[1500:]), settings, seed=3)
    error = np.abs(elemnet.predict(network, x[1500:]) - y[1500:]).mean()
    assert error < 0.05 < np.abs(y - y.mean()).mean()
    assert error == pytest.approx(min(row["validation_mae"] for row in history), abs=2e-3)  # float16 costs nothing
    elemnet.save(network, tmp_path / "w")
    np.testing.assert_array_equal(elemnet.predict(elemnet.load(tmp_path / "w", 5), x), elemnet.predict(network, x))
    again, _ = elemnet.fit((x[:1500], y[:1500]), (x[1500:], y[1500:]), settings, seed=3)
    elemnet.save(again, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "w").read_bytes()


def test_elemnet_stops_when_validation_no_longer_improves(small_elemnet):
    rng = np.random.default_rng(0)
    x, noise = torch.rand(200, 5), rng.normal(size=200)
    settings = elemnet.ElemNetTraining(epochs=200, batch_size=32, patience=3)
    _, history = elemnet.fit((x[:100], noise[:100]), (x[100:], noise[100:]), settings, seed=0)
    assert len(history) < 200


def test_damaged_weights_are_named(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        elemnet.load(tmp_path / "weights.safetensors", 86)


def gaps_from_features(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    features = np.random.default_rng(seed).normal(size=(n, 4))
    return features, np.where(features[:, 0] > 0, 1 + np.abs(features[:, 1]), 0.0)


def test_band_gap_tells_metals_and_measures_the_rest(tmp_path):
    train, validation, test = (gaps_from_features(n, seed) for seed, n in enumerate((3000, 500, 500)))
    settings = band_gap.BandGapTraining(max_trees=60, leaves=15)
    model = band_gap.fit(train, validation, settings, seed=0, threads=1)
    probability, gap = model.predict(test[0], threads=1)
    assert ((probability > 0.5) == (test[1] > 0)).mean() > 0.97
    assert (gap[probability < 0.5] == 0).all()
    assert np.abs(gap - test[1]).mean() < 0.1
    model.save(tmp_path)
    np.testing.assert_array_equal(band_gap.BandGapModel.load(tmp_path, 0.5).predict(test[0], 1)[1], gap)
    (tmp_path / "two").mkdir()
    band_gap.fit(train, validation, settings, seed=0, threads=2).save(tmp_path / "two")
    for name in ("classifier.txt.gz", "regressor.txt.gz"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_intervals_hold_nine_in_ten_and_follow_the_noise():
    rng = np.random.default_rng(0)
    features = rng.uniform(size=(8000, 2))
    noisy = features[:, 0] > 0.5
    residuals = np.abs(rng.normal(size=8000)) * np.where(noisy, 1.0, 0.1)
    interval = Interval.fit(features[:4000], residuals[:4000], None, seed=0, threads=1)
    width = interval.half_width(features[4000:], None, threads=1)
    covered, noisy = residuals[4000:] <= width, noisy[4000:]
    assert covered.mean() == pytest.approx(0.9, abs=0.02)
    assert covered[noisy].mean() == pytest.approx(0.9, abs=0.04)
    assert covered[~noisy].mean() == pytest.approx(0.9, abs=0.04)
    assert width[noisy].mean() > 5 * width[~noisy].mean()


def test_two_kinds_of_rows_are_calibrated_apart():
    rng = np.random.default_rng(0)
    features, kind = rng.uniform(size=(8000, 2)), rng.random(8000) < 0.3
    residuals = np.where(kind, np.abs(rng.normal(size=8000)), 0.0)
    interval = Interval.fit(features[:4000], residuals[:4000], kind[:4000], seed=0, threads=1)
    width = interval.half_width(features[4000:], kind[4000:], threads=1)
    assert (residuals[4000:] <= width)[kind[4000:]].mean() == pytest.approx(0.9, abs=0.03)
    assert width[~kind[4000:]].max() == 0


# --- training on a campaign's own labels ------------------------------------------------------------------------------

SETTINGS = Training(
    validation_share=0.2,
    test_share=0.2,
    elemnet={"epochs": 5, "batch_size": 32},
    band_gap={"max_trees": 20, "leaves": 7},
)


@pytest.fixture
def campaign(tmp_path) -> dict[str, Path]:
    """500 entries whose energy is minus the oxygen fraction; 100 of them are held out and labelled absurdly."""
    compositions = binaries(500)
    oxygen = np.array([counts[0] for counts in compositions.dense(range(1, 119))[:, [7]].tolist()])
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
    for name in ("one", "two"):
        train_model(target=target, folder=tmp_path / name, settings=SETTINGS, seed=5, **campaign)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert {"model.json", "parity.parquet", "README.md", "interval.txt.gz"} < set(files)
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


def test_too_few_labels_are_refused_with_the_mend(campaign, tmp_path):
    entries = tables.read(campaign["entries_path"], ENTRIES)
    tables.write(campaign["entries_path"], ENTRIES, entries.slice(0, 250))
    with pytest.raises(ValueError, match=r"150 formulas with 'band_gap_ev'.*shipped"):
        train_model(target=BAND_GAP, folder=tmp_path / "model", settings=SETTINGS, seed=0, **campaign)
    assert not (tmp_path / "model").exists()


def test_training_does_not_see_the_later_tables(tmp_path, monkeypatch):
    shutil.copytree(provenance.ROOT / "pipeline", tmp_path / "pipeline")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)

    def digest(module: str) -> str:
        provenance._parsed.cache_clear()
        return provenance.source_digest(f"pipeline.screening.{module}")

    before = {name: digest(name) for name in ("training", "predict", "select")}
    with open(tmp_path / "pipeline" / "screening" / "select.py", "a") as handle:
        handle.write("\nNEW = 1\n")
    assert digest("training") == before["training"]
    assert digest("predict") == before["predict"]
    assert digest("select") != before["select"]
    with open(tmp_path / "pipeline" / "screening" / "schema.py", "a") as handle:
        handle.write("\nNEW = 1\n")
    assert digest("training") == before["training"]
    assert digest("predict") != before["predict"]
    provenance._parsed.cache_clear()


# --- prediction with the shipped models -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """Scores of a few compounds, NaCl among the known ones; the last row fell in the filter."""
    folder = tmp_path_factory.mktemp("predict")
    formulas = ["NaCl", "MgO", "CaF2", "Fe3Al", "CuZn", "NaAm", "KrF2O9", "Og2O", "LiH"]
    compositions = Compositions.from_formulas(formulas)
    known = Compositions.from_formulas(["NaCl", "Fe2O3"])
    filtered = {"id": formulas, "n_drawn": np.ones(9, np.int32), **compositions.columns(), "verdict": ["balanced"] * 9}
    filtered |= {"smact_valid": [True] * 9, "rejected_by": [None] * 8 + ["not_neutral"]}
    entries = {"id": ["a", "b"], "source": ["x", "x"], "formula": known.formulas(), **known.columns()}
    for threads in (1, 2):
        predict_part(
            filtered_path=write(folder / "filtered.parquet", FILTERED, filtered),
            predicted_path=folder / f"{threads}.parquet",
            entries_path=write(folder / "entries.parquet", ENTRIES, entries),
            formation_energy_model=SHIPPED / "formation_energy_oqmd",
            band_gap_model=SHIPPED / "band_gap_mp",
            threads=threads,
        )
    assert (folder / "1.parquet").read_bytes() == (folder / "2.parquet").read_bytes()
    return tables.read(folder / "1.parquet", PREDICTED).to_pandas().set_index("id")


def test_survivors_keep_their_order_and_only_known_ones_are_known(predicted):
    assert predicted.index.tolist() == ["NaCl", "MgO", "CaF2", "Fe3Al", "CuZn", "NaAm", "KrF2O9", "Og2O"]
    assert predicted.index[predicted.is_known].tolist() == ["NaCl"]


def test_shipped_models_know_salts_from_alloys(predicted):
    salts, alloys = predicted.loc[["NaCl", "MgO", "CaF2"]], predicted.loc[["Fe3Al", "CuZn"]]
    assert (salts.probability_nonmetal > 0.9).all() and (alloys.probability_nonmetal < 0.1).all()
    assert (salts.band_gap_ev > 3).all() and (alloys.band_gap_ev == 0).all()
    assert salts.formation_energy_ev_per_atom.max() < -1 < alloys.formation_energy_ev_per_atom.min()


def test_elements_outside_a_model_give_null_and_reason(predicted):
    for formula, symbol in (("NaAm", "Am"), ("Og2O", "Og")):
        assert np.isnan(predicted.formation_energy_ev_per_atom[formula])
        assert f"never saw {symbol}" in predicted.unscored_because[formula]
    assert predicted.unscored_because[["NaCl", "CuZn"]].isna().all()
    scored = predicted.drop(["NaAm", "KrF2O9", "Og2O"]).drop(columns=["unscored_because", "oxidation_states"])
    assert scored.notna().all().all()


def test_a_part_without_survivors_is_an_empty_table(tmp_path):
    fallen = {"id": ["NaCl4"], "verdict": ["not_neutral"], "smact_valid": [False], "rejected_by": ["not_neutral"]}
    known = Compositions.from_formulas(["NaCl"])
    predict_part(
        filtered_path=write(tmp_path / "filtered.parquet", FILTERED, fallen),
        predicted_path=tmp_path / "predicted.parquet",
        entries_path=write(
            tmp_path / "entries.parquet",
            ENTRIES,
            {"id": ["a"], "source": ["x"], "formula": ["NaCl"], **known.columns()},
        ),
        formation_energy_model=SHIPPED / "formation_energy_oqmd",
        band_gap_model=SHIPPED / "band_gap_mp",
    )
    assert len(tables.read(tmp_path / "predicted.parquet", PREDICTED)) == 0


def test_shipped_models_beat_the_mean_by_what_they_claim():
    for name, target in (("formation_energy_oqmd", FORMATION_ENERGY), ("band_gap_mp", BAND_GAP)):
        metrics = models.read_description(SHIPPED / name, target)["metrics"]
        parity = tables.read(SHIPPED / name / "parity.parquet", PARITY).to_pandas()
        error = (parity.target - parity.prediction).abs()
        assert error.mean() == pytest.approx(metrics["mae"], rel=0.1)
        assert metrics["mae"] < 0.35 * metrics["mean_predictor_mae"]
        assert (error <= parity.uncertainty).mean() == pytest.approx(0.9, abs=0.04)
        assert len(parity) <= models.PARITY_ROWS


def test_shipped_models_are_small():
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) <= 20e6


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"model\.json is missing"):
        models.read_description(tmp_path, BAND_GAP)
