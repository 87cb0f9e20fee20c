"""Entry point of the structures stage: selected formulas in, crystals or reasons out."""

import os
from collections.abc import Iterator

from tqdm import tqdm

from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, minimum_distance, structure_hash, to_columns
from pipeline.structures.assign import Built, Library, same_crystal
from pipeline.structures.relax import Relaxed, Relaxer
from pipeline.structures.schema import CARRIED, SELECTED, STRUCTURES, StructureSettings
from pipeline.structures.symmetry import symmetry

BEYOND, DUPLICATE = "beyond_n_structures", "duplicate"


def build_structures(
    *,
    selected_path: str | os.PathLike,
    templates_path: str | os.PathLike,
    output_path: str | os.PathLike,
    settings: StructureSettings,
    provenance: dict | None = None,
) -> None:
    """Build a structure for each selected formula, the best ranked first, until there are enough.

    Args:
        selected_path: The screening stage's selected formulas, see ``SELECTED``.
        templates_path: The template library, see ``TEMPLATES``.
        output_path: Parquet file, see ``STRUCTURES``: a row for each structure, and one with its reason for each
            formula without.
        settings: How to build.
        provenance: Stored in the file.
    """
    selected = tables.read(selected_path, SELECTED).sort_by([("rank", "ascending"), ("id", "ascending")])
    library = Library(templates_path)
    relaxer = Relaxer(settings) if settings.relaxation == "chgnet" else None
    rows, n_built = [], 0
    progress = tqdm(total=min(settings.n_structures, len(selected)), desc="structures", unit=" formulas", mininterval=1)
    for formula in selected.to_pylist():
        if n_built == settings.n_structures:
            rows.append(_row(formula, rejected_by=BEYOND))
            continue
        of_formula = list(_structures(formula, library, relaxer, settings))
        rows += of_formula
        if any(row["rejected_by"] is None for row in of_formula):
            n_built += 1
            progress.update()
    progress.close()
    plain = {name: [row[name] for row in rows] for name in STRUCTURES.schema.names if name not in _CELL_NAMES}
    tables.write(output_path, STRUCTURES, {**plain, **to_columns([row["cell"] for row in rows])}, provenance)


_CELL_NAMES = {field.name for field in CELL_COLUMNS}


def _structures(
    formula: dict, library: Library, relaxer: Relaxer | None, settings: StructureSettings
) -> Iterator[dict]:
    built, reason = library.build(formula["elements"], formula["counts"], formula["oxidation_states"], settings)
    if reason:
        yield _row(formula, rejected_by=reason)
    kept: list[Cell] = []
    for structure in built:
        relaxed = relaxer.relax(structure.cell) if relaxer and relaxer.can_relax(structure.cell) else None
        cell = relaxed.cell if isinstance(relaxed, Relaxed) else structure.cell
        rejected_by = relaxed if isinstance(relaxed, str) else None
        if any(same_crystal(cell, other) for other in kept):
            rejected_by = rejected_by or DUPLICATE
        if rejected_by is None:
            kept.append(cell)
        yield _row(
            formula,
            id=f"{formula['id']}-{structure_hash(cell)}",
            cell=cell,
            rejected_by=rejected_by,
            **_origin(structure),
            **_geometry(cell, settings.symprec_angstrom),
            **_relaxation(relaxed, structure.cell, settings.symprec_angstrom),
        )


def _row(formula: dict, **known) -> dict:
    row = dict.fromkeys([*STRUCTURES.schema.names, "cell"])
    row |= {field.name: formula[field.name] for field in CARRIED}
    return row | {"id": formula["id"], "formula": formula["id"], "rank": formula["rank"]} | known


def _origin(structure: Built) -> dict:
    return {
        "template_id": structure.template["id"],
        "template_source": structure.template["source"],
        "template_label": structure.template["label"],
        "template_formula": structure.template["reference_formula"],
        "substitution_similarity": structure.similarity,
        "volume_method": structure.volume_method,
    }


def _geometry(cell: Cell, symprec_angstrom: float) -> dict:
    found = symmetry(cell, symprec_angstrom)
    return {
        "space_group_number": found and found.number,
        "space_group_symbol": found and found.symbol,
        "n_sites": len(cell.elements),
        "volume_a3_per_atom": cell.volume / len(cell.elements),
        "minimum_distance_angstrom": minimum_distance(cell),
    }


def _relaxation(relaxed: Relaxed | str | None, before: Cell, symprec_angstrom: float) -> dict:
    if not isinstance(relaxed, Relaxed):
        return {"relaxed": False}
    found = symmetry(before, symprec_angstrom)
    return {
        "relaxed": True,
        "chgnet_energy_ev_per_atom": relaxed.energy_ev_per_atom,
        "relaxation_volume_ratio": relaxed.volume_ratio,
        "relaxation_steps": relaxed.n_steps,
        "maximum_force_ev_per_angstrom": relaxed.maximum_force_ev_per_angstrom,
        "converged": relaxed.converged,
        "space_group_number_before": found and found.number,
    }
