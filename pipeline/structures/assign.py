"""Elements of a formula on the sites of a template.

Legend of suffixes: T templates, E elements of a formula, F coordinates of an element, P orders of the elements.
"""

import itertools
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, from_table
from pipeline.structures.schema import StructureSettings
from pipeline.structures.similarity import coordinates, unlikeness
from pipeline.structures.template_schema import TEMPLATES
from pipeline.structures.volume import predicted_volume, too_close

NO_TEMPLATE, NO_SIMILAR_TEMPLATE, TOO_CLOSE = "no_template", "no_similar_template", "too_close"


@dataclass(frozen=True)
class Built:
    """A cell for a formula, and where it came from.

    Attributes:
        cell: The crystal.
        template: Row of the template in its library.
        similarity: 0 to 1.
        volume_method: See :func:`pipeline.structures.volume.predicted_volume`.
    """

    cell: Cell
    template: dict
    similarity: float
    volume_method: str


class Library:
    """The template library, grouped by anonymous formula."""

    def __init__(self, path: str | os.PathLike):
        table = tables.read(path, TEMPLATES)
        self.rows = table.drop_columns([field.name for field in CELL_COLUMNS]).to_pylist()
        self.cells = from_table(table)
        members = defaultdict(list)
        for position, row in enumerate(self.rows):
            members[tuple(row["counts"])].append(position)
        self._members = {counts: np.array(positions) for counts, positions in members.items()}
        self._coordinates_TEF = {
            counts: np.array(
                [coordinates(self.rows[place]["elements"], self.rows[place]["oxidation_states"]) for place in positions]
            )
            for counts, positions in self._members.items()
        }

    def anonymous_formulas(self) -> list[tuple[int, ...]]:
        """The anonymous formulas that have a template, ascending."""
        return sorted(self._members)

    def ranked(self, elements: list[int], counts: list[int], states: list[int] | None) -> Iterator[tuple]:
        """Ways to put a formula on a template, the most similar first.

        Args:
            elements: Atomic numbers of the formula.
            counts: Reduced counts.
            states: Oxidation states, None where unknown.

        Yields:
            Position of the template, {template's element: formula's element}, similarity.
        """
        by_count = np.argsort(counts, kind="stable")
        anonymous = tuple(int(counts[place]) for place in by_count)
        if anonymous not in self._members:
            return
        chosen = np.asarray(elements)[by_count]
        sorted_states = None if states is None else [states[place] for place in by_count]
        unlike_TEE = unlikeness(self._coordinates_TEF[anonymous], coordinates(chosen, sorted_states))
        orders_PE = np.array(_orders(anonymous))
        weights = np.array(anonymous) / sum(anonymous)
        unlike_TP = (unlike_TEE[:, np.arange(len(chosen)), orders_PE] * weights).sum(axis=2)
        for place in np.argsort(np.round(unlike_TP, 9), axis=None, kind="stable"):
            template, order = np.unravel_index(place, unlike_TP.shape)
            position = int(self._members[anonymous][template])
            exchange = dict(zip(self.rows[position]["elements"], chosen[orders_PE[order]].tolist(), strict=True))
            yield position, exchange, float(np.exp(-unlike_TP[template, order]))

    def build(
        self, elements: list[int], counts: list[int], states: list[int] | None, settings: StructureSettings
    ) -> tuple[list[Built], str | None]:
        """Structures of a formula.

        Returns:
            At most ``settings.max_structures_per_formula`` distinct structures, the most similar first, and the
            reason where there is none.
        """
        built: list[Built] = []
        reason = NO_TEMPLATE
        ways = itertools.islice(self.ranked(elements, counts, states), settings.max_attempts)
        for position, exchange, similarity in ways:
            if similarity < settings.min_similarity:
                reason = NO_SIMILAR_TEMPLATE if reason == NO_TEMPLATE else reason
                break
            template = self.cells[position]
            occupied = np.array([exchange[int(z)] for z in template.elements], dtype=np.uint8)
            cell = Cell(template.lattice, occupied, template.fractional)
            volume, method = predicted_volume(cell, template)
            cell = cell.scaled(volume)
            if too_close(cell, settings.min_distance_factor):
                reason = TOO_CLOSE
            elif not any(same_crystal(cell, other.cell) for other in built):
                built.append(Built(cell, self.rows[position], similarity, method))
                if len(built) == settings.max_structures_per_formula:
                    break
        return built, None if built else reason


def same_crystal(one: Cell, other: Cell) -> bool:
    """Whether two cells are the same crystal but for its size (pymatgen ``StructureMatcher``, its tolerances)."""
    from pymatgen.core.structure_matcher import StructureMatcher

    return bool(StructureMatcher().fit(one.to_structure(), other.to_structure()))


def _orders(counts: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Orders of ``range(len(counts))`` that exchange only places of equal count; counts ascend."""
    groups = [[place for place, value in enumerate(counts) if value == count] for count in sorted(set(counts))]
    return [sum(order, ()) for order in itertools.product(*(itertools.permutations(group) for group in groups))]
