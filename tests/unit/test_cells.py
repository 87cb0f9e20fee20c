import numpy as np
import pyarrow as pa
import pytest

from pipeline.cells import (
    CELL_COLUMNS,
    Cell,
    closer_than,
    distance_matrix,
    from_table,
    minimum_distance,
    structure_hash,
    to_columns,
)


def random_cells(n: int, seed: int = 0) -> list[Cell]:
    """Skewed and left-handed cells too, with coordinates outside the unit cell."""
    rng = np.random.default_rng(seed)
    cells = []
    while len(cells) < n:
        lattice = rng.normal(size=(3, 3)) * 4
        if abs(np.linalg.det(lattice)) > 8:
            sites = rng.integers(1, 9)
            elements = rng.integers(1, 95, sites).astype(np.uint8)
            cells.append(Cell(lattice, elements, rng.uniform(-2, 2, (sites, 3))))
    return cells


def same(one: Cell | None, other: Cell | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(np.array_equal(getattr(one, key), getattr(other, key)) for key in ("lattice", "elements", "fractional"))


def test_cells_survive_a_table_with_nulls_and_a_slice():
    cells = random_cells(20)
    cells[3] = cells[7] = cells[19] = None
    table = pa.table(to_columns(cells), schema=pa.schema(CELL_COLUMNS))
    assert all(map(same, from_table(table), cells))
    assert all(map(same, from_table(table.slice(3, 9)), cells[3:12]))


@pytest.mark.parametrize("cells", [[], [None], [None, None]])
def test_a_table_without_any_cell(cells):
    assert from_table(pa.table(to_columns(cells), schema=pa.schema(CELL_COLUMNS))) == cells


def test_a_structure_comes_back_from_pymatgen():
    for cell in random_cells(5):
        back = Cell.from_structure(cell.to_structure())
        assert np.array_equal(back.elements, cell.elements)
        np.testing.assert_allclose(back.lattice, cell.lattice)
        np.testing.assert_allclose(back.fractional, cell.fractional)


def test_a_disordered_structure_is_refused_by_name():
    from pymatgen.core import Lattice, Structure

    alloy = Structure(Lattice.cubic(3), [{"Cu": 0.5, "Au": 0.5}], [[0, 0, 0]])
    with pytest.raises(ValueError, match=r"Cu0\.5 Au0\.5.*partly occupied"):
        Cell.from_structure(alloy)


def test_minimum_distance_of_rock_salt_by_hand():
    lattice = 5.64 / 2 * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    rock_salt = Cell(lattice, np.array([11, 17], np.uint8), np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))
    assert minimum_distance(rock_salt) == pytest.approx(5.64 / 2)
    assert distance_matrix(rock_salt)[0, 0] == pytest.approx(5.64 / np.sqrt(2))


def test_distances_equal_pymatgen_on_skewed_cells():
    for cell in random_cells(60, seed=1):
        structure = cell.to_structure()
        reach = minimum_distance(cell) + 0.1
        nearest = min(near.nn_distance for site in structure.get_all_neighbors(reach) for near in site)
        assert minimum_distance(cell) == pytest.approx(nearest, abs=1e-8)
        off = ~np.eye(len(cell.elements), dtype=bool)
        within = 4.0
        ours, theirs = distance_matrix(cell, within)[off], structure.distance_matrix[off]
        near = (theirs <= within) | (ours <= within)
        np.testing.assert_allclose(ours[near], theirs[near], atol=1e-8)


def test_closer_than_says_what_the_shortest_distance_says():
    """Also where planes lie too near each other for the short way, and for distances of half a cell."""
    for cell in random_cells(60, seed=2):
        shortest = minimum_distance(cell)
        for distance in (0.5, shortest * 0.99, shortest * 1.01, 3.0):
            found = closer_than(cell, distance)
            assert found == (pytest.approx(shortest, abs=1e-8) if shortest < distance else None)


def test_two_atoms_on_one_place_and_a_flat_cell_have_no_distance():
    twice = Cell(np.eye(3) * 4, np.array([8, 8], np.uint8), np.array([[0.1, 0, 0], [1.1, 0, 0]]))
    assert minimum_distance(twice) == pytest.approx(0, abs=1e-9)
    assert minimum_distance(Cell(np.ones((3, 3)), np.array([8], np.uint8), np.zeros((1, 3)))) == 0


def test_scaling_sets_the_volume_and_keeps_the_shape():
    cell = random_cells(1)[0]
    assert cell.scaled(100.0).volume == pytest.approx(100.0)
    np.testing.assert_allclose(cell.scaled(100.0).lattice / cell.lattice, np.cbrt(100.0 / cell.volume))


def test_the_hash_ignores_rotation_site_order_and_images_and_sees_the_rest():
    rng = np.random.default_rng(2)
    for cell in random_cells(10, seed=3):
        rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        order = rng.permutation(len(cell.elements))
        moved = Cell(cell.lattice @ rotation, cell.elements[order], cell.fractional[order] + rng.integers(-2, 3, 3))
        assert structure_hash(moved) == structure_hash(cell)
        assert structure_hash(cell.scaled(cell.volume * 1.01)) != structure_hash(cell)
        assert structure_hash(Cell(cell.lattice, cell.elements + np.uint8(1), cell.fractional)) != structure_hash(cell)
        assert len(structure_hash(cell)) == 8
