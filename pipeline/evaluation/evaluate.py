"""All figures of one set of formulas against the training set, the held-out formulas and random ones of its shapes."""

from dataclasses import dataclass

import numpy as np

from pipeline.composition import Compositions
from pipeline.evaluation.likelihood import likelihood
from pipeline.evaluation.metrics import (
    BOX,
    RESAMPLES,
    FormulaSet,
    Z,
    distances,
    rarefaction,
    rarefaction_error,
    ratio,
    rediscovery,
    roc_auc,
    share,
)
from pipeline.filtering.baseline import SIZES, element_frequency, matched_random
from pipeline.filtering.rules import assess
from pipeline.filtering.schema import Rules

SETTINGS = {
    "icsd24_low": Rules("icsd24_low", include_alloys=True),
    "icsd24_medium_no_alloys": Rules("icsd24_medium", include_alloys=False),
    "icsd24_high_no_alloys": Rules("icsd24_high", include_alloys=False),
    "smact14_no_alloys": Rules("smact14", include_alloys=False),
}
"""smact's default, and three under which real formulas stand out from random ones."""

FEWEST_DRAWS = 1000
DISTANCE_RESAMPLES = 20
LIKELIHOOD_ROWS = 50_000
RANDOM_ROWS = 200_000  # at least so many random formulas, so that they do not decide how well a ratio is known
_STEPS = (1, 2, 5)


@dataclass(frozen=True)
class Known:
    """What a generator learnt from, and what it was not shown.

    Attributes:
        training: Formulas of 2 to 8 elements, each once.
        held_out: Kind of hold-out to its formulas, each once.
    """

    training: Compositions
    held_out: dict[str, Compositions]


def evaluate(drawn: FormulaSet, known: Known, seed: int) -> dict:
    """Every figure of a set, as JSON has it.

    Args:
        drawn: Formulas of 2 to 8 elements with the number of times that each was drawn.
        known: See :class:`Known`.
        seed: Of the random formulas and the resampling.

    Raises:
        ValueError: Fewer than 1,000 draws, of which no figure could be told from chance.
    """
    n = int(drawn.n_drawn.sum())
    if n < FEWEST_DRAWS:
        raise ValueError(f"{n} formulas of 2 to 8 elements are too few to tell anything; give {FEWEST_DRAWS:,} or more")
    rng = np.random.default_rng([seed, 0])
    sizes = curve_sizes(n)
    novel = ~drawn.formulas.contained_in(known.training)
    fits = drawn.formulas.largest_count() <= BOX
    n_novel = int(novel.sum())
    held_out = {kind: formulas for kind, formulas in known.held_out.items() if len(formulas)}
    rediscovered = {kind: rediscovery(drawn, formulas, sizes) for kind, formulas in held_out.items()}
    return {
        "draws": n,
        "distinct": len(drawn),
        "uniqueness": _uniqueness(drawn, sizes),
        "novelty": {name: share(weight @ novel, weight.sum()) for name, weight in _ways(drawn).items()},
        "fits_box": {name: share(weight @ fits, weight.sum()) for name, weight in _ways(drawn).items()},
        "validity": _validity(drawn, known.training, rng),
        "distances": distances(drawn, known.training, rng, DISTANCE_RESAMPLES),
        "rediscovery": {
            kind: {**again, "per_novel_formula": share(again["found"], n_novel)} for kind, again in rediscovered.items()
        },
        "likelihood": {
            "training": _likelihood(known.training, known.training, np.random.default_rng([seed, 1])),
            "generated": _likelihood(drawn.formulas, known.training, rng),
        },
    }


def curve_sizes(n: int) -> list[int]:
    """Numbers of draws at which curves are given: 1, 2 and 5 times powers of ten from 1,000, and all."""
    sizes = [step * 10**power for power in range(3, 10) for step in _STEPS]
    return [size for size in sizes if size < n] + [n]


def _ways(drawn: FormulaSet) -> dict[str, np.ndarray]:
    """Weights by which a share is counted: each formula once, and as often as it was drawn."""
    return {"distinct": np.ones(len(drawn), dtype=np.int64), "draws": drawn.n_drawn}


def _uniqueness(drawn: FormulaSet, sizes: list[int]) -> dict:
    expected, error = rarefaction(drawn.n_drawn, sizes), rarefaction_error(drawn.n_drawn, sizes)
    by_size = {}
    for k in SIZES:
        of_size = drawn.n_drawn[drawn.formulas.n_elements == k]
        by_size[str(k)] = {
            "draws": int(of_size.sum()),
            "value": len(of_size) / int(of_size.sum()) if len(of_size) else None,
        }
    return {
        "value": len(drawn) / int(drawn.n_drawn.sum()),
        "curve": [
            {
                "draws": size,
                "value": one / size,
                "low": max(one - Z * sd, 0) / size,
                "high": min(one + Z * sd, size) / size,
            }
            for size, one, sd in zip(sizes, expected.tolist(), error.tolist(), strict=True)
        ],
        "by_n_elements": by_size,
    }


def _validity(drawn: FormulaSet, training: Compositions, rng: np.random.Generator) -> dict:
    """Pass rates beside the training set's and those of random formulas with the set's own counts."""
    frequency = element_frequency(training)
    drawable = drawn.take(drawn.formulas.n_elements <= np.count_nonzero(frequency))
    again = np.tile(np.arange(len(drawable)), max(1, -(-RANDOM_ROWS // max(len(drawable), 1))))
    random = matched_random(drawable.formulas.take(again), frequency, int(rng.integers(1 << 62)))
    result = {}
    for name, rules in SETTINGS.items():
        passed, passed_random = (assess(each, rules).smact_valid for each in (drawn.formulas, random))
        of_training = float(assess(training, rules).smact_valid.mean())
        result[name] = {"training": of_training}
        for way, weight in _ways(drawn).items():
            rate, weight_random = share(weight @ passed, weight.sum()), _ways(drawable)[way][again]
            rate_random = share(weight_random @ passed_random, weight_random.sum())
            result[name][way] = {
                **rate,
                "random": rate_random["value"],
                "enrichment": ratio(rate, rate_random),
                "of_training": rate["value"] / of_training if of_training else None,
            }
    return result


def _likelihood(formulas: Compositions, training: Compositions, rng: np.random.Generator) -> dict:
    """How well scores tell formulas from random ones with the same counts, as areas under ROC curves."""
    frequency = element_frequency(training)
    formulas = formulas.take(formulas.n_elements <= np.count_nonzero(frequency))
    if len(formulas) > LIKELIHOOD_ROWS:
        formulas = formulas.take(np.sort(rng.choice(len(formulas), LIKELIHOOD_ROWS, replace=False)))
    random = matched_random(formulas, frequency, int(rng.integers(1 << 62)))
    pairs = {"likelihood": (likelihood(formulas), likelihood(random))} | {
        setting: tuple(assess(each, rules).smact_valid for each in (formulas, random))
        for setting, rules in SETTINGS.items()
    }
    return {setting: roc_auc(*pair, rng, RESAMPLES // 4) for setting, pair in pairs.items()}
