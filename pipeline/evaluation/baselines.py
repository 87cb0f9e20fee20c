"""Cheap ways to make formulas, beside which a generator must show what it has learnt.

Each takes training formulas (distinct, 2 to 8 elements) and returns ``n`` draws, reduced, with repeats.

Legend of suffixes: N formulas, D draws, E elements by atomic number.
"""

from collections.abc import Callable

import numpy as np

from pipeline.composition import SYMBOLS, Compositions, concatenate
from pipeline.evaluation.metrics import BOX
from pipeline.filtering.baseline import element_frequency, matched_random
from pipeline.filtering.rules import assess
from pipeline.filtering.schema import Rules

NEUTRAL = Rules("icsd24_medium", include_alloys=False)
LONGEST = 8
PER_ELEMENT = 1 << 16  # tokens of one element, by count
END = 0
TRIES = 1 << 17
ROUNDS_IN_VAIN = 20


def random(training: Compositions, n: int, seed: int) -> Compositions:
    """Counts of training formulas, elements drawn anew in proportion to their frequency."""
    rng = np.random.default_rng([seed, 1])
    shapes = training.take(rng.integers(len(training), size=n))
    return matched_random(shapes, element_frequency(training), int(rng.integers(1 << 62))).reduced()


def enumeration(training: Compositions, n: int, seed: int) -> Compositions:
    """Charge-neutral, balanced formulas that SMACT would enumerate, each as likely as any other of as many elements.

    Elements of the training set and counts of 1 to 8 are drawn evenly, reduced formulas with a common divisor left out,
    and what SMACT rejects (ICSD24 medium, no alloys) is drawn anew; the number of elements is drawn as in training. A
    number of elements of which nothing passes is left out, so that there may be fewer draws, or none.
    """
    rng = np.random.default_rng([seed, 2])
    vocabulary = np.unique(training.elements)
    wanted = np.bincount(rng.choice(training.n_elements, n), minlength=9)
    found = []
    for k in np.flatnonzero(wanted):
        left, in_vain = int(wanted[k]), 0
        while left and in_vain < ROUNDS_IN_VAIN:
            elements = vocabulary[rng.integers(len(vocabulary), size=(TRIES, k))]
            counts = rng.integers(1, BOX + 1, (TRIES, k))
            once = (np.diff(np.sort(elements, axis=1), axis=1) > 0).all(axis=1)
            kept = once & (np.gcd.reduce(counts, axis=1) == 1)
            elements, counts = elements[kept], counts[kept]
            rows = np.repeat(np.arange(len(counts)), k)
            drawn = Compositions.from_pairs(rows, elements.ravel(), counts.ravel(), len(counts))
            drawn = drawn.take(np.flatnonzero(assess(drawn, NEUTRAL).smact_valid)[:left])
            found.append(drawn)
            left -= len(drawn)
            in_vain = 0 if len(drawn) else in_vain + 1
    return concatenate(found)


def ngram(training: Compositions, n: int, seed: int) -> Compositions:
    """A trigram: an element with its count, drawn as often as it followed the two before it in training formulas.

    Elements come in order of electronegativity, as in a formula. What says an element twice, or more than eight, is
    drawn anew.
    """
    rng = np.random.default_rng([seed, 3])
    contexts, following = _tokens(training)
    found: list[Compositions] = []
    left = n
    while left:
        said = np.full((left, LONGEST + 1), END, dtype=np.int64)
        two_before = before = np.zeros(left, dtype=np.int64)
        active = np.arange(left)
        for step in range(said.shape[1]):
            context = two_before[active] << 32 | before[active]
            low, high = np.searchsorted(contexts, context), np.searchsorted(contexts, context, "right")
            said[active, step] = following[rng.integers(low, high)]
            two_before, before = before, said[:, step]
            active = active[said[active, step] != END]
        rows, places = np.nonzero(said != END)
        elements, counts = np.divmod(said[rows, places], PER_ELEMENT)
        drawn = Compositions.from_pairs(rows, elements, counts, left)
        ordered = np.sort(said // PER_ELEMENT, axis=1)
        repeated = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] > 0)).any(axis=1)
        drawn = drawn.take(~(repeated | (said[:, -1] != END)))
        found.append(drawn.reduced())
        left -= len(drawn)
    return concatenate(found)


def _tokens(training: Compositions) -> tuple[np.ndarray, np.ndarray]:
    """Contexts, ascending, each with the token that follows: the two tokens before, and an element with its count."""
    length = training.n_elements + 1
    ends = np.cumsum(length)
    starts = np.repeat(ends - length, length)
    tokens = np.full(ends[-1], END, dtype=np.int64)
    is_end = np.zeros(len(tokens), dtype=bool)
    is_end[ends - 1] = True
    tokens[~is_end] = training.elements * np.int64(PER_ELEMENT) + training.counts
    step = np.arange(len(tokens)) - starts
    before, two_before = np.where(step > 0, np.roll(tokens, 1), 0), np.where(step > 1, np.roll(tokens, 2), 0)
    contexts = two_before << 32 | before
    order = np.argsort(contexts, kind="stable")
    return contexts[order], tokens[order]


def substitution(training: Compositions, n: int, seed: int) -> Compositions:
    """A training formula with half of its elements drawn anew from their own groups, in proportion to frequency.

    Lanthanides are a group, and actinides. Where two elements become one, the draw is made anew.
    """
    rng = np.random.default_rng([seed, 4])
    group_E = _groups()
    frequency_E = element_frequency(training).astype(float)
    others = {}
    for group in np.unique(group_E[training.elements]):
        members = np.flatnonzero((group_E == group) & (frequency_E > 0))
        others[group] = members, np.cumsum(frequency_E[members]) / frequency_E[members].sum()
    found: list[Compositions] = []
    left = n
    while left:
        known = training.take(rng.integers(len(training), size=left))
        elements = known.elements.copy()
        groups = np.where(rng.random(len(elements)) < 0.5, group_E[known.elements], 0)  # 0: the element stays
        for group, (members, chances) in others.items():
            place = np.flatnonzero(groups == group)
            elements[place] = members[np.searchsorted(chances, rng.random(len(place)), "right")]
        key = known.rows.astype(np.int64) << 8 | elements
        ordered = np.sort(key)
        clash = np.unique(ordered[1:][ordered[1:] == ordered[:-1]] >> 8)
        drawn = Compositions.from_pairs(known.rows, elements, known.counts, len(known))
        drawn = drawn.take(np.setdiff1d(np.arange(left), clash))
        found.append(drawn.reduced())
        left -= len(drawn)
    return concatenate(found)


def _groups() -> np.ndarray:
    """Group of each element by atomic number, int64 of shape (119,): 1 to 18, lanthanides 19, actinides 20."""
    from pymatgen.core import Element

    groups = np.zeros(len(SYMBOLS) + 1, dtype=np.int64)
    for z in range(1, len(SYMBOLS) + 1):
        groups[z] = 19 if 57 <= z <= 71 else 20 if 89 <= z <= 103 else Element.from_Z(z).group
    return groups


BASELINES: dict[str, Callable[[Compositions, int, int], Compositions]] = {
    "random": random,
    "enumeration": enumeration,
    "ngram": ngram,
    "substitution": substitution,
}
