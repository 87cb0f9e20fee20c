import itertools

import numpy as np
import pyarrow as pa
import pytest

from pipeline import tables
from pipeline.cells import Cell, from_table, minimum_distance, structure_hash, to_columns
from pipeline.composition import Compositions
from pipeline.structures.assign import Library
from pipeline.structures.build import build_structures
from pipeline.structures.ranking import FEATURES, coordinates, orders
from pipeline.structures.schema import BUILT, CARRIED, SAMPLES, SELECTED, BuildSettings
from pipeline.structures.symmetry import primitive, symmetry
from pipeline.structures.template_schema import TEMPLATES, TemplateSettings
from pipeline.structures.templates import ROWS, build_templates, contacts, guess_oxidation_states
from pipeline.structures.volume import predicted_volume, too_close

NA, CL, K, SR, TI, OX = 11, 17, 19, 38, 22, 8
CUBE = np.eye(3)


def rock_salt(cation: int = NA, anion: int = CL, a: float = 5.64) -> Cell:
    """Conventional cell of eight sites."""
    face = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return Cell(a * CUBE, np.repeat([cation, anion], 4).astype(np.uint8), np.concatenate([face, face + CUBE[0] / 2]))


def caesium_chloride(cation: int, anion: int, a: float) -> Cell:
    return Cell(a * CUBE, np.array([cation, anion], np.uint8), np.array([[0, 0, 0], [0.5] * 3]))


def perovskite(a_site: int, b_site: int, anion: int, a: float) -> Cell:
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return Cell(a * CUBE, np.array([a_site, b_site, anion, anion, anion], np.uint8), sites)


def write_rows(path, cells: dict[str, Cell | None], above_hull: dict[str, float] | None = None):
    hull = [(above_hull or {}).get(name) for name in cells]
    columns = {"id": list(cells), "energy_above_hull_ev_per_atom": hull, **to_columns(list(cells.values()))}
    tables.write(path, ROWS, columns)
    return path


def templates_of(folder, cells: dict[str, Cell | None], above_hull=None, processes: int = 1, **settings):
    """The library of these cells alone."""
    path = folder / "templates.parquet"
    build_templates(
        rows_paths=[write_rows(folder / "rows.parquet", cells, above_hull)],
        output_path=path,
        settings=TemplateSettings(**{"sources": ("database",), **settings}),
        processes=processes,
    )
    return path


def write_selected(path, formulas: list[str], states: list[list[int] | None] | None = None, ids=None):
    compositions = Compositions.from_formulas(formulas)
    n = len(formulas)
    scores = {field.name: pa.nulls(n, field.type) for field in SELECTED.fields if field.nullable}
    scores |= {
        name: pa.array(["x"] * n, type=pa.string()) for name in ("nearest_known_id", "nearest_known_formula", "verdict")
    }
    columns = {
        **scores,
        "nearest_known_distance": np.ones(n).tolist(),
        "id": [name or formula for name, formula in zip(ids or [None] * n, formulas, strict=True)],
        "rank": list(range(1, n + 1)),
        **compositions.columns(),
        "oxidation_states": states or [None] * n,
    }
    tables.write(path, SELECTED, columns)
    return path


def write_samples(folder, cells: dict[str, Cell | None]) -> list:
    """The samples in two parts, some that nobody selected among them."""
    cells = {"Xe-unselected": rock_salt(), **cells, "XeF": None}
    paths = [folder / "part-0.parquet", folder / "part-1.parquet"]
    for place, path in enumerate(paths):
        mine = dict(list(cells.items())[place::2])
        tables.write(path, SAMPLES, {"id": list(mine), **to_columns(list(mine.values()))})
    return paths


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """Rock salt, caesium chloride and a cubic perovskite, from a database."""
    cells = {
        "salt": rock_salt(),
        "perovskite": perovskite(SR, TI, OX, 3.905),
        "caesium": caesium_chloride(55, CL, 4.12),
        "none": None,
    }
    return templates_of(tmp_path_factory.mktemp("library"), cells)


def run(tmp_path, library, formulas, cells=None, **settings) -> list[dict]:
    """Rows of what is built; `cells` are those that the generator made, one of each formula (None: on a template)."""
    cells = cells or [None] * len(formulas)
    names = [cell and f"{formula}-{structure_hash(cell)}" for formula, cell in zip(formulas, cells, strict=True)]
    selected = write_selected(tmp_path / "selected.parquet", formulas, ids=names)
    output = tmp_path / "built.parquet"
    build_structures(
        selected_path=selected,
        samples_paths=write_samples(tmp_path, {name: cell for name, cell in zip(names, cells, strict=True) if cell}),
        templates_path=library,
        output_path=output,
        settings=BuildSettings(**{"min_template_probability": 0.0, "max_structures_per_formula": 1, **settings}),
        provenance={"seed": 1},
    )
    table = tables.read(output, BUILT)
    return [{**row, "cell": cell} for row, cell in zip(table.to_pylist(), from_table(table), strict=True)]


class TestTemplates:
    def test_database_cells_become_primitive_templates_in_count_order(self, library):
        rows = tables.read(library, TEMPLATES).to_pylist()
        told = {row["label"]: (row["n_sites"], row["prototype"], row["counts"]) for row in rows}
        assert told == {
            "salt": (2, "AB_225_a1-b1", [1, 1]),
            "perovskite": (5, "ABC3_221_a1-b1-c3", [1, 1, 3]),
            "caesium": (2, "AB_221_a1-b1", [1, 1]),
        }
        titanate = next(row for row in rows if row["label"] == "perovskite")
        assert titanate["reference_formula"] == "SrTiO3"
        assert dict(zip(titanate["elements"], titanate["oxidation_states"], strict=True)) == {SR: 2, TI: 4, OX: -2}

    def test_a_prototype_is_kept_once_a_formula_and_so_often_the_lowest_above_the_hull_first(self, tmp_path):
        cells = {
            "high": rock_salt(),
            "low": rock_salt(K),
            "low again": primitive(rock_salt(K, a=5.7), 0.01),
            "middle": rock_salt(37),
            "unknown": rock_salt(55),
            "other prototype": caesium_chloride(55, 17, 4.1),
        }
        above = {"high": 0.3, "low": 0.0, "low again": 0.01, "middle": 0.1, "other prototype": 0.5}
        kept = tables.read(templates_of(tmp_path, cells, above, max_per_prototype=2), TEMPLATES)
        assert kept["label"].to_pylist() == ["low", "middle", "other prototype"]
        assert kept["energy_above_hull_ev_per_atom"].to_pylist() == [0.0, 0.1, 0.5]

    def test_large_overlapping_and_flat_cells_are_left_out(self, tmp_path):
        overlap = Cell(4 * CUBE, np.array([NA, CL], np.uint8), np.zeros((2, 3)))
        flat = Cell(np.ones((3, 3)), np.array([NA], np.uint8), np.zeros((1, 3)))
        cells = {"overlap": overlap, "flat": flat, "large": perovskite(SR, TI, OX, 3.9), "salt": rock_salt()}
        path = templates_of(tmp_path, cells, max_sites=4)
        assert tables.read(path, TEMPLATES)["label"].to_pylist() == ["salt"]

    def test_the_number_of_processes_does_not_matter(self, tmp_path):
        files = []
        for processes in (1, 2):
            folder = tmp_path / str(processes)
            folder.mkdir()
            cells = {f"salt {z}": rock_salt(z) for z in range(3, 60)}
            files.append(templates_of(folder, cells, processes=processes).read_bytes())
        assert files[0] == files[1]

    def test_contacts_by_hand(self):
        """Rock salt: anion and cation at half the lattice constant, like ions at its 1/sqrt(2); 8 atoms in its cube."""
        found = contacts(primitive(rock_salt(), 0.01), [NA, CL])
        assert found == pytest.approx(np.array([[2**0.5, 1], [1, 2**0.5]]))

    def test_an_unknown_source_is_refused_with_its_place(self):
        with pytest.raises(ValueError, match=r"structures\.templates\.sources.*icsd"):
            TemplateSettings(sources=("icsd",))

    @pytest.mark.parametrize(
        ("elements", "counts", "states"),
        [
            ([NA, CL], [1, 1], [1, -1]),
            ([SR, TI, OX], [1, 1, 3], [2, 4, -2]),
            ([26, 8], [2, 3], [3, -2]),
            ([26, 28], [1, 3], None),
            ([2, 8], [1, 1], None),
        ],
    )
    def test_guessed_oxidation_states(self, elements, counts, states):
        assert guess_oxidation_states(elements, counts) == states


class TestRanking:
    def test_each_order_of_equal_counts_once(self):
        assert orders((1, 1, 3)).tolist() == [[0, 1, 2], [1, 0, 2]]
        assert len(orders((2, 2, 2, 5, 5))) == 12

    def test_features_have_their_names_and_are_finite(self, library):
        found = Library(library)
        classes = found.classes([NA, 35], [1, 1], [1, -1])
        assert classes.features_CF.shape == (2, len(FEATURES))
        assert np.isfinite(classes.features_CF).all()
        by_name = dict(zip(FEATURES, classes.features_CF[0], strict=True))
        assert (by_name["n_elements"], by_name["atoms_per_formula"]) == (2, 2)
        assert by_name["electronegativity_largest"] == pytest.approx(3.16 - 2.96)
        assert by_name["other_element_mean"] == 0.5

    def test_noble_gases_and_unknown_charges_are_known_by_their_radii(self):
        told = coordinates(list(range(1, 104)), None)
        assert np.isnan(told).all(axis=0).tolist() == [False, False, True, True, False, False, False]
        assert np.isfinite(told[:, [0, 1, 4, 5, 6]]).all()

    def test_equal_sites_make_one_class(self, library):
        """Either ion of rock salt may stand on either site; in the perovskite it matters."""
        found = Library(library)
        assert len(found.classes([K, 35], [1, 1], [1, -1]).template_C) == 2  # rock salt, caesium chloride
        assert len(found.classes([55, 82, 53], [1, 1, 3], [1, 2, -1]).template_C) == 2

    def test_many_templates_of_a_class_speak_for_it(self, tmp_path):
        """Three salts and one of another structure, all as like: the class of three is the more probable."""
        votes = {f"salt {z}": rock_salt(z, 35, 6.6) for z in (NA, K, 37)}
        path = templates_of(tmp_path, {**votes, "caesium": caesium_chloride(37, 35, 4.1)})
        first, second = itertools.islice(Library(path).ranked([K, 53], [1, 1], [1, -1]), 2)
        rows = Library(path).rows
        assert rows[first[0]]["space_group_number"] == 225
        assert rows[second[0]]["space_group_number"] == 221
        assert first[2] > second[2]


class TestAssignment:
    def test_every_order_of_equal_counts_is_ranked_once(self, library):
        ways = list(Library(library).ranked([55, 82, 53], [1, 1, 3], [1, 2, -1]))
        exchanges = [exchange for _, exchange, _ in ways]
        assert sorted(exchanges, key=str) == [{SR: 55, TI: 82, OX: 53}, {SR: 82, TI: 55, OX: 53}]
        assert 0 < ways[1][2] <= ways[0][2] < 1

    def test_the_order_of_the_elements_does_not_matter(self, library):
        settings = BuildSettings(min_template_probability=0.0)
        one, _ = Library(library).build([55, 82, 53], [1, 1, 3], [1, 2, -1], settings)
        other, _ = Library(library).build([53, 55, 82], [3, 1, 1], [-1, 1, 2], settings)
        assert np.array_equal(one[0].cell.lattice, other[0].cell.lattice)
        assert np.array_equal(one[0].cell.elements, other[0].cell.elements)

    def test_equivalent_assignments_are_one_structure(self, library):
        settings = BuildSettings(min_template_probability=0.0)
        salts, _ = Library(library).build([K, 35], [1, 1], [1, -1], settings)
        assert sorted(one.template["label"] for one in salts) == ["caesium", "salt"]
        perovskites, _ = Library(library).build([55, 82, 53], [1, 1, 3], [1, 2, -1], settings)
        assert len(perovskites) == 2

    def test_crystals_of_hidden_formulas_are_left_out(self, library):
        found = Library(library)
        ways = found.ranked([NA, CL], [1, 1], [1, -1], without=frozenset(["NaCl"]))
        assert [found.rows[position]["label"] for position, _, _ in ways] == ["caesium"]
        assert list(found.ranked([SR, TI, OX], [1, 1, 3], None, without=frozenset(["SrTiO3"]))) == []


class TestVolume:
    def test_the_templates_own_elements_give_its_own_volume(self):
        volume, method = predicted_volume(rock_salt(), rock_salt())
        assert (volume, method) == (pytest.approx(5.64**3), "dls")

    def test_elements_without_mined_bonds_fall_back_to_radii_and_say_so(self):
        template = rock_salt()
        cell = Cell(template.lattice, np.where(template.elements == NA, 95, 36).astype(np.uint8), template.fractional)
        volume, method = predicted_volume(cell, template)
        assert method == "covalent_radii"
        assert volume == pytest.approx(5.64**3 * ((1.80 + 1.16) / (1.66 + 1.02)) ** 3)

    def test_atoms_too_close_by_hand(self):
        assert not too_close(rock_salt(a=5.64), 0.7)
        reach = 0.7 * (1.66 + 1.02)
        assert too_close(rock_salt(a=2 * reach - 0.01), 0.7)
        assert not too_close(rock_salt(a=2 * reach + 0.01), 0.5)


class TestSymmetry:
    def test_the_primitive_cell_is_the_same_crystal(self):
        cell = primitive(rock_salt(), 0.01)
        assert len(cell.elements) == 2
        assert cell.volume == pytest.approx(5.64**3 / 4)
        assert minimum_distance(cell) == pytest.approx(2.82)
        assert symmetry(cell, 0.01).number == 225

    def test_cells_that_are_no_numbers_answer_none(self):
        for place in ("lattice", "fractional"):
            arrays = {"lattice": 4 * CUBE, "fractional": np.zeros((1, 3))}
            arrays[place] = np.full_like(arrays[place], np.nan)
            cell = Cell(arrays["lattice"], np.array([NA], np.uint8), arrays["fractional"])
            assert symmetry(cell, 0.01) is None and primitive(cell, 0.01) is None

    def test_failures_answer_none(self):
        overlap = Cell(4 * CUBE, np.array([NA, NA], np.uint8), np.zeros((2, 3)))
        assert symmetry(overlap, 0.01) is None
        assert primitive(overlap, 0.01) is None


class TestBuild:
    def test_each_formula_gets_its_structures_or_a_reason(self, tmp_path, library):
        rows = run(tmp_path, library, ["KBr", "Al2O3", "RbPbBr3", "LiF"], n_candidates=2, max_structures_per_formula=2)
        assert [(row["formula"], row["template_rank"], row["rejected_by"]) for row in rows] == [
            ("KBr", 1, None),
            ("KBr", 2, None),
            ("Al2O3", None, "no_template"),
            ("RbPbBr3", 1, None),
            ("RbPbBr3", 2, None),
            ("LiF", None, "beyond_n_candidates"),
        ]
        assert rows[2]["id"] == "Al2O3" and rows[2]["cell"] is None and rows[2]["origin"] is None
        first, second = rows[:2]
        assert first["id"] == f"KBr-{structure_hash(first['cell'])}" != second["id"]
        assert {first["template_label"], second["template_label"]} == {"salt", "caesium"}
        assert 1 > first["template_probability"] > second["template_probability"] > 0
        assert first["origin"] == "template" and first["prototype"].startswith("AB_22")

    def test_every_score_travels_with_its_candidate(self, tmp_path, library):
        path, output = write_selected(tmp_path / "selected.parquet", ["KBr", "Al2O3"]), tmp_path / "built.parquet"
        names = [field.name for field in CARRIED if field.type == pa.float64()]
        table = tables.read(path, SELECTED)
        for number, name in enumerate(names):
            values = pa.array([number + 0.25, number + 0.5])
            table = table.set_column(table.column_names.index(name), table.schema.field(name), values)
        tables.write(path, SELECTED, table)
        settings = BuildSettings(min_template_probability=0.0, max_structures_per_formula=1)
        build_structures(
            selected_path=path, samples_paths=[], templates_path=library, output_path=output, settings=settings
        )
        built = tables.read(output, BUILT).to_pylist()
        assert [row["rejected_by"] for row in built] == [None, "no_template"]
        assert {"usefulness", "likeness", "decomposition_energy_uncertainty_ev_per_atom"} < set(names)
        for row, part in zip(built, (0.25, 0.5), strict=True):
            assert [row[name] for name in names] == [number + part for number in range(len(names))]

    def test_overlapping_atoms_are_rejected_with_the_reason(self, tmp_path, library):
        rows = run(tmp_path, library, ["KBr"], min_distance_factor=2.0)
        assert [row["rejected_by"] for row in rows] == ["too_close"]

    def test_improbable_templates_are_rejected_with_the_reason(self, tmp_path, library):
        rows = run(tmp_path, library, ["CsAu"], min_template_probability=0.999)
        assert [row["rejected_by"] for row in rows] == ["no_probable_template"]

    def test_strange_formulas_never_raise(self, tmp_path, library):
        formulas = ["HeO", "XeF", "FrLv", "OgTs", "U", "HeNeAr3", "HLiBe3", "LiHeBCNOFNe"]
        rows = run(tmp_path, library, formulas)
        assert len(rows) == len(formulas)

    def test_no_selected_formula_gives_an_empty_table(self, tmp_path, library):
        assert run(tmp_path, library, []) == []

    def test_same_input_same_bytes(self, tmp_path, library):
        again = tmp_path / "again"
        again.mkdir()
        for folder in (tmp_path, again):
            run(folder, library, ["KBr", "CsPbI3", "Al2O3"], max_structures_per_formula=3, n_random=1)
        files = [folder / "built.parquet" for folder in (tmp_path, again)]
        assert files[0].read_bytes() == files[1].read_bytes()

    def test_random_crystals_where_no_template_fits(self, tmp_path, library):
        rows = run(tmp_path, library, ["Al2O3", "KBr"], n_random=2, max_random_sites=10)
        assert [(row["formula"], row["origin"]) for row in rows] == [
            ("Al2O3", "random"),
            ("Al2O3", "random"),
            ("KBr", "template"),
        ]
        for row in rows[:2]:
            cell = row["cell"]
            assert len(cell.elements) in (5, 10) and 2 * (cell.elements == 8).sum() == 3 * (cell.elements == 13).sum()
            assert not too_close(cell, 0.7)
            assert symmetry(cell, 0.01).number > 1
            assert row["template_id"] is None and row["rejected_by"] is None
        assert rows[0]["id"] != rows[1]["id"]

    def test_no_random_crystals_of_elements_without_radii(self, tmp_path, library):
        (row,) = run(tmp_path, library, ["BkF3"], n_random=1)
        assert (row["origin"], row["rejected_by"]) == (None, "no_template")

    def test_crystals_from_the_generator_need_no_template(self, tmp_path, library):
        """No template has their formula; what is kept carries the generator's cell, and none of a template's words."""
        fluorite = Cell(5.46 * CUBE, np.array([20, 9, 9], np.uint8), np.array([[0, 0, 0], [0.25] * 3, [0.75] * 3]))
        close = fluorite.scaled(fluorite.volume / 8)
        cells = [fluorite, close, None, rock_salt(3, 9, 4.03)]
        rows = run(tmp_path, library, ["CaF2", "CaF2", "KBr", "LiF"], cells, max_structures_per_formula=3)
        assert [(row["formula"], row["origin"], row["rejected_by"]) for row in rows] == [
            ("CaF2", "generator", None),
            ("CaF2", "generator", "too_close"),
            ("KBr", "template", None),
            ("KBr", "template", None),
            ("LiF", "generator", None),
        ]
        assert rows[0]["id"] == f"CaF2-{structure_hash(fluorite)}"
        assert np.array_equal(rows[0]["cell"].lattice, fluorite.lattice)
        assert rows[1]["id"] == f"CaF2-{structure_hash(close)}"
        made = ("template_id", "template_source", "template_label", "template_formula", "template_probability")
        for name in (*made, "volume_method"):
            assert rows[0][name] is None and rows[2][name] is not None, name
        assert [row["rank"] for row in rows] == [1, 2, 3, 3, 4]

    def test_crystals_of_a_formula_are_held_against_each_other(self, tmp_path, library):
        """Another size of the same crystal is no other; and so many of a formula are kept, and of candidates."""
        blende = Cell(
            6.2 * CUBE,
            np.repeat([NA, CL], 4).astype(np.uint8),
            np.concatenate([rock_salt().fractional[:4], rock_salt().fractional[:4] + 0.25]),
        )
        caesium = caesium_chloride(NA, CL, 3.4)
        cells = [rock_salt(), primitive(rock_salt(a=5.9), 0.01), rock_salt(K, CL, 6.29), caesium, blende]
        formulas = ["NaCl", "NaCl", "KCl", "NaCl", "NaCl"]
        rows = run(tmp_path, library, formulas, cells, max_structures_per_formula=2)
        fates = [row["rejected_by"] for row in rows]
        assert fates == [None, "duplicate", None, None, "max_structures_per_formula"]
        rows = run(tmp_path, library, formulas, cells, max_structures_per_formula=5, n_candidates=3)
        assert [row["rejected_by"] for row in rows] == [None, "duplicate", None, None, "beyond_n_candidates"]
        assert rows[4]["id"] == f"NaCl-{structure_hash(blende)}" and rows[4]["formula"] == "NaCl"
