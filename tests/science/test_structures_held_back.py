"""How often a known crystal is found from the others, and how well its volume: the figures that the settings cite."""

import csv
import gzip
import json

import numpy as np
import pytest

from pipeline import tables
from pipeline.cells import Cell, to_columns
from pipeline.composition import ATOMIC_NUMBERS
from pipeline.structures.assign import Library, same_crystal
from pipeline.structures.template_schema import TemplateSettings
from pipeline.structures.templates import _ENTRIES, build_templates
from pipeline.structures.volume import predicted_volume

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def library(tmp_path_factory, data) -> Library:
    """Templates from the stable experimental crystals of the Materials Project, up to 12 sites."""
    from pymatgen.core import Lattice

    with gzip.open(data / "mp" / "mp.csv.gz", "rt", newline="") as handle:
        stable = {
            row["material_id"]: float(row["energy_above_hull"])
            for row in csv.DictReader(handle)
            if row["icsd"] == "1" and row["energy_above_hull"] and float(row["energy_above_hull"]) <= 0.01
        }
    cells = {}
    with gzip.open(data / "mp" / "mp_structures.jsonl.gz", "rt") as handle:
        for entry in map(json.loads, handle):
            if entry["id"] in stable and len(entry["el"]) <= 12:
                lattice = np.array(Lattice.from_parameters(*entry["cell"]).matrix)
                elements = np.array([ATOMIC_NUMBERS[symbol] for symbol in entry["el"]], dtype=np.uint8)
                cells[entry["id"]] = Cell(lattice, elements, np.array(entry["frac"], dtype=float))
    folder = tmp_path_factory.mktemp("mp")
    entries = {"id": list(cells), "energy_above_hull_ev_per_atom": [stable[name] for name in cells]}
    tables.write(folder / "entries.parquet", _ENTRIES, {**entries, **to_columns(list(cells.values()))})
    settings = TemplateSettings(sources=("database",), max_sites=12)
    build_templates(entries_path=folder / "entries.parquet", output_path=folder / "t.parquet", settings=settings)
    return Library(folder / "t.parquet")


def measure(templates: Library, targets: Library) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarity of the first proposal, whether it is the known crystal, and the volume error of those that are."""
    hits, errors = [], []
    for place in np.random.default_rng(0).permutation(len(targets.rows))[:600]:
        target, cell = targets.rows[place], targets.cells[place]
        if len(target["elements"]) < 2:
            continue
        for position, exchange, similarity in templates.ranked(
            target["elements"], target["counts"], target["oxidation_states"]
        ):
            if templates.rows[position]["reference_formula"] != target["reference_formula"]:
                template = templates.cells[position]
                elements = np.array([exchange[int(z)] for z in template.elements], dtype=np.uint8)
                proposed = Cell(template.lattice, elements, template.fractional)
                volume, _ = predicted_volume(proposed, template)
                hits.append((similarity, same_crystal(proposed, cell)))
                if hits[-1][1]:
                    errors.append(abs(np.log(volume / len(elements) / (cell.volume / len(cell.elements)))))
                break
    similarity, right = np.array(hits).T
    print(f"\nright prototype first: {right.mean():.3f} of {len(right)}", end="")
    for low in np.arange(10) / 10:
        chosen = (similarity >= low) & (similarity < low + 0.1 + 1e-9 * (low == 0.9))
        if chosen.any():
            print(f"; similarity {low:.1f} to {low + 0.1:.1f}: {right[chosen].mean():.2f} of {chosen.sum()}", end="")
    print(f"\nvolume error: median {np.median(errors):.3f}, 90th percentile {np.quantile(errors, 0.9):.3f}")
    return similarity, right.astype(bool), np.array(errors)


def test_held_back_crystals_from_the_rest_of_the_database(library):
    similarity, right, error = measure(library, library)
    assert right.mean() > 0.5
    assert right[similarity > 0.9].mean() > 0.65 > 0.3 > right[similarity < 0.5].mean()
    assert np.median(error) < 0.05
    assert np.quantile(error, 0.9) < 0.2


def test_held_back_crystals_from_aflow_alone(library, tmp_path):
    build_templates(entries_path=None, output_path=tmp_path / "t.parquet", settings=TemplateSettings(("aflow",)))
    similarity, right, _ = measure(Library(tmp_path / "t.parquet"), library)
    assert right[similarity > 0.9].mean() > 0.4 > 0.15 > right[similarity < 0.5].mean()
