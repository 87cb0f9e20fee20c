"""How alike two elements are on the sites of a crystal.

The coordinates are those of the classical structure maps: electronegativity, size and charge. A size is the Shannon
radius of the ion (Acta Cryst. A32, 751 (1976), doi:10.1107/S0567739476001551; pymatgen's average over coordinations)
where both elements of a pair have one, else the covalent radius of both.

Legend of suffixes: T templates, E elements of a formula, F coordinates of an element.
"""

import warnings
from functools import cache

import numpy as np

from pipeline.structures.volume import covalent_radii

# Differences that count as one unit of unlikeness: our assumption. It matters little: seven other choices (0.3 to 1.0;
# 0.15 to 0.5; 1.0 to no charge at all) moved the share of 250 known crystals that got their own prototype from 58.4 %
# to between 57.6 and 60.0 %.
ELECTRONEGATIVITY_UNIT = 0.5  # Pauling
SIZE_UNIT = 0.25  # natural logarithm of the radius
CHARGE_UNIT = 2.0  # oxidation state


@cache
def _element(z: int, state: int | None) -> tuple[float, float, float, float]:
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no electronegativity for He, Ne and Ar
        element = Element.from_Z(z)
        electronegativity = element.X
    ionic = np.nan if state is None else float(element.ionic_radii.get(state, np.nan))
    return (
        0.0 if np.isnan(electronegativity) else electronegativity,
        np.log(covalent_radii()[z]),
        np.log(ionic),
        np.nan if state is None else float(state),
    )


def coordinates(elements: list[int], states: list[int] | None) -> np.ndarray:
    """Coordinates of elements, float64 of shape (E, F).

    Args:
        elements: Atomic numbers.
        states: Oxidation states, None where unknown.

    Returns:
        Electronegativity, logarithms of covalent and ionic radius, oxidation state; NaN for what is not known.
    """
    states = [None] * len(elements) if states is None else states
    return np.array([_element(int(z), state) for z, state in zip(elements, states, strict=True)])


def unlikeness(templates_TEF: np.ndarray, formula_EF: np.ndarray) -> np.ndarray:
    """Unlikeness of each element of each template to each element of a formula.

    Returns:
        float64 array of shape (T, E, E), from 0 upwards: Euclidean over the coordinates in their units. Charges count
        where both are known.
    """
    difference = templates_TEF[:, :, None, :] - formula_EF[None, None]
    electronegativity, covalent, ionic, charge = np.moveaxis(difference, -1, 0)
    size = np.where(np.isnan(ionic), covalent, ionic)
    return np.sqrt(
        (electronegativity / ELECTRONEGATIVITY_UNIT) ** 2
        + (size / SIZE_UNIT) ** 2
        + (np.nan_to_num(charge) / CHARGE_UNIT) ** 2
    )
