"""CIFs as people have them: symmetry however it is written, what sites hold, text of any kind, and what is refused."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter

import numpy as np
import psutil
import pytest

from pipeline.cells import Cell, minimum_distance
from pipeline.composition import SYMBOLS
from pipeline.database import archives, workers
from pipeline.database.archives import cells
from pipeline.database.structure_files import read_file
from pipeline.database.symmetry_operations import group, settings

CUBIC = (5.64, 5.64, 5.64, 90, 90, 90)
HEXAGONAL = (3.2094, 3.2094, 5.2108, 90, 90, 120)
NACL = "Na1 Na1+ 0 0 0\nCl1 Cl1- 0.5 0.5 0.5\n"
CSCL = "Cs1 Cs 0 0 0\nCl1 Cl 0.5 0.5 0.5\n"
COLUMNS = "label type_symbol fract_x fract_y fract_z"


def cif(cell=(4, 4, 4, 90, 90, 90), sites=CSCL, more="", columns=COLUMNS, name="x") -> str:
    names = ("length_a", "length_b", "length_c", "angle_alpha", "angle_beta", "angle_gamma")
    lines = [f"data_{name}", *(f"_cell_{key} {value}" for key, value in zip(names, cell, strict=True)), more, "loop_"]
    return "\n".join([*lines, *(f"_atom_site_{column}" for column in columns.split()), sites, ""])


def named(space_group: str) -> str:
    return f"_symmetry_space_group_name_H-M '{space_group}'"


def operations(*triplets: str) -> str:
    return "loop_\n_symmetry_equiv_pos_as_xyz\n" + "".join(f"'{triplet}'\n" for triplet in triplets)


def read(text: str | bytes) -> Cell | str:
    """The only crystal of a file, or the reason."""
    [(name, found)] = read_file("cif", text if isinstance(text, bytes) else text.encode())
    assert name == ""
    return found.removeprefix("cannot be read as cif: ") if isinstance(found, str) else found


def formula(cell: Cell) -> dict[str, int]:
    return {SYMBOLS[z - 1]: count for z, count in sorted(Counter(cell.elements.tolist()).items())}


# Symmetry -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "symmetry",
    [
        *map(named, ("F m -3 m", "Fm-3m", "FM-3M", "F m 3 m", "F_m_-3_m", "F m -3 m S")),
        named("F m -3 m") + "\n_symmetry_Int_Tables_number 225",
        "_space_group_name_H-M_alt 'F m -3 m'",
        "_space_group.name_H-M_alt 'F m -3 m'",
        "_SPACE_GROUP_IT_NUMBER 225",
        "_space_group_name_Hall '-F 4 2 3'",
        named("?") + "\n_symmetry_Int_Tables_number 225",
    ],
)
def test_rock_salt_from_its_name(symmetry):
    cell = read(cif(CUBIC, NACL, symmetry))
    assert formula(cell) == {"Na": 4, "Cl": 4} and cell.volume == pytest.approx(5.64**3)
    assert minimum_distance(cell) == pytest.approx(5.64 / 2)


@pytest.mark.parametrize(
    "name", ["P 21/c", "P2_1/c", "P_21/c", "P 1 21/c 1", "P_1_21/c_1", "P12_1/c1", "P2(1)/c", "P 2(1)/c", "P21/C", ""]
)
def test_ways_to_write_a_name(name):
    [operations] = settings(name, 14)
    assert set(operations) == {"x,y,z", "-x,y+1/2,-z+1/2", "-x,-y,-z", "x,-y+1/2,z+1/2"}


@pytest.mark.parametrize(
    ("space_group", "x", "sites"),
    [
        ("F d -3 m Z", "0.125", 8),
        ("F d -3 m:2", "0.125", 8),
        ("F d -3 m S", "0", 8),
        ("F d -3 m :1", "0", 8),
        ("F d -3 m Z", "0", 16),
    ],
)
def test_the_origin_that_a_name_chooses(space_group, x, sites):
    cell = read(cif((5.43, 5.43, 5.43, 90, 90, 90), f"Si1 Si {x} {x} {x}", named(space_group)))
    assert len(cell.elements) == sites


def test_an_origin_that_no_name_chooses_is_found_by_the_formula_or_refused():
    cubic = (5.43, 5.43, 5.43, 90, 90, 90)
    for group_of in (named("F d -3 m"), "_space_group_IT_number 227"):
        for x in ("0", "0.125"):
            sites = f"Si1 Si {x} {x} {x}"
            assert "may mean 2 settings, and more than one of them fits" in read(cif(cubic, sites, group_of))
            cell = read(cif(cubic, sites, group_of + "\n_chemical_formula_sum Si\n_cell_formula_units_Z 8"))
            assert len(cell.elements) == 8 and minimum_distance(cell) == pytest.approx(5.43 * 3**0.5 / 4)


@pytest.mark.parametrize("space_group", ["R -3 c", "R -3 c {}", "R -3 c:{}", "R-3c", "167"])
def test_hexagonal_and_rhombohedral_axes_of_corundum(space_group):
    hexagonal = (4.7602, 4.7602, 12.9933, 90, 90, 120), "Al1 Al3+ 0 0 0.35216\nO1 O2- 0.30624 0 0.25\n"
    rhombohedral = (
        (5.128, 5.128, 5.128, 55.28, 55.28, 55.28),
        "Al1 Al 0.35216 0.35216 0.35216\nO1 O 0.55624 0.94376 0.25\n",
    )
    found = []
    for mark, (cell, sites) in zip("HR", (hexagonal, rhombohedral), strict=True):
        name = space_group.format(mark)
        found.append(read(cif(cell, sites, "_space_group_IT_number 167" if name == "167" else named(name))))
    assert [formula(cell) for cell in found] == [{"O": 18, "Al": 12}, {"O": 6, "Al": 4}]
    assert found[0].volume / found[1].volume == pytest.approx(3, rel=2e-3)
    assert minimum_distance(found[0]) == pytest.approx(minimum_distance(found[1]), abs=5e-3)


@pytest.mark.parametrize("third", ["0.3333", "0.333", "0.33", "0.3333(2)", "0.33333333"])
def test_special_positions_written_at_low_precision(third):
    two_thirds = f"{1 - float(third.removesuffix('(2)')):.{len(third.removesuffix('(2)')) - 2}f}"
    cell = read(cif(HEXAGONAL, f"Mg1 Mg {third} {two_thirds} 0.25", named("P 63/m m c")))
    assert len(cell.elements) == 2
    assert np.allclose(sorted(cell.fractional.tolist()), [[1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]], atol=1e-12)


def test_a_site_at_the_edge_of_merging_is_refused_not_guessed():
    """Images about a threefold axis: three turns move by sqrt(3) times the distance, so two rings differ."""
    triplets = ("x,y,z", "-y,x-y,z", "-x+y,-x,z")
    for x, sites in ((0.001, 1), (0.5, 3)):
        cell = read(cif((5, 5, 5, 90, 90, 120), f"Na1 Na {x} 0 0", operations(*triplets)))
        assert len(cell.elements) == sites
    six = (*triplets, "-x,-y,z", "y,-x+y,z", "x-y,x,z")  # a sixth turn moves by 1, a third by 1.7, a half by 2
    assert "lies about 0.1 angstrom from a symmetry element" in read(
        cif((5, 5, 5, 90, 90, 120), "Na1 Na 0.015 0 0", operations(*six))
    )


def test_operations_as_they_are_written():
    for triplets in (
        ("x,y,z", "-x,-y,-z", "x+1/2,y+1/2,z", "-x+1/2,-y+1/2,-z"),
        ("X, Y, Z", "-X, -Y, -Z", "1/2+X, 1/2+Y, Z", "1/2-X, 1/2-Y, -Z"),
        ("x,y,z", "-x,-y,-z", "x+0.5,y+.50000,z", "0.5-x,0.5-y,-z", "x,y,z"),
    ):
        cell = read(cif((4, 5, 6, 90, 90, 90), "K1 K 0.1 0.2 0.3", operations(*triplets)))
        assert np.allclose(
            sorted(cell.fractional.tolist()),
            [[0.1, 0.2, 0.3], [0.4, 0.3, 0.7], [0.6, 0.7, 0.3], [0.9, 0.8, 0.7]],
        )


def test_a_group_knows_its_products():
    four = group(("x,y,z", "-y,x,z", "-x,-y,z", "y,-x,z"))
    assert four.products.tolist() == [[0, 1, 2, 3], [1, 2, 3, 0], [2, 3, 0, 1], [3, 0, 1, 2]]
    assert four.misfit(np.diag([3.0, 3.0, 5.0])) == 0
    assert four.misfit(np.diag([3.0, 4.0, 5.0])) == pytest.approx(16 / 9 - 1)


@pytest.mark.parametrize(
    ("symmetry", "reason"),
    [
        (named("Q q 7"), "space group 'Q q 7' is unknown"),
        ("_space_group_IT_number 231", "no space group has the number 231"),
        (named("P m -3 m") + "\n_symmetry_Int_Tables_number 225", "'P m -3 m' has the number 221, the file says 225"),
        (named("P 63/m m c"), "the cell does not have its space group's symmetry"),
        (operations("x,y,z") + named("P m -3 m"), "the only symmetry operation is x,y,z, the space group is P m -3 m"),
        (
            operations("x,y,z") + named("P m -3 m") + "\n_cell_formula_units_Z 1",
            "the only symmetry operation is x,y,z, the space group is P m -3 m",
        ),
        (
            operations("x,y,z", "-x,-y,-z")
            + named("P m -3 m")
            + "\n_cell_formula_units_Z 4\n_chemical_formula_sum CsCl",
            "the sites make Cs1 Cl1, the cell holds 4 of CsCl; symmetry operations are missing",
        ),
        (operations("x,y,z", "-y,x,z"), "are no group: products of them are missing"),
        (operations("x,y,z", "x+1/7,y,z"), "symmetry operation 'x+1/7,y,z'"),
        (operations("x,y,z", "x+0.00025,y,z"), "is none of a space group"),
        (operations("x,y,z", "x+0.1,y,z"), "symmetry operation 'x+0.1,y,z'"),
        (operations("x,y,z", "x/2,y,z"), "is none of a space group"),
        (operations("x,y,z", "x,y"), "symmetry operation 'x,y'"),
        (operations("x,y,z", "__import__('os').system('x'),y,z"), "symmetry operation '__import__"),
        (operations(*(f"x+{i},y,z" for i in range(400))), "400 symmetry operations, at most 384"),
        ("_space_group_symop_magn_operation.xyz x,y,z,+1", "only magnetic symmetry operations"),
        ("_cell_modulation_dimension 1", "modulated structure"),
        (
            "_chemical_formula_sum 'Cs Cl'\n_cell_formula_units_Z 4",
            "the cell holds 4 of Cs Cl; symmetry operations are",
        ),
    ],
)
def test_symmetry_that_is_refused(symmetry, reason):
    assert reason in read(cif(more=symmetry))


# Sites ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "element"),
    [
        *(("Fe3+", "Fe"), ("FE+3", "Fe"), ("O2-", "O"), ("O-2", "O"), ("D", "H"), ("H1+", "H"), ("Cl1-", "Cl")),
        *(
            ("Fe2.5+", "Fe"),
            ("cu", "Cu"),
            ("Fe0+", "Fe"),
            ("U", "U"),
            ("T", "H"),
            ("'Na'", "Na"),
            ("Si4", "Si"),
            ("CO", "Co"),
        ),
    ],
)
def test_symbols(symbol, element):
    assert formula(read(cif(sites=f"A1 {symbol} 0 0 0"))) == {element: 1}


@pytest.mark.parametrize("symbol", ["Wat", "OH", "Fe/Co", "X", "Vac", "NH4", "PO4", "NO3", "M", "Qq", "Cval", "3+"])
def test_symbols_of_no_element(symbol):
    assert read(cif(sites=f"A1 {symbol} 0 0 0")) == f"'{symbol}' is no element"


@pytest.mark.parametrize(
    ("label", "sum_formula", "found"),
    [
        *(("Fe1", "?", "Fe"), ("CaM2", "?", "Ca"), ("SiT1", "?", "Si"), ("O1A", "?", "O"), ("Ow1", "?", "O")),
        *(("OW2", "?", "O"), ("OH", "?", "O"), ("Nh1", "?", "N"), ("D1", "?", "H"), ("Na(1)", "?", "Na")),
        *(("FE1", "Fe", "Fe"), ("CO1", "Co", "Co"), ("CO1", "C", "C"), ("Ca1", "C", "C"), ("Co1", "?", "Co")),
        ("CO1", "?", "label 'CO1' may be Co or C"),
        ("HO1", "?", "label 'HO1' may be Ho or H"),
        ("Wat1", "?", "label 'Wat1' names no atom"),
        ("Void", "?", "label 'Void' names no atom"),
        ("Q1", "?", "label 'Q1' names no element"),
        ("1", "?", "label '1' names no element"),
    ],
)
def test_labels_that_must_serve_as_symbols(label, sum_formula, found):
    text = cif(
        sites=f"{label} 0 0 0", columns="label fract_x fract_y fract_z", more=f"_chemical_formula_sum {sum_formula}"
    )
    result = read(text)
    assert result.startswith(found) if isinstance(result, str) else formula(result) == {found: 1}


OCCUPIED = COLUMNS + " occupancy"


@pytest.mark.parametrize(
    ("sites", "elements"),
    [
        ("A1 Fe 0 0 0 1.0\nB1 O .5 .5 .5 ?", {"O": 1, "Fe": 1}),
        ("A1 Fe 0 0 0 1.\nB1 O .5 .5 .5 0.9995(3)", {"O": 1, "Fe": 1}),
        ("A1 Fe2+ 0 0 0 0.5\nA2 Fe3+ 0 0 0 0.5\nB1 O .5 .5 .5 1", {"O": 1, "Fe": 1}),
        ("A1 Fe 0 0 0 .\nH1 D .5 .5 .5 0.92\nH2 H .5 .5 .5 0.08", {"H": 1, "Fe": 1}),
        ("A1 Fe 0 0 0 1\nQ1 X .5 .5 .5 0", {"Fe": 1}),
    ],
)
def test_sites_that_are_full(sites, elements):
    assert formula(read(cif(sites=sites, columns=OCCUPIED))) == elements


@pytest.mark.parametrize(
    ("sites", "columns", "reason"),
    [
        ("A1 Fe 0 0 0 0.5", OCCUPIED, "partial occupancies: Fe 0.5 at 0 0 0"),
        ("A1 Fe 0 0 0 0.5\nA2 Co 0 0 0 0.5", OCCUPIED, "partial occupancies: Co 0.5, Fe 0.5|Fe 0.5, Co 0.5"),
        ("A1 Fe 0 0 0 0.99", OCCUPIED, "partial occupancies: Fe 0.99"),
        ("A1 Fe 0 0 0 -1", OCCUPIED, "partial occupancies"),
        ("A1 Fe 0 0 0 some", OCCUPIED, "occupancy of site A1: 'some' is no number"),
        ("A1 Fe 0 0 0 1\nA2 Fe 0 0 0 1", OCCUPIED, "stands twice or is more than full: 2 at"),
        ("A1 Fe 0 0 0 1\nA2 Fe 1 0 0 1", OCCUPIED, "atoms overlap: 0.000"),
        ("A1 Fe 0 0 0 1\nA2 Fe 0 0 0.1 1", OCCUPIED, "atoms overlap: 0.400"),
        ("A1 Fe 0 0 0\nH1 H ? ? ?", COLUMNS, "site H1 has no position"),
        ("A1 Fe 0 0 1/3", COLUMNS, "position of site A1: '1/3' is no number"),
        ("A1 Fe 0 0 nan", COLUMNS, "'nan' is no number"),
        ("A1 O 0 0 0 2", COLUMNS + " attached_hydrogens", "hydrogen without positions at site A1"),
        ("A1 Fe 0 0 0 dum", COLUMNS + " calc_flag", "no sites with atoms"),
        ("A1 Fe 0 0", "label type_symbol Cartn_x Cartn_y", "no block has atom sites with fractional coordinates"),
        ("A1 Fe 0 0", "label type_symbol fract_x fract_y", "no sites with fractional coordinates"),
        ("", COLUMNS, "no block has atom sites with fractional coordinates"),
        ("A1 Fe 0 0 0\nH1 H . . .", COLUMNS, "site H1 has no position"),
        ("A1 Fe 0 0 0\nloop_\n_atom_site_occupancy\n1\n1", COLUMNS, "tables of different lengths"),
        ("A1 Fe 0 0", COLUMNS, "line 9: Wrong number of values in loop"),
    ],
)
def test_sites_that_are_refused(sites, columns, reason):
    found = read(cif(sites=sites, columns=columns))
    assert isinstance(found, str) and any(part in found for part in reason.split("|")), found


def test_anisotropic_displacements_are_passed_over():
    names = "".join(f"_atom_site_aniso_{name}\n" for name in ("label", "U_11", "U_22"))
    assert formula(read(cif() + f"loop_\n{names}Cs1 0.01(1) ?\nCl1 . 0.02\n")) == {"Cl": 1, "Cs": 1}


@pytest.mark.parametrize(
    ("sum_formula", "reason"),
    [
        *(
            ("'Cs Cl'", None),
            ("'Cs4 Cl4'", None),
            ("CsCl", None),
            ("Cs1.0Cl1.0", None),
            ("'Cs0.995 Cl1'", None),
            ("?", None),
            ("'(Cs Cl)2'", None),
        ),
        ("'H2 Cs Cl O'", "the sites make Cs1 Cl1, the formula is H2 Cs Cl O"),
        ("Cs2Cl", "the sites make Cs1 Cl1, the formula is Cs2Cl"),
        ("'Cs2 Cl'", "the sites make Cs1 Cl1, the formula is Cs2 Cl"),
        ("'Cs Br'", "the sites make Cs1 Cl1, the formula is Cs Br"),
    ],
)
def test_the_formula_is_held_against_the_sites(sum_formula, reason):
    found = read(cif(more=f"_chemical_formula_sum {sum_formula}"))
    assert isinstance(found, Cell) if reason is None else found == reason


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ((4, 4, "?", 90, 90, 90), "_cell_length_c is missing"),
        ((4, 4, "x", 90, 90, 90), "_cell_length_c: 'x' is no number"),
        ((4, 4, -4, 90, 90, 90), "are none of a crystal"),
        ((4, 4, 4, 90, 90, 180), "are none of a crystal"),
        ((4, 4, 4, 120, 120, 120), "do not close a cell"),
        ((4, 4, 4, 30, 30, 90), "do not close a cell"),
        ((4, 4, 0.01, 90, 90, 90), "cell volume is 0.16"),
        (("4.000(12)", "4.", "4e0", "90.0", "90.00(1)", 90), None),
    ],
)
def test_cells(cell, reason):
    found = read(cif(cell))
    assert found.volume == pytest.approx(64) if reason is None else reason in found


# Text -----------------------------------------------------------------------------------------------------------------

TEXT = cif(more="_publ_author_name 'Müller, Å.'\n# Ångström ©\n")


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        TEXT.encode("utf-8-sig"),
        TEXT.encode("latin-1"),
        TEXT.encode("utf-16"),
        b"\xfe\xff" + TEXT.encode("utf-16-be"),
        TEXT.replace("\n", "\r\n").encode(),
        TEXT.replace("\n", "\r").encode(),
        TEXT.encode() + b"\x1a",
        TEXT.replace(" ", "\xa0").encode(),
        ("#\\#CIF_1.1\n\n" + TEXT).encode(),
        ("#\\#CIF_2.0\n" + TEXT + "_a '''b\nc'd'''\n_b \"\"\"e\"\"\"\n_f [1 [2 3] {'x':4}]\n_g {'h':[1 2]}\n").encode(),
        TEXT.replace("_atom_site_", "_atom_site.").replace("_cell_", "_CELL.").encode(),
        TEXT.replace("data_x", "data_global\n_publ_section_title\n;\ntitle\n;\nDATA_x").encode(),
    ],
)
def test_encodings_line_ends_and_versions(content):
    cell = read(content)
    assert formula(cell) == {"Cl": 1, "Cs": 1} and cell.volume == pytest.approx(64)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no block has atom sites with fractional coordinates"),
        ("data_a\n_b c\n", "no block has atom sites with fractional coordinates"),
        ("garbage", "line 1: expected block header (data_)"),
        (TEXT + "_name P 1\n", "parse error"),
        (TEXT + "_cell_length_a 5\n", "_cell_length_a stands twice"),
        (TEXT.split("loop_")[0], "no block has atom sites"),
        (cif(sites="? ? ? ? ?"), "no block has atom sites"),
        ("data_x\n_atom_site_fract_x 0\n_atom_site_fract_y 0\n_atom_site_fract_z 0\n", "_cell_length_a is missing"),
        (cif().replace("Cs1", "Cs\0"), "it is no text"),
    ],
)
def test_files_that_are_refused(text, reason):
    assert reason in read(text)


ICSD = """
#(C) 2016 by Fachinformationszentrum Karlsruhe.  All rights reserved.
data_59959-ICSD
_database_code_ICSD 59959
_chemical_formula_structural 'K Mn F3'
_chemical_formula_sum 'F3 K1 Mn1'
_publ_section_title

;
Electron density and electrostatic potential of K Mn F3
;
_cell_length_a 4.1869(5)
_cell_length_b 4.1869(5)
_cell_length_c 4.1869(5)
_cell_angle_alpha 90.
_cell_angle_beta 90.
_cell_angle_gamma 90.
_cell_volume 73.4
_cell_formula_units_Z 1
_symmetry_space_group_name_H-M 'P m -3 m'
_symmetry_Int_Tables_number 221
loop_
_atom_type_symbol
_atom_type_oxidation_number
F1- -1
K1+ 1
Mn2+ 2
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_symmetry_multiplicity
_atom_site_Wyckoff_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_B_iso_or_equiv
_atom_site_occupancy
_atom_site_attached_hydrogens
F1 F1- 3 d .5 . . .0231(5) 1. 0
K1 K1+ 1 b .5 .5 .5 .01619(5) 1. 0
Mn1 Mn2+ 1 a . . . .00631(4) 1. 0
#End of TTdata_59959-ICSD"""


def test_as_icsd_writes_it():
    """Its zeros are dots."""
    cell = read(ICSD)
    assert formula(cell) == {"F": 3, "K": 1, "Mn": 1} and minimum_distance(cell) == pytest.approx(4.1869 / 2)
    moved = ICSD.replace("d .5 . .", "d .5 .5 .5").replace("b .5 .5 .5", "b . . .5")
    assert "the sites make F1 K3 Mn1" in read(moved)
    assert "site F1 has no position" in read(ICSD.replace("_chemical_formula_sum", "_my_formula"))


def test_as_pearsons_and_the_pauling_file_write_it(tmp_path):
    """Blocks of the phase, of the standardised cell, and of the reduced cell without its atoms: one crystal."""
    reduced = cif((4, 4, 4, 90, 90, 90), "? ? ? ? ?", named("") + "\n_symmetry_Int_Tables_number ?", name="niggli")
    text = "data_global\n_symmetry_Int_Tables_number 12\n_sm_pearson_symbol 'cF8'\n"
    text += cif(CUBIC, "#M1 '0.5Na'\nNa1 'Na' 0 0 0\nCl1 'Cl' .5 .5 .5", named("Fm-3m"), name="standardized") + reduced
    (tmp_path / "sd.cif").write_text(text)
    [row] = cells(tmp_path)
    assert row.id == "sd.cif" and formula(row.cell) == {"Na": 4, "Cl": 4}


def test_each_block_of_a_file_is_a_row(tmp_path):
    blocks = [
        "data_global\n_publ_section_title 'of all'\n",
        cif(name="12345-ICSD"),
        cif(name="bad", columns=OCCUPIED, sites="A1 Fe 0 0 0 0.5"),
        cif(name="12345-ICSD", cell=(5, 5, 5, 90, 90, 90)),
        cif(name="M\xfcller"),
    ]
    (tmp_path / "all.cif").write_bytes("\n".join(blocks).encode("latin-1"))
    (tmp_path / "one.CIF").write_text(blocks[0] + blocks[1])
    found = [(row.file, row.id, row.reason, row.cell and round(row.cell.volume)) for row in cells(tmp_path)]
    partial = "cannot be read as cif: partial occupancies: Fe 0.5 at 0 0 0"
    assert found == [
        ("all.cif", "all.cif#12345-ICSD", None, 64),
        ("all.cif", "all.cif#bad", partial, None),
        ("all.cif", "all.cif#12345-ICSD#2", None, 125),
        ("all.cif", "all.cif#M\\xfcller", None, 64),
        ("one.CIF", "one.CIF", None, 64),
    ]


# Processes ------------------------------------------------------------------------------------------------------------

# What no parser here can be made to do: a process that dies, grows, or never comes back from C.
FAULTS = """
import ctypes
from pipeline.database import structure_files
read_file = structure_files.read_file
def faulty(kind, content):
    if b"crash" in content:
        ctypes.string_at(0)
    if b"hang" in content:
        3 ** 10**9
    if b"grow" in content:
        try:
            bytearray(1 << 40)
        except MemoryError:
            return [("", "MemoryError")]
    return read_file(kind, content)
structure_files.read_file = faulty
structure_files.main()
"""


@pytest.fixture
def faulty(monkeypatch):
    """The processes are new ones, which some files bring down."""
    workers.end_all()
    monkeypatch.setattr(workers, "COMMAND", (*workers.COMMAND[:4], "-c", FAULTS))
    yield
    workers.end_all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_file_that_ends_its_process_costs_its_row_alone(tmp_path, monkeypatch, faulty, n):
    monkeypatch.setattr(archives, "MAX_PARSE_SECONDS", 0.5)
    bad = {7: "crash", 8: "hang", 20: "grow", 21: "crash"}
    for i in range(40):
        (tmp_path / f"{i:02d}.cif").write_text(cif() + f"# {bad.get(i, '')}\n")
    rows = list(cells(tmp_path, n))
    assert [row.id for row in rows] == [f"{i:02d}.cif" for i in range(40)]
    assert {i: row.reason for i, row in enumerate(rows) if row.reason} == {
        7: "cannot be read as cif: the process that reads it died (SIGSEGV)",
        8: "cannot be read as cif within 0.5 s",
        20: "MemoryError",
        21: "cannot be read as cif: the process that reads it died (SIGSEGV)",
    }
    assert all((row.cell is None) == (row.reason is not None) for row in rows)


def test_the_number_of_processes_changes_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for i in range(200):
            archive.writestr(f"{i * 7919 % 200}.cif", cif((4 + i / 100, 4, 4, 90, 90, 90)) if i % 5 else "garbage")
    found = [
        [(row.id, row.reason, row.cell and row.cell.lattice.tolist()) for row in cells(tmp_path / "x.zip", n)]
        for n in (1, 2, 4)
    ]
    assert len(found[0]) == 200 and found[0] == found[1] == found[2]
    assert sum(reason is not None for _, reason, _ in found[0]) == 40


def test_a_parser_in_the_middle_of_c_is_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "MAX_PARSE_SECONDS", 0.05)
    (tmp_path / "a.cif").write_text("data_x\nloop_\n_a\n" + "'x' " * 900_000)
    (tmp_path / "b.cif").write_text(cif())
    assert [row.reason for row in cells(tmp_path)] == ["cannot be read as cif within 0.05 s", None]


def test_reading_is_lazy_and_may_be_left(tmp_path):
    for i in range(500):
        (tmp_path / f"{i:03d}.cif").write_text(cif())
    rows = cells(tmp_path, 2)
    assert next(rows).id == "000.cif"
    rows.close()
    assert [row.id for row in cells(tmp_path, 2)][-1] == "499.cif"


PARENT = """
import sys
from pathlib import Path
from pipeline.database import archives, workers
from pipeline.database.archives import cells
archives.MAX_PARSE_SECONDS = 2
workers.COMMAND = (*workers.COMMAND[:4], "-c", sys.argv[2])
rows = cells(Path(sys.argv[1]), 2)
next(rows)
print("begun", flush=True)
list(rows)
"""


@pytest.mark.parametrize("with_signal", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_outlives_the_parent(tmp_path, root, monkeypatch, with_signal):
    """Two files hang, each in one process: the parent ends at once, its processes with it or in the time of a file."""
    (tmp_path / "a.cif").write_text(cif())
    for name in "bc":
        (tmp_path / f"{name}.cif").write_text(cif() + "# hang\n")
    command = [sys.executable, "-c", PARENT, str(tmp_path), FAULTS]
    parent = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    assert parent.stdout.readline() == b"begun\n"
    children = psutil.Process(parent.pid).children()
    deadline = time.monotonic() + 20
    while len(children) < 2 and time.monotonic() < deadline:
        children = psutil.Process(parent.pid).children()
    assert len(children) == 2
    os.killpg(parent.pid, with_signal) if with_signal == signal.SIGINT else parent.send_signal(with_signal)
    parent.communicate(timeout=10)
    limit = time.monotonic() + 30  # orphans have 2 s of processor time
    while any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children):
        assert time.monotonic() < limit, "a process outlived its parent"
        time.sleep(0.1)


def test_a_process_that_cannot_start_says_so(tmp_path, monkeypatch):
    workers.end_all()
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", "raise SystemExit(1)"))
    (tmp_path / "a.cif").write_text(cif())
    with pytest.raises(RuntimeError, match="does not start"):
        list(cells(tmp_path))


def test_the_process_is_light():
    """What starts for each core must not load pymatgen or torch."""
    code = "import json, sys, pipeline.database.cif; from pipeline.database import structure_files;"
    code += "print(json.dumps(list(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)
    assert not {"pymatgen", "torch", "scipy", "pandas", "ase"} & {name.split(".")[0] for name in loaded}
