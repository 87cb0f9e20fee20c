"""Figures of a set of formulas, each with what it does not say left out of it.

Every formula is reduced, and has 2 to 8 elements: single elements pass any filter. A figure counts formulas once or as
often as they were drawn, as its name says. Intervals are of 95 %.

Legend of suffixes: N distinct formulas, S resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.composition import SYMBOLS, Compositions

BOX = 8  # most atoms of an element that MatGAN's one-hot matrix says
RESAMPLES = 200
INTERVAL = (2.5, 97.5)
Z = 1.959964  # standard deviations that hold 95 %
FLOORS = 3


@dataclass(frozen=True)
class FormulaSet:
    """Distinct formulas.

    Attributes:
        formulas: N reduced compositions, each once.
        n_drawn: Times that each was drawn, int64 of shape (N,), at least 1.
    """

    formulas: Compositions
    n_drawn: np.ndarray

    @classmethod
    def of(cls, drawn: Compositions, n_drawn: np.ndarray | None = None, sizes: range = range(2, 9)) -> "FormulaSet":
        """The distinct formulas among all that were drawn, of a number of elements in ``sizes``, ordered by hash."""
        repeats = np.ones(len(drawn), dtype=np.int64) if n_drawn is None else np.asarray(n_drawn, dtype=np.int64)
        kept = np.isin(drawn.n_elements, sizes)
        drawn, repeats = drawn.take(kept).reduced(), repeats[kept]
        first, inverse = drawn.unique()
        formulas, n_drawn = drawn.take(first), np.bincount(inverse, repeats, len(first)).astype(np.int64)
        order = np.argsort(formulas.hashes(), kind="stable")  # whatever the order of the draws, the same figures
        return cls(formulas.take(order), n_drawn[order])

    def __len__(self) -> int:
        return len(self.formulas)

    def take(self, index: np.ndarray) -> "FormulaSet":
        """The formulas at ``index``, a mask or positions."""
        return FormulaSet(self.formulas.take(index), self.n_drawn[index])


def rarefaction(n_drawn: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Expected number of distinct formulas among fewer draws, of all ways to leave some out.

    Hurlbert 1971, doi:10.2307/1934145: each formula is missed with probability C(n - n_i, m) / C(n, m).

    Args:
        n_drawn: Times that each of N formulas was drawn, n together.
        sizes: Numbers m of draws, at most n.

    Returns:
        float64 of the shape of ``sizes``.
    """
    times, formulas = np.unique(n_drawn, return_counts=True)
    total = int(n_drawn.sum())
    return np.array([float(formulas @ -np.expm1(_log_missed(total, times, size))) for size in sizes])


def _log_missed(total: int, times: np.ndarray, size: int) -> np.ndarray:
    """Logarithm of the chance that none of ``size`` of ``total`` draws is one of ``times``; -inf where one must be.

    The first of them is missed with probability 1 - size / total, the next with 1 - size / (total - 1), and so on: a
    sum of small logarithms, where the difference of factorials' logarithms has no digits left.
    """
    before = np.arange(min(int(times.max(initial=0)), total - size))
    logarithm = np.concatenate([[0.0], np.cumsum(np.log1p(-size / (total - before)))])
    possible = times <= total - size
    return np.where(possible, logarithm[np.where(possible, times, 0)], -np.inf)


def rarefaction_error(n_drawn: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Standard error of :func:`rarefaction`, draws seen as a sample of all that the generator may say.

    Colwell et al. 2012, doi:10.1093/jpe/rtr044, eq. 5, with Chao's estimate of the number of formulas never drawn.
    """
    times, formulas = np.unique(n_drawn, return_counts=True)
    total = int(n_drawn.sum())
    once, twice = (int(formulas[times == number].sum()) for number in (1, 2))
    unseen = (total - 1) / total * (once**2 / (2 * twice) if twice else once * (once - 1) / 2)
    errors = []
    for size in sizes:
        seen = -np.expm1(_log_missed(total, times, size))
        expected = float(formulas @ seen)
        variance = float(formulas @ seen**2) - expected**2 / (len(n_drawn) + unseen)
        errors.append(np.sqrt(max(variance, 0.0)))
    return np.array(errors)


def share(hits: float, total: float) -> dict:
    """A share with its interval (Wilson 1927, doi:10.1080/01621459.1927.10502953), which holds of few and of none too.

    Returns:
        ``value``, ``low``, ``high`` and ``of``, the total; the first three null of nothing.
    """
    if not total:
        return {"value": None, "low": None, "high": None, "of": 0}
    value, n = float(hits) / float(total), float(total)
    middle, weight = value + Z**2 / (2 * n), 1 + Z**2 / n
    half = Z * np.sqrt(value * (1 - value) / n + (Z / (2 * n)) ** 2)
    low, high = max(0.0, (middle - half) / weight), min(1.0, (middle + half) / weight)
    return {"value": value, "low": min(float(low), value), "high": max(float(high), value), "of": int(total)}


def ratio(one: dict, other: dict) -> dict:
    """Ratio of two shares with its interval, from the variance of its logarithm; null where one is 0 or null."""
    if not one["value"] or not other["value"]:
        return {"value": None, "low": None, "high": None}
    value = one["value"] / other["value"]
    variance = sum((1 - each["value"]) / (each["value"] * each["of"]) for each in (one, other))
    spread = np.exp(Z * np.sqrt(variance))
    return {"value": value, "low": float(value / spread), "high": float(value * spread)}


def marginals(formulas: Compositions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Distributions of a weighted set, each adding up to 1.

    Returns:
        ``elements``: of all elements in all formulas, by atomic number; ``n_elements``: of the number of elements;
        ``counts``: of the atoms of an element, 1 to 20, more as one; ``element_pairs``: of pairs of elements in one
        formula, symmetric of shape (119 x 119,).
    """
    n_elements, rows = formulas.n_elements, formulas.rows
    per_pair = weights[rows]
    found = {
        "elements": np.bincount(formulas.elements, per_pair, len(SYMBOLS) + 1),
        "n_elements": np.bincount(n_elements, weights, 9)[:9],
        "counts": np.bincount(np.minimum(formulas.counts, 21), per_pair, 22),
        "element_pairs": np.zeros((len(SYMBOLS) + 1) ** 2),
    }
    for ahead in range(1, int(n_elements.max(initial=1))):
        first = np.flatnonzero(rows[:-ahead] == rows[ahead:])
        low, high = np.sort([formulas.elements[first], formulas.elements[first + ahead]], axis=0).astype(np.int64)
        found["element_pairs"] += np.bincount(
            low * (len(SYMBOLS) + 1) + high, per_pair[first], len(found["element_pairs"])
        )
    return {name: values / max(values.sum(), 1e-300) for name, values in found.items()}


def distances(generated: FormulaSet, training: Compositions, rng: np.random.Generator, resamples: int) -> dict:
    """Total variation, half the sum of absolute differences, between :func:`marginals` of draws and training set.

    Returns:
        Name to value with its interval, 1.96 standard deviations of what bootstrap samples give either way: formulas
        are drawn anew by Poisson weights, which holds as long as no single one makes up much of the draws. Chance alone
        keeps few draws apart from what they are drawn from: ``floor`` is the distance of as many draws from the
        training set itself.
    """
    target = marginals(training, np.ones(len(training)))
    value = _distance(marginals(generated.formulas, generated.n_drawn.astype(float)), target)
    drawn_anew = [
        _distance(marginals(generated.formulas, rng.poisson(generated.n_drawn).astype(float)), target)
        for _ in range(resamples)
    ]
    n, even = int(generated.n_drawn.sum()), np.full(len(training), 1 / len(training))
    floors = [_distance(marginals(training, rng.multinomial(n, even).astype(float)), target) for _ in range(FLOORS)]
    result = {}
    for name in target:
        spread = Z * float(np.std([each[name] for each in drawn_anew]))
        low, high = max(value[name] - spread, 0.0), min(value[name] + spread, 1.0)
        floor = float(np.mean([each[name] for each in floors]))
        result[name] = {"value": value[name], "low": low, "high": high, "floor": floor}
    return result


def _distance(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.abs(ours[name] - theirs[name]).sum() / 2) for name in theirs}


def roc_auc(positive: np.ndarray, negative: np.ndarray, rng: np.random.Generator, resamples: int = RESAMPLES) -> dict:
    """Chance that a positive scores above a negative, ties as one half; with its bootstrap interval.

    Args:
        positive, negative: Scores, or booleans; -inf is a score. Null where there are none.
    """
    if not len(positive) or not len(negative):
        return {"value": None, "low": None, "high": None}
    values, place = np.unique(np.concatenate([positive, negative]).astype(float), return_inverse=True)

    def area(weight_positive: np.ndarray, weight_negative: np.ndarray) -> float:
        above = np.bincount(place[: len(positive)], weight_positive, len(values))
        below = np.bincount(place[len(positive) :], weight_negative, len(values))
        pairs = above.sum() * below.sum()
        return float(above @ (np.cumsum(below) - below / 2) / pairs) if pairs else np.nan

    areas = [area(rng.poisson(1, len(positive)), rng.poisson(1, len(negative))) for _ in range(resamples)]
    low, high = np.nanpercentile(areas, INTERVAL)
    return {
        "value": area(np.ones(len(positive)), np.ones(len(negative))),
        "low": float(low),
        "high": float(high),
    }


def rediscovery(generated: FormulaSet, held_out: Compositions, sizes: Sequence[int]) -> dict:
    """Share of held-out formulas among the draws, over the number of draws.

    Args:
        generated: What was drawn.
        held_out: Formulas that nothing was trained on, each once.
        sizes: Numbers of draws at most those there are, ascending.

    Returns:
        ``found``, how many, and ``share`` at all draws; ``ceiling``, the share that fits the box of 8 atoms an element;
        ``curve`` of numbers of draws with the expected share.
    """
    found = generated.formulas.contained_in(held_out)
    total = int(generated.n_drawn.sum())
    times, formulas = np.unique(generated.n_drawn[found], return_counts=True)
    curve = []
    for size in sizes:
        expected = float(formulas @ -np.expm1(_log_missed(total, times, size)))
        curve.append({"draws": int(size), "share": expected / len(held_out)})
    return {
        "found": int(found.sum()),
        "share": share(int(found.sum()), len(held_out)),
        "ceiling": float((held_out.largest_count() <= BOX).mean()),
        "curve": curve,
    }
