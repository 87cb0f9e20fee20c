"""How large a cell is made and how close its atoms may stand."""

import numpy as np

from pipeline.cells import Cell, distance_matrix

DLS, DLS_BOUNDED, COVALENT_RADII = "dls", "dls_bounded", "covalent_radii"
# Data-mined scaling is held within this factor of the covalent-radii volume, as its authors advise for it in general
# (pymatgen DLSVolumePredictor, min_scaling and max_scaling).
_LEAST, _MOST = 0.5, 1.5


def covalent_radii() -> np.ndarray:
    """Covalent radius by atomic number in angstrom, float64; 2.0 where none was measured.

    Cordero et al., Dalton Trans. 2832 (2008), doi:10.1039/B801115J, as ASE ships them (hydrogen to curium).
    """
    from ase.data import covalent_radii, missing

    return np.where(covalent_radii == missing, 2.0, covalent_radii)


def predicted_volume(cell: Cell, template: Cell) -> tuple[float, str]:
    """Volume of a template's cell whose elements were exchanged.

    The geometric mean of two estimates, each the template's own volume times a ratio: of the cubed mean covalent
    radii, and of the volumes that pymatgen's ``DLSVolumePredictor`` (data-mined lattice scaling: the shortest bond gets
    its expected length) finds for the new elements and for the template's.

    Args:
        cell: The template's sites with the new elements; its own volume does not matter.
        template: The same sites with the template's elements, at the template's volume.

    Returns:
        Volume in cubic angstrom and its method: ``dls``; ``dls_bounded``, with the data-mined estimate held within 0.5
        and 1.5 times the other; ``covalent_radii``, the first estimate alone, for elements without mined bonds.
    """
    radii = covalent_radii()
    by_radii = template.volume * (radii[cell.elements].sum() / radii[template.elements].sum()) ** 3
    old, new = _mined_volume(template), _mined_volume(cell.scaled(by_radii))
    if old is None or new is None:
        return by_radii, COVALENT_RADII
    mined = template.volume * new / old
    bounded = min(max(mined, _LEAST * by_radii), _MOST * by_radii)
    return float(np.sqrt(by_radii * bounded)), DLS if bounded == mined else DLS_BOUNDED


def _mined_volume(cell: Cell) -> float | None:
    from pymatgen.core.structure_prediction.volume_predictor import DLSVolumePredictor, bond_params

    structure = cell.to_structure()
    if not all(element.symbol in bond_params for element in structure.composition):
        return None
    try:
        return float(DLSVolumePredictor(min_scaling=None, max_scaling=None).predict(structure))
    except ValueError:  # no neighbours within its cutoff
        return None


def too_close(cell: Cell, factor: float) -> bool:
    """Whether two atoms stand nearer than ``factor`` times the sum of their covalent radii."""
    radii = covalent_radii()[cell.elements]
    limits = factor * (radii[:, None] + radii)
    return bool((distance_matrix(cell, within=limits.max()) < limits).any())
