"""OPTIMADE, against the server of optimade-python-tools: as it is, and through a proxy that spoils its answers."""

import copy
import gzip
import itertools
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.composition import ATOMIC_NUMBERS
from pipeline.database.crystals import lattice_from_parameters
from pipeline.database.fetching import fetch
from pipeline.database.records import Row
from pipeline.database.remote import optimade, session
from pipeline.database.sources import read_source
from tests.databases import proxy as faults
from tests.databases.optimade_server import PROPERTIES, materials_project, resource, serve
from tests.databases.proxy import Proxy

N_REAL = 5000
N_SALTS = 120
PAGE = 20

COLUMNS = {
    "formation_energy_ev_per_atom": {"column": "_exmpl_formation_energy_per_atom", "unit": "eV/atom"},
    "energy_above_hull_ev_per_atom": {"column": "_exmpl_energy_above_hull", "unit": "eV/atom"},
    "band_gap_ev": {"column": "_exmpl_band_gap", "unit": "eV"},
}


def settings(url: str, **other) -> dict:
    return {"name": "test", "kind": "optimade", "url": url, "columns": COLUMNS, "timeout_s": 30, **other}


def complete(source: dict) -> dict[str, dict]:
    """All records by id, the count held against the server's, as ``fetch`` does it."""
    records, total = {}, None
    for page in optimade.pages(source, None):
        records.update((record["id"], record) for record in page.records)
        total = page.total
    if total is not None and len(records) < total:
        raise ValueError(f"{len(records)} of {total} records came")
    return records


def filled(record: dict, source: dict) -> Row:
    row = Row("test.jsonl.gz", 1)
    optimade.fill(row, record, source)
    return row


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(session, "FIRST_WAIT_S", 0.01)


# ---------------------------------------------------------------------------------------------- 5,000 real structures


@pytest.fixture(scope="module")
def entries(data) -> list[dict]:
    return materials_project(data, N_REAL)


@pytest.fixture(scope="module")
def big(entries, tmp_path_factory):
    with serve(tmp_path_factory.mktemp("server"), [entry for entry, _, _ in entries]) as base:
        yield base


def fetched(source: dict, folder: Path) -> Path:
    """The snapshot of a source, in a folder."""
    paths = {name: str(folder / name) for name in ("partial", "snapshot.jsonl.gz", "about.json")}
    fetch(
        source=source,
        partial_path=paths["partial"],
        snapshot_path=paths["snapshot.jsonl.gz"],
        about_path=paths["about.json"],
    )
    return folder / "snapshot.jsonl.gz"


def test_5000_structures_arrive_as_they_were(big, entries, tmp_path):
    source = settings(big, page_limit=1000)
    rows = {row.id: row for row in read_source(source, fetched(source, tmp_path))}
    assert len(rows) == N_REAL
    with_energy = 0
    for _, record, figures in entries:
        row = rows[record["id"]]
        assert row.reason is None
        numbers = [ATOMIC_NUMBERS[symbol] for symbol in record["el"]]
        assert row.cell.elements.tolist() == numbers
        assert row.amounts == {z: numbers.count(z) for z in numbers}
        assert np.abs(row.cell.lattice - lattice_from_parameters(*record["cell"])).max() < 1e-8
        assert np.abs(row.cell.fractional - record["frac"]).max() < 1e-8
        targets = {name: figures[column] for name, column in zip(COLUMNS, PROPERTIES, strict=True)}
        expected = {name: float(figure) for name, figure in targets.items() if figure}
        expected["volume_a3_per_atom"] = pytest.approx(abs(np.linalg.det(row.cell.lattice)) / len(numbers))
        assert row.targets == expected
        with_energy += "formation_energy_ev_per_atom" in expected
    assert 3000 < with_energy < N_REAL  # some have none, and none was made up for them


def test_filter_gives_what_a_count_over_the_data_gives(big, entries):
    records = complete(settings(big, filter='elements HAS "O" AND nelements=2', page_limit=40))
    expected = {record["id"] for _, record, _ in entries if "O" in record["el"] and len(set(record["el"])) == 2}
    assert records.keys() == expected
    assert len(expected) > 80


# ------------------------------------------------------------------------------------------- faults, on a small server


def salts() -> list[dict]:
    """Rock salts that never were, six pages of them, each with figures of its own."""
    pairs = itertools.product("Li Na K Rb Cs Mg Ca Sr Ba Mn Fe Co Ni Cu Zn".split(), "F Cl Br I O S Se Te".split())
    corners = [[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
    made = []
    for i, (metal, anion) in enumerate(pairs):
        record = {
            "id": f"salt-{i}",
            "cell": [5 + i / 100] * 3 + [90] * 3,
            "el": [metal] * 4 + [anion] * 4,
            "frac": corners + [[x + 0.5, y, z] for x, y, z in corners],
        }
        targets = dict(zip(PROPERTIES, (str(-i / 50), str(i / 1000), str(i / 10)), strict=True))
        made.append(resource(record, {**targets, "created_at": "2020-01-01"}))
    return made


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("server"), salts()) as base:
        yield base


@pytest.fixture(scope="module")
def expected(small) -> dict[str, dict]:
    records = complete(settings(small, page_limit=PAGE))
    assert len(records) == N_SALTS
    return records


@pytest.fixture
def proxy(small):
    with Proxy(small) as proxy:
        yield proxy


def at_third_page(*those) -> list:
    return [faults.as_it_is, faults.as_it_is, *those]


PASSING = {
    "reset": faults.reset,
    "reset within": faults.reset_within,
    "cut": faults.cut,
    "cut, unnoticed": faults.cut_unnoticed,
    "html": faults.no_json,
    "no data": faults.changed(data=None),
    "other data": faults.changed(data=[{"type": "structures"}]),
    "one record as data": faults.changed(data={"id": "salt-1", "type": "structures"}),
    "text as data": faults.changed(data=["salt-1"]),
    "empty page": faults.changed(data=[]),
    "no links": faults.changed(links=None),
    "odd link": faults.changed(links={"next": 5}),
    "no link where more is said to be": faults.changed(links={"next": None}),
    "odd meta": faults.changed(meta=[]),
    "errors": faults.changed(errors=[{"title": "busy"}]),
    "429": faults.status(429),
    "500": faults.status(500),
    "502": faults.status(502),
    "503": faults.status(503),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_what_passes_is_asked_for_again(proxy, expected, capsys, fault):
    proxy.faults = at_third_page(fault, fault)
    assert complete(settings(proxy.url, page_limit=PAGE)) == expected
    assert len(proxy.asked) == N_SALTS / PAGE + 2
    assert proxy.asked[2] == proxy.asked[3] == proxy.asked[4]
    said = capsys.readouterr().err.splitlines()
    assert [line.partition("again in ")[2] for line in said] == ["0.01 s", "0.02 s"]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (faults.reset, "reset by peer"),
        (faults.cut, "IncompleteRead"),
        (faults.no_json, "no JSON object but '<html>"),
        (faults.status(503), "HTTP 503"),
    ],
    ids=["reset", "cut", "html", "503"],
)
def test_what_does_not_pass_is_a_clear_error(proxy, fault, says):
    proxy.faults = at_third_page(*[fault] * session.TRIES)
    with pytest.raises(ValueError, match=f"{proxy.url}/v1/structures.*{says}.*given up at try {session.TRIES}"):
        complete(settings(proxy.url, page_limit=PAGE))
    assert len(proxy.asked) == 2 + session.TRIES


def test_a_late_answer_is_waited_for_up_to_the_time_out(proxy, expected, capsys):
    proxy.faults = at_third_page(faults.late(0.3), faults.late(4))
    assert complete(settings(proxy.url, page_limit=PAGE, timeout_s=2)) == expected
    assert "Read timed out" in capsys.readouterr().err


def test_a_server_that_is_not_there(small):
    with Proxy(small) as gone:
        pass
    with pytest.raises(ValueError, match=f"Connection refused.*given up at try {session.TRIES}"):
        complete(settings(gone.url))


def test_retry_after_is_kept(proxy, expected):
    proxy.faults = at_third_page(faults.status(429, Retry_After="1"))
    start = time.monotonic()
    assert complete(settings(proxy.url, page_limit=PAGE)) == expected
    assert time.monotonic() - start > 1
    proxy.faults = [faults.status(429, Retry_After="Fri, 31 Dec 2100 23:59:59 GMT")]
    with pytest.raises(ValueError, match=r"HTTP 429.*asks to come back in \d+ s; given up at try 1"):
        complete(settings(proxy.url))


def test_a_page_that_comes_twice_does_no_harm(proxy, expected):
    proxy.faults = at_third_page(faults.page_before)
    assert complete(settings(proxy.url, page_limit=PAGE)) == expected


@pytest.mark.parametrize("fault", [faults.page_after, faults.records_before])
def test_a_page_that_is_missing_shows_in_the_count(proxy, fault):
    proxy.faults = at_third_page(fault)
    with pytest.raises(ValueError, match=f"{N_SALTS - PAGE} of {N_SALTS} records"):
        complete(settings(proxy.url, page_limit=PAGE))


def test_pages_go_on_after_a_cursor_without_asking_again(proxy, expected):
    source = settings(proxy.url, page_limit=PAGE)
    first = list(itertools.islice(optimade.pages(source, None), 2))
    kept = json.loads(json.dumps(first[-1].cursor))
    rest = list(optimade.pages(source, kept))
    came = [record["id"] for page in first + rest for record in page.records]
    assert len(came) == N_SALTS and set(came) == expected.keys()
    assert len(proxy.asked) == len(set(proxy.asked)) == N_SALTS / PAGE
    assert {page.total for page in first + rest} == {N_SALTS}
    assert list(optimade.pages(source, rest[-1].cursor)) == []
    assert len(proxy.asked) == N_SALTS / PAGE


def test_a_killed_fetch_goes_on(proxy, expected, root, tmp_path):
    source = settings(proxy.url, page_limit=PAGE)
    code = f"from tests.databases.test_optimade import *; fetched({source!r}, Path({str(tmp_path)!r}))"
    proxy.faults = [
        *[faults.as_it_is] * 4,
        faults.late(60),
    ]  # what it provides, three pages, and one that does not come
    process = subprocess.Popen([sys.executable, "-c", code], cwd=root)
    end = time.monotonic() + 60
    while len(proxy.asked) < 5 and time.monotonic() < end:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    waiting = proxy.asked.pop()
    with gzip.open(fetched(source, tmp_path), "rt") as lines:
        assert {record["id"]: record for record in map(json.loads, lines)} == expected
    pages = [asked for asked in proxy.asked if asked.startswith("/v1/structures")]
    assert len(pages) == len(set(pages)) == N_SALTS / PAGE and waiting in pages
    about = json.loads((tmp_path / "about.json").read_text())
    assert about["rows"] == N_SALTS and about["provider"] == "Example provider"


def test_a_server_that_leads_in_a_circle(proxy):
    def to_itself(proxy, answer):
        return faults.changed(links={"next": proxy.asked[-1]})(proxy, answer)

    proxy.faults = [faults.as_it_is] + [to_itself] * 20
    with pytest.raises(ValueError, match="lead back to it again and again"):
        complete(settings(proxy.url, page_limit=PAGE))


@pytest.mark.parametrize(
    "link", ["http://example.org/v1/structures?page_offset=40", "//example.org/", "file:///etc/passwd"]
)
def test_no_link_leads_to_another_host(proxy, link):
    proxy.faults = [faults.changed(links={"next": link})]
    with pytest.raises(ValueError, match="leads to another host"):
        complete(settings(proxy.url, page_limit=PAGE))
    proxy.faults = [faults.status(302, Location=link)]
    with pytest.raises(ValueError, match="sends us to another host"):
        complete(settings(proxy.url, page_limit=PAGE))
    assert len(proxy.asked) == 2


def test_a_redirect_on_the_same_host_is_followed(proxy, expected):
    proxy.faults = [faults.status(302, Location=f"/v1/structures?page_limit={PAGE}")]
    assert complete(settings(proxy.url, page_limit=PAGE)).keys() == expected.keys()


@pytest.mark.parametrize("form", ["object", "relative", "without fields"])
def test_links_as_servers_write_them(proxy, expected, form):
    def fault(proxy, answer):
        link = json.loads(answer.body)["links"]["next"]
        if form == "object":
            link = {"href": link, "meta": {}}
        elif form == "relative":
            link = link.partition("/v1/")[2]
        else:
            path, _, query = link.partition("?")
            link = path + "?" + "&".join(part for part in query.split("&") if not part.startswith("response_fields"))
        return faults.changed(links={"next": link})(proxy, answer)

    proxy.faults = [fault]
    assert complete(settings(proxy.url, page_limit=PAGE)).keys() == expected.keys()
    assert "response_fields=" in proxy.asked[1] and "page_offset=20" in proxy.asked[1]


def test_a_server_that_counts_nothing(proxy, expected):
    proxy.faults = [faults.changed(meta={"more_data_available": True})] * 2
    pages = list(optimade.pages(settings(proxy.url, page_limit=PAGE), None))
    assert [page.total for page in pages] == [None, None, *[N_SALTS] * 4]


def test_a_page_beyond_all_measure(proxy, monkeypatch):
    monkeypatch.setattr(session, "MAX_ANSWER_BYTES", 10_000)
    with pytest.raises(ValueError, match="more than 10000 bytes; ask for smaller pages"):
        complete(settings(proxy.url, page_limit=100))
    assert len(proxy.asked) == 1


def test_only_what_is_needed_is_asked_for(proxy):
    next(optimade.pages(settings(proxy.url), None))
    fields = proxy.asked[0].partition("response_fields=")[2].partition("&")[0].replace("%2C", ",").split(",")
    assert set(fields) == {*optimade._STRUCTURE, *(spec["column"] for spec in COLUMNS.values())}


# ------------------------------------------------------------------------------------------------------ user's mistakes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"filter": "elements HAS"}, "filter 'elements HAS' is no OPTIMADE filter"),
        ({"filter": 'colour = "red"'}, "HTTP 400.*colour"),
        ({"url": "optimade.example.org"}, "url 'optimade.example.org' is no web address"),
        ({"columns": {"band_gap_ev": {"column": "_exmpl_gap", "unit": "eV"}}}, "_exmpl_gap"),
        (
            {"columns": {"band_gap_ev": {"column": "_oqmd_band_gap", "unit": "eV"}}},
            r"has no property \['_oqmd_band_gap'\]",
        ),
        ({"columns": {"band_gap_ev": {"column": "_exmpl_band_gap", "unit": "Ry"}}}, "'Ry' is unknown"),
        ({"page_limit": 5000}, "HTTP 403.*1000"),
    ],
)
def test_mistakes_of_the_user_are_one_line(proxy, changes, says):
    with pytest.raises(ValueError, match=says) as error:
        complete({**settings(proxy.url), **changes})
    assert "\n" not in str(error.value)
    assert len(proxy.asked) <= 2  # nothing of this passes by itself


@pytest.mark.parametrize("url", ["https://me:secret@example.org/optimade", "https://example.org/optimade?key=secret"])
def test_a_key_in_the_url_is_refused_and_not_shown(url):
    with pytest.raises(ValueError, match="holds a user name or a query") as error:
        next(optimade.pages(settings(url), None))
    assert "secret" not in str(error.value)


def test_the_version_may_stand_in_the_url(proxy):
    for url in (f"{proxy.url}/", f"{proxy.url}/v1", f"{proxy.url}/v1/structures/"):
        next(optimade.pages(settings(url), None))
    assert all(asked.startswith("/v1/structures?") for asked in proxy.asked)


# ---------------------------------------------------------------------------------------------------------- about, fill


def test_about_says_what_the_server_says(proxy):
    assert optimade.about(settings(proxy.url)) == {
        "provider": "Example provider",
        "version": "OPTIMADE 1.2.0 OPTIMADE Python Tools 1.5.0",
        "licence": None,
        "citation": None,
    }
    answer = json.loads(proxy.before.body)
    answer["data"]["attributes"] |= {
        "license": {"href": "https://example.org/terms"},
        "available_licenses": ["CC-BY-4.0"],
    }
    proxy.faults = [faults.reset, faults.changed(**answer)]
    assert optimade.about(settings(proxy.url))["licence"] == "CC-BY-4.0"
    del answer["data"]["attributes"]["available_licenses"]
    proxy.faults = [faults.changed(**answer)]
    assert optimade.about(settings(proxy.url))["licence"] == "https://example.org/terms"
    del answer["data"]["attributes"]["license"]
    answer["meta"]["provider"] = {"name": "COD", "prefix": "cod"}
    proxy.faults = [faults.changed(**answer)]
    assert optimade.about(settings(proxy.url))["licence"] == "CC0 1.0"


# Caesium chloride, a = 4 angstrom, Cs at the origin.
CSCL = {
    "id": "x-1",
    "type": "structures",
    "attributes": {
        "chemical_formula_reduced": "ClCs",
        "nperiodic_dimensions": 3,
        "structure_features": [],
        "lattice_vectors": [[4.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 4.0]],
        "cartesian_site_positions": [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]],
        "species_at_sites": ["Cs", "anion"],
        "species": [
            {"name": "Cs", "chemical_symbols": ["Cs"], "concentration": [1.0]},
            {"name": "anion", "chemical_symbols": ["Cl"], "concentration": [1.0]},
        ],
        "_x_stability": {"gga+u": {"formation_energy": -2160.0, "hull": 0.0}},
    },
}
SOURCE = {
    "columns": {
        "formation_energy_ev_per_atom": {"column": "_x_stability.gga+u.formation_energy", "unit": "meV/atom"},
        "energy_above_hull_ev_per_atom": {"column": "_x_stability.r2scan.hull", "unit": "eV/atom"},
    }
}


def cscl(**attributes) -> dict:
    record = copy.deepcopy(CSCL)
    record["attributes"].update(attributes)
    return record


def anion(**changes) -> dict:
    record = cscl()
    record["attributes"]["species"][1].update(changes)
    return record


def test_a_crystal():
    row = filled(CSCL, SOURCE)
    assert (row.id, row.reason, row.amounts) == ("x-1", None, {55: 1, 17: 1})
    assert row.cell.elements.tolist() == [55, 17]
    assert row.cell.fractional.tolist() == [[0, 0, 0], [0.5, 0.5, 0.5]]
    assert row.targets == {"formation_energy_ev_per_atom": pytest.approx(-2.16)}


def test_an_id_may_be_a_number():
    assert filled({**CSCL, "id": 4061139}, SOURCE).id == "4061139"


def test_a_skewed_cell_keeps_its_fractional_coordinates():
    lattice = np.array([[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [3.1, 2.7, 0.4]])
    row = filled(
        cscl(
            lattice_vectors=lattice.tolist(),
            cartesian_site_positions=([[0, 0, 0], [0.3, 0.55, -0.2]] @ lattice).tolist(),
        ),
        SOURCE,
    )
    assert np.abs(row.cell.fractional - [[0, 0, 0], [0.3, 0.55, -0.2]]).max() < 1e-12


@pytest.mark.parametrize("absent", ["lattice_vectors", "cartesian_site_positions", "species_at_sites"])
def test_without_positions_a_formula_remains(absent):
    row = filled(cscl(**{absent: None}), SOURCE)
    assert (row.reason, row.cell, row.amounts) == (None, None, {17: 1, 55: 1})
    assert row.targets == {"formation_energy_ev_per_atom": pytest.approx(-2.16)}


@pytest.mark.parametrize(
    "record",
    [
        anion(chemical_symbols=["Cl", "Br"], concentration=[1.0, 0.0]),
        anion(chemical_symbols=["Cl", "Cl"], concentration=[0.5, 0.5]),
        anion(mass=[36.97]),
        cscl(species=None, species_at_sites=["Cs", "Cl"]),
        cscl(structure_features=None, nperiodic_dimensions=None, chemical_formula_reduced=None),
    ],
    ids=["share of nothing", "one element twice", "isotope", "names are symbols", "less said"],
)
def test_what_is_a_crystal_all_the_same(record):
    row = filled(record, SOURCE)
    assert (row.reason, row.amounts) == (None, {55: 1, 17: 1})


def test_deuterium_is_hydrogen():
    row = filled(cscl(species=None, species_at_sites=["Li", "D"], chemical_formula_reduced="DLi"), SOURCE)
    assert (row.reason, row.amounts) == (None, {1: 1, 3: 1})


def test_a_vacant_site_is_left_out():
    record = cscl(species_at_sites=["Cs", "anion", "hole"], cartesian_site_positions=[[0, 0, 0], [2, 2, 2], [2, 2, 0]])
    record["attributes"]["species"].append({"name": "hole", "chemical_symbols": ["vacancy"], "concentration": [1.0]})
    row = filled(record, SOURCE)
    assert row.reason is None
    assert row.cell.elements.tolist() == [55, 17] and row.cell.fractional.tolist() == [[0, 0, 0], [0.5, 0.5, 0.5]]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (
            anion(chemical_symbols=["Cl", "Br"], concentration=[0.5, 0.5]),
            "species 'anion': sites are partly or mixedly",
        ),
        (anion(chemical_symbols=["Cl", "vacancy"], concentration=[0.9, 0.1]), "sites are partly or mixedly occupied"),
        (anion(concentration=[0.9]), "sites are partly or mixedly occupied"),
        (anion(attached=["H"], nattached=[3]), "atoms hang on sites"),
        (anion(chemical_symbols=["X"]), "'X' is no element"),
        (anion(chemical_symbols=["Cl", "Br"]), "no cell: zip()"),
        (anion(chemical_symbols=[], concentration=[]), "no cell: max()"),
        (anion(name="another"), "no cell: KeyError 'anion'"),
        (cscl(structure_features=["disorder"]), "sites are partly or mixedly occupied (disorder)"),
        (cscl(structure_features=["implicit_atoms"]), "some atoms have no site (implicit_atoms)"),
        (cscl(structure_features=["assemblies"]), "some sites exclude others (assemblies)"),
        (cscl(nperiodic_dimensions=2), "periodic in 2 directions, a crystal is in 3"),
        (cscl(lattice_vectors=[[4.0, 0, 0], [8.0, 0, 0], [0, 0, 4]]), "Singular"),
        (cscl(lattice_vectors=[[4.0, 0, 0], [0, 4.0, 0]]), "cannot reshape"),
        (cscl(cartesian_site_positions=[[0, 0, 0]]), "cannot reshape"),
        (cscl(cartesian_site_positions="here"), "could not convert"),
        (cscl(species_at_sites=["Cs"] * 2001), "no cell: 2001 sites, up to 2000 can be read"),
        (cscl(chemical_formula_reduced="Cl2Cs"), "the sites do not make up the formula 'Cl2Cs'"),
        (cscl(lattice_vectors=None, chemical_formula_reduced=None), "formula ''"),
        (cscl(lattice_vectors=None, chemical_formula_reduced="Cl2X"), "'X' is no element"),
        (cscl(_x_stability={"gga+u": {"formation_energy": "low"}}), "'low' is no number"),
        (cscl(_x_stability={"gga+u": {"formation_energy": float("inf")}}), "is not finite"),
        ({"id": "x-1", "type": "structures"}, "formula ''"),
        ({"id": "", "attributes": {}}, "'id' is empty"),
        (cscl(structure_features=7), "no cell: TypeError"),
        (cscl(species_at_sites=[["Cs"], "anion"]), "no cell: TypeError"),
    ],
)
def test_what_is_refused_and_why(record, reason):
    row = filled(record, SOURCE)
    assert reason in row.reason
    assert row.cell is None and row.amounts is None
