"""Distance to the convex hull of references, as pymatgen's ``PhaseDiagram`` defines it.

Ong et al., Chem. Mater. 20, 1798 (2008), doi:10.1021/cm702327g. Energies of candidate and references must be of one
method, so that its errors partly cancel.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.composition import SYMBOLS, Compositions

if TYPE_CHECKING:
    from pymatgen.analysis.phase_diagram import PhaseDiagram


ELEMENTS_ONLY = "no reference but elements"


@dataclass(frozen=True)
class HullDistance:
    """Where a crystal lies against the hull of its chemical system.

    Attributes:
        energy_above_hull_ev_per_atom: Negative below the hull, as no reference is; None where an element has no
            reference, so that there is no hull, or where only elements have one: the distance from these is the
            formation energy, and says nothing of stability.
        formation_energy_ev_per_atom: Energy less that of the elements; None where one of them has no reference.
        decomposition: Formula and share of the atoms of each phase that makes up the hull at this composition.
        n_references: References within the chemical system.
        missing: Symbols of the elements without a reference.
    """

    energy_above_hull_ev_per_atom: float | None
    formation_energy_ev_per_atom: float | None
    decomposition: tuple[tuple[str, float], ...]
    n_references: int
    missing: tuple[str, ...] = ()

    @property
    def reason(self) -> str | None:
        """Why there is no distance; None where there is one."""
        if self.missing:
            return f"no reference energy of {', '.join(self.missing)}"
        return ELEMENTS_ONLY if self.energy_above_hull_ev_per_atom is None else None

    @property
    def text(self) -> str | None:
        """The decomposition as text, ``0.500 Li2O + 0.500 MnO2``, in shares of the atoms; None where there is none."""
        return " + ".join(f"{share:.3f} {formula}" for formula, share in self.decomposition) or None


@dataclass(frozen=True)
class _Reference:
    formula: str
    amounts: dict[str, int]
    energy_ev_per_atom: float


class Hull:
    """The convex hulls of all chemical systems that the references span; each is made once.

    Args:
        compositions: Of the N references.
        energies_ev_per_atom: Shape (N,), finite.
    """

    def __init__(self, compositions: Compositions, energies_ev_per_atom: Sequence[float] | np.ndarray) -> None:
        self._of_system: dict[frozenset[int], list[_Reference]] = defaultdict(list)
        rows = compositions.reduced()
        columns = (*(column.to_pylist() for column in rows.columns().values()), rows.formulas().to_pylist())
        for elements, counts, formula, energy in zip(*columns, energies_ev_per_atom, strict=True):
            self._of_system[frozenset(elements)].append(_Reference(formula, _amounts(elements, counts), float(energy)))
        self._diagrams: dict[frozenset[int], PhaseDiagram] = {}

    @classmethod
    def from_table(cls, references: pa.Table) -> "Hull":
        """The hulls of a table ``REFERENCES``; rows with ``rejected_by`` are left out."""
        references = references.filter(pc.is_null(references["rejected_by"]))
        return cls(Compositions.from_table(references), references["energy_ev_per_atom"].to_numpy())

    def missing(self, elements: Sequence[int]) -> tuple[str, ...]:
        """Symbols of those elements that no reference is a crystal of."""
        return tuple(SYMBOLS[z - 1] for z in elements if frozenset([z]) not in self._of_system)

    def diagram(self, elements: Sequence[int]) -> "PhaseDiagram":
        """The phase diagram of the lowest reference of each composition; its entries are named by their formulas.

        Raises:
            ValueError: An element has no reference.
        """
        from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

        system = frozenset(int(z) for z in elements)
        if system not in self._diagrams:
            if missing := self.missing(elements):
                symbols = "-".join(SYMBOLS[z - 1] for z in elements)
                raise ValueError(
                    f"hull of {symbols}: no reference energy of {', '.join(missing)}; add a crystal of each"
                )
            lowest: dict[str, _Reference] = {}
            for reference in self._within(system):
                other = lowest.setdefault(reference.formula, reference)
                if reference.energy_ev_per_atom < other.energy_ev_per_atom:
                    lowest[reference.formula] = reference
            self._diagrams[system] = PhaseDiagram(
                [
                    PDEntry(one.amounts, one.energy_ev_per_atom * sum(one.amounts.values()), name=one.formula)
                    for one in lowest.values()
                ]
            )
        return self._diagrams[system]

    def distance(self, elements: Sequence[int], counts: Sequence[int], energy_ev_per_atom: float) -> HullDistance:
        """The distance of a crystal.

        Args:
            elements: Its atomic numbers.
            counts: Atoms of each, reduced or not.
            energy_ev_per_atom: Its energy, by the method of the references.
        """
        from pymatgen.analysis.phase_diagram import PDEntry

        system = frozenset(int(z) for z in elements)
        references = self._within(system)
        if missing := self.missing(elements):
            return HullDistance(None, None, (), len(references), missing)
        amounts = _amounts(elements, counts)
        entry = PDEntry(amounts, energy_ev_per_atom * sum(amounts.values()))
        diagram = self.diagram(elements)
        formation = float(diagram.get_form_energy_per_atom(entry))
        if len(system) > 1 and all(len(reference.amounts) == 1 for reference in references):
            return HullDistance(None, formation, (), len(references))
        decomposition, distance = diagram.get_decomp_and_e_above_hull(entry, allow_negative=True, check_stable=False)
        phases = sorted(((entry.name, float(share)) for entry, share in decomposition.items()), key=_largest_first)
        return HullDistance(float(distance), formation, tuple(phases), len(references))

    def _within(self, system: frozenset[int]) -> list[_Reference]:
        return [one for mine, references in self._of_system.items() if mine <= system for one in references]


def _amounts(elements: Sequence[int], counts: Sequence[int]) -> dict[str, int]:
    return {SYMBOLS[z - 1]: int(n) for z, n in zip(elements, counts, strict=True)}


def _largest_first(phase: tuple[str, float]) -> tuple[float, str]:
    return -round(phase[1], 9), phase[0]
