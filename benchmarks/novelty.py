"""Which samples are new, and which came before: ours against pymatgen's reduced formulas in Python sets.

Random formulas of two to five elements, drawn with repeats and not reduced, against known formulas, of which one in ten
is among them. Ours starts from integers, as the pipeline holds them, and confirms every equal hash; the reference is
what one writes with pymatgen, from text. It treats a part of the samples, but all known formulas.
"""

import numpy as np

from benchmarks.compare import compare, timed
from pipeline.composition import Compositions, concatenate

FOR_REFERENCE = 20_000
BLOCK = 100_000
NOBLE_GASES = (2, 10, 18, 36, 54, 86)
VOCABULARY = np.array([z for z in range(1, 90) if z not in NOBLE_GASES])


def measure(quick: bool) -> dict:
    """One benchmark; ``seconds`` is each step of ours on all samples, on one thread."""
    from pymatgen.core import Composition

    n, n_known = (1_000_000, 100_000) if quick else (10_000_000, 500_000)
    rng = np.random.default_rng(1)
    pool = _random(rng, n // 2)
    known = concatenate([_random(rng, n_known - n_known // 10), pool.take(np.arange(n_known // 10))])
    drawn = (pool.take(rng.integers(0, len(pool), BLOCK)) for _ in range(n // BLOCK))
    samples = concatenate([_times(each, rng.integers(1, 4, len(each))) for each in drawn])
    formulas = samples.take(np.arange(FOR_REFERENCE)).formulas().to_pylist()
    known_formulas = {Composition(formula).reduced_formula for formula in known.formulas().to_pylist()}

    def reference() -> np.ndarray:
        seen, answers = set(), []
        for formula in formulas:
            reduced = Composition(formula).reduced_formula
            answers.append((reduced in seen, reduced in known_formulas))
            seen.add(reduced)
        return np.array(answers)

    _ours(samples.take(np.arange(BLOCK)), known)  # compiled, as every run after the first finds it
    figures = compare(
        lambda: _ours(samples, known)[0],
        reference,
        n,
        lambda ours, theirs: (int((ours[:FOR_REFERENCE] != theirs).any(axis=1).sum()), 0),
        n_reference=FOR_REFERENCE,
    )
    answers, seconds = _ours(samples, known)
    repeated, is_known = answers.sum(axis=0).tolist()
    return {
        **figures,
        "samples": n,
        "known": n_known,
        "repeated": repeated,
        "among_known": is_known,
        "seconds": {**seconds, "all": round(sum(seconds.values()), 2)},
    }


def _ours(samples: Compositions, known: Compositions) -> tuple[np.ndarray, dict[str, float]]:
    """Of each sample whether it came before and whether it is known, bool of shape (N, 2); seconds of each step."""
    reduced, reducing = timed(samples.reduced)
    (first, inverse), grouping = timed(reduced.unique)
    is_known, looking_up = timed(lambda: reduced.contained_in(known))
    seconds = {"reduce": reducing, "deduplicate": grouping, "look_up": looking_up}
    answers = np.column_stack([first[inverse] != np.arange(len(samples)), is_known])
    return answers, {step: round(taken, 2) for step, taken in seconds.items()}


def _random(rng: np.random.Generator, n: int) -> Compositions:
    """Reduced formulas of two to five elements with one to eight atoms each."""
    blocks = []
    for _ in range(-(-n // BLOCK)):
        elements = VOCABULARY[rng.random((BLOCK, len(VOCABULARY)), dtype=np.float32).argpartition(5)[:, :5]]
        present = np.arange(5) < rng.choice([2, 3, 4, 5], (BLOCK, 1), p=[0.2, 0.45, 0.25, 0.1])
        counts = rng.integers(1, 9, (BLOCK, 5))
        blocks.append(Compositions.from_pairs(np.nonzero(present)[0], elements[present], counts[present], BLOCK))
    return concatenate(blocks).take(np.arange(n)).reduced()


def _times(compositions: Compositions, factors: np.ndarray) -> Compositions:
    counts = compositions.counts * np.repeat(factors, compositions.n_elements)
    return Compositions(compositions.offsets, compositions.elements, counts.astype(np.uint16))
