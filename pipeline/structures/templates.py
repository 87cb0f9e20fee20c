"""The template library: crystals whose sites other elements can take.

Sources: the AFLOW library of crystallographic prototypes, as pymatgen ships it (Mehl et al., Comput. Mater. Sci. 136,
S1 (2017), doi:10.1016/j.commatsci.2017.01.017), and the database's own structures.

Legend of suffixes: P combinations of oxidation states, E elements.
"""

import itertools
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, compositions_of, distance_matrix, from_table, to_columns
from pipeline.processes import in_order
from pipeline.structures.symmetry import primitive, symmetry
from pipeline.structures.template_schema import TEMPLATES, TemplateSettings
from pipeline.structures.volume import too_close

# What this stage reads of the database's rows.
ROWS = tables.Table(
    "entries",
    (
        tables.column("id", pa.string(), "name of the entry"),
        tables.column("energy_above_hull_ev_per_atom", pa.float64(), "distance to the hull", null="unknown"),
        *CELL_COLUMNS,
    ),
)
_OVERLAP = 0.5  # of the sum of covalent radii: no two atoms of a real crystal stand nearer
_MOST_PRIMITIVE = 4  # primitive cells in a conventional one; larger supercells are not searched
_RUN = 200  # crystals that a process takes at once
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LONGEST_CONTACT = 2.5  # exact up to here, in units of the cube root of the volume per atom
_MAX_SHARED_COUNT = 6  # elements with the same count: their 720 orders are all tried in assignment


def build_templates(
    *,
    rows_paths: Sequence[str | os.PathLike],
    output_path: str | os.PathLike,
    settings: TemplateSettings,
    processes: int = 1,
    provenance: dict | None = None,
) -> None:
    """Write the template library.

    Args:
        rows_paths: Tables of the database's rows, as read and before cleaning: their cells become templates when
            ``settings.sources`` names ``database``.
        output_path: Parquet file, see ``TEMPLATES``.
        settings: What to take.
        processes: How many to use; the library does not depend on it.
        provenance: Stored in the file.
    """
    rows = _templates(_aflow(), "aflow", settings, None, processes) if "aflow" in settings.sources else []
    if "database" in settings.sources:
        rows += _templates(_database(rows_paths), "database", settings, settings.max_per_prototype, processes)
    columns = {field.name: [row[field.name] for row in rows] for field in TEMPLATES.fields if field not in CELL_COLUMNS}
    tables.write(output_path, TEMPLATES, {**columns, **to_columns([row["cell"] for row in rows])}, provenance)


def guess_oxidation_states(elements: list[int], counts: list[int]) -> list[int] | None:
    """Neutral oxidation states among the elements' common ones, anions more electronegative than cations.

    Of several, the one with the lowest states of the most electronegative elements. Common states are those of
    ``pymatgen.core.Element.common_oxidation_states``.

    Returns:
        One state of each element, None where none is neutral.
    """
    from pymatgen.core import Element

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no electronegativity for He, Ne and Ar
        species = [Element.from_Z(int(z)) for z in elements]
        electronegativity = np.nan_to_num([element.X for element in species])
    states_PE = np.array(list(itertools.product(*(element.common_oxidation_states for element in species))))
    if not states_PE.size:
        return None
    highest_cation = np.where(states_PE > 0, electronegativity, -np.inf).max(axis=1)
    lowest_anion = np.where(states_PE < 0, electronegativity, np.inf).min(axis=1)
    charged = np.isfinite(highest_cation) & np.isfinite(lowest_anion)
    possible = states_PE[(states_PE @ np.asarray(counts) == 0) & charged & (highest_cation < lowest_anion)]
    if not len(possible):
        return None
    first = np.lexsort(possible[:, np.argsort(electronegativity, kind="stable")].T)[0]  # last key is the first to sort
    return possible[first].tolist()


class _Crystal(NamedTuple):
    label: str
    name: str | None
    energy_above_hull_ev_per_atom: float | None
    cell: Cell


def _aflow() -> list[_Crystal]:
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    crystals = []
    for entry in AFLOW_PROTOTYPE_LIBRARY:
        tags = entry["tags"]
        name = next((tags[key] for key in ("mineral", "strukturbericht") if tags[key] not in ("", "None")), None)
        crystals.append(_Crystal(tags["aflow"], name, None, Cell.from_structure(entry["snl"].structure)))
    return crystals


def _database(paths: Sequence[str | os.PathLike]) -> list[_Crystal]:
    """The database's crystals, the lowest above the hull first, those of unknown distance last."""
    rows = tables.read_all(paths, ROWS)
    rows = rows.filter(rows["lattice_angstrom"].is_valid())
    rows = rows.take(pc.sort_indices(rows, [("energy_above_hull_ev_per_atom", "ascending"), ("id", "ascending")]))
    ids, distances = (rows[name].to_pylist() for name in ("id", "energy_above_hull_ev_per_atom"))
    return [_Crystal(id_, None, *rest) for id_, *rest in zip(ids, distances, from_table(rows), strict=True)]


def _templates(
    crystals: Sequence[_Crystal],
    source: str,
    settings: TemplateSettings,
    kept_per_prototype: int | None,
    processes: int,
) -> list[dict]:
    """Rows of those crystals that are templates; of a prototype and formula only the first."""
    rows, of_prototype, seen = [], Counter(), set()
    described = in_order(partial(_describe, settings), [crystal.cell for crystal in crystals], processes, _RUN)
    progress = tqdm(described, f"templates from {source}", len(crystals), unit=" structures", mininterval=1)
    for crystal, about in zip(crystals, progress, strict=True):
        if about is None:
            continue
        known = (about["prototype"], about["reference_formula"])
        if kept_per_prototype is not None:
            if known in seen or of_prototype[about["prototype"]] == kept_per_prototype:
                continue
            seen.add(known)
            of_prototype[about["prototype"]] += 1
        id_ = f"{source}:{crystal.label}:{about['reference_formula']}"
        rows.append({**crystal._asdict(), "id": id_, "source": source, **about})
    return rows


def _describe(settings: TemplateSettings, cell: Cell) -> dict | None:
    """What is told of a template, None for a cell that makes none."""
    if len(cell.elements) > _MOST_PRIMITIVE * settings.max_sites:
        return None
    cell = primitive(cell, settings.symprec_angstrom)
    if cell is None or len(cell.elements) > settings.max_sites or too_close(cell, _OVERLAP):
        return None
    found = symmetry(cell, settings.symprec_angstrom)
    elements, sites = np.unique(cell.elements, return_counts=True)
    if found is None or np.unique(sites, return_counts=True)[1].max() > _MAX_SHARED_COUNT:
        return None
    orbits = [Counter(itertools.compress(found.wyckoffs, cell.elements == element)) for element in elements]
    told = ["".join(f"{letter}{n}" for letter, n in sorted(orbit.items())) for orbit in orbits]
    order = sorted(range(len(elements)), key=lambda place: (sites[place], told[place], elements[place]))
    counts = sites[order] // np.gcd.reduce(sites)
    elements = elements[order].tolist()
    anonymous = "".join(f"{letter}{n if n > 1 else ''}" for letter, n in zip(_LETTERS, counts, strict=False))
    return {
        "prototype": f"{anonymous}_{found.number}_{'-'.join(told[place] for place in order)}",
        "reference_formula": compositions_of([cell]).formulas()[0].as_py(),
        "elements": elements,
        "counts": counts.tolist(),
        "oxidation_states": guess_oxidation_states(elements, counts.tolist()),
        "space_group_number": found.number,
        "n_sites": len(cell.elements),
        "contacts": contacts(cell, elements).ravel().tolist(),
        "cell": cell,
    }


def contacts(cell: Cell, elements: Sequence[int]) -> np.ndarray:
    """Shortest distance between each two elements, float64 of shape (E, E), in units of (volume per atom)^(1/3)."""
    unit = np.cbrt(cell.volume / len(cell.elements))
    distances = distance_matrix(cell, within=_LONGEST_CONTACT * unit) / unit
    of_element = [cell.elements == element for element in elements]
    return np.array([[distances[np.ix_(one, other)].min() for other in of_element] for one in of_element])
