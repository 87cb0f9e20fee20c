"""The page ``docs/screening.md``: what the tasks found, in tables, pictures and plain words."""

from collections.abc import Mapping
from pathlib import Path

from benchmarks.properties import asked, pictures, sections
from pipeline.tables import atomic

HEAD = """<!-- Written by `python -m benchmarks.properties`; do not edit. -->
# Screening: what its models and its ranking achieve

    python -m benchmarks.properties --data $KIMBERLITE_DATA [TASK ...] [--folds N] [--campaign results/mp]

Models here see a formula and nothing else. Figures are of formulas that no training, no early stopping and no interval
has seen; the table at the end says what was run, when and for how long. MAE is the mean absolute error, ROC-AUC the
probability that one of two, drawn at random, is put in the right order.
"""
_SPEED = """## Speed

Formulas a second of each learner and of the ranking by default: [docs/performance.md](performance.md).
"""
_SHOWN_RANKINGS = ("formation energy", "decomposition energy", "P(near hull)", "likeness", asked.DEFAULT_RANKING)


def write_page(path: Path, records: Mapping[str, dict]) -> None:
    """Write the page, and its pictures beside it, from what the tasks left.

    Args:
        path: Of the page.
        records: Of each task that has run, see :mod:`benchmarks.properties.record`.
    """
    found = {task: record["found"] for task, record in records.items()}
    parts = [HEAD, _asked(found)]
    if "discovery" in found:
        picture = _picture(path, "recall")
        pictures.recall(picture, found["discovery"]["pools"], _SHOWN_RANKINGS)
        parts += [sections.hidden(found["discovery"], picture), sections.stability(found["discovery"])]
    if "decomposition" in found:
        picture = _picture(path, "precision")
        pictures.precision(picture, found["decomposition"]["rankings"])
        parts.append(sections.decomposition(found["decomposition"], picture))
    if "calibration" in found:
        parts.append(
            sections.calibration(found["calibration"], _picture(path, "parity"), _picture(path, "calibration"))
        )
    if "oqmd" in found:
        parts.append(sections.oqmd(found["oqmd"]))
    curves = {title: found[task]["curve"] for task, title in _CURVES.items() if task in found}
    if curves:
        picture = _picture(path, "learning")
        pictures.learning_curves(picture, curves)
        parts.append(sections.learning(picture))
    if matbench := {task: found[task] for task in asked.MATBENCH if task in found}:
        parts.append(sections.matbench(matbench))
    parts += [_SPEED, _runs(records)]
    with atomic(path) as temporary:
        temporary.write_text("\n".join(parts))


_CURVES = {"oqmd": "Formation energy (OQMD)", "decomposition": "Decomposition energy (MP)"}


def _picture(path: Path, name: str) -> Path:
    return path.with_name(f"{path.stem}-{name}.png")


def _asked(found: Mapping[str, dict]) -> str:
    rows = [
        (goal.name, goal.bounds, sections.figure(goal.value), "yes" if goal.reached else "**no**", goal.of)
        for goal in asked.goals(found)
    ]
    return f"""## What was asked for, and what is reached

{sections.markdown(("figure", "asked", "reached", "enough", "by or where"), rows)}"""


def _runs(records: Mapping[str, dict]) -> str:
    rows = [
        (task, f"`{each['command']}`", each["date"], f"{each['seconds']:,}", _settings(each["found"]))
        for task, each in records.items()
    ]
    first = next(iter(records.values()))
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    return f"""## What was run

{sections.markdown(("task", "command", "date", "seconds", "settings other than the learners' defaults"), rows)}
One thread, {first["machine"]}, {versions}.
"""


def _settings(found: dict) -> str:
    """The learners' settings in words, each once."""
    rows = [*found.get("learners", ()), *found.get("variants", ())]
    given = {row["name"].split(",")[0].split(" ")[0]: row["settings"] for row in rows if row.get("settings")}
    given |= found.get("settings", {}).get("learners", {})
    return "; ".join(
        f"{name}: {', '.join(f'{key} {value}' for key, value in each.items())}" for name, each in given.items()
    )
