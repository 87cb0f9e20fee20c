"""The page's sections on scores: what each says, how they are spread, and how they rank."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.report import figures, page
from pipeline.report.campaign import ENERGY, GAP, HULL, Scores
from pipeline.report.counted import Counted
from pipeline.report.models import EXPERIMENTAL, TITLES
from pipeline.report.page import Cell, number, text
from pipeline.screening.criteria import Criteria
from pipeline.screening.usefulness import TERMS

_MEANINGS = {
    ENERGY: (
        "energy of the compound against its elements",
        "eV for each atom; negative: bound",
        "Nearly every compound that exists is bound, and so are most that decompose into others: low is not stable.",
    ),
    HULL: (
        "distance to the convex hull of all other compounds: what decides whether it decomposes",
        "eV for each atom; positive: it would decompose and gain so much, negative: stable by so much",
        "At 0 K, by DFT, against phases that the source knows, for the best crystal of the formula. A phase that "
        "nobody computed may lie lower; and of the metastable compounds that were made, nine in ten lie up to 0.067 "
        "above the hull (Sun et al. 2016, doi:10.1126/sciadv.1600225).",
    ),
    GAP: (
        "gap between occupied and empty states, as semi-local DFT gives it",
        "eV; 0: called a metal",
        "Semi-local DFT finds gaps too small, often by a third and more; one crystal stands for the formula.",
    ),
    EXPERIMENTAL: (
        "the gap as experiments find it",
        "eV; 0: called a metal",
        "Learnt from few compounds, most of them well-known semiconductors.",
    ),
}
_OTHERS = (
    (
        "near the hull",
        "probability that the decomposition energy is at most {near_hull:g} eV/atom",
        "0 to 1",
        "from the decomposition energy, its interval, and how the model erred on formulas kept apart for that",
        "As the decomposition energy.",
    ),
    (
        "likeness",
        "how much the formula is like those of the database, among charge-balanced formulas at large",
        "0: like the many, 1: like a compound",
        "learnt in this campaign; nobody knows which formulas cannot be made, so no error can be stated",
        "No probability that it can be made. What is unlike all that is known may be new, or nonsense.",
    ),
    (
        "gap as asked",
        "probability that the gap lies in the window that the campaign asks for ({window})",
        "0 to 1; 1 where it asks for none",
        "from the probability of a gap above 0, the gap, its interval, and how the model erred",
        "As the band gap.",
    ),
    (
        "distance from training",
        "how far the formula lies from what the models learnt from, in its features; of all models the largest",
        "1: as the median of what they learnt from; larger: farther",
        "a measure, not a prediction",
        "Far out the models guess, and their intervals may be too narrow.",
    ),
    (
        "novelty",
        "half of the distance to the nearest formula of the database, the sum of the differences of element fractions",
        "0: in the database, 1: no element shared with any of its formulas",
        "counted",
        "A compound that is known elsewhere counts as novel.",
    ),
    (
        "supply",
        "Herfindahl-Hirschman index of the elements, mean by mass (doi:10.1021/cm400893e), by production and reserves",
        "0: from many countries, 10,000: from one; above 2,500 counts as highly concentrated",
        "a table published in 2013; an element without an index leaves it empty",
        "Prices and politics since.",
    ),
)
_TERM_TITLES = {
    "near_hull": "near the hull",
    "likeness": "likeness",
    "gap": "gap as asked",
    "novelty": "novelty",
    "diversity": "diversity",
}


def scores(entries: pa.Table, found: Scores, selected: pa.Table, models: Sequence[dict], criteria: Criteria) -> str:
    """What each score says, and how the scores of database, candidates and selected are spread.

    Args:
        entries: The database, with ``ENERGY`` and ``GAP``.
        found: Of all candidates.
        selected: The selected ones.
        models: Descriptions of the property models.
        criteria: Of the campaign.
    """
    drawn, told = [], []
    for name, (title, unit) in TITLES.items():
        of_entries = [entries[name]] if name in entries.column_names else []
        owners = (
            (
                "database",
                Counted.of(pa.chunked_array(of_entries, pa.float64()).drop_null().to_numpy()),
                figures.TRAINING,
            ),
            ("candidates", found.values[name], figures.SAMPLES),
            ("selected", Counted.of(selected[name].drop_null().to_numpy()), figures.CHOSEN),
        )
        owners = [owner for owner in owners if owner[0] != "database" or of_entries]
        if name == EXPERIMENTAL and not len(owners[0][1]):
            continue
        sets, zeros, absent = [], [], []
        for owner, values, color in owners:
            if len(values) == 0:
                absent.append(owner)
                continue
            if unit == "eV":
                positive = values.above(0)
                zeros.append(f"{owner} {page.share((len(values) - len(positive)) / len(values))}")
                values = positive
            if len(values):
                sets.append((owner, values, color))
        if absent:
            told.append(page.missing(f"No {title} to show for: {', '.join(absent)}."))
        if zeros:
            told.append(page.paragraph(f"Share without a {title} (metals, left out of the plot): {', '.join(zeros)}."))
        if sets:
            heading = title.capitalize() + (" of those with one" if unit == "eV" else "")
            drawn.append(figures.histograms(heading, unit, sets))
    if len(found.shown):
        drawn.append(_energies(found.shown, selected, criteria.near_hull_ev_per_atom))
    return (
        page.paragraph(
            "Every candidate that passed the filter gets these scores from its formula alone. A value ± a width means: "
            "of formulas that the models never saw, nine in ten have their true value within the width; of formulas "
            "far from those, fewer."
        )
        + _readings(models, criteria)
        + page.paragraph(
            "Database: values of the source. Candidates: all that passed the filter. Selected: those that met the "
            "cutoffs, the best by usefulness. In brackets: how many. A low formation energy is common; a low "
            "decomposition energy is what a compound needs."
        )
        + (page.figures(*drawn) if drawn else "")
        + "".join(told)
    )


def _readings(models: Sequence[dict], criteria: Criteria) -> str:
    """The table that says what each score means."""
    heads = [
        ("score", ""),
        ("what it says", ""),
        ("unit and sign", ""),
        ("how sure", "on formulas that the model never saw"),
        ("what it cannot tell", ""),
    ]
    about = {model["target"]: model for model in models}
    rows = []
    for name, (title, _) in TITLES.items():
        if name in about:
            says, unit, cannot = _MEANINGS[name]
            rows.append([title, says, unit, _how_sure(about[name], TITLES[name][1]), cannot])
    window = (criteria.min_band_gap_ev, criteria.max_band_gap_ev)
    asked = " to ".join("any" if bound is None else f"{bound:g} eV" for bound in window) if any(window) else "any gap"
    given = {"near_hull": criteria.near_hull_ev_per_atom, "window": asked}
    rows += [[name, says.format(**given), *rest] for name, says, *rest in _OTHERS]
    return page.table(heads, [[text(row[0]), *(text(each, "wrap") for each in row[1:])] for row in rows])


def _how_sure(model: dict, unit: str) -> str:
    metrics = model["metrics"]
    return (
        f"mean error {metrics['mae']:.3f} {unit}, where always saying the mean errs by "
        f"{metrics['mean_predictor_mae']:.3f}; learnt from {model['rows']['train']:,} formulas of {model['source']}; "
        f"the 90 % intervals held {100 * metrics['interval_coverage']:.0f} % of {metrics['rows']:,} test formulas"
    )


def _energies(shown: pa.Table, selected: pa.Table, near_hull: float) -> figures.Figure:
    """Decomposition energy beside formation energy, one point a candidate."""
    sets = []
    for name, table, color, size, opacity in (
        ("candidates", shown, figures.SAMPLES, 4, 0.4),
        ("selected", selected, figures.CHOSEN, 5, 0.8),
    ):
        x, y = (table[column].to_numpy() for column in (ENERGY, HULL))
        labels = [page.formula(id_.partition("-")[0]) for id_ in table["id"].to_pylist()]
        sets.append((f"{name} ({len(table):,} shown)", x, y, labels, color, size, opacity))
    return figures.beside_each_other(
        "Bound is not stable",
        ("formation energy (eV/atom)", "decomposition energy (eV/atom)"),
        [each for each in sets if len(each[1])],
        near_hull,
    )


def ranking(found: Scores, selected: pa.Table, criteria: Criteria) -> str:
    """How candidates were ranked: the terms, their weights, what they did, and how they are spread."""
    weights = {name: getattr(criteria.weights, name) for name in TERMS}
    lacks = {
        name: weights[name] * np.log(1 / np.clip(_known(selected[column]), 1e-12, 1)).sum() if weights[name] else 0.0
        for name, column in TERMS.items()
    }
    total = sum(lacks.values())
    heads = [
        ("term", ""),
        ("weight", "exponent"),
        ("median", "of candidates"),
        ("median", "of selected"),
        ("share", "of what lacks to usefulness 1"),
    ]
    rows, drawn = [], []
    for name, column in TERMS.items():
        every, chosen = found.values[column], Counted.of(_known(selected[column]))
        rows.append(
            [
                text(_TERM_TITLES[name]),
                number(weights[name], "g"),
                number(every.quantile(0.5) if len(every) else None, ".2f"),
                number(chosen.quantile(0.5) if len(chosen) else None, ".2f"),
                Cell(page.share(lacks[name] / total if total else None), lacks[name], "n"),
            ]
        )
        sets = (("candidates", every, figures.SAMPLES), ("selected", chosen, figures.CHOSEN))
        if shown := [each for each in sets if len(each[1])]:
            drawn.append(figures.histograms(_TERM_TITLES[name].capitalize(), "", shown))
    if len(selected):
        ranks, useful = list(range(1, len(selected) + 1)), figures.numbers(selected["usefulness"].to_numpy(), 6)
        y = {"title": {"text": "usefulness"}, "rangemode": "tozero"}
        drawn.append(figures.curves("Usefulness by rank", ranks, {"usefulness": useful}, y, x="rank"))
    limit = criteria.max_per_chemical_system
    return (
        page.paragraph(
            "A candidate is worth computing if it is probably near the hull <i>and</i> is like something that can be "
            "made <i>and</i> has the gap that is asked for. So the terms, each from 0 to 1, are multiplied, each to "
            "the power of its weight (<code>screening.select.weights</code>); the product, <b>usefulness</b>, ranks. "
            "It orders candidates and is no probability. Diversity is 1/k for the k-th best of the same elements, so "
            "that no chemical system fills the list"
            + (f"; beyond the first {limit:,} of a system none is ranked." if limit else ".")
        )
        + page.table(heads, rows)
        + page.paragraph(
            "The share says which term decides: what lacks to 1, in logarithms, over all selected. Why a formula "
            "stands where it stands, drawn or not: <code>python -m pipeline.screening explain FORMULA</code>."
        )
        + (page.figures(*drawn) if drawn else page.missing("No candidate was scored."))
    )


def _known(column: pa.ChunkedArray) -> np.ndarray:
    return column.drop_null().to_numpy()
