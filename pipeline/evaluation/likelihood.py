"""How common the oxidation states are that a formula needs: finer than a verdict, which asks only if there are any.

Legend of suffixes: N formulas, M element-count pairs.
"""

from functools import cache

import numpy as np

from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, Compositions
from pipeline.filtering.rules import assess
from pipeline.filtering.schema import Rules

RULES = Rules("icsd24_low", include_alloys=False)
LARGEST = 9  # no oxidation state is beyond


def likelihood(formulas: Compositions) -> np.ndarray:
    """Logarithm of the likelihood of the most common neutral, balanced choice of oxidation states.

    The mean over the elements of ln(share of the element's reports in the ICSD that have the state), of the choice for
    which the sum is largest; counts as smact ships them (ICSD 2024).

    Args:
        formulas: N compositions.

    Returns:
        float64 of shape (N,), at most 0; -inf where no choice of states is neutral and balanced.
    """
    judged = assess(formulas, RULES)
    logarithms = _log_shares()[formulas.elements, judged.oxidation_states.astype(np.int64) + LARGEST]
    total = np.bincount(formulas.rows, logarithms, len(formulas)) / np.maximum(formulas.n_elements, 1)
    return np.where(judged.has_states, total, -np.inf)


@cache
def _log_shares() -> np.ndarray:
    """ln(share of an element's reports) by atomic number and state + 9; 0 where a state was never reported."""
    from smact.utils.oxidation import ICSD24OxStatesFilter

    table = ICSD24OxStatesFilter().ox_states_df
    shares = np.zeros((len(SYMBOLS) + 1, 2 * LARGEST + 1))
    for symbol, state, count in table[["element", "oxidation_state", "results_count"]].values:
        if symbol in ATOMIC_NUMBERS and state != 0 and abs(state) <= LARGEST:
            shares[ATOMIC_NUMBERS[symbol], int(state) + LARGEST] += count
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
    return np.log(np.where(shares > 0, shares, 1))
