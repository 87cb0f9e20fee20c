"""The evaluation of generated ternaries against numbers that can be done in the head."""

import numpy as np
import pytest

from benchmarks.crystalgan.beyond import distinct_crystals
from benchmarks.crystalgan.evaluate import anion_contacts, groups, measure, n_distinct
from benchmarks.crystalgan.hull import Hull, references
from benchmarks.crystalgan.page import _markdown, _mean
from pipeline.cells import Cell
from pipeline.structures.relax import Relaxed

H, MG, TI, NI, PD = 1, 12, 22, 28, 46
SYMBOLS = ("Pd", "Ni", "H")


def cubic(edge: float, elements: list[int], fractional: list) -> Cell:
    return Cell(np.eye(3) * edge, np.array(elements, np.uint8), np.array(fractional, dtype=float).reshape(-1, 3))


def atom(element: int) -> Cell:
    return cubic(3.0, [element], [0, 0, 0])


def layered(a: int = PD, b: int = NI, edge: float = 2.8) -> Cell:
    """A simple cubic lattice of layers of two metals, hydrogen in the middle: H-H and metal-metal are ``edge``."""
    return Cell(
        np.diag([edge, edge, 2 * edge]),
        np.array([a, b, H, H], np.uint8),
        np.array([[0, 0, 0], [0, 0, 0.5], [0.5, 0.5, 0.25], [0.5, 0.5, 0.75]]),
    )


def relaxed(cell: Cell, energy: float) -> Relaxed:
    return Relaxed(cell, energy, 1.0, 3, 0.05, 0.1, True, None, None)


@pytest.fixture
def hull() -> Hull:
    # PdH, of -1 eV/atom against elements at 0, is the only compound: halfway on its way to Ni lies PdNiH.
    pdh = cubic(4.0, [PD, H], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return Hull(SYMBOLS, [atom(PD), atom(NI), atom(H), pdh], [0.0, 0.0, 0.0, -1.0])


class TestHull:
    def test_a_ternary_between_a_compound_and_an_element(self, hull):
        pdnih = cubic(4.0, [PD, NI, H], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5]])
        # PdNiH = PdH + Ni: 2 of its 3 atoms stand at -1 eV, so that the hull lies at -2/3 eV/atom.
        assert hull.distance(pdnih, -2 / 3 + 0.1) == pytest.approx(0.1)
        assert hull.distance(pdnih, -1.0) == pytest.approx(-1 / 3)

    def test_the_hull_of_an_element_is_its_lowest_crystal(self, hull):
        assert hull.distance(atom(NI), 0.25) == pytest.approx(0.25)

    def test_a_system_without_one_of_its_elements_has_no_hull(self):
        with pytest.raises(ValueError, match="hull of Pd-Ni-H: no reference energy of Ni, H"):
            Hull(SYMBOLS, [atom(PD)], [0.0])

    def test_an_element_without_a_known_crystal_gets_its_ground_state(self):
        cells, added = references(("Mg", "Ti", "H"), [atom(TI), atom(H)])
        assert added == ["Mg"]
        magnesium = cells[-1]
        assert magnesium.elements.tolist() == [MG, MG]  # hcp, a = 3.21 angstrom, c = 1.624 a
        assert magnesium.volume == pytest.approx(3.21**3 * 1.624 * np.sqrt(3) / 2)

    def test_hydrogen_has_no_metal_lattice_to_fall_back_on(self):
        cells, added = references(("Mg", "H"), [atom(MG)])
        assert (len(cells), added) == (1, [])

    def test_references_are_primitive(self):
        fcc = cubic(3.9, [PD] * 4, [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
        cells, _ = references(("Pd",), [fcc])
        assert len(cells[0].elements) == 1


class TestMeasures:
    def test_a_lattice_within_the_window_obeys_and_a_larger_one_does_not(self):
        counts = measure([layered(edge=2.8), layered(edge=3.1)], SYMBOLS)
        assert (counts["ternary"], counts["obey"]) == (2, 1)

    def test_an_output_of_other_elements_is_no_ternary(self):
        counts = measure([layered(PD, PD), layered(MG, TI), layered()], SYMBOLS)
        assert (counts["ternary"], counts["obey"], counts["gate"]) == (1, 1, 1)

    def test_the_papers_contact_is_counted_and_does_not_pass_the_gate(self):
        # H-Pd at 0.81 angstrom; the radii are 0.31 and 1.39, and 0.7 times their sum is 1.19 angstrom.
        example = cubic(5.0, [PD, NI, H], [[0, 0, 0], [0.5, 0.5, 0.5], [0.81 / 5, 0, 0]])
        assert anion_contacts(example, H, 0.7) == 1
        assert anion_contacts(example, H, 0.47) == 0
        counts = measure([example, layered()], SYMBOLS)
        assert (counts["in_contact"], counts["gate"], counts["in_contact_after_gate"]) == (1, 1, 0)

    def test_near_metals_are_no_contact_of_the_anion_but_fail_the_gate(self):
        near = cubic(5.0, [PD, NI, H], [[0, 0, 0], [0.3, 0, 0], [0.5, 0.5, 0.5]])
        counts = measure([near], SYMBOLS)
        assert (counts["in_contact"], counts["gate"], counts["distinct_after_gate"]) == (0, 0, 0)

    def test_equal_crystals_count_once(self):
        one = layered()
        shifted = Cell(one.lattice, one.elements, one.fractional + np.array([0.1, 0.2, 0.3]))
        larger = layered(edge=2.9)
        doubled = Cell(
            one.lattice * [[2], [1], [1]],
            np.tile(one.elements, 2),
            np.concatenate([one.fractional / [2, 1, 1], one.fractional / [2, 1, 1] + np.array([0.5, 0, 0])]),
        )
        other = Cell(one.lattice, one.elements[[0, 2, 1, 3]], one.fractional)  # Pd over H, Ni over H
        assert groups([one, other, shifted, larger, doubled]) == [[0, 2, 3, 4], [1]]
        assert n_distinct([one, layered(NI, PD)]) == 1  # layers may start with either metal
        assert n_distinct([one, layered(MG, TI)]) == 2
        assert n_distinct([]) == 0


def test_of_equal_crystals_the_lowest_stands_for_all_and_the_nearest_to_the_hull_comes_first(hull):
    other = cubic(4.0, [PD, NI, H], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0.5, 0.5]])
    results = [relaxed(layered(), -0.6), relaxed(other, -0.9), relaxed(layered(edge=2.9), -0.7)]
    found = distinct_crystals(results, hull, lambda cell: "mp-1" if len(cell.elements) == 3 else None)
    assert [crystal.formula for crystal in found] == ["NiHPd", "NiH2Pd"]
    # -0.9 + 2/3 below the hull; PdNiH2 = PdH + Ni + H: 2 of 4 atoms at -1 eV, -0.7 + 0.5
    assert [crystal.hull_distance_ev_per_atom for crystal in found] == pytest.approx([-0.9 + 2 / 3, -0.2])
    assert [crystal.known_id for crystal in found] == ["mp-1", None]


def test_tables_say_mean_and_each_seed():
    assert _mean([{"obey": 9}, {"obey": 8}, {"obey": 11}], "obey") == "9.3 (9, 8, 11)"
    assert _markdown(("a", "b"), [(1, 2)]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"
