"""What is trained, and for how long: the full measurement on one CPU core, and a quick one that shows that it runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.properties.grouped import Variant
from benchmarks.properties.matbench import ANALOGUES, COMPUTED_GAPS, METALS_FIRST, SAME_FORMULA
from benchmarks.properties.matbench import Variant as OfMatbench


@dataclass(frozen=True)
class Plan:
    """Settings of all tasks.

    Attributes:
        candidates: Of each kind in the search for held-out compounds.
        ranked_by: Learners of the energies there, with their settings.
        grouped: What is trained on splits grouped by formula.
        joined: Names of those whose mean is the model.
        curve_of: What the learning curve is drawn of.
        matbench: What is trained in each of its tasks.
        matbench_joined: Names of those whose mean is measured too.
    """

    candidates: int
    ranked_by: dict[str, dict]
    grouped: Sequence[Variant]
    joined: Sequence[str]
    curve_of: Sequence[Variant]
    matbench: Mapping[str, Sequence[OfMatbench]]
    matbench_joined: Mapping[str, Sequence[str]]


def _plan(
    candidates: int, trees: dict, network: dict, attention: dict, longer: dict, repeats: int, curve: bool
) -> Plan:
    grouped = (
        Variant("elemnet", False, network),
        Variant("boosted", False, trees),
        Variant("boosted", True, trees),
        Variant("attention", False, attention),
        Variant("attention", True, attention),
    )
    met = (ANALOGUES, SAME_FORMULA)
    of_tables = [
        OfMatbench("elemnet", settings=network),
        OfMatbench("boosted", settings=trees),
        OfMatbench("boosted", (ANALOGUES,), settings=trees),
        OfMatbench("boosted", met, settings=trees),
        OfMatbench("attention", settings=attention),
        OfMatbench("attention", met, settings=attention),
    ]
    of_gaps = [*of_tables, OfMatbench("boosted", (*met, METALS_FIRST), settings=trees)]
    small = [
        OfMatbench("elemnet", settings=longer),
        OfMatbench("boosted", (), repeats, trees),
        OfMatbench("boosted", (ANALOGUES,), repeats, trees),
        OfMatbench("boosted", (ANALOGUES, COMPUTED_GAPS), repeats, trees),
        OfMatbench("attention", settings=longer),
        OfMatbench("attention", (ANALOGUES, COMPUTED_GAPS), repeats, longer),
    ]
    first = [*small, OfMatbench("boosted", (ANALOGUES, COMPUTED_GAPS, METALS_FIRST), repeats, trees)]
    best = {
        "mp_e_form": (of_tables[3].name, of_tables[5].name),
        "mp_gap": (of_gaps[6].name, of_gaps[5].name),
        "expt_gap": (first[6].name, first[5].name),
        "expt_is_metal": (small[3].name, small[5].name),
    }
    return Plan(
        candidates=candidates,
        ranked_by={"attention": attention, "boosted": trees},
        grouped=grouped,
        joined=(grouped[2].name, grouped[4].name),
        curve_of=(grouped[1], grouped[2], *([grouped[4]] if curve else [])),
        matbench={"mp_e_form": of_tables, "mp_gap": of_gaps, "expt_gap": first, "expt_is_metal": small},
        matbench_joined=best,
    )


FULL = _plan(1_000_000, {"max_trees": 800, "leaves": 63}, {"epochs": 12}, {"epochs": 20}, {"epochs": 60}, 5, True)
QUICK = _plan(
    2_000, {"max_trees": 20, "leaves": 15}, {"epochs": 1}, {"epochs": 1, "width": 32}, {"epochs": 1}, 1, False
)
