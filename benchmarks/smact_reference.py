"""smact itself, asked as its users ask it, and the formulas that it is asked about."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.formulas import embedded
from pipeline.composition import Compositions, concatenate
from pipeline.filtering.rules import element_data
from pipeline.filtering.schema import Rules

N_ELEMENTS = 103
"""smact has data on hydrogen to lawrencium."""


def smact_arguments(rules: Rules) -> dict:
    """What ``smact.screening.smact_validity`` must be told to apply the rules."""
    from smact.screening import ICSD24FilterConfig

    arguments = {
        "use_pauling_test": rules.pauling_test,
        "include_alloys": rules.include_alloys,
        "mixed_valence": rules.mixed_valence,
    }
    if rules.oxidation_states in ("icsd24_low", "icsd24_medium", "icsd24_high"):
        commonality = rules.oxidation_states.removeprefix("icsd24_")
        return {**arguments, "icsd_filter": ICSD24FilterConfig(commonality=commonality)}
    return {**arguments, "oxidation_states_set": rules.oxidation_states}


def smact_says(formulas: Sequence, rules: Rules) -> np.ndarray:
    """smact's answer on each formula, text or pymatgen's ``Composition``."""
    from smact.screening import smact_validity

    arguments = smact_arguments(rules)
    return np.array([smact_validity(formula, **arguments) for formula in formulas], dtype=bool)


def random_formulas(n: int, seed: int, sizes: Sequence[int], largest_count: int) -> Compositions:
    """Formulas of elements that smact knows, each size, set of elements and count as likely as any other."""
    rng = np.random.default_rng(seed)
    size_N = rng.choice(np.asarray(sizes), size=n)
    parts = []
    for size in sizes:
        elements = rng.integers(1, N_ELEMENTS + 1, ((size_N == size).sum(), size))
        while (twice := (np.diff(np.sort(elements, axis=1), axis=1) == 0).any(axis=1)).any():
            elements[twice] = rng.integers(1, N_ELEMENTS + 1, (twice.sum(), size))
        counts = rng.integers(1, largest_count + 1, elements.shape)
        rows = np.repeat(np.arange(len(elements)), size)
        parts.append(Compositions.from_pairs(rows, elements.ravel(), counts.ravel(), len(elements)))
    return concatenate(parts).take(rng.permutation(n))


def real_formulas(n: int, seed: int) -> Compositions:
    """Up to ``n`` formulas of two elements or more from the embedded database and those in ``KIMBERLITE_DATA``."""
    batches = [embedded(n)]
    if "KIMBERLITE_DATA" in os.environ:
        for name, column in (("oqmd/oqmd.csv.gz", "formula"), ("mp/mp.csv.gz", "reduced_formula")):
            path = Path(os.environ["KIMBERLITE_DATA"]) / name
            if path.exists():
                texts = pd.read_csv(path, usecols=[column], dtype=str, keep_default_na=False)[column]
                batches.append(Compositions.from_formulas(texts.unique()).reduced())
    formulas = concatenate(batches)
    formulas = formulas.take(formulas.n_elements > 1)
    formulas = formulas.take(formulas.unique()[0])
    return formulas.take(np.random.default_rng(seed).permutation(len(formulas))[:n])


def with_mixed_valence(compositions: Compositions) -> Compositions:
    """Those with an element that smact lets take several states in one formula."""
    mixed = element_data("icsd24_low", mixed_valence=True)[0]["mixed"]
    having = np.zeros(len(compositions), dtype=bool)
    having[compositions.rows[mixed[compositions.elements]]] = True
    return compositions.take(having)
