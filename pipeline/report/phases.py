"""A candidate's place among the known phases of its elements: pictures for two and three elements, else a table."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from pipeline.composition import SYMBOLS, Compositions
from pipeline.hull import Hull
from pipeline.report import page
from pipeline.report.figures import CHOSEN, DRAWN, GRID, INK, TRAINING, Figure, figure, numbers
from pipeline.report.page import Cell, number

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

TITLE = "Place among known phases"
_NEAR = 8  # phases named in a table
_HEIGHT = np.sqrt(3) / 2


@dataclass(frozen=True)
class Placed:
    """A candidate among the references of its system.

    Attributes:
        formula: Reduced.
        elements, counts: Atomic numbers and atoms of each.
        energy_ev_per_atom: By the method of the references.
        above_hull_ev_per_atom: Negative below the hull.
    """

    formula: str
    elements: tuple[int, ...]
    counts: tuple[int, ...]
    energy_ev_per_atom: float
    above_hull_ev_per_atom: float

    @property
    def symbols(self) -> list[str]:
        """Of the elements, in their order."""
        return [SYMBOLS[z - 1] for z in self.elements]

    @property
    def entry(self) -> "PDEntry":
        """As pymatgen has it."""
        from pymatgen.analysis.phase_diagram import PDEntry

        amounts = dict(zip(self.symbols, self.counts, strict=True))
        return PDEntry(amounts, self.energy_ev_per_atom * sum(self.counts), name=self.formula)


def place(hull: Hull, candidate: Placed) -> str:
    """The place as HTML: the hull of two elements, the triangle of three, a table of the phases of more or one."""
    if len(candidate.elements) == 2:
        return page.figure(binary(drawable(hull, candidate.elements), candidate))
    if len(candidate.elements) == 3:
        return page.figure(ternary(drawable(hull, candidate.elements), candidate))
    return neighbours(hull, candidate)


def drawable(hull: Hull, elements: Sequence[int]) -> "PhaseDiagram":
    """The references of a system as pymatgen's phase diagram, which knows tie lines; entries are named by formula."""
    from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

    places = hull.within(elements)
    columns = hull.compositions.take(places).columns()
    rows = zip(*(columns[name].to_pylist() for name in ("elements", "counts")), strict=True)
    entries = [
        PDEntry({SYMBOLS[z - 1]: n for z, n in zip(*row, strict=True)}, energy * sum(row[1]), name=formula)
        for row, energy, formula in zip(
            rows, hull.energies_ev_per_atom[places], hull.formulas.take(pa.array(places)).to_pylist(), strict=True
        )
    ]
    return PhaseDiagram(entries)


def binary(diagram: "PhaseDiagram", candidate: Placed) -> Figure:
    """Formation energy by composition: the hull, references above it and the candidate."""
    last = candidate.symbols[-1]

    def points(entries: list) -> dict:
        x = [entry.composition.get_atomic_fraction(last) for entry in entries]
        y = [diagram.get_form_energy_per_atom(entry) for entry in entries]
        return {"x": numbers(np.array(x), 4), "y": numbers(np.array(y), 4)}

    stable = sorted(diagram.stable_entries, key=lambda entry: entry.composition.get_atomic_fraction(last))
    data = [
        {"type": "scatter", "mode": "lines+markers+text", "name": "on the hull", **points(stable)}
        | {"text": [page.formula(entry.name) for entry in stable], "textposition": "bottom center"}
        | {"line": {"color": INK, "width": 1.4}, "marker": {"color": TRAINING, "size": 9}}
        | {"hovertemplate": "%{text}: %{y:.3f} eV/atom<extra></extra>"},
        *_unstable(diagram, points),
        _star(points([candidate.entry]), candidate),
    ]
    x = {"title": {"text": f"share of {last} among the atoms"}, "range": [-0.08, 1.08]}
    y = {"title": {"text": "formation energy (eV/atom)"}, "zeroline": True, "zerolinecolor": GRID}
    energies = [value for trace in data for value in trace["y"]]
    lowest, highest = min(energies), min(max([0.0, *energies]), max(0.3, -min(energies)))
    highest = max(highest, data[-1]["y"][0], 0.0)
    margin = 0.14 * (highest - lowest) + 0.02
    return figure(TITLE, data, x, y | {"range": [lowest - margin, highest + margin]}, 400)


def ternary(diagram: "PhaseDiagram", candidate: Placed) -> Figure:
    """The Gibbs triangle: phases on the hull, the tie lines between them, references above it and the candidate."""
    symbols = candidate.symbols

    def points(entries: list) -> dict:
        shares = np.array([[entry.composition.get_atomic_fraction(symbol) for symbol in symbols] for entry in entries])
        return {"x": numbers(shares[:, 1] + shares[:, 2] / 2, 4), "y": numbers(shares[:, 2] * _HEIGHT, 4)}

    stable = sorted(diagram.stable_entries, key=lambda entry: entry.name)
    ties = {tuple(sorted(pair)) for facet in diagram.facets for pair in combinations(facet, 2)}
    ends = [points([diagram.qhull_entries[end] for end in tie]) for tie in sorted(ties)]
    energies = [[diagram.get_form_energy_per_atom(entry)] for entry in stable]
    data = [
        {"type": "scatter", "mode": "lines", "hoverinfo": "skip", "showlegend": False}
        | {axis: [value for end in ends for value in [*end[axis], None]] for axis in "xy"}
        | {"line": {"color": "#8f97a3", "width": 1.2}},
        {"type": "scatter", "mode": "markers+text", "name": "on the hull", **points(stable)}
        | {"text": [page.formula(entry.name) for entry in stable], "textposition": "top center"}
        | {"marker": {"color": TRAINING, "size": 9}, "customdata": numbers(np.array(energies), 4)}
        | {"hovertemplate": "%{text}: formation energy %{customdata[0]:.3f} eV/atom<extra></extra>"},
        *_unstable(diagram, points),
        _star(points([candidate.entry]), candidate),
    ]
    hidden = {"visible": False}
    x, y = hidden | {"range": [-0.12, 1.12]}, hidden | {"range": [-0.1, _HEIGHT + 0.12], "scaleanchor": "x"}
    made = figure(TITLE, data, x, y, 430)
    made["layout"]["legend"] |= {"y": 0, "yanchor": "top"}
    made["layout"]["margin"] = {"l": 8, "r": 8, "t": 30, "b": 40}
    return made


def neighbours(hull: Hull, candidate: Placed) -> str:
    """Table of the phases that the hull is made of at the candidate's composition, and of the nearest others."""
    composition = Compositions.from_dicts([dict(zip(candidate.elements, candidate.counts, strict=True))])
    own = hull.distances(composition, [candidate.energy_ev_per_atom])[0]
    shares = dict(own.decomposition)
    places = hull.within(candidate.elements)
    references = hull.compositions.take(places)
    found = hull.distances(references, hull.energies_ev_per_atom[places])
    formulas = references.formulas().to_pylist()
    apart = _apart(references, composition, candidate.elements)
    nearest = sorted(range(len(references)), key=lambda i: (-shares.get(formulas[i], 0), apart[i], formulas[i]))
    heads = [
        ("phase", ""),
        ("share", "of the atoms"),
        ("formation", "eV/atom"),
        ("above hull", "eV/atom"),
    ]
    name = Cell(f"<b>{page.formula(candidate.formula)}</b> <small>candidate</small>", candidate.formula)
    energy = number(own.formation_energy_ev_per_atom, ".3f")
    rows = [[name, number(None), energy, number(candidate.above_hull_ev_per_atom, "+.3f")]]
    for place in nearest[: max(_NEAR, len(shares))]:
        share, reference = shares.get(formulas[place]), found[place]
        rows.append(
            [
                Cell(page.formula(formulas[place]), formulas[place]),
                Cell(page.share(share), "" if share is None else share, "n"),
                number(reference.formation_energy_ev_per_atom, ".3f"),
                number(max(reference.energy_above_hull_ev_per_atom, 0.0), ".3f"),
            ]
        )
    return page.block(
        TITLE,
        page.table(heads, rows)
        + page.paragraph(
            "The phases that make up the hull at this composition, with their shares, then the nearest others by "
            "element fractions; formation energies by the potential."
        ),
    )


def _unstable(diagram: "PhaseDiagram", points) -> list[dict]:
    """References above the hull, none if there are none."""
    entries = sorted(diagram.unstable_entries, key=lambda entry: entry.name)
    if not entries:
        return []
    above = np.array([[diagram.get_e_above_hull(entry)] for entry in entries])
    return [
        {"type": "scatter", "mode": "markers", "name": "above the hull", **points(entries)}
        | {"text": [page.formula(entry.name) for entry in entries], "customdata": numbers(above, 4)}
        | {"marker": {"color": "white", "size": 7, "line": {"color": DRAWN, "width": 1.3}}}
        | {"hovertemplate": "%{text}: %{customdata[0]:.3f} eV/atom above the hull<extra></extra>"}
    ]


def _star(at: dict, candidate: Placed) -> dict:
    name = page.formula(candidate.formula)
    return (
        {"type": "scatter", "mode": "markers", "name": f"{name} (candidate)", **at}
        | {"marker": {"symbol": "star", "size": 16, "color": CHOSEN, "line": {"color": "white", "width": 1}}}
        | {"hovertemplate": f"{name}: {candidate.above_hull_ev_per_atom:+.3f} eV/atom to the hull<extra></extra>"}
    )


def _apart(references: Compositions, candidate: Compositions, elements: Sequence[int]) -> np.ndarray:
    """Sum of the absolute differences of each reference's element fractions from the candidate's."""
    mine, theirs = candidate.dense(elements), references.dense(elements)
    return np.abs(theirs / theirs.sum(axis=1, keepdims=True) - mine / mine.sum()).sum(axis=1)
