"""Distance to the convex hull of references, as pymatgen's ``PhaseDiagram`` defines it, for many compositions at once.

Ong et al., Chem. Mater. 20, 1798 (2008), doi:10.1021/cm702327g. Energies of candidates and references must be of one
method, so that its errors partly cancel.

Legend: N compositions, M element-count pairs of them.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import hull_kernel
from pipeline.composition import SYMBOLS, Compositions, concatenate

ELEMENTS_ONLY = "no reference but elements"
NO_ENERGY = "no energy"
_ON_HULL_EV_PER_ATOM = 1e-9


@dataclass(frozen=True)
class HullDistance:
    """Where one crystal lies against the hull of its chemical system.

    Attributes:
        energy_above_hull_ev_per_atom: Negative below the hull, as no reference is; None where an element has no
            reference, so that there is no hull, or where only elements have one: the distance from these is the
            formation energy, and says nothing of stability; and where the crystal has no energy.
        formation_energy_ev_per_atom: Energy less that of the elements; None where one of them has no reference, or the
            crystal no energy.
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
        if not self.decomposition:
            return ELEMENTS_ONLY
        return NO_ENERGY if self.energy_above_hull_ev_per_atom is None else None

    @property
    def text(self) -> str | None:
        """The decomposition as text, ``0.500 Li2O + 0.500 MnO2``, in shares of the atoms; None where there is none."""
        return " + ".join(f"{share:.3f} {formula}" for formula, share in self.decomposition) or None


@dataclass(frozen=True)
class HullDistances:
    """Where N crystals lie against the hulls of their chemical systems; ``distances[i]`` is a :class:`HullDistance`.

    Attributes:
        compositions: Of the N crystals.
        energy_above_hull_ev_per_atom: float64 of shape (N,), negative below the hull; NaN where there is none.
        formation_energy_ev_per_atom: float64 of shape (N,); NaN where an element has no reference.
        n_references: int64 of shape (N,), references within the chemical system.
        phases: int64 of shape (M,), places of references in the hull's ``formulas``; row i of the compositions owns
            ``offsets[i]:offsets[i + 1]``, filled from its start, -1 where there are fewer phases than elements.
        shares: float64 of shape (M,), of the atoms, of each phase.
        missing: bool of shape (M,), elements without a reference.
        formulas: Of the hull's references.
    """

    compositions: Compositions
    energy_above_hull_ev_per_atom: np.ndarray
    formation_energy_ev_per_atom: np.ndarray
    n_references: np.ndarray
    phases: np.ndarray
    shares: np.ndarray
    missing: np.ndarray
    formulas: pa.Array

    def __len__(self) -> int:
        return len(self.compositions)

    def __getitem__(self, row: int) -> HullDistance:
        pairs = slice(self.compositions.offsets[row], self.compositions.offsets[row + 1])
        within = self.phases[pairs] >= 0
        phases = zip(
            self.formulas.take(pa.array(self.phases[pairs][within])).to_pylist(),
            self.shares[pairs][within].tolist(),
            strict=True,
        )
        return HullDistance(
            _value(self.energy_above_hull_ev_per_atom[row]),
            _value(self.formation_energy_ev_per_atom[row]),
            tuple(sorted(phases, key=_largest_first)),
            int(self.n_references[row]),
            tuple(SYMBOLS[z - 1] for z in self.compositions.elements[pairs][self.missing[pairs]]),
        )

    def reasons(self) -> np.ndarray:
        """Why there is no distance, object of shape (N,); None where there is one."""
        reasons = np.full(len(self), None, dtype=object)
        for row in np.flatnonzero(np.isnan(self.energy_above_hull_ev_per_atom)):
            reasons[row] = self[row].reason
        return reasons


class Hull:
    """The convex hulls of all chemical systems that the references span.

    Args:
        compositions: Of the references, reduced or not.
        energies_ev_per_atom: Of each, finite.

    Attributes:
        compositions: The lowest reference of each composition, reduced.
        energies_ev_per_atom: Of these.
        formulas: Of these.

    Raises:
        ValueError: An energy is not finite.
    """

    def __init__(self, compositions: Compositions, energies_ev_per_atom: Sequence[float] | np.ndarray) -> None:
        energies = np.asarray(energies_ev_per_atom, dtype=np.float64)
        if not np.isfinite(energies).all():
            bad = int(np.flatnonzero(~np.isfinite(energies))[0])
            formula = compositions.take([bad]).formulas()[0]
            raise ValueError(f"reference {formula}: energy {energies[bad]} eV/atom; give a number or leave it out")
        reduced = compositions.reduced()
        first, same = reduced.unique()
        by_energy = np.lexsort((energies, same))
        lowest = by_energy[np.searchsorted(same[by_energy], np.arange(len(first)))]
        keys, children, n_nodes, nodes = hull_kernel.systems(reduced.offsets, reduced.elements)
        lowest = lowest[np.lexsort((nodes[lowest], reduced.n_elements[lowest]))]
        self.compositions, self.energies_ev_per_atom = reduced.take(lowest), energies[lowest]
        self.formulas = self.compositions.formulas()
        single = self.compositions.n_elements == 1
        self._element_energies = np.full(len(SYMBOLS) + 1, np.nan)
        self._element_energies[self.compositions.elements[self.compositions.offsets[:-1][single]]] = energies[
            lowest[single]
        ]
        fractions = self.compositions.fractions()
        self._references = hull_kernel.References(
            self.compositions.offsets,
            self.compositions.elements,
            fractions,
            self._formation(self.compositions, fractions, self.energies_ev_per_atom),
            nodes[lowest],
        )
        starts = np.zeros(n_nodes, dtype=np.int64)
        starts[nodes[lowest][::-1]] = np.arange(len(lowest))[::-1]
        counts = np.bincount(nodes, minlength=n_nodes)
        stable = np.zeros(len(lowest), dtype=np.int64)
        self._trie = hull_kernel.Trie(keys, children, counts, starts, starts.copy(), stable)
        hull_kernel.find_stable(self._references, self._trie)

    @classmethod
    def from_table(cls, references: pa.Table) -> "Hull":
        """The hulls of a table of references, ``rejected_by`` and ``energy_ev_per_atom`` among its columns."""
        references = references.filter(pc.is_null(references["rejected_by"]))
        return cls(Compositions.from_table(references), references["energy_ev_per_atom"].to_numpy())

    def missing(self, elements: Sequence[int]) -> tuple[str, ...]:
        """Symbols of those elements that no reference is a crystal of."""
        return tuple(SYMBOLS[z - 1] for z in elements if np.isnan(self._element_energies[z]))

    def within(self, elements: Sequence[int]) -> np.ndarray:
        """Places, in ``compositions``, of the references that hold no other elements."""
        outside = self.compositions.rows[~np.isin(self.compositions.elements, np.asarray(elements))]
        return np.setdiff1d(np.arange(len(self.compositions)), outside)

    def distances(
        self, compositions: Compositions, energies_ev_per_atom: Sequence[float] | np.ndarray
    ) -> HullDistances:
        """The distances of N crystals.

        Args:
            compositions: Theirs, reduced or not.
            energies_ev_per_atom: Of each, by the method of the references; NaN where there is none.
        """
        fractions = compositions.fractions()
        formation = self._formation(compositions, fractions, np.asarray(energies_ev_per_atom, dtype=np.float64))
        energy, n_references, n_compounds, phases, shares = hull_kernel.decompose(
            compositions.offsets, compositions.elements, fractions, self._references, self._trie
        )
        elements_only = (compositions.n_elements > 1) & (n_compounds == 0)
        phases[np.repeat(elements_only, compositions.n_elements)] = -1
        return HullDistances(
            compositions,
            np.where(elements_only, np.nan, formation - energy),
            formation,
            n_references,
            phases,
            shares,
            np.isnan(self._element_energies)[compositions.elements],
            self.formulas,
        )

    def _formation(self, compositions: Compositions, fractions_M: np.ndarray, energies_N: np.ndarray) -> np.ndarray:
        of_elements = fractions_M * self._element_energies[compositions.elements]
        return energies_N - np.bincount(compositions.rows, weights=of_elements, minlength=len(compositions))


def decomposition_energies(compositions: Compositions, formation_energies_ev_per_atom: np.ndarray) -> np.ndarray:
    """Distance of each compound to the hull of all others: negative for stable ones, by how much they lie below it.

    Bartel et al., npj Comput. Mater. 6, 97 (2020), doi:10.1038/s41524-020-00362-y. Where there are no others of its
    elements, a compound is measured from these, and the distance is its formation energy.

    Args:
        compositions: N distinct reduced compositions.
        formation_energies_ev_per_atom: Of each, finite.

    Returns:
        float64 of shape (N,), eV/atom.
    """
    elements = Compositions.from_dicts({int(z): 1} for z in np.unique(compositions.elements))
    everything = concatenate([compositions, elements])
    energies = np.concatenate([formation_energies_ev_per_atom, np.zeros(len(elements))])
    above = Hull(everything, energies).distances(compositions, formation_energies_ev_per_atom)
    result = np.where(
        np.isnan(above.energy_above_hull_ev_per_atom),
        formation_energies_ev_per_atom,
        above.energy_above_hull_ev_per_atom,
    )
    systems: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for row in range(len(everything)):
        systems[_system(everything, row)].append(row)
    for row in np.flatnonzero(above.energy_above_hull_ev_per_atom <= _ON_HULL_EV_PER_ATOM):
        within = _system(compositions, row)
        subsets = chain.from_iterable(combinations(within, size) for size in range(1, len(within) + 1))
        others = [other for subset in subsets for other in systems.get(subset, ()) if other != row]
        one = Hull(everything.take(others), energies[others]).distances(compositions.take([row]), energies[[row]])
        alone = np.isnan(one.energy_above_hull_ev_per_atom[0])
        result[row] = energies[row] if alone else one.energy_above_hull_ev_per_atom[0]
    return result


def _system(compositions: Compositions, row: int) -> tuple[int, ...]:
    return tuple(sorted(compositions.elements[compositions.offsets[row] : compositions.offsets[row + 1]].tolist()))


def _value(number: float) -> float | None:
    return None if np.isnan(number) else float(number)


def _largest_first(phase: tuple[str, float]) -> tuple[float, str]:
    return -round(phase[1], 9), phase[0]
