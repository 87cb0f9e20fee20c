"""Interatomic potentials by name: what gives energy, forces and stress of cells."""

import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.cells import Cell
from pipeline.provenance import file_digest
from pipeline.structures.relaxation_schema import CHGNET, RelaxationSettings


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a potential says of a cell of n atoms.

    Attributes:
        energy_ev: Energy of the cell.
        forces_N3: float64 array of shape (n, 3), eV/angstrom.
        stress_33: float64 array of shape (3, 3), eV/cubic angstrom, positive where the cell would shrink.
    """

    energy_ev: float
    forces_N3: np.ndarray
    stress_33: np.ndarray

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite([self.energy_ev, *self.forces_N3.ravel(), *self.stress_33.ravel()]).all())


class Potential(Protocol):
    """What relaxation asks of a potential.

    Attributes:
        known_elements: Atomic numbers that it was made for.
        atoms_a_batch: How many atoms to evaluate at once; a cell of more comes alone.
    """

    known_elements: frozenset[int]
    atoms_a_batch: int

    def evaluate(self, cells: Sequence[Cell]) -> list[Evaluation]:
        """Energy, forces and stress of each cell."""


class UnfitPotential(ValueError):
    """A potential that can relax nothing."""


class IsolatedAtom(ValueError):
    """An atom without a neighbour as far as the potential sees."""


def load(settings: RelaxationSettings, device: str) -> Potential:
    """The potential of these settings, on ``cpu`` or ``cuda``; an ASE calculator runs where its arguments say.

    Raises:
        ValueError: It cannot be imported, or not be made with these arguments.
    """
    if settings.potential == CHGNET:
        from pipeline.structures.chgnet_batches import BatchedCHGNet

        return BatchedCHGNet(device)
    make = _imported(settings.potential)
    try:
        return CalculatorPotential(make(**settings.arguments), settings.potential)
    except Exception as error:
        raise ValueError(
            f"relaxation.potential: '{settings.potential}' does not take arguments {settings.arguments} ({error}); "
            "see its documentation and mend relaxation.arguments"
        ) from error


def potential_name(settings: RelaxationSettings) -> str:
    """Name and version of the potential, e.g. ``chgnet 0.4.2`` or ``sevenn 0.13.0 SevenNetCalculator model=7net-0``.

    Raises:
        ValueError: It cannot be imported.
    """
    if settings.potential == CHGNET:
        return f"{CHGNET} {importlib.metadata.version(CHGNET)}"
    _imported(settings.potential)
    module, _, name = settings.potential.partition(":")
    package = module.partition(".")[0]
    made_of = importlib.metadata.packages_distributions().get(package)
    file = getattr(importlib.import_module(module), "__file__", None)
    own = [file_digest(file)[:8]] if file else []  # of a file of the user's, which has no version
    version = [importlib.metadata.version(made_of[0])] if made_of else own
    arguments = [f"{key}={value}" for key, value in sorted(settings.arguments.items())]
    return " ".join([package, *version, name, *arguments])


class CalculatorPotential:
    """An ASE calculator, one cell at a time.

    Args:
        calculator: It must give stress.
        name: For messages.
    """

    known_elements = frozenset(range(1, 119))
    atoms_a_batch = 1

    def __init__(self, calculator, name: str):
        self._calculator = calculator
        self._name = name

    def evaluate(self, cells: Sequence[Cell]) -> list[Evaluation]:
        """Energy, forces and stress of each cell.

        Raises:
            UnfitPotential: The calculator has no forces or no stress.
        """
        return [self._evaluate(cell) for cell in cells]

    def _evaluate(self, cell: Cell) -> Evaluation:
        from ase import Atoms
        from ase.calculators.calculator import PropertyNotImplementedError

        atoms = Atoms(cell.elements, cell=cell.lattice, scaled_positions=cell.fractional, pbc=True)
        atoms.calc = self._calculator
        try:
            return Evaluation(
                float(atoms.get_potential_energy()),
                np.array(atoms.get_forces(), dtype=np.float64),
                np.array(atoms.get_stress(voigt=False), dtype=np.float64),
            )
        except PropertyNotImplementedError as error:
            raise UnfitPotential(
                f"relaxation.potential: '{self._name}' must give energy, forces and stress ({error}); choose another"
            ) from error


def _imported(name: str) -> Callable:
    module, _, attribute = name.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"relaxation.potential: '{name}' cannot be imported ({error}); install its package into this environment, "
            "or mend the name: 'module:callable'"
        ) from error
