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
        "probability that the gap is what the campaign asks for: {window}",
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
_HULL_EDGES = np.linspace(-0.5, 0.7, 61)
"""eV/atom: few candidates lie beyond, and the outermost bins hold them."""
_TERM_EDGES = np.linspace(-0.01, 1.01, 52) - 0.005
"""Two values of two decimals each."""
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
    drawn, told = _distributions(entries, found, selected)
    if len(found.shown):
        drawn.append(_energies(found.shown, selected, criteria.near_hull_ev_per_atom))
    far = [owner for owner in _owners("distance_from_training", None, found, selected) if len(owner[1])]
    if far:
        drawn.append(figures.histograms("Distance from training", "1: median of what was learnt from", far))
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
            "decomposition energy is what a compound needs. The outermost bins hold what lies beyond, and below the "
            "dotted line a formula counts as near the hull."
        )
        + (page.figures(*drawn) if drawn else "")
        + "".join(told)
    )


def _distributions(entries: pa.Table, found: Scores, selected: pa.Table) -> tuple[list[figures.Figure], list[str]]:
    """A histogram of each property, and what is to be said beside them."""
    drawn, told = [], []
    for name, (title, unit) in TITLES.items():
        owners = _owners(name, entries, found, selected)
        if name == EXPERIMENTAL and not any(len(values) for _, values, _ in owners):
            continue
        absent = [owner for owner, values, _ in owners if not len(values)]
        sets = [each for each in owners if len(each[1])]
        if absent:
            told.append(page.missing(f"No {title} to show for: {', '.join(absent)}."))
        if unit == "eV" and sets:
            zeros = [f"{owner} {page.share(1 - len(values.above(0)) / len(values))}" for owner, values, _ in sets]
            told.append(page.paragraph(f"Share without a {title} (metals, left out of the plot): {', '.join(zeros)}."))
            sets = [(owner, values.above(0), color) for owner, values, color in sets if len(values.above(0))]
        if sets:
            heading = title.capitalize() + (" of those with one" if unit == "eV" else "")
            drawn.append(figures.histograms(heading, unit, sets, _HULL_EDGES if name == HULL else None))
    return drawn, told


def _owners(name: str, entries: pa.Table | None, found: Scores, selected: pa.Table) -> list[tuple[str, Counted, str]]:
    """Who has a score: name, values and colour; the database where it has such a column."""
    owners = [
        ("candidates", found.values[name], figures.SAMPLES),
        ("selected", Counted.of(_known(selected[name])), figures.CHOSEN),
    ]
    if entries is not None and name in entries.column_names:
        owners.insert(0, ("database", Counted.of(_known(entries[name])), figures.TRAINING))
    return owners


def _readings(models: Sequence[dict], criteria: Criteria) -> str:
    """The table that says what each score means."""
    heads = [(name, "") for name in ("score", "what it says", "unit and sign", "how sure", "what it cannot tell")]
    about = {model["target"]: model for model in models}
    rows = []
    for name, (title, _) in TITLES.items():
        if name in about:
            says, unit, cannot = _MEANINGS[name]
            rows.append([title, says, unit, _how_sure(about[name], TITLES[name][1]), cannot])
    given = {"near_hull": criteria.near_hull_ev_per_atom, "window": criteria.gap_window}
    rows += [[name, says.format(**given), *rest] for name, says, *rest in _OTHERS]
    return page.table(heads, [list(map(text, row)) for row in rows], even=True)


def _how_sure(model: dict, unit: str) -> str:
    metrics = model["metrics"]
    return (
        f"errs by {metrics['mae']:.3f} {unit} in the mean on {metrics['rows']:,} formulas that it never saw (always "
        f"saying the mean: {metrics['mean_predictor_mae']:.3f}); the 90 % intervals held "
        f"{100 * metrics['interval_coverage']:.0f} % of them; learnt from {model['rows']['train']:,} formulas of "
        f"{model['source']}"
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
        (_HULL_EDGES[0], _HULL_EDGES[-1]),
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
            drawn.append(figures.histograms(_TERM_TITLES[name].capitalize(), "", shown, _TERM_EDGES))
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
