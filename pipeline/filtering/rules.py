"""SMACT's element data as arrays, and the verdict on a batch of compositions."""

from functools import cache
from typing import NamedTuple

import numpy as np

from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, Compositions
from pipeline.filtering.kernel import ANION, ANY, CATION, ELEMENT_DATA, MAX_STATE, STATE_DATA, judge
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

    ``smact_valid`` is what smact answers, also where it errs; the verdict then names why: ``unknown_electronegativity``
    and ``too_large_for_smact`` are formulas that smact fails for want of a number or of time. smact's truncation of
    fractional amounts cannot happen: compositions are integers, and formulas with fractions are refused when read.

    A formula balanced by mixed valence alone has no ``oxidation_states``, nor has one of more than 10 elements.

    Args:
        compositions: Need not be reduced; single elements and formulas of any length are answered.
        rules: The settings.
    """
    data, states = element_data(rules.oxidation_states, rules.mixed_valence)
    arrays = (compositions.offsets, compositions.elements, compositions.counts)
    writable = (np.require(array, requirements="W") for array in arrays)  # or Arrow's buffers cost a second compilation
    verdict, has_states, found = judge(*writable, data, states, rules.include_alloys, rules.pauling_test)
    return Judgement(verdict, VALID[verdict], has_states, found)


@cache
def element_data(oxidation_states: str, mixed_valence: bool) -> tuple[np.ndarray, np.ndarray]:
    """``ELEMENT_DATA`` of atomic numbers 0 to 118 and their ``STATE_DATA``, from the data that smact ships.

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
    data, rows = np.zeros(len(SYMBOLS) + 1, dtype=ELEMENT_DATA), []
    data["place"] = -1
    data["electronegativity"] = -1
    scale = sorted({element["el_neg"] for element in known.values() if element and element["el_neg"] is not None})
    for z, symbol in enumerate(SYMBOLS, start=1):
        if known[symbol] and known[symbol]["el_neg"] is not None:
            data[z]["electronegativity"] = scale.index(known[symbol]["el_neg"])
        data[z]["metal"] = symbol in smact.metals
        data[z]["mixed"] = mixed_valence and symbol in MIXED_VALENCE_ELEMENTS
        mine = states.get(symbol, ()) if known[symbol] else ()
        total = max(sum(reports.get((symbol, state), 0) for state in range(-MAX_STATE, MAX_STATE + 1)), 1)
        shares = {state: max(reports.get((symbol, state), 0), 1) / total for state in mine}
        ordered = sorted(shares, key=lambda state: (-shares[state], state))
        data[z]["place"][np.array(ordered, dtype=int) + MAX_STATE] = np.arange(len(ordered))
        cations, anions = ([s for s in ordered if s * sign >= 0] for sign in (1, -1))
        for kind, listed in zip((ANY, CATION, ANION), (ordered, cations, anions), strict=True):
            data[z]["first"][kind] = len(rows)
            rows += [(state, round(1000 * float(np.log(shares[state])))) for state in listed]
            data[z]["last"][kind] = len(rows)
            data[z]["lowest"][kind], data[z]["highest"][kind] = min(listed, default=0), max(listed, default=0)
    return data, np.array(rows, dtype=STATE_DATA)


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
            if fields[0] not in ATOMIC_NUMBERS or any(value is None or abs(value) > MAX_STATE for value in values):
                raise ValueError(
                    f"{path}, line {number}: '{line.strip()}' is no element symbol followed by oxidation states "
                    "(integers from -9 to 9); correct the line, or begin it with #"
                )
            states[fields[0]] = values
    return states
