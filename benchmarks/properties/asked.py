"""What was asked for, and whether it is reached."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.properties.folds import summary

MATBENCH = {"mp_e_form": 0.084, "mp_gap": 0.231, "expt_gap": 0.331, "expt_is_metal": 0.975}
"""Mean absolute errors at most; of classes the area under the ROC curve of probabilities at least."""
OF_LABELS = 0.92
DEFAULT_RANKING = "P(near hull) x likeness"


@dataclass(frozen=True)
class Goal:
    """One figure that was asked for.

    Attributes:
        name: What it is.
        low, high: Bounds, None for no bound.
        value: Reached.
        of: What reaches it.
    """

    name: str
    low: float | None
    high: float | None
    value: float
    of: str

    @property
    def reached(self) -> bool:
        """Whether the value lies within the bounds."""
        return (self.low is None or self.value >= self.low) and (self.high is None or self.value <= self.high)

    @property
    def bounds(self) -> str:
        """The bounds in words."""
        if self.low is None:
            return f"at most {self.high:g}"
        return f"at least {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"


def goals(found: Mapping[str, dict]) -> list[Goal]:
    """The goals of each task that has run, in the order of the page."""
    rows = _of_discovery(found["discovery"]) if "discovery" in found else []
    for name, model in found.get("calibration", {}).items():
        rows.append(Goal(f"coverage of 90 % intervals, {name}", 0.88, 0.92, model["coverage"], "all test formulas"))
        for row, which in ((min, "lowest"), (max, "highest")):
            kind = row(model["by_group"], key=lambda each: each["coverage"])
            rows.append(Goal(f"the {which} of a kind of formulas", 0.85, 0.95, kind["coverage"], kind["group"]))
    if "oqmd" in found:
        shipped = {"name": "the shipped model", "mae": found["oqmd"]["shipped"]["mae"]}
        best = min([*found["oqmd"]["learners"], shipped], key=lambda row: row["mae"])
        rows.append(Goal("OQMD formation energy, MAE in eV/atom", None, 0.035, best["mae"], best["name"]))
    for task, limit in MATBENCH.items():
        if task in found:
            rows += _of_matbench(task, limit, found[task])
    return rows


def _of_discovery(found: dict) -> list[Goal]:
    rows = []
    for kind, pool in found["pools"].items():
        top = next(row for row in pool["rankings"][DEFAULT_RANKING]["stable"] if row["top"] == 1000)
        name = f"enrichment over a random order in the top 1,000, {kind}"
        rows.append(Goal(name, 100, None, top["enrichment"], DEFAULT_RANKING))
    for name in (DEFAULT_RANKING, "P(near hull)"):
        value = found["stability"][name]["roc_auc"]
        rows.append(Goal("stable against unstable, ROC-AUC", 0.85, None, value, name))
    return rows


def _of_matbench(task: str, limit: float, found: dict) -> list[Goal]:
    learners = summary(found["learners"])
    if task != "expt_is_metal":
        name, row = min(learners.items(), key=lambda item: item[1]["mae"][0])
        unit = "eV/atom" if task == "mp_e_form" else "eV"
        return [Goal(f"Matbench {task}, MAE in {unit}", None, limit, row["mae"][0], f"{name}, {_folds(row)}")]
    rows = []
    for key, least, what in (("roc_auc", limit, "probabilities"), ("roc_auc_of_labels", OF_LABELS, "labels")):
        name, row = max(learners.items(), key=lambda item: item[1][key][0])
        rows.append(Goal(f"Matbench {task}, ROC-AUC of {what}", least, None, row[key][0], f"{name}, {_folds(row)}"))
    return rows


def _folds(row: dict) -> str:
    return f"{row['folds']} of 5 folds"
