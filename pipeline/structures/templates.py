"""The template library: crystals whose sites other elements can take.

Sources: the AFLOW library of crystallographic prototypes, as pymatgen ships it (Mehl et al., Comput. Mater. Sci. 136,
S1 (2017), doi:10.1016/j.commatsci.2017.01.017), and the database's own structures.

Legend of suffixes: P combinations of oxidation states, E elements.
"""

import itertools
import os
import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, from_table, to_columns
from pipeline.composition import Compositions
from pipeline.structures.symmetry import primitive, symmetry
from pipeline.structures.template_schema import TEMPLATES, TemplateSettings
from pipeline.structures.volume import too_close

# What this stage reads of the database's table of entries.
_ENTRIES = tables.Table(
    "entries",
    (
        tables.column("id", pa.string(), "name of the entry"),
        tables.column("energy_above_hull_ev_per_atom", pa.float64(), "distance to the hull", null="unknown"),
        *CELL_COLUMNS,
    ),
)
_OVERLAP = 0.5  # of the sum of covalent radii: no two atoms of a real crystal stand nearer
_MOST_PRIMITIVE = 4  # primitive cells in a conventional one; larger supercells are not searched
_MAX_SHARED_COUNT = 6  # elements with the same count: their 720 orders are all tried in assignment


def build_templates(
    *,
    entries_path: str | os.PathLike | None,
    output_path: str | os.PathLike,
    settings: TemplateSettings,
    provenance: dict | None = None,
) -> None:
    """Write the template library.

    Args:
        entries_path: Database table whose cells become templates when ``settings.sources`` names ``database``; None
            for AFLOW alone.
        output_path: Parquet file, see ``TEMPLATES``.
        settings: What to take.
        provenance: Stored in the file.
    """
    rows = []
    if "aflow" in settings.sources:
        rows += _templates(_aflow(), "aflow", settings, kept_per_prototype=None)
    if "database" in settings.sources and entries_path is not None:
        rows += _templates(_database(entries_path), "database", settings, settings.max_per_prototype)
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


def _aflow() -> Iterator[tuple[str, str | None, Cell]]:
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY

    for entry in AFLOW_PROTOTYPE_LIBRARY:
        tags = entry["tags"]
        name = next((tags[key] for key in ("mineral", "strukturbericht") if tags[key] not in ("", "None")), None)
        yield tags["aflow"], name, Cell.from_structure(entry["snl"].structure)


def _database(path: str | os.PathLike) -> Iterator[tuple[str, None, Cell]]:
    entries = tables.read(path, _ENTRIES)
    entries = entries.filter(entries.column("lattice_angstrom").is_valid())
    above_hull = entries.column("energy_above_hull_ev_per_atom").to_numpy()
    order = np.argsort(np.nan_to_num(above_hull.astype(float), nan=np.inf), kind="stable")
    ids, cells = entries.column("id").to_pylist(), from_table(entries)
    for row in order:
        yield ids[row], None, cells[row]


def _templates(
    crystals: Iterator[tuple[str, str | None, Cell]],
    source: str,
    settings: TemplateSettings,
    kept_per_prototype: int | None,
) -> list[dict]:
    rows, seen = [], Counter()
    for label, name, cell in tqdm(crystals, desc=f"templates from {source}", unit=" structures", mininterval=1):
        if len(cell.elements) > _MOST_PRIMITIVE * settings.max_sites:
            continue
        cell = primitive(cell, settings.symprec_angstrom)
        if cell is None or len(cell.elements) > settings.max_sites or too_close(cell, _OVERLAP):
            continue
        elements, sites = np.unique(cell.elements, return_counts=True)
        order = np.argsort(sites, kind="stable")
        counts = sites[order] // np.gcd.reduce(sites)
        found = symmetry(cell, settings.symprec_angstrom)
        if found is None or np.unique(counts, return_counts=True)[1].max() > _MAX_SHARED_COUNT:
            continue
        orbits = sorted(
            "".join(sorted(itertools.compress(found.wyckoffs, cell.elements == element))) for element in elements
        )
        prototype = (tuple(counts), found.number, tuple(orbits))
        seen[prototype] += 1
        if kept_per_prototype is not None and seen[prototype] > kept_per_prototype:
            continue
        elements = elements[order].tolist()
        counts = counts.tolist()
        formula = _formula(elements, counts)
        rows.append(
            {
                "id": f"{source}:{label}:{formula}",
                "source": source,
                "label": label,
                "name": name,
                "reference_formula": formula,
                "elements": elements,
                "counts": counts,
                "oxidation_states": guess_oxidation_states(elements, counts),
                "space_group_number": found.number,
                "n_sites": len(cell.elements),
                "cell": cell,
            }
        )
    return rows


def _formula(elements: list[int], counts: list[int]) -> str:
    return Compositions.from_dicts([dict(zip(elements, counts, strict=True))]).formulas()[0].as_py()
