"""References of hull distances: the known crystals of the candidates' chemical systems, and their energies."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, compositions_of, from_table, to_columns
from pipeline.composition import COUNTS, ELEMENTS, SYMBOLS, Compositions
from pipeline.provenance import file_digest
from pipeline.structures.reference_schema import AFLOW, ASE, REFERENCES, HullSettings
from pipeline.structures.relax import Relaxed, potential_name, relax_all
from pipeline.structures.relax_batch import NO_CRYSTAL
from pipeline.structures.relaxation_schema import NONE, RelaxationSettings
from pipeline.structures.symmetry import primitive

ABOVE_HULL, POLYMORPH = "above_max_above_hull", "beyond_max_per_formula"
NO_ENERGY, OTHER_DATABASE, NO_ELEMENT = "no_formation_energy", "another_database_stands", "no_reference_of_an_element"

_NEIGHBOURS = 3  # elements whose crystals an element without any takes
# What this stage reads of the database's rows, and of the structures built.
_ROWS = tables.Table(
    "entries",
    (
        tables.column("id", pa.string(), "name of the entry"),
        tables.column("source", pa.string(), "name of the database"),
        ELEMENTS,
        COUNTS,
        tables.column("formation_energy_ev_per_atom", pa.float64(), "from the elements", null="unknown"),
        tables.column("energy_above_hull_ev_per_atom", pa.float64(), "distance to the hull", null="unknown"),
        *CELL_COLUMNS,
    ),
)
_BUILT = tables.Table("built", (ELEMENTS, tables.column("rejected_by", pa.string(), "reason", null="it is built")))


@dataclass(frozen=True, eq=False)
class _Entry:
    """A known crystal on its way to a reference."""

    id: str
    source: str
    version: str
    amounts: dict[int, int]  # reduced, by atomic number
    cell: Cell | None
    formation_energy: float | None = None
    above_hull: float | None = None
    relaxed: Relaxed | None = None
    energy: float | None = None
    rejected_by: str | None = None


def write_references(
    *,
    rows_paths: Sequence[str | os.PathLike],
    built_path: str | os.PathLike,
    output_path: str | os.PathLike,
    settings: HullSettings,
    relaxation: RelaxationSettings,
    cache_dir: str | os.PathLike,
    processes: int,
    device: str,
    provenance: dict | None = None,
) -> None:
    """Write the references of the chemical systems of all structures that were built.

    With ``potential``, the database's crystals and AFLOW's are relaxed as the candidates are. With ``database``, an
    entry's energy is its formation energy in the database on top of the potential's energies of its elements: against
    these a candidate's formation energy is measured, and hull distances are the same as between formation energies.
    An element without a crystal in the database takes AFLOW's and the ground state of ASE's ``reference_states``; one
    without these, the crystals in AFLOW of its neighbours in Pettifor's scale (Solid State Commun. 51, 31 (1984),
    doi:10.1016/0038-1098(84)90765-8), the atoms exchanged. Of several the lowest energy makes the hull.

    Args:
        rows_paths: Tables of the database's rows, as read: cleaning drops elements and polymorphs.
        built_path: The structures that were built, for their elements.
        output_path: Parquet file, see ``REFERENCES``: empty where nothing is relaxed or measured.
        settings: What to measure from.
        relaxation: As of the candidates.
        cache_dir, processes, device: See :func:`pipeline.structures.relax.relax_all`.
        provenance: Stored in the file.
    """
    found: list[_Entry] = []
    name = None if relaxation.potential == NONE else potential_name(relaxation)
    if settings.source != "none" and name is not None:
        systems = _systems(built_path)

        def relax(entries: Iterable[_Entry], what: str) -> list[_Entry]:
            entries = list(entries)
            if not entries:
                return []
            cells = [primitive(one.cell, relaxation.symprec_angstrom) or one.cell for one in entries]
            results = relax_all(
                cells,
                relaxation,
                cache_dir=Path(cache_dir),
                processes=processes,
                device=device,
                what=f"references: {what}",
            )
            return [_with_result(one, result) for one, result in zip(entries, results, strict=True)]

        found = _references(_database(rows_paths, systems), systems, settings, relax)
    rejected = Counter(one.rejected_by for one in found if one.rejected_by)
    reasons = "".join(f", {reason} {n}" for reason, n in sorted(rejected.items()))
    print(f"{len(found) - rejected.total()} references; left out: {rejected.total()}{reasons}", file=sys.stderr)
    tables.write(output_path, REFERENCES, _columns(found, name), provenance)


def ground_state(symbol: str) -> Cell | None:
    """The primitive cell of an element in ASE's ``reference_states``; None where that is no simple lattice."""
    from ase.build import bulk

    try:
        atoms = bulk(symbol)
    except (RuntimeError, ValueError):
        return None
    return Cell(np.array(atoms.cell), atoms.numbers.astype(np.uint8), atoms.get_scaled_positions())


def _systems(built_path: str | os.PathLike) -> set[frozenset[int]]:
    """The chemical systems of the structures built and all that lie within them."""
    built = tables.read(built_path, _BUILT)
    chosen = {frozenset(row) for row in built.filter(pc.is_null(built["rejected_by"]))["elements"].to_pylist()}
    return {frozenset(part) for one in chosen for n in range(1, len(one) + 1) for part in combinations(sorted(one), n)}


def _database(paths: Sequence[str | os.PathLike], systems: set[frozenset[int]]) -> list[_Entry]:
    entries = []
    for path in paths:
        rows = tables.read(path, _ROWS)
        rows = rows.filter(pa.array([frozenset(row) in systems for row in rows["elements"].to_pylist()], pa.bool_()))
        digest = file_digest(path)[:8]
        cells = from_table(rows)
        for row, cell in zip(rows.drop_columns([field.name for field in CELL_COLUMNS]).to_pylist(), cells, strict=True):
            entries.append(
                _Entry(
                    f"{row['source']}:{row['id']}" if len(paths) > 1 else row["id"],
                    row["source"],
                    digest,
                    dict(zip(row["elements"], row["counts"], strict=True)),
                    cell,
                    row["formation_energy_ev_per_atom"],
                    row["energy_above_hull_ev_per_atom"],
                )
            )
    return entries


def _references(
    known: list[_Entry],
    systems: set[frozenset[int]],
    settings: HullSettings,
    relax: Callable[[Iterable[_Entry], str], list[_Entry]],
) -> list[_Entry]:
    aflow = _aflow()
    of_elements = [one for one in known if len(one.amounts) == 1]
    sorted_out = _near_hull(known if settings.source == "potential" else of_elements, settings)
    crystals = [one for one in sorted_out if one.rejected_by is None]
    if settings.source == "potential":
        crystals += [one for one in aflow if len(one.amounts) > 1 and frozenset(one.amounts) in systems]
    found = relax(crystals, "known crystals") + [one for one in sorted_out if one.rejected_by is not None]
    wanted = sorted(z for system in systems if len(system) == 1 for z in system)
    for fall_back in (_own_crystals, _neighbours_crystals):
        absent = [z for z in wanted if z not in _element_energies(found)]
        found += relax((one for z in absent for one in fall_back(z, aflow)), "elements that the database lacks")
    if settings.source == "database":
        found += _formation(known, _element_energies(found))
    return found


def _near_hull(known: list[_Entry], settings: HullSettings) -> list[_Entry]:
    """The entries, the lowest first, with the reason of those that are not worth a relaxation."""
    made, seen = [], Counter()
    for one in sorted(known, key=lambda one: (_last(one.above_hull), _last(one.formation_energy))):
        formula, reason = (one.source, tuple(sorted(one.amounts.items()))), None
        if one.cell is None:
            reason = NO_CRYSTAL
        elif one.above_hull is not None and one.above_hull > settings.max_above_hull_ev_per_atom:
            reason = ABOVE_HULL
        elif one.above_hull is not None or one.formation_energy is not None:
            seen[formula] += 1
            reason = POLYMORPH if seen[formula] > settings.max_per_formula else None
        made.append(replace(one, rejected_by=reason))
    return made


def _formation(known: list[_Entry], of_element: dict[int, float]) -> list[_Entry]:
    """The compounds with their formation energies on top of their elements', of each formula the lowest.

    Databases differ in the energies of their elements, so one alone stands: the first that has formation energies.
    """
    compounds = sorted((one for one in known if len(one.amounts) > 1), key=lambda one: _last(one.formation_energy))
    stands = next((one.source for one in known if one.formation_energy is not None), None)
    made, seen = [], set()
    for one in compounds:
        formula, energy, reason = tuple(sorted(one.amounts.items())), None, None
        if one.formation_energy is None:
            reason = NO_ENERGY
        elif one.source != stands:
            reason = OTHER_DATABASE
        elif formula in seen:
            reason = POLYMORPH
        elif not one.amounts.keys() <= of_element.keys():
            reason = NO_ELEMENT
        else:
            seen.add(formula)
            atoms = sum(one.amounts.values())
            energy = one.formation_energy + sum(n / atoms * of_element[z] for z, n in one.amounts.items())
        made.append(replace(one, energy=energy, rejected_by=reason))
    return made


def _element_energies(found: Iterable[_Entry]) -> dict[int, float]:
    """Lowest energy of each element's crystals, eV/atom, by atomic number."""
    energies: dict[int, float] = {}
    for one in found:
        if len(one.amounts) == 1 and one.energy is not None:
            z = next(iter(one.amounts))
            energies[z] = min(one.energy, energies.get(z, np.inf))
    return energies


def _aflow() -> list[_Entry]:
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    cells = [Cell.from_structure(entry["snl"].structure) for entry in AFLOW_PROTOTYPE_LIBRARY]
    columns = compositions_of(cells).columns()
    amounts = zip(columns["elements"].to_pylist(), columns["counts"].to_pylist(), strict=True)
    return [
        _Entry(entry["tags"]["aflow"], AFLOW, f"pymatgen {version('pymatgen')}", dict(zip(*pair, strict=True)), cell)
        for entry, pair, cell in zip(AFLOW_PROTOTYPE_LIBRARY, amounts, cells, strict=True)
    ]


def _own_crystals(z: int, aflow: list[_Entry]) -> list[_Entry]:
    own = [one for one in aflow if one.amounts.keys() == {z}]
    cell = ground_state(SYMBOLS[z - 1])
    return own + ([] if cell is None else [_Entry(SYMBOLS[z - 1], ASE, version("ase"), {z: 1}, cell)])


def _neighbours_crystals(z: int, aflow: list[_Entry]) -> list[_Entry]:
    """Crystals of the elements nearest in Pettifor's scale, at their own volume; for hydrogen, those of O, N and Cl."""
    from pymatgen.core import Element

    place = Element.from_Z(z).mendeleev_no
    if place is None:
        return []
    of_elements = [one for one in aflow if len(one.amounts) == 1]
    lenders = {next(iter(one.amounts)) for one in of_elements}
    near = sorted(lenders, key=lambda other: (abs(Element.from_Z(other).mendeleev_no - place), other))[:_NEIGHBOURS]
    lent = [one for one in of_elements if next(iter(one.amounts)) in near]
    cells = [Cell(one.cell.lattice, np.full_like(one.cell.elements, z), one.cell.fractional) for one in lent]
    return [
        replace(one, id=f"{one.id} of {SYMBOLS[next(iter(one.amounts)) - 1]}", amounts={z: 1}, cell=cell)
        for one, cell in zip(lent, cells, strict=True)
    ]


def _with_result(entry: _Entry, result: Relaxed | str) -> _Entry:
    if isinstance(result, str):
        return replace(entry, rejected_by=result)
    return replace(entry, relaxed=result, energy=result.energy_ev_per_atom)


def _last(value: float | None) -> float:
    return np.inf if value is None else value


def _columns(found: list[_Entry], potential: str | None) -> dict:
    compositions = Compositions.from_dicts(one.amounts for one in found)
    return {
        "id": [one.id for one in found],
        "source": [one.source for one in found],
        "version": [one.version for one in found],
        "formula": compositions.formulas(),
        **compositions.columns(),
        "energy_ev_per_atom": [one.energy for one in found],
        "formation_energy_ev_per_atom": [one.formation_energy for one in found],
        "database_energy_above_hull_ev_per_atom": [one.above_hull for one in found],
        "relaxed": [one.relaxed is not None for one in found],
        "potential": [one.relaxed and potential for one in found],
        "converged": [one.relaxed and one.relaxed.converged for one in found],
        **to_columns([one.relaxed and one.relaxed.cell for one in found]),
        "rejected_by": [one.rejected_by for one in found],
    }
