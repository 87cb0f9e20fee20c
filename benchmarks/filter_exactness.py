"""python -m benchmarks.filter_exactness [--only SETTING ...] [--seconds N]: does the filter say what smact says?

For every set of oxidation states, Pauling test on and off, alloys on and off, and with mixed valence, random and real
formulas are put to the filter and to ``smact.screening.smact_validity``. One JSON line a setting, a last one for all;
the exit status is 1 where they disagree. All of it takes smact some hours, so a setting may be given a time: it then
ends early, having compared the same share of each kind of formula.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.smact_reference import random_formulas, real_formulas, smact_says, with_mixed_valence
from pipeline.composition import SYMBOLS, Compositions, concatenate
from pipeline.filtering.kernel import ANY, MAX_MIXED_ASSIGNMENTS
from pipeline.filtering.rules import assess, element_data
from pipeline.filtering.schema import OXIDATION_STATE_SETS, VERDICTS, Rules

ROUNDS = 1000
KNOWN_MIXED = ("Fe3O4", "Mn3O4", "Pb3O4", "V6O13", "YBa2Cu3O7", "Fe7S8", "Co3O4", "Eu3S4", "U3O8", "W18O49", "Mo8O23")
USER_FILE = "user_file"


def settings(user_file: str) -> dict[str, Rules]:
    """The rules by name; alloys are left out, since both answers on them follow from one question."""
    sets = {**{name: name for name in OXIDATION_STATE_SETS}, USER_FILE: user_file}
    named = {}
    for name, states in sets.items():
        named[name] = Rules(states, include_alloys=False)
        named[f"{name}-no-pauling"] = Rules(states, include_alloys=False, pauling_test=False)
    for name in ("icsd24_low", "icsd24_medium"):
        named[f"{name}-mixed"] = Rules(name, include_alloys=False, mixed_valence=True)
        named[f"{name}-mixed-no-pauling"] = Rules(name, include_alloys=False, pauling_test=False, mixed_valence=True)
    return named


def write_user_file(path: Path, seed: int) -> None:
    """Random states for four elements in five, none for the last, in smact's format."""
    rng = np.random.default_rng(seed)
    with path.open("w", encoding="utf-8") as file:
        for z, symbol in enumerate(SYMBOLS[:103], start=1):
            if z % 5:
                states = rng.choice(np.arange(-4, 9), size=rng.integers(1, 6), replace=False)
                print(symbol, *states, file=file)


def plain_formulas(seed: int) -> dict[str, Compositions]:
    """Formulas by kind, for the settings without mixed valence."""
    return {
        "random, 2 to 5 elements": random_formulas(1_000_000, seed, range(2, 6), 20),
        "random, 6 elements": random_formulas(20_000, seed, [6], 20),
        "random, 7 elements": random_formulas(500, seed, [7], 20),
        "random, 8 elements": random_formulas(500, seed, [8], 20),
        "real": real_formulas(200_000, seed),
    }


def mixed_formulas(seed: int) -> dict[str, Compositions]:
    """Formulas by kind with an element that smact lets take several states: 50,000."""

    def some(compositions: Compositions, n: int) -> Compositions:
        return with_mixed_valence(compositions).take(range(n))

    known = Compositions.from_formulas(KNOWN_MIXED)
    return {
        "random, counts to 8": some(random_formulas(100_000, seed, range(2, 6), 8), 15_000),
        "random, counts to 20": some(random_formulas(100_000, seed + 1, range(2, 6), 20), 10_000),
        "real": concatenate([known, some(real_formulas(200_000, seed), 25_000 - len(known))]),
    }


def compare(rules: Rules, kinds: dict[str, Compositions], seconds: float) -> dict:
    """Put a share of each kind to both, round by round; what was compared and which formulas they disagree on."""
    data = element_data(rules.oxidation_states, rules.mixed_valence)[0]
    compared, verdicts, disagreeing = Counter(), Counter(), []
    end = time.monotonic() + seconds
    for turn in range(ROUNDS):
        shares = {name: _share(compositions, turn) for name, compositions in kinds.items()}
        batch = concatenate(list(shares.values()))
        formulas = batch.formulas().to_pylist()
        judged = assess(batch, rules)
        wrong = judged.smact_valid != smact_says(formulas, rules)
        if rules.mixed_valence:
            wrong |= _wrong_beyond_smact(batch, judged.verdict, rules, data)
        else:
            wrong |= _wrong_with_alloys(batch, formulas, judged.smact_valid, rules, data)
        disagreeing += [formulas[i] for i in np.flatnonzero(wrong)]
        compared.update({name: len(share) for name, share in shares.items()})
        verdicts.update(VERDICTS[verdict] for verdict in judged.verdict)
        if time.monotonic() > end:
            break
    return {
        "compared": compared.total(),
        "disagreements": len(disagreeing),
        "disagreeing": disagreeing[:20],
        "kinds": dict(compared),
        "verdicts": dict(verdicts),
    }


def _share(compositions: Compositions, turn: int) -> Compositions:
    n = len(compositions)
    return compositions.take(np.arange(n * turn // ROUNDS, n * (turn + 1) // ROUNDS))


def _wrong_with_alloys(batch, formulas, without_alloys, rules: Rules, data) -> np.ndarray:
    """Where the answers differ once alloys pass; smact only looks at that for metals, and answers others as before."""
    rules = dataclasses.replace(rules, include_alloys=True)
    metals = np.bincount(batch.rows, weights=~data["metal"][batch.elements], minlength=len(batch)) == 0
    expected = without_alloys.copy()
    expected[metals] = smact_says([formulas[i] for i in np.flatnonzero(metals)], rules)
    return assess(batch, rules).smact_valid != expected


def _wrong_beyond_smact(batch: Compositions, verdict: np.ndarray, rules: Rules, data) -> np.ndarray:
    """Where smact gives up: whether our verdict differs from a plain enumeration of sums, atom by atom."""
    wrong = np.zeros(len(batch), dtype=bool)
    reduced = batch.reduced()
    for row in range(len(batch)):
        pairs = slice(reduced.offsets[row], reduced.offsets[row + 1])
        elements, counts = reduced.elements[pairs], reduced.counts[pairs]
        options = data["last"][elements, ANY] - data["first"][elements, ANY]
        n_assignments = np.prod(np.where(data["mixed"][elements], options.astype(float) ** counts, options))
        if n_assignments > MAX_MIXED_ASSIGNMENTS:
            holds = VERDICTS[verdict[row]] in ("balanced", "too_large_for_smact")
            wrong[row] = holds != _sums(elements, counts, rules, data)
    return wrong


def _sums(elements: np.ndarray, counts: np.ndarray, rules: Rules, data) -> bool:
    """Whether some sum over the atoms is zero, with the highest cation below the lowest anion where the test asks."""
    states = element_data(rules.oxidation_states, True)[1]["state"].tolist()
    reached = {(0, -1, 1000)}  # charge, electronegativity of the highest cation and of the lowest anion
    for z, count in zip(elements.tolist(), counts.tolist(), strict=True):
        mine = states[data["first"][z, ANY] : data["last"][z, ANY]]
        value = int(data["electronegativity"][z])
        if rules.pauling_test and value < 0:
            return False
        apart = data["mixed"][z]
        for _ in range(count if apart else 1):
            reached = {
                (
                    charge + (state if apart else state * count),
                    max(cation, value) if state > 0 else cation,
                    min(anion, value) if state < 0 else anion,
                )
                for charge, cation, anion in reached
                for state in mine
            }
    return any(charge == 0 and (cation < anion or not rules.pauling_test) for charge, cation, anion in reached)


def main() -> None:
    """Compare the settings named on the command line, or all."""
    with tempfile.TemporaryDirectory() as folder:
        user_file = Path(folder) / "states.txt"
        write_user_file(user_file, seed=0)
        named = settings(str(user_file))
        parser = argparse.ArgumentParser(prog="python -m benchmarks.filter_exactness", description=__doc__)
        parser.add_argument("--only", nargs="+", choices=named, metavar="SETTING", default=list(named), help="of them")
        parser.add_argument("--seconds", type=float, default=float("inf"), help="for each setting (default: no limit)")
        parser.add_argument("--seed", type=int, default=1)
        arguments = parser.parse_args()
        warnings.simplefilter("ignore")
        kinds, compared, disagreements = {}, 0, 0
        for name in arguments.only:
            rules = named[name]
            make = mixed_formulas if rules.mixed_valence else plain_formulas
            if make not in kinds:
                kinds[make] = make(arguments.seed)
            figures = compare(rules, kinds[make], arguments.seconds)
            print(json.dumps({"setting": name, **figures}), flush=True)
            compared += figures["compared"]
            disagreements += figures["disagreements"]
        print(json.dumps({"setting": "all", "compared": compared, "disagreements": disagreements}), flush=True)
        sys.exit(disagreements > 0)


if __name__ == "__main__":
    main()
