"""Scores of a part of the candidates, by the shipped models and a likeness learnt on the spot."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.formulas import embedded
from pipeline import provenance, tables
from pipeline.composition import Compositions
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT
from pipeline.evaluation.baselines import random
from pipeline.filtering.rules import assess
from pipeline.filtering.schema import FILTERED, Rules
from pipeline.screening import predict
from pipeline.screening.features import magpie
from pipeline.screening.likeness import LIKENESS, Likeness, train_likeness
from pipeline.screening.models import BAND_GAP, DECOMPOSITION_ENERGY, FORMATION_ENERGY
from pipeline.screening.predict import predict_part, score
from pipeline.screening.schema import PREDICTED

SHIPPED = provenance.ROOT / "resources" / "models"
FOLDERS = {
    FORMATION_ENERGY: SHIPPED / "formation_energy_oqmd",
    DECOMPOSITION_ENERGY: SHIPPED / "decomposition_energy_mp",
    BAND_GAP: SHIPPED / "band_gap_mp",
}
RULES = Rules("icsd24_medium", include_alloys=False)


def write(path: Path, table: tables.Table, data: dict) -> Path:
    """Write a table, columns not given as nulls."""
    n = len(next(iter(data.values())))
    tables.write(path, table, {f.name: data[f.name] if f.name in data else pa.nulls(n, f.type) for f in table.fields})
    return path


def database(folder: Path, formulas: list[str], above_hull: list | None = None, held_out: int = 0) -> dict[str, Path]:
    """Entries and split of a database, the last ``held_out`` of them held out."""
    compositions = Compositions.from_formulas(formulas)
    ids = [f"e{row}" for row in range(len(formulas))]
    entries = {"id": ids, "source": ids, "formula": compositions.formulas(), **compositions.columns()}
    if above_hull is not None:
        entries["energy_above_hull_ev_per_atom"] = pa.array(above_hull, pa.float64())
    split = {"id": ids, "held_out": [row >= len(ids) - held_out for row in range(len(ids))]}
    return {
        "entries_path": write(folder / "entries.parquet", ENTRIES, entries),
        "split_path": write(folder / "split.parquet", SPLIT, {**split, "held_out_system": [False] * len(ids)}),
    }


def salts(alkalis=("Li", "Na", "K", "Rb", "Cs"), halides=("F", "Cl", "Br", "I")) -> list[str]:
    """Salts of an alkali, an alkaline earth or a lanthanide: AX, AMX3, A2MX4, A3REX6."""
    earths, lanthanides = ("Mg", "Ca", "Sr", "Ba", "Mn", "Fe"), ("La", "Nd", "Gd", "Y", "Sc")
    return [
        *(f"{a}{x}" for a in alkalis for x in halides),
        *(f"{a}{m}{x}3" for a in alkalis for m in earths for x in halides),
        *(f"{a}2{m}{x}4" for a in alkalis for m in earths for x in halides),
        *(f"{a}3{r}{x}6" for a in alkalis for r in lanthanides for x in halides),
    ]


# --- likeness ---------------------------------------------------------------------------------------------------------


def trained(folder: Path, files: dict[str, Path], **more) -> Likeness | None:
    arguments = {"rules": RULES, "max_energy_above_hull_ev_per_atom": 0.05, "seed": 1, **more}
    train_likeness(folder=folder, **files, **arguments)
    return Likeness.load(folder)


def test_likeness_knows_hidden_compounds_from_random_formulas(tmp_path):
    """A fifth of some real formulas is held out: these rank above random ones that are as neutral and balanced."""
    everything = embedded(6000)
    order = np.random.default_rng(0).permutation(len(everything))
    everything = everything.take(order)
    files = database(tmp_path, everything.formulas().to_pylist(), held_out=1200)
    hidden, known = everything.take(np.arange(4800, 6000)), everything.take(np.arange(4800))
    model = trained(tmp_path / "one", files)
    assert not hidden.contained_in(model.analogues.known).any()
    hidden = hidden.take(assess(hidden, RULES).smact_valid)
    odd = random(known, 60_000, seed=9)
    odd = odd.take(assess(odd, RULES).smact_valid)
    odd = odd.take(~odd.contained_in(everything))
    scores = np.concatenate([score_likeness(model, rows) for rows in (hidden, odd)])
    assert len(hidden) > 300 and len(odd) > 1000
    assert roc_auc_score(np.arange(len(scores)) < len(hidden), scores) > 0.8
    trained(tmp_path / "two", files)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def score_likeness(model: Likeness, compositions: Compositions) -> np.ndarray:
    return model.predict(compositions, magpie(compositions), threads=1)


def test_entries_far_above_the_hull_are_no_examples(tmp_path):
    """All iodides are far above: they are known, and yet unlike the others."""
    formulas = salts()
    files = database(tmp_path, formulas, above_hull=[0.5 if "I" in formula else 0.0 for formula in formulas])
    model = trained(tmp_path / "some", files)
    described = json.loads((tmp_path / "some" / "model.json").read_text())
    assert described["rows"]["known"] < len(formulas) * 0.8
    assert np.diff(score_likeness(model, Compositions.from_formulas(["KMgI3", "KMgBr3"]))) > 0
    trained(tmp_path / "all", files, max_energy_above_hull_ev_per_atom=None)
    assert json.loads((tmp_path / "all" / "model.json").read_text())["rows"]["known"] > described["rows"]["known"]


def test_too_little_to_learn_from_is_no_error(tmp_path):
    files = database(tmp_path, ["NaCl", "KCl", "Fe3Al"])
    assert trained(tmp_path / "model", files) is None
    found = score(Compositions.from_formulas(["NaF"]), {LIKENESS: tmp_path / "model"}, files["entries_path"], 1)
    assert found[LIKENESS].to_pylist() == [None] == found["unscored_because"].to_pylist()


def test_another_models_folder_is_no_likeness(tmp_path):
    with pytest.raises(ValueError, match="no model of likeness here"):
        Likeness.load(tmp_path)
    with pytest.raises(ValueError, match="no description of a model of likeness"):
        Likeness.load(FOLDERS[BAND_GAP])
    trained(tmp_path, database(tmp_path, salts()))
    (tmp_path / "known.parquet").write_bytes((tmp_path / "entries.parquet").read_bytes())
    with pytest.raises(ValueError, match="others than it lists"):
        Likeness.load(tmp_path)


# --- a part -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """Scores of a few compounds, NaCl among the known ones; the last row fell in the filter."""
    folder = tmp_path_factory.mktemp("predict")
    formulas = ["NaCl", "MgO", "CaF2", "Fe3Al", "CuZn", "NaAm", "KrF2O9", "Og2O", "LiH"]
    compositions = Compositions.from_formulas(formulas)
    filtered = {"id": formulas, "n_drawn": np.ones(9, np.int32), **compositions.columns(), "verdict": ["balanced"] * 9}
    filtered |= {"smact_valid": [True] * 9, "rejected_by": [None] * 8 + ["not_neutral"]}
    files = database(folder, [*salts(), "MgH2", "Al2O3", "CuZn2"])
    trained(folder / "likeness", files)
    for threads in (1, 2):
        predict_part(
            filtered_path=write(folder / "filtered.parquet", FILTERED, filtered),
            predicted_path=folder / f"{threads}.parquet",
            entries_path=files["entries_path"],
            models={**FOLDERS, LIKENESS: folder / "likeness"},
            threads=threads,
        )
    assert (folder / "1.parquet").read_bytes() == (folder / "2.parquet").read_bytes()
    return tables.read(folder / "1.parquet", PREDICTED).to_pandas().set_index("id")


def test_survivors_keep_their_order_and_only_known_ones_are_known(predicted):
    assert predicted.index.tolist() == ["NaCl", "MgO", "CaF2", "Fe3Al", "CuZn", "NaAm", "KrF2O9", "Og2O"]
    assert predicted.index[predicted.is_known].tolist() == ["NaCl"]
    assert predicted.index[predicted.nearest_known_distance == 0].tolist() == ["NaCl"]


def test_shipped_models_know_salts_from_alloys(predicted):
    salts_, alloys = predicted.loc[["NaCl", "MgO", "CaF2"]], predicted.loc[["Fe3Al", "CuZn"]]
    assert (salts_.probability_nonmetal > 0.9).all() and (alloys.probability_nonmetal < 0.1).all()
    assert (salts_.band_gap_ev > 3).all() and (alloys.band_gap_ev == 0).all()
    assert salts_.formation_energy_ev_per_atom.max() < -1 < alloys.formation_energy_ev_per_atom.min()
    assert (salts_.decomposition_energy_ev_per_atom < 0).all()


def test_elements_outside_a_model_give_null_and_reason(predicted):
    for formula, symbol in (("NaAm", "Am"), ("Og2O", "Og")):
        assert np.isnan(predicted.formation_energy_ev_per_atom[formula])
        assert np.isnan(predicted.distance_from_training[formula])
        assert f"no formation energy: the model never saw {symbol}" in predicted.unscored_because[formula]
    scored = predicted.loc[["NaCl", "MgO", "CaF2"]]
    assert scored.unscored_because.isna().all()
    without = [name for name in scored if "experimental" in name or name in ("unscored_because", "oxidation_states")]
    assert scored.drop(columns=without).notna().all().all()
    assert scored[[name for name in without if "experimental" in name]].isna().all().all()


def test_a_part_without_survivors_is_an_empty_table(tmp_path):
    fallen = {"id": ["NaCl4"], "verdict": ["not_neutral"], "smact_valid": [False], "rejected_by": ["not_neutral"]}
    files = database(tmp_path, ["NaCl"])
    trained(tmp_path / "likeness", files)
    predict_part(
        filtered_path=write(tmp_path / "filtered.parquet", FILTERED, fallen),
        predicted_path=tmp_path / "predicted.parquet",
        entries_path=files["entries_path"],
        models={**FOLDERS, LIKENESS: tmp_path / "likeness"},
    )
    assert len(tables.read(tmp_path / "predicted.parquet", PREDICTED)) == 0


def test_scores_do_not_depend_on_the_company(tmp_path, monkeypatch):
    formulas = salts()
    files = database(tmp_path, formulas)
    trained(tmp_path / "likeness", files)
    folders = {**FOLDERS, LIKENESS: tmp_path / "likeness"}
    compositions = Compositions.from_formulas(formulas)
    whole = score(compositions, folders, files["entries_path"], 1)
    monkeypatch.setattr(predict, "CHUNK", 97)
    assert score(compositions, folders, files["entries_path"], 1).equals(whole)


def test_training_does_not_see_the_later_tables(tmp_path, monkeypatch):
    shutil.copytree(provenance.ROOT / "pipeline", tmp_path / "pipeline")
    monkeypatch.setattr(provenance, "ROOT", tmp_path)

    def digest(module: str) -> str:
        provenance._parsed.cache_clear()
        return provenance.source_digest(f"pipeline.screening.{module}")

    before = {name: digest(name) for name in ("training", "likeness", "predict", "select")}
    for file, seen_by in (("select.py", {"select"}), ("schema.py", {"predict", "select"})):
        with open(tmp_path / "pipeline" / "screening" / file, "a") as handle:
            handle.write("\nNEW = 1\n")
        after = {name: digest(name) for name in before}
        assert {name for name in before if after[name] != before[name]} == seen_by
        before = after
    provenance._parsed.cache_clear()
