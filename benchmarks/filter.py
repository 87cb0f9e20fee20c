"""The SMACT filter at smact's defaults against ``smact.screening.smact_validity``, on real formulas."""

import numpy as np

from benchmarks.compare import compare
from benchmarks.formulas import embedded


def measure(quick: bool) -> dict:
    """One benchmark; see :func:`benchmarks.compare.compare`."""
    from smact.screening import smact_validity

    from pipeline.filtering.rules import assess
    from pipeline.filtering.schema import Rules

    compositions = embedded(3000 if quick else 30000)
    formulas = compositions.formulas().to_pylist()
    rules = Rules()
    assess(compositions, rules)  # compiled, as every run after the first finds it
    return compare(
        lambda: assess(compositions, rules).smact_valid,
        lambda: np.array([smact_validity(formula) for formula in formulas]),
        len(formulas),
        lambda ours, theirs: (int((ours != theirs).sum()), 0),
    )
