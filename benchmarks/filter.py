"""The SMACT filter against ``smact.screening.smact_validity``, both on one core, on random and on real formulas."""

from benchmarks.compare import compare
from benchmarks.smact_reference import random_formulas, real_formulas, smact_says
from pipeline.composition import Compositions
from pipeline.filtering.rules import assess
from pipeline.filtering.schema import Rules

SETTINGS = {"smact_default": Rules(), "workflow_default": Rules("icsd24_medium", include_alloys=False)}


def measure(quick: bool) -> dict:
    """One benchmark, at smact's defaults on random formulas; beside it other formulas, and the workflow's settings.

    Random formulas hold 2 to 5 elements with counts from 1 to 20, each set of elements and counts equally likely;
    real ones are those of the embedded database, and of ``KIMBERLITE_DATA`` where it is set.
    """
    n = 300_000 if quick else 1_000_000
    n_reference = 1_000 if quick else 20_000
    inputs = {
        "random": random_formulas(n, 1, range(2, 6), 20),
        "real": real_formulas(n, 1),
    }
    figures = {
        f"{name}_{formulas}": against_smact(inputs[formulas], rules, n_reference)
        for name, rules in SETTINGS.items()
        for formulas in inputs
    }
    return {**figures.pop("smact_default_random"), **figures}


def against_smact(compositions: Compositions, rules: Rules, n_reference: int) -> dict:
    """Ours on all, smact on the first ``n_reference``, which it gets parsed."""
    from pymatgen.core import Composition

    parsed = [Composition(text) for text in compositions.take(range(n_reference)).formulas().to_pylist()]
    smact_says(parsed[:10], rules)  # its tables loaded, and ours compiled, as every run after the first finds them
    assess(compositions, rules)
    return compare(
        lambda: assess(compositions, rules).smact_valid,
        lambda: smact_says(parsed, rules),
        len(compositions),
        lambda ours, theirs: (int((ours[:n_reference] != theirs).sum()), 0),
        n_reference=n_reference,
    )
