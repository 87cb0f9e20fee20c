import numpy as np
import pyarrow as pa
import pytest

from pipeline import tables
from pipeline.cells import Cell, from_table, minimum_distance, structure_hash, to_columns
from pipeline.composition import Compositions
from pipeline.structures import stage
from pipeline.structures.assign import Library
from pipeline.structures.relax import FAILED, VOLUME_CHANGED, Relaxed, Relaxer
from pipeline.structures.schema import SAMPLES, SELECTED, STRUCTURES, StructureSettings
from pipeline.structures.similarity import coordinates, unlikeness
from pipeline.structures.stage import build_structures
from pipeline.structures.symmetry import primitive, symmetry
from pipeline.structures.template_schema import TEMPLATES, TemplateSettings
from pipeline.structures.templates import _ENTRIES, build_templates, guess_oxidation_states
from pipeline.structures.volume import predicted_volume, too_close

NA, CL, K, SR, TI, OX = 11, 17, 19, 38, 22, 8
CUBE = np.eye(3)


def rock_salt(cation: int = NA, anion: int = CL, a: float = 5.64) -> Cell:
    """Conventional cell of eight sites."""
    face = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return Cell(a * CUBE, np.repeat([cation, anion], 4).astype(np.uint8), np.concatenate([face, face + CUBE[0] / 2]))


def perovskite(a_site: int, b_site: int, anion: int, a: float) -> Cell:
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return Cell(a * CUBE, np.array([a_site, b_site, anion, anion, anion], np.uint8), sites)


def write_entries(path, cells: dict[str, Cell | None], above_hull: dict[str, float] | None = None):
    hull = [(above_hull or {}).get(name) for name in cells]
    columns = {"id": list(cells), "energy_above_hull_ev_per_atom": hull, **to_columns(list(cells.values()))}
    tables.write(path, _ENTRIES, columns)
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


@pytest.fixture
def library(tmp_path):
    """Rock salt and a cubic perovskite, from a database."""
    cells = {"salt": rock_salt(), "perovskite": perovskite(SR, TI, OX, 3.905), "none": None}
    entries = write_entries(tmp_path / "entries.parquet", cells)
    path = tmp_path / "templates.parquet"
    build_templates(entries_path=entries, output_path=path, settings=TemplateSettings(sources=("database",)))
    return path


def run(tmp_path, library, formulas, cells=None, **settings) -> list[dict]:
    """Rows of the stage; `cells` are those that the generator made, one of each formula (None: on a template)."""
    cells = cells or [None] * len(formulas)
    names = [cell and f"{formula}-{structure_hash(cell)}" for formula, cell in zip(formulas, cells, strict=True)]
    selected = write_selected(tmp_path / "selected.parquet", formulas, ids=names)
    output = tmp_path / "structures.parquet"
    build_structures(
        selected_path=selected,
        samples_paths=write_samples(tmp_path, {name: cell for name, cell in zip(names, cells, strict=True) if cell}),
        templates_path=library,
        output_path=output,
        settings=StructureSettings(min_similarity=0.0, **settings),
        provenance={"seed": 1},
    )
    table = tables.read(output, STRUCTURES)
    return [{**row, "cell": cell} for row, cell in zip(table.to_pylist(), from_table(table), strict=True)]


class TestTemplates:
    def test_database_cells_become_primitive_templates_in_count_order(self, library):
        rows = tables.read(library, TEMPLATES).to_pylist()
        assert [(row["label"], row["n_sites"], row["space_group_number"], row["counts"]) for row in rows] == [
            ("salt", 2, 225, [1, 1]),
            ("perovskite", 5, 221, [1, 1, 3]),
        ]
        assert rows[1]["reference_formula"] == "SrTiO3"
        assert dict(zip(rows[1]["elements"], rows[1]["oxidation_states"], strict=True)) == {SR: 2, TI: 4, OX: -2}

    def test_one_prototype_is_kept_so_often_and_the_lowest_above_the_hull_first(self, tmp_path):
        cells = {"high": rock_salt(), "low": rock_salt(K), "middle": rock_salt(37), "unknown": rock_salt(55)}
        cells["other prototype"] = Cell(4.1 * CUBE, np.array([55, 17], np.uint8), np.array([[0, 0, 0], [0.5] * 3]))
        above = {"high": 0.3, "low": 0.0, "middle": 0.1, "other prototype": 0.5}
        entries = write_entries(tmp_path / "entries.parquet", cells, above)
        settings = TemplateSettings(sources=("database",), max_per_prototype=2)
        build_templates(entries_path=entries, output_path=tmp_path / "t.parquet", settings=settings)
        kept = tables.read(tmp_path / "t.parquet", TEMPLATES)["label"].to_pylist()
        assert kept == ["low", "middle", "other prototype"]

    def test_large_overlapping_and_flat_cells_are_left_out(self, tmp_path):
        overlap = Cell(4 * CUBE, np.array([NA, CL], np.uint8), np.zeros((2, 3)))
        flat = Cell(np.ones((3, 3)), np.array([NA], np.uint8), np.zeros((1, 3)))
        cells = {"overlap": overlap, "flat": flat, "large": perovskite(SR, TI, OX, 3.9), "salt": rock_salt()}
        entries = write_entries(tmp_path / "entries.parquet", cells)
        settings = TemplateSettings(sources=("database",), max_sites=4)
        build_templates(entries_path=entries, output_path=tmp_path / "t.parquet", settings=settings)
        assert tables.read(tmp_path / "t.parquet", TEMPLATES)["label"].to_pylist() == ["salt"]

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


class TestSimilarity:
    def test_an_element_is_like_itself_and_its_group(self):
        sodium = coordinates([NA], [1])[None]
        sodium_to = unlikeness(sodium, coordinates([NA, K, 55, CL], [1, 1, 1, -1]))[0, 0]
        assert sodium_to[0] == 0
        assert (np.diff(sodium_to) > 0).all()

    def test_noble_gases_and_unknown_charges_have_finite_values(self):
        elements = list(range(1, 104))
        assert np.isfinite(unlikeness(coordinates(elements, None)[None], coordinates(elements, None))).all()


class TestAssignment:
    def test_every_order_of_equal_counts_is_ranked_once(self, library):
        ways = list(Library(library).ranked([55, 82, 53], [1, 1, 3], [1, 2, -1]))
        assert [exchange for _, exchange, _ in ways] == [{SR: 55, TI: 82, OX: 53}, {SR: 82, TI: 55, OX: 53}]
        assert 0 < ways[1][2] < ways[0][2] < 1

    def test_the_order_of_the_elements_does_not_matter(self, library):
        settings = StructureSettings(min_similarity=0.0)
        one, _ = Library(library).build([55, 82, 53], [1, 1, 3], [1, 2, -1], settings)
        other, _ = Library(library).build([53, 55, 82], [3, 1, 1], [-1, 1, 2], settings)
        assert np.array_equal(one[0].cell.lattice, other[0].cell.lattice)
        assert np.array_equal(one[0].cell.elements, other[0].cell.elements)

    def test_equivalent_assignments_are_one_structure(self, library):
        settings = StructureSettings(min_similarity=0.0, max_structures_per_formula=5)
        salts, _ = Library(library).build([K, 35], [1, 1], [1, -1], settings)
        assert len(salts) == 1  # cation and anion of rock salt exchange by a shift
        perovskites, _ = Library(library).build([55, 82, 53], [1, 1, 3], [1, 2, -1], settings)
        assert len(perovskites) == 2


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

    def test_failures_answer_none(self):
        overlap = Cell(4 * CUBE, np.array([NA, NA], np.uint8), np.zeros((2, 3)))
        assert symmetry(overlap, 0.01) is None
        assert primitive(overlap, 0.01) is None


class TestStage:
    def test_each_formula_gets_a_structure_or_a_reason(self, tmp_path, library):
        rows = run(tmp_path, library, ["KBr", "Al2O3", "RbPbBr3", "LiF"], n_structures=2)
        assert [(row["formula"], row["rejected_by"]) for row in rows] == [
            ("KBr", None),
            ("Al2O3", "no_template"),
            ("RbPbBr3", None),
            ("LiF", "beyond_n_structures"),
        ]
        assert rows[1]["id"] == "Al2O3" and rows[1]["cell"] is None and rows[1]["relaxed"] is None
        salt = rows[0]
        assert salt["id"].startswith("KBr-") and salt["template_label"] == "salt" and salt["relaxed"] is False
        assert salt["minimum_distance_angstrom"] == pytest.approx(minimum_distance(salt["cell"]))
        assert (salt["space_group_number"], salt["space_group_symbol"], salt["n_sites"]) == (225, "Fm-3m", 2)

    def test_overlapping_atoms_are_rejected_with_the_reason(self, tmp_path, library):
        rows = run(tmp_path, library, ["KBr"], min_distance_factor=2.0)
        assert [row["rejected_by"] for row in rows] == ["too_close"]

    def test_unlike_templates_are_rejected_with_the_reason(self, tmp_path, library):
        selected = write_selected(tmp_path / "selected.parquet", ["CsAu"])
        output = tmp_path / "s.parquet"
        settings = StructureSettings(min_similarity=0.9)
        paths = {"selected_path": selected, "samples_paths": write_samples(tmp_path, {}), "templates_path": library}
        build_structures(**paths, output_path=output, settings=settings)
        assert tables.read(output, STRUCTURES)["rejected_by"].to_pylist() == ["no_similar_template"]

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
            run(folder, library, ["KBr", "CsPbI3", "Al2O3"], max_structures_per_formula=3)
        files = [folder / "structures.parquet" for folder in (tmp_path, again)]
        assert files[0].read_bytes() == files[1].read_bytes()

    def test_a_rejected_relaxation_makes_room_for_the_next_formula(self, tmp_path, library, monkeypatch):
        class Fake:
            def __init__(self, settings):
                pass

            def can_relax(self, cell):
                return K in cell.elements or 3 in cell.elements

            def relax(self, cell):
                if K in cell.elements:
                    return VOLUME_CHANGED
                return Relaxed(cell.scaled(cell.volume * 1.1), -3.5, 1.1, 7, 0.05, True)

        monkeypatch.setattr(stage, "Relaxer", Fake)
        rows = run(tmp_path, library, ["KBr", "LiF", "RbI", "NaF"], relaxation="chgnet", n_structures=2)
        assert [(row["formula"], row["relaxed"], row["rejected_by"]) for row in rows] == [
            ("KBr", False, "volume_changed"),
            ("LiF", True, None),
            ("RbI", False, None),
            ("NaF", None, "beyond_n_structures"),
        ]
        lithium = rows[1]
        assert (lithium["chgnet_energy_ev_per_atom"], lithium["relaxation_steps"]) == (-3.5, 7)
        assert lithium["volume_a3_per_atom"] == pytest.approx(lithium["cell"].volume / 2)
        assert rows[2]["converged"] is None

    def test_crystals_from_the_generator_need_no_template(self, tmp_path, library):
        """No template has their formula; what is kept carries the generator's cell, and none of a template's words."""
        fluorite = Cell(5.46 * CUBE, np.array([20, 9, 9], np.uint8), np.array([[0, 0, 0], [0.25] * 3, [0.75] * 3]))
        close = fluorite.scaled(fluorite.volume / 8)
        cells = [fluorite, close, None, rock_salt(3, 9, 4.03)]
        rows = run(tmp_path, library, ["CaF2", "CaF2", "KBr", "LiF"], cells, max_structures_per_formula=3)
        assert [(row["formula"], row["rejected_by"]) for row in rows] == [
            ("CaF2", None),
            ("CaF2", "too_close"),
            ("KBr", None),
            ("LiF", None),
        ]
        assert rows[0]["id"] == f"CaF2-{structure_hash(fluorite)}"
        assert np.array_equal(rows[0]["cell"].lattice, fluorite.lattice)
        assert rows[1]["id"] == f"CaF2-{structure_hash(close)}" and rows[1]["cell"] is None
        made = ("template_id", "template_source", "template_label", "template_formula", "substitution_similarity")
        for name in (*made, "volume_method"):
            assert rows[0][name] is None and rows[2][name] is not None, name
        assert rows[3]["relaxed"] is False and rows[3]["space_group_number"] == 225
        assert [row["rank"] for row in rows] == [1, 2, 3, 4]

    def test_crystals_of_a_formula_are_held_against_each_other(self, tmp_path, library):
        """Another size of the same crystal is no other; and so many of a formula are kept, and of candidates."""
        caesium = Cell(3.4 * CUBE, np.array([NA, CL], np.uint8), np.array([[0, 0, 0], [0.5] * 3]))
        blende = Cell(
            6.2 * CUBE,
            np.repeat([NA, CL], 4).astype(np.uint8),
            np.concatenate([rock_salt().fractional[:4], rock_salt().fractional[:4] + 0.25]),
        )
        cells = [rock_salt(), primitive(rock_salt(a=5.9), 0.01), rock_salt(K, CL, 6.29), caesium, blende]
        formulas = ["NaCl", "NaCl", "KCl", "NaCl", "NaCl"]
        rows = run(tmp_path, library, formulas, cells, max_structures_per_formula=2)
        fates = [row["rejected_by"] for row in rows]
        assert fates == [None, "duplicate", None, None, "max_structures_per_formula"]
        rows = run(tmp_path, library, formulas, cells, max_structures_per_formula=5, n_structures=3)
        assert [row["rejected_by"] for row in rows] == [None, "duplicate", None, None, "beyond_n_structures"]
        assert rows[4]["id"] == f"NaCl-{structure_hash(blende)}" and rows[4]["formula"] == "NaCl"

    def test_a_crystal_from_the_generator_is_relaxed_like_others(self, tmp_path, library):
        """What is no other crystal before is not relaxed again, and the last keeps its cell."""
        cells = [primitive(rock_salt(K, 35, a), 0.01) for a in (6.4, 6.8)]
        cells.append(primitive(rock_salt(3, 9, 4.1), 0.01))
        limits = {"relaxation": "chgnet", "n_relaxed": 1, "max_structures_per_formula": 2}
        rows = run(tmp_path, library, ["KBr", "KBr", "LiF"], cells, **limits)
        fates = [(row["relaxed"], row["rejected_by"]) for row in rows]
        assert fates == [(True, None), (None, "duplicate"), (False, None)]
        assert rows[0]["id"] == f"KBr-{structure_hash(rows[0]['cell'])}" != f"KBr-{structure_hash(cells[0])}"
        assert rows[0]["relaxation_volume_ratio"] == pytest.approx(rows[0]["cell"].volume / cells[0].volume)
        assert np.array_equal(rows[2]["cell"].lattice, cells[2].lattice)

    def test_crystals_that_relax_to_one_are_one(self, tmp_path, library, monkeypatch):
        """A crystal whose twin fell at relaxation may be built again."""
        caesium = Cell(2.6 * CUBE, np.array([3, 9], np.uint8), np.array([[0, 0, 0], [0.5] * 3]))
        cells = [rock_salt(3, 9, a) for a in (3.2, 4.03)] + [caesium]

        class Fake:
            def __init__(self, settings):
                pass

            def can_relax(self, cell):
                return True

            def relax(self, cell):
                if cell.volume < 35:
                    return VOLUME_CHANGED if len(cell.elements) == 8 else Relaxed(cells[1], -5.0, 2.0, 9, 0.05, True)
                return Relaxed(cell, -5.0, 1.0, 3, 0.05, True)

        monkeypatch.setattr(stage, "Relaxer", Fake)
        limits = {"relaxation": "chgnet", "max_structures_per_formula": 5, "min_distance_factor": 0.5}
        rows = run(tmp_path, library, ["LiF"] * 3, cells, **limits)
        fates = [(row["relaxed"], row["rejected_by"]) for row in rows]
        assert fates == [(False, "volume_changed"), (True, None), (True, "duplicate")]
        assert rows[1]["id"] == rows[2]["id"] == f"LiF-{structure_hash(cells[1])}"

    def test_an_unknown_relaxation_is_refused(self):
        with pytest.raises(ValueError, match=r"structures\.relaxation: 'dft'"):
            StructureSettings(relaxation="dft")


class TestRelaxation:
    @pytest.fixture(scope="class")
    def relaxer(self):
        return Relaxer(StructureSettings(relaxation="chgnet", max_steps=40, max_relaxed_atoms=4))

    def test_rock_salt_relaxes_to_its_lattice_constant(self, relaxer):
        relaxed = relaxer.relax(primitive(rock_salt(a=5.4), 0.01))
        assert relaxed.converged and 0 < relaxed.n_steps < 40
        assert (4 * relaxed.cell.volume) ** (1 / 3) == pytest.approx(5.64, rel=0.03)
        assert relaxed.volume_ratio == pytest.approx(4 * relaxed.cell.volume / 5.4**3)
        assert relaxed.maximum_force_ev_per_angstrom < 0.1

    def test_the_same_cell_relaxes_to_the_same_bytes(self, relaxer):
        one, other = (relaxer.relax(primitive(rock_salt(K, 35, 6.7), 0.01)) for _ in range(2))
        assert one.energy_ev_per_atom == other.energy_ev_per_atom
        assert one.cell.lattice.tobytes() == other.cell.lattice.tobytes()

    def test_no_more_relaxations_than_asked_for(self):
        relaxer = Relaxer(StructureSettings(relaxation="chgnet", n_relaxed=1, max_steps=1))
        cell = primitive(rock_salt(), 0.01)
        assert relaxer.can_relax(cell)
        relaxer.relax(cell)
        assert not relaxer.can_relax(cell)

    def test_bad_cells_answer_a_reason(self, relaxer):
        isolated = Cell(30 * CUBE, np.array([NA, CL], np.uint8), np.array([[0, 0, 0], [0.5] * 3]))
        with pytest.warns(UserWarning, match="Na1 Cl1: relaxation failed"):
            assert relaxer.relax(isolated) == FAILED
        squeezed = primitive(rock_salt(a=3.6), 0.01)
        assert relaxer.relax(squeezed) == VOLUME_CHANGED

    def test_cells_beyond_the_model_are_left_alone(self, relaxer):
        assert relaxer.can_relax(primitive(rock_salt(), 0.01))
        assert not relaxer.can_relax(rock_salt())
        assert not relaxer.can_relax(primitive(rock_salt(cation=95), 0.01))
