from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice

from pipeline.cells import Cell, minimum_distance, to_columns
from pipeline.composition import ATOMIC_NUMBERS, Compositions
from pipeline.database.schema import ENTRIES
from pipeline.database.stage import read_rows
from pipeline.generators import Tensors
from pipeline.generators.crystalgan.crystals import SLOTS, cell_of
from pipeline.generators.crystalgan.domains import COLUMNS, Encoding, encode, reduced, tensor_of
from pipeline.structures.symmetry import primitive
from pipeline.structures.volume import predicted_volume, too_close
from pipeline.tables import read

H, C, NI, CU, PD, RH = 1, 6, 28, 29, 46, 45
PAIRS = (("Pd", "Ni"),)
PD_NI = Encoding(PAIRS, n_per_domain=3)
CUBE = np.eye(3)
FACE = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
EXACT = StructureMatcher(ltol=0.01, stol=0.01, angle_tol=0.1, scale=False, primitive_cell=False)


def crystal(lattice, elements, fractional) -> Cell:
    return Cell(np.array(lattice, float), np.array(elements, np.uint8), np.array(fractional, float))


def rock_salt(metal: int, a: float = 4.1) -> Cell:
    return crystal(a * CUBE, [metal] * 4 + [H] * 4, np.concatenate([FACE, FACE + CUBE[0] / 2]))


def fluorite(metal: int, a: float = 4.7, c: float | None = None) -> Cell:
    lattice = np.diag([a, a, c or a])
    return crystal(lattice, [metal] * 4 + [H] * 8, np.concatenate([FACE, FACE + 0.25, FACE + 0.75]))


def rutile(metal: int, a: float = 4.5, c: float = 3.0, x: float = 0.304) -> Cell:
    sites = [[0, 0, 0], [0.5, 0.5, 0.5], [x, x, 0], [-x, -x, 0], [0.5 + x, 0.5 - x, 0.5], [0.5 - x, 0.5 + x, 0.5]]
    return crystal(np.diag([a, a, c]), [metal] * 2 + [H] * 4, sites)


def repeated(cell: Cell, n: int) -> Cell:
    """The same crystal with n cells in one, along the first vector."""
    times = np.array([n, 1, 1])
    fractional = np.concatenate([(cell.fractional + CUBE[0] * i) / times for i in range(n)])
    return Cell(cell.lattice * times[:, None], np.tile(cell.elements, n), fractional)


def triclinic(metal: int) -> Cell:
    lattice = [[3.1, 0, 0], [0.4, 4.2, 0], [-0.7, 1.1, 5.3]]
    sites = [[0, 0, 0], [0.5, 0.4, 0.5], [0.1, 0.7, 0.2], [0.9, 0.3, 0.8], [0.5, 0.9, 0.6]]
    return crystal(lattice, [metal] * 2 + [H] * 3, sites)


def table(cells: dict[str, Cell | None], above_hull: dict[str, float] | None = None) -> pa.Table:
    """ENTRIES of some crystals; PdH where there is none."""
    sites = [[PD, H] if cell is None else cell.elements for cell in cells.values()]
    counted = [dict(zip(*np.unique(elements, return_counts=True), strict=True)) for elements in sites]
    compositions = Compositions.from_dicts(counted).reduced()
    columns = {field.name: pa.nulls(len(cells), field.type) for field in ENTRIES.fields}
    columns |= {"id": pa.array(cells), "source": pa.array(["mine"] * len(cells)), "formula": compositions.formulas()}
    hull = [(above_hull or {}).get(name) for name in cells]
    columns |= {**compositions.columns(), "energy_above_hull_ev_per_atom": pa.array(hull, pa.float64())}
    return pa.table({**columns, **to_columns(list(cells.values()))}, schema=ENTRIES.schema)


def encoded(cells: dict[str, Cell], encoding: Encoding = PD_NI, **options) -> Tensors:
    return encode(table(cells, **options), [], encoding, seed=1)


def cell_back(tensor: np.ndarray, occupied: np.ndarray, elements: np.ndarray) -> Cell:
    return cell_of(tensor[0, :3], tensor[1:].reshape(-1, 3), (elements[:, None] * occupied).ravel())


def unpacked(tensors: Tensors) -> list[tuple[str, int, Cell]]:
    """(id, domain, cell) of each row."""
    columns = {name: values for name, (values, _) in tensors.columns.items()}
    found = zip(columns["tensor"], columns["occupied"], columns["elements"], strict=True)
    cells = [cell_back(tensor, occupied, elements) for tensor, occupied, elements in found]
    return list(zip(tensors.entry_ids, columns["domain"][:, 0].tolist(), cells, strict=True))


def ids(tensors: Tensors, domain: int) -> list[str]:
    return [name for name, where, _ in unpacked(tensors) if where == domain]


def same(one: Cell, other: Cell) -> bool:
    return EXACT.fit(one.to_structure(), other.to_structure())


def parameters(cell: Cell) -> np.ndarray:
    return np.array(Lattice(cell.lattice).parameters)


OWN = {"pd1": rock_salt(PD), "pd2": fluorite(PD), "ni1": rock_salt(NI, 3.7), "ni2": fluorite(NI, 4.2)}


def test_columns_are_packed_as_declared():
    tensors = encoded(OWN)
    shapes = {"tensor": (4, SLOTS, 3), "occupied": (3, SLOTS), "elements": (3,), "domain": (1,)}
    assert list(tensors.columns) == list(COLUMNS)
    for name, (values, meaning) in tensors.columns.items():
        assert values.shape == (len(tensors.entry_ids), *shapes[name])
        assert values.dtype == (np.float64 if name == "tensor" else np.uint8)
        assert meaning
    columns = {name: values for name, (values, _) in tensors.columns.items()}
    assert (columns["elements"] == [H, PD, NI]).all()
    absent = np.where(columns["domain"][:, 0] == 0, 2, 1)  # B in a binary of A, A in one of B
    assert not columns["occupied"][np.arange(len(absent)), absent].any()
    assert not columns["tensor"][:, 1:][~columns["occupied"].astype(bool)].any()
    assert not columns["tensor"][:, 0, 3:].any()


def test_own_binaries_come_first_and_others_lend_what_they_do_not_have():
    tensors = encoded({**OWN, "cu": rutile(CU), "rh": rock_salt(RH)})
    assert ids(tensors, 0) == ["pd1", "pd2", "cu"]  # rh is the rock salt that Pd has
    assert ids(tensors, 1) == ["ni1", "ni2", "cu"]
    for name, domain, cell in unpacked(tensors):
        metal = (PD, NI)[domain]
        assert set(cell.elements.tolist()) == {H, metal}
        if name != "cu":
            assert same(cell, reduced(primitive(OWN[name], 0.01), H))
        else:
            lender = rutile(CU)
            lent = Cell(lender.lattice, np.where(lender.elements == H, H, metal), lender.fractional)
            volume, _ = predicted_volume(lent, lender)
            assert cell.volume == pytest.approx(volume)
            assert same(cell, lent.scaled(volume))


def test_the_metal_most_alike_lends_first():
    lenders = {"cs": triclinic(55).scaled(200), "rh": triclinic(RH)}
    assert ids(encoded({**OWN, **lenders}), 0) == ["pd1", "pd2", "rh"]
    assert ids(encoded({**OWN, **lenders}), 1) == ["ni1", "ni2", "rh"]


def test_no_more_than_asked_for_the_lowest_above_the_hull_then_the_smallest():
    cells = {**OWN, "pd3": rutile(PD), "pd4": triclinic(PD)}
    encoding = Encoding(PAIRS, n_per_domain=2)
    assert ids(encoded(cells, encoding), 0) == ["pd1", "pd2"]
    assert ids(encoded(cells, encoding, above_hull={"pd4": 0.1, "pd3": 0.2}), 0) == ["pd4", "pd3"]


def test_what_is_not_the_anion_and_one_metal_is_left_out():
    cells = {**OWN, "methane": rutile(C), "hydrogen": crystal(4 * CUBE, [H, H], [[0, 0, 0], [0.3, 0, 0]])}
    cells["ternary"] = crystal(4 * CUBE, [PD, NI, H], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0, 0]])
    cells["oxide"] = crystal(4 * CUBE, [PD, 8], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert encoded(cells).entry_ids == encoded(OWN).entry_ids
    carbon = Encoding(pairs=[["C", "Pd"]], n_per_domain=3)
    assert ids(encoded(cells, carbon), 0)[0] == "methane"  # asked for by name
    assert "methane" not in ids(encoded(cells, carbon), 1)[:2]


def test_metals_that_the_database_lacks_are_made_of_others():
    tensors = encoded({"cu": rock_salt(CU), "rh": fluorite(RH), "cu2": rutile(CU)})
    assert sorted(ids(tensors, 0)) == sorted(ids(tensors, 1)) == ["cu", "cu2", "rh"]


def test_overlapping_atoms_are_not_lent(capsys):
    pair = crystal(4.0 * CUBE, [RH, RH, H, H], [[0, 0, 0], [0.5, 0.5, 0.5], [0.2, 0, 0], [0.5, 0, 0.7]])
    assert "rh" not in encoded({**OWN, "rh": pair}).entry_ids  # metal and hydrogen 0.8 angstrom apart
    assert "1 overlapping" in capsys.readouterr().err


def test_what_was_taken_is_said(capsys):
    encoded({**OWN, "cu": rutile(CU), "rh": rock_salt(RH)}, Encoding(PAIRS, n_per_domain=4))
    said = [line for line in capsys.readouterr().err.splitlines() if "of the database" in line]
    assert said == [
        "Pd-H: 2 of the database, 1 of other metals (Cu 1), 3 in all and not 4; left out: 0 too large, 3 alike",
        "Ni-H: 2 of the database, 1 of other metals (Cu 1), 3 in all and not 4; left out: 0 too large, 3 alike",
    ]


def test_a_metal_of_several_pairs_has_one_domain():
    encoding = Encoding(pairs=[["Pd", "Ni"], ["Cu", "Pd"]], n_per_domain=2)
    tensors = encoded({**OWN, "cu": rutile(CU)}, encoding)
    tensor, triple, domain = (tensors.columns[name][0] for name in ("tensor", "elements", "domain"))
    pair, domain = (triple[:, 1] == CU).astype(int), domain[:, 0]
    of_a, of_b = tensor[(pair == 0) & (domain == 0)], tensor[(pair == 1) & (domain == 1)]
    assert np.array_equal(of_a[:, 2], of_b[:, 3])
    assert np.array_equal(of_a[:, :2], of_b[:, :2])
    assert pair.tolist() == [0] * 4 + [1] * 4


def test_the_cell_given_is_kept():
    tensors = encoded(OWN, Encoding(PAIRS, n_per_domain=2, setting="given"))
    for name, _, cell in unpacked(tensors):
        assert np.array_equal(cell.lattice, OWN[name].lattice)
        assert len(cell.elements) == len(OWN[name].elements)
        assert same(cell, OWN[name])


def test_the_order_of_entries_does_not_matter():
    cells = {**OWN, "cu": rutile(CU), "rh": triclinic(RH)}
    one, other = encoded(cells), encoded(dict(reversed(cells.items())))
    assert one.entry_ids == other.entry_ids
    for name in COLUMNS:
        assert np.array_equal(one.columns[name][0], other.columns[name][0])


# --- cells and tensors ---


def test_a_tensor_gives_its_cell_back():
    elements = np.array([H, PD, NI], np.uint8)
    ternary = crystal(triclinic(PD).lattice, [PD, H, NI, H, H], [*triclinic(PD).fractional[:4], [0.999999, 0.9, 0.6]])
    for cell in (ternary, rutile(NI), fluorite(PD)):
        tensor, occupied = tensor_of(cell, elements)
        assert occupied.sum(axis=1).tolist() == [(cell.elements == element).sum() for element in elements]
        found = cell_back(tensor, occupied, elements)
        order = np.concatenate([np.flatnonzero(cell.elements == element) for element in elements])
        assert np.array_equal(found.elements, cell.elements[order])
        difference = found.fractional - cell.fractional[order]
        assert np.abs(difference - np.rint(difference)).max() < 1e-12
        assert (found.fractional >= 0).all()
        assert (found.fractional < 1).all()


def test_empty_slots_do_not_matter():
    elements = np.array([H, PD, NI], np.uint8)
    tensor, occupied = tensor_of(rutile(PD), elements)
    noisy = tensor.copy()
    noisy[1:][occupied == 0] = 7.0
    noisy[0, 3:] = 7.0
    assert np.array_equal(
        cell_back(noisy, occupied, elements).fractional, cell_back(tensor, occupied, elements).fractional
    )


def test_a_coordinate_a_hair_below_zero_is_zero():
    tensor, occupied = tensor_of(rock_salt(PD), np.array([H, PD, NI]))
    tensor[2, 0] = [-1e-17, 0, 0]
    assert cell_back(tensor, occupied, np.array([H, PD, NI])).fractional[4].tolist() == [0, 0, 0]


CRYSTALS = {
    "rock salt": rock_salt(PD),
    "fluorite": fluorite(PD),
    # of such a lattice several cells are equally short, and doubling one or another gives different crystals' cells
    "short fluorite": fluorite(72, 4.9, 4.29),
    "long fluorite": fluorite(72, 4.3, 4.9),
    "rutile": rutile(PD),
    "triclinic": triclinic(PD),
}


@pytest.mark.parametrize("name", CRYSTALS)
def test_the_reduced_cell_does_not_depend_on_rotation_nor_on_the_cell_chosen(name):
    cell, rng = CRYSTALS[name], np.random.default_rng(0)
    expected = reduced(primitive(cell, 0.01), H)
    for _ in range(20):
        found = reduced(primitive(otherwise(cell, rng), 0.01), H)
        assert parameters(found) == pytest.approx(parameters(expected), abs=1e-6)
        assert same(found, expected)


def otherwise(cell: Cell, rng: np.random.Generator) -> Cell:
    """The same crystal: other lattice vectors, origin and order of sites, turned in space, left-handed or right."""
    change = np.zeros((3, 3))
    while abs(round(np.linalg.det(change))) != 1:
        change = rng.integers(-2, 3, (3, 3))
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    order = rng.permutation(len(cell.elements))
    fractional = (cell.fractional + rng.random(3)) @ np.linalg.inv(change)
    return Cell(change @ cell.lattice @ rotation, cell.elements[order], fractional[order])


@pytest.mark.parametrize("name", CRYSTALS)
def test_the_reduced_cell_is_the_same_crystal_lower_triangular_and_short(name):
    cell = CRYSTALS[name]
    found = reduced(primitive(cell, 0.01), H)
    assert StructureMatcher(scale=False).fit(found.to_structure(), cell.to_structure())
    assert not found.lattice[np.triu_indices(3, 1)].any()
    assert (np.diag(found.lattice) > 0).all()
    assert (np.diff(np.linalg.norm(found.lattice, axis=1)) > -1e-6).all()
    assert (found.elements != H).sum() == 2
    assert (found.fractional > -1e-5).all()
    assert (found.fractional < 1).all()
    assert minimum_distance(found) == pytest.approx(minimum_distance(cell))


def test_a_left_handed_cell_is_not_mirrored_and_sites_have_an_order():
    cell, swap = triclinic(PD), [1, 0, 2]
    right = reduced(cell, H)
    left = reduced(Cell(cell.lattice[swap], cell.elements[::-1], cell.fractional[::-1, swap]), H)
    assert left.lattice == pytest.approx(right.lattice)
    assert left.fractional == pytest.approx(right.fractional)


def test_rock_salt_is_doubled_into_the_cell_of_two_layers():
    """Metals in the order of CuAu, the most compact of the doubled cells: a/sqrt(2), a/sqrt(2), a."""
    found = reduced(primitive(rock_salt(PD, 4.0), 0.01), H)
    assert parameters(found) == pytest.approx([8**0.5, 8**0.5, 4, 90, 90, 90])


def test_a_cell_is_not_doubled_beyond_its_slots():
    rng = np.random.default_rng(1)
    for n, sites in ((9, 20), (10, 11)):
        cell = crystal(9 * CUBE, [PD] + [H] * n, rng.random((n + 1, 3)))
        assert len(reduced(cell, H).elements) == sites


# --- bad input ---


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pairs": [["Pd", "Xx"]]}, "encoding.settings.pairs: 'Xx' is no element symbol"),
        ({"pairs": [["Pd", False]]}, "encoding.settings.pairs: False is no element symbol"),  # No in YAML
        ({"pairs": [["Pd", "Pd"]]}, "encoding.settings.pairs: [Pd, Pd] with anion H; name three different"),
        ({"pairs": [["Pd", "H"]]}, "encoding.settings.pairs: [Pd, H] with anion H; name three different"),
        ({"pairs": ["Pd", "Ni"]}, "encoding.settings.pairs: 'Pd' is no pair of metals"),
        ({"pairs": [["Pd", "Ni", "Cu"]]}, "is no pair of metals"),
        ({"pairs": "Pd-Ni"}, "encoding.settings.pairs: 'Pd-Ni' is no pair of metals"),
        ({"pairs": []}, "encoding.settings.pairs: there is none"),
        ({"pairs": [["Pd", "Ni"], ["Ni", "Pd"]]}, "encoding.settings.pairs: [Ni, Pd] stands there twice"),
        ({"anion": "Q"}, "encoding.settings.anion: 'Q' is no element symbol"),
        ({"anion": 1}, "encoding.settings.anion: 1 is no element symbol"),
        ({"n_per_domain": 0}, "encoding.settings.n_per_domain: 0; write a whole number of at least 2"),
        ({"n_per_domain": 1}, "encoding.settings.n_per_domain: 1;"),
        ({"n_per_domain": 3.5}, "encoding.settings.n_per_domain: 3.5;"),
        ({"setting": "niggli"}, "encoding.settings.setting: 'niggli'; choose from ['reduced', 'given']"),
        ({"relaxation": "vasp"}, "encoding.settings.relaxation: 'vasp'; choose from ['none', 'chgnet']"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(fields, message):
    with pytest.raises(ValueError) as error:
        Encoding(**{"pairs": PAIRS, **fields})
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def fails(cells: dict[str, Cell], encoding: Encoding = PD_NI) -> str:
    with pytest.raises(ValueError) as error:
        encoded(cells, encoding)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_formulas_without_structures_cannot_be_learnt():
    message = fails({"pd": None, "ni": None})
    assert message.startswith("none of the 2 entries has a structure")
    assert "database.sources" in message


def test_a_database_without_binaries_of_the_anion():
    oxide = crystal(4 * CUBE, [PD, 8], [[0, 0, 0], [0.5, 0.5, 0.5]])
    message = fails({"oxide": oxide})
    assert message.startswith("domain Pd-H needs at least 2 structures and has 0")
    assert "0 fit in 18 atoms of an element, 0 do not; add such structures to database.sources" in message


def test_structures_too_large():
    rng = np.random.default_rng(0)
    cells = {f"pd{i}": crystal(9 * CUBE, [PD] + [H] * 19, rng.random((20, 3))) for i in range(3)}
    assert "Pd-H needs at least 2 structures and has 0" in fails(cells)
    assert "0 fit in 18 atoms of an element, 3 do not" in fails(cells)
    assert ids(encoded({"pd": repeated(fluorite(PD), 3), "ni": rutile(NI)}), 0) == ["pd", "ni"]  # primitive: 3 sites
    cells = {**OWN, "two": repeated(fluorite(PD), 2), "three": repeated(fluorite(PD), 3)}
    assert ids(encoded(cells, Encoding(PAIRS, n_per_domain=4, setting="given")), 0) == ["pd1", "pd2", "two"]


def test_one_structure_is_not_enough():
    assert "domain Pd-H needs at least 2 structures and has 1" in fails({"pd": rock_salt(PD)})
    message = fails({"pd1": rock_salt(PD), "pd2": rock_salt(NI)})  # the same crystal twice is one
    assert "Pd-H needs at least 2 structures and has 1" in message
    assert "1 alike" in message


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(value):
    broken = rutile(CU)
    broken.fractional[3, 1] = value
    assert "entry 'cu17': its lattice or coordinates hold values that are not finite" in fails({**OWN, "cu17": broken})
    broken = crystal(np.full((3, 3), value), broken.elements, rutile(CU).fractional)
    assert "entry 'cu17'" in fails({**OWN, "cu17": broken})


# --- relaxation and real data ---


@pytest.mark.slow
def test_what_was_lent_is_relaxed(capsys):
    cells = {**OWN, "cu": rutile(CU), "rh": rock_salt(RH)}
    unrelaxed, relaxed = (
        {
            (name, domain): cell
            for name, domain, cell in unpacked(encoded(cells, Encoding(PAIRS, n_per_domain=3, relaxation=how)))
        }
        for how in ("none", "chgnet")
    )
    assert unrelaxed.keys() == relaxed.keys()
    for key, cell in relaxed.items():
        moved = abs(cell.volume / unrelaxed[key].volume - 1)
        assert moved > 1e-3 if key[0] == "cu" else moved == 0
        assert not too_close(cell, 0.7)


@pytest.fixture(scope="module")
def hydrides(data, tmp_path_factory) -> pa.Table:
    """Materials Project's binary hydrides, as the database stage reads them."""
    folder: Path = data / "hydrides" / "mp_binary_hydrides"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there: KIMBERLITE_DATA holds no hydrides")
    out = tmp_path_factory.mktemp("hydrides")
    source = {"name": "hydrides", "kind": "structures", "path": str(folder)}
    paths = {"rows_path": str(out / "rows.parquet"), "rejects_path": str(out / "rejects.parquet")}
    read_rows(source=source, max_rejected_share=0, **paths)
    return read(paths["rows_path"], ENTRIES)


@pytest.mark.parametrize(("pair", "n_own"), [(("Pd", "Ni"), (6, 6)), (("Mg", "Ti"), (9, 12))])
@pytest.mark.parametrize("setting", ["reduced", "given"])
def test_domains_of_the_paper(hydrides, pair, n_own, setting):
    tensors = encode(hydrides, [], Encoding(pairs=[pair], setting=setting), seed=1)
    rows = unpacked(tensors)
    for domain, symbol in enumerate(pair):
        mine = [(name, cell) for name, where, cell in rows if where == domain]
        assert len(mine) == 35
        assert len({name for name, _ in mine}) == 35
        own = [bool({f"{symbol}H", f"H{symbol}"} & {_letters(name)}) for name, _ in mine]
        assert own == [True] * n_own[domain] + [False] * (35 - n_own[domain])
        for _, cell in mine:
            elements, counts = np.unique(cell.elements, return_counts=True)
            assert elements.tolist() == [H, ATOMIC_NUMBERS[symbol]]
            assert counts.max() <= SLOTS
            assert not too_close(cell, 0.7)
            if setting == "reduced":
                assert counts[1] >= 2 or counts[0] > SLOTS // 2
                assert not cell.lattice[np.triu_indices(3, 1)].any()


def _letters(name: str) -> str:
    return "".join(letter for letter in name.rsplit("_", 1)[1] if letter.isalpha())


def test_every_binary_hydride_reduces_to_one_cell(hydrides):
    """As the real crystals have it: pseudosymmetric lattices, ties of lengths, 1 to 36 atoms."""
    from pipeline.cells import from_table

    rng, n = np.random.default_rng(0), 0
    for cell in from_table(hydrides):
        own = primitive(cell, 0.01)
        if np.unique(own.elements, return_counts=True)[1].max() <= SLOTS:
            expected, found = reduced(own, H), reduced(primitive(otherwise(cell, rng), 0.01), H)
            assert parameters(found) == pytest.approx(parameters(expected), rel=1e-4, abs=1e-3)
            assert same(found, expected)
            n += 1
    assert n == 226
