"""The page's sections on candidates: their map, the table of those handed over, and how far to trust it."""

import re
from collections.abc import Sequence
from html import escape

import numpy as np

from pipeline.composition import Compositions, concatenate
from pipeline.report import figures, page
from pipeline.report.campaign import Known, smallest_hashes
from pipeline.report.embedding import MIN_POINTS, embed
from pipeline.report.page import Cell, text

ORIGINS = {"generator": "the generator", "random": "random sites of a random space group"}
"""Where structures that are on no template come from."""


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


def candidate_table(manifest: Sequence[dict[str, str]]) -> str:
    """The exported candidates; a click on a head sorts."""
    if not manifest:
        return page.missing("No candidate was exported: the funnel says at which step the last ones fell.")
    with_experimental = any(line["experimental_band_gap_ev"] for line in manifest)
    heads = [
        ("rank", ""),
        ("formula", ""),
        ("space group", ""),
        ("to the hull", "eV/atom"),
        ("references", "of the hull"),
        ("usefulness", "0 to 1"),
        ("near the hull", "probability"),
        ("decomposition energy", "eV/atom, 90 % interval"),
        ("likeness", "0 to 1"),
        ("formation energy", "eV/atom, 90 % interval"),
        ("band gap", "eV, 90 % interval"),
        *([("experimental gap", "eV, 90 % interval")] if with_experimental else []),
        ("density", "g/cm³"),
        ("structure from", "prototype or entry, its formula"),
        ("probability", "of the template"),
        ("relaxation", ""),
        ("oxidation states", ""),
        ("nearest known", "formula, id"),
        ("distance", "to it, 0 to 2"),
        ("file", "in POSCAR/"),
    ]
    rows = [_candidate(line, with_experimental) for line in manifest]
    measured_from = sorted({line["hull_source"] for line in manifest} - {""})
    n = sum(bool(line["energy_above_hull_ev_per_atom"]) for line in manifest)
    hull = (
        f"The distance to the convex hull is known of {n} of {len(manifest)}; energies: "
        f"{'; '.join(map(escape, measured_from))}. Negative: below every reference of the same elements."
        if n
        else "The distance to the convex hull is known of none: no compound of their systems has a reference."
    )
    return page.paragraph(
        "Handed over for DFT, best first: ranked by usefulness, as explained above. Click a heading to sort. "
        "Usefulness to gap are predicted from the formula alone; <i>to the hull</i> is of the relaxed crystal. The "
        "distance to the nearest known formula is the sum of the absolute differences of the element fractions (0: "
        "same formula, 2: no element shared).",
        hull,
    ) + page.table(heads, rows, sortable=True)


def _candidate(line: dict[str, str], with_experimental: bool) -> list[Cell]:
    experimental = line["experimental_band_gap_ev"], line["experimental_band_gap_uncertainty_ev"]
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
        _number(line["usefulness"], ".3f"),
        _number(line["probability_near_hull"], ".2f"),
        _measured(line["decomposition_energy_ev_per_atom"], line["decomposition_energy_uncertainty_ev_per_atom"]),
        _number(line["likeness"], ".2f"),
        _measured(line["formation_energy_ev_per_atom"], line["formation_energy_uncertainty_ev_per_atom"]),
        _measured(line["band_gap_ev"], line["band_gap_uncertainty_ev"]),
        *([_measured(*experimental)] if with_experimental else []),
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
        "The measured distances on this page come from energies of a machine-learnt potential at rest, without "
        f"temperature, against these references alone: {escape(references)}. A phase that is not among them cannot say "
        "that a candidate decomposes: where the table states few references, a negative distance means little. The "
        "potential errs by as much as decides about stability, and by more for chemistry that it never saw."
        if references
        else "This campaign measured no such distance, so some candidates will decompose."
    )
    told = {
        "Formation energy is not stability.": "A compound forms only if nothing else of the same elements lies lower; "
        "that is its distance to the convex hull. The ranking predicts it from the formula (decomposition energy), "
        f"with the error stated above. {measured}",
        "The scores that rank are predicted from the formula alone.": "Polymorphs of one formula get the same number, "
        "and the errors above are those of known chemistry: far from it they are larger, and the interval may not say "
        "so. Gaps learnt from semi-local DFT, as those of the shipped model are, are too small against experiment. "
        "Likeness knows what was made so far, no law against the rest.",
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
