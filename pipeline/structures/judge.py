"""Relaxed structures in; hull distance, plausibility, duplicates, and the best of each formula out."""

import math
import os
from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, from_table, minimum_distance, plain_rows, with_cells
from pipeline.composition import Compositions
from pipeline.hull import Hull, HullDistance
from pipeline.structures import reference_schema
from pipeline.structures.assign import same_crystal
from pipeline.structures.plausibility import (
    density_g_per_cm3,
    global_instability_index,
    minimum_distance_ratio,
    packing,
)
from pipeline.structures.reference_schema import REFERENCES, reference_set
from pipeline.structures.schema import GEOMETRY, RELAXED, STABILITY, STRUCTURES, JudgeSettings
from pipeline.structures.symmetry import symmetry

PACKING, BOND_VALENCE, ABOVE_HULL = "implausible_packing", "implausible_bond_valences", "above_hull"
KNOWN, DUPLICATE, LESS_PROBABLE = "known_crystal", "duplicate", "less_probable_of_formula"
_LEAST_PROBABILITY = 1e-6
_NAMED = 5  # formulas without a reference
# What this stage reads of the database's rows.
_ROWS = tables.Table(
    "entries",
    (
        tables.column("id", pa.string(), "name of the entry"),
        tables.column("formula", pa.string(), "reduced formula"),
        *CELL_COLUMNS,
    ),
)


def judge_structures(
    *,
    relaxed_path: str | os.PathLike,
    references_path: str | os.PathLike,
    rows_paths: Sequence[str | os.PathLike],
    output_path: str | os.PathLike,
    settings: JudgeSettings,
    provenance: dict | None = None,
) -> None:
    """Judge each structure and choose those to hand over.

    Of a formula the most probable structures are kept, each another crystal: two are the same where pymatgen's
    ``StructureMatcher`` fits them with its default tolerances (0.2 of the length per site in lattice, 0.3 in sites, 5
    degrees), sizes scaled. Only crystals of one reduced formula are compared. A crystal of the database that fits makes
    a structure known, not new.

    Args:
        relaxed_path: See ``RELAXED``.
        references_path: See ``REFERENCES``.
        rows_paths: Tables of the database's rows.
        output_path: Parquet file, see ``STRUCTURES``: the same rows, each with its figures and its reason to stay
            behind.
        settings: What is handed over.
        provenance: Stored in the file.
    """
    relaxed = tables.read(relaxed_path, RELAXED)
    references = tables.read(references_path, REFERENCES)
    source, absent = reference_set(references), _absent(references)
    distances = Hull.from_table(references).distances(
        Compositions.from_table(relaxed), relaxed["energy_ev_per_atom"].to_numpy()
    )
    rows, cells = plain_rows(relaxed), from_table(relaxed)
    known = _known(rows_paths, relaxed["formula"])
    of_formula = defaultdict(list)
    told = tqdm(cells, "judgement", unit=" structures", mininterval=1)
    for place, (row, cell) in enumerate(zip(rows, told, strict=True)):
        row |= dict.fromkeys(field.name for field in (*GEOMETRY, *STABILITY))
        if cell is not None and cell.is_finite:
            row |= _geometry(row, cell, settings.symprec_angstrom)
        if row["rejected_by"] is None:
            row |= _stability(row, distances[place], source, absent)
            row["rejected_by"] = _implausible(row, cell, settings)
            of_formula[row["formula"]].append((row, cell))
    for formula, structures in of_formula.items():
        _choose(structures, known.get(formula, []), settings)
    tables.write(output_path, STRUCTURES, with_cells(STRUCTURES.schema.names, rows, cells), provenance)


def _known(rows_paths: Sequence[str | os.PathLike], formulas: pa.ChunkedArray) -> dict[str, list[tuple[str, Cell]]]:
    """Ids and cells of the database's crystals of these formulas."""
    found = defaultdict(list)
    for path in rows_paths:
        rows = tables.read(path, _ROWS, rows=pc.field("formula").isin(formulas.combine_chunks().unique()))
        for id_, formula, cell in zip(
            rows["id"].to_pylist(), rows["formula"].to_pylist(), from_table(rows), strict=True
        ):
            if cell is not None:
                found[formula].append((id_, cell))
    return found


def _geometry(row: dict, cell: Cell, symprec_angstrom: float) -> dict:
    found = symmetry(cell, symprec_angstrom)
    states = row["oxidation_states"]
    return {
        "space_group_number": found and found.number,
        "space_group_symbol": found and found.symbol,
        "n_sites": len(cell.elements),
        "volume_a3_per_atom": cell.volume / len(cell.elements),
        "density_g_per_cm3": density_g_per_cm3(cell) if cell.volume else None,
        "minimum_distance_angstrom": minimum_distance(cell),
        "minimum_distance_ratio": minimum_distance_ratio(cell),
        "global_instability_index_vu": states
        and global_instability_index(cell, dict(zip(row["elements"], states, strict=True))),
    }


def _stability(row: dict, found: HullDistance, source: str | None, absent: dict[frozenset[int], set[str]]) -> dict:
    if row["energy_ev_per_atom"] is None or source is None:
        return {}
    system = frozenset(row["elements"])
    formulas = sorted(formula for other, formulas in absent.items() if other <= system for formula in formulas)
    remarks = [found.reason] if found.reason else []
    if formulas:
        told = ", ".join(formulas[:_NAMED]) + (", ..." if len(formulas) > _NAMED else "")
        remarks.append(f"{len(formulas)} known formulas of the system are no references: {told}")
    return {
        "energy_above_hull_ev_per_atom": found.energy_above_hull_ev_per_atom,
        "relaxed_formation_energy_ev_per_atom": found.formation_energy_ev_per_atom,
        "decomposition": found.text,
        "n_hull_references": found.n_references,
        "hull_source": source,
        "hull_remark": "; ".join(remarks) or None,
    }


def _absent(references: pa.Table) -> dict[frozenset[int], set[str]]:
    """Formulas, by their elements, that no reference is a crystal of, those far above the hull left out."""
    rows = references.select(["elements", "formula", "rejected_by"]).to_pylist()
    present = {row["formula"] for row in rows if row["rejected_by"] is None}
    absent: dict[frozenset[int], set[str]] = defaultdict(set)
    for row in rows:
        if row["formula"] not in present and row["rejected_by"] != reference_schema.ABOVE_HULL:
            absent[frozenset(row["elements"])].add(row["formula"])
    return absent


def _implausible(row: dict, cell: Cell, settings: JudgeSettings) -> str | None:
    instability, most = row["global_instability_index_vu"], settings.max_global_instability_index_vu
    if not settings.min_packing <= packing(cell) <= settings.max_packing:
        return PACKING
    if most is not None and instability is not None and instability > most:
        return BOND_VALENCE
    return None


def _choose(structures: list[tuple[dict, Cell]], known: list[tuple[str, Cell]], settings: JudgeSettings) -> None:
    """Rank the structures of a formula and say of each that stays behind why; changes the rows."""
    relaxed = [row for row, _ in structures if row["energy_ev_per_atom"] is not None]
    for place, row in enumerate(sorted(relaxed, key=_lowest_first), start=1):
        row["energy_rank"] = place
    order = preferred(
        [row["energy_ev_per_atom"] for row, _ in structures],
        [row["template_probability"] for row, _ in structures],
        settings.energy_scale_ev_per_atom,
    )
    kept: list[tuple[str, Cell]] = []
    limit = settings.max_energy_above_hull_ev_per_atom
    for place, (row, cell) in enumerate((structures[number] for number in order), start=1):
        row["structure_rank"] = place
        if row["rejected_by"] is not None:
            continue
        above = row["energy_above_hull_ev_per_atom"]
        for reason, others in ((KNOWN, known), (DUPLICATE, kept)):
            row["matches"] = next((id_ for id_, other in others if same_crystal(cell, other)), None)
            if row["matches"]:
                row["rejected_by"] = reason
                break
        else:
            if len(kept) == settings.max_per_formula:
                row["rejected_by"] = LESS_PROBABLE
            elif limit is not None and above is not None and above > limit:
                row["rejected_by"] = ABOVE_HULL
            else:
                kept.append((row["id"], cell))


def preferred(
    energies_ev_per_atom: Sequence[float | None], probabilities: Sequence[float | None], scale_ev_per_atom: float
) -> list[int]:
    """Order of the structures of a formula, the most probable first.

    The logarithm of the template's probability less the energy in units of ``scale_ev_per_atom``: the posterior
    probability where a potential mistakes energy differences by an exponential error of that scale.

    Args:
        energies_ev_per_atom: Of the relaxed structures; those without come last.
        probabilities: Of the templates; a structure without one counts as certain, so that energy decides among them.
        scale_ev_per_atom: 0 for energy alone.

    Returns:
        Places in the sequences given.
    """

    def last_first(place: int) -> tuple:
        energy, probability = energies_ev_per_atom[place], probabilities[place]
        prior = 0.0 if probability is None else scale_ev_per_atom * math.log(max(probability, _LEAST_PROBABILITY))
        return energy is None, round((energy or 0.0) - prior, 6), place

    return sorted(range(len(energies_ev_per_atom)), key=last_first)


def _lowest_first(row: dict) -> tuple:
    return round(row["energy_ev_per_atom"], 6), row["template_rank"] or 0, row["id"]
