"""Magpie features of whole batches of compositions (Ward et al. 2016, doi:10.1038/npjcompumats.2016.28).

The element properties are matminer's tables, read from the installed package without importing it; the values equal
those of matminer's ``ElementProperty.from_preset("magpie")``.

Suffixes: N compositions, M element-count pairs, P properties, F features.
"""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from pipeline.composition import SYMBOLS, Compositions

PROPERTIES = tuple(
    """Number MendeleevNumber AtomicWeight MeltingT Column Row CovalentRadius Electronegativity NsValence NpValence
    NdValence NfValence NValence NsUnfilled NpUnfilled NdUnfilled NfUnfilled NUnfilled GSvolume_pa GSbandgap GSmagmom
    SpaceGroupNumber""".split()
)
STATISTICS = ("minimum", "maximum", "range", "mean", "avg_dev", "mode")
FEATURE_NAMES = tuple(f"MagpieData {statistic} {name}" for name in PROPERTIES for statistic in STATISTICS)

BLOCK = 1 << 15
DECIMALS = 10  # so that no tree splits the last bits of a sum, which differ from machine to machine


def magpie(compositions: Compositions) -> np.ndarray:
    """The 132 Magpie features.

    Args:
        compositions: N compositions; amounts need not be reduced.

    Returns:
        float64 array of shape (N, 132), columns as ``FEATURE_NAMES``: of each element property the minimum, maximum,
        range, mean by atoms, mean absolute deviation by atoms, and mode (the value of the most abundant element, the
        smallest one if several are), rounded to 10 decimals. NaN for an empty composition.
    """
    features_NF = np.full((len(compositions), len(FEATURE_NAMES)), np.nan)
    filled = np.flatnonzero(compositions.n_elements)
    for start in range(0, len(filled), BLOCK):
        block = filled[start : start + BLOCK]
        features_NF[block] = np.round(_statistics(compositions.take(block)), DECIMALS)
    return features_NF


def _statistics(compositions: Compositions) -> np.ndarray:
    starts, rows = compositions.offsets[:-1], compositions.rows
    values_MP = element_properties()[compositions.elements]
    counts_M = compositions.counts.astype(np.float64)
    weights_M1 = (counts_M / np.add.reduceat(counts_M, starts)[rows])[:, None]
    minimum_NP = np.minimum.reduceat(values_MP, starts)
    maximum_NP = np.maximum.reduceat(values_MP, starts)
    mean_NP = np.add.reduceat(values_MP * weights_M1, starts)
    deviation_NP = np.add.reduceat(np.abs(values_MP - mean_NP[rows]) * weights_M1, starts)
    most_abundant_M = counts_M == np.maximum.reduceat(counts_M, starts)[rows]
    mode_NP = np.minimum.reduceat(np.where(most_abundant_M[:, None], values_MP, np.inf), starts)
    stacked = np.stack(
        [
            minimum_NP,
            maximum_NP,
            maximum_NP - minimum_NP,
            mean_NP,
            deviation_NP,
            mode_NP,
        ],
        axis=2,
    )
    return stacked.reshape(len(compositions), -1)


@cache
def element_properties() -> np.ndarray:
    """Element properties of Magpie, float64 of shape (119, 22), row = atomic number (row 0 is NaN).

    A property that the table lacks for an element is the mean over the elements that have it, as matminer imputes.
    """
    spec = importlib.util.find_spec("matminer")
    if spec is None:
        raise ValueError(
            "Magpie features need the package 'matminer' for its element tables; install requirements.lock"
        )
    folder = Path(spec.origin).parent / "utils" / "data_files" / "magpie_elementdata"
    table = np.full((len(SYMBOLS) + 1, len(PROPERTIES)), np.nan)
    for place, name in enumerate(PROPERTIES):
        values = np.array([_number(line) for line in (folder / f"{name}.table").read_text().splitlines()])
        values = np.concatenate([values, np.full(len(SYMBOLS), np.nan)])[: len(SYMBOLS)]
        table[1:, place] = np.where(np.isnan(values), np.nanmean(values), values)
    return table


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
