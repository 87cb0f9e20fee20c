"""The page's section on property models: how well they predict what they never saw, and where they err more."""

from collections.abc import Mapping, Sequence
from html import escape

import pyarrow as pa

from pipeline.report import figures, page
from pipeline.report.campaign import ENERGY, GAP, HULL
from pipeline.report.page import Cell, number, text

EXPERIMENTAL = "experimental_band_gap_ev"
TITLES = {
    ENERGY: ("formation energy", "eV/atom"),
    HULL: ("decomposition energy", "eV/atom"),
    GAP: ("band gap", "eV"),
    EXPERIMENTAL: ("experimental band gap", "eV"),
}
"""Name and unit of each property that a model predicts."""


def models(found: Sequence[tuple[dict, pa.Table]]) -> str:
    """Parity plots and errors of the property models, and where they err more."""
    if not found:
        return page.missing("No property model was used.")
    heads = [
        ("property", ""),
        ("trained on", "source, formulas"),
        ("test formulas", ""),
        ("MAE", "in the unit"),
        ("MAE of the mean", "always saying the training mean"),
        ("R²", ""),
        ("ROC-AUC", "stable, or non-metal"),
        ("coverage", "of the 90 % interval"),
        ("half-width", "of the interval, mean"),
    ]
    rows, drawn, apart = [], [], []
    order = {name: place for place, name in enumerate(TITLES)}
    for description, parity in sorted(found, key=lambda pair: order.get(pair[0]["target"], len(order))):
        name = description["target"]
        title, unit = TITLES.get(name, (name, ""))
        metrics = description["metrics"]
        rows.append(
            [
                text(f"{title} ({unit})"),
                text(f"{description['source']}, {description['rows']['train']:,}"),
                number(metrics["rows"]),
                number(metrics["mae"], ".3f"),
                number(metrics["mean_predictor_mae"], ".3f"),
                number(metrics["r2"], ".3f"),
                number(metrics.get("stable_roc_auc", metrics.get("classifier_roc_auc")), ".3f"),
                Cell(page.share(metrics["interval_coverage"]), metrics["interval_coverage"], "n"),
                number(metrics["mean_interval_half_width"], ".3f"),
            ]
        )
        if len(parity):
            target, prediction = (parity[column].to_numpy() for column in ("target", "prediction"))
            ids = [escape(each) for each in parity["id"].to_pylist()]
            heading = f"{title.capitalize()}: {len(parity):,} test formulas"
            drawn.append(figures.parity(heading, unit, target, prediction, ids))
        apart.append(_apart(title, unit, description))
    return (
        page.paragraph(
            "How well the models predict formulas that they never saw (the split is by reduced formula). Points on the "
            "dotted line are perfect; a model is worth its name only where its mean absolute error (MAE) is far below "
            "that of always saying the mean. The area under the ROC curve (0.5: chance, 1: perfect) says how well the "
            "model tells stable compounds from unstable ones, or non-metals from metals. The errors hold for formulas "
            "like those of the source, not for anything."
        )
        + page.table(heads, rows)
        + (page.figures(*drawn) if drawn else page.missing("The models come without test predictions."))
        + "".join(apart)
    )


def _apart(title: str, unit: str, description: Mapping) -> str:
    """A model's errors and coverage by kind of formula, and by distance from its training formulas."""
    tables = []
    if groups := description.get("by_group"):
        rows = [[text(group["group"]), *_errors(group)] for group in groups]
        tables.append(page.block("By kind of formula", page.table([("kind", ""), *_error_heads(unit)], rows)))
    if parts := description.get("by_distance"):
        rows = [[Cell(f"{part['from']:.2f} to {part['to']:.2f}", part["from"]), *_errors(part)] for part in parts]
        heads = [("distance", "from training, 1 is usual"), *_error_heads(unit)]
        tables.append(page.block("By distance from the training formulas", page.table(heads, rows)))
    if not tables:
        return ""
    explained = page.paragraph(
        "A mean hides the poorest group. The interval should hold 90 % of each; where it holds less, trust it less."
    )
    return page.details(f"{title}: where it errs more", explained + page.beside(*tables))


def _error_heads(unit: str) -> list[tuple[str, str]]:
    return [("test formulas", ""), ("MAE", unit), ("coverage", "of the 90 % interval")]


def _errors(group: Mapping) -> list[Cell]:
    return [
        number(group["rows"]),
        number(group["mae"], ".3f"),
        Cell(page.share(group["coverage"]), group["coverage"], "n"),
    ]
