"""python -m benchmarks.page LINES PAGE: the benchmarks' JSON lines as a page, with the growth curve beside it."""

import argparse
import importlib
import json
from pathlib import Path

from benchmarks.compare import MAIN

HEAD = """<!-- Written by `make bench`; do not edit. -->
# Performance

    make bench                                  # all of this page
    python -m benchmarks NAME [--quick]         # one line of it

Ours and the reference run on the same input, turn by turn in one process, so that the ratio holds on a machine that is
busy; the rates beside it do not travel. A ratio is the median of the turns, with the smallest and the largest.
Disagreements are items on which the two do not say the same.

| benchmark | ours a second | reference a second | ratio | asked | compared | disagreements | largest difference |
|---|---|---|---|---|---|---|---|
"""
GROWTH = {"seconds": "seconds", "largest_process_mb": "memory of the largest process, MB", "disk_mb": "on disk, MB"}
ASKED = {
    "filter": "1,000",
    "mixed_valence": "1,000",
    "features": "200",
    "hull": "300",
    "training": "1.5 on two cores, 5 on a GPU",
    "sampling": "1.5 on two cores, 5 on a GPU",
    "novelty": "10 M in 30 s",
    "screening": "2 M in 600 s",
}


def page(lines: list[dict], plot: str) -> str:
    """The page of these lines; ``plot`` is the growth curve's file as the page names it."""
    rows = "".join(_row(row) for line in lines for row in _compared(line))
    return HEAD + rows + "\n" + "\n".join(_section(line, plot) for line in lines)


def _compared(line: dict) -> list[dict]:
    """The rows of a line: its own, and those of other inputs or networks beside it."""
    own = [line] if "compared" in line else []
    return own + [
        {**value, "name": f"{line['name']}, {_words(name)}"}
        for name, value in line.items()
        if isinstance(value, dict) and "compared" in value
    ]


def _row(line: dict) -> str:
    ratio = line["ratio"]
    cells = (
        line["name"],
        _figures(line["ours_per_s"]),
        _figures(line["reference_per_s"]),
        f"**{_figures(ratio['median'])}** ({_figures(ratio['min'])} to {_figures(ratio['max'])})",
        ASKED.get(line["name"].split(",")[0], ""),
        f"{line['compared']:,}",
        f"{line['disagreements']:,}",
        f"{line['largest_difference']:.1e}",
    )
    return f"| {' | '.join(cells)} |\n"


def _figures(value: float) -> str:
    """Three figures at least, no powers of ten."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _section(line: dict, plot: str) -> str:
    about = importlib.import_module(f"benchmarks.{line['name']}").__doc__.strip()
    more = {
        name: value
        for name, value in line.items()
        if name not in (*MAIN, "name", "points") and not (isinstance(value, dict) and "compared" in value)
    }
    text = f"## {line['name']}\n{about}\n\n"
    memory = f"peak memory {line['peak_memory_mb']:,} MB, " if "peak_memory_mb" in line else ""
    text += f"Device: {memory}{line['device']}.\n\n"
    text += "".join(f"- {_words(name)}: {_value(value)}\n" for name, value in more.items())
    if "points" in line:
        names = list(line["points"][0])
        text += f"\n| {' | '.join(map(_words, names))} |\n|{'---|' * len(names)}\n"
        text += "".join(f"| {' | '.join(_value(point[name]) for name in names)} |\n" for point in line["points"])
        text += f"\n![time, memory and disk against samples]({plot})\n"
    return text


def _words(name: str) -> str:
    return name.replace("_", " ")


def _value(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_words(str(name))} {_value(each)}" for name, each in value.items())
    if isinstance(value, list):
        return "; ".join(map(_value, value))
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)


def draw_growth(points: list[dict], path: Path) -> None:
    """Write seconds, memory and disk against the number of samples, doubly logarithmic, as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figures, axes = pyplot.subplots(1, len(GROWTH), figsize=(10, 3.2), layout="constrained")
    for axis, (name, title) in zip(axes, GROWTH.items(), strict=True):
        values = [point[name] for point in points]
        axis.loglog([point["samples"] for point in points], values, "o-", color="#2563a8")
        axis.set(xlabel="samples drawn", title=title, ylim=(min(values) / 3, max(values) * 3))
        axis.yaxis.set_major_formatter("{x:,.0f}")
        axis.yaxis.set_minor_formatter("")
        axis.grid(alpha=0.3)
    figures.savefig(path, dpi=110)
    pyplot.close(figures)


def main() -> None:
    """Write the page and, where the scale was measured, the picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description=__doc__)
    parser.add_argument("lines", type=Path, help="what python -m benchmarks printed")
    parser.add_argument("page", type=Path, help="the Markdown to write")
    arguments = parser.parse_args()
    lines = [json.loads(line) for line in arguments.lines.read_text().splitlines()]
    picture = arguments.page.with_suffix(".png")
    for line in lines:
        if "points" in line:
            draw_growth(line["points"], picture)
    arguments.page.write_text(page(lines, picture.name))


if __name__ == "__main__":
    main()
