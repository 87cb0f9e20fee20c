"""Whether a crystal looks like one: bond valences, packing, distances."""

import numpy as np

from pipeline.cells import Cell, distance_matrix
from pipeline.structures.volume import covalent_radii

_CUTOFF_ANGSTROM = 4.5  # a bond this long has less than 0.01 valence units for all but the heaviest pairs


def minimum_distance_ratio(cell: Cell) -> float:
    """Shortest distance between two sites in units of the sum of their covalent radii."""
    radii = covalent_radii()[cell.elements]
    sums = radii[:, None] + radii
    return float((distance_matrix(cell, within=sums.max()) / sums).min())


def packing(cell: Cell) -> float:
    """Volume of spheres of the covalent radii over that of the cell; above 1 where bonds overlap much."""
    return float(4 / 3 * np.pi * (covalent_radii()[cell.elements] ** 3).sum() / cell.volume)


def density_g_per_cm3(cell: Cell) -> float:
    """Mass over volume."""
    from ase.data import atomic_masses
    from ase.units import _amu

    return float(atomic_masses[cell.elements].sum() * _amu * 1e3 / (cell.volume * 1e-24))


def global_instability_index(cell: Cell, states: dict[int, int]) -> float | None:
    """Root mean square over the sites of bond valence sum less oxidation state, in valence units.

    Salinas-Sanchez et al., J. Solid State Chem. 100, 201 (1992), doi:10.1016/0022-4596(92)90094-C, with the parameters
    of O'Keeffe and Brese (1991, doi:10.1021/ja00009a002) as pymatgen has them. Stable oxides have below 0.2, strained
    ones more; bonds that are not ionic give large values without meaning.

    Args:
        cell: The crystal.
        states: Oxidation state of each element.

    Returns:
        None where an element has no parameters, or where no two elements differ in sign.
    """
    from pymatgen.analysis.bond_valence import BV_PARAMS, calculate_bv_sum

    structure = cell.to_structure()
    signs = {np.sign(state) for state in states.values()}
    if not signs >= {-1, 1} or not all(element in BV_PARAMS for element in structure.composition):
        return None
    neighbours = structure.get_all_neighbors(_CUTOFF_ANGSTROM)
    apart = [
        calculate_bv_sum(site, [other for other in near if states[other.specie.Z] * states[site.specie.Z] < 0])
        - states[site.specie.Z]
        for site, near in zip(structure, neighbours, strict=True)
    ]
    return float(np.sqrt(np.mean(np.square(apart))))
