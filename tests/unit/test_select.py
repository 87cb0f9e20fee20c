"""Selection part by part against its definition, written as plainly as Python allows; each cutoff; the database."""

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from pipeline import tables
from pipeline.composition import Compositions
from pipeline.screening import select
from pipeline.screening.criteria import Criteria, Weights
from pipeline.screening.distribution import Residuals
from pipeline.screening.schema import PREDICTED
from tests.predicted import UNIFORM, predicted, write_entries

N_PARTS = 5
RESIDUALS = Residuals(UNIFORM, UNIFORM)
BY_LIKENESS = Weights(near_hull=0, gap=0, likeness=1, novelty=1, diversity=1)


def run(folder, parts: list[pa.Table], criteria: Criteria, known=("Li2O",)) -> tuple[list[dict], pa.Table]:
    """Rows of the screened parts, and the selected table."""
    paths = [folder / f"predicted-{number}.parquet" for number in range(len(parts))]
    screened = [folder / f"screened-{number}.parquet" for number in range(len(parts))]
    for path, part in zip(paths, parts, strict=True):
        tables.write(path, PREDICTED, part)
    select.select(
        predicted_paths=paths,
        entries_path=write_entries(folder / "entries.parquet", known),
        screened_paths=screened,
        selected_path=folder / "selected.parquet",
        criteria=criteria,
        residuals=RESIDUALS,
    )
    for path, part in zip(screened, parts, strict=True):
        assert tables.read(path, select.SCREENED)["id"].equals(part["id"])
    rows = tables.read_all(screened, select.SCREENED).to_pylist()
    return rows, tables.read(folder / "selected.parquet", select.SELECTED)


def fate(rows: list[dict]) -> dict[str, str | int]:
    return {row["id"]: row["rejected_by"] or row["rank"] for row in rows}


# --- against the definition -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def candidates() -> list[pa.Table]:
    """Many formulas of few systems, terms of few values: ties within and between systems, some without a score."""
    random = np.random.default_rng(0)
    batch = Compositions.from_dense(random.integers(0, 3, (3000, 5)), [3, 8, 64, 65, 90])
    batch = batch.take(batch.n_elements > 0).reduced()
    batch = batch.take(batch.unique()[0])
    batch = batch.take(random.permutation(len(batch)))
    n = len(batch)
    unscored = random.random(n) < 0.1
    whole = predicted(
        batch.formulas().to_pylist(),
        likeness=pa.array(random.choice([0, 0.25, 0.5, 0.75, 1.0], n), mask=unscored),
        nearest_known_distance=random.choice([0.5, 1.0, 2.0], n),
        is_known=random.random(n) < 0.2,
        unscored_because=np.where(unscored, "no likeness", None),
    )
    bounds = [0, *np.sort(random.integers(0, n, N_PARTS - 1)).tolist(), n]
    return [whole.slice(first, last - first) for first, last in pairwise(bounds)]


def defined(rows: list[dict], criteria: Criteria) -> tuple[dict[str, str | int], dict[str, Fraction]]:
    """Rank or reason of each row, and the usefulness of the ranked ones, by definition."""
    fates = {row["id"]: "known" if row["is_known"] else "unscored" for row in rows}
    left = [row for row in rows if not row["is_known"] and row["likeness"] is not None]
    merit = {row["id"]: Fraction(row["likeness"]) * Fraction(row["nearest_known_distance"]) / 2 for row in left}
    place, useful = Counter(), {}
    for row in sorted(left, key=lambda row: (-merit[row["id"]], row["id"])):
        system = frozenset(row["elements"])
        place[system] += 1
        if place[system] > (criteria.max_per_chemical_system or len(rows)):
            fates[row["id"]] = "max_per_chemical_system"
        else:
            useful[row["id"]] = merit[row["id"]] / place[system] ** int(criteria.weights.diversity)
    ranking = sorted(useful, key=lambda name: (-useful[name], -merit[name], name))
    fates |= {name: rank if rank <= criteria.n_selected else "n_selected" for rank, name in enumerate(ranking, 1)}
    kept = ranking if criteria.max_per_chemical_system else ranking[: criteria.n_selected]
    return fates, {name: useful[name] for name in kept}


@pytest.mark.parametrize("merged_rows", [1, 100, 1 << 18])
@pytest.mark.parametrize("diversity", [0, 1])
@pytest.mark.parametrize(("limit", "n_selected"), [(None, 10), (None, 10**6), (1, 10), (2, 25), (3, 10**6)])
def test_every_row_meets_the_fate_of_the_definition(
    candidates, tmp_path, monkeypatch, limit, n_selected, merged_rows, diversity
):
    monkeypatch.setattr(select, "_MERGED_ROWS", merged_rows)
    criteria = Criteria(
        require_novel=True,
        weights=replace(BY_LIKENESS, diversity=diversity),
        max_per_chemical_system=limit,
        n_selected=n_selected,
    )
    found, selected = run(tmp_path, candidates, criteria)
    expected, useful = defined([row for part in candidates for row in part.to_pylist()], criteria)
    assert fate(found) == expected
    told = {row["id"]: row["usefulness"] for row in found if row["usefulness"] is not None}
    assert told == pytest.approx({name: float(value) for name, value in useful.items()}, rel=1e-8)
    ranks = sorted((rank, name) for name, rank in expected.items() if isinstance(rank, int))
    assert selected["id"].to_pylist() == [name for _, name in ranks]
    assert selected["rank"].to_pylist() == [rank for rank, _ in ranks]
    assert selected["usefulness"].to_pylist() == sorted(selected["usefulness"].to_pylist(), reverse=True)


def test_the_number_of_parts_does_not_matter(candidates, tmp_path):
    criteria = Criteria(max_per_chemical_system=2, n_selected=40, max_formation_energy_ev_per_atom=0.0)
    whole = pa.concat_tables(candidates)
    results = []
    for number, parts in enumerate((candidates, [whole], candidates[::-1])):
        (tmp_path / str(number)).mkdir()
        found, selected = run(tmp_path / str(number), parts, criteria)
        results.append((sorted(map(str, found)), selected))
    assert results[0][0] == results[1][0] == results[2][0]
    assert results[0][1].equals(results[1][1]) and results[0][1].equals(results[2][1])


# --- cutoffs ----------------------------------------------------------------------------------------------------------

FORMULAS = ["NaCl", "NaCl2", "Na2Cl", "MgO", "UO2", "ZnCu", "Ca12O11", "CdSe", "LiFeO2"]


@pytest.fixture
def choose(tmp_path):
    """Select among hand-made scores; returns fate by id and the selected table."""
    table = predicted(
        FORMULAS,
        formation_energy_ev_per_atom=[-2.0, -2.1, -1.0, -3.0, -3.5, None, -2.5, -0.9, -1.5],
        formation_energy_uncertainty_ev_per_atom=[0.1, 0.3, 0.1, 0.1, 0.1, None, 0.2, 0.1, 0.1],
        # probability of at most 0.05: 0.75 at 0, 1 at -0.1, 0.5 at 0.05, 0.25 at 0.1, 0 at 0.2
        decomposition_energy_ev_per_atom=[-0.1, 0.0, 0.2, 0.1, 0.0, None, 0.05, 0.05, -0.02],
        decomposition_energy_uncertainty_ev_per_atom=[0.1, 0.1, 0.1, 0.1, 0.1, None, 0.1, 0.1, 0.4],
        band_gap_ev=[5.0, 4.0, 0.0, 6.0, 2.0, 0.0, 3.0, 2.0, 2.0],
        likeness=[0.9, 0.8, 0.7, 0.6, 0.5, None, 0.4, 0.3, 0.2],
        unscored_because=[None] * 5 + ["no likeness: the model never saw Zn"] + [None] * 3,
        distance_from_training=[1.0, 1.0, 1.0, 1.0, 1.0, None, 3.0, 1.0, 1.0],
        is_known=[name == "MgO" for name in FORMULAS],
    )

    def go(criteria: Criteria):
        found, selected = run(tmp_path, [table.slice(0, 4), table.slice(4)], criteria, ["MgO", "NaCl3"])
        return fate(found), selected

    return go


def test_rank_is_by_usefulness(choose):
    fates, selected = choose(Criteria())
    #         near hull x likeness / place in the system
    useful = {"NaCl": 0.9, "NaCl2": 0.6 / 2, "UO2": 0.375, "Ca12O11": 0.2, "MgO": 0.15, "CdSe": 0.15}
    useful |= {"LiFeO2": (0.5 + 0.07 / 0.8) * 0.2, "Na2Cl": 0.7 / 402 / 3}
    assert fates.pop("ZnCu") == "unscored"
    assert sorted(fates, key=fates.get) == ["NaCl", "UO2", "NaCl2", "Ca12O11", "CdSe", "MgO", "LiFeO2", "Na2Cl"]
    found = dict(zip(selected["id"].to_pylist(), selected["usefulness"].to_pylist(), strict=True))
    assert found == pytest.approx(useful, rel=0.01)


@pytest.mark.parametrize(
    ("cutoff", "value", "fallen"),
    [
        ("require_novel", True, {"MgO"}),
        ("allowed_elements", ["Na", "Cl", "Mg", "O", "Ca"], {"UO2", "ZnCu", "CdSe", "LiFeO2"}),
        ("excluded_elements", ["U", "Pu"], {"UO2"}),
        ("exclude_radioactive", True, {"UO2"}),
        ("exclude_toxic", True, {"CdSe"}),
        ("min_elements", 3, {"NaCl", "NaCl2", "Na2Cl", "MgO", "UO2", "ZnCu", "Ca12O11", "CdSe"}),
        ("max_elements", 2, {"LiFeO2"}),
        ("max_atoms", 22, {"Ca12O11"}),
        # by mass, with 500 of O, 1100 of Na, 1500 of Cl, 2900 of Li, 2400 of Fe, 5300 of Mg; none of U
        ("max_hhi_production", 1500, {"MgO", "UO2", "CdSe", "Ca12O11", "LiFeO2"}),
        ("max_formation_energy_ev_per_atom", -1.5, {"Na2Cl", "CdSe"}),
        ("max_formation_energy_uncertainty_ev_per_atom", 0.25, {"NaCl2"}),
        ("max_decomposition_energy_ev_per_atom", 0.05, {"Na2Cl", "MgO"}),
        ("max_decomposition_energy_uncertainty_ev_per_atom", 0.3, {"LiFeO2"}),
        ("min_probability_near_hull", 0.6, {"Na2Cl", "MgO", "Ca12O11", "CdSe", "LiFeO2"}),
        ("min_likeness", 0.4, {"CdSe", "LiFeO2"}),
        ("max_distance_from_training", 2, {"Ca12O11"}),
        ("min_band_gap_ev", 3.0, {"Na2Cl", "UO2", "CdSe", "LiFeO2"}),
        ("max_band_gap_ev", 5.0, {"MgO"}),
        ("max_per_chemical_system", 1, {"NaCl2", "Na2Cl"}),
        ("n_selected", 2, {"NaCl2", "Na2Cl", "MgO", "Ca12O11", "CdSe", "LiFeO2"}),
    ],
)
def test_each_cutoff_rejects_what_it_names(choose, cutoff, value, fallen):
    fates, selected = choose(Criteria(**{cutoff: value}))
    reason = {"require_novel": "known"}.get(cutoff, cutoff)
    assert {name for name, why in fates.items() if why == reason} == fallen
    assert len(selected) == 8 - len(fallen - {"ZnCu"})


def test_the_first_cutoff_in_order_is_the_reason(choose):
    fates, _ = choose(Criteria(exclude_toxic=True, max_formation_energy_ev_per_atom=-1.0, min_band_gap_ev=3.0))
    assert fates["CdSe"] == "exclude_toxic"  # and its energy is too high, and its gap too small
    assert fates["UO2"] == "min_band_gap_ev"


def test_an_index_of_supply_that_is_not_known_meets_no_limit(choose):
    assert choose(Criteria(max_hhi_reserve=10_000))[0]["UO2"] == "max_hhi_reserve"
    _, selected = choose(Criteria())
    index = dict(zip(selected["id"].to_pylist(), selected["hhi_production"].to_pylist(), strict=True))
    assert index["UO2"] is None
    assert index["NaCl"] == pytest.approx((22.99 * 1100 + 35.45 * 1500) / 58.44, abs=0.2)


def test_without_a_model_of_likeness_the_term_is_left_out(tmp_path):
    table = predicted(["NaCl", "MgO", "ZnO"], likeness=None, probability_nonmetal=[0.9, None, 1.0])
    found, _ = run(tmp_path, [table], Criteria(min_band_gap_ev=1.75))
    assert fate(found) == {"ZnO": 1, "NaCl": 2, "MgO": "unscored"}
    assert found[2]["usefulness"] == pytest.approx(0.75 * 0.75)


def test_nothing_left_is_an_empty_selection(choose):
    fates, selected = choose(Criteria(max_formation_energy_ev_per_atom=-9.0))
    assert len(selected) == 0 and not any(isinstance(why, int) for why in fates.values())


def test_no_candidate_is_an_empty_selection(tmp_path):
    found, selected = run(tmp_path, [predicted(["NaCl"]).slice(0, 0)], Criteria(max_per_chemical_system=1))
    assert len(found) == len(selected) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"excluded_elements": ["Xx"]}, "excluded_elements: 'Xx' is no element; give symbols"),
        ({"allowed_elements": ["O", "xx"]}, "allowed_elements: 'xx' is no element; give symbols"),
        ({"allowed_elements": []}, r"allowed_elements: \[\] allows none"),
        ({"min_band_gap_ev": 3.0, "max_band_gap_ev": 1.0}, "min_band_gap_ev: 3.0 is above max_band_gap_ev 1.0; swap"),
        ({"min_elements": 3, "max_elements": 2}, "min_elements: 3 is above max_elements 2; swap"),
        ({"n_selected": 0}, "n_selected: 0 leaves no candidate; give 1 or more"),
        ({"min_likeness": 1.5}, "min_likeness: 1.5 is no probability; give 0 to 1"),
        ({"weights": {"likeness": -1}}, r"weights\.likeness: -1 is below 0; give 0"),
        ({"weights": dict.fromkeys(["near_hull", "likeness", "gap", "novelty", "diversity"], 0)}, "weights: all are 0"),
    ],
)
def test_impossible_criteria_are_refused(change, message):
    with pytest.raises(ValueError, match=f"screening.select.{message}"):
        Criteria(**change)


def test_the_nearest_known_compound_stands_beside_each_selected_one(choose):
    _, selected = choose(Criteria())
    rows = {row["id"]: (row["nearest_known_id"], row["nearest_known_formula"]) for row in selected.to_pylist()}
    assert rows["NaCl"] == ("e1", "NaCl3") and rows["UO2"] == ("e0", "MgO")
