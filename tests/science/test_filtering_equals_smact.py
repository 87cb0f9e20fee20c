"""The batch filter answers as ``smact.screening.smact_validity``, on random and on real formulas, under all rules."""

import tarfile
import warnings

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from pymatgen.core import Composition
from smact.screening import ICSD24FilterConfig, smact_validity

from benchmarks import filter_exactness
from pipeline.composition import SYMBOLS, Compositions
from pipeline.database.sources import matminer_transport_archive
from pipeline.filtering.rules import assess
from pipeline.filtering.schema import OXIDATION_STATE_SETS, Rules


def smact_says(compositions: Compositions, rules: Rules) -> np.ndarray:
    if rules.oxidation_states in ("icsd24_low", "icsd24_medium", "icsd24_high"):
        commonality = rules.oxidation_states.removeprefix("icsd24_")
        settings = {"icsd_filter": ICSD24FilterConfig(consensus=3, include_zero=False, commonality=commonality)}
    else:
        settings = {"oxidation_states_set": rules.oxidation_states}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array(
            [
                smact_validity(
                    Composition(formula),
                    use_pauling_test=rules.pauling_test,
                    include_alloys=rules.include_alloys,
                    mixed_valence=rules.mixed_valence,
                    **settings,
                )
                for formula in compositions.formulas().to_pylist()
            ]
        )


def random_compositions(n: int, seed: int, sizes=range(1, 6), largest: int = 8) -> Compositions:
    """Formulas over the 103 elements that smact knows, not reduced."""
    rng = np.random.default_rng(seed)
    size_N = rng.choice(list(sizes), size=n)
    rows = np.repeat(np.arange(n), size_N)
    elements = np.concatenate([rng.choice(np.arange(1, 104), size=size, replace=False) for size in size_N])
    return Compositions.from_pairs(rows, elements, rng.integers(1, largest + 1, len(rows)), n)


def real_compositions(n: int, seed: int) -> Compositions:
    """Formulas of the transport database that matminer ships, up to 7 elements."""
    with tarfile.open(matminer_transport_archive()) as archive:
        formulas = pd.read_csv(archive.extractfile("transport_database.csv"), usecols=["pretty_formula"], dtype=str)
    formulas = formulas.pretty_formula.drop_duplicates()
    return Compositions.from_formulas(formulas.sample(n, random_state=seed))


def assert_equal(compositions: Compositions, rules: Rules) -> None:
    expected = smact_says(compositions, rules)
    differing = np.flatnonzero(assess(compositions, rules).smact_valid != expected)
    assert not len(differing), f"{rules}: {compositions.take(differing[:5]).formulas().to_pylist()}"


@pytest.fixture(scope="module")
def real() -> Compositions:
    return real_compositions(800, seed=1)


@pytest.mark.parametrize("oxidation_states", OXIDATION_STATE_SETS)
@pytest.mark.parametrize("include_alloys", [True, False])
@pytest.mark.parametrize("pauling_test", [True, False])
def test_equal_for_every_set_and_switch(real, oxidation_states, include_alloys, pauling_test):
    rules = Rules(oxidation_states, include_alloys, pauling_test)
    assert_equal(real.take(np.arange(400)), rules)
    assert_equal(random_compositions(200, seed=2), rules)


@pytest.mark.parametrize("rules", [Rules(), Rules("icsd24_medium", include_alloys=False)])
def test_equal_at_the_reported_settings(real, rules):
    assert_equal(real, rules)
    assert_equal(random_compositions(3000, seed=3), rules)


def test_equal_for_large_counts():
    assert_equal(random_compositions(300, seed=4, sizes=range(2, 5), largest=2000), Rules(include_alloys=False))


@pytest.mark.parametrize("pauling_test", [True, False])
def test_equal_with_mixed_valence(pauling_test):
    rules = Rules("icsd24_medium", False, pauling_test, mixed_valence=True)
    mixed = ["Fe3O4", "Mn3O4", "YBa2Cu3O7", "Pb3O4", "Fe7S8", "V4O9", "Fe3Mn2O8", "EuFe4Sb12", "CrFeMnO5", "Bi2Fe4O9"]
    beyond_the_limit = ["Mn40O67", "Fe40S47"]
    both_signs_on_one_element = ["LiSb3", "Sb4O", "Be3Sb4", "BSb3"]
    assert_equal(Compositions.from_formulas(mixed + beyond_the_limit + both_signs_on_one_element), rules)
    assert_equal(random_compositions(150, seed=5, sizes=range(2, 4), largest=5), rules)


@pytest.mark.filterwarnings("ignore:Mixed-valence expansion")
def test_equal_for_mixed_valence_known_and_too_large():
    """By the command that shows it on a million formulas; beyond smact's limit our verdict equals an enumeration."""
    too_large = ["Fe22O31", "Fe22O34", "Mn23O45", "V11Fe12O43", "Cu30Bi7O40", "Fe9Ni9Sb9O31", "Sb25O51", "U9V9Mn9N7O80"]
    compositions = Compositions.from_formulas([*filter_exactness.KNOWN_MIXED, *too_large])
    for rules in filter_exactness.settings("icsd24_low").values():
        if rules.mixed_valence:
            found = filter_exactness.compare(rules, {"known": compositions}, seconds=60)
            assert (found["compared"], found["disagreements"]) == (len(compositions), 0), found


def test_the_command_finds_a_wrong_answer(monkeypatch):
    def wrong(compositions, rules):
        judged = assess(compositions, rules)
        return judged._replace(smact_valid=~judged.smact_valid)

    monkeypatch.setattr(filter_exactness, "assess", wrong)
    found = filter_exactness.compare(Rules(), {"two": Compositions.from_formulas(["NaCl", "NaCl2"])}, seconds=60)
    assert found["disagreements"] == 2
    assert found["disagreeing"] == ["NaCl", "NaCl2"]


def test_equal_with_a_file_of_states(tmp_path):
    path = tmp_path / "states.txt"
    path.write_text("# mine\nFe 8\nO -2\nNa 1\nCl\n\nS -2 6\n")
    compositions = Compositions.from_formulas(["FeO4", "Fe2O3", "NaCl", "Na2S", "Na2SO4", "KCl"])
    rules = Rules(str(path))
    assert_equal(compositions, rules)
    assert assess(compositions, rules).smact_valid.tolist() == [True, False, False, True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("rules", [Rules(), Rules("icsd24_medium", include_alloys=False)])
def test_equal_on_fifty_thousand(rules):
    assert_equal(random_compositions(50_000, seed=6), rules)


@pytest.mark.slow
@pytest.mark.parametrize("rules", [Rules(), Rules("icsd24_medium", include_alloys=False)])
def test_equal_on_all_samples_of_the_default_run(root, rules):
    parts = sorted((root / "results" / "default" / "sampling" / "samples").glob("part-*.parquet"))
    if not parts:
        pytest.skip("no samples: `make run` makes them")
    for part in parts:
        assert_equal(Compositions.from_table(pq.read_table(part)), rules)


def test_all_elements_of_smact_are_covered():
    assert set(np.unique(random_compositions(3000, seed=3).elements)) == set(range(1, 104))
    assert SYMBOLS[102] == "Lr"


def test_equal_when_too_long_to_search():
    """More than ten elements take another way through the kernel; few states each, so that smact can follow."""
    rng = np.random.default_rng(8)
    simple = np.array([3, 4, 11, 12, 13, 19, 20, 21, 31, 37, 38, 39, 55, 56, 57, 72])
    amounts = []
    for _ in range(300):
        cations = rng.choice(simple, size=11, replace=False).tolist()
        amounts.append({8: int(rng.integers(10, 20)), **dict.fromkeys(cations, 1), cations[0]: int(rng.integers(1, 4))})
    rules = Rules("icsd24_medium", include_alloys=False)
    assert_equal(Compositions.from_dicts(amounts), rules)
    assert 10 < assess(Compositions.from_dicts(amounts), rules).smact_valid.sum() < 290
