"""What elements bring into a compound: radioactivity, toxicity, and how few countries they come from.

Suffixes: N formulas, M element-count pairs of all of them together.
"""

from collections.abc import Iterable
from functools import cache

import numpy as np
import pyarrow as pa

from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, Compositions
from pipeline.tables import column

RADIOACTIVE = frozenset({"Tc", "Pm", *SYMBOLS[ATOMIC_NUMBERS["Po"] - 1 :]})
"""Elements without a stable isotope (IUPAC 2021, doi:10.1515/pac-2019-0603). Thorium, protactinium and uranium are
among them, though the Earth still has them: whoever works with them needs a licence. Bismuth is not: its half-life of
2e19 years (de Marcillac et al. 2003, doi:10.1038/nature01541) is a billion times the age of the universe."""

TOXIC = {
    "Be": "carcinogenic with all its compounds (IARC Monographs 100C, 2012, group 1)",
    "As": "carcinogenic with its inorganic compounds (IARC Monographs 100C, 2012, group 1)",
    "Cd": "carcinogenic with all its compounds (IARC Monographs 100C, 2012, group 1), restricted by RoHS",
    "Hg": "restricted in electronics (RoHS, Directive 2011/65/EU, Annex II)",
    "Tl": "fatal if swallowed or inhaled, all compounds (Regulation (EC) 1272/2008, Annex VI, 081-002-00-9)",
    "Pb": "restricted in electronics (RoHS, Directive 2011/65/EU, Annex II)",
}
"""Elements whose compounds are toxic whatever they look like, each with the rule that says so. Elements that are toxic
in some of their forms only (hexavalent chromium, nickel dust) are not among them."""

_NO_INDEX = "an element has none"
SUPPLY_COLUMNS = (
    column(
        "hhi_production",
        pa.float64(),
        "Herfindahl-Hirschman index of the elements' production, mean by mass: 0 many countries to 10,000 one alone",
        null=_NO_INDEX,
    ),
    column("hhi_reserve", pa.float64(), "the same of the elements' reserves", null=_NO_INDEX),
)


def contains(compositions: Compositions, symbols: Iterable[str]) -> np.ndarray:
    """Which compositions hold one of the elements at least, bool of shape (N,)."""
    found = np.zeros(len(compositions), dtype=bool)
    found[compositions.rows[np.isin(compositions.elements, [ATOMIC_NUMBERS[symbol] for symbol in symbols])]] = True
    return found


def herfindahl_hirschman(compositions: Compositions) -> tuple[np.ndarray, np.ndarray]:
    """How concentrated the supply of the elements is, as Gaultois et al. 2013 (doi:10.1021/cm400893e) have it.

    The index of an element is the sum of the squared market shares of countries, in percent: 0 to 10,000, above 2,500
    highly concentrated. That of a compound is the mean over its elements, weighted by their mass. Hydrogen has none and
    is left out of the mean: it is made of water anywhere. Element data are those of smact.

    Returns:
        By production and by reserves, float64 of shape (N,); NaN where an element other than hydrogen has no index
        (noble gases, elements without a stable isotope), or there is no other element.
    """
    mass, production, reserve = _indices()
    weight_M = compositions.counts * mass[compositions.elements]
    rows, n = compositions.rows, len(compositions)
    total = np.bincount(rows, weight_M, minlength=n)
    with np.errstate(invalid="ignore"):
        by_production, by_reserve = (
            np.bincount(rows, weight_M * index[compositions.elements], minlength=n) / total
            for index in (production, reserve)
        )
    return by_production, by_reserve


@cache
def _indices() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mass and the two indices by atomic number, NaN where there is none; hydrogen weighs nothing."""
    from smact.data_loader import lookup_element_data, lookup_element_hhis

    mass, production, reserve = np.full((3, len(SYMBOLS) + 1), np.nan)
    for z, symbol in enumerate(SYMBOLS, start=1):
        known = lookup_element_data(symbol)
        hhis = lookup_element_hhis(symbol)
        if known and hhis:
            mass[z], production[z], reserve[z] = known["Mass"], *hhis
    mass[1] = production[1] = reserve[1] = 0.0
    return mass, production, reserve
