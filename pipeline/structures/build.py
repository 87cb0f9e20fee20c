"""Selected candidates in, cells to relax or reasons out."""

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from pipeline import tables
from pipeline.cells import Cell, from_table, structure_hash, with_cells
from pipeline.composition import Compositions
from pipeline.structures.assign import TOO_CLOSE, Built, Library, same_crystal
from pipeline.structures.random_crystals import random_crystals
from pipeline.structures.schema import BUILT, CARRIED, SAMPLES, SELECTED, BuildSettings
from pipeline.structures.volume import too_close

BEYOND, DUPLICATE, ENOUGH = "beyond_n_candidates", "duplicate", "max_structures_per_formula"


def build_structures(
    *,
    selected_path: str | os.PathLike,
    samples_paths: Sequence[str | os.PathLike],
    templates_path: str | os.PathLike,
    output_path: str | os.PathLike,
    settings: BuildSettings,
    seed: int = 0,
    provenance: dict | None = None,
) -> None:
    """Build structures of each selected candidate, the best ranked first, until there are enough candidates.

    A candidate that its generator made as a crystal keeps it, a formula is put on its most probable templates; where
    none fits, symmetric random structures can take their place.

    Args:
        selected_path: The screening stage's selected candidates, see ``SELECTED``.
        samples_paths: Parts of the sampling stage's table, for the crystals of those candidates.
        templates_path: The template library, see ``TEMPLATES``.
        output_path: Parquet file, see ``BUILT``: a row for each structure, and one with its reason for each candidate
            without.
        settings: How to build.
        seed: Seed of the random structures.
        provenance: Stored in the file.
    """
    selected = tables.read(selected_path, SELECTED).sort_by([("rank", "ascending"), ("id", "ascending")])
    selected = selected.append_column("formula", Compositions.from_table(selected).formulas())
    generated = _generated(samples_paths, selected["id"])
    library = Library(templates_path)
    rows, n_built = [], 0
    kept: dict[str, list[Cell]] = defaultdict(list)
    progress = tqdm(
        total=min(settings.n_candidates, len(selected)), desc="structures", unit=" candidates", mininterval=1
    )
    for candidate in selected.to_pylist():
        if n_built == settings.n_candidates:
            rows.append(_row(candidate, rejected_by=BEYOND))
            continue
        cell = generated.get(candidate["id"])
        if cell is None:
            of_candidate = list(_from_formula(candidate, library, settings, seed))
        else:
            of_candidate = [_generators_own(candidate, cell, kept[candidate["formula"]], settings)]
        rows += of_candidate
        if any(row["rejected_by"] is None for row in of_candidate):
            n_built += 1
            progress.update()
    progress.close()
    cells = [row["cell"] for row in rows]
    tables.write(output_path, BUILT, with_cells(BUILT.schema.names, rows, cells), provenance)


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


def _generators_own(candidate: dict, cell: Cell, kept: list[Cell], settings: BuildSettings) -> dict:
    """Row of a candidate that came as a crystal; what is kept joins ``kept``, the crystals of its formula so far."""
    if len(kept) == settings.max_structures_per_formula:
        reason = ENOUGH
    elif too_close(cell, settings.min_distance_factor):
        reason = TOO_CLOSE
    elif any(same_crystal(cell, other) for other in kept):  # no relaxation is spent on it
        reason = DUPLICATE
    else:
        reason = None
        kept.append(cell)
    return _row(candidate, origin="generator", cell=cell, rejected_by=reason)


def _from_formula(candidate: dict, library: Library, settings: BuildSettings, seed: int) -> Iterator[dict]:
    """Rows of a candidate that came as a formula."""
    formula = candidate["elements"], candidate["counts"]
    built, reason = library.build(*formula, candidate["oxidation_states"], settings)
    for place, structure in enumerate(built, start=1):
        yield _structure(candidate, structure.cell, origin="template", template_rank=place, **_origin(structure))
    if not built:
        cells = random_crystals(*formula, settings, seed)
        for cell in cells:
            yield _structure(candidate, cell, origin="random")
        if not cells:
            yield _row(candidate, rejected_by=reason)


def _structure(candidate: dict, cell: Cell, **known) -> dict:
    return _row(candidate, id=f"{candidate['formula']}-{structure_hash(cell)}", cell=cell, **known)


def _row(candidate: dict, **known) -> dict:
    row = dict.fromkeys([*BUILT.schema.names, "cell"])
    row |= {field.name: candidate[field.name] for field in CARRIED}
    return row | {name: candidate[name] for name in ("id", "formula", "rank")} | known


def _origin(structure: Built) -> dict:
    return {
        "template_id": structure.template["id"],
        "template_source": structure.template["source"],
        "template_label": structure.template["label"],
        "template_formula": structure.template["reference_formula"],
        "prototype": structure.template["prototype"],
        "template_probability": structure.probability,
        "volume_method": structure.volume_method,
    }
