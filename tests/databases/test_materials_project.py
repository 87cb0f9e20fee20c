"""The Materials Project's own client against a server that answers as its API does: the real one wants a key."""

import json
import threading
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from pipeline.database.records import Row
from pipeline.database.remote import materials_project

pytest.importorskip("mp_api", reason="mp-api is not installed")
SECRET = "0123456789abcdefghijklmnopqrstuv"
SALTS = [("Na", "Cl", 5.6), ("K", "Br", 6.6), ("Mg", "O", 4.2), ("Li", "F", 4.0), ("Ca", "S", 5.7)]


@cache
def document(i: int) -> dict:
    a, b, length = SALTS[i % len(SALTS)]
    crystal = Structure.from_spacegroup("Fm-3m", Lattice.cubic(length + i / 100), [a, b], [[0, 0, 0], [0.5] * 3])
    return {
        "material_id": f"mp-{i + 1}",
        "formula_pretty": a + b,
        "structure": crystal.as_dict(),
        "formation_energy_per_atom": -i / 10,
        "energy_above_hull": 0.0,
        "band_gap": None if i == 3 else 5.0 + i,
    }


class Api(ThreadingHTTPServer):
    """Serves documents; ``faults`` are answers to give first, ``asked`` are the queries that came."""

    def __init__(self, documents: list[dict]) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.documents, self.faults, self.asked, self.lost = documents, [], [], set()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlparse(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path.strip("/") == "heartbeat":
            return self.say(200, {"db_version": "2026.1", "version": "0.90.0", "access_controlled_batch_ids": []})
        if self.headers["x-api-key"] != SECRET:
            return self.say(403, {"detail": f"wrong api key {self.headers['x-api-key']}"})
        self.server.asked.append(query)
        if self.server.faults:
            fault = self.server.faults.pop(0)
            if fault == "reset":
                return self.connection.close()
            if fault == "cut":
                self.send_response(200)
                self.send_header("Content-Length", "9999")
                self.end_headers()
                return self.wfile.write(b'{"data": [')
            return self.say(fault, {"detail": "later"})
        chosen = self.server.documents
        if "material_ids" in query:
            chosen = [one for one in chosen if one["material_id"] in query["material_ids"].split(",")]
            chosen = [one for one in chosen if one["material_id"] not in self.server.lost]
        skip, limit = int(query.get("_skip", 0)), int(query.get("_limit", 100))
        fields = query["_fields"].split(",")
        part = [{name: one[name] for name in fields} for one in chosen[skip : skip + limit]]
        return self.say(200, {"data": part, "meta": {"total_doc": len(chosen)}})

    def say(self, status: int, value: dict):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setenv("MP_API_KEY", SECRET)
    monkeypatch.setattr(materials_project, "PAGE", 4)
    monkeypatch.setattr(materials_project, "WAIT_SECONDS", 0.01)
    server = Api([document(i) for i in range(10)])
    yield server
    server.shutdown()
    server.server_close()


def settings(api) -> dict:
    return {"name": "mp", "kind": "materials_project", "url": api.url}


def test_all_documents_come_as_rows(api):
    pages = list(materials_project.pages(settings(api), None))
    assert [page.total for page in pages] == [10] * 3 and sum(len(page.records) for page in pages) == 10
    rows = []
    for record in json.loads(json.dumps([record for page in pages for record in page.records])):
        row = Row("snapshot", 1)
        materials_project.fill(row, record, settings(api))
        assert row.reason is None
        rows.append(row)
    assert {row.id for row in rows} == {f"mp-{i}" for i in range(1, 11)}
    fourth = next(row for row in rows if row.id == "mp-4")
    assert fourth.amounts == {3: 1, 9: 1} and fourth.targets == pytest.approx(
        {"formation_energy_ev_per_atom": -0.3, "energy_above_hull_ev_per_atom": 0.0}
    )
    np.testing.assert_allclose(fourth.cell.lattice, np.eye(3) * 4.03, atol=1e-12)
    assert sorted(fourth.cell.elements.tolist()) == [3] * 4 + [9] * 4
    asked = {field for query in api.asked for field in query["_fields"].split(",")}
    assert asked == set(document(0)), "only what is read is asked for"


def test_it_goes_on_after_the_ids_that_it_has(api):
    first = next(materials_project.pages(settings(api), None))
    api.asked.clear()
    rest = [record["id"] for page in materials_project.pages(settings(api), first.cursor) for record in page.records]
    assert sorted(rest + [record["id"] for record in first.records]) == sorted(f"mp-{i}" for i in range(1, 11))
    again = {name for query in api.asked for name in query.get("material_ids", "").split(",")}
    assert not again & {record["id"] for record in first.records}


@pytest.mark.parametrize("faults", [[500], [429, 429], ["reset"], ["cut"], [503, "reset", "cut", 502]])
def test_what_passes_is_asked_again(api, faults):
    api.faults = list(faults)
    records = [record for page in materials_project.pages(settings(api), None) for record in page.records]
    assert len({record["id"] for record in records}) == 10 and not api.faults


def test_documents_that_do_not_come_are_an_error(api):
    api.lost = {"mp-7"}
    with pytest.raises(ValueError, match=r"sent \d of 4 documents asked for by id, without mp-7"):
        list(materials_project.pages(settings(api), None))


@pytest.mark.parametrize("criteria", [{"elemnts": ["Li"]}, {"fields": ["band_gap"]}, {"magnetic_ordering": "FM"}])
def test_criteria_that_mp_api_does_not_know(api, criteria):
    with pytest.raises(ValueError, match=f"'mp': .*criteria .*{next(iter(criteria))}"):
        list(materials_project.pages(settings(api) | {"criteria": criteria}, None))
    assert not api.asked


def test_a_server_that_stays_away(api):
    api.faults = [500] * 100
    with pytest.raises(ValueError, match="did not answer in 6 tries"):
        list(materials_project.pages(settings(api), None))


def test_the_key_is_asked_for_and_never_shown(api, monkeypatch):
    wrong = SECRET[::-1]
    monkeypatch.setenv("MP_API_KEY", wrong)
    with pytest.raises(ValueError, match="refuses MP_API_KEY") as refused:
        list(materials_project.pages(settings(api), None))
    assert wrong not in str(refused.value)
    monkeypatch.delenv("MP_API_KEY")
    with pytest.raises(ValueError, match="MP_API_KEY is not set"):
        list(materials_project.pages(settings(api), None))


def test_licence_and_version(api):
    said = materials_project.about(settings(api))
    assert said["version"] == "2026.1" and "CC BY 4.0" in said["licence"]
