"""Entry point of the structures stage: selected candidates in, crystals or reasons out."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, from_table, minimum_distance, structure_hash, to_columns
from pipeline.composition import Compositions
from pipeline.structures.assign import TOO_CLOSE, Built, Library, same_crystal
from pipeline.structures.relax import Relaxed, Relaxer
from pipeline.structures.schema import CARRIED, SAMPLES, SELECTED, STRUCTURES, StructureSettings
from pipeline.structures.symmetry import symmetry
from pipeline.structures.volume import too_close

BEYOND, DUPLICATE, ENOUGH = "beyond_n_structures", "duplicate", "max_structures_per_formula"


def build_structures(
    *,
    selected_path: str | os.PathLike,
    samples_paths: Sequence[str | os.PathLike],
    templates_path: str | os.PathLike,
    output_path: str | os.PathLike,
    settings: StructureSettings,
    provenance: dict | None = None,
) -> None:
    """Build structures of each selected candidate, the best ranked first, until there are enough.

    A candidate that its generator made as a crystal enters at the distance check, a formula is put on templates.

    Args:
        selected_path: The screening stage's selected candidates, see ``SELECTED``.
        samples_paths: Parts of the sampling stage's table, for the crystals of those candidates.
        templates_path: The template library, see ``TEMPLATES``.
        output_path: Parquet file, see ``STRUCTURES``: a row for each structure, and one with its reason for each
            candidate without.
        settings: How to build.
        provenance: Stored in the file.
    """
    selected = tables.read(selected_path, SELECTED).sort_by([("rank", "ascending"), ("id", "ascending")])
    selected = selected.append_column("formula", Compositions.from_table(selected).formulas())
    generated = _generated(samples_paths, selected["id"])
    library = Library(templates_path)
    relaxer = Relaxer(settings) if settings.relaxation == "chgnet" else None
    rows, n_built = [], 0
    kept: dict[str, list[_Kept]] = defaultdict(list)
    progress = tqdm(
        total=min(settings.n_structures, len(selected)), desc="structures", unit=" candidates", mininterval=1
    )
    for candidate in selected.to_pylist():
        if n_built == settings.n_structures:
            rows.append(_row(candidate, rejected_by=BEYOND))
            continue
        cell, of_formula = generated.get(candidate["id"]), kept[candidate["formula"]]
        of_candidate = list(_structures(candidate, cell, of_formula, library, relaxer, settings))
        rows += of_candidate
        if any(row["rejected_by"] is None for row in of_candidate):
            n_built += 1
            progress.update()
    progress.close()
    plain = {name: [row[name] for row in rows] for name in STRUCTURES.schema.names if name not in _CELL_NAMES}
    tables.write(output_path, STRUCTURES, {**plain, **to_columns([row["cell"] for row in rows])}, provenance)


_CELL_NAMES = {field.name for field in CELL_COLUMNS}


def _generated(samples_paths: Sequence[str | os.PathLike], ids: pa.ChunkedArray) -> dict[str, Cell]:
    """The crystals that the generator made of the samples with these ids."""
    wanted = pc.field("id").isin(ids.combine_chunks())
    tables_of_parts = [tables.read(path, SAMPLES, rows=wanted) for path in samples_paths]
    return {
        id_: cell
        for part in tables_of_parts
        for id_, cell in zip(part["id"].to_pylist(), from_table(part), strict=True)
        if cell is not None
    }


class _Kept(NamedTuple):
    """A structure that is kept: its cell as it was built or generated, and as it is."""

    start: Cell
    cell: Cell


def _structures(
    candidate: dict,
    generated: Cell | None,
    kept: list[_Kept],
    library: Library,
    relaxer: Relaxer | None,
    settings: StructureSettings,
) -> Iterator[dict]:
    """Rows of one candidate; what is kept joins ``kept``, the structures that its formula has so far."""
    if len(kept) == settings.max_structures_per_formula:
        built, reason = [], ENOUGH
    elif generated is None:
        found, reason = library.build(
            candidate["elements"], candidate["counts"], candidate["oxidation_states"], settings
        )
        built = [(structure.cell, _origin(structure)) for structure in found]
    elif too_close(generated, settings.min_distance_factor):
        built, reason = [], TOO_CLOSE
    elif any(same_crystal(generated, other.start) for other in kept):  # no relaxation is spent on it
        built, reason = [], DUPLICATE
    else:
        built, reason = [(generated, {})], None
    if reason:
        yield _row(candidate, rejected_by=reason)
    for start, origin in built:
        relaxed = relaxer.relax(start) if relaxer and relaxer.can_relax(start) else None
        cell = relaxed.cell if isinstance(relaxed, Relaxed) else start
        rejected_by = relaxed if isinstance(relaxed, str) else None
        if rejected_by is None and any(same_crystal(cell, other.cell) for other in kept):
            rejected_by = DUPLICATE
        if rejected_by is None:
            kept.append(_Kept(start, cell))
        yield _row(
            candidate,
            id=f"{candidate['formula']}-{structure_hash(cell)}",
            cell=cell,
            rejected_by=rejected_by,
            **origin,
            **_geometry(cell, settings.symprec_angstrom),
            **_relaxation(relaxed, start, settings.symprec_angstrom),
        )


def _row(candidate: dict, **known) -> dict:
    row = dict.fromkeys([*STRUCTURES.schema.names, "cell"])
    row |= {field.name: candidate[field.name] for field in CARRIED}
    return row | {name: candidate[name] for name in ("id", "formula", "rank")} | known


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
