"""Static pictures by matplotlib: three panels one by one, and all in one for the README."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.report import figures, sections
from pipeline.report.figures import color_range, ink, table_of_symbols
from pipeline.report.funnel import Gate
from pipeline.report.periodic import COLUMNS, ROWS, grid
from pipeline.tables import atomic

FIGURES = ("overview.png", "funnel.svg", "pass_rates.svg", "elements.svg")
"""Names of the files that :func:`draw` makes."""

_STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.color": figures.INK,
    "axes.edgecolor": "#b9bec6",
    "axes.labelcolor": figures.INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 12,
    "xtick.color": figures.INK,
    "ytick.color": figures.INK,
    "svg.hashsalt": "kimberlite",
    "svg.fonttype": "none",
}


def draw(
    folder: str | os.PathLike,
    *,
    gates: Sequence[Gate],
    n_structures: int,
    rates: dict,
    setting: str,
    elements: dict[str, tuple[np.ndarray, int]],
) -> None:
    """Write ``FIGURES`` into a folder.

    Args:
        folder: Made where it is missing.
        gates: The funnel of the candidates.
        n_structures: Structures exported.
        rates: Rates of each set under one setting of the filter.
        setting: Its name.
        elements: By name of the set, formulas with each element (shape (119,)) and formulas in all.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    def save(figure: Figure, name: str) -> None:
        kind = name.rpartition(".")[2]
        with atomic(Path(folder) / name) as temporary:
            figure.savefig(temporary, format=kind, dpi=100, metadata={"Date": None} if kind == "svg" else None)

    def new(width: float, height: float) -> Figure:
        figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.12)
        return figure

    with matplotlib.rc_context(_STYLE):
        panels = {
            "funnel.svg": ((8, 4.2), lambda figure: _funnel(figure.subplots(), gates, n_structures)),
            "pass_rates.svg": ((8, 4.2), lambda figure: _pass_rates(figure.subplots(), rates, setting)),
            "elements.svg": ((16, 4.8), lambda figure: _elements(figure, elements)),
        }
        for name, (size, panel) in panels.items():
            figure = new(*size)
            panel(figure)
            save(figure, name)
        figure = new(16, 9.2)
        upper, lower = figure.subfigures(2, 1, height_ratios=[4.2, 4.8], hspace=0.04)
        left, right = upper.subplots(1, 2)
        _funnel(left, gates, n_structures)
        _pass_rates(right, rates, setting)
        _elements(lower, elements)
        save(figure, "overview.png")


def _funnel(axes, gates: Sequence[Gate], n_structures: int) -> None:
    names = [gate.name for gate in gates] + ["structures exported"]
    left = [gate.left for gate in gates] + [n_structures]
    rows = np.arange(len(names))
    colors = [figures.SAMPLES] * (len(names) - 2) + [figures.CHOSEN] * 2
    axes.barh(rows, left, color=colors, height=0.72, left=0.8)
    axes.set_xscale("log")
    axes.set_xlim(0.8, max(left) * 6)
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    for row, n in zip(rows, left, strict=True):
        axes.annotate(f"{n:,}", (n + 0.8, row), xytext=(5, 0), textcoords="offset points", va="center")
    axes.set_title("From draws to structures for DFT")
    axes.set_xlabel("number left (logarithmic)")


def _pass_rates(axes, rates: dict, setting: str) -> None:
    shown = [(rates[key], name, color) for key, name, color in sections.SETS if key != "samples_drawn"]
    sizes = [size for size in rates["training"]["by_n_elements"] if any(_rows(r, size) for r, _, _ in shown)]
    groups = ["all", *sizes]
    for place, (rate, name, color) in enumerate(shown):
        every = [rate["overall"], *(rate["by_n_elements"][size] for size in sizes)]
        heights = [100 * (one["rate"] or 0) for one in every]
        bars = axes.bar(np.arange(len(groups)) + (place - 1) * 0.27, heights, 0.25, color=color, label=name)
        axes.bar_label(
            bars, [f"{h:.0f}" if one["rows"] else "" for h, one in zip(heights, every, strict=True)], fontsize=8
        )
    axes.set_xticks(np.arange(len(groups)), groups)
    axes.set_xlabel("different elements in the formula")
    axes.set_ylabel("share that passes (%)")
    axes.set_title(f"Charge neutrality and electronegativity: {setting}", pad=26)
    axes.legend(frameon=False, fontsize=9.5, ncols=3, loc="lower left", bbox_to_anchor=(-0.01, 0.99), borderpad=0)


def _rows(rates: dict, size: str) -> int:
    return rates["by_n_elements"][size]["rows"]


def _elements(figure, sets: dict[str, tuple[np.ndarray, int]]) -> None:
    from matplotlib import colormaps
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter

    shares = {name: frequency / max(n, 1) for name, (frequency, n) in sets.items()}
    low, high = color_range(shares.values())
    norm, colors = LogNorm(10**low, 10**high), colormaps["viridis"]
    symbols = table_of_symbols()
    every = figure.subplots(1, len(sets))
    for axes, (name, share) in zip(every, shares.items(), strict=True):
        table = grid(share)
        axes.imshow(np.where(table == 0, 1, np.nan), cmap="Greys", vmin=0, vmax=12)
        image = axes.imshow(np.where(table > 0, table, np.nan), norm=norm, cmap=colors)
        for row in range(ROWS):
            for column in range(COLUMNS):
                if symbols[row][column]:
                    color = ink(table[row, column], low, high)
                    axes.text(column, row, symbols[row][column], ha="center", va="center", color=color, fontsize=9)
        axes.set_xticks(np.arange(-0.5, COLUMNS), minor=True)
        axes.set_yticks(np.arange(-0.5, ROWS), minor=True)
        axes.grid(which="minor", color="white", linewidth=2)
        axes.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
        axes.spines[:].set_visible(False)
        axes.set_title(f"Elements of the {name}")
    percent = FuncFormatter(lambda share, _: f"{100 * share:g} %")
    bar = figure.colorbar(image, ax=every, orientation="horizontal", shrink=0.35, aspect=45, pad=0.02, format=percent)
    bar.set_label("share of formulas with the element")
    bar.outline.set_visible(False)
