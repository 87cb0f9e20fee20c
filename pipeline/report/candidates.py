"""The page's sections on candidates: their map, their properties, the models behind those, and the table."""

import re
from collections.abc import Sequence
from html import escape

import numpy as np
import pyarrow as pa

from pipeline.composition import Compositions, concatenate
from pipeline.report import figures, page
from pipeline.report.campaign import ENERGY, GAP, Known, Scores, smallest_hashes
from pipeline.report.counted import Counted
from pipeline.report.embedding import MIN_POINTS, embed
from pipeline.report.page import Cell, number, text

ORIGINS = {"generator": "the generator", "random": "random sites of a random space group"}
"""Where structures that are on no template come from."""

_PROPERTIES = {ENERGY: ("formation energy", "eV/atom"), GAP: ("band gap", "eV")}


def chemical_map(known: Known, shown: Compositions, exported: Compositions, n_shown: int, seed: int) -> str:
    """Samples among known compounds, exported candidates on top."""
    compounds = smallest_hashes(known.training, n_shown)
    every = concatenate([compounds, shown, exported])
    if len(every) < MIN_POINTS:
        return page.missing(f"{len(every)} formulas are too few for a map; it needs {MIN_POINTS}.")
    xy = embed(every, seed)
    labels = [page.formula(formula) for formula in every.formulas().to_pylist()]
    ends = np.cumsum([0, len(compounds), len(shown), len(exported)])
    looks = (
        ("known compounds", figures.TRAINING, 4, 0.45),
        ("samples", figures.SAMPLES, 4, 0.55),
        ("exported candidates", figures.CHOSEN, 9, 1.0),
    )
    sets = [
        (f"{name} ({end - begin:,})", xy[begin:end], labels[begin:end], *look)
        for (name, *look), begin, end in zip(looks, ends, ends[1:], strict=False)
        if end > begin
    ]
    return page.paragraph(
        f"Each point is a formula (hover shows it), similar element fractions lie close together: {len(compounds):,} "
        f"formulas of the training set and {len(shown):,} samples, taken at random, and the {len(exported):,} exported "
        "formulas. Samples should cover the same regions as known compounds. Axes and the distances between far "
        "regions have no meaning (t-SNE on the square roots of the element fractions)."
    ) + page.figures(figures.scatter_map(sets))


def distributions(entries: pa.Table, scores: Scores, selected: pa.Table) -> str:
    """Formation energies and band gaps of the database, of all candidates and of the selected."""
    drawn, told = [], []
    for name, (title, unit) in _PROPERTIES.items():
        owners = (
            ("database", Counted.of(entries[name].drop_null().to_numpy()), figures.TRAINING),
            ("candidates", scores.values[name], figures.SAMPLES),
            ("selected", Counted.of(selected[name].drop_null().to_numpy()), figures.CHOSEN),
        )
        sets, zeros, absent = [], [], []
        for owner, values, color in owners:
            if len(values) == 0:
                absent.append(owner)
                continue
            if name == GAP:
                positive = values.above(0)
                zeros.append(f"{owner} {page.share((len(values) - len(positive)) / len(values))}")
                values = positive
            if len(values):
                sets.append((owner, values, color))
        if absent:
            told.append(page.missing(f"No {title} to show for: {', '.join(absent)}."))
        if zeros:
            told.append(page.paragraph(f"Share without a gap (metals, left out of the plot): {', '.join(zeros)}."))
        if sets:
            heading = title.capitalize() + (" of those with one" if name == GAP else "")
            drawn.append(figures.histograms(heading, unit, sets))
    return (
        page.paragraph(
            "Formation energy (eV/atom, negative: bound against the elements) and band gap (eV). Database: values of "
            "the source. Candidates: all that passed the filter, values of the models. Selected: those that met the "
            "cutoffs, in the order of the ranking. In brackets: how many."
        )
        + (page.figures(*drawn) if drawn else "")
        + "".join(told)
    )


def models(found: Sequence[tuple[dict, pa.Table]]) -> str:
    """Parity plots and errors of the property models."""
    if not found:
        return page.missing("No property model was used.")
    heads = [
        ("property", ""),
        ("trained on", "source, formulas"),
        ("test formulas", ""),
        ("MAE", "in the unit"),
        ("MAE of the mean", "always saying the training mean"),
        ("R²", ""),
        ("coverage", "of the 90 % interval"),
        ("half-width", "of the interval, mean"),
    ]
    rows, drawn = [], []
    for description, parity in found:
        name = description["target"]
        title, unit = _PROPERTIES.get(name, (name, ""))
        metrics = description["metrics"]
        rows.append(
            [
                text(f"{title} ({unit})"),
                text(f"{description['source']}, {description['rows']['train']:,}"),
                number(metrics["rows"]),
                number(metrics["mae"], ".3f"),
                number(metrics["mean_predictor_mae"], ".3f"),
                number(metrics["r2"], ".3f"),
                Cell(page.share(metrics["interval_coverage"]), metrics["interval_coverage"], "n"),
                number(metrics["mean_interval_half_width"], ".3f"),
            ]
        )
        if len(parity):
            target, prediction = (parity[column].to_numpy() for column in ("target", "prediction"))
            ids = [escape(each) for each in parity["id"].to_pylist()]
            drawn.append(
                figures.parity(f"{title.capitalize()}: {len(parity):,} test formulas", unit, target, prediction, ids)
            )
    return (
        page.paragraph(
            "How well the models predict formulas that they never saw (the split is by reduced formula). Points on the "
            "dotted line are perfect; a model is worth its name only where its mean absolute error (MAE) is far below "
            "that of always saying the mean. The errors hold for formulas like those of the source, not for anything."
        )
        + page.table(heads, rows)
        + (page.figures(*drawn) if drawn else page.missing("The models come without test predictions."))
    )


def candidate_table(manifest: Sequence[dict[str, str]]) -> str:
    """The exported candidates; a click on a head sorts."""
    if not manifest:
        return page.missing("No candidate was exported: the funnel says at which step the last ones fell.")
    heads = [
        ("rank", ""),
        ("formula", ""),
        ("space group", ""),
        ("to the hull", "eV/atom"),
        ("references", "of the hull"),
        ("formation energy", "eV/atom, 90 % interval"),
        ("band gap", "eV, 90 % interval"),
        ("density", "g/cm³"),
        ("structure from", "prototype or entry, its formula"),
        ("probability", "of the template"),
        ("relaxation", ""),
        ("oxidation states", ""),
        ("nearest known", "formula, id"),
        ("distance", "to it, 0 to 2"),
        ("file", "in POSCAR/"),
    ]
    rows = [_candidate(line) for line in manifest]
    measured_from = sorted({line["hull_source"] for line in manifest} - {""})
    n = sum(bool(line["energy_above_hull_ev_per_atom"]) for line in manifest)
    hull = (
        f"The distance to the convex hull is known of {n} of {len(manifest)}; energies: "
        f"{'; '.join(map(escape, measured_from))}. Negative: below every reference of the same elements."
        if n
        else "The distance to the convex hull is known of none: no compound of their systems has a reference."
    )
    return page.paragraph(
        "Handed over for DFT, best first: ranked by the upper end of the formation energy's 90 % interval, so that a "
        "sure candidate comes before a wild guess. Click a heading to sort. The distance to the nearest known formula "
        "is the sum of the absolute differences of the element fractions (0: same formula, 2: no element shared).",
        hull,
    ) + page.table(heads, rows, sortable=True)


def _candidate(line: dict[str, str]) -> list[Cell]:
    label = line["template_label"]
    origin = f"{escape(label)}, {page.formula(line['template_formula'])}" if label else ORIGINS.get(line["origin"], "–")
    nearest = f"{page.formula(line['nearest_known_formula'])} <small>{escape(line['nearest_known_id'])}</small>"
    return [
        Cell(escape(line["rank"]), line["rank"], "n"),
        Cell(page.formula(line["formula"]), line["formula"]),
        Cell(
            f"{escape(line['space_group_symbol'])} <small>({escape(line['space_group_number'])})</small>",
            line["space_group_number"],
        ),
        _number(line["energy_above_hull_ev_per_atom"], "+.3f"),
        _number(line["n_hull_references"], ".0f"),
        _measured(line["formation_energy_ev_per_atom"], line["formation_energy_uncertainty_ev_per_atom"]),
        _measured(line["band_gap_ev"], line["band_gap_uncertainty_ev"]),
        _number(line["density_g_per_cm3"], ".2f"),
        Cell(origin, label),
        _number(line["template_probability"], ".2f"),
        text(_relaxed(line)),
        Cell(_charges(line["oxidation_states"]), line["oxidation_states"]),
        Cell(nearest, line["nearest_known_formula"]),
        _number(line["nearest_known_distance"], ".3f"),
        Cell(f"<code>{escape(line['file'].removeprefix('POSCAR/'))}</code>", line["file"]),
    ]


def _number(value: str, form: str) -> Cell:
    return Cell(_rounded(value, form), value, "n")


def _measured(value: str, width: str) -> Cell:
    return Cell(f"{_rounded(value, '.2f')} ± {_rounded(width, '.2f')}" if value else "–", value, "n")


def _rounded(value: str, form: str) -> str:
    return page.rounded(float(value) if value else None, form)


def _charges(states: str) -> str:
    return re.sub(r"(\d+)([+-])(?=\s|$)", lambda m: f"<sup>{m[1]}{m[2]}</sup>", escape(states)) or "–"


def _relaxed(line: dict) -> str:
    if line["relaxed"] != "True":
        return "none"
    return "converged" if line["converged"] == "True" else "not converged"


def limits(references: str | None) -> str:
    """How far the page can be trusted.

    Args:
        references: What the hull distances were measured from; None if there are none.
    """
    measured = (
        "The distances on this page come from energies of a machine-learnt potential at rest, without temperature, "
        f"against these references alone: {escape(references)}. A phase that is not among them cannot say that "
        "a candidate decomposes: where the table states few references, a negative distance means little. The "
        "potential errs by as much as decides about stability, and by more for chemistry that it never saw."
        if references
        else "This campaign measured none, so many candidates with a strongly negative formation energy will decompose."
    )
    told = {
        "Formation energy is not stability.": "A compound forms only if nothing else of the same elements lies lower; "
        f"that is its distance to the convex hull. {measured}",
        "Formation energies and gaps are predicted from the formula alone.": "Polymorphs of one formula get the same "
        "number, and the errors above are those of known chemistry: far from it they are larger, and the interval may "
        "not say so. Gaps learnt from semi-local DFT, as those of the shipped model are, are too small against "
        "experiment.",
        "Novel means: not in this campaign's database.": "A compound that is known elsewhere, or that cleaning "
        "dropped, counts as novel. Look a candidate up before computing it.",
        "Structures are borrowed or made up.": "A candidate takes the cell of a known crystal with its own elements "
        "on the sites, volume scaled, or that of a generator of crystals, or random sites; where the table says so, a "
        "machine-learnt potential relaxed it, as a rule within the symmetry that it started with. Its true structure "
        "may be another. Treat the POSCARs as starting points.",
        "Validity is a matter of settings.": "The share of formulas that pass the filter depends on the oxidation "
        "states allowed and on the treatment of alloys; compare it only with the baselines beside it. The rules suit "
        "ionic compounds and wrongly reject many intermetallics and metal hydrides.",
    }
    return "".join(page.paragraph(f"<b>{name}</b>", sentence) for name, sentence in told.items())
