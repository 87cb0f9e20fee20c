"""Symmetric random crystals of a formula (PyXtal), for formulas that no template fits.

Fredericks et al., Comput. Phys. Commun. 261, 107810 (2021), doi:10.1016/j.cpc.2020.107810.
"""

import warnings
from collections.abc import Sequence

import numpy as np

from pipeline.cells import Cell
from pipeline.composition import SYMBOLS
from pipeline.provenance import derived_seed
from pipeline.structures.schema import BuildSettings
from pipeline.structures.symmetry import primitive
from pipeline.structures.volume import too_close

_ATTEMPTS = 20  # space groups tried for each crystal wanted
_SYMPREC_ANGSTROM = 0.01


def random_crystals(elements: Sequence[int], counts: Sequence[int], settings: BuildSettings, seed: int) -> list[Cell]:
    """Primitive cells in random space groups, their volume PyXtal's estimate from the atoms' radii.

    Args:
        elements: Atomic numbers of the formula.
        counts: Reduced counts.
        settings: How many (``n_random``), how large, how near atoms may stand.
        seed: Same seed, same crystals of a formula.

    Returns:
        At most ``settings.n_random``; fewer where the draws do not succeed.
    """
    if settings.n_random == 0:
        return []
    from pyxtal import pyxtal
    from pyxtal.msg import Comp_CompatibilityError, Symm_CompatibilityError, VolumeError

    most = settings.max_random_sites // sum(counts)
    symbols = [SYMBOLS[z - 1] for z in elements]
    random = np.random.default_rng(derived_seed(seed, "random_crystals", *symbols, *map(int, counts)))
    cells: list[Cell] = []
    for _ in range(_ATTEMPTS * settings.n_random if most else 0):
        if len(cells) == settings.n_random:
            break
        drawn, space_group, z = pyxtal(), int(random.integers(2, 231)), int(random.integers(1, most + 1))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                drawn.from_random(
                    3, space_group, symbols, [z * int(n) for n in counts], random_state=int(random.integers(2**31))
                )
        except (Comp_CompatibilityError, Symm_CompatibilityError, VolumeError):
            continue  # no Wyckoff positions of that group hold so many atoms, or no room for them
        except TypeError:
            break  # PyXtal has no radius of an element, berkelium for one
        cell = primitive(Cell.from_structure(drawn.to_pymatgen()), _SYMPREC_ANGSTROM) if drawn.valid else None
        if cell is not None and not too_close(cell, settings.min_distance_factor):
            cells.append(cell)
    return cells
