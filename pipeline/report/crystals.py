"""Pictures of single crystals: the cell to turn around, and its powder pattern."""

from collections.abc import Sequence

import numpy as np

from pipeline.cells import Cell
from pipeline.composition import SYMBOLS
from pipeline.report.figures import CHOSEN, INK, Figure, figure, numbers
from pipeline.structures.symmetry import conventional
from pipeline.structures.volume import covalent_radii

SYMPREC_ANGSTROM = 0.01
_NEEDLE = 6  # times as long as wide
_ON_FACE = 0.02  # of a lattice vector
_BOND = 1.15  # times the sum of the covalent radii
_BALL = 0.45  # of the covalent radius, so that bonds are seen
_BEYOND_ANGSTROM = 1.3  # the end of a lattice vector stands its name, and the picture ends
_DIAGONAL = 1.75  # in units of plotly's camera
_TWO_THETA = (10.0, 90.0)
_LEAST_INTENSITY = 0.5  # of the strongest line's 100
_LABELLED, _APART = 6, 5.0  # strongest lines, and degrees between two of them
_EDGES = [(i, i | 1 << axis) for i in range(8) for axis in range(3) if not i >> axis & 1]


def presentable(cell: Cell, symprec_angstrom: float = SYMPREC_ANGSTROM) -> Cell:
    """The conventional cell, or the cell itself where there is none or a needle; its largest atom at the origin."""
    found = conventional(cell, symprec_angstrom)
    if found is not None:
        lengths = np.linalg.norm(found.lattice, axis=1)
        cell = found if lengths.max() < _NEEDLE * lengths.min() else cell
    largest = np.argmax(covalent_radii()[cell.elements])
    return Cell(cell.lattice, cell.elements, cell.fractional - cell.fractional[largest])


def closed(cell: Cell) -> Cell:
    """The cell with the images of the atoms on its corners, edges and faces, so that a picture shows it whole."""
    elements, places = [], []
    for element, place in zip(cell.elements, cell.fractional, strict=True):
        place = np.where(place % 1 > 1 - _ON_FACE, place % 1 - 1, place % 1)
        on_face = np.flatnonzero(np.abs(place) < _ON_FACE)
        for shift in np.ndindex(*[2] * len(on_face)):
            image = place.copy()
            image[on_face] += shift
            elements.append(element)
            places.append(image)
    return Cell(cell.lattice, np.array(elements, np.uint8), np.array(places))


def bonds(cell: Cell) -> np.ndarray:
    """Pairs of sites within the cell, images left out, that stand as near as a bond; int of shape (B, 2)."""
    radii = covalent_radii()[cell.elements]
    positions = cell.fractional @ cell.lattice
    distances = np.linalg.norm(positions[:, None] - positions[None], axis=2)
    return np.argwhere(np.triu(distances < _BOND * (radii[:, None] + radii), k=1))


def view(title: str, cell: Cell) -> Figure:
    """The conventional cell with its bonds, to turn and to zoom.

    The page's script makes a ball of each marker, with the radius in angstrom that the trace's ``meta`` holds.
    """
    from ase.data.colors import jmol_colors

    whole = closed(presentable(cell))
    positions = whole.fractional @ whole.lattice
    corners = np.array([[i & 1, i >> 1 & 1, i >> 2 & 1] for i in range(8)]) @ whole.lattice
    data = [_lines(corners, _EDGES, INK, 2)]
    if len(pairs := bonds(whole)):
        data.append(_lines(positions, pairs, "#a9afb8", 5))
    for z in np.unique(whole.elements).tolist():
        mine = whole.elements == z
        red, green, blue = (jmol_colors[z] * 255).astype(int)
        data.append(
            {"type": "scatter3d", "mode": "markers", "name": SYMBOLS[z - 1], **_xyz(positions[mine])}
            | {"marker": {"size": 12, "color": f"rgb({red},{green},{blue})"}}
            | {"meta": {"radius": round(float(_BALL * covalent_radii()[z]), 3)}, "showlegend": True}
            | {"text": [_place(SYMBOLS[z - 1], place) for place in whole.fractional[mine]], "hoverinfo": "text"}
        )
    lengths = np.linalg.norm(whole.lattice, axis=1, keepdims=True)
    data.append(
        {"type": "scatter3d", "mode": "text", **_xyz(whole.lattice * (1 + _BEYOND_ANGSTROM / lengths))}
        | {"text": ["a", "b", "c"], "textfont": {"size": 14, "color": INK}, "hoverinfo": "skip", "showlegend": False}
    )
    low, high = positions.min(axis=0) - _BEYOND_ANGSTROM, positions.max(axis=0) + _BEYOND_ANGSTROM
    sizes = _DIAGONAL * (high - low) / np.linalg.norm(high - low)  # or a long cell would stand out of the picture
    ranges = numbers(np.column_stack([low, high]), 3)
    made = figure(title, data, {}, {}, 430)
    made["layout"] = {name: made["layout"][name] for name in ("font", "height", "paper_bgcolor", "legend")} | {
        "margin": {"l": 0, "r": 0, "t": 30, "b": 0},
        "scene": {
            **{f"{axis}axis": {"visible": False, "range": ends} for axis, ends in zip("xyz", ranges, strict=True)},
            "aspectmode": "manual",
            "aspectratio": dict(zip("xyz", numbers(sizes, 4), strict=True)),
            "camera": {"eye": {"x": 1.75, "y": 0.9, "z": 0.55}},
        },
    }
    return made


def powder_pattern(title: str, cell: Cell) -> Figure:
    """Simulated powder pattern, copper K-alpha, peaks without width; pymatgen's ``XRDCalculator``."""
    from pymatgen.analysis.diffraction.xrd import XRDCalculator

    structure = presentable(cell).to_structure()
    pattern = XRDCalculator(wavelength="CuKa").get_pattern(structure, two_theta_range=_TWO_THETA)
    seen = pattern.y >= _LEAST_INTENSITY
    angles, heights, spacings = pattern.x[seen], pattern.y[seen], np.array(pattern.d_hkls)[seen]
    names = [
        ", ".join(_indices(plane["hkl"]) for plane in family)
        for family, shown in zip(pattern.hkls, seen, strict=True)
        if shown
    ]
    gaps = np.full(len(angles), np.nan)
    sticks = {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "line": {"color": CHOSEN, "width": 1.6}}
    sticks |= {"x": numbers(np.column_stack([angles, angles, gaps]).ravel(), 3)}
    sticks |= {"y": numbers(np.column_stack([np.zeros(len(angles)), heights, gaps]).ravel(), 2)}
    labelled: list[int] = []
    for line in np.argsort(-heights, kind="stable"):
        if len(labelled) < _LABELLED and all(abs(angles[line] - angles[other]) > _APART for other in labelled):
            labelled.append(int(line))
    tops = {"type": "scatter", "mode": "markers+text", "x": numbers(angles, 3), "y": numbers(heights, 2)}
    tops |= {"marker": {"color": CHOSEN, "size": 4}, "textposition": "top center", "textfont": {"size": 10}}
    tops |= {"text": [name.split(",")[0] if i in labelled else "" for i, name in enumerate(names)]}
    tops |= {"customdata": [[name, round(float(d), 3)] for name, d in zip(names, spacings, strict=True)]}
    tops |= {"hovertemplate": "(%{customdata[0]})<br>2θ %{x:.2f}°, d %{customdata[1]} Å, %{y:.0f} %<extra></extra>"}
    x = {"title": {"text": "2θ, Cu Kα (degrees)"}, "range": list(_TWO_THETA)}
    y = {"title": {"text": "intensity (%)"}, "range": [0, 112]}
    made = figure(title, [sticks, tops], x, y, 340, showlegend=False)
    made["layout"]["margin"]["t"] = 12
    return made


def _lines(positions: np.ndarray, pairs: Sequence, color: str, width: int) -> dict:
    ends = positions[np.asarray(pairs)]
    path = np.concatenate([ends, np.full((len(ends), 1, 3), np.nan)], axis=1).reshape(-1, 3)
    line = {"color": color, "width": width}
    return {"type": "scatter3d", "mode": "lines", "line": line, "hoverinfo": "skip", "showlegend": False, **_xyz(path)}


def _xyz(positions: np.ndarray) -> dict:
    return {axis: numbers(column, 3) for axis, column in zip("xyz", positions.T, strict=True)}


def _place(symbol: str, fractional: np.ndarray) -> str:
    return f"{symbol} ({', '.join(f'{value + 0:.3f}' for value in np.round(fractional, 3))})"


def _indices(hkl: Sequence[int]) -> str:
    h, k, *_, l = hkl  # noqa: E741 - the third index; hexagonal cells have a fourth, which says nothing new
    return " ".join(str(index).replace("-", "−") for index in (h, k, l))
