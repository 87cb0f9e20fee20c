"""Numbers as values with counts say what the numbers themselves say, to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.report.counted import Counted, together

numbers = st.lists(st.integers(-50, 50).map(lambda n: n / 10_000) | st.floats(-9, 9), min_size=1, max_size=60)


@given(st.lists(numbers, min_size=1, max_size=4), st.floats(0, 1))
@settings(deadline=None)
def test_parts_are_the_whole(parts, share):
    whole = np.concatenate(parts)
    counted = together([Counted.of(np.array(part)) for part in parts])
    assert len(counted) == len(whole)
    assert (np.repeat(counted.values, counted.counts) == np.sort(whole)).all()
    for q in (0, 0.001, share, 0.999, 1):
        assert counted.quantile(q) == np.quantile(whole, q)
    low, high = np.quantile(whole, [0.1, 0.9])
    edges = np.linspace(low, high + 1e-3, 8)
    assert counted.histogram(edges).tolist() == np.histogram(np.clip(whole, edges[0], edges[-1]), edges)[0].tolist()
    assert len(counted.above(0)) == (whole > 0).sum()


def test_nothing():
    nothing = Counted.of(np.zeros(0))
    assert len(nothing) == len(nothing + nothing) == 0
    assert len(nothing + Counted.of(np.array([1.0, 1.0]))) == 2


def test_sum_by_hand():
    total = Counted.of(np.array([1.0, 2.0, 1.0])) + Counted.of(np.array([2.0, 3.0]))
    assert total.values.tolist() == [1, 2, 3] and total.counts.tolist() == [2, 2, 1]
    assert total.quantile(0.5) == pytest.approx(2)
