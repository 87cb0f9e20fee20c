"""Decomposition energies are pymatgen's phase separation energies, and those that Bartel et al. published."""

import numpy as np
import pandas as pd
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram

from pipeline.composition import SYMBOLS, Compositions
from pipeline.hull import decomposition_energies


def test_by_hand():
    """FeO at -2 lies 1 below the line from Fe to Fe2O3; Fe3O lies above the line from Fe to FeO; LiF has no others."""
    compositions = Compositions.from_formulas(["FeO", "Fe2O3", "Fe3O", "LiF"])
    energies = np.array([-2.0, -1.2, -0.1, -3.0])
    found = decomposition_energies(compositions, energies)
    # Without FeO, its composition is 5/6 Fe2O3 (O fraction 0.6) and 1/6 Fe; Fe2O3 without itself is FeO and O (4:1).
    assert found == pytest.approx([-2 + 1.2 * 5 / 6, -1.2 + 2 * 0.8, -0.1 + 2 * 0.5, -3.0])


def test_equal_to_pymatgen():
    random = np.random.default_rng(1)
    counts = random.integers(0, 4, (60, 4))
    compositions = Compositions.from_dense(counts[(counts > 0).sum(axis=1) > 1], [3, 8, 26, 15]).reduced()
    compositions = compositions.take(compositions.unique()[0])
    energies = random.normal(-1, 0.4, len(compositions))
    found = decomposition_energies(compositions, energies)
    for row in range(len(compositions)):
        pairs = slice(compositions.offsets[row], compositions.offsets[row + 1])
        within = set(compositions.elements[pairs].tolist())
        entries = [PDEntry(SYMBOLS[z - 1], 0.0) for z in within]
        for each in range(len(compositions)):
            own = slice(compositions.offsets[each], compositions.offsets[each + 1])
            amounts = dict(zip(compositions.elements[own].tolist(), compositions.counts[own].tolist(), strict=True))
            if amounts.keys() <= within:
                symbols = {SYMBOLS[z - 1]: n for z, n in amounts.items()}
                entries.append(PDEntry(symbols, energies[each] * sum(amounts.values()), attribute=each))
        entry = next(one for one in entries if one.attribute == row)
        theirs = PhaseDiagram(entries).get_phase_separation_energy(entry, stable_only=False)
        assert found[row] == pytest.approx(theirs, abs=1e-9)


def test_equal_to_the_published_ones(data):
    """The published ones have references that this table lacks, a tenth of the formulas: most agree none the less."""
    frame = pd.read_csv(data / "mp" / "decomposition_energy.csv.gz")
    frame = frame[frame["formula"].str.contains(r"O\d") & frame["formula"].str.contains(r"^(?:Li|Fe|P|O|\d)+$")]
    compositions = Compositions.from_formulas(frame["formula"]).reduced()
    found = decomposition_energies(compositions, frame["formation_energy_per_atom"].to_numpy())
    difference = np.abs(found - frame["decomposition_energy_per_atom"].to_numpy())
    assert len(frame) > 50
    assert np.median(difference) < 1e-9
    assert (difference < 1e-3).mean() > 0.6
