"""The page's figures as plotly's own JSON with a title above (``{"title", "data", "layout"}``), one function a kind."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.composition import SYMBOLS
from pipeline.report.counted import Counted, together
from pipeline.report.periodic import COLUMNS, ROWS, grid

# Okabe & Ito's palette, told apart with any colour vision; a set has one colour throughout the report.
TRAINING, SAMPLES, DRAWN, RANDOM, CHOSEN = "#0072B2", "#E69F00", "#8C5A00", "#9A9A9A", "#009E73"
SERIES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
INK, GRID = "#23272e", "#e6e8eb"
SCALE = "Viridis"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
BINS = 60

Figure = dict


def figure(title: str, data: list[dict], x: dict, y: dict, height: int = 340, **layout) -> Figure:
    """A figure in the report's style; ``x`` and ``y`` are plotly axes over the style's."""
    axis = {"gridcolor": GRID, "zeroline": False, "linecolor": "#b9bec6", "ticks": "outside", "tickcolor": "#b9bec6"}
    style = {
        "font": {"family": FONT, "size": 12, "color": INK},
        "margin": {"l": 62, "r": 16, "t": 54, "b": 48},
        "height": height,
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "hovermode": "closest",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "itemsizing": "constant"},
        "xaxis": {**axis, "automargin": True, **x},
        "yaxis": {**axis, "automargin": True, **y},
    }
    return {"title": title, "data": data, "layout": {**style, **layout}}


def curves(title: str, epochs: Sequence[int], series: Mapping[str, Sequence], y: dict, x: str = "epoch") -> Figure:
    """Lines over the epochs, or what else ``x`` names; a null interrupts its line."""
    lines = [
        {"type": "scatter", "mode": "lines", "name": name, "x": list(epochs), "y": list(values)}
        | {"line": {"color": color, "width": 2}}
        for (name, values), color in zip(series.items(), SERIES * (1 + len(series) // len(SERIES)), strict=False)
    ]
    return figure(title, lines, {"title": {"text": x}}, y, 320, showlegend=len(lines) > 1 or x == "epoch")


def pass_rates(title: str, rates: Mapping[str, dict], sets: Sequence[tuple[str, str, str]]) -> Figure:
    """Pass rate by number of elements.

    Args:
        title: Of the figure.
        rates: Rates of each set, as the filtering stage writes them.
        sets: Key, name and colour of the sets to show.
    """
    bars = []
    for key, name, color in sets:
        by_size = {size: rate for size, rate in rates[key]["by_n_elements"].items() if rate["rows"]}
        bars.append(
            {
                "type": "bar",
                "name": name,
                "x": list(by_size),
                "y": [rate["rate"] for rate in by_size.values()],
                "customdata": [[rate["passed"], rate["rows"]] for rate in by_size.values()],
                "marker": {"color": color},
                "hovertemplate": "%{y:.1%}: %{customdata[0]:,} of %{customdata[1]:,} formulas",
            }
        )
    x = {"title": {"text": "different elements in the formula"}, "type": "category", "categoryorder": "array"}
    x["categoryarray"] = [str(size) for size in range(2, 9)]
    y = {"title": {"text": "share that passes"}, "tickformat": ".0%", "rangemode": "tozero"}
    return figure(title, bars, x, y, 360, barmode="group", bargap=0.25)


def element_tables(sets: Mapping[str, tuple[np.ndarray, int]]) -> Figure:
    """Share of formulas with each element on one periodic table a set, side by side, one logarithmic colour scale.

    Args:
        sets: By name, formulas with each element (shape (119,), by atomic number) and formulas in all.
    """
    shares = {name: frequency / max(n, 1) for name, (frequency, n) in sets.items()}
    low, high = color_range(shares.values())
    symbols = table_of_symbols()
    data, layout = [], {"annotations": []}
    width = 1 / len(sets)
    for position, (name, share) in enumerate(shares.items()):
        table = grid(share)
        number = "" if position == 0 else str(position + 1)
        logged = np.where(table > 0, np.log10(np.where(table > 0, table, 1)), np.nan)
        cell = {"x": list(range(COLUMNS)), "y": list(range(ROWS)), "xaxis": f"x{number}", "yaxis": f"y{number}"}
        cell |= {"type": "heatmap", "xgap": 2, "ygap": 2, "text": symbols, "hoverongaps": False}
        absent = np.where((table == 0), 0.0, np.nan)
        data.append(
            cell
            | {"z": numbers(absent), "colorscale": [[0, "#eceef1"], [1, "#eceef1"]], "showscale": False}
            | {"hovertemplate": "%{text}: in no formula<extra></extra>"}
        )
        data.append(
            cell
            | {"z": numbers(logged), "zmin": low, "zmax": high, "colorscale": SCALE, "customdata": numbers(table)}
            | {"showscale": position == 0}
            | {"hovertemplate": "%{text}: in %{customdata:.2%} of the formulas<extra></extra>"}
            | {"colorbar": _log_colorbar(low, high)}
        )
        row, column = np.nonzero(~np.isnan(table))
        data.append(
            {"type": "scatter", "mode": "text", "x": column.tolist(), "y": row.tolist(), "hoverinfo": "skip"}
            | {
                "xaxis": cell["xaxis"],
                "yaxis": cell["yaxis"],
                "text": [symbols[r][c] for r, c in zip(row, column, strict=True)],
            }
            | {"textfont": {"size": 10.5, "color": [ink(value, low, high) for value in table[row, column]]}}
        )
        left, right = position * width, (position + 1) * width - 0.02
        hidden = {"visible": False, "fixedrange": True}
        layout[f"xaxis{number}"] = hidden | {"domain": [left, right], "range": [-0.5, COLUMNS - 0.5]}
        layout[f"yaxis{number}"] = hidden | {"range": [ROWS - 0.5, -0.5], "anchor": f"x{number}"}
        heading = {"text": f"<b>{name}</b>", "x": left, "y": 1.02, "xref": "paper", "yref": "paper", "xanchor": "left"}
        layout["annotations"].append(
            heading | {"yanchor": "bottom", "showarrow": False, "font": {"size": 14, "color": INK}}
        )
    made = figure("", data, {}, {}, 430, showlegend=False)
    made["layout"] |= layout | {"margin": {"l": 4, "r": 4, "t": 34, "b": 66}}
    return made


def table_of_symbols() -> list[list[str]]:
    """Element symbols on the table, empty text where none stands."""
    place = grid(np.arange(len(SYMBOLS) + 1))
    return [["" if np.isnan(z) else SYMBOLS[int(z) - 1] for z in line] for line in place]


def color_range(shares) -> tuple[float, float]:
    """Decades that hold all shares above zero, as powers of ten; at most four decades below the highest."""
    present = np.concatenate([share[share > 0] for share in shares] or [[1.0]])
    high = float(np.log10(present.max())) if len(present) else 0.0
    low = float(np.log10(present.min())) if len(present) else -1.0
    return max(low, high - 4), max(high, low + 0.1)


def ink(share: float, low: float, high: float) -> str:
    """Colour of a symbol that can be read on the colour of its share; grey for an element that is in no formula."""
    if share == 0:
        return "#8a9099"
    return "white" if np.log10(share) < low + 0.6 * (high - low) else INK


def _log_colorbar(low: float, high: float) -> dict:
    marks = [share for share in (1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 1) if low - 0.01 <= np.log10(share) <= high + 0.01]
    return {
        "title": {"text": "share of formulas with the element", "side": "top", "font": {"size": 12}},
        "orientation": "h",
        "thickness": 10,
        "len": 0.4,
        "x": 0.49,
        "y": -0.02,
        "yanchor": "top",
        "tickvals": [float(np.log10(share)) for share in marks],
        "ticktext": [f"{100 * share:g} %" for share in marks],
    }


def scatter_map(sets: Sequence[tuple[str, np.ndarray, Sequence[str], str, int, float]]) -> Figure:
    """Points in the plane with their formulas.

    Args:
        sets: Name, coordinates (N, 2), labels, colour, size in pixels and opacity of each set.
    """
    data = [
        {"type": "scatter", "mode": "markers", "name": name, "x": numbers(xy[:, 0]), "y": numbers(xy[:, 1])}
        | {"text": list(labels), "hovertemplate": "%{text}<extra></extra>"}
        | {"marker": {"color": color, "size": size, "opacity": opacity, "line": _outline(size)}}
        for name, xy, labels, color, size, opacity in sets
    ]
    bare = {"showticklabels": False, "showgrid": False, "ticks": ""}
    made = figure("", data, bare | {"mirror": True}, bare | {"mirror": True}, 620)
    made["layout"]["margin"] = {"l": 12, "r": 12, "t": 54, "b": 12}
    return made


def histograms(
    title: str, unit: str, sets: Sequence[tuple[str, Counted, str]], edges: np.ndarray | None = None
) -> Figure:
    """Distributions over common bins, each as shares of its own set; the outermost bins hold what lies beyond.

    Args:
        title: Of the figure.
        unit: Of the axis.
        sets: Name, values (at least one) and colour.
        edges: Of the bins; without them they hold all but the outermost thousandths.
    """
    if edges is None:
        every = together([values for _, values, _ in sets])
        low, high = every.quantile(0.001), every.quantile(0.999)
        edges = np.linspace(low, max(high, low + 1e-3), BINS + 1)
    data = []
    for name, values, color in sets:
        data.append(
            {"type": "scatter", "mode": "lines", "name": f"{name} ({len(values):,})", "fill": "tozeroy"}
            | {"x": numbers((edges[1:] + edges[:-1]) / 2, 4), "y": numbers(values.histogram(edges) / len(values), 6)}
            | {"line": {"shape": "hvh", "color": color, "width": 1.8}, "fillcolor": _faint(color)}
            | {"hovertemplate": f"%{{x:.2f}} {unit}: %{{y:.1%}}"}
        )
    y = {"title": {"text": "share of the set, per bin"}, "tickformat": ".0%", "rangemode": "tozero"}
    return figure(title, data, {"title": {"text": unit}}, y, 360)


def parity(title: str, unit: str, target: np.ndarray, prediction: np.ndarray, labels: Sequence[str]) -> Figure:
    """Predicted against true values of a test set, with the line of perfect prediction."""
    low, high = float(min(target.min(), prediction.min())), float(max(target.max(), prediction.max()))
    margin = 0.03 * (high - low) + 1e-3
    ends = [round(low - margin, 3), round(high + margin, 3)]
    points = {"type": "scatter", "mode": "markers", "x": numbers(target, 3), "y": numbers(prediction, 3)}
    points |= {"text": list(labels), "hovertemplate": f"%{{text}}<br>source %{{x:.2f}}, model %{{y:.2f}} {unit}"}
    points |= {"marker": {"color": TRAINING, "size": 4, "opacity": 0.35}, "name": ""}
    line = {"type": "scatter", "mode": "lines", "x": ends, "y": ends, "hoverinfo": "skip"}
    line |= {"line": {"color": INK, "width": 1, "dash": "dot"}}
    x = {"title": {"text": f"in the source ({unit})"}, "range": ends}
    y = {"title": {"text": f"predicted ({unit})"}, "range": ends}
    return figure(title, [points, line], x, y, 440, showlegend=False)


def beside_each_other(
    title: str,
    axes: tuple[str, str],
    sets: Sequence[tuple[str, np.ndarray, np.ndarray, Sequence[str], str, int, float]],
    level: float,
    span: tuple[float, float],
) -> Figure:
    """Points by two numbers, with a line at a level of the second.

    Args:
        title: Of the figure.
        axes: Titles.
        sets: Name, both numbers (N,), labels, colour, size in pixels and opacity of each set.
        level: Where the line is.
        span: Of the second number that is shown at first.
    """
    data = [
        {"type": "scatter", "mode": "markers", "name": name, "x": numbers(x, 4), "y": numbers(y, 4)}
        | {"text": list(labels), "hovertemplate": "%{text}: %{x:.2f}, %{y:.2f} eV/atom<extra></extra>"}
        | {"marker": {"color": color, "size": size, "opacity": opacity}}
        for name, x, y, labels, color, size, opacity in sets
    ]
    line = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level}
    line |= {"line": {"color": INK, "width": 1, "dash": "dot"}}
    x, y = ({"title": {"text": axis}} for axis in axes)
    return figure(title, data, x, y | {"range": list(span)}, 400, shapes=[line])


def numbers(values: np.ndarray, digits: int = 5) -> list:
    """An array as lists for JSON, rounded, NaN as null."""
    rounded = np.round(np.asarray(values, dtype=float), digits)
    return np.where(np.isnan(rounded), None, rounded).tolist()


def _outline(size: int) -> dict:
    return {"width": 1 if size > 7 else 0, "color": "white"}


def _faint(color: str) -> str:
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.12)"
