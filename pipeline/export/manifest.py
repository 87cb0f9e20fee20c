"""The manifest: one line a candidate, as Parquet and as the same CSV."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from pipeline import tables
from pipeline.composition import SYMBOLS
from pipeline.structures.schema import STRUCTURES
from pipeline.tables import Table, column

# What makes a spreadsheet run a text; some take the wide forms of East Asian keyboards for the same.
_LIVE = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_INTERVAL = "half-width of its 90 % interval: the value lies within plus or minus this in nine cases of ten"
_NO_INPUTS = "none were asked for"
_UNKNOWN = "not known"
_NO_TEMPLATE = "the structure is not from a template"


def _taken(name: str, meaning: str | None = None, null: str | None = None) -> pa.Field:
    """A column of the structures stage, explained anew for those who never saw it where the stage's words are short."""
    field = STRUCTURES.schema.field(name)
    if meaning is None:
        return field
    said = field.metadata[b"description"].decode().partition("; null: ")[2]
    return column(name, field.type, meaning, null=(null or said) if field.nullable else None)


MANIFEST = Table(
    "manifest",
    (
        _taken(
            "rank", "place in the ranking of formulas by `usefulness`, 1 the best; candidates of a formula share it"
        ),
        column(
            "id",
            pa.string(),
            "name of the candidate in all files: reduced formula and a hash of its cell as it was built, before any "
            "relaxation",
        ),
        _taken("formula"),
        column("file", pa.string(), "POSCAR of the candidate"),
        # the crystal
        _taken("space_group_number", "of the cell exported, 1 to 230, found by spglib", "it found none"),
        _taken("space_group_symbol", "the same as Hermann-Mauguin symbol", "spglib found none"),
        _taken("n_sites", "atoms in the cell exported", _UNKNOWN),
        _taken("volume_a3_per_atom", "volume of the cell exported", _UNKNOWN),
        _taken("density_g_per_cm3", "mass over volume of the cell exported", _UNKNOWN),
        _taken("minimum_distance_angstrom", "shortest distance between two atoms, periodic images included", _UNKNOWN),
        _taken(
            "minimum_distance_ratio",
            "the shortest distance in units of the sum of the two covalent radii; ionic and metallic bonds are near 1",
            _UNKNOWN,
        ),
        _taken("global_instability_index_vu"),
        _taken("oxidation_states", "of each element").with_type(pa.string()),
        # stability
        _taken(
            "energy_above_hull_ev_per_atom",
            "distance to the convex hull of the known phases in `hull_source`: 0 on it, positive above (it would "
            "decompose into `decomposition`), negative below all of them",
        ),
        _taken(
            "relaxed_formation_energy_ev_per_atom",
            "energy of the relaxed cell less that of the elements, both by `potential`; negative: bound. Low is not "
            "stable: no compound was compared with",
        ),
        _taken("hull_remark"),
        _taken(
            "decomposition", "the phases of the hull that compete with the candidate, with their shares of the atoms"
        ),
        _taken("n_hull_references", "known phases in the candidate's chemical system; few mean a hull with gaps"),
        _taken(
            "hull_source",
            "all sources of the campaign's references with their versions, also those without a phase of the "
            "candidate's system, and what their energies are by",
        ),
        _taken("energy_rank", "place among the structures tried for its formula, 1 the lowest in energy"),
        _taken("structure_rank", "place among them by the template's probability and the energy together, 1 the best"),
        # relaxation
        _taken(
            "relaxed",
            "True: atoms and cell were relaxed with `potential`; False: the cell is as it was built",
            _UNKNOWN,
        ),
        _taken("potential", "the machine-learnt potential that relaxed it, with its version"),
        _taken(
            "converged",
            "True: no force on an atom, and none on a lattice vector (stress times volume per atom), was larger than "
            "the campaign's structures.relax.fmax_ev_per_angstrom, which may leave some GPa of stress: see "
            "maximum_stress_gpa; False: it ran out of steps",
        ),
        _taken("energy_ev_per_atom", "the potential's total energy of the relaxed cell; comparable within it only"),
        _taken("maximum_force_ev_per_angstrom", "largest force on an atom that is left"),
        _taken("maximum_stress_gpa", "largest principal stress that is left, by size"),
        _taken("relaxation_volume_ratio"),
        _taken("relaxation_steps"),
        _taken("space_group_number_before", "space group before the relaxation"),
        # where it comes from
        _taken(
            "origin",
            "template: a known crystal with other elements on its sites; generator: drawn by the generator; random: "
            "symmetric random structure",
            _UNKNOWN,
        ),
        _taken(
            "template_source", "whose crystal the template is: aflow (library of prototypes) or database", _NO_TEMPLATE
        ),
        _taken("template_label", "AFLOW prototype label, or id of the database entry", _NO_TEMPLATE),
        _taken("template_formula", "formula of the crystal that the template was taken from", _NO_TEMPLATE),
        _taken(
            "prototype",
            "of the template: anonymous formula, space group number, Wyckoff letters of each element",
            _NO_TEMPLATE,
        ),
        _taken("template_rank", "1: the most probable template of its formula", _NO_TEMPLATE),
        _taken(
            "template_probability",
            "0 to 1: of this template being the formula's crystal, by a model that learnt from known stable crystals",
            _NO_TEMPLATE,
        ),
        _taken(
            "volume_method",
            "how the template's cell was scaled: dls (data-mined bond lengths), dls_bounded (the "
            "same, held near the radii), covalent_radii",
            _NO_TEMPLATE,
        ),
        # predictions from the formula
        _taken(
            "formation_energy_ev_per_atom",
            "predicted from the formula alone, against the elements; negative: bound. Low is not stable",
        ),
        _taken("formation_energy_uncertainty_ev_per_atom", _INTERVAL),
        _taken(
            "decomposition_energy_ev_per_atom",
            "predicted from the formula alone: distance to the convex hull of all other compounds, by DFT at 0 K; "
            "positive: it would decompose, negative: stable by so much",
        ),
        _taken("decomposition_energy_uncertainty_ev_per_atom", _INTERVAL),
        _taken(
            "probability_near_hull",
            "predicted probability, 0 to 1, that the decomposition energy is at most the campaign's "
            "screening.select.near_hull_ev_per_atom",
        ),
        _taken("band_gap_ev", "predicted from the formula alone, as semi-local DFT would give it; 0: a metal"),
        _taken("band_gap_uncertainty_ev", _INTERVAL),
        _taken("probability_nonmetal", "predicted probability, 0 to 1, of a gap above 0"),
        _taken(
            "probability_gap_in_window",
            "predicted probability, 0 to 1, that the gap lies between the campaign's screening.select.min_band_gap_ev "
            "and max_band_gap_ev; 1 where it asked for none",
        ),
        _taken(
            "experimental_band_gap_ev",
            "predicted from the formula alone, as experiments find it; 0: a metal",
            "the campaign has no model of it, or the model does not know an element",
        ),
        _taken("experimental_band_gap_uncertainty_ev", _INTERVAL, "as experimental_band_gap_ev"),
        _taken(
            "likeness",
            "0 to 1: how much the formula is like those of the database among charge-balanced formulas; no probability "
            "that it can be made",
            "the database is too small to learn it from",
        ),
        _taken("diversity", "1/k for the k-th best candidate of its chemical system, so that no system fills the list"),
        _taken(
            "usefulness",
            "0 to 1: product of probability_near_hull, likeness, probability_gap_in_window, half of "
            "nearest_known_distance and diversity, each to the power of its weight in screening.select.weights; ranks",
        ),
        _taken(
            "distance_from_training",
            "how far the formula lies from what the models learnt from: 1 is the median of that; far above it they "
            "guess, and the intervals may not say so",
        ),
        _taken(
            "hhi_production",
            "Herfindahl-Hirschman index of its elements' production, mean by mass (doi:10.1021/cm400893e): 0 from many "
            "countries, above 2,500 from few, 10,000 from one",
            "an element has none",
        ),
        _taken("hhi_reserve", "the same of reserves", "an element has none"),
        _taken("verdict"),
        _taken("nearest_known_id", "the database entry of nearest composition"),
        _taken("nearest_known_formula"),
        _taken("nearest_known_distance", "sum of absolute differences of the element fractions, 0 (same) to 2"),
        # files
        column("poscar_sha256", pa.string(), "SHA-256 of `file`"),
        column("cif", pa.string(), "the same cell as CIF"),
        column("vasp", pa.string(), "folder with inputs of VASP", null="see vasp_left_out"),
        column("vasp_input_set", pa.string(), "class of pymatgen.io.vasp.sets that made them", null="no such folder"),
        column("vasp_left_out", pa.string(), "why there is no folder for VASP", null="there is one"),
        column("vasp_remarks", pa.string(), "pymatgen's warnings about these inputs", null="none"),
        column("espresso", pa.string(), "folder with the input of Quantum ESPRESSO", null=_NO_INPUTS),
        # the campaign
        column("seed", pa.int64(), "seed of the campaign"),
        column("databases", pa.string(), "what the campaign read, with licence and citation: cite it"),
        column("model_sha256", pa.string(), "SHA-256 of the files of the models that generated and scored it"),
    ),
)


def meanings() -> dict[str, str]:
    """What each column says, and its null."""
    return {field.name: field.metadata[b"description"].decode() for field in MANIFEST.fields}


def manifest_line(structure: dict, files: dict, campaign: dict) -> dict:
    """One line: a row of the structures stage, the files made of it, and what is true of the whole campaign."""
    charges = charges_text(structure["elements"], structure["oxidation_states"])
    known = {**structure, "oxidation_states": charges, **files, **campaign}
    return {name: known[name] for name in MANIFEST.schema.names}


def charges_text(elements: list[int], states: list[int] | None) -> str | None:
    """Oxidation states for people, e.g. ``Sr2+ Ti4+ O2-``."""
    pairs = zip(elements, states or (), strict=states is not None)
    return states and " ".join(f"{SYMBOLS[z - 1]}{abs(state)}{'-' if state < 0 else '+'}" for z, state in pairs)


def write_manifest(folder: Path, lines: list[dict], provenance: dict) -> None:
    """Write ``manifest.parquet`` and ``manifest.csv``."""
    columns = {name: [line[name] for line in lines] for name in MANIFEST.schema.names}
    tables.write(folder / "manifest.parquet", MANIFEST, columns, provenance)
    (folder / "manifest.csv").write_text(csv_text(lines), encoding="utf-8")


def read_manifest(folder: Path) -> list[dict]:
    """The lines of an export's manifest.

    Raises:
        ValueError: The CSV is not what the Parquet file says.
    """
    lines = tables.read(folder / "manifest.parquet", MANIFEST).to_pylist()
    if (folder / "manifest.csv").read_text(encoding="utf-8") != csv_text(lines):
        raise ValueError(f"{folder / 'manifest.csv'}: not the rows of manifest.parquet")
    return lines


def csv_text(lines: Iterable[dict]) -> str:
    """The lines as CSV: numbers to six digits, an empty field for a null."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(MANIFEST.schema.names)
    for line in lines:
        writer.writerow(_field(line[name]) for name in MANIFEST.schema.names)
    return text.getvalue()


def _field(value: object) -> str:
    """A value as a CSV field; text that a spreadsheet would run as a formula is defused by an apostrophe."""
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_LIVE) else value
    return f"{value:.6g}" if isinstance(value, float) else str(value)
