"""A made-up campaign small enough to know where each formula stands, and what is said of it."""

import json
import sys

import pytest
import yaml

from pipeline import tables
from pipeline.composition import Compositions
from pipeline.filtering.schema import DRAWN, FILTERED
from pipeline.filtering.stage import filter_part
from pipeline.screening import __main__ as command
from pipeline.screening import explain
from pipeline.screening.campaign import Campaign
from pipeline.screening.criteria import Criteria
from pipeline.screening.distribution import Residuals
from pipeline.screening.schema import PREDICTED, SCORE_COLUMNS
from pipeline.screening.select import select
from pipeline.screening.telling import tell
from tests.predicted import UNIFORM, predicted, write_entries

KNOWN = ["NaCl", "MgO", "LiFe5O8", "Na2O", "KCl", "CsCl", "LiF"]
DRAWN_TIMES = {"KCl": 2, "LiFeO2": 5, "Li5FeO4": 1, "LiFe3O5": 1, "SrO": 3, "BaTiO3": 1, "CdO": 2, "NaCl3": 4}
LIKENESS = {"LiFeO2": 0.8, "Li5FeO4": 0.6, "LiFe3O5": 0.2, "SrO": 0.9, "BaTiO3": 0.1}
SELECT = {"exclude_toxic": True, "max_per_chemical_system": 2, "n_selected": 3, "min_band_gap_ev": None}


@pytest.fixture(scope="module")
def campaign(tmp_path_factory) -> Campaign:
    """Usefulness, at a probability of 0.75 to be near the hull: SrO 0.675, LiFeO2 0.6, Li5FeO4 0.225, BaTiO3 0.075."""
    folder = tmp_path_factory.mktemp("explain")
    results = folder / "results"
    for target in ("decomposition_energy_ev_per_atom", "band_gap_ev"):
        path = results / "screening" / "models" / target / "model.json"
        path.parent.mkdir(parents=True)
        tables.write_json(path, {"residual_quantiles": UNIFORM})
    models = dict.fromkeys(("formation_energy_ev_per_atom", "decomposition_energy_ev_per_atom", "band_gap_ev"), "train")
    overlay = {"campaign": "made", "screening": {"select": SELECT, "models": models}}
    (folder / "made.yaml").write_text(yaml.safe_dump(overlay))
    made = Campaign.read([folder / "made.yaml"], results)

    write_entries(results / "database" / "entries.parquet", KNOWN, band_gap_ev=[5.0] * len(KNOWN))
    drawn = Compositions.from_formulas(DRAWN_TIMES)
    paths = {
        name: [] for name in ("sampling/samples", "filtering/filtered", "screening/predicted", "screening/screened")
    }
    for part, rows in enumerate((slice(0, 5), slice(5, None))):
        for name, listed in paths.items():
            listed.append(results / name / f"part-{part:04d}.parquet")
        mine = drawn.take(range(len(drawn))[rows])
        samples = {"id": mine.formulas(), "n_drawn": list(DRAWN_TIMES.values())[rows], **mine.columns()}
        tables.write(paths["sampling/samples"][-1], DRAWN, samples)
        filtered = paths["filtering/filtered"][-1]
        filter_part(samples_path=paths["sampling/samples"][-1], filtered_path=filtered, rules=made.rules, reject=True)
        survived = [row for row in tables.read(filtered, FILTERED).to_pylist() if row["rejected_by"] is None]
        ids = [row["id"] for row in survived]
        table = predicted(ids, likeness=[LIKENESS.get(id_, 0.5) for id_ in ids], is_known=[id_ in KNOWN for id_ in ids])
        tables.write(paths["screening/predicted"][-1], PREDICTED, table)
    select(
        predicted_paths=paths["screening/predicted"],
        entries_path=made.entries,
        screened_paths=paths["screening/screened"],
        selected_path=results / "screening" / "selected.parquet",
        criteria=made.criteria,
        residuals=made.residuals,
        provenance={"settings": made.config["screening"]["select"]},
    )
    return made


@pytest.fixture
def asked(campaign, monkeypatch, capsys):
    """What the command says; a formula that was not screened is scored as the others are."""

    def score(compositions, models, entries_path, threads):
        assert set(models) >= {"band_gap_ev", "likeness"}
        formulas = compositions.formulas().to_pylist()
        table = predicted(formulas, likeness=LIKENESS.get(formulas[0], 0.5), is_known=formulas[0] in KNOWN)
        return table.select([field.name for field in SCORE_COLUMNS])

    monkeypatch.setattr(explain, "score", score)

    def ask(*arguments: str) -> str:
        options = ["--configfile", str(campaign.results.parent / "made.yaml"), "--results", str(campaign.results)]
        monkeypatch.setattr(sys, "argv", ["pipeline.screening", "explain", *arguments, *options])
        command.main()
        return capsys.readouterr().out

    return ask


@pytest.mark.parametrize(
    ("formula", "sentence"),
    [
        ("SrO", "Selected: rank 1 (n_selected is 3)."),
        ("Fe2Li2O4", "Selected: rank 2 (n_selected is 3)."),
        ("Li5FeO4", "Selected: rank 3 (n_selected is 3)."),
        ("LiFe3O5", "Not selected: 2 of the same elements are better, and no more of them are ranked."),
        ("BaTiO3", "Not selected: rank 4 of 4 that are ranked, and 3 are selected."),
        ("KCl", "Rejected by require_novel: formula is in the database."),
        ("CdO", "Rejected by exclude_toxic: toxic element (Cd)."),
        ("NaCl3", "Rejected by the filter: no oxidation states sum to zero."),
        ("LiF", "Never drawn. It would be rejected by require_novel: formula is in the database."),
        ("NaCl4", "Never drawn. It would be rejected by the filter: no oxidation states sum to zero."),
        ("CaO", "Never drawn. It would have rank 3 of 5 that are ranked."),
        ("LiFeO3", "Never drawn. It would be rejected by the filter: no oxidation states sum to zero."),
        ("Li3FeO3", "Never drawn. It would not be selected: 2 of the same elements are better"),
        ("CaSO4", "Never drawn. It would have rank 3 of 5 that are ranked."),
    ],
)
def test_the_first_sentence_says_where_it_stands(asked, formula, sentence):
    lines = asked(formula).splitlines()
    assert lines[1].strip().startswith(sentence)


def test_rank_that_it_would_have_is_the_rank_that_it_gets(campaign, asked, tmp_path, monkeypatch):
    """Put among the candidates, a formula gets the rank that was foretold."""
    for formula, likeness in (("CaO", 0.5), ("Li3FeO3", 0.7), ("Li7FeO5", 0.01), ("ZnO", 0.1)):
        monkeypatch.setitem(LIKENESS, formula, likeness)
        foretold = json.loads(asked(formula, "--json"))["standing"]
        added = tmp_path / "added.parquet"
        tables.write(added, PREDICTED, predicted([formula], likeness=likeness))
        predicted_paths = [*campaign.parts("screening/predicted"), added]
        screened = [tmp_path / f"{number}.parquet" for number in range(len(predicted_paths))]
        select(
            predicted_paths=predicted_paths,
            entries_path=campaign.entries,
            screened_paths=screened,
            selected_path=tmp_path / "selected.parquet",
            criteria=Criteria(**campaign.config["screening"]["select"] | {"n_selected": 100}),
            residuals=Residuals(UNIFORM, UNIFORM),
        )
        got = tables.read(screened[-1], explain.SCREENED).to_pylist()[0]
        assert foretold["beaten"] == (got["rejected_by"] == "max_per_chemical_system")
        if not foretold["beaten"]:
            assert (foretold["position"], foretold["usefulness"]) == (got["rank"], got["usefulness"])


def test_facts_for_machines(asked):
    found = json.loads(asked("Li5FeO4", "--json"))
    assert found["drawn"] == [{"id": "Li5FeO4", "n_drawn": 1, "rejected_by": None}]
    assert found["filter"]["oxidation_states"] == {"Li": 1, "Fe": 3, "O": -2}
    assert found["known"] == [] and not found["scored_now"] and found["stopped_by"] is None
    assert found["scores"]["decomposition_energy_uncertainty_ev_per_atom"] == 0.1
    assert [row["id"] for row in found["standing"]["better_in_system"]] == ["LiFeO2"]
    assert found["standing"]["usefulness"] == pytest.approx(0.75 * 0.6 / 2)
    terms = {term["term"]: (term["value"], term["share"]) for term in found["terms"]}
    assert {name: value for name, (value, _) in terms.items()} == pytest.approx(
        {"near_hull": 0.75, "likeness": 0.6, "gap": 1.0, "novelty": 0.5, "diversity": 0.5}
    )
    # logarithms: -0.288, -0.511, 0, no weight, -0.693
    assert [share for _, share in terms.values()] == pytest.approx([0.193, 0.342, 0, 0, 0.465], abs=1e-3)
    assert [row["formula"] for row in found["nearest_known"]][:2] == ["LiFe5O8", "LiF"]
    assert found["nearest_known"][0]["band_gap_ev"] == 5.0
    assert found["nearest_known"][0]["distance"] == pytest.approx(2 - 2 * (1 / 14 + 1 / 10 + 4 / 10), abs=1e-3)


def test_every_cutoff_is_listed_and_the_one_that_stopped_it_marked(asked):
    text = asked("CdO")
    assert "FAIL  exclude_toxic" in text and "here Cd  <- stopped it" in text
    assert text.count("<- stopped it") == 1
    found = json.loads(asked("CdO", "--json"))
    told = {each["key"]: (each["limit"], each["value"], each["passes"]) for each in found["cutoffs"]}
    assert told["max_atoms"] == (20, 2, True)
    assert told["max_formation_energy_ev_per_atom"] == (0, -2.0, True)
    assert told["exclude_toxic"] == (True, "Cd", False)
    assert "min_likeness" not in told


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("Xx2O3", "formula 'Xx2O3': 'Xx' is no element"),
        ("Fe2O3)", r"formula 'Fe2O3\)': '\)' closes nothing"),
        ("Fe0.5O", "amount 0.5 is fractional; multiply the formula to whole numbers"),
        ("", "cannot be read"),
        ("Li\x1b[31mFe", "cannot be read"),
    ],
)
def test_a_bad_formula_is_one_line(asked, formula, message):
    with pytest.raises(SystemExit, match=message) as ended:
        asked(formula)
    assert str(ended.value).startswith("kimberlite: ") and str(ended.value).isprintable()


def test_a_campaign_that_is_not_there_is_one_line(campaign, tmp_path):
    with pytest.raises(ValueError, match=r"entries\.parquet: no such file; run `snakemake --cores 2 screening`"):
        explain.explain("NaCl", Campaign(campaign.config, tmp_path))
    with pytest.raises(ValueError, match=r"absent\.yaml"):
        Campaign.read([tmp_path / "absent.yaml"], None)
    (tmp_path / "bad.yaml").write_text("campaign: x\nscreening: {selekt: {}}\n")
    with pytest.raises(ValueError, match=r"unknown key 'selekt' at screening; did you mean 'select'\?"):
        Campaign.read([tmp_path / "bad.yaml"], None)


def test_settings_changed_since_are_named(campaign, asked, tmp_path):
    (tmp_path / "other.yaml").write_text("screening: {select: {max_atoms: 3}}\n")
    overlays = [campaign.results.parent / "made.yaml", tmp_path / "other.yaml"]
    found = explain.explain("LiFeO2", Campaign.read(overlays, campaign.results))
    assert found["changed_since"] == ["max_atoms"] and found["stopped_by"] == "max_atoms"
    assert found["recorded"] == [{"id": "LiFeO2", "rank": 2, "rejected_by": None}]
    assert "has changed since the campaign was screened (max_atoms)" in tell(found) and "recorded: rank 2" in tell(
        found
    )


def test_the_nearest_are_those_of_the_definition():
    known = Compositions.from_formulas(KNOWN)
    position, distance = explain.k_nearest(Compositions.from_formulas(["NaCl3"]), known, 3)
    assert [KNOWN[place] for place in position] == ["NaCl", "KCl", "CsCl"]
    assert distance == pytest.approx([0.5, 1.0, 1.0])
    assert len(explain.k_nearest(known.take([0]), known, 100)[0]) == len(KNOWN)
