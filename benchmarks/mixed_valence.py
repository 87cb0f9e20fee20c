"""The SMACT filter with mixed valence against ``smact_validity(..., mixed_valence=True)``, both on one core."""

from benchmarks.filter import against_smact
from benchmarks.smact_reference import random_formulas, real_formulas, with_mixed_valence
from pipeline.filtering.schema import Rules


def measure(quick: bool) -> dict:
    """One benchmark, at smact's other defaults on random formulas with an element that smact lets take several states.

    Random formulas hold 2 to 5 elements with counts from 1 to 8. smact's time varies from formula to formula by four
    orders of magnitude, so that its rate depends on the few that it enumerates to the end.
    """
    n = 300_000 if quick else 1_000_000
    n_reference = 50 if quick else 1_500
    inputs = {
        "random": with_mixed_valence(random_formulas(n, 1, range(2, 6), 8)),
        "real": with_mixed_valence(real_formulas(n, 1)),
    }
    settings = {
        "smact_default": Rules(mixed_valence=True),
        "workflow_default": Rules("icsd24_medium", include_alloys=False, mixed_valence=True),
    }
    figures = {
        f"{name}_{formulas}": against_smact(inputs[formulas], rules, n_reference)
        for name, rules in settings.items()
        for formulas in inputs
    }
    return {**figures.pop("smact_default_random"), **figures}
