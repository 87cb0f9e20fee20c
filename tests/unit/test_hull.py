"""Hull distances that can be done in the head, and the references that they are measured from."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from pipeline import tables
from pipeline.cells import Cell, to_columns
from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, Compositions
from pipeline.hull import Hull, HullDistance
from pipeline.provenance import file_digest
from pipeline.structures import known_crystals
from pipeline.structures import references as module
from pipeline.structures.known_crystals import ground_state
from pipeline.structures.reference_schema import REFERENCES, HullSettings, reference_set
from pipeline.structures.references import write_references
from pipeline.structures.relaxation_schema import RelaxationSettings

EMT = "ase.calculators.emt:EMT"
FE, OX, LI, MN = 26, 8, 3, 25


def hull(**energies: float) -> Hull:
    return Hull(Compositions.from_formulas(energies), list(energies.values()))


def distance(of: Hull, formula: str, energy: float) -> HullDistance:
    return of.distances(Compositions.from_formulas([formula]), [energy])[0]


@pytest.fixture
def iron_oxides() -> Hull:
    # Elements at -1 and -2; FeO at -2.5 eV/atom, 1 eV/atom below halfway between them.
    return hull(Fe=-1.0, O=-2.0, FeO=-2.5)


class TestHull:
    @pytest.mark.parametrize(
        ("formula", "energy", "expected", "decomposition"),
        [
            ("FeO", -2.3, 0.2, "1.000 FeO"),
            ("FeO", -2.5, 0.0, "1.000 FeO"),
            ("FeO", -2.75, -0.25, "1.000 FeO"),
            ("FeO3", -2.0, 0.25, "0.500 FeO + 0.500 O"),  # halfway, in atoms, between FeO and O: -2.25
            ("Fe3O", -1.75, 0.0, "0.500 Fe + 0.500 FeO"),
            ("Fe2O3", -2.5, -0.1, "0.800 FeO + 0.200 O"),  # 0.8 x -2.5 + 0.2 x -2 = -2.4
            ("Fe", -0.5, 0.5, "1.000 Fe"),
        ],
    )
    def test_iron_and_oxygen(self, iron_oxides, formula, energy, expected, decomposition):
        found = distance(iron_oxides, formula, energy)
        assert found.energy_above_hull_ev_per_atom == pytest.approx(expected, abs=1e-9)
        assert found.text == decomposition
        assert found.reason is None

    def test_counts_need_not_be_reduced(self, iron_oxides):
        assert distance(iron_oxides, "Fe2O6", -2.0).energy_above_hull_ev_per_atom == pytest.approx(0.25)

    def test_references_of_the_system_and_those_within_it_count(self):
        of = hull(Fe=-1.0, O=-2.0, FeO=-2.5, Fe2O3=-2.6, Li=0.0, Li2O=-1.0, LiFeO2=-2.0)
        assert distance(of, "FeO2", 0.0).n_references == 4
        assert distance(of, "Li2FeO3", 0.0).n_references == 7
        assert distance(of, "LiO2", 0.0).n_references == 3

    def test_the_lowest_polymorph_makes_the_hull_and_every_one_counts(self):
        of = Hull(Compositions.from_formulas(["Fe", "Fe", "O", "FeO", "Fe2O2"]), [-0.8, -1.0, -2.0, -2.5, -2.7])
        found = distance(of, "FeO", -2.5)
        assert (found.energy_above_hull_ev_per_atom, found.n_references) == (pytest.approx(0.2), 5)

    def test_a_compound_above_the_elements_makes_no_hull(self):
        found = distance(hull(Fe=-1.0, O=-2.0, FeO=-1.2), "FeO", -1.2)
        assert found.energy_above_hull_ev_per_atom == pytest.approx(0.3)
        assert found.text == "0.500 Fe + 0.500 O"

    def test_an_element_without_a_reference_leaves_no_distance_but_a_reason(self, iron_oxides):
        found = distance(iron_oxides, "LiFeMnO4", -3.0)
        assert found.energy_above_hull_ev_per_atom is None
        assert found.text is None
        assert (found.n_references, found.reason) == (3, "no reference energy of Li, Mn")
        assert iron_oxides.missing([LI, OX]) == ("Li",)

    def test_many_at_once_are_each_as_alone(self, iron_oxides):
        formulas, energies = ["FeO", "Li2O", "Fe3O", "Fe", "FeO3", "FeO"], [-2.3, -1.0, -1.75, -0.5, -2.0, -2.5]
        found = iron_oxides.distances(Compositions.from_formulas(formulas), energies)
        alone = [distance(iron_oxides, *one) for one in zip(formulas, energies, strict=True)]
        assert [found[place] for place in range(len(found))] == alone
        assert found.energy_above_hull_ev_per_atom == pytest.approx([0.2, np.nan, 0, 0.5, 0.25, 0], nan_ok=True)
        assert found.reasons().tolist() == [None, "no reference energy of Li", None, None, None, None]

    def test_the_order_of_elements_in_a_row_is_all_one(self):
        iron_first = Compositions(np.array([0, 1, 2, 4]), np.array([FE, OX, FE, OX], np.uint8), np.ones(4, np.uint16))
        oxygen_first = Compositions(np.array([0, 1, 2, 4]), np.array([FE, OX, OX, FE], np.uint8), np.ones(4, np.uint16))
        for references, candidates in ((iron_first, oxygen_first), (oxygen_first, iron_first)):
            found = Hull(references, [-1.0, -2.0, -2.5]).distances(candidates, [-1.0, -2.0, -2.3])
            assert found.energy_above_hull_ev_per_atom == pytest.approx([0, 0, 0.2])

    def test_a_crystal_without_energy_has_no_distance_but_phases(self, iron_oxides):
        found = distance(iron_oxides, "Fe3O", np.nan)
        assert (found.energy_above_hull_ev_per_atom, found.formation_energy_ev_per_atom) == (None, None)
        assert (found.text, found.reason) == ("0.500 Fe + 0.500 FeO", "no energy")

    def test_without_references_nothing_has_a_hull(self):
        found = distance(Hull(Compositions.from_dicts([]), []), "FeO", -1.0)
        assert (found.n_references, found.reason) == (0, "no reference energy of Fe, O")

    def test_no_candidates_no_distances(self, iron_oxides):
        assert len(iron_oxides.distances(Compositions.from_dicts([]), [])) == 0

    def test_a_reference_without_energy_is_named(self):
        with pytest.raises(ValueError, match="reference FeO: energy nan eV/atom; give a number or leave it out"):
            hull(Fe=-1.0, O=-2.0, FeO=np.nan)

    def test_more_elements_than_a_hull_could_be_made_of(self):
        # Twenty elements at 0 and the binaries of neighbours at -1: ten of these hold all atoms.
        names = [SYMBOLS[z - 1] for z in range(11, 31)]
        pairs = [first + second for first, second in pairwise(names)]
        found = distance(hull(**dict.fromkeys(names, 0.0), **dict.fromkeys(pairs, -1.0)), "".join(names), -1.0)
        assert found.energy_above_hull_ev_per_atom == pytest.approx(0, abs=1e-12)
        assert found.n_references == 39
        assert [share for _, share in found.decomposition] == pytest.approx([0.1] * 10)

    def test_quaternary(self):
        # Li2O and Mn2O3 at -1 and Fe at 0 below elements at 0: the rest of the composition's atoms bind nothing.
        of = hull(Li=0.0, Mn=0.0, Fe=0.0, O=0.0, Li2O=-1.0, Mn2O3=-1.0)
        found = distance(of, "Li2Mn2FeO4", -0.9)  # 3 atoms of Li2O, 5 of Mn2O3, 1 of Fe
        assert found.energy_above_hull_ev_per_atom == pytest.approx(-0.9 + 8 / 9)
        assert found.text == "0.556 Mn2O3 + 0.333 Li2O + 0.111 Fe"

    def test_equal_to_pymatgen(self):
        from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
        from pymatgen.core import Composition

        generator = np.random.default_rng(6)
        symbols = ("Li", "Mn", "Fe", "O")
        amounts = [dict.fromkeys([one], 1) for one in symbols]
        for _ in range(120):
            chosen = generator.choice(4, size=generator.integers(2, 5), replace=False)
            amounts.append({symbols[i]: int(generator.integers(1, 6)) for i in chosen})
        energies = np.concatenate([generator.normal(size=4), generator.normal(-1, 1, size=120)])
        entries = [PDEntry(Composition(one), e * sum(one.values())) for one, e in zip(amounts, energies, strict=True)]
        numbers = [{ATOMIC_NUMBERS[symbol]: n for symbol, n in one.items()} for one in amounts]
        mine = Hull(Compositions.from_dicts(numbers), energies)
        for one in numbers:
            symbols_of = {SYMBOLS[z - 1] for z in one}
            within = [e for e in entries if {element.symbol for element in e.composition} <= symbols_of]
            entry = PDEntry(Composition({SYMBOLS[z - 1]: n for z, n in one.items()}), -0.7 * sum(one.values()))
            phases, theirs = PhaseDiagram(within).get_decomp_and_e_above_hull(entry, allow_negative=True)
            found = mine.distances(Compositions.from_dicts([one]), [-0.7])[0]
            assert found.energy_above_hull_ev_per_atom == pytest.approx(theirs, abs=1e-10)
            assert sorted(share for _, share in found.decomposition) == pytest.approx(sorted(phases.values()))
            assert found.n_references == len(within)


def fcc(*elements: int, a: float) -> Cell:
    """Four sites of a cube: one element, or two as in L1_0, or one and three as in L1_2."""
    sites = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])
    return Cell(np.eye(3) * a, np.resize(elements, 4).astype(np.uint8), sites)


CU, AU, PD, AL, AG = 29, 79, 46, 13, 47
COPPER, GOLD = fcc(CU, a=3.6), fcc(AU, a=4.06)
CUAU = fcc(CU, CU, AU, AU, a=3.85)


def write_rows(path, rows: list[tuple]):
    """Rows of a database: formula, cell, formation energy, hull distance."""
    formulas, cells, formation, above = zip(*rows, strict=True)
    columns = {
        "id": [f"{formula}-{place}" for place, formula in enumerate(formulas)],
        "source": [path.stem] * len(rows),
        **Compositions.from_formulas(formulas).reduced().columns(),
        "formation_energy_ev_per_atom": pa.array(formation, pa.float64()),
        "energy_above_hull_ev_per_atom": pa.array(above, pa.float64()),
        **to_columns(cells),
    }
    tables.write(path, known_crystals.ROWS, columns)
    return path


def run(
    folder, rows: list, formulas: list[str], *, rejected: list | None = None, relaxation: dict | None = None, **settings
) -> pa.Table:
    elements = Compositions.from_formulas(formulas).columns()["elements"]
    built = {"elements": elements, "rejected_by": rejected or [None] * len(formulas)}
    tables.write(folder / "built.parquet", module._BUILT, built)
    write_references(
        rows_paths=rows,
        built_path=folder / "built.parquet",
        output_path=folder / "references.parquet",
        settings=HullSettings(**settings),
        relaxation=RelaxationSettings(**{"potential": EMT, "max_steps": 5} | (relaxation or {})),
        cache_dir=folder / "cache",
        processes=1,
        device="cpu",
    )
    return tables.read(folder / "references.parquet", REFERENCES)


def used(table: pa.Table) -> list[dict]:
    return [row for row in table.to_pylist() if row["rejected_by"] is None]


class TestReferences:
    @pytest.fixture
    def rows(self, tmp_path):
        rows = [
            ("Cu", COPPER, 0.0, 0.0),
            ("Au", GOLD, 0.0, 0.0),
            ("CuAu", CUAU, -0.05, 0.0),
            ("CuAu", fcc(CU, AU, a=4.2), -0.02, 0.03),
            ("CuAu", fcc(CU, AU, CU, AU, a=3.7), 0.1, 0.15),
            ("Cu3Au", None, -0.06, 0.0),
            ("CuPd", fcc(CU, PD, a=3.8), -0.1, 0.0),
        ]
        return write_rows(tmp_path / "mine.parquet", rows)

    def test_crystals_of_the_candidates_systems_are_relaxed_by_the_potential(self, tmp_path, rows):
        table = run(tmp_path, [rows], ["CuAu3", "AgAlPt"], rejected=[None, "no_template"])
        reasons = {row["id"]: row["rejected_by"] for row in table.to_pylist() if row["source"] == "mine"}
        assert reasons == {
            "Cu-0": None,
            "Au-1": None,
            "CuAu-2": None,
            "CuAu-3": None,
            "CuAu-4": "above_max_above_hull",
            "Cu3Au-5": "no_crystal",
        }
        # AFLOW has compounds of Cu and Au; its elements and ASE's stand beside those of the database.
        of = {(row["source"], row["formula"]) for row in used(table)}
        assert {("mine", "Cu"), ("aflow", "Cu"), ("ase", "Cu"), ("mine", "Au"), ("ase", "Au"), ("aflow", "CuAu")} <= of
        for row in used(table):
            assert row["relaxed"]
            assert row["energy_ev_per_atom"] == pytest.approx(0, abs=0.5)  # EMT's elements stand near 0
        primitive = {row["id"]: len(row["site_elements"]) for row in used(table)}
        assert (primitive["Cu-0"], primitive["CuAu-2"]) == (1, 2)
        said = reference_set(table)
        assert said.startswith("ase ")
        assert "on aflow pymatgen" in said
        assert f"mine {file_digest(rows)[:8]}" in said
        found = distance(Hull.from_table(table), "CuAu3", 0.5)
        assert found.energy_above_hull_ev_per_atom > 0
        assert found.n_references == len(used(table))

    def test_only_the_lowest_polymorphs_are_relaxed(self, tmp_path, rows):
        table = run(tmp_path, [rows], ["CuAu"], max_per_formula=1)
        reasons = {row["id"]: row["rejected_by"] for row in table.to_pylist()}
        assert (reasons["CuAu-2"], reasons["CuAu-3"]) == (None, "beyond_max_per_formula")

    def test_polymorphs_of_unknown_energy_are_all_relaxed(self, tmp_path):
        rows = [("Cu", fcc(CU, a=a), None, None) for a in (3.5, 3.6, 3.7)]
        table = run(tmp_path, [write_rows(tmp_path / "mine.parquet", rows)], ["Cu2Al"], max_per_formula=1)
        assert sum(row["source"] == "mine" for row in used(table)) == 3

    def test_elements_that_the_database_lacks(self, tmp_path):
        rows = write_rows(tmp_path / "formulas.parquet", [("CuAu", None, -0.05, None), ("Al", None, 0.0, None)])
        table = run(tmp_path, [rows], ["CuAl2", "AlO"])
        of = {(row["source"], row["formula"]) for row in used(table)}
        # AFLOW has a crystal of copper and of oxygen, aluminium's is ASE's; molecules are none of these.
        assert {("aflow", "Cu"), ("ase", "Cu"), ("ase", "Al"), ("aflow", "O")} <= of
        assert "formulas" not in {source for source, _ in of}
        assert distance(Hull.from_table(table), "Cu3Al", 1.0).reason is None

    def test_an_element_without_any_crystal_takes_those_of_its_neighbours(self, tmp_path):
        rows = write_rows(tmp_path / "formulas.parquet", [("CuAu", None, None, None)])
        hydrogen = [row for row in run(tmp_path, [rows], ["CuH"]).to_pylist() if row["formula"] == "H"]
        assert len(hydrogen) == 6  # two of oxygen, three of nitrogen, one of chlorine
        assert {row["source"] for row in hydrogen} == {"aflow"}
        assert ground_state("H") is None
        assert (
            known_crystals.neighbours_crystals(118, known_crystals.aflow_crystals()) == []
        )  # without a place in the scale

    def test_an_element_that_the_potential_does_not_know_has_no_hull(self, tmp_path):
        rows = write_rows(tmp_path / "formulas.parquet", [("CuAu", None, None, None)])
        table = run(tmp_path, [rows], ["CuFe"])
        assert distance(Hull.from_table(table), "CuFe", 0.0).reason == "no reference energy of Fe"

    def test_the_databases_own_formation_energies(self, tmp_path, rows):
        table = run(tmp_path, [rows], ["CuAu3"], source="database")
        relaxed = sorted((row["energy_ev_per_atom"], row["formula"]) for row in used(table) if row["relaxed"])
        relaxed = {formula: energy for energy, formula in reversed(relaxed)}  # the lowest of each
        assert set(relaxed) == {"Cu", "Au"}
        reasons = {row["id"]: row["rejected_by"] for row in table.to_pylist() if not row["relaxed"]}
        assert reasons == {
            "CuAu-2": None,
            "CuAu-3": "beyond_max_per_formula",
            "CuAu-4": "beyond_max_per_formula",
            "Cu3Au-5": None,
        }
        # A candidate of formation energy 0.01 in place of CuAu (-0.05) lies 0.06 above; Cu3Au is at -0.06 itself.
        halfway = (relaxed["Cu"] + relaxed["Au"]) / 2
        found = distance(Hull.from_table(table), "CuAu", halfway + 0.01)
        assert found.energy_above_hull_ev_per_atom == pytest.approx(0.06)
        assert distance(Hull.from_table(table), "CuAu3", 0.75 * relaxed["Au"] + 0.25 * relaxed["Cu"]).text == (
            "0.500 Au + 0.500 CuAu"
        )
        assert reference_set(table).startswith("formation energies of mine ")
        assert "; elements by ase " in reference_set(table)

    @pytest.mark.parametrize("source", ["potential", "database"])
    def test_an_energy_out_of_all_bounds_is_left_out(self, tmp_path, source):
        rows = [("AgPd", None, -0.1 - place / 1000, None) for place in range(40)]  # what is usual, if of no system here
        rows += [("CuAu", CUAU, -0.05, 0.0), ("CuAu3", fcc(CU, AU, AU, AU, a=4.0), -40.0, 0.0)]
        table = run(tmp_path, [write_rows(tmp_path / "mine.parquet", rows)], ["Cu2Au"], source=source)
        reasons = {row["id"]: row["rejected_by"] for row in table.to_pylist() if row["source"] == "mine"}
        assert reasons == {"CuAu-40": None, "CuAu3-41": "formation_energy_outlier"}

    def test_elements_are_not_measured_by_the_bounds_of_compounds(self, tmp_path):
        rows = [("AgPd", None, -3.0, None)] * 40 + [("Cu", COPPER, 0.0, 0.0)]
        table = run(tmp_path, [write_rows(tmp_path / "mine.parquet", rows)], ["CuAu"])
        assert [row["id"] for row in used(table) if row["source"] == "mine"] == ["Cu-40"]

    def test_databases_without_any_formation_energy(self, tmp_path):
        rows = write_rows(tmp_path / "mine.parquet", [("CuAu", CUAU, None, None)])
        with pytest.raises(
            ValueError, match=r"structures\.hull\.source: 'database', but no row of \['.*mine.parquet'\]"
        ):
            run(tmp_path, [rows], ["CuAu"], source="database")

    def test_references_have_their_own_limit_of_atoms(self, tmp_path):
        large = fcc(CU, CU, AU, AU, a=3.85)
        large.fractional[3] += 0.03  # no smaller cell has these sites
        rows = [("Cu", COPPER, 0.0, 0.0), ("CuAu", large, -0.06, 0.0), ("CuAu", CUAU, -0.05, 0.01)]
        rows = write_rows(tmp_path / "mine.parquet", rows)
        table = run(tmp_path, [rows], ["CuAu"], max_atoms=2, max_per_formula=1, relaxation={"max_atoms": 1})
        reasons = {row["id"]: row["rejected_by"] for row in table.to_pylist() if row["source"] == "mine"}
        assert reasons == {"Cu-0": None, "CuAu-1": "too_many_atoms_to_relax", "CuAu-2": None}

    def test_the_next_polymorphs_take_the_place_of_one_that_fails(self, tmp_path):
        rows = [("CuAu", fcc(CU, AU, a=1.5), -0.9, 0.0)]
        rows += [("CuAu", fcc(CU, CU, AU, AU, a=3.7 + place / 20), -0.5, place / 100) for place in range(1, 5)]
        rows += [("Cu", COPPER, 0.0, 0.0), ("Cu", fcc(CU, a=3.7), 0.0, 0.01)]
        rows = write_rows(tmp_path / "mine.parquet", rows)
        table = run(tmp_path, [rows], ["CuAu"], max_per_formula=1)
        reasons = {row["id"]: row["rejected_by"] for row in table.to_pylist() if row["source"] == "mine"}
        assert reasons == {
            "CuAu-0": "too_close_before_relaxation",
            **dict.fromkeys(["CuAu-1", "CuAu-2", "CuAu-3"]),
            "CuAu-4": "beyond_max_per_formula",
            "Cu-5": None,
            "Cu-6": "beyond_max_per_formula",
        }

    def test_a_crystal_that_cannot_be_relaxed_has_its_energy_as_it_stands(self, tmp_path):
        from ase import Atoms
        from ase.calculators.emt import EMT as Potential

        wide = fcc(CU, CU, AU, AU, a=4.3)
        rows = write_rows(tmp_path / "mine.parquet", [("CuAu", wide, -0.05, 0.0)])
        table = run(tmp_path, [rows], ["CuAu"], relaxation={"max_volume_ratio": 1.001})
        (row,) = [row for row in used(table) if row["source"] == "mine"]
        atoms = Atoms(
            wide.elements, cell=wide.lattice, scaled_positions=wide.fractional, pbc=True, calculator=Potential()
        )
        assert row["energy_ev_per_atom"] == pytest.approx(atoms.get_potential_energy() / 4)
        assert (row["relaxed"], row["converged"], row["potential"][:4]) == (False, False, "ase ")
        lattice = np.reshape(row["lattice_angstrom"], (3, 3))
        assert abs(np.linalg.det(lattice)) == pytest.approx(wide.volume / 2)

    def test_formulas_of_the_systems_are_all_there(self, tmp_path):
        formulas = ["CuAu", "Cu2Au", "Cu", "CuPd"]
        rows = write_rows(tmp_path / "formulas.parquet", [(formula, None, None, None) for formula in formulas])
        table = run(tmp_path, [rows], ["CuAu3"])
        reasons = {row["formula"]: row["rejected_by"] for row in table.to_pylist() if row["source"] == "formulas"}
        assert reasons == dict.fromkeys(["CuAu", "Cu2Au", "Cu"], "no_crystal")

    def test_formation_energies_of_one_database_alone(self, tmp_path, rows):
        other = write_rows(tmp_path / "other.parquet", [("CuAu3", fcc(CU, AU, AU, AU, a=4.0), -9.0, 0.0)])
        table = run(tmp_path, [rows, other], ["CuAu3"], source="database")
        reasons = {row["id"]: row["rejected_by"] for row in table.to_pylist()}
        assert reasons["other:CuAu3-0"] == "another_database_stands"
        assert reasons["mine:CuAu-2"] is None

    @pytest.mark.parametrize("nothing", [{"source": "none"}, {"relaxation": {"potential": "none"}}])
    def test_nothing_to_measure_from(self, tmp_path, rows, nothing):
        table = run(tmp_path, [rows], ["CuAu"], **nothing)
        assert (len(table), reference_set(table)) == (0, None)
        found = distance(Hull.from_table(table), "CuAu", 0.0)
        assert (found.energy_above_hull_ev_per_atom, found.n_references) == (None, 0)

    def test_unknown_source_of_energies(self):
        with pytest.raises(ValueError, match=r"structures\.hull\.source: 'dft'"):
            HullSettings(source="dft")
