"""The page's pictures: distances of like atoms against the rule's window, and the crystals nearest to the hull."""

import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.crystalgan.beyond import Crystal
from pipeline.cells import Cell
from pipeline.composition import ATOMIC_NUMBERS
from pipeline.generators.crystalgan.geometry import D1_ANGSTROM, D2_ANGSTROM, like_distances
from pipeline.report.crystals import closed, presentable
from pipeline.structures.symmetry import symmetry
from pipeline.structures.volume import covalent_radii

SYMPREC_ANGSTROM = 0.1  # of relaxed cells, whose last hundredths of an angstrom the relaxation leaves open
_MOST_ANGSTROM = 6.0  # of the axis; farther neighbours are counted in its last bin
_COLOURS = ("#e28743", "#4a7fb5", "#ffffff")  # of A, B and the anion
_DPI = 100


def draw_distances(path: Path, crystals: dict[str, Sequence[Cell]], anion: str) -> None:
    """Histograms of each anion's and each metal atom's nearest like atom, a row for each set of crystals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    bins = np.linspace(0, _MOST_ANGSTROM, 61)
    titles = (f"{anion} to the nearest {anion}", "metal to the nearest metal")
    figure, panels = plt.subplots(1, 2, figsize=(10, 0.55 * len(crystals) + 1.1), sharey=True, layout="constrained")
    for panel, title, part in zip(panels, titles, (0, 1), strict=True):
        panel.axvspan(D1_ANGSTROM, D2_ANGSTROM, color="#d9ead3", lw=0, label="the rule's window")
        for row, cells in enumerate(reversed(list(crystals.values()))):
            found = [like_distances(cell, ATOMIC_NUMBERS[anion])[part] for cell in cells]
            counts, _ = np.histogram(np.minimum(np.concatenate([[], *found]), _MOST_ANGSTROM - 1e-9), bins)
            if counts.any():
                height = row + 0.85 * counts / counts.max()
                panel.fill_between(bins, row, np.append(height, height[-1]), step="post", color="#33658a", lw=0)
            else:
                panel.text(0.1, row + 0.15, "none", color="#777777", fontsize=9)
            panel.axhline(row, color="#999999", lw=0.5)
        panel.set(title=title, xlim=(0, _MOST_ANGSTROM), xlabel="distance, angstrom", ylim=(0, len(crystals)))
        panel.tick_params(axis="y", length=0)
        panel.spines[["top", "right", "left"]].set_visible(False)
    panels[0].set_yticks(np.arange(len(crystals)) + 0.35, reversed(list(crystals)))
    panels[1].legend(loc="upper right", frameon=False)
    _save(figure, path)


def draw_crystals(path: Path, crystals: Sequence[Crystal], symbols: Sequence[str]) -> None:
    """Crystals side by side: conventional cell, formula, space group, hull distance and what it is known as.

    Args:
        path: PNG file.
        crystals: At least one.
        symbols: Metal A, metal B and the anion.
    """
    import matplotlib

    matplotlib.use("Agg")
    from ase import Atoms
    from ase.visualize.plot import plot_atoms
    from matplotlib import pyplot as plt
    from matplotlib.lines import Line2D

    colours = {ATOMIC_NUMBERS[symbol]: colour for symbol, colour in zip(symbols, _COLOURS, strict=True)}
    figure, panels = plt.subplots(1, len(crystals), figsize=(2.6 * len(crystals), 3.5), squeeze=False)
    figure.subplots_adjust(left=0.01, right=0.99, bottom=0.1, top=0.8, wspace=0.08)
    for place, (panel, crystal) in enumerate(zip(panels[0], crystals, strict=True)):
        cell = closed(presentable(crystal.relaxed.cell, SYMPREC_ANGSTROM))
        atoms = Atoms(cell.elements, scaled_positions=cell.fractional, cell=cell.lattice)
        radii = 0.5 * covalent_radii()[cell.elements]
        colours_of_sites = [colours[int(z)] for z in cell.elements]
        plot_atoms(atoms, panel, rotation="80x,20y,0z", radii=radii, colors=colours_of_sites, show_unit_cell=2)
        panel.axis("off")
        group = symmetry(crystal.relaxed.cell, SYMPREC_ANGSTROM)
        said = (
            f"{_subscripts(crystal.formula)}   {group.symbol if group else '?'}",
            f"{crystal.hull_distance_ev_per_atom:+.3f} eV/atom",
            crystal.known_id or "not known",
        )
        figure.text((place + 0.5) / len(crystals), 0.98, "\n".join(said), ha="center", va="top", fontsize=11)
    marks = [
        Line2D([], [], ls="", marker="o", mfc=colour, mec="black", ms=10, label=symbol)
        for symbol, colour in zip(symbols, _COLOURS, strict=True)
    ]
    figure.legend(handles=marks, loc="lower center", ncols=len(marks), frameon=False)
    _save(figure, path)


def _subscripts(formula: str) -> str:
    return re.sub(r"(\d+)", r"$_{\1}$", formula)


def _save(figure, path: Path) -> None:
    from matplotlib import pyplot as plt
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    whole = io.BytesIO()
    figure.savefig(whole, dpi=_DPI)
    plt.close(figure)
    Image.open(whole).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(path, optimize=True)
