"""Labelled formulas: read from a table, one row a formula, split by formula."""

import numpy as np
import pytest

from pipeline.composition import Compositions
from pipeline.screening import labelled
from pipeline.screening.labelled import Labelled, read_table, three_way_split


def binaries(n: int, seed: int = 0) -> Compositions:
    """Distinct binary compositions of twelve common elements."""
    rng = np.random.default_rng(seed)
    z = np.array([3, 8, 9, 11, 12, 13, 16, 17, 20, 22, 26, 29])
    drawn = [dict(zip(rng.choice(z, 2, replace=False), rng.integers(1, 9, 2), strict=True)) for _ in range(4 * n)]
    compositions = Compositions.from_dicts(drawn).reduced()
    return compositions.take(compositions.unique()[0][:n])


def test_split_keeps_a_formula_together_and_its_place():
    some = binaries(1000)
    part = three_way_split(some, 0.1, 0.2, seed=1)
    tripled = Compositions(some.offsets, some.elements, some.counts * 3)
    np.testing.assert_array_equal(three_way_split(tripled, 0.1, 0.2, seed=1), part)
    np.testing.assert_array_equal(three_way_split(some.take(np.arange(500)), 0.1, 0.2, seed=1), part[:500])
    assert np.bincount(part, minlength=3) / 1000 == pytest.approx([0.7, 0.1, 0.2], abs=0.05)
    assert (three_way_split(some, 0.1, 0.2, seed=2) != part).any()


def test_no_formula_stands_in_two_sets():
    """Polymorphs, multiples and another order of the elements are one formula."""
    written = ["TiO2", "Ti2O4", "O2Ti", "O6Ti3", "NaCl", "Cl2Na2", "ClNa"] * 3
    part = three_way_split(Compositions.from_formulas(written), 0.3, 0.3, seed=4)
    assert len(set(part[:4])) == len(set(part[4:7])) == 1
    np.testing.assert_array_equal(part[:7], part[7:14])


def test_lowest_energy_polymorph_is_kept():
    compositions = Compositions.from_formulas(["NaCl", "MgO", "NaCl", "NaCl", "MgO"])
    rows = Labelled(np.array(list("abcde")), compositions, np.arange(5.0))
    assert rows.lowest(np.array([-1, np.nan, -2, np.nan, -3])).ids.tolist() == ["c", "e"]


def test_rare_elements_are_left_out():
    compositions = Compositions.from_formulas([f"NaCl{n}" for n in range(1, 11)] + ["XeF2"])
    rows = Labelled(np.arange(11), compositions, np.zeros(11)).without_rare_elements()
    assert rows.ids.tolist() == list(range(10))


def test_failed_calculations_are_left_out():
    rows = Labelled(np.arange(101), binaries(101), np.array([*np.tile([-1.0, 1.0], 50), 43.0]))
    assert len(rows.within(5)) == 100


def test_a_table_of_labels(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("compound,gap,more\nNaCl,5.0,x\nMgO,,x\nCl2Na2,4.5,x\nTiO2,3,x\n")
    rows = read_table(path, "compound", "gap")
    assert dict(zip(rows.compositions.formulas().to_pylist(), rows.values.tolist(), strict=True)) == {
        "NaCl": 4.5,
        "TiO2": 3.0,
    }
    assert rows.ids.tolist() == ["Cl2Na2", "TiO2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no table of labelled formulas"),
        ("", "no table of labelled formulas"),
        ("formula,gap\nNaCl,1\n", "no column 'value'"),
        ("compound,value\nNaCl,1\n", "no column 'formula'"),
        ("formula,value\nNaCl,1\nMgO,wide\n", r"row 2 below the header holds \{'formula': 'MgO', 'value': 'wide'\}"),
        ("formula,value\nNaCl,inf\n", "row 1 below the header"),
        ("formula,value\n,1\n", "row 1 below the header"),
        ("formula,value\nNaXx2,1\n", "labels.csv: .*Xx"),
    ],
    ids=["absent", "empty", "value", "formula", "word", "infinite", "nameless", "element"],
)
def test_a_bad_table_is_named_with_its_place(text, said, tmp_path):
    path = tmp_path / "labels.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=said):
        labelled.read_table(path)


def test_of_rows_that_are_no_energies_the_median_stays(tmp_path):
    path = tmp_path / "gaps.csv"
    path.write_text("formula,value\nSi,0\nSi,1.1\nSi,1.2\nGaAs,1.4\nGaAs,1.5\n")
    rows = read_table(path, energies=False)
    assert dict(zip(rows.compositions.formulas().to_pylist(), rows.values, strict=True)) == {"Si": 1.1, "GaAs": 1.4}
