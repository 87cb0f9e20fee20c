"""All 132 Magpie features against matminer's ``ElementProperty.from_preset("magpie")``, on real formulas."""

import numpy as np

from benchmarks.compare import compare
from benchmarks.formulas import embedded


def measure(quick: bool) -> dict:
    """One benchmark; see :func:`benchmarks.compare.compare`."""
    from matminer.featurizers.composition import ElementProperty
    from pymatgen.core import Composition

    from pipeline.screening.features import magpie

    compositions = embedded(300 if quick else 3000)
    peers = [Composition(formula) for formula in compositions.formulas().to_pylist()]
    featurizer = ElementProperty.from_preset("magpie", impute_nan=True)
    magpie(compositions.take([0]))
    return compare(
        lambda: magpie(compositions),
        lambda: np.array([featurizer.featurize(peer) for peer in peers]),
        len(peers),
        _difference,
    )


def _difference(ours: np.ndarray, theirs: np.ndarray) -> tuple[int, float]:
    relative = np.abs(ours - theirs) / np.maximum(np.abs(theirs), 1)
    return int((relative > 1e-9).any(axis=1).sum()), float(np.nanmax(relative))
