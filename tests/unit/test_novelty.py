"""The nearest known composition, by hand and by its definition."""

import numpy as np
import pytest

from pipeline.composition import Compositions
from pipeline.screening.novelty import nearest_known


def binaries(n: int, seed: int) -> Compositions:
    random = np.random.default_rng(seed)
    z = np.array([3, 8, 9, 11, 12, 13, 16, 17, 20, 22, 26, 29])
    drawn = [dict(zip(random.choice(z, 2, replace=False), random.integers(1, 9, 2), strict=True)) for _ in range(n)]
    return Compositions.from_dicts(drawn)


def test_nearest_known_by_hand():
    known = Compositions.from_formulas(["MgO", "NaCl3", "Na2Cl", "Fe"])
    position, distance = nearest_known(Compositions.from_formulas(["NaCl", "Mg2O2", "ZnS"]), known)
    assert position[:2].tolist() == [2, 0]
    assert distance == pytest.approx([2 * (2 / 3 - 1 / 2), 0, 2])


def test_nearest_known_equals_the_definition():
    some, known = binaries(40, seed=1), binaries(300, seed=2)
    dense = [c.dense(np.arange(1, 119)) / c.n_atoms[:, None] for c in (some, known)]
    expected = np.abs(dense[0][:, None] - dense[1][None]).sum(axis=2)
    position, distance = nearest_known(some, known)
    np.testing.assert_allclose(distance, expected.min(axis=1), atol=1e-12)
    np.testing.assert_allclose(expected[np.arange(40), position], expected.min(axis=1), atol=1e-12)
