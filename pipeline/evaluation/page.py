"""The figures of all sets as one page, which works offline."""

from collections.abc import Callable, Mapping, Sequence
from html import escape
from itertools import chain

from pipeline.report import page
from pipeline.report.figures import GRID, SERIES, figure
from pipeline.report.page import Cell, text

NAMES = {
    "samples": "generator",
    "random": "random of training's shapes",
    "enumeration": "enumeration by SMACT",
    "ngram": "trigram",
    "substitution": "substitution",
}
KINDS = {"formula": "formulas held out at random", "chemical_system": "chemical systems held out whole"}
PER = "per_novel_formula"
DISTANCES = {
    "elements": "elements",
    "n_elements": "number of elements",
    "counts": "atoms of an element",
    "element_pairs": "pairs of elements",
}


def render(figures: Mapping[str, dict], about: Mapping[str, str]) -> str:
    """The page of the figures by set, as :func:`pipeline.evaluation.evaluate.evaluate` makes them.

    Args:
        figures: Name of a set to its figures: ``samples`` or ``generated``, and baselines.
        about: What stands above them, name to text; ``set`` is the title of ``generated``.
    """
    titles = {name: NAMES.get(name, about.get("set", name)) for name in figures}
    sections = [
        ("Summary", page.paragraph(*_summary(figures, titles)) + _overview(figures, titles)),
        ("Uniqueness and novelty", _uniqueness(figures, titles)),
        ("Validity", _validity(figures, titles)),
        ("Distance to the training set", _distances(figures, titles)),
        ("Rediscovery", _rediscovery(figures, titles)),
        ("Oxidation-state likelihood", _likelihood(figures, titles)),
        ("About", page.facts([(name, escape(str(value))) for name, value in about.items()])),
    ]
    subtitle = "; ".join(f"{name}: {value}" for name, value in list(about.items())[:3])
    return page.render("Evaluation of generated formulas", subtitle, sections)


def _summary(figures: Mapping[str, dict], titles: Mapping[str, str]) -> list[str]:
    """Sentences on who wins: a generator that loses to the trigram has learnt little."""
    told = [
        "All formulas are reduced, have 2 to 8 elements, and intervals are of 95 %. No figure means much alone: each "
        "stands beside cheap ways to make formulas, drawn as often."
    ]
    name = next(iter(figures))
    for other in ("ngram", "substitution"):
        if other in figures and other != name:
            words = _compared(figures[name], figures[other])
            told.append(f"<b>{escape(titles[name])}</b> beside {escape(titles[other])}: {words}.")
    return told


def _compared(mine: dict, other: dict) -> str:
    """In what a set does better or worse than another, and in what their intervals overlap."""
    found: dict[str, list[str]] = {"better": [], "worse": [], "not told apart": []}
    for words, value, sign in _comparisons():
        one, two = value(mine), value(other)
        if not one or not two or one["value"] is None or two["value"] is None:
            continue
        apart = one["low"] > two["high"] or one["high"] < two["low"]
        better = sign * (one["value"] - two["value"]) > 0
        found["not told apart" if not apart else "better" if better else "worse"].append(words)
    return "; ".join(f"{verdict} in {', '.join(names)}" for verdict, names in found.items() if names)


def _comparisons() -> list[tuple[str, Callable[[dict], dict | None], int]]:
    """What sets are compared by: a name, the figure with its interval, and 1 where more is better, -1 where less is."""
    found = [
        ("uniqueness", lambda result: result["uniqueness"]["curve"][-1], 1),
        ("validity (ICSD24 medium, no alloys)", _strict, 1),
        ("the frequency of elements", lambda result: result["distances"]["elements"], -1),
    ]
    for kind, words in KINDS.items():
        found.append((f"rediscovery of {words}", lambda result, kind=kind: _of(result, kind, "share"), 1))
        found.append((f"the same per novel formula ({words})", lambda result, kind=kind: _of(result, kind, PER), 1))
    return found


def _of(result: dict, kind: str, figure_name: str) -> dict | None:
    return result["rediscovery"].get(kind, {}).get(figure_name)


def _strict(result: dict) -> dict:
    return result["validity"]["icsd24_medium_no_alloys"]["draws"]


def _overview(figures: Mapping[str, dict], titles: Mapping[str, str]) -> str:
    kinds = _kinds(figures)
    heads = [
        ("set", ""),
        ("draws", ""),
        ("unique", "of draws"),
        ("novel", "of distinct formulas"),
        ("in the box", "8 atoms an element"),
        ("valid", "of draws, ICSD24 medium, no alloys"),
        ("of training's rate", ""),
        ("elements", "total variation"),
        *((f"rediscovered: {KINDS[kind]}", "") for kind in kinds),
        *((f"per novel formula: {KINDS[kind]}", "") for kind in kinds),
    ]
    rows = []
    for name, result in figures.items():
        found = [result["rediscovery"].get(kind) for kind in kinds]
        rows.append(
            [
                text(titles[name]),
                Cell(f"{result['draws']:,}", result["draws"], "n"),
                _share(result["uniqueness"]["curve"][-1]),
                _share(result["novelty"]["distinct"]),
                _share(result["fits_box"]["distinct"]),
                _share(_strict(result)),
                _share({"value": _strict(result)["of_training"]}),
                _number(result["distances"]["elements"]),
                *(_share(each and each["share"]) for each in found),
                *(_share(each and each["per_novel_formula"], 2) for each in found),
            ]
        )
    return page.table(heads, rows, sortable=True)


def _uniqueness(figures: Mapping[str, dict], titles: Mapping[str, str]) -> str:
    curves = {
        titles[name]: [(point["draws"], point["value"]) for point in result["uniqueness"]["curve"]]
        for name, result in figures.items()
    }
    sizes = list(next(iter(figures.values()))["uniqueness"]["by_n_elements"])
    rows = [
        [
            text(titles[name]),
            *(_share({"value": result["uniqueness"]["by_n_elements"][size]["value"]}) for size in sizes),
        ]
        for name, result in figures.items()
    ]
    return (
        page.paragraph(
            "Share of draws that are distinct formulas, over the number of draws: the expected value over all ways to "
            "leave draws out (Hurlbert 1971). A file without repeats shows 100 % whatever made it."
        )
        + page.figures(_curve("distinct formulas among the draws", curves))
        + page.table([("unique within", ""), *((f"{size} elements", "") for size in sizes)], rows)
    )


def _validity(figures: Mapping[str, dict], titles: Mapping[str, str]) -> str:
    first = next(iter(figures.values()))["validity"]
    heads = [("set", "")]
    for setting in first:
        heads += [(setting, "of draws"), ("", "random, same counts"), ("", "enrichment")]
    of_training = ((_share({"value": rates["training"]}), _dash(), _dash()) for rates in first.values())
    rows = [[text("training set"), *chain.from_iterable(of_training)]]
    for name, result in figures.items():
        row = [text(titles[name])]
        for rates in result["validity"].values():
            rate = rates["draws"]
            row += [_share(rate), _share({"value": rate["random"]}), _number(rate["enrichment"], 2)]
        rows.append(row)
    return page.paragraph(
        "Share of draws that SMACT calls charge-neutral and balanced, at four settings. Loose settings let most "
        "random formulas pass: beside each rate stands that of random formulas with the same counts and elements "
        "by their frequency in the training set, and the ratio of the two."
    ) + page.table(heads, rows)


def _distances(figures: Mapping[str, dict], titles: Mapping[str, str]) -> str:
    rows = []
    for name, result in figures.items():
        found = [result["distances"][key] for key in DISTANCES]
        cells = [(_number(each), Cell(f"{each['floor']:.3f}", each["floor"], "n")) for each in found]
        rows.append([text(titles[name]), *chain.from_iterable(cells)])
    heads = chain.from_iterable(((words, ""), ("", "chance alone")) for words in DISTANCES.values())
    return page.paragraph(
        "Total variation between draws and training set: 1 shares nothing. Few draws are never at 0: beside each "
        "stands what as many draws from the training set itself come to. Pairs of elements that the training set lacks "
        "count too, so a generator that finds new systems lies above it there."
    ) + page.table([("set", ""), *heads], rows)


def _rediscovery(figures: Mapping[str, dict], titles: Mapping[str, str]) -> str:
    made = ""
    for kind in _kinds(figures):
        of = next(result["rediscovery"][kind] for result in figures.values() if kind in result["rediscovery"])
        curves = {
            titles[name]: [(point["draws"], point["share"]) for point in result["rediscovery"][kind]["curve"]]
            for name, result in figures.items()
            if kind in result["rediscovery"]
        }
        made += page.paragraph(
            f"{of['share']['of']:,} formulas: {KINDS[kind]}; {page.share(of['ceiling'])} of them fit the box of 8 "
            "atoms an element, the most that a generator bound to it can find."
        ) + page.figures(_curve(KINDS[kind], curves))
    return made or page.missing("Nothing was held out: set encoding.holdout_share.")


def _likelihood(figures: Mapping[str, dict], titles: Mapping[str, str]) -> str:
    first = next(iter(figures.values()))["likelihood"]["training"]
    rows = [[text("training set"), *(_number(area) for area in first.values())]]
    rows += [
        [text(titles[name]), *(_number(area) for area in result["likelihood"]["generated"].values())]
        for name, result in figures.items()
    ]
    return page.paragraph(
        "Chance that a formula scores above a random one with the same counts (area under the ROC curve, 0.5 says "
        "nothing). The likelihood is that of the most common neutral and balanced oxidation states, by their shares of "
        "reports in the ICSD (2024); the others are SMACT's verdicts."
    ) + page.table([("set", ""), *((name, "") for name in first)], rows)


def _kinds(figures: Mapping[str, dict]) -> list[str]:
    return [kind for kind in KINDS if any(kind in result["rediscovery"] for result in figures.values())]


def _curve(title: str, curves: Mapping[str, Sequence[tuple[int, float]]]) -> dict:
    lines = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": escape(name),
            "x": [draws for draws, _ in points],
            "y": [value for _, value in points],
            "line": {"color": color, "width": 2},
        }
        for (name, points), color in zip(curves.items(), SERIES * (1 + len(curves) // len(SERIES)), strict=False)
    ]
    x = {"title": {"text": "draws"}, "type": "log", "gridcolor": GRID}
    return figure(title, lines, x, {"tickformat": ".0%", "rangemode": "tozero"}, 380, showlegend=True)


def _share(value: dict | None, digits: int = 1) -> Cell:
    """A share in percent with its interval."""
    if value is None or value["value"] is None:
        return _dash()
    shown = f"{100 * value['value']:.{digits}f} %"
    if "low" in value:
        shown += f" <small>{100 * value['low']:.{digits}f} to {100 * value['high']:.{digits}f}</small>"
    return Cell(shown, value["value"], "n")


def _number(value: dict, digits: int = 3) -> Cell:
    """A number with its interval."""
    if value["value"] is None:
        return _dash()
    interval = f" <small>{value['low']:.{digits}f} to {value['high']:.{digits}f}</small>"
    return Cell(f"{value['value']:.{digits}f}{interval}", value["value"], "n")


def _dash() -> Cell:
    return Cell("–", "", "n")
