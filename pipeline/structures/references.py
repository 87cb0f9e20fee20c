"""References of hull distances: the known crystals of the candidates' chemical systems, and their energies."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline import tables
from pipeline.cells import Cell, to_columns
from pipeline.composition import ELEMENTS, Compositions
from pipeline.structures.known_crystals import (
    Entry,
    aflow_crystals,
    check_energies,
    from_database,
    neighbours_crystals,
    own_crystals,
)
from pipeline.structures.reference_schema import ABOVE_HULL, REFERENCES, HullSettings
from pipeline.structures.relax import Relaxed, potential_name, relax_all
from pipeline.structures.relax_batch import NO_CRYSTAL, TOO_MANY_ATOMS
from pipeline.structures.relaxation_schema import NONE, RelaxationSettings
from pipeline.structures.symmetry import primitive

POLYMORPH = "beyond_max_per_formula"
NO_ENERGY, OTHER_DATABASE, NO_ELEMENT = "no_formation_energy", "another_database_stands", "no_reference_of_an_element"

_NEXT = 3  # polymorphs tried where none that came first could be relaxed
_BUILT = tables.Table("built", (ELEMENTS, tables.column("rejected_by", pa.string(), "reason", null="it is built")))


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

    With ``potential``, the database's crystals and AFLOW's are relaxed as the candidates are; one that cannot be
    relaxed, as many a molecular crystal, has its energy as it stands. With ``database``, an entry's energy is its
    formation energy in the database on top of the potential's energies of its elements: against these a candidate's
    formation energy is measured, and hull distances are the same as between formation energies.

    To the database's crystals of an element come AFLOW's and the ground state of ASE's ``reference_states``; if there
    is none of these, the crystals in AFLOW of its neighbours in Pettifor's scale (Solid State Commun. 51, 31 (1984),
    doi:10.1016/0038-1098(84)90765-8), the atoms exchanged. Of several the lowest energy makes the hull.

    Compounds whose formation energy in the database lies outside mean +- 5 standard deviations are no references. These
    and all other entries of the chemical systems are in the table too, each with its reason.

    Args:
        rows_paths: Tables of the database's rows, as read: cleaning drops elements and polymorphs.
        built_path: The structures that were built, for their elements.
        output_path: Parquet file, see ``REFERENCES``: empty where nothing is relaxed or measured.
        settings: What to measure from.
        relaxation: As of the candidates, but for ``max_atoms``.
        cache_dir, processes, device: See :func:`pipeline.structures.relax.relax_all`.
        provenance: Stored in the file.

    Raises:
        ValueError: Formation energies of the database are asked for, and it has none.
    """
    found: list[Entry] = []
    relaxation = replace(relaxation, max_atoms=settings.max_atoms)
    name = None if relaxation.potential == NONE else potential_name(relaxation)
    if settings.source != "none" and name is not None:
        if settings.source == "database":
            check_energies(rows_paths)
        systems = _systems(built_path)

        def relax(entries: Iterable[Entry], what: str, *, stand: bool = False) -> list[Entry]:
            entries = list(entries)
            if not entries:
                return []
            results = relax_all(
                [_primitive(one.cell, relaxation.symprec_angstrom) for one in entries],
                replace(relaxation, max_steps=0) if stand else relaxation,
                cache_dir=Path(cache_dir),
                processes=processes,
                device=device,
                what=f"references: {what}",
            )
            return [_with_result(one, result, stand) for one, result in zip(entries, results, strict=True)]

        found = _references(from_database(rows_paths, systems), systems, settings, relaxation.symprec_angstrom, relax)
    rejected = Counter(one.rejected_by for one in found if one.rejected_by)
    reasons = "".join(f", {reason} {n}" for reason, n in sorted(rejected.items()))
    stands = sum(one.result is not None and not one.relaxed for one in found)
    print(
        f"{len(found) - rejected.total()} references, {stands} of them not relaxed; "
        f"left out: {rejected.total()}{reasons}",
        file=sys.stderr,
    )
    tables.write(output_path, REFERENCES, _columns(found, name), provenance)


def _systems(built_path: str | os.PathLike) -> set[frozenset[int]]:
    """The chemical systems of the structures built and all that lie within them."""
    built = tables.read(built_path, _BUILT)
    chosen = {frozenset(row) for row in built.filter(pc.is_null(built["rejected_by"]))["elements"].to_pylist()}
    return {frozenset(part) for one in chosen for n in range(1, len(one) + 1) for part in combinations(sorted(one), n)}


def _references(
    known: list[Entry],
    systems: set[frozenset[int]],
    settings: HullSettings,
    symprec_angstrom: float,
    relax: Callable[..., list[Entry]],
) -> list[Entry]:
    aflow = aflow_crystals()
    wanted = sorted(z for system in systems if len(system) == 1 for z in system)
    of_elements = [one for one in known if len(one.amounts) == 1]
    sorted_out = _near_hull(known if settings.source == "potential" else of_elements, settings, symprec_angstrom)
    crystals = [one for one in sorted_out if one.rejected_by is None]
    crystals += [one for z in wanted for one in own_crystals(z, aflow)]
    if settings.source == "potential":
        crystals += [one for one in aflow if len(one.amounts) > 1 and frozenset(one.amounts) in systems]
    found = _relaxed_or_standing(crystals, "known crystals", relax)
    spare = _next_polymorphs(sorted_out, found)
    found += _relaxed_or_standing(spare, "next polymorphs", relax)
    tried = set(spare)
    found += [one for one in sorted_out if one.rejected_by is not None and one not in tried]
    absent = sorted(set(wanted) - _element_energies(found).keys())
    found += relax((one for z in absent for one in neighbours_crystals(z, aflow)), "elements without a crystal")
    if settings.source == "database":
        found += _formation(known, _element_energies(found))
    return found


def _near_hull(known: list[Entry], settings: HullSettings, symprec_angstrom: float) -> list[Entry]:
    """The entries, the lowest first, with the reason of those that are not worth a relaxation."""
    made, seen = [], Counter()
    for one in sorted(known, key=lambda one: (_last(one.above_hull), _last(one.formation_energy))):
        reason = one.rejected_by or _unfit(one, settings, symprec_angstrom)
        if reason is None and not (one.above_hull is None and one.formation_energy is None):
            seen[one.source, one.formula] += 1
            reason = POLYMORPH if seen[one.source, one.formula] > settings.max_per_formula else None
        made.append(replace(one, rejected_by=reason))
    return made


def _unfit(one: Entry, settings: HullSettings, symprec_angstrom: float) -> str | None:
    if one.cell is None:
        return NO_CRYSTAL
    if one.above_hull is not None and one.above_hull > settings.max_above_hull_ev_per_atom:
        return ABOVE_HULL
    n_sites = len(one.cell.elements)
    if n_sites > settings.max_atoms and len(_primitive(one.cell, symprec_angstrom).elements) > settings.max_atoms:
        return TOO_MANY_ATOMS
    return None


def _primitive(cell: Cell, symprec_angstrom: float) -> Cell:
    return primitive(cell, symprec_angstrom) or cell


def _relaxed_or_standing(crystals: list[Entry], what: str, relax: Callable[..., list[Entry]]) -> list[Entry]:
    """The crystals relaxed; those that fail on the way with the energy that they have as they stand."""
    found = relax(crystals, what)
    failed = [place for place, one in enumerate(found) if one.rejected_by is not None]
    standing = relax((crystals[place] for place in failed), f"{what} as they stand", stand=True)
    for place, one in zip(failed, standing, strict=True):
        found[place] = found[place] if one.rejected_by is not None else one
    return found


def _next_polymorphs(sorted_out: list[Entry], found: list[Entry]) -> list[Entry]:
    """The next crystals of those formulas of a database of which none was relaxed."""
    relaxed, taken, spare = {(one.source, one.formula) for one in found if one.relaxed}, Counter(), []
    for one in sorted_out:
        formula = one.source, one.formula
        if one.rejected_by == POLYMORPH and formula not in relaxed and taken[formula] < _NEXT:
            taken[formula] += 1
            spare.append(one)
    return spare


def _formation(known: list[Entry], of_element: dict[int, float]) -> list[Entry]:
    """The compounds with their formation energies on top of their elements', of each formula the lowest.

    Databases differ in the energies of their elements, so one alone stands: the first that has formation energies.
    """
    compounds = sorted((one for one in known if len(one.amounts) > 1), key=lambda one: _last(one.formation_energy))
    stands = next((one.source for one in known if one.formation_energy is not None), None)
    made, seen = [], set()
    for one in compounds:
        energy, reason = None, None
        if one.rejected_by is not None:
            reason = one.rejected_by
        elif one.formation_energy is None:
            reason = NO_ENERGY
        elif one.source != stands:
            reason = OTHER_DATABASE
        elif one.formula in seen:
            reason = POLYMORPH
        elif not one.amounts.keys() <= of_element.keys():
            reason = NO_ELEMENT
        else:
            seen.add(one.formula)
            atoms = sum(one.amounts.values())
            energy = one.formation_energy + sum(n / atoms * of_element[z] for z, n in one.amounts.items())
        made.append(replace(one, energy=energy, rejected_by=reason))
    return made


def _element_energies(found: Iterable[Entry]) -> dict[int, float]:
    """Lowest energy of each element's crystals, eV/atom, by atomic number."""
    energies: dict[int, float] = {}
    for one in found:
        if len(one.amounts) == 1 and one.energy is not None:
            z = next(iter(one.amounts))
            energies[z] = min(one.energy, energies.get(z, np.inf))
    return energies


def _with_result(entry: Entry, result: Relaxed | str, stand: bool) -> Entry:
    if isinstance(result, str):
        return replace(entry, rejected_by=result)
    return replace(entry, result=result, relaxed=not stand, energy=result.energy_ev_per_atom, rejected_by=None)


def _last(value: float | None) -> float:
    return np.inf if value is None else value


def _columns(found: list[Entry], potential: str | None) -> dict:
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
        "relaxed": [one.relaxed for one in found],
        "potential": [one.result and potential for one in found],
        "converged": [one.result and (one.relaxed and one.result.converged) for one in found],
        **to_columns([one.result and one.result.cell for one in found]),
        "rejected_by": [one.rejected_by for one in found],
    }
