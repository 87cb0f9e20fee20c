"""SMACT's element data as arrays, and the verdict on a batch of compositions."""

from functools import cache
from typing import NamedTuple

import numpy as np

from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, Compositions
from pipeline.filtering.kernel import ElementData, judge
from pipeline.filtering.schema import VERDICTS, Rules

VALID = np.array([verdict in ("element", "alloy", "balanced") for verdict in VERDICTS])

_ATTRIBUTES = {
    "icsd24": "oxidation_states_icsd24",
    "smact14": "oxidation_states_smact14",
    "icsd16": "oxidation_states_icsd16",
    "pymatgen_sp": "oxidation_states_sp",
    "wiki": "oxidation_states_wiki",
}


class Judgement(NamedTuple):
    """The verdicts on N compositions with M element-count pairs.

    Attributes:
        verdict: uint8 of shape (N,), positions in ``VERDICTS``.
        smact_valid: bool of shape (N,), equal to ``smact.screening.smact_validity``; False for what smact cannot read.
        has_states: bool of shape (N,), whether ``oxidation_states`` holds an assignment for the row.
        oxidation_states: int8 of shape (M,), aligned with the pairs; 0 where the row has none.
    """

    verdict: np.ndarray
    smact_valid: np.ndarray
    has_states: np.ndarray
    oxidation_states: np.ndarray


def assess(compositions: Compositions, rules: Rules) -> Judgement:
    """Judge compositions as ``smact.screening.smact_validity`` (4.0.2) does, and say why.

    Among several valid assignments the one is given whose states are the most common in the ICSD (2024): the product
    over the elements of the share of the element's reports. Elements that smact does not know never raise.

    With ``mixed_valence`` a formula passes, as in smact, only while the number of assignments atom by atom (product of
    states ** atoms over the mixed-valence elements) stays within 1,000,000; its ``oxidation_states`` are then absent,
    as they are for formulas of more than 10 elements.

    Args:
        compositions: Need not be reduced; single elements and formulas of any length are answered.
        rules: The settings.
    """
    compositions = compositions.reduced()
    data = element_data(rules.oxidation_states, rules.mixed_valence)
    arrays = (compositions.offsets, compositions.elements, compositions.counts)
    writable = (np.require(array, requirements="W") for array in arrays)  # or Arrow's buffers cost a second compilation
    verdict, has_states, states = judge(*writable, data, rules.include_alloys, rules.pauling_test)
    return Judgement(verdict, VALID[verdict], has_states, states)


@cache
def element_data(oxidation_states: str, mixed_valence: bool) -> ElementData:
    """Arrays indexed by atomic number (0 to 118), from the data that smact ships.

    Args:
        oxidation_states: As in :class:`Rules`.
        mixed_valence: Mark the elements that smact lets take several states in one formula.

    Raises:
        ValueError: A user's file holds a line that is not an element symbol and integers.
    """
    import smact
    from smact.data_loader import lookup_element_data
    from smact.screening import MIXED_VALENCE_ELEMENTS
    from smact.utils.oxidation import ICSD24OxStatesFilter

    reported = ICSD24OxStatesFilter()
    reports = {
        (symbol, state): count
        for symbol, state, count in reported.ox_states_df[["element", "oxidation_state", "results_count"]].values
    }
    states = _states(oxidation_states, reported)
    known = {symbol: lookup_element_data(symbol) for symbol in SYMBOLS}
    starts, flat, score, lowest, highest = [0, 0], [], [], [0], [0]
    for symbol in SYMBOLS:
        mine = states.get(symbol, ()) if known[symbol] else ()
        total = max(sum(reports.get((symbol, state), 0) for state in range(-9, 10)), 1)
        shares = {state: max(reports.get((symbol, state), 0), 1) / total for state in mine}
        ordered = sorted(shares, key=lambda state: (-shares[state], state))
        flat += ordered
        score += [round(1000 * float(np.log(shares[state]))) for state in ordered]
        starts.append(len(flat))
        lowest.append(min(ordered, default=0))
        highest.append(max(ordered, default=0))
    electronegativity = [known[symbol]["el_neg"] if known[symbol] else None for symbol in SYMBOLS]
    return ElementData(
        starts=np.array(starts, dtype=np.int64),
        states=np.array(flat, dtype=np.int64),
        lowest=np.array(lowest, dtype=np.int64),
        highest=np.array(highest, dtype=np.int64),
        score=np.array(score, dtype=np.int64),
        electronegativity=np.array([np.nan, *(np.nan if x is None else x for x in electronegativity)]),
        metal=np.array([False, *(symbol in smact.metals for symbol in SYMBOLS)]),
        mixed=np.array([False, *(mixed_valence and symbol in MIXED_VALENCE_ELEMENTS for symbol in SYMBOLS)]),
    )


def _states(name: str, reported) -> dict[str, list[int]]:
    """Oxidation states of each element symbol in the set ``name``; ``reported`` is smact's ICSD24OxStatesFilter."""
    if name in ("icsd24_low", "icsd24_medium", "icsd24_high"):
        table = reported.filter(consensus=3, include_zero=False, commonality=name.removeprefix("icsd24_"))
        return {
            symbol: [int(state) for state in text.split()]
            for symbol, text in zip(table["element"], table["oxidation_state"], strict=True)
        }
    if name in _ATTRIBUTES:
        import smact

        elements = smact.element_dictionary()
        return {symbol: getattr(element, _ATTRIBUTES[name]) or [] for symbol, element in elements.items()}
    return _read_states(name)


def _read_states(path: str) -> dict[str, list[int]]:
    """Read a user's file: a symbol and its states on each line, ``#`` begins a comment line."""
    states = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            fields = line.split()
            if not fields or fields[0].startswith("#"):
                continue
            try:
                values = [int(field) for field in fields[1:]]
            except ValueError:
                values = [None]
            if fields[0] not in ATOMIC_NUMBERS or any(value is None or abs(value) > 9 for value in values):
                raise ValueError(
                    f"{path}, line {number}: '{line.strip()}' is no element symbol followed by oxidation states "
                    "(integers from -9 to 9); correct the line, or begin it with #"
                )
            states[fields[0]] = values
    return states
