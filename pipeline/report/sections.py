"""The page's sections up to the screening: each takes what it shows and gives HTML."""

from collections.abc import Mapping, Sequence
from html import escape

import numpy as np

from pipeline.composition import SYMBOLS
from pipeline.report import figures, page
from pipeline.report.campaign import Known, Sampled
from pipeline.report.funnel import Gate, words
from pipeline.report.page import Cell, number, share, text
from pipeline.report.periodic import total_variation

SETS = (
    ("training", "training set", figures.TRAINING),
    ("samples", "samples, each formula once", figures.SAMPLES),
    ("samples_drawn", "samples, as often as drawn", figures.DRAWN),
    ("random_of_samples", "matched random formulas", figures.RANDOM),
)
MAX_REJECTS = 100
_WASSERSTEIN = ("wasserstein", "score_difference")


def header(campaign: str, seed: int, command: str, settings: dict, provenance: dict) -> str:
    """What ran: campaign, settings, versions, and the command that repeats it."""
    flat = flatten(settings)
    named = ("generator", "encoding.settings", "training.preset", "training.settings")
    told = {key: value for key, value in flat.items() if key.startswith(named)}
    versions = " · ".join(f"{name} {version}" for name, version in provenance.get("versions", {}).items())
    facts = {"campaign": campaign, "seed": seed, **told, "versions": versions, "code": provenance.get("code", "")}
    rows = [[text(name), text(str(value), "wrap")] for name, value in facts.items() if value != ""]
    every = [[text(key), text(str(value), "wrap")] for key, value in flat.items()]
    return (
        page.paragraph(
            "The command below repeats the campaign from the repository root; only what changed since is computed "
            "again. The same database, settings, seed and versions give the same page, byte for byte."
        )
        + f"<pre>{escape(command)}</pre>"
        + page.table([("what", ""), ("value", "")], rows)
        + page.details(f"all {len(every)} settings", page.table([("setting", ""), ("value", "")], every))
    )


def flatten(settings: Mapping, prefix: str = "") -> dict[str, object]:
    """Nested settings as ``{"section.key": value}``; an empty section is left out."""
    flat = {}
    for key, value in settings.items():
        if isinstance(value, list) and all(isinstance(item, Mapping) for item in value):
            value = {str(place): item for place, item in enumerate(value, start=1)}
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def funnel(
    database: Sequence[Gate],
    candidates: Sequence[Gate],
    n_structures: int,
    n_formulas: int,
    verdicts: Mapping[str, int],
    rejects: Sequence[dict],
    sources: Sequence[dict],
) -> str:
    """Sources, both funnels, the first of the rows that could not be read, and the verdicts of the filter."""
    judged = sum(verdicts.values())
    unread = [
        [
            text(row["source"]),
            text(row["file"]),
            number(row["line"], "d"),
            text(row["id"] or ""),
            text(row["reason"], "wrap"),
        ]
        for row in rejects[:MAX_REJECTS]
    ]
    origins = [
        [text(source["name"]), number(source["rows_read"]), number(source["entries"])]
        + [text(source.get(key) or "not stated", "wrap") for key in ("licence", "citation")]
        for source in sources
    ]
    rows = [
        [text(words_of_verdict(name)), number(n), Cell(share(n / judged), n, "n")]
        for name, n in sorted(verdicts.items(), key=lambda pair: -pair[1])
    ]
    return (
        page.paragraph(
            "How many were left after each step, and why the rest fell. Every row is counted at every step under "
            "exactly one reason, so that what is left and what was lost add up to what came in. "
            "Bars are on a logarithmic scale."
        )
        + "<h3>Database to training set</h3>"
        + page.table([(name, "") for name in ("source", "rows", "entries", "licence", "citation")], origins)
        + _gates(database)
        + (
            page.details(
                f"rows that could not be read: {len(unread)} of {len(rejects):,}",
                page.table([("source", ""), ("file", ""), ("line", ""), ("id", ""), ("reason", "")], unread),
            )
            if unread
            else ""
        )
        + "<h3>Draws to exported candidates</h3>"
        + _gates(candidates)
        + page.paragraph(f"{n_structures:,} structures of {n_formulas:,} formulas were exported.")
        + page.details(
            "verdict of the chemical filter on every distinct candidate",
            page.table([("verdict", ""), ("candidates", ""), ("share", "")], rows),
        )
    )


def words_of_verdict(verdict: str) -> str:
    """A verdict of the filter in words."""
    valid = {
        "element": "one element only (valid)",
        "alloy": "metals only, taken for an alloy (valid)",
        "balanced": "charges balance (valid)",
    }
    return valid.get(verdict) or words(verdict)


def _gates(gates: Sequence[Gate]) -> str:
    top = np.log10(max(gates[0].left, 9) + 1)
    rows = []
    for gate in gates:
        width = 100 * np.log10(gate.left + 1) / top
        reasons = ", ".join(f"{escape(words(reason))}: {n:,}" for reason, n in gate.lost.items())
        lost = sum(gate.lost.values())
        rows.append(
            [
                text(gate.name),
                number(gate.left),
                Cell(f'<div class="bar" style="width:{width:.1f}%"></div>', gate.left, "track"),
                number(lost) if gate is not gates[0] else Cell("", "", "n"),
                Cell(reasons, reasons, "wrap"),
            ]
        )
    return page.table([("step", ""), ("left", ""), ("", ""), ("lost", ""), ("lost because", "")], rows)


def learning(history: Mapping[str, Sequence], by_epoch: Mapping[str, Sequence], reconstruction: dict | None) -> str:
    """Learning curves of the generator, quality of its samples by epoch, and the autoencoder's result."""
    epochs = history["epoch"]
    groups: dict[str, dict[str, Sequence]] = {"Losses": {}, "Distance seen by the critic": {}, "Gradient norms": {}}
    for name, values in history.items():
        if name == "epoch" or all(value is None for value in values):
            continue
        group = "Gradient norms" if "norm" in name else "Losses"
        group = "Distance seen by the critic" if name.startswith(_WASSERSTEIN) else group
        groups[group][name.replace("_", " ")] = values
    units = {"Losses": "mean over the epoch", "Distance seen by the critic": "score, real minus generated"}
    drawn = []
    for title, series in groups.items():
        if series:
            log = title == "Gradient norms" and all(v is None or v > 0 for values in series.values() for v in values)
            y = {"title": {"text": units.get(title, "norm, mean over the epoch")}}
            drawn.append(figures.curves(title, epochs, series, y | ({"type": "log", "dtick": "D2"} if log else {})))
    quality = {name.replace("_", " "): by_epoch[name] for name in by_epoch if name.startswith("pass_rate_")}
    percent = {"tickformat": ".0%", "rangemode": "tozero"}
    if by_epoch["epoch"]:
        drawn += [
            figures.curves("Samples that pass the filter", by_epoch["epoch"], quality, percent),
            figures.curves(
                "Distinct formulas among the samples",
                by_epoch["epoch"],
                {"distinct": by_epoch["unique_share"]},
                percent,
            ),
            figures.curves(
                "Distance of the element distribution to the training set",
                by_epoch["epoch"],
                {"total variation": by_epoch["element_total_variation"]},
                {"title": {"text": "total variation, 0 to 1"}, "rangemode": "tozero"},
            ),
        ]
    last = (
        page.paragraph(
            f"The generator trained for {len(epochs):,} epochs. Upper curves: what training itself records. Lower: "
            f"{by_epoch['n_samples'][-1]:,} samples drawn after an epoch, judged by the filter and compared with the "
            "training set: pass rates and distinctness should be high, the total variation distance low."
        )
        if by_epoch["epoch"]
        else page.paragraph(f"The generator trained for {len(epochs):,} epochs.")
    )
    shown = page.figures(*drawn) if drawn else page.missing("The training history holds no figures.")
    return last + shown + _autoencoder(reconstruction)


def _autoencoder(reconstruction: dict | None) -> str:
    if reconstruction is None:
        return page.missing("No autoencoder was trained in this campaign (training.autoencoder is off).")
    told = page.paragraph(
        "An autoencoder whose decoder has the architecture "
        f"<i>{escape(str(reconstruction['architecture']))}</i> was trained for {reconstruction['epochs']:,} epochs "
        "to see which formulas such a network can say at all: the share of formulas that come back "
        "without one atom wrong."
    )
    values = [
        (
            share(reconstruction["training_exact"]),
            f"of {reconstruction['training_formulas']:,} training formulas exact",
        ),
        (
            share(reconstruction["held_out_exact"]),
            f"of {reconstruction['held_out_formulas']:,} held-out formulas exact",
        ),
        (f"{reconstruction['dice']:.4f}", "Dice coefficient on the training set (1 is perfect)"),
    ]
    return "<h3>Autoencoder</h3>" + told + page.tiles(values)


def validity(
    pass_rates: dict, settings: Mapping[str, str], known: Known, sampled: Sampled, dropped: Mapping[str, int]
) -> str:
    """Uniqueness, novelty, rediscovery, and pass rates beside their baselines.

    Args:
        pass_rates: What the filtering stage wrote.
        settings: Its settings in words, by name.
        known, sampled: Database and samples.
        dropped: Rows that cleaning dropped, by rule.
    """
    n_large = dropped.get("too_many_atoms_of_an_element", 0)
    n_held_out = len(known.compositions.take(known.held_out).unique()[0])
    n_found = len(known.compositions.take(known.held_out & sampled.found).unique()[0])
    of = f"{n_found:,} of {n_held_out:,} held-out formulas found again"
    values = [
        (_ratio(sampled.n_formulas, sampled.n_decoded), f"of {sampled.n_decoded:,} draws are distinct formulas"),
        (
            _ratio(sampled.n_formulas - sampled.n_known, sampled.n_formulas),
            f"of {sampled.n_formulas:,} distinct formulas are not in the database",
        ),
        (_ratio(n_found, n_held_out), of),
        (
            _ratio(int(known.encoded.sum()), len(known.encoded)),
            f"of {len(known.encoded):,} entries are encoded for the generator, held-out ones included; "
            f"cleaning dropped {n_large:,} rows with too many atoms of an element before",
        ),
    ]
    heads = [("set", "")]
    for name in pass_rates:
        heads += [(name, "passed"), ("", "matched random"), ("", "enrichment")]
    rows = []
    for key, title, _ in SETS[:3]:
        row = [text(title)]
        for result in pass_rates.values():
            mine, random = result["sets"][key]["overall"], result["sets"][f"random_of_{key}"]["overall"]
            times = result["enrichment"][key]
            row += [
                _rate(mine),
                Cell(share(random["rate"]), "", "n"),
                Cell("–" if times is None else f"{times:.2f} ×", times or "", "n"),
            ]
        rows.append(row)
    stated = [f"<b>{escape(name)}</b>: {escape(settings.get(name, 'as the filter names it'))}." for name in pass_rates]
    return (
        page.paragraph(
            "All formulas are reduced before they are counted. A held-out formula that the generator never saw and "
            "finds again is the best sign that the other novel formulas are worth a look."
        )
        + page.tiles(values)
        + page.paragraph(
            "Share of formulas that pass SMACT's charge-neutrality and electronegativity rules. A rate means nothing "
            "alone: it depends on the rules, and loose rules let most random formulas pass. So each stands beside "
            "random formulas with the same numbers of atoms and elements redrawn by their frequency in the training "
            "set; enrichment is the ratio of the two. Only formulas of 2 to 8 elements count."
        )
        + page.paragraph(*stated)
        + page.table(heads, rows)
        + page.figures(*(figures.pass_rates(name, result["sets"], SETS) for name, result in pass_rates.items()))
        + page.details("pass rates by number of elements", _by_size(pass_rates))
    )


def _by_size(pass_rates: dict) -> str:
    made = ""
    for name, result in pass_rates.items():
        sizes = list(result["sets"]["training"]["by_n_elements"])
        heads = [("set", ""), *((f"{size} elements", "") for size in sizes)]
        rows = [
            [text(title), *(_rate(result["sets"][key]["by_n_elements"][size]) for size in sizes)]
            for key, title, _ in SETS
        ]
        made += f"<h3>{escape(name)}</h3>" + page.table(heads, rows)
    return made


def _rate(rate: dict) -> Cell:
    if rate["rate"] is None:
        return Cell("–", "", "n")
    return Cell(f"{share(rate['rate'])} <small>of {rate['rows']:,}</small>", rate["rate"], "n")


def _ratio(part: int, whole: int) -> str:
    return share(part / whole if whole else None)


def elements(known: Known, sampled: Sampled, n_vocabulary: int) -> str:
    """Element heat maps of training set and samples, and where they differ most."""
    training = known.training
    in_training = np.bincount(training.elements, minlength=len(SYMBOLS) + 1)
    if not (len(training) and sampled.n_formulas):
        return page.missing("There are no training formulas or no samples to compare.")
    mine = sampled.element_formulas / sampled.n_formulas
    theirs = in_training / len(training)
    order = np.argsort(mine - theirs, kind="stable")
    often = ", ".join(_compared(SYMBOLS[z - 1], theirs[z], mine[z]) for z in order[:-4:-1] if mine[z] > theirs[z])
    seldom = ", ".join(_compared(SYMBOLS[z - 1], theirs[z], mine[z]) for z in order[:3] if mine[z] < theirs[z])
    distance = total_variation(in_training, sampled.element_formulas)
    sets = {
        f"training set ({len(training):,} formulas)": (in_training, len(training)),
        f"samples ({sampled.n_formulas:,} distinct formulas)": (sampled.element_formulas, sampled.n_formulas),
    }
    return page.paragraph(
        "Share of the formulas that contain each element, on one logarithmic scale; grey elements are in none. "
        f"The vocabulary holds {n_vocabulary} elements. "
        f"The total variation distance between the two element distributions is <b>{distance:.3f}</b> "
        "(0: alike, 1: no element in common).",
        f"Most over-represented among the samples: {often or 'none'}; most under-represented: {seldom or 'none'} "
        "(training set to samples).",
    ) + page.figures(figures.element_tables(sets))


def _compared(symbol: str, before: float, after: float) -> str:
    return f"{symbol} {100 * before:.1f} to {100 * after:.1f} %"
