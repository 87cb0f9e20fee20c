"""The public tables that the tasks read: labelled formulas, and Matbench's with its rows as they stand."""

from dataclasses import dataclass
from fractions import Fraction
from math import lcm
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.composition import MAX_COUNT, Compositions
from pipeline.provenance import file_digest
from pipeline.screening.labelled import Labelled, read_table

OQMD_TABLE, MP_TABLE, DECOMPOSITION_TABLE = "oqmd/oqmd.csv.gz", "mp/mp.csv.gz", "mp/decomposition_energy.csv.gz"
SIGMA = 5
LARGEST_DENOMINATOR = 1000


@dataclass(frozen=True)
class Rows:
    """A table of Matbench in its own order; formulas may repeat.

    Attributes:
        compositions: N reduced compositions.
        targets: float64 of shape (N,).
    """

    compositions: Compositions
    targets: np.ndarray


def find(data: Path, name: str) -> Path:
    """A table's path.

    Raises:
        ValueError: It is not there.
    """
    path = data / name
    if not path.is_file():
        raise ValueError(f"{path}: no such file; --data names a folder that holds {name}")
    return path


def digest(data: Path, *names: str) -> dict[str, str]:
    """SHA-256 of tables, by name."""
    return {name: file_digest(find(data, name)) for name in names}


def oqmd_formation_energies(data: Path) -> Labelled:
    """OQMD formation energies (eV/atom); failed calculations, outside mean +- 5 standard deviations, left out."""
    path = find(data, OQMD_TABLE)
    return read_table(path, value="formation_energy_per_atom").within(SIGMA)


def decomposition_energies(data: Path) -> tuple[Labelled, np.ndarray]:
    """Decomposition energies of Materials Project's compounds, and their formation energies, both in eV/atom."""
    path = find(data, DECOMPOSITION_TABLE)
    rows = read_table(path, value="decomposition_energy_per_atom")
    formation = read_table(path, value="formation_energy_per_atom")
    assert (rows.ids == formation.ids).all(), f"{path}: rows with one energy only"
    return rows, formation.values


def matbench(data: Path, name: str) -> Rows:
    """A table of Matbench; amounts such as 0.5 or 1.75 become whole numbers."""
    frame = pd.read_csv(find(data, f"matbench/{name}.csv.gz"), keep_default_na=False)
    compositions = Compositions.from_dicts(whole_amounts(formula) for formula in frame["formula"])
    return Rows(compositions.reduced(), frame["target"].to_numpy(dtype=np.float64))


def whole_amounts(formula: str) -> dict[int, int]:
    """{atomic number: atoms} of a formula with fractional amounts, multiplied to whole numbers.

    Amounts are taken as fractions of a denominator up to 1000; where the whole numbers get too large, up to 100, 50...
    """
    from pymatgen.core import Composition

    amounts: dict[int, float] = {}
    for element, amount in Composition(formula).items():  # deuterium counts as hydrogen
        amounts[element.Z] = amounts.get(element.Z, 0) + amount
    for denominator in (LARGEST_DENOMINATOR, 100, 50, 20, 10):
        fractions = {z: Fraction(amount).limit_denominator(denominator) for z, amount in amounts.items()}
        times = lcm(*(fraction.denominator for fraction in fractions.values()))
        whole = {z: int(fraction * times) for z, fraction in fractions.items()}
        if min(whole.values()) > 0 and max(whole.values()) <= MAX_COUNT:
            return whole
    raise ValueError(f"formula {formula!r}: amounts cannot be written as whole numbers up to {MAX_COUNT}")
