"""Analogues: found as a plain search finds them, weighted by what is known, never the formula itself."""

from itertools import product

import numpy as np
import pytest

from pipeline.composition import ATOMIC_NUMBERS, Compositions
from pipeline.screening.analogues import OF_KNOWN, OF_VALUES, Analogues


def plainly(row: dict[int, int], known: list[dict[int, int]], values, analogues: Analogues, vocabulary) -> list[float]:
    """The features by definition; a pair that a known row itself makes with its analogue is taken off."""
    frequency = {z: sum(z in each for each in known) for z in vocabulary}
    shares, weights, found = [], [], []
    for z, count in row.items():
        others = {other: n for other, n in row.items() if other != z}
        possible, here = 0.0, []
        for x in vocabulary:
            weight = analogues.likeness_EE[z, x]
            if x in row or weight == 0:
                continue
            if others | {x: count} in known:
                weight -= (row in known) / np.sqrt(frequency[z] * frequency[x] + 10)
                if weight > 1e-12:
                    here.append((weight, values[known.index(others | {x: count})]))
            possible += weight
        weights.append(sum(weight for weight, _ in here))
        shares.append(weights[-1] / possible if possible > 1e-9 else 0.0)
        found += here
    with_value = [(w, v) for w, v in found if not np.isnan(v)]
    total = sum(w for w, _ in with_value)
    there = values[~np.isnan(values)]
    of_values = [there.mean()] * 4 + [(there <= 0).mean()]
    if with_value:
        of_values = [
            max(with_value, key=lambda each: each[0])[1],
            sum(w * v for w, v in with_value) / total,
            min(v for _, v in with_value),
            max(v for _, v in with_value),
            sum(w for w, v in with_value if v <= 0) / total,
        ]
    nearest = max((w for w, _ in found), default=0.0)
    return [min(shares), max(shares), np.mean(shares), min(weights), max(weights), len(found), nearest, *of_values]


def test_features_are_those_of_a_plain_search():
    random = np.random.default_rng(0)
    vocabulary = [3, 8, 11, 16, 19, 34]
    everything = Compositions.from_dicts(
        {a: n, b: m} for (a, n), (b, m) in product(product(vocabulary, (1, 2)), repeat=2) if a < b
    ).reduced()
    ternaries = Compositions.from_dicts({3: 1, 8: int(n), z: 1} for n, z in product((1, 2, 3), (11, 19, 16)))
    everything = everything.take(everything.unique()[0])
    known = everything.take(random.random(len(everything)) < 0.6)
    rows = [Compositions.from_dicts(as_dicts(each)) for each in (everything, ternaries)]
    values = np.where(random.random(len(known)) < 0.2, np.nan, random.normal(size=len(known)))
    analogues = Analogues(known, values)
    for batch in rows:
        found = analogues.features(batch)
        wanted = [plainly(row, as_dicts(known), values, analogues, vocabulary) for row in as_dicts(batch)]
        np.testing.assert_allclose(found, wanted, atol=1e-9)


def as_dicts(compositions: Compositions) -> list[dict[int, int]]:
    pairs = zip(compositions.rows.tolist(), compositions.elements.tolist(), compositions.counts.tolist(), strict=True)
    rows: list[dict[int, int]] = [{} for _ in range(len(compositions))]
    for row, z, count in pairs:
        rows[row][z] = count
    return rows


def test_likeness_of_elements_by_hand():
    """NaCl and KCl differ by Na for K, KCl and KBr by Cl for Br; Na stands in 1 formula, K in 2, Cl in 2, Br in 1."""
    analogues = Analogues(Compositions.from_formulas(["NaCl", "KCl", "KBr", "MgO"]))
    na, k, cl, br, o = (ATOMIC_NUMBERS[symbol] for symbol in ("Na", "K", "Cl", "Br", "O"))
    assert analogues.likeness_EE[na, k] == analogues.likeness_EE[k, na] == pytest.approx(1 / np.sqrt(1 * 2 + 10))
    assert analogues.likeness_EE[cl, br] == pytest.approx(1 / np.sqrt(2 * 1 + 10))
    assert analogues.likeness_EE[cl, o] == 0


def test_its_own_value_is_not_among_a_known_formulas_features():
    known = Compositions.from_formulas(["NaCl", "KCl", "NaBr", "KBr", "LiCl"])
    values = np.arange(5.0)
    features = Analogues(known, values).features(known)
    values[0] = 99.0
    again = Analogues(known, values).features(known)
    np.testing.assert_array_equal(features[0], again[0])
    assert not np.array_equal(features[1], again[1])


def test_without_values_there_are_no_columns_of_values(tmp_path):
    known = Compositions.from_formulas(["NaCl", "KCl", "KBr"])
    analogues = Analogues(known)
    assert analogues.feature_names == OF_KNOWN
    assert analogues.features(known).shape == (3, len(OF_KNOWN))
    analogues.save(tmp_path / "known.parquet")
    assert Analogues.load(tmp_path / "known.parquet").feature_names == OF_KNOWN


def test_saving_keeps_every_feature(tmp_path):
    known = Compositions.from_formulas(["NaCl", "KCl", "KBr", "NaBr"])
    analogues = Analogues(known, np.array([0.1, np.nan, -0.3, 0.0]))
    analogues.save(tmp_path / "known.parquet")
    again = Analogues.load(tmp_path / "known.parquet")
    assert again.feature_names == OF_KNOWN + OF_VALUES
    np.testing.assert_array_equal(again.features(known), analogues.features(known))


def test_a_known_compound_stands_once():
    with pytest.raises(ValueError, match="1 of 3 known compositions repeat"):
        Analogues(Compositions.from_formulas(["NaCl", "KCl", "NaCl"]))


def test_no_formulas_no_rows():
    known = Compositions.from_formulas(["NaCl", "KCl"])
    assert Analogues(known).features(known.take(np.arange(0))).shape == (0, len(OF_KNOWN))
