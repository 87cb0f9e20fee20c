"""Real crystals written as CIFs by pymatgen, in P1 and with their symmetry: what we and pymatgen read in them.

Where they differ, the crystal that was written decides.
"""

import gzip
import json
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pipeline.cells import Cell, minimum_distance
from pipeline.database.crystals import OVERLAP_ANGSTROM
from pipeline.database.structure_files import read_file

STRUCTURES = 2_000
OF = 139_448
TOLERANCE_ANGSTROM = 1e-3
ROUNDING = 1e-4  # pymatgen makes 1/3 of 0.3334, and so on; we only where symmetry says so


def written(data: Path) -> Iterator[tuple[str, str, str, Cell]]:
    """(id, way of writing, CIF, the crystal) of every 69th structure of the Materials Project."""
    from pymatgen.core import Lattice, Structure
    from pymatgen.io.cif import CifWriter

    with gzip.open(data / "mp" / "mp_structures.jsonl.gz", "rt") as lines:
        for place, line in enumerate(lines):
            if place % (OF // STRUCTURES) == 0:
                record = json.loads(line)
                structure = Structure(Lattice.from_parameters(*record["cell"]), record["el"], record["frac"])
                for way, symprec in (("P1", None), ("symmetrised", 0.01)):
                    yield record["id"], way, str(CifWriter(structure, symprec=symprec)), Cell.from_structure(structure)


def distance(one: Cell, other: Cell) -> float:
    """Largest distance between sites that belong together, in angstrom; infinite where cells or sites do not."""
    if not np.array_equal(np.sort(one.elements), np.sort(other.elements)):
        return np.inf
    gram = one.lattice @ one.lattice.T
    if not np.allclose(gram, other.lattice @ other.lattice.T, atol=1e-6 * gram.max()):
        return np.inf
    largest = 0.0
    for z in np.unique(one.elements):
        shifts = one.fractional[one.elements == z][:, None] - other.fractional[other.elements == z][None]
        distances = np.linalg.norm((shifts - np.rint(shifts)) @ one.lattice, axis=2)
        if len(np.unique(distances.argmin(axis=1))) < len(distances):
            return np.inf
        largest = max(largest, distances.min(axis=1).max())
    return largest


def shares(cell: Cell) -> dict[int, float]:
    return {z: count / len(cell.elements) for z, count in Counter(cell.elements.tolist()).items()}


@pytest.mark.slow
def test_cifs_of_real_structures(data):
    from pymatgen.core import Structure

    outcomes, largest = Counter(), 0.0
    for name, way, text, crystal in written(data):
        [(_, ours)] = read_file("cif", text.encode())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = Cell.from_structure(Structure.from_str(text, fmt="cif"))
        if isinstance(ours, str):  # spglib found translations like 1/362, of no space group
            assert way == "symmetrised" and "Wrong denominator" in ours, (name, ours)
            outcomes[way, "no space group"] += 1
            continue
        gap = distance(ours, theirs)
        if gap < TOLERANCE_ANGSTROM:
            outcomes[way, "same"] += 1
            largest = max(largest, gap)
        elif gap < ROUNDING * np.linalg.norm(ours.lattice, axis=1).sum():
            assert way != "P1" or distance(ours, crystal) < TOLERANCE_ANGSTROM, name
            outcomes[way, "pymatgen rounds coordinates"] += 1
        else:  # pymatgen keeps apart two images of a site that its coordinates put just off a symmetry element
            assert shares(ours) == pytest.approx(shares(crystal)), (name, way)
            assert ours.volume / len(ours.elements) == pytest.approx(crystal.volume / len(crystal.elements), rel=0.01)
            assert minimum_distance(theirs) < OVERLAP_ANGSTROM <= minimum_distance(ours), (name, way)
            outcomes[way, "pymatgen doubles atoms"] += 1
    print(dict(outcomes), f"largest distance {largest:.1e} angstrom")
    for way in ("P1", "symmetrised"):
        assert sum(n for (other, _), n in outcomes.items() if other == way) > STRUCTURES
        assert outcomes[way, "same"] > 0.995 * STRUCTURES
    assert outcomes["symmetrised", "no space group"] <= 0.002 * STRUCTURES


@pytest.mark.parametrize(
    "space_group", ["F d -3 m Z", "I 41/a m d Z", "P n -3 n Z", "R -3 c H", "P 4/n S", "C 1 2/c 1"]
)
def test_names_of_space_groups_are_those_of_pymatgen(space_group):
    """Operations by name, of which pymatgen has its own table: a general site and its images."""
    from pymatgen.symmetry.groups import SpaceGroup

    from pipeline.database.symmetry_operations import group, settings

    name = {"Z": space_group[:-2] + " :2", "S": space_group[:-2] + " :1", "H": space_group[:-2] + " :H"}
    theirs = SpaceGroup(name.get(space_group[-1], space_group).replace(" ", "").replace("C12/c1", "C2/c"))
    [operations] = settings(space_group, 0)
    site = np.array([0.12, 0.235, 0.371])
    ours = group(operations).orbits(10 * np.eye(3), site[None])[0]
    expected = np.array(theirs.get_orbit(site)) % 1
    assert len(ours) == len(expected) == len(operations)
    assert np.allclose(sorted(ours.round(6).tolist()), sorted(expected.round(6).tolist()))
