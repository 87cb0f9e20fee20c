"""VASP takes potentials by their order alone: every file of a candidate has one order of the species, or is refused."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest
from pymatgen.core import Element
from pymatgen.io.vasp import Incar, sets

from pipeline.cells import Cell
from pipeline.export.checks import check_candidate, check_folder
from pipeline.export.crystal import poscar_cell, write_poscar
from pipeline.provenance import file_digest
from tests.exported import export_one, magnetic, make_export, perovskite, shuffled


def test_species_stand_in_one_order_in_all_files(tmp_path):
    output, line, cell = export_one(tmp_path, magnetic())
    species = (output / line["file"]).read_text().splitlines()[5].split()
    assert sorted(species) == ["Eu", "Fe", "O", "Sr"]
    incar = Incar.from_file(output / line["vasp"] / "INCAR")
    moments, hubbard_u = {"Eu": 10, "Fe": 5}, {"Fe": 5.3}  # of MPRelaxSet, in oxides; MAGMOM 0.6 for the others
    assert incar["MAGMOM"] == [moments.get(Element.from_Z(int(z)).symbol, 0.6) for z in cell.elements]
    assert incar["LDAUU"] == [hubbard_u.get(symbol, 0) for symbol in species]
    spec = (output / line["vasp"] / "POTCAR.spec").read_text().split()
    assert [symbol.partition("_")[0] for symbol in spec] == species
    text = (output / line["espresso"] / "pw.in").read_text()
    assert re.findall(r"^(\w+) +[\d.]+ (\w+)\.upf$", text, re.MULTILINE) == [(symbol, symbol) for symbol in species]
    starting = [float(value) for value in re.findall(r"starting_magnetization\(\d\) = (\S+)", text)]
    assert starting == [0.5 if symbol in moments else 0 for symbol in species]
    assert "nspin            = 2" in text


def orders(items: list) -> list[list]:
    """All orders but the one given."""
    return [list(order) for order in itertools.permutations(items)][1:]


def renamed(text: str, pattern: str, old: list[str], new: list[str]) -> str:
    """The text with ``old`` symbols turned into ``new`` ones in the lines that match."""
    names = dict(zip(old, new, strict=True))
    return re.sub(pattern, lambda match: f"{match[1]}{names[match[2]]}{match[3]}", text, flags=re.MULTILINE)


@pytest.mark.parametrize("cell", [magnetic(), shuffled()], ids=["quaternary", "ternary"])
def test_every_other_order_of_the_species_is_caught_in_every_file(tmp_path, cell):
    """All permutations, in one file at a time; nothing but the contents tells, the check sum is made anew."""
    output, line, cell = export_one(tmp_path, cell)
    poscar, cif = output / line["file"], output / line["cif"]
    spec, incar, pw = output / line["vasp"] / "POTCAR.spec", output / line["vasp"] / "INCAR", output / line["espresso"]
    pw = pw / "pw.in"
    species = poscar.read_text().splitlines()[5].split()
    starts = [list(cell.elements).index(Element(symbol).Z) for symbol in species]
    lists = {tag: value for tag, value in Incar.from_file(incar).items() if isinstance(value, list)}
    caught = Counter()

    def refused(what: str, *planted: tuple, expected: Cell | None = None, match: str | None = None) -> None:
        before = [(path, path.read_text()) for path, _ in planted]
        if [text for _, text in before] == [text for _, text in planted]:
            return  # two species with the same values changed places
        try:
            for path, text in planted:
                path.write_text(text)
            with pytest.raises(ValueError, match=match or planted[0][0].name):
                check_candidate(output, line | {"poscar_sha256": file_digest(poscar)}, expected)
        finally:
            for path, text in before:
                path.write_text(text)
        caught[what] += 1

    both = (poscar, output / line["vasp"] / "POSCAR")
    for order in orders(species):
        place = [species.index(symbol) for symbol in order]
        # Names exchanged in the POSCAR: with and without the cell that it should hold.
        text = poscar.read_text().replace(" ".join(species), " ".join(order))
        text = renamed(text, r"^( +\S+ +\S+ +\S+ )([A-Z][a-z]?)()$", species, order)
        refused("names, cell known", *((path, text) for path in both), expected=cell)
        refused("names", *((path, text) for path in both), match=output.name)
        # The same crystal with its species in another order: what VASP would read with a POTCAR of the old order.
        write_poscar(tmp_path / "sorted", poscar_cell(cell, [Element(symbol).Z for symbol in order]), line["id"])
        text = (tmp_path / "sorted").read_text()
        refused("sorted, cell known", *((path, text) for path in both), expected=cell)
        refused("sorted", *((path, text) for path in both), match=output.name)
        refused("one POSCAR", (both[1], text))
        # The lists beside it.
        symbols = spec.read_text().split()
        refused("POTCAR.spec", (spec, "".join(f"{symbols[i]}\n" for i in place)))
        for tag, values in lists.items():
            runs = np.searchsorted(starts, np.arange(len(values)), side="right") - 1
            one_each = [values[start] for start in starts] if len(values) > len(species) else values
            new = [one_each[i] for i in place]
            new = [new[run] for run in runs] if len(values) > len(species) else new
            refused(tag, (incar, Incar({**Incar.from_file(incar), tag: new}).get_str()))
        text = pw.read_text()
        rows = [row for row in text.splitlines() if row.endswith(".upf")]
        refused("ATOMIC_SPECIES", (pw, text.replace("\n".join(rows), "\n".join(rows[i] for i in place))))
        refused("names of potentials", (pw, renamed(text, r"^(\w+ +\S+ )([A-Z][a-z]?)(\.upf)$", species, order)))
        refused("names of species", (pw, renamed(text, r"^()([A-Z][a-z]?)( +[\d.]+ \S+.upf)$", species, order)))
        refused("names of sites", (pw, renamed(text, r"^()([A-Z][a-z]?)( +[\d.]+ [\d.]+ [\d.]+ *)$", species, order)))
        moments = re.findall(r"starting_magnetization\(\d\) = (\S+)", text)
        new = iter([moments[i] for i in place] if moments else [])
        refused("moments", (pw, re.sub(r"(?<=_magnetization\(\d\) = )\S+", lambda _, new=new: next(new), text)))
        refused("CIF", (cif, renamed(cif.read_text(), r"^(  )([A-Z][a-z]?)(  [A-Z][a-z]?\d+ .*)$", species, order)))
    check_candidate(output, line, cell)
    n = len(orders(species))
    magnetic_only = ("MAGMOM", "LDAUU", "LDAUL", "moments")
    always = {what: times for what, times in caught.items() if what not in magnetic_only}
    assert len(always) == 11 and set(always.values()) == {n}
    if len(species) == 4:
        assert min(caught[what] for what in magnetic_only) > n / 2


def test_interleaved_species_are_caught(tmp_path):
    """A POSCAR whose runs of sites repeat an element would need a POTCAR that repeats it."""
    output, line, cell = export_one(tmp_path, magnetic())
    for order in itertools.islice(itertools.permutations(range(len(cell.elements))), 1, None, 997):
        sites = list(order)
        mixed = Cell(cell.lattice, cell.elements[sites], cell.fractional[sites])
        for path in (output / line["file"], output / line["vasp"] / "POSCAR"):
            write_poscar(path, mixed, line["id"])
        known = line | {"poscar_sha256": file_digest(output / line["file"])}
        with pytest.raises(ValueError, match="POSCAR"):
            check_candidate(output, known, cell)
        with pytest.raises(ValueError, match=output.name):
            check_candidate(output, known)


def test_a_file_without_one_of_its_lines_is_named(tmp_path):
    output, line, cell = export_one(tmp_path, magnetic())
    poscar, vasp, pw = output / line["file"], output / line["vasp"], output / line["espresso"] / "pw.in"
    holds_sites = re.compile(r"^ *[A-Z][a-z]? .*[\d.]+ ")
    for path in (poscar, vasp / "INCAR", vasp / "POTCAR.spec", output / line["cif"], pw):
        text = path.read_text()
        lines = text.splitlines(keepends=True)
        needed = [n for n, row in enumerate(lines) if path.suffix not in (".cif", ".in") or holds_sites.match(row)]
        assert len(needed) >= 4
        for n in needed:
            path.write_text("".join(lines[:n] + lines[n + 1 :]))
            (vasp / "POSCAR").write_bytes(poscar.read_bytes())
            with pytest.raises(ValueError, match=path.name):
                check_candidate(output, line | {"poscar_sha256": file_digest(poscar)}, cell)
        path.write_text(text)
        (vasp / "POSCAR").write_bytes(poscar.read_bytes())
    check_candidate(output, line, cell)


def test_a_library_that_sorts_the_species_by_itself_is_caught(tmp_path, monkeypatch):
    """Its lists would be right for its own POSCAR, and wrong for ours."""

    class Sorting(sets.MPRelaxSet):
        def __init__(self, structure=None, **_):
            super().__init__(structure and structure.get_sorted_structure(key=lambda site: -site.specie.Z))

    monkeypatch.setattr(sets, "MPRelaxSet", Sorting)
    with pytest.raises(ValueError, match=r"POTCAR\.spec: .* the POSCAR's order asks for"):
        make_export(tmp_path, [magnetic()])
    assert not (tmp_path / "export").exists()


def test_there_is_no_potcar_and_one_made_later_is_held_to_the_order(tmp_path):
    output, line, _ = export_one(tmp_path, perovskite())
    assert not list(output.rglob("POTCAR"))
    titles = [f"   TITEL  = PAW_PBE {symbol} 08Apr2002\n" for symbol in ("Sr_sv", "Ti_pv", "O")]
    potcar = output / line["vasp"] / "POTCAR"
    potcar.write_text("".join(titles))
    check_folder(output)
    for order in orders(titles):
        potcar.write_text("".join(order))
        with pytest.raises(ValueError, match=r"POTCAR: potentials of .*, POSCAR of Sr Ti O"):
            check_folder(output)
