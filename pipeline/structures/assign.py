"""Elements of a formula on the sites of the templates that it most probably takes after."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline import boosting, tables
from pipeline.cells import CELL_COLUMNS, Cell, from_table
from pipeline.provenance import ROOT
from pipeline.structures.ranking import Classes, Group, classes, coordinates
from pipeline.structures.schema import BuildSettings
from pipeline.structures.template_schema import TEMPLATES
from pipeline.structures.volume import predicted_volume, too_close

NO_TEMPLATE, NO_PROBABLE_TEMPLATE, TOO_CLOSE = "no_template", "no_probable_template", "too_close"
MODEL = ROOT / "resources" / "models" / "template_ranking"


@dataclass(frozen=True)
class Built:
    """A cell for a formula, and where it came from.

    Attributes:
        cell: The crystal.
        template: Row of the template in its library.
        probability: 0 to 1, of being the formula's crystal.
        volume_method: See :func:`pipeline.structures.volume.predicted_volume`.
    """

    cell: Cell
    template: dict
    probability: float
    volume_method: str


class Library:
    """The template library, grouped by anonymous formula, and the model that ranks its templates."""

    def __init__(self, path: str | os.PathLike, model_dir: Path | None = MODEL):
        table = tables.read(path, TEMPLATES)
        self.rows = table.drop_columns([*(field.name for field in CELL_COLUMNS), "contacts"]).to_pylist()
        self.cells = from_table(table)
        self._contacts = table["contacts"].to_pylist()
        self._model = model_dir and boosting.load(model_dir / "classes.txt.gz")
        formulas = [row["reference_formula"] for row in self.rows]
        hull = table["energy_above_hull_ev_per_atom"].to_numpy().astype(float)
        lowest: dict[str, int] = {}
        for position in np.argsort(np.nan_to_num(hull, nan=np.inf), kind="stable"):
            lowest.setdefault(formulas[position], int(position))
        members = defaultdict(list)
        for position, row in enumerate(self.rows):
            members[tuple(row["counts"])].append(position)
        self._formula_numbers = {formula: number for number, formula in enumerate(lowest)}
        self._groups = {}
        for counts, positions in members.items():
            rows = [self.rows[position] for position in positions]
            own = [formulas[position] for position in positions]
            self._groups[counts] = Group(
                counts,
                positions_T=np.array(positions),
                elements_TE=np.array([row["elements"] for row in rows]),
                coordinates_TED=np.array([coordinates(row["elements"], row["oxidation_states"]) for row in rows]),
                log_contacts_TEE=np.array([self.log_contacts(position) for position in positions]),
                space_groups_T=np.array([row["space_group_number"] for row in rows]),
                n_sites_T=np.array([row["n_sites"] for row in rows]),
                hull_T=hull[positions],
                ground_T=np.array([lowest[formula] == place for formula, place in zip(own, positions, strict=True)]),
                formulas_T=np.array([self._formula_numbers[formula] for formula in own]),
            )

    def group(self, counts: Sequence[int], without: frozenset[str] = frozenset()) -> Group | None:
        """The templates of an anonymous formula, counts ascending; those of some reduced formulas left out."""
        group = self._groups.get(tuple(counts))
        if group is not None and without:
            hidden = [self._formula_numbers[formula] for formula in without if formula in self._formula_numbers]
            group = group.take(~np.isin(group.formulas_T, hidden))
        return group if group is not None and len(group.positions_T) else None

    def log_contacts(self, position: int) -> np.ndarray:
        """Logarithms of a template's shortest distances between elements, float64 of shape (E, E)."""
        n = len(self.rows[position]["elements"])
        return np.log(self._contacts[position]).reshape(n, n)

    def classes(
        self, elements: list[int], counts: list[int], states: list[int] | None, without: frozenset[str] = frozenset()
    ) -> Classes | None:
        """The classes of a formula, arguments as for :meth:`ranked`; None where no template has its counts.

        Their templates are the rows of this library.
        """
        by_count = np.argsort(counts, kind="stable")
        group = self.group([int(counts[place]) for place in by_count], without)
        if group is None:
            return None
        sorted_states = None if states is None else [states[place] for place in by_count]
        found = classes(group, np.asarray(elements)[by_count], sorted_states)
        return found._replace(template_C=group.positions_T[found.template_C])

    def ranked(
        self, elements: list[int], counts: list[int], states: list[int] | None, without: frozenset[str] = frozenset()
    ) -> Iterator[tuple[int, dict[int, int], float]]:
        """Crystals that a formula may take after, the most probable first.

        Args:
            elements: Atomic numbers of the formula.
            counts: Reduced counts.
            states: Oxidation states, None where unknown.
            without: Reduced formulas whose crystals are left out.

        Yields:
            Position of the template, {template's element: formula's element}, probability.
        """
        found = self.classes(elements, counts, states, without)
        if found is None:
            return
        chosen = np.asarray(elements)[np.argsort(counts, kind="stable")]
        probability_C = boosting.predict(self._model, found.features_CF, threads=1)
        for number in np.argsort(-probability_C, kind="stable"):
            position = int(found.template_C[number])
            exchange = zip(self.rows[position]["elements"], chosen[found.order_CE[number]].tolist(), strict=True)
            yield position, dict(exchange), float(probability_C[number])

    def build(
        self,
        elements: list[int],
        counts: list[int],
        states: list[int] | None,
        settings: BuildSettings,
        without: frozenset[str] = frozenset(),
    ) -> tuple[list[Built], str | None]:
        """Structures of a formula; arguments as for :meth:`ranked`.

        Returns:
            At most ``settings.max_structures_per_formula`` distinct structures, the most probable first, and the
            reason where there is none.
        """
        built: list[Built] = []
        reason = NO_TEMPLATE
        for position, exchange, probability in self.ranked(elements, counts, states, without):
            if probability < settings.min_template_probability:
                reason = NO_PROBABLE_TEMPLATE if reason == NO_TEMPLATE else reason
                break
            template = self.cells[position]
            occupied = np.array([exchange[int(z)] for z in template.elements], dtype=np.uint8)
            cell = Cell(template.lattice, occupied, template.fractional)
            volume, method = predicted_volume(cell, template)
            cell = cell.scaled(volume)
            if too_close(cell, settings.min_distance_factor):
                reason = TOO_CLOSE
            elif not any(same_crystal(cell, other.cell) for other in built):
                built.append(Built(cell, self.rows[position], probability, method))
                if len(built) == settings.max_structures_per_formula:
                    break
        return built, None if built else reason


def same_crystal(one: Cell, other: Cell) -> bool:
    """Whether two cells are the same crystal but for its size (pymatgen ``StructureMatcher``, its tolerances)."""
    from pymatgen.core.structure_matcher import StructureMatcher

    return bool(StructureMatcher().fit(one.to_structure(), other.to_structure()))
