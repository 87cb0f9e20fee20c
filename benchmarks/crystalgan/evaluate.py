"""What generated crystals are worth before any energy is asked: three elements, the distance rule, contacts, copies."""

from collections.abc import Sequence

import numpy as np

from pipeline.cells import Cell, distance_matrix
from pipeline.composition import ATOMIC_NUMBERS
from pipeline.generators.crystalgan.geometry import obeys
from pipeline.structures.volume import covalent_radii, too_close

GATE = 0.7  # of the sum of covalent radii: `structures.build.min_distance_factor` of the default config


def measure(cells: Sequence[Cell], symbols: Sequence[str]) -> dict[str, int]:
    """Count what the outputs of a method are.

    Args:
        cells: Outputs; those that are no crystal at all are left out already.
        symbols: Metal A, metal B and the anion.

    Returns:
        ``ternary``: of exactly these three elements; ``obey``: of those, keep the distance rule; ``distinct``: of those
        that obey, different crystals; ``in_contact``: ternaries with an anion and a metal nearer than ``GATE`` times
        their covalent radii; ``gate``: ternaries without any pair as near; ``in_contact_after_gate``: of those,
        ternaries with such a contact; ``distinct_after_gate``: different crystals that obey and pass the gate.
    """
    anion = ATOMIC_NUMBERS[symbols[-1]]
    ternary = ternaries(cells, symbols)
    obeying = [cell for cell in ternary if obeys(cell, anion)]
    passing = [cell for cell in ternary if not too_close(cell, GATE)]
    return {
        "ternary": len(ternary),
        "obey": len(obeying),
        "distinct": n_distinct(obeying),
        "in_contact": sum(anion_contacts(cell, anion, GATE) > 0 for cell in ternary),
        "gate": len(passing),
        "in_contact_after_gate": sum(anion_contacts(cell, anion, GATE) > 0 for cell in passing),
        "distinct_after_gate": n_distinct([cell for cell in obeying if not too_close(cell, GATE)]),
    }


def groups(cells: Sequence[Cell]) -> list[list[int]]:
    """Positions of equal crystals together, by pymatgen's ``StructureMatcher`` at its defaults; size does not count."""
    from pymatgen.core.structure_matcher import StructureMatcher

    structures = [cell.to_structure() for cell in cells]
    for place, structure in enumerate(structures):
        structure.properties["place"] = place
    found = StructureMatcher().group_structures(structures)
    return sorted(sorted(structure.properties["place"] for structure in group) for group in found)


def n_distinct(cells: Sequence[Cell]) -> int:
    """Number of different crystals; see :func:`groups`."""
    return len(groups(cells)) if cells else 0


def anion_contacts(cell: Cell, anion: int, factor: float) -> int:
    """Pairs of an anion and a metal nearer than ``factor`` times the sum of their covalent radii."""
    radii = covalent_radii()[cell.elements]
    limits = factor * (radii[:, None] + radii)
    is_anion = cell.elements == anion
    close = (distance_matrix(cell, within=limits.max()) < limits) & is_anion[:, None] & ~is_anion
    return int(close.sum())


def ternaries(cells: Sequence[Cell], symbols: Sequence[str]) -> list[Cell]:
    """Those of the cells that hold just these elements."""
    wanted = {ATOMIC_NUMBERS[symbol] for symbol in symbols}
    return [cell for cell in cells if set(cell.elements.tolist()) == wanted]


def of_pair(cells: Sequence[Cell], symbols: Sequence[str]) -> list[Cell]:
    """Those of the cells that hold no other elements than these."""
    allowed = [ATOMIC_NUMBERS[symbol] for symbol in symbols]
    return [cell for cell in cells if np.isin(cell.elements, allowed).all()]
