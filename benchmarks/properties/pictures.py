"""The page's pictures: parity, calibration, errors by rows learnt from, recall."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

COLOURS = ("#33658a", "#e28743", "#6a994e", "#9b5de5", "#777777", "#bc4749", "#2a9d8f", "#b08968")
NOMINAL = 0.9
_ERRORS = (0.02, 0.03, 0.04, 0.05, 0.06, 0.07, 0.08, 0.1, 0.12, 0.15, 0.2, 0.3)
_DPI = 110


def parity(path: Path, panels: Mapping[str, dict], unit: str = "eV/atom") -> None:
    """True against predicted values of each model's test set, counted in hexagons."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, len(panels), figsize=(4.6 * len(panels), 4.2), squeeze=False, layout="constrained")
    for axis, (title, rows) in zip(axes[0], panels.items(), strict=True):
        target, prediction = np.array(rows["target"]), np.array(rows["prediction"])
        low, high = np.quantile(target, [0.001, 0.999])
        margin = 0.05 * (high - low)
        extent = (low - margin, high + margin) * 2
        axis.hexbin(target, prediction, gridsize=60, bins="log", mincnt=1, cmap="viridis", extent=extent)
        axis.plot(extent[:2], extent[:2], color="black", lw=0.8)
        axis.set(xlim=extent[:2], ylim=extent[:2], xlabel=f"true, {unit}", ylabel=f"predicted, {unit}", title=title)
        axis.set_aspect("equal")
    _save(figure, path)


def calibration(path: Path, models: Mapping[str, dict], reliability: Mapping[str, dict]) -> None:
    """Coverage of intervals by level and by distance from training, and said against observed probabilities.

    Args:
        path: PNG file.
        models: By name, what :mod:`benchmarks.properties.calibration` found of each.
        reliability: By cutoff in eV/atom, the bins of the probability to lie below it.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(1, 3 if reliability else 2, figsize=(13 if reliability else 9, 4), layout="constrained")
    for (name, found), colour in zip(models.items(), COLOURS, strict=False):
        levels = [row["level"] for row in found["intervals"]]
        axes[0].plot(levels, [row["coverage"] for row in found["intervals"]], "o-", color=colour, label=name)
        deciles = np.arange(1, len(found["by_distance"]) + 1)
        axes[1].plot(deciles, [row["coverage"] for row in found["by_distance"]], "o-", color=colour, label=name)
    axes[0].plot([0.45, 1], [0.45, 1], color="black", lw=0.8)
    axes[0].set(xlabel="probability asked of the interval", ylabel="share of test values within", title="Intervals")
    axes[1].axhline(NOMINAL, color="black", lw=0.8)
    axes[1].set(
        xlabel="tenth of the test set, near to far from training",
        ylabel="coverage of 90 % intervals",
        title="Far from the training formulas",
        ylim=(0.7, 1.0),
    )
    axes[0].legend(frameon=False)
    for (cutoff, found), colour in zip(reliability.items(), COLOURS[2:], strict=False):
        said, happened = ([row[key] for row in found["bins"]] for key in ("said", "happened"))
        axes[2].plot(said, happened, "o-", color=colour, label=f"at most {cutoff} eV/atom")
    if reliability:
        axes[2].plot([0, 1], [0, 1], color="black", lw=0.8)
        axes[2].set(xlabel="probability said", ylabel="share that lay there", title="Decomposition energy")
        axes[2].legend(frameon=False)
    for axis in axes:
        axis.grid(alpha=0.3)
    _save(figure, path)


def learning_curves(path: Path, panels: Mapping[str, Sequence[dict]]) -> None:
    """Test errors by rows learnt from, both axes in powers; a panel for each property, a line for each learner."""
    from matplotlib.ticker import NullLocator

    plt = _pyplot()
    figure, axes = plt.subplots(1, len(panels), figsize=(4.8 * len(panels), 3.8), squeeze=False, layout="constrained")
    names = list(dict.fromkeys(row["name"] for curve in panels.values() for row in curve))
    for axis, (title, curve) in zip(axes[0], panels.items(), strict=True):
        for name, colour in zip(names, COLOURS, strict=False):
            points = sorted((row["rows"], row["mae"]) for row in curve if row["name"] == name)
            if points:
                axis.loglog(*zip(*points, strict=True), "o-", color=colour, label=name)
        axis.set(xlabel="training formulas", ylabel="MAE of the test set, eV/atom", title=title)
        rows = sorted({row["rows"] for row in curve})
        axis.set_xticks(rows, [f"{n:,}" for n in rows], fontsize=8)
        low, high = (bound(row["mae"] for row in curve) for bound in (min, max))
        ticks = [tick for tick in _ERRORS if low / 1.15 < tick < high * 1.15]
        axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.xaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_minor_locator(NullLocator())
        axis.grid(alpha=0.3)
    axes[0, 0].legend(frameon=False, fontsize=8)
    _save(figure, path)


def precision(path: Path, rankings: Mapping[str, dict]) -> None:
    """Precision at each recall of stable compounds, a line for each ranking."""
    plt = _pyplot()
    figure, axis = plt.subplots(figsize=(8.6, 4), layout="constrained")
    for (name, found), colour in zip(rankings.items(), COLOURS, strict=False):
        recall = np.arange(1, len(found["precision"]) + 1) / len(found["precision"])
        axis.plot(recall, found["precision"], color=colour, label=name)
    share = next(iter(rankings.values()))["stable_share"]
    axis.axhline(share, color="black", lw=0.8, ls=":", label="random order")
    axis.set(xlabel="recall of stable compounds", ylabel="precision", ylim=(0, 1.02), xlim=(0, 1))
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    _save(figure, path)


def recall(path: Path, pools: Mapping[str, dict], shown: Sequence[str]) -> None:
    """Share of the hidden stable compounds found within the first rows, a panel for each kind of candidates."""
    plt = _pyplot()
    figure, axes = plt.subplots(
        1, len(pools), figsize=(4.4 * len(pools), 3.9), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, (kind, pool) in zip(axes[0], pools.items(), strict=True):
        for name, colour in zip(shown, COLOURS, strict=False):
            curve = pool["rankings"][name]["curve"]
            axis.semilogx(curve["rows"], curve["recall"], color=colour, label=name)
        sizes = np.geomspace(10, pool["candidates"])
        axis.semilogx(sizes, sizes / pool["candidates"], color="black", lw=0.8, ls=":", label="random order")
        best = np.minimum(sizes / pool["stable"], 1)
        axis.semilogx(sizes, best, color="black", lw=0.8, label="best possible")
        axis.set(xlabel="candidates looked at, best first", title=f"among {pool['candidates']:,}, {kind}")
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel("share of the hidden stable compounds found")
    axes[0, 0].legend(frameon=False, fontsize=8)
    _save(figure, path)


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _save(figure, path: Path) -> None:
    from matplotlib import pyplot
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    whole = io.BytesIO()
    figure.savefig(whole, dpi=_DPI)
    pyplot.close(figure)
    Image.open(whole).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
