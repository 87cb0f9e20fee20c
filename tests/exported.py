"""Known crystals as the structures stage would hand them over, and exports of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline import tables
from pipeline.cells import Cell, compositions_of, structure_hash, to_columns
from pipeline.composition import SYMBOLS
from pipeline.export import export
from pipeline.export.crystal import check_poscar
from pipeline.export.manifest import read_manifest
from pipeline.export.settings import ExportSettings
from pipeline.structures.schema import STRUCTURES

SOURCES = [{"name": "mine", "licence": "CC BY 4.0", "citation": "doi:10.1/x"}, {"name": "other", "provider": "P"}]
LEFT_HANDED = np.array([[0, 4.0, 0.3], [3.1, 0.2, 0], [0, 0.4, 5.2]])
# Without mirror symmetry, so that a mirrored cell is another crystal.
SITES = np.array([[0.02, 0.11, 0.07], [0.48, 0.55, 0.61], [0.31, 0.87, 0.24], [0.76, 0.23, 0.42], [0.9, 0.6, 0.95]])


def known_crystals() -> list[Cell]:
    """Primitive cells of rock salt, fluorite, zinc blende, caesium chloride, perovskite, rutile and wurtzite.

    Lattice constants are near the measured ones, in angstrom.
    """
    from pymatgen.core import Lattice, Structure

    cubic, hexagonal, tetragonal = Lattice.cubic, Lattice.hexagonal, Lattice.tetragonal
    corner, centre = [0, 0, 0], [0.5, 0.5, 0.5]
    structures = [
        Structure.from_spacegroup("Fm-3m", cubic(4.211), ["Mg", "O"], [corner, centre]),
        Structure.from_spacegroup("Fm-3m", cubic(5.463), ["Ca", "F"], [corner, [0.25] * 3]),
        Structure.from_spacegroup("F-43m", cubic(5.409), ["Zn", "S"], [corner, [0.25] * 3]),
        Structure.from_spacegroup("Pm-3m", cubic(4.123), ["Cs", "Cl"], [corner, centre]),
        Structure.from_spacegroup("Pm-3m", cubic(3.905), ["Sr", "Ti", "O"], [corner, centre, [0.5, 0.5, 0]]),
        Structure.from_spacegroup("P4_2/mnm", tetragonal(4.594, 2.959), ["Ti", "O"], [corner, [0.305, 0.305, 0]]),
        Structure.from_spacegroup(
            "P6_3mc", hexagonal(2.698, 4.380), ["Be", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.378]]
        ),
    ]
    return [Cell.from_structure(structure.get_primitive_structure()) for structure in structures]


def perovskite(a: float = 4.0) -> Cell:
    """SrTiO3, its sites interleaved."""
    sites = np.array([[0.5, 0.5, 0], [0, 0, 0], [0.5, 0, 0.5], [0.5, 0.5, 0.5], [0, 0.5, -0.5]])
    return Cell(a * np.eye(3), np.array([8, 38, 8, 22, 8], np.uint8), sites)


def shuffled() -> Cell:
    """SrTiO3 in a left-handed cell without symmetry."""
    return Cell(LEFT_HANDED, np.array([8, 38, 8, 22, 8], np.uint8), SITES)


def magnetic() -> Cell:
    """Four elements with moments and Hubbard U of their own, their sites interleaved, without symmetry."""
    sites = np.random.default_rng(3).permutation(np.arange(1, 9))[:, None] * [0.11, 0.07, 0.05] + [0.03, 0.4, 0.2]
    elements = [SYMBOLS.index(symbol) + 1 for symbol in "O Eu Sr O Fe O Eu O".split()]
    return Cell(np.array([[6.1, 0.2, 0.0], [0.4, 5.2, 0.3], [-0.2, 0.1, 7.3]]), np.array(elements, np.uint8), sites % 1)


def write_structures(path: Path, cells: Sequence[Cell | None], **columns) -> Path:
    """A table of the structures stage, ranked in reverse; a crystal that is None is one of SrTiO3 without a cell."""
    sr_ti_o = Cell(np.eye(3), np.array([38, 22, 8, 8, 8], np.uint8), np.zeros((5, 3)))
    compositions = compositions_of([cell or sr_ti_o for cell in cells])
    formulas = compositions.formulas().to_pylist()
    n = len(cells)
    data = {name: [None] * n for name in STRUCTURES.schema.names} | {
        "id": [f"{f}-{structure_hash(cell)}" if cell else f for f, cell in zip(formulas, cells, strict=True)],
        "formula": formulas,
        "rank": list(range(n, 0, -1)),
        **compositions.columns(),
        "verdict": ["balanced"] * n,
        "nearest_known_id": ["mp-1"] * n,
        "nearest_known_formula": ["BaTiO3"] * n,
        "nearest_known_distance": [0.4] * n,
        "formation_energy_ev_per_atom": [-3.25] * n,
        "n_sites": [len(cell.elements) if cell else None for cell in cells],
        "volume_a3_per_atom": [cell.volume / len(cell.elements) if cell else None for cell in cells],
        "relaxed": [False if cell else None for cell in cells],
        "rejected_by": [None if cell else "no_template" for cell in cells],
        **to_columns(cells),
        **columns,
    }
    tables.write(path, STRUCTURES, data)
    return path


def make_export(folder: Path, cells: Sequence[Cell | None], settings: ExportSettings | None = None, **columns) -> Path:
    """Export the cells into ``folder/export``, with all inputs unless the settings say otherwise."""
    structures = write_structures(folder / "structures.parquet", cells, **columns)
    model = folder / "generator.safetensors"
    model.write_bytes(b"weights")
    tables.write_json(folder / "sources.json", SOURCES)
    export(
        structures_path=structures,
        sources_path=folder / "sources.json",
        output_dir=folder / "export",
        model_paths=[model],
        seed=42,
        settings=settings or ExportSettings(inputs=("vasp", "espresso")),
        provenance={"stage": "export"},
    )
    return folder / "export"


def export_one(folder: Path, cell: Cell) -> tuple[Path, dict, Cell]:
    """Folder, line of the manifest and cell of an export of one candidate."""
    output = make_export(folder, [cell])
    (line,) = read_manifest(output)
    return output, line, check_poscar(output / line["file"])
