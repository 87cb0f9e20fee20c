"""The report on a made-up campaign small enough to count by hand."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from pipeline import tables
from pipeline.cells import CELL_COLUMNS, Cell, to_columns
from pipeline.composition import Compositions
from pipeline.database.schema import ENTRIES, REJECTS
from pipeline.encoding import SPLIT, TENSOR_IDS
from pipeline.export.manifest import MANIFEST, csv_text
from pipeline.filtering.baseline import write_pass_rates
from pipeline.filtering.history import EPOCH_SAMPLES, write_history
from pipeline.filtering.schema import DRAWN, FILTERED, Rules
from pipeline.filtering.stage import filter_part
from pipeline.hull import Hull
from pipeline.report import candidates, cards, crystals, funnel, page, periodic
from pipeline.report.overview import FIGURES
from pipeline.report.stage import write_report
from pipeline.screening.criteria import Criteria
from pipeline.screening.distribution import Residuals
from pipeline.screening.models import PARITY
from pipeline.screening.schema import PREDICTED
from pipeline.screening.select import SELECTED, select
from pipeline.structures.reference_schema import REFERENCES
from pipeline.structures.schema import STRUCTURES
from tests.predicted import UNIFORM
from tests.predicted import predicted as scored

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
KNOWN = ["NaCl", "MgO", "TiO2", "CsCl", "BaTiO3", "LiFePO4", "ZnS", "CaF2", "KBr", "Al2O3", "SiO2", "Li9N20"]
SAMPLES = ["NaCl", "KCl", "SrTiO3", "NaCl3", "Fe2O3", "CaF2", "LiF", "Rb2O", "NaMg", "SrO"]
DRAWN_TIMES = [3, 1, 1, 2, 1, 1, 1, 1, 1, 1]
SELECT = {"require_novel": True, "max_formation_energy_ev_per_atom": -0.5, "max_band_gap_ev": 3.0, "n_selected": 3}


def make(
    folder: Path,
    *,
    energies: bool = True,
    hostile: str = "mp-1",
    exported: bool = True,
    curves: bool = True,
    crystals: bool = False,
) -> dict:
    """Write the tables of a campaign: 12 entries (one beyond the box, two held out) and 16 draws of 10 formulas.

    With `crystals`, of 10 crystals: two of Fe2O3, and no sample of an epoch.
    """
    folder.mkdir(parents=True)
    known = Compositions.from_formulas(KNOWN)
    value = pa.array(np.linspace(-3, 0, len(KNOWN)), mask=np.full(len(KNOWN), not energies))
    none = pa.nulls(len(KNOWN), pa.float64())
    ids = [hostile, *(f"mp-{i}" for i in range(2, len(KNOWN) + 1))]
    entries = {
        "id": ids,
        "source": ["x"] * len(ids),
        "formula": known.formulas(),
        **known.columns(),
        "formation_energy_ev_per_atom": value,
    }
    entries |= {"band_gap_ev": none, "energy_above_hull_ev_per_atom": none, "volume_a3_per_atom": none}
    entries |= {field.name: pa.nulls(len(KNOWN), field.type) for field in CELL_COLUMNS}
    paths = {name: folder / f"{name}.parquet" for name in ("entries", "rejects", "split", "history", "selected")}
    tables.write(paths["entries"], ENTRIES, entries)
    rejects = {
        "source": ["x"],
        "file": ["x.csv"],
        "line": [7],
        "id": [hostile],
        "reason": [f"formula '{hostile}' cannot be read"],
    }
    tables.write(paths["rejects"], REJECTS, rejects)
    held_out = np.array([formula in ("CaF2", "ZnS") for formula in KNOWN])
    tables.write(paths["split"], SPLIT, {"id": ids, "held_out": held_out, "held_out_system": held_out})
    tables.write(folder / "tensors.parquet", TENSOR_IDS, {"id": ids[:-1] + ids[:3]})
    epochs = {"epoch": pa.array([1, 2, 3], pa.int32())}
    epochs |= {"critic_loss": [0.5, 0.4, 0.3], "critic_gradient_norm": [None, 1.0, 0.5]} if curves else {}
    fields = tuple(pa.field(name, pa.int32() if name == "epoch" else pa.float64()) for name in epochs)
    tables.write(paths["history"], tables.Table("history", fields), epochs)

    names = [*SAMPLES[:3], "Fe2O3", *SAMPLES[4:]] if crystals else SAMPLES
    drawn = Compositions.from_formulas(names)
    samples = [folder / "part-0.parquet", folder / "part-1.parquet"]
    for path, rows in zip(samples, (slice(0, 6), slice(6, 10)), strict=True):
        mine = drawn.take(np.arange(10)[rows])
        sample_ids = [f"{name}-{i}" if crystals else name for i, name in enumerate(mine.formulas().to_pylist())]
        part = {"id": sample_ids, "n_drawn": pa.array(DRAWN_TIMES[rows], pa.int32()), **mine.columns()}
        tables.write(path, DRAWN, part)
    epoch_samples = {"epoch": pa.array(np.repeat([1, 2, 3], 10 * (not crystals)), pa.int32())}
    three = Compositions.from_formulas(SAMPLES * 3 * (not crystals))
    tables.write(folder / "epoch_samples.parquet", EPOCH_SAMPLES, epoch_samples | three.columns())
    filtered = [folder / "filtered-0.parquet", folder / "filtered-1.parquet"]
    for one, other in zip(samples, filtered, strict=True):
        filter_part(samples_path=one, filtered_path=other, rules=Rules("icsd24_medium", False), reject=True)
    rates, by_epoch = folder / "pass_rates.json", folder / "filter_history.parquet"
    given = {"entries_path": paths["entries"], "split_path": paths["split"]}
    write_pass_rates(**given, samples_paths=samples, output_path=rates, seed=1)
    write_history(**given, epoch_samples_path=folder / "epoch_samples.parquet", output_path=by_epoch)
    # Crystals of a formula are of one chemical system too: without this, the second would fall behind other formulas.
    chosen = SELECT | ({"weights": {"diversity": 0}} if crystals else {})
    screened = _screen(folder, filtered, paths, Criteria(**chosen))
    manifest = _structures(folder, paths["selected"], hostile, exported, (1, 1, 0) if crystals else (2, 1, 0))
    cleaning = {"rows_in": 20, "rejected": 1, "dropped": {"single_element": 5, "excluded_element": 2}, "rows_out": 12}
    tables.write_json(folder / "cleaning.json", cleaning)
    about = {"name": "x", "kind": "table", "rows_read": 20, "entries": 12, "licence": "CC BY 4.0", "citation": hostile}
    tables.write_json(folder / "sources.json", [about])
    tables.write_json(folder / "vocabulary.json", {"elements": ["O", "Na"], "entries": 12, "held_out": 2})
    for job, n in enumerate((10, 6)):
        tables.write_json(folder / f"draws-{job}.json", {"drawn": n, "ambiguous": 1, "empty": job})
    sizes = {"training_formulas": 9, "held_out_formulas": 2}
    exact = {"architecture": "dense", "epochs": 2, "dice": 0.99, "training_exact": 0.875, "held_out_exact": None}
    tables.write_json(folder / "reconstruction.json", exact | sizes)
    return {
        **paths,
        "rejects": [paths["rejects"]],
        "sources_json": folder / "sources.json",
        "cleaning_json": folder / "cleaning.json",
        "vocabulary_json": folder / "vocabulary.json",
        "tensors": folder / "tensors.parquet",
        "reconstruction_json": folder / "reconstruction.json",
        "draw_counts": [folder / "draws-0.json", folder / "draws-1.json"],
        "samples": samples,
        "filtered": filtered,
        "pass_rates_json": rates,
        "filter_history": by_epoch,
        "screened": screened,
        "model_folders": [_model(folder, hostile)],
        "structures": folder / "structures.parquet",
        "references": folder / "references.parquet",
        "manifest_csv": manifest,
        "output_html": folder / "report" / "report.html",
        "figures_dir": folder / "report" / "figures",
        "seed": 1,
        "campaign": hostile,
        "command": "snakemake --cores 2",
        "settings": {
            "generator": "matgan",
            "training": {"preset": "default"},
            "database": {"sources": [{"name": "x", "kind": "table"}]},
            "screening": {"select": chosen},
        },
        "provenance": {"versions": {"numpy": "2.4"}, "code": "abc"},
    }


def _screen(folder: Path, filtered: list[Path], paths: dict, criteria: Criteria) -> list[Path]:
    predicted, screened = [], []
    for index, path in enumerate(filtered):
        rows = tables.read(path, FILTERED)
        rows = rows.filter(pc.is_null(rows["rejected_by"]))
        formulas = Compositions.from_table(rows).formulas().to_pylist()
        scores = scored(
            formulas,
            formation_energy_ev_per_atom=-1.0 - np.arange(len(rows)),
            formation_energy_uncertainty_ev_per_atom=0.25,
            band_gap_ev=np.linspace(0, 2, len(rows)),
            likeness=0.15 * (1 + np.arange(len(rows))),
            is_known=[formula in KNOWN for formula in formulas],
        )
        table = {name: rows[name] if name in rows.column_names else scores[name] for name in scores.column_names}
        predicted.append(folder / f"predicted-{index}.parquet")
        screened.append(folder / f"screened-{index}.parquet")
        tables.write(predicted[-1], PREDICTED, table)
    select(
        predicted_paths=predicted,
        entries_path=paths["entries"],
        screened_paths=screened,
        selected_path=paths["selected"],
        criteria=criteria,
        residuals=Residuals(UNIFORM, UNIFORM),
    )
    return screened


def cell_of(formula: str) -> Cell:
    """Atoms of a formula on a grid of 2.5 angstrom."""
    columns = Compositions.from_formulas([formula]).columns()
    elements = np.repeat(columns["elements"][0].as_py(), columns["counts"][0].as_py()).astype(np.uint8)
    side = int(np.ceil(len(elements) ** (1 / 3)))
    sites = np.array(list(np.ndindex(side, side, side)))[: len(elements)] / side
    return Cell(2.5 * side * np.eye(3), elements, sites)


def structure(formula: str, hull: Hull, energy: float | None = None, **known) -> dict:
    """A row of the structures stage, on a template, relaxed if it has an energy."""
    columns = {name: column[0].as_py() for name, column in Compositions.from_formulas([formula]).columns().items()}
    row = dict.fromkeys(STRUCTURES.schema.names) | columns
    row |= {"id": f"{formula}-0", "formula": formula, "rank": 1, "verdict": "balanced", "origin": "template"}
    row |= {"template_source": "aflow", "template_label": "AB_cF8", "template_formula": "NaCl"}
    row |= {"template_probability": 0.25, "prototype": "AB_225_a-b", "space_group_number": 225}
    row |= {"space_group_symbol": "Fm-3m", "density_g_per_cm3": 5.25, "volume_a3_per_atom": 15.625}
    row |= {"nearest_known_id": "mp-1", "nearest_known_formula": "NaCl", "nearest_known_distance": 1.0}
    row |= {"cell": cell_of(formula), "relaxed": energy is not None}
    if energy is not None:
        found = hull.distances(Compositions.from_formulas([formula]), [energy])[0]
        row |= {"potential": "chgnet 0.4.2", "energy_ev_per_atom": energy, "converged": True, "relaxation_steps": 7}
        row |= {"maximum_force_ev_per_angstrom": 0.02, "maximum_stress_gpa": 0.1, "relaxation_volume_ratio": 1.1}
        row |= {"space_group_number_before": 225, "decomposition": found.text, "n_hull_references": found.n_references}
        row |= {"energy_above_hull_ev_per_atom": found.energy_above_hull_ev_per_atom}
        row |= {"hull_source": "chgnet 0.4.2 on mine", "hull_remark": found.reason}
    return row | known


def structures_table(rows: list[dict]) -> pa.Table:
    plain = {name: [row.get(name) for row in rows] for name in STRUCTURES.schema.names}
    columns = plain | to_columns([row["cell"] for row in rows])
    types = {field.name: field.type for field in STRUCTURES.fields}
    return pa.table({name: pa.array(columns[name], types[name]) for name in STRUCTURES.schema.names})


def references_table(energies: dict[str, float]) -> pa.Table:
    n = len(energies)
    columns = {field.name: pa.nulls(n, field.type) for field in REFERENCES.fields}
    columns |= {"id": [*energies], "source": ["mine"] * n, "version": ["1"] * n, "formula": [*energies]}
    columns |= Compositions.from_formulas(energies).columns() | {"energy_ev_per_atom": [*energies.values()]}
    columns |= {"relaxed": [True] * n, "potential": ["chgnet 0.4.2"] * n}
    return pa.table(columns)


IRON_OXIDES = {"Fe": -1.0, "O": -2.0, "FeO": -2.5}


def _structures(folder: Path, selected: Path, hostile: str, exported: bool, numbers: tuple[int, ...]) -> Path:
    """So many structures of the first selected, the second, and the third; their manifest and their references.

    The first is relaxed, at 0.1 eV/atom above FeO and oxygen; the rest are not.
    """
    rows = tables.read(selected, STRUCTURES_FROM).to_pylist()
    references = references_table(IRON_OXIDES)
    tables.write(folder / "references.parquet", REFERENCES, references)
    hull, built = Hull.from_table(references), []
    for row, n in zip(rows, numbers, strict=True):
        for copy in range(max(n if exported else 0, 1)):
            formula = row["id"].split("-")[0]
            known = row | {"id": f"{row['id']}-{copy}"}
            if n and exported:
                energy = None if built else -2.3
                known |= (
                    {"template_label": hostile} if numbers[0] > 1 else {"template_label": None, "origin": "generator"}
                )
                built.append(structure(formula, hull, energy, **known))
            else:
                none = dict.fromkeys(STRUCTURES.schema.names) | {"cell": None}
                built.append(none | known | {"formula": formula, "rejected_by": "no_template"})
    tables.write(folder / "structures.parquet", STRUCTURES, structures_table(built))
    lines = [
        dict.fromkeys(MANIFEST.schema.names)
        | row
        | {"file": f"POSCAR/POSCAR-{row['id']}.vasp", "oxidation_states": "Fe3+ O2-"}
        for row in built
        if row["rejected_by"] is None
    ]
    (folder / "manifest.csv").write_text(csv_text(lines), encoding="utf-8")
    return folder / "manifest.csv"


def _model(folder: Path, hostile: str) -> Path:
    model = folder / "model"
    parity = {"model": [hostile] * 2, "id": [hostile, "b"], "target": [0.0, 1.0], "prediction": [0.1, 0.9]}
    tables.write(model / "parity.parquet", PARITY, parity | {"uncertainty": [0.2, 0.2]})
    metrics = {"rows": 2, "mae": 0.1, "r2": 0.96, "mean_predictor_mae": 0.5, "interval_coverage": 1.0}
    metrics["mean_interval_half_width"] = 0.2
    description = {"target": "band_gap_ev", "source": hostile, "rows": {"train": 9}, "metrics": metrics}
    description["by_group"] = [{"group": "oxides", "rows": 2, "mae": 0.125, "coverage": 0.5}]
    description["by_distance"] = [{"from": 0.5, "to": 1.5, "rows": 2, "mae": 0.25, "coverage": 1.0}]
    tables.write_json(model / "model.json", description)
    return model


STRUCTURES_FROM = tables.Table(
    "selected", tuple(field for field in SELECTED.fields if field.name in STRUCTURES.schema.names)
)


class Reader(HTMLParser):
    """What a browser would make of the page: attributes that fetch, scripts, and the text of tables."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.fetched, self.scripts, self.rows, self.tables = [], [], [], [], []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._inside = tag if tag in ("script", "style", "td", "th") else self._inside
        self.fetched += [value for name, value in attrs if name in ("src", "href", "data", "action", "srcset")]
        if tag == "script":
            self.scripts.append("")
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.rows.append([])
            self.tables[-1].append(self.rows[-1])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside in ("td", "th"):
            self.rows[-1][-1] += data

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == name)

    def table(self, head: str) -> dict[str, list[str]]:
        """Rows by their first cell of the table whose first head begins so."""
        rows = next(rows for rows in self.tables if rows[0][0].startswith(head))
        return {row[0]: row[1:] for row in rows}

    def figures(self) -> list[dict]:
        return [json.loads(script) for script in self.scripts if script.startswith('{"data"')]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory) -> dict:
    arguments = make(tmp_path_factory.mktemp("report") / "a", hostile=HOSTILE)
    write_report(**arguments)
    return arguments


@pytest.fixture(scope="module")
def html(campaign) -> str:
    return campaign["output_html"].read_text()


@pytest.fixture(scope="module")
def seen(html) -> Reader:
    return Reader(html)


@pytest.mark.parametrize(
    ("name", "left", "lost", "reasons"),
    [
        ("rows read", "20", "", ""),
        ("entries after cleaning", "12", "8", "single element: 5, excluded element: 2, row could not be read: 1"),
        ("entries trained on", "9", "3", "held out to test rediscovery: 2, not encoded for the generator: 1"),
        ("draws", "16", "", ""),
        ("draws that are a formula", "13", "3", "two counts for one element: 2, no element, or no crystal: 1"),
        ("distinct candidates", "10", "3", "drawn before: 3"),
        ("candidates kept by the filter", "8", "2", "no oxidation states sum to zero: 2"),
        ("selected", "3", "5", "ranked below those selected: 3, formula is in the database: 2"),
        ("candidates exported", "2", "1", "no template of that composition: 1"),
    ],
)
def test_funnel_counts(seen, name, left, lost, reasons):
    found = seen.row(name)
    assert [found[1], *found[3:]] == [left, lost, reasons]


def test_rates_of_the_samples(html):
    assert "<b>76.9 %</b><span>of 13 draws are distinct formulas" in html
    assert "<b>80.0 %</b><span>of 10 distinct formulas are not in the database" in html
    assert "<b>50.0 %</b><span>1 of 2 held-out formulas found again" in html
    assert "<b>91.7 %</b><span>of 12 entries are encoded for the generator" in html
    assert "<b>87.5 %</b><span>of 9 training formulas exact" in html
    assert "3 structures of 2 formulas were exported" in html


def test_several_crystals_of_a_formula(tmp_path):
    """They count as crystals in the funnel, as one formula in rates and maps, and no template is named."""
    arguments = make(tmp_path / "a", crystals=True)
    write_report(**arguments)
    html = arguments["output_html"].read_text()
    seen = Reader(html)
    funnel_of = {
        name: seen.row(name)[1]
        for name in ("distinct candidates", "candidates kept by the filter", "selected", "candidates exported")
    }
    assert list(funnel_of.values()) == ["10", "9", "3", "2"]
    assert "16 draws, 9 distinct formulas, 2 candidate structures" in html
    assert "<b>69.2 %</b><span>of 13 draws are distinct formulas" in html
    assert "<b>77.8 %</b><span>of 9 distinct formulas are not in the database" in html
    assert "2 structures of 1 formulas were exported" in html
    rows = [row for row in seen.rows if len(row) == 19 and row[0].isdigit()]
    assert [(row[1], row[12]) for row in rows] == [("Fe2O3", "the generator")] * 2
    rates = tables.read_json(arguments["pass_rates_json"])["icsd24_low"]["sets"]
    assert (rates["samples"]["overall"]["rows"], rates["samples_drawn"]["overall"]["rows"]) == (9, 13)
    assert "samples drawn after an epoch" not in html and "trained for 3 epochs" in html


def test_funnel_refuses_counts_that_do_not_add_up():
    with pytest.raises(ValueError, match="10 draws went in, but 8 formulas and 1 rejected came out"):
        funnel.chain(("draws", 10), ("formulas", 8, {"empty": 1}))


def test_stale_tables_are_refused(tmp_path):
    arguments = make(tmp_path / "a")
    with pytest.raises(ValueError, match="keeps 3 structures, the export has 0"):
        write_report(**arguments | {"manifest_csv": make(tmp_path / "b", exported=False)["manifest_csv"]})
    assert not arguments["output_html"].exists()


def test_split_of_another_run_is_refused(tmp_path):
    arguments = make(tmp_path / "a") | {"split": make(tmp_path / "b", hostile="mp-99")["split"]}
    with pytest.raises(ValueError, match="rerun encoding"):
        write_report(**arguments)


def test_page_fetches_nothing(html, seen):
    assert all(value.startswith("#") for value in seen.fetched)
    assert not {"link", "iframe", "object", "embed"} & set(seen.tags)
    assert "default-src 'none'" in html
    style = html[html.index("<style>") : html.index("</style>")]
    assert "@import" not in style
    assert "url(" not in style
    assert html.count("plotly.js v") == 1
    # Of plotly's own buttons, one uploads the figure.
    assert (
        "flat = [['toImage', 'zoom2d', 'pan2d', 'resetScale2d']], solid = [['toImage', 'resetCameraDefault3d']]" in html
    )
    assert "modeBarButtons: layout.scene ? solid : flat" in html


def test_hostile_text_stays_text(html, seen):
    assert "img" not in seen.tags
    assert HOSTILE not in html
    assert not any("alert" in script for script in seen.scripts if not script.startswith('{"data"'))
    labels = [text for drawn in seen.figures() for trace in drawn["data"] for text in np.ravel(trace.get("text", []))]
    assert any("alert" in label for label in labels)
    assert not any("<script" in label or "<img" in label for label in labels)


def test_figures_are_valid_plotly(seen):
    drawn = [go.Figure(each) for each in seen.figures()]
    assert len(drawn) >= 9
    assert all(figure.data for figure in drawn)


def test_candidates_stand_in_the_order_of_the_manifest(seen):
    rows = [row for row in seen.rows if len(row) == 19 and row[0].isdigit()]
    assert [row[1] for row in rows] == ["Fe2O3", "Fe2O3", "SrO"]
    assert rows[0][2] == "Fm-3m (225)"
    assert [row[3] for row in rows] == ["+0.100", "–", "–"]
    assert rows[0][4] == "3"
    # 0.75 near the hull, 0.6 likeness, gap of 1.5 ± 0.5 surely below 3
    assert rows[0][5:11] == ["0.449", "0.75", "0.00 ± 0.10", "0.60", "−4.00 ± 0.25", "1.50 ± 0.50"]
    assert [rows[0][11], rows[0][13]] == ["5.25", "0.25"]
    assert [row[14] for row in rows] == ["converged", "none", "none"]


def test_terms_stand_beside_their_weights_and_shares(seen):
    rows = seen.table("term")
    assert rows["term"] == [
        "weightexponent",
        "medianof candidates",
        "medianof selected",
        "shareof what lacks to usefulness 1",
    ]
    # of the selected: three times 0.75; 0.6, 0.45 and 0.45; each the first of its system
    assert rows["near the hull"][:3] == ["1", "0.75", "0.75"]
    assert rows["likeness"][:3] == ["1", "0.38", "0.45"]
    assert rows["novelty"] == ["0", "0.50", "0.50", "0.0 %"]
    assert rows["diversity"] == ["1", "1.00", "1.00", "0.0 %"]
    shares = [float(rows[name][3].rstrip(" %")) for name in ("near the hull", "likeness", "gap as asked")]
    lacks = -np.log([0.75**3, 0.6 * 0.45**2, (1 - 1 / 402) ** 3])
    assert shares == pytest.approx((100 * lacks / lacks.sum()).tolist(), abs=0.1)


def test_each_score_is_explained(html, seen):
    rows = seen.table("score")
    assert rows["band gap"][1] == "eV; 0: called a metal"
    assert (
        "errs by 0.100 eV in the mean on 2 formulas that it never saw (always saying the mean: 0.500)"
        in rows["band gap"][2]
    )
    assert "at most 0.05 eV/atom" in rows["near the hull"][0]
    assert "a gap of at most 3 eV" in rows["gap as asked"][0]
    assert {"likeness", "distance from training", "novelty", "supply"} < set(rows)
    assert "formation energy" not in rows  # no model of it among those given
    assert "Bound is not stable" in html and "Usefulness by rank" in html


def test_errors_of_a_model_stand_apart_by_kind_and_by_distance(seen):
    assert seen.table("kind")["oxides"] == ["2", "0.125", "50.0 %"]
    assert seen.table("distancefrom training")["0.50 to 1.50"] == ["2", "0.250", "100.0 %"]


def test_same_inputs_same_bytes(campaign, tmp_path):
    again = campaign | {"output_html": tmp_path / "report.html", "figures_dir": tmp_path / "figures"}
    write_report(**again)
    assert again["output_html"].read_bytes() == campaign["output_html"].read_bytes()
    assert sorted(path.name for path in again["figures_dir"].iterdir()) == sorted(FIGURES)
    for name in FIGURES:
        assert (again["figures_dir"] / name).read_bytes() == (campaign["figures_dir"] / name).read_bytes()


def test_overview_is_1600_pixels_wide(campaign):
    head = (campaign["figures_dir"] / "overview.png").read_bytes()[:24]
    assert int.from_bytes(head[16:20], "big") == 1600


def test_missing_data_is_said_in_a_sentence(tmp_path):
    arguments = make(tmp_path / "a", energies=False, exported=False, curves=False)
    arguments |= {"reconstruction_json": None, "model_folders": []}
    write_report(**arguments)
    html = arguments["output_html"].read_text()
    for sentence in (
        "No formation energy to show for: database.",
        "No band gap to show for: database.",
        "No candidate was exported",
        "No autoencoder was trained",
        "No property model was used.",
        "formulas are too few for a map",
    ):
        assert sentence in html
    assert all(drawn["data"] for drawn in Reader(html).figures())


@pytest.mark.parametrize(
    ("symbol_z", "place"),
    [(1, (0, 0)), (2, (0, 17)), (5, (1, 12)), (21, (3, 2)), (57, (7, 2)), (71, (7, 16)), (72, (5, 3)), (118, (6, 17))],
)
def test_places_on_the_periodic_table(symbol_z, place):
    row, column = periodic.places()
    assert (row[symbol_z - 1], column[symbol_z - 1]) == place
    assert len(set(zip(row, column, strict=True))) == 118


def test_total_variation():
    a, b = np.zeros(119, int), np.zeros(119, int)
    a[[8, 11]], b[[8, 11]] = (1, 1), (3, 1)
    assert periodic.total_variation(a, b) == pytest.approx(0.25)
    assert periodic.total_variation(a, np.zeros(119, int)) is None


def test_formula_subscripts():
    assert page.formula("Fe2O3") == "Fe<sub>2</sub>O<sub>3</sub>"
    assert re.sub("<.*?>", "", page.formula("<b>2")) == "&lt;b&gt;2"


def test_distances_are_stated_with_what_they_were_measured_from(html):
    assert "known of 1 of 3; energies: chgnet 0.4.2 on mine" in html
    assert "against these references alone: chgnet 0.4.2 on mine 1." in html
    assert "This campaign measured no such distance" in candidates.limits(None)


class TestCards:
    ENERGIES = IRON_OXIDES | {"Li": 0.0, "Mn": 0.0, "Li2O": -1.8, "MnO2": -2.9, "Fe2O3": -1.9}

    def made(self, rows, energies=ENERGIES) -> tuple[str, Reader]:
        html = cards.cards(structures_table(rows), references_table(energies))
        return html, Reader(html)

    @pytest.fixture(scope="class")
    def hull(self):
        return Hull.from_table(references_table(self.ENERGIES))

    def test_one_for_each_of_the_first(self, hull):
        rows = [structure("FeO", hull, -2.4, rank=rank) for rank in range(1, 15)]
        rows[3]["rejected_by"] = "duplicate"
        html, seen = self.made(rows)
        assert html.count('<details class="card">') == cards.SHOWN
        assert len(seen.figures()) == 3 * cards.SHOWN

    def test_binary(self, hull):
        html, seen = self.made([structure("Fe3O4", hull, -2.3)])
        place = seen.figures()[2]
        on_hull = next(trace for trace in place["data"] if trace["name"] == "on the hull")
        assert on_hull["x"] == [0, 0.5, 1]  # Fe, FeO, O
        assert on_hull["y"] == [0, -1, 0]
        above = next(trace for trace in place["data"] if trace["name"] == "above the hull")
        assert above["text"] == ["Fe<sub>2</sub>O<sub>3</sub>"]
        star = place["data"][-1]
        # Fe at -1 and O at -2: -2.3 + 3/7 + 8/7
        assert (star["x"], star["y"]) == ([pytest.approx(4 / 7, abs=1e-3)], [pytest.approx(-2.3 + 11 / 7, abs=1e-3)])
        assert "chgnet 0.4.2, converged after 7 steps" in html

    def test_ternary(self, hull):
        _, seen = self.made([structure("LiFeO2", hull, -2.4)])
        place = seen.figures()[2]
        ties, stable, *_, star = place["data"]
        corners = dict(zip(stable["text"], zip(stable["x"], stable["y"], strict=True), strict=True))
        assert corners["Li"] == (0, 0)
        assert corners["Fe"] == (1, 0)
        assert corners["O"] == (0.5, pytest.approx(np.sqrt(3) / 2, abs=1e-4))
        assert corners["FeO"] == (0.75, pytest.approx(np.sqrt(3) / 4, abs=1e-4))
        assert len(ties["x"]) == 3 * 7  # three corners, FeO and Li2O on edges: 5 + 2 lines within
        assert star["x"] == [pytest.approx(0.5)]
        assert star["y"] == [pytest.approx(np.sqrt(3) / 4, abs=1e-4)]

    def test_quaternary(self, hull):
        _, seen = self.made([structure("LiMnFeO4", hull, -2.2)])
        assert len(seen.figures()) == 2
        rows = {row[0]: row[1:] for row in seen.rows if len(row) == 4}
        assert rows["LiMnFeO4 candidate"][0] == "–"
        shares = [float(row[0].rstrip(" %")) for name, row in rows.items() if row[0].endswith("%")]
        assert sum(shares) == pytest.approx(100, abs=0.3)
        assert rows["FeO"][1:] == ["−1.000", "0.000"]

    @pytest.mark.parametrize(
        ("formula", "energy", "sentence"),
        [
            ("SrO", -2.0, "no reference energy of Sr"),
            ("FeO", None, "it was not relaxed, so it has no energy"),
        ],
    )
    def test_without_a_hull_a_sentence_stands_in_its_place(self, hull, formula, energy, sentence):
        html, seen = self.made([structure(formula, hull, energy)])
        assert f"Its place among known phases is unknown: {sentence}." in html
        assert len(seen.figures()) == 2

    def test_an_element_without_scattering_factors_has_no_powder_pattern(self, hull):
        html, seen = self.made([structure("EsO2", hull)])
        assert "no scattering coefficients for Es" in html
        assert len(seen.figures()) == 1

    def test_figures_are_valid_plotly(self, hull):
        _, seen = self.made([structure(formula, hull, -2.0) for formula in ("FeO", "LiFeO2", "LiMnFeO4")])
        assert all(go.Figure(each).data for each in seen.figures())

    def test_nothing_exported_has_no_card(self, hull):
        assert (
            cards.cards(structures_table([structure("FeO", hull, rejected_by="duplicate")]), references_table({})) == ""
        )


class TestPictures:
    def test_a_cell_is_shown_whole(self):
        primitive = Cell(
            np.array([[0, 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]),
            np.array([11, 17], np.uint8),
            np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]),
        )
        whole = crystals.closed(crystals.presentable(primitive))
        assert np.bincount(whole.elements)[[11, 17]].tolist() == [14, 13]  # the known picture of rock salt
        assert len(crystals.bonds(whole)) == 54
        names = {trace["name"]: len(trace["x"]) for trace in crystals.view("", primitive)["data"] if "meta" in trace}
        assert names == {"Na": 14, "Cl": 13}

    def test_lines_of_copper(self):
        copper = Cell(
            np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) * 3.615 / 2, np.array([29], np.uint8), np.zeros((1, 3))
        )
        sticks, tops = crystals.powder_pattern("", copper)["data"]
        # JCPDS 4-836: 43.3, 50.4 and 74.1 degrees
        assert tops["x"][:3] == pytest.approx([43.3, 50.4, 74.1], abs=0.1)
        assert tops["text"][:3] == ["1 1 1", "2 0 0", "2 2 0"]
        assert tops["y"][0] == 100
        assert len(sticks["x"]) == 3 * len(tops["x"])


class TestSymmetries:
    hull = Hull.from_table(references_table(IRON_OXIDES))

    def test_changed_ones_are_listed(self):
        rows = [structure("FeO", self.hull, -2.4), structure("FeO", self.hull, -2.3, space_group_number_before=62)]
        rows += [structure("FeO", self.hull, space_group_number_before=62)]
        html = cards.changed_symmetries(structures_table(rows))
        assert "1 of 2 relaxed structures have the space group that they were built with. The others:" in html
        row = Reader(html).rows[1]
        assert row == ["1", "FeO-0", "62", "225 Fm-3m", "−2.300", "+0.200", "yes"]

    def test_none_changed(self):
        html = cards.changed_symmetries(structures_table([structure("FeO", self.hull, -2.4)]))
        assert "1 of 1 relaxed structures have the space group" in html
        assert "<table" not in html

    def test_none_relaxed(self):
        html = cards.changed_symmetries(structures_table([structure("FeO", self.hull)]))
        assert "No structure was relaxed" in html
