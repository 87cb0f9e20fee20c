"""Relaxed structures judged: bond valences, hull distance, known crystals, the best of each formula."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, compositions_of, structure_hash, to_columns
from pipeline.composition import Compositions
from pipeline.structures.judge import _ROWS, judge_structures
from pipeline.structures.plausibility import (
    density_g_per_cm3,
    global_instability_index,
    minimum_distance_ratio,
    packing,
)
from pipeline.structures.reference_schema import REFERENCES
from pipeline.structures.relaxation import relax_structures
from pipeline.structures.relaxation_schema import RelaxationSettings
from pipeline.structures.schema import BUILT, RELAXED, STRUCTURES, JudgeSettings

NA, CL, K = 11, 17, 19
CUBE = np.eye(3)
FACE = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


def rock_salt(cation: int = NA, anion: int = CL, a: float = 5.64) -> Cell:
    sites = np.concatenate([FACE, FACE + CUBE[0] / 2])
    return Cell(a * CUBE, np.repeat([cation, anion], 4).astype(np.uint8), sites)


def blende(cation: int = NA, anion: int = CL, a: float = 6.2) -> Cell:
    return Cell(a * CUBE, np.repeat([cation, anion], 4).astype(np.uint8), np.concatenate([FACE, FACE + 0.25]))


def caesium_chloride(cation: int = NA, anion: int = CL, a: float = 3.5) -> Cell:
    return Cell(a * CUBE, np.array([cation, anion], np.uint8), np.array([[0, 0, 0], [0.5] * 3]))


def write_table(path, table, cells: list[Cell | None], formulas=None, **known):
    """Rows of a table of candidates; what is not given is null, or something where null is not allowed."""
    formulas = formulas or compositions_of(cells).formulas().to_pylist()
    compositions = Compositions.from_formulas(formulas)
    n = len(formulas)
    columns = {}
    for field in table.fields:
        if field.nullable:
            columns[field.name] = pa.nulls(n, field.type)
        else:
            columns[field.name] = (
                pa.array([1.0] * n if pa.types.is_floating(field.type) else ["x"] * n, field.type)
                if (pa.types.is_floating(field.type) or pa.types.is_string(field.type))
                else list(range(1, n + 1))
            )
    ids = [f"{f}-{structure_hash(c)}" if c is not None else f for f, c in zip(formulas, cells, strict=True)]
    columns |= {**compositions.columns(), "id": ids, "formula": formulas, **to_columns(cells), **known}
    tables.write(path, table, {name: columns[name] for name in table.schema.names})
    return path


def write_references(path, energies: dict[str, float | str | None]):
    """Each formula's energy in eV/atom, or for one that is no reference its reason (None: any)."""
    reasons = [each if isinstance(each, str) else "no_crystal" if each is None else None for each in energies.values()]
    energies = {formula: None if isinstance(each, str) else each for formula, each in energies.items()}
    compositions = Compositions.from_formulas(list(energies))
    n = len(energies)
    columns = {field.name: pa.nulls(n, field.type) for field in REFERENCES.fields if field.nullable}
    columns |= {"id": list(energies), "source": ["by hand"] * n, "version": ["1"] * n, "formula": list(energies)}
    columns |= {"relaxed": [True] * n, "potential": ["abacus 1"] * n, "energy_ev_per_atom": list(energies.values())}
    columns |= {"rejected_by": reasons}
    columns |= {**compositions.columns(), **to_columns([None] * n)}
    tables.write(path, REFERENCES, {name: columns[name] for name in REFERENCES.schema.names})
    return path


def write_rows(path, cells: dict[str, Cell]):
    formulas = compositions_of(list(cells.values())).formulas()
    tables.write(path, _ROWS, {"id": list(cells), "formula": formulas, **to_columns(list(cells.values()))})
    return path


def judge(
    folder,
    cells,
    energies,
    references=None,
    known=None,
    rejected=None,
    states=None,
    template_probability=None,
    **settings,
) -> list[dict]:
    n = len(cells)
    relaxed = write_table(
        folder / "relaxed.parquet",
        RELAXED,
        cells,
        energy_ev_per_atom=energies,
        relaxed=[energy is not None for energy in energies],
        potential=["abacus 1" if energy is not None else None for energy in energies],
        rejected_by=rejected or [None] * n,
        oxidation_states=states or [None] * n,
        template_probability=template_probability or [None] * n,
    )
    judge_structures(
        relaxed_path=relaxed,
        references_path=write_references(folder / "references.parquet", references or {}),
        rows_paths=[write_rows(folder / "rows.parquet", known or {"other": rock_salt(3, 9, 4.0)})],
        output_path=folder / "structures.parquet",
        settings=JudgeSettings(**{"max_energy_above_hull_ev_per_atom": None, **settings}),
    )
    return tables.read(folder / "structures.parquet", STRUCTURES).to_pylist()


class TestPlausibility:
    def test_rock_salt_by_hand(self):
        cell = rock_salt()
        assert density_g_per_cm3(cell) == pytest.approx(2.165, abs=0.01)  # halite
        assert minimum_distance_ratio(cell) == pytest.approx(2.82 / (1.66 + 1.02))
        assert packing(cell) == pytest.approx(4 / 3 * np.pi * 4 * (1.66**3 + 1.02**3) / 5.64**3)

    def test_bond_valences_of_known_salts_are_near_their_charges(self):
        """Textbook lattice constants; each sum is within a fifth of the charge, and half as large a cell is not."""
        for cation, anion, a, charge in ((NA, CL, 5.64, 1), (12, 8, 4.21, 2), (20, 8, 4.81, 2)):
            index = global_instability_index(rock_salt(cation, anion, a), {cation: charge, anion: -charge})
            assert index < 0.25 * charge
        assert global_instability_index(rock_salt(a=4.8), {NA: 1, CL: -1}) > 1

    def test_no_bond_valences_without_two_signs_or_parameters(self):
        assert global_instability_index(rock_salt(), {NA: 1, CL: 1}) is None
        assert global_instability_index(rock_salt(2, 10), {2: 1, 10: -1}) is None


class TestJudge:
    def test_hull_distance_by_hand(self, tmp_path):
        """Na at -1, Cl at -2 eV/atom: NaCl at -3 has -1.5 against them; known NaCl at -3.2 is lower."""
        rows = judge(tmp_path, [rock_salt()], [-3.0], {"Na": -1.0, "Cl": -2.0, "NaCl": -3.2})
        assert rows[0]["energy_above_hull_ev_per_atom"] == pytest.approx(0.2)
        assert rows[0]["relaxed_formation_energy_ev_per_atom"] == pytest.approx(-1.5)
        assert (rows[0]["decomposition"], rows[0]["n_hull_references"]) == ("1.000 NaCl", 3)
        assert rows[0]["hull_source"] == "abacus 1 on by hand 1"
        assert rows[0]["hull_remark"] is None and rows[0]["rejected_by"] is None

    def test_elements_alone_are_no_hull(self, tmp_path):
        """The distance from them is the formation energy, which stands in its own column."""
        (row,) = judge(tmp_path, [rock_salt()], [-3.0], {"Na": -1.0, "Cl": -2.0})
        assert row["relaxed_formation_energy_ev_per_atom"] == pytest.approx(-1.5)
        assert (row["energy_above_hull_ev_per_atom"], row["decomposition"]) == (None, None)
        assert row["hull_remark"] == "no reference but elements"
        limit = judge(tmp_path, [rock_salt()], [-3.0], {"Na": -1.0, "Cl": -2.0}, max_energy_above_hull_ev_per_atom=0)
        assert limit[0]["rejected_by"] is None

    def test_known_formulas_without_a_reference_are_named(self, tmp_path):
        hull = {"Na": -1.0, "Cl": -2.0, "NaCl": -3.2, "NaCl3": None, "KCl": None, "Na2Cl": "above_max_above_hull"}
        (row,) = judge(tmp_path, [rock_salt()], [-3.0], hull)
        assert row["energy_above_hull_ev_per_atom"] == pytest.approx(0.2)
        assert row["hull_remark"] == "1 known formulas of the system are no references: NaCl3"

    def test_an_element_without_reference_gives_no_distance_and_says_so(self, tmp_path):
        rows = judge(tmp_path, [rock_salt()], [-3.0], {"Na": -1.0})
        assert rows[0]["energy_above_hull_ev_per_atom"] is None
        assert (rows[0]["decomposition"], rows[0]["hull_remark"]) == (None, "no reference energy of Cl")
        assert rows[0]["rejected_by"] is None

    def test_the_lowest_of_a_formula_is_kept_whatever_its_place(self, tmp_path):
        rows = judge(tmp_path, [blende(), rock_salt(), caesium_chloride(), rock_salt(K, CL, 6.3)], [-3, -3.3, -3.1, -2])
        assert [(row["energy_rank"], row["rejected_by"]) for row in rows] == [
            (3, "less_probable_of_formula"),
            (1, None),
            (2, "less_probable_of_formula"),
            (1, None),
        ]
        rows = judge(tmp_path, [blende(), rock_salt(), caesium_chloride()], [-3, -3.3, -3.1], max_per_formula=2)
        assert [row["rejected_by"] for row in rows] == ["less_probable_of_formula", None, None]

    def test_templates_and_energies_are_weighed(self, tmp_path):
        """20 meV/atom lower is not enough against nine times the probability at 50 meV/atom a factor e, 150 is."""
        cells = [rock_salt(), blende()]
        for apart, first in ((0.02, 0), (0.15, 1)):
            rows = judge(tmp_path, cells, [-3.0, -3.0 - apart], template_probability=[0.9, 0.1])
            assert [row["energy_rank"] for row in rows] == [2, 1]
            assert rows[first]["structure_rank"] == 1 and rows[first]["rejected_by"] is None
        rows = judge(tmp_path, cells, [-3.0, -3.02], template_probability=[0.9, 0.1], energy_scale_ev_per_atom=0)
        assert [row["structure_rank"] for row in rows] == [2, 1]

    def test_what_is_not_relaxed_comes_after_what_is(self, tmp_path):
        rows = judge(tmp_path, [blende(), rock_salt()], [None, -3.0])
        assert [(row["energy_rank"], row["rejected_by"]) for row in rows] == [
            (None, "less_probable_of_formula"),
            (1, None),
        ]

    def test_equal_crystals_are_one(self, tmp_path):
        rows = judge(tmp_path, [rock_salt(a=5.7), rock_salt(), blende()], [-3.0, -3.3, -3.1], max_per_formula=3)
        assert [row["rejected_by"] for row in rows] == ["duplicate", None, None]
        assert rows[0]["matches"] == rows[1]["id"]

    def test_a_crystal_of_the_database_is_not_new(self, tmp_path):
        """Its next structure takes its place; a crystal of another formula is never a match."""
        known = {"halite": rock_salt(a=5.5), "sylvite": blende(K)}
        rows = judge(tmp_path, [rock_salt(), blende()], [-3.3, -3.0], known=known)
        assert [(row["rejected_by"], row["matches"]) for row in rows] == [("known_crystal", "halite"), (None, None)]

    def test_limits_have_their_reasons(self, tmp_path):
        hull = {"Na": -1.0, "Cl": -2.0, "NaCl": -3.2}
        rows = judge(tmp_path, [rock_salt()], [-3.0], hull, max_energy_above_hull_ev_per_atom=0.1)
        assert [row["rejected_by"] for row in rows] == ["above_hull"]
        rows = judge(tmp_path, [rock_salt(a=16.0)], [-3.0])
        assert [row["rejected_by"] for row in rows] == ["implausible_packing"]
        states = [[1, -1]]
        rows = judge(tmp_path, [rock_salt(a=4.9)], [-3.0], states=states, max_global_instability_index_vu=0.5)
        assert [row["rejected_by"] for row in rows] == ["implausible_bond_valences"]
        rows = judge(tmp_path, [rock_salt()], [-3.0], states=states, max_global_instability_index_vu=0.5)
        assert [row["rejected_by"] for row in rows] == [None]

    def test_what_fell_before_keeps_its_reason_and_its_figures(self, tmp_path):
        cells = [rock_salt(), Cell(np.full((3, 3), np.nan), np.array([NA, CL], np.uint8), np.zeros((2, 3)))]
        rows = judge(tmp_path, cells, [None, None], rejected=["volume_changed", "no_crystal"])
        assert [row["rejected_by"] for row in rows] == ["volume_changed", "no_crystal"]
        assert rows[0]["space_group_number"] == 225 and rows[0]["energy_above_hull_ev_per_atom"] is None
        assert rows[1]["space_group_number"] is None

    def test_same_input_same_bytes(self, tmp_path):
        files = []
        for name in "ab":
            (tmp_path / name).mkdir()
            judge(tmp_path / name, [rock_salt(), blende()], [-3.0, -3.1], {"Na": -1.0, "Cl": -2.0})
            files.append((tmp_path / name / "structures.parquet").read_bytes())
        assert files[0] == files[1]


class TestRelaxation:
    def relax(self, folder, cells, rejected, **settings):
        built = write_table(folder / "built.parquet", BUILT, cells, ["NaCl"] * len(cells), rejected_by=rejected)
        relax_structures(
            built_path=built,
            output_path=folder / "relaxed.parquet",
            settings=RelaxationSettings(**settings),
            cache_dir=folder / "cache",
            processes=1,
        )
        return tables.read(folder / "relaxed.parquet", RELAXED).to_pylist()

    def test_rows_keep_their_order_and_say_what_became_of_them(self, tmp_path):
        """Copper and gold stand in, by a potential that ships with ASE; one cell fell before, one cannot be relaxed."""
        copper, gold = caesium_chloride(29, 79, 3.2), rock_salt(29, 79, 5.6)
        unknown = caesium_chloride(29, 92, 3.2)
        rows = self.relax(
            tmp_path,
            [copper, None, gold, unknown],
            [None, "no_template", "too_close", None],
            potential="ase.calculators.emt:EMT",
        )
        first, none, fell, failed = rows
        assert first["relaxed"] and first["converged"] and first["potential"].startswith("ase")
        assert first["lattice_angstrom"] != copper.lattice.ravel().tolist()
        assert first["maximum_force_ev_per_angstrom"] < 0.05 and first["space_group_number_before"] == 221
        assert (none["rejected_by"], none["relaxed"]) == ("no_template", None)
        assert (fell["rejected_by"], fell["relaxed"]) == ("too_close", False)
        assert fell["lattice_angstrom"] == gold.lattice.ravel().tolist()
        assert failed["relaxed"] is False and failed["rejected_by"]
        assert first["id"] == f"NaCl-{structure_hash(copper)}"  # named by what was built

    def test_a_potential_that_fails_for_all_is_an_error_and_nothing_is_kept_of_it(self, tmp_path):
        """The machine may be at fault: once it is mended, the same cells relax."""
        uranium = caesium_chloride(92, 92, 3.2)
        with pytest.raises(ValueError, match=r"structures\.relax\.potential: 'ase.*EMT' failed for all 1 .* for U"):
            self.relax(tmp_path, [uranium], [None], potential="ase.calculators.emt:EMT")
        assert not list((tmp_path / "cache").glob("*"))

    def test_no_potential_leaves_every_cell_as_it_is(self, tmp_path):
        (row,) = self.relax(tmp_path, [rock_salt()], [None], potential="none")
        assert (row["relaxed"], row["rejected_by"], row["energy_ev_per_atom"]) == (False, None, None)
        assert [row[field.name] is not None for field in CELL_COLUMNS] == [True] * 3
