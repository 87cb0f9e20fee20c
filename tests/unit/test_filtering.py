"""Filtering: verdicts known by hand, invariances, the tables that the stage writes and its baselines."""

import itertools

import numpy as np
import pyarrow.compute as pc
import pytest

from pipeline import tables
from pipeline.composition import ATOMIC_NUMBERS, Compositions
from pipeline.filtering import baseline, history, kernel, rules
from pipeline.filtering.schema import DRAWN, FILTERED, VERDICTS, Rules
from pipeline.filtering.stage import filter_part
from pipeline.provenance import derived_seed

DEFAULT = Rules()


def verdicts(formulas: list[str], settings: Rules = DEFAULT) -> list[str]:
    return [VERDICTS[v] for v in rules.assess(Compositions.from_formulas(formulas), settings).verdict]


def states(formula: str, settings: Rules = DEFAULT) -> dict[int, int] | None:
    compositions = Compositions.from_formulas([formula])
    judged = rules.assess(compositions, settings)
    if not judged.has_states[0]:
        return None
    return dict(zip(compositions.elements.tolist(), judged.oxidation_states.tolist(), strict=True))


def test_kernel_verdicts_are_positions_in_the_vocabulary():
    assert [VERDICTS[getattr(kernel, name.upper())] for name in VERDICTS] == list(VERDICTS)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("NaCl", {"Na": 1, "Cl": -1}),
        ("LiF", {"Li": 1, "F": -1}),
        ("Fe2O3", {"Fe": 3, "O": -2}),
        ("LiFePO4", {"Li": 1, "Fe": 2, "P": 5, "O": -2}),
        ("KMnO4", {"K": 1, "Mn": 7, "O": -2}),
        ("H2O2", {"H": 1, "O": -1}),
        ("FeS2", {"Fe": 2, "S": -1}),
        ("GaAs", {"Ga": 3, "As": -3}),
        ("XeF2", {"Xe": 2, "F": -1}),
    ],
)
def test_oxidation_states_of_known_compounds(formula, expected):
    assert states(formula) == {ATOMIC_NUMBERS[symbol]: state for symbol, state in expected.items()}
    assert verdicts([formula]) == ["balanced"]


def test_most_common_assignment_is_chosen():
    """Cu+2 S-2 and Cu+1 S-1 are both neutral; Cu+1 Fe+3 S-2 beats Cu+2 Fe+2 S-2 by reports in the ICSD."""
    assert states("CuS") == {29: 2, 16: -2}
    assert states("CuFeS2") == {26: 3, 29: 1, 16: -2}


@pytest.mark.parametrize(
    ("formula", "settings", "verdict"),
    [
        ("NaCl2", Rules(), "not_neutral"),
        ("CuZn", Rules(), "alloy"),
        ("CuZn", Rules(include_alloys=False), "not_neutral"),
        ("Fe3O4", Rules("icsd24_medium"), "not_neutral"),
        ("Fe3O4", Rules("icsd24_medium", mixed_valence=True), "balanced"),
        ("HeO", Rules(), "unknown_element"),
        ("OgF", Rules(), "unknown_element"),
        ("Og", Rules(), "element"),
        ("Cu", Rules(include_alloys=False), "element"),
        ("FrMd", Rules(), "alloy"),  # no states known, nor asked for
        ("FrMd", Rules(include_alloys=False), "unknown_element"),
        ("PmF3", Rules(), "unknown_electronegativity"),
        ("PmF2", Rules(), "not_neutral"),
        ("PmF3", Rules(pauling_test=False), "balanced"),
        ("PdH", Rules(), "not_balanced"),  # Pd+1 H-1, both of electronegativity 2.20
    ],
)
def test_verdicts(formula, settings, verdict):
    assert verdicts([formula], settings) == [verdict]


@pytest.mark.parametrize(
    ("formula", "verdict"),
    [
        ("Fe19O27", "balanced"),  # 2 ** 19 assignments, 3 Fe+2 and 16 Fe+3
        ("Fe22O31", "too_large_for_smact"),  # 2 ** 22 assignments, 4 Fe+2 and 18 Fe+3
        ("Fe22O34", "not_neutral"),  # more than 22 Fe+3 give
        ("Fe65534O65535", "too_large_for_smact"),
        ("Fe65535O65534", "not_neutral"),  # less than Fe+2 give
        ("Fe22Na4O33", "too_large_for_smact"),
        ("Pb3O4", "not_neutral"),  # lead is not among smact's elements of mixed valence
    ],
)
def test_mixed_valence_beyond_the_size_where_smact_gives_up(formula, verdict):
    settings = Rules("icsd24_medium", mixed_valence=True)
    assert verdicts([formula], settings) == [verdict]
    judged = rules.assess(Compositions.from_formulas([formula]), settings)
    assert judged.smact_valid[0] == (verdict == "balanced")
    assert not judged.has_states[0]


def test_atoms_of_one_element_do_not_differ_in_sign(tmp_path):
    """An element at -1 and +2 would be cation and anion of one electronegativity."""
    path = tmp_path / "states.txt"
    path.write_text("Fe -1 2\nO -2\n")
    settings = {"oxidation_states": str(path), "mixed_valence": True}
    assert verdicts(["Fe3", "Fe4O", "Fe6O"], Rules(**settings)) == ["element", "not_balanced", "not_neutral"]
    assert verdicts(["Fe4O", "FeO"], Rules(**settings, pauling_test=False)) == ["balanced", "balanced"]


def test_mixed_valence_has_no_single_state():
    assert states("Fe3O4", Rules(mixed_valence=True)) is None


def test_pauling_test_rejects_an_electropositive_anion(tmp_path):
    path = tmp_path / "states.txt"
    path.write_text("Na -1\nCl 1\n")
    assert verdicts(["NaCl"], Rules(str(path))) == ["not_balanced"]
    assert verdicts(["NaCl"], Rules(str(path), pauling_test=False)) == ["balanced"]


def test_order_of_elements_and_common_factors_do_not_matter():
    elements, counts = np.array([3, 26, 15, 8]), np.array([1, 1, 1, 4])
    seen = set()
    for order in itertools.permutations(range(4)):
        order = list(order)
        unordered = Compositions(
            np.array([0, 4]), elements[order].astype(np.uint8), 3 * counts[order].astype(np.uint16)
        )
        judged = rules.assess(unordered, Rules())
        seen.add((int(judged.verdict[0]), *sorted(zip(elements[order], judged.oxidation_states, strict=True))))
    assert len(seen) == 1


@pytest.mark.parametrize("mixed_valence", [True, False])
def test_no_element_ever_raises(mixed_valence):
    pairs = list(itertools.combinations(range(1, 119), 2))
    compositions = Compositions.from_dicts([{}, *({z: 1} for z in range(1, 119)), *({a: 1, b: 2} for a, b in pairs)])
    judged = rules.assess(compositions, Rules(mixed_valence=mixed_valence))
    beyond = np.array([max(pair) > 103 for pair in pairs])
    names = np.array(VERDICTS)[judged.verdict]
    assert names[0] == "unknown_element" and not judged.smact_valid[0]
    assert (names[1:119] == "element").all()
    assert (names[119:][beyond] == "unknown_element").all()


def test_long_formulas_are_answered_exactly_and_soon():
    """Odd fluorine beside even counts of everything else is never neutral, which no search could try out."""
    odd = {9: 7, **dict.fromkeys([z for z in range(19, 53) if z not in (36, 43)], 2)}
    # charge 2 * 25 when each is as usual: 25 oxide ions balance it, 35 are too many and 35 peroxide charges odd
    cations = dict.fromkeys([3, 11, 12, 13, 19, 20, 21, 31, 37, 38, 39, 55, 56], 2)
    huge = {26: 65535, 25: 65534, 8: 65533}
    compositions = Compositions.from_dicts([odd, {**cations, 8: 35}, {**cations, 8: 25}, huge])
    judged = rules.assess(compositions, Rules("icsd24_low", include_alloys=False))
    assert [VERDICTS[v] for v in judged.verdict[:3]] == ["not_neutral", "not_neutral", "balanced"]
    assert not judged.has_states[2]


def test_no_rows():
    judged = rules.assess(Compositions.from_dicts([]), Rules())
    assert len(judged.verdict) == len(judged.oxidation_states) == 0


def test_unknown_set_is_named_with_the_allowed_ones():
    with pytest.raises(ValueError, match=r"'icsd25' is neither a file nor one of icsd24_low, icsd24_medium"):
        Rules("icsd25")


@pytest.mark.parametrize("line", ["Xx 2", "Fe two", "Fe 2.5", "Fe 12"])
def test_bad_line_in_a_file_of_states_is_named(tmp_path, line):
    path = tmp_path / "states.txt"
    path.write_text(f"O -2\n{line}\n")
    with pytest.raises(ValueError, match=f"states.txt, line 2: '{line}'"):
        verdicts(["NaCl"], Rules(str(path)))


def write_samples(path, formulas: list[str]):
    compositions = Compositions.from_formulas(formulas)
    data = {"id": formulas, "n_drawn": list(range(1, len(formulas) + 1)), **compositions.columns()}
    tables.write(path, DRAWN, data)


FORMULAS = ["NaCl", "NaCl2", "CuZn", "HeO", "Fe2O3"]


def test_part_rejects_or_annotates(tmp_path):
    write_samples(tmp_path / "samples.parquet", FORMULAS)
    arguments = {"samples_path": tmp_path / "samples.parquet", "rules": Rules(), "provenance": {"seed": 7}}
    filter_part(**arguments, filtered_path=tmp_path / "rejecting.parquet", reject=True)
    filter_part(**arguments, filtered_path=tmp_path / "annotating.parquet", reject=False)
    rejecting = tables.read(tmp_path / "rejecting.parquet", FILTERED)
    annotating = tables.read(tmp_path / "annotating.parquet", FILTERED)

    assert rejecting["id"].to_pylist() == annotating["id"].to_pylist() == FORMULAS
    for table in (rejecting, annotating):
        assert table["verdict"].to_pylist() == ["balanced", "not_neutral", "alloy", "unknown_element", "balanced"]
        assert table["smact_valid"].to_pylist() == [True, False, True, False, True]
        assert table["oxidation_states"].to_pylist() == [[1, -1], None, None, None, [3, -2]]
    assert rejecting["rejected_by"].to_pylist() == [None, "not_neutral", None, "unknown_element", None]
    assert rejecting["n_drawn"].to_pylist() == [1, None, 3, None, 5]
    assert rejecting["elements"].to_pylist() == [[11, 17], None, [30, 29], None, [26, 8]]
    assert rejecting["counts"].to_pylist() == [[1, 1], None, [1, 1], None, [2, 3]]
    assert annotating["rejected_by"].null_count == 5
    assert annotating["counts"].to_pylist()[1] == [1, 2]
    assert tables.provenance(tmp_path / "rejecting.parquet")["seed"] == 7

    survivors = rejecting.filter(pc.is_null(rejecting["rejected_by"]))
    assert Compositions.from_table(survivors).formulas().to_pylist() == ["NaCl", "ZnCu", "Fe2O3"]


def test_same_samples_same_bytes(tmp_path):
    write_samples(tmp_path / "samples.parquet", FORMULAS)
    for name in ("one", "two"):
        filter_part(
            samples_path=tmp_path / "samples.parquet", filtered_path=tmp_path / name, rules=Rules(), reject=True
        )
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_part_without_rows(tmp_path):
    tables.write(tmp_path / "samples.parquet", DRAWN, DRAWN.schema.empty_table())
    filter_part(
        samples_path=tmp_path / "samples.parquet", filtered_path=tmp_path / "out.parquet", rules=Rules(), reject=True
    )
    assert tables.read(tmp_path / "out.parquet", FILTERED).num_rows == 0


def test_matched_random_keeps_counts_and_draws_by_frequency():
    compositions = Compositions.from_formulas(["Na2Cl3"] * 20_000 + ["LiFePO4"] * 20_000)
    frequency = np.zeros(119)
    frequency[[1, 8, 26, 92]] = [1, 2, 3, 4]
    drawn = baseline.matched_random(compositions, frequency, seed=3)

    assert (drawn.offsets == compositions.offsets).all()
    pairs = drawn.take(np.arange(20_000))
    assert (np.sort(pairs.counts.reshape(-1, 2), axis=1) == [2, 3]).all()
    assert (pairs.elements[::2] != pairs.elements[1::2]).all()
    expected = 0.4 + 0.1 * 4 / 9 + 0.2 * 4 / 8 + 0.3 * 4 / 7  # uranium drawn first, or second after H, O or Fe
    assert (pairs.elements == 92).sum() / 20_000 == pytest.approx(expected, abs=0.015)
    assert (pairs.counts[pairs.elements == 92] == 3).mean() == pytest.approx(0.5, abs=0.02)
    fours = drawn.take(np.arange(20_000, 40_000))
    assert (np.sort(fours.elements.reshape(-1, 4), axis=1) == [1, 8, 26, 92]).all()


def test_matched_random_is_seeded_and_refuses_the_impossible():
    compositions = Compositions.from_formulas(["LiFePO4"] * 50)
    frequency = baseline.element_frequency(compositions)
    frequency[92] = 10
    draws = [baseline.matched_random(compositions, frequency, seed).elements.tobytes() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]
    with pytest.raises(ValueError, match="formulas of 4 elements cannot be drawn from the 2 elements"):
        baseline.matched_random(compositions, baseline.element_frequency(Compositions.from_formulas(["NaCl"])), 1)


def test_pass_rates_by_hand():
    training = Compositions.from_formulas(["NaCl", "NaCl2", "LiFePO4", "Cu"])
    samples = Compositions.from_formulas(["CuZn", "NaCl2", "CaTiO3", "Fe"])
    found = baseline.pass_rates(training, [(samples, np.array([5, 2, 3, 100]))], seed=1)
    low, strict = (found[name]["sets"] for name in ("icsd24_low", "icsd24_medium_no_alloys"))

    assert low["training"]["overall"] == {"rows": 3, "passed": 2, "rate": 2 / 3}
    assert low["training"]["by_n_elements"]["2"] == {"rows": 2, "passed": 1, "rate": 0.5}
    assert low["training"]["by_n_elements"]["8"] == {"rows": 0, "passed": 0, "rate": None}
    assert low["samples"]["overall"] == {"rows": 3, "passed": 2, "rate": 2 / 3}
    assert low["samples_drawn"]["overall"] == {"rows": 10, "passed": 8, "rate": 0.8}
    assert strict["samples_drawn"]["overall"]["passed"] == 3  # the alloy no longer passes
    for name in ("training", "samples", "samples_drawn"):
        assert low[f"random_of_{name}"]["overall"]["rows"] == low[name]["overall"]["rows"]
        random_rate = low[f"random_of_{name}"]["overall"]["rate"]
        expected = low[name]["overall"]["rate"] / random_rate if random_rate else None
        assert found["icsd24_low"]["enrichment"][name] == expected


def write_database(folder, formulas: list[str], held_out: list[bool]):
    compositions = Compositions.from_formulas(formulas)
    tables.write(folder / "entries.parquet", baseline.ENTRIES, {"id": formulas, **compositions.columns()})
    backwards = {"id": formulas[::-1], "held_out": held_out[::-1]}
    tables.write(folder / "split.parquet", baseline.SPLIT, backwards)


def test_pass_rates_leave_out_held_out_entries(tmp_path):
    write_database(tmp_path, ["NaCl", "NaCl2", "LiF"], [False, True, False])
    write_samples(tmp_path / "part-1.parquet", FORMULAS[:2] * 2)
    write_samples(tmp_path / "part-2.parquet", FORMULAS[2:] * 2)
    paths = {"entries_path": tmp_path / "entries.parquet", "output_path": tmp_path / "rates.json"}
    paths["samples_paths"] = [tmp_path / "part-1.parquet", tmp_path / "part-2.parquet"]
    baseline.write_pass_rates(**paths, split_path=tmp_path / "split.parquet", seed=1)
    sets = tables.read_json(tmp_path / "rates.json")["icsd24_low"]["sets"]
    assert sets["training"]["overall"] == {"rows": 2, "passed": 2, "rate": 1.0}
    assert sets["samples"]["overall"]["rows"] == 5, "a formula that comes again, as another crystal, counts once"
    assert sets["samples_drawn"]["overall"]["rows"] == 1 + 2 + 3 + 4 + 1 + 2 + 3 + 4 + 5 + 6

    write_database(tmp_path, ["NaCl", "LiF"], [False, False])
    tables.write(tmp_path / "split.parquet", baseline.SPLIT, {"id": ["LiF"], "held_out": [False]})
    with pytest.raises(ValueError, match=r"1 entries of .* are absent; rerun encoding"):
        baseline.write_pass_rates(**paths, split_path=tmp_path / "split.parquet", seed=1)


def test_history_without_samples(tmp_path):
    """A generator may draw at no epoch."""
    write_database(tmp_path, ["NaCl"], [False])
    data = {"epoch": [], **Compositions.from_formulas([]).columns()}
    tables.write(tmp_path / "epoch_samples.parquet", history.EPOCH_SAMPLES, data)
    paths = {f"{name}_path": tmp_path / f"{name}.parquet" for name in ("epoch_samples", "entries", "split")}
    history.write_history(**paths, output_path=tmp_path / "history.parquet")
    assert len(tables.read(tmp_path / "history.parquet", history.HISTORY)) == 0


def test_history_by_hand(tmp_path):
    write_database(tmp_path, ["NaCl", "LiF", "CuZn"], [False, False, True])
    samples = Compositions.from_formulas(["KBr", "KBr", "Na", "NaCl", "NaCl2", "LiF", "CuZn"])
    data = {"epoch": [1, 1, 1, 2, 2, 2, 2], **samples.columns()}
    tables.write(tmp_path / "epoch_samples.parquet", history.EPOCH_SAMPLES, data)
    history.write_history(
        epoch_samples_path=tmp_path / "epoch_samples.parquet",
        entries_path=tmp_path / "entries.parquet",
        split_path=tmp_path / "split.parquet",
        output_path=tmp_path / "history.parquet",
    )
    first, second = tables.read(tmp_path / "history.parquet", history.HISTORY).to_pylist()
    assert first["unique_share"] == pytest.approx(2 / 3)
    assert first["element_total_variation"] == pytest.approx(0.8)  # K 0.4, Br 0.4, Na 0.2 against four times 0.25
    assert first["pass_rate_icsd24_low"] == 1
    assert second["n_samples"] == 4
    assert second["unique_share"] == 1
    assert second["pass_rate_icsd24_low"] == 0.75
    assert second["pass_rate_icsd24_medium_no_alloys"] == 0.5
    assert second["element_total_variation"] == pytest.approx(0.25)


def test_pass_rates_do_not_depend_on_the_parts(monkeypatch):
    monkeypatch.setattr(baseline, "_RANDOM_ROWS", 7)
    rng = np.random.default_rng(0)
    batch = Compositions.from_dense(rng.integers(0, 3, (400, 6)), [3, 8, 9, 11, 12, 26]).reduced()
    batch = batch.take(batch.unique()[0])
    drawn = rng.integers(1, 9, len(batch))
    training = batch.take(np.arange(0, len(batch), 3))
    bounds = [0, 1, 1, 50, 57, len(batch)]
    parts = [np.arange(a, b) for a, b in itertools.pairwise(bounds)]
    found = baseline.pass_rates(training, [(batch.take(rows), drawn[rows]) for rows in parts], seed=1)
    assert found == baseline.pass_rates(training, [(batch, drawn)], seed=1)
    random_of_samples = baseline.matched_random(
        batch.take(batch.n_elements > 1),
        baseline.element_frequency(training.take(training.n_elements > 1)),
        derived_seed(1, "random_of_samples"),
    )
    for name, setting in baseline.SETTINGS.items():
        rate = found[name]["sets"]["random_of_samples"]["overall"]
        assert rate["passed"] == rules.assess(random_of_samples, setting).smact_valid.sum()
        assert rate["rows"] == len(random_of_samples)


def test_pass_rates_without_a_random_counterpart():
    """A sample of more elements than training has cannot be drawn at random; nothing raises, nor without samples."""
    training = Compositions.from_formulas(["NaCl"])
    samples = Compositions.from_formulas(["LiFePO4", "NaCl"])
    sets = baseline.pass_rates(training, [(samples, np.array([3, 2]))], seed=1)["icsd24_low"]["sets"]
    assert [sets[name]["overall"]["rows"] for name in ("samples", "random_of_samples")] == [2, 1]
    assert [sets[name]["overall"]["rows"] for name in ("samples_drawn", "random_of_samples_drawn")] == [5, 2]
    empty = baseline.pass_rates(training, [(samples.take(np.zeros(0, dtype=int)), np.zeros(0, dtype=int))], seed=1)
    assert empty["icsd24_low"]["enrichment"]["samples"] is None
