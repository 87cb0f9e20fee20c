"""matminer's own reader, and a file in the form of its data sets behind a real HTTP server."""

import gzip
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from matminer.datasets import dataset_retrieval
from pymatgen.core import Lattice, Structure

from pipeline.database.fetching import fetch
from pipeline.database.remote import matminer
from pipeline.database.sources import read_source
from pipeline.tables import read_json

COLUMNS = {"formula": "formula", "structure": "structure", "band_gap_ev": {"column": "gap", "unit": "eV"}}


def data_set() -> bytes:
    """Twelve perovskites as matminer packs them; one is disordered, one has no gap."""
    rows = []
    for i, metal in enumerate("Ca Sr Ba Pb Cd Mg Zn Fe Co Ni Mn Cu".split()):
        first = {metal: 0.5, "K": 0.5} if i == 5 else metal
        positions = [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
        crystal = Structure(Lattice.cubic(3.9 + i / 100), [first, "Ti", "O", "O", "O"], positions)
        rows.append([f"{metal}TiO3", crystal.as_dict(), None if i == 3 else i / 2, "not asked for"])
    frame = {"columns": ["formula", "structure", "gap", "note"], "index": list(range(len(rows))), "data": rows}
    return gzip.compress(json.dumps(frame).encode(), mtime=0)


class Files(BaseHTTPRequestHandler):
    def do_GET(self):
        body, fault = self.server.body, self.server.faults.pop(0) if self.server.faults else None
        self.server.asked += 1
        if isinstance(fault, int):
            return self.send_error(fault)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        damaged = {"cut": body[: len(body) // 2], "other": body[:-1] + b"!"}
        self.wfile.write(damaged.get(fault, body))

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Files)
    server.body, server.faults, server.asked = data_set(), [], 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    about = {
        "url": f"http://127.0.0.1:{server.server_port}/perovskites.json.gz",
        "hash": hashlib.sha256(server.body).hexdigest(),
        "file_type": "json.gz",
        "reference": "Somebody et al.\n 2026",
        "columns": {},
        "num_entries": 12,
    }
    monkeypatch.setattr(dataset_retrieval, "_dataset_dict", {"perovskites": about})
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path / "home"))
    monkeypatch.setattr(matminer, "WAIT_SECONDS", 0.01)
    monkeypatch.setattr(matminer, "PAGE", 5)
    yield server
    server.shutdown()
    server.server_close()


def fetched(folder, **changes):
    source = {"name": "p", "kind": "matminer", "dataset": "perovskites", "columns": COLUMNS, **changes}
    snapshot, about = folder / "snapshot.jsonl.gz", folder / "snapshot.json"
    fetch(source=source, partial_path=str(folder / "partial"), snapshot_path=str(snapshot), about_path=str(about))
    return list(read_source(source, snapshot)), read_json(about)


def test_rows_of_the_data_set(server, tmp_path):
    rows, about = fetched(tmp_path)
    assert [row.id for row in rows] == [str(i) for i in range(12)]
    assert rows[0].amounts == {20: 1, 22: 1, 8: 3} and rows[0].cell.volume == pytest.approx(3.9**3)
    assert rows[4].targets["band_gap_ev"] == 2.0 and "band_gap_ev" not in rows[3].targets
    assert "partial occupancies" in rows[5].reason and sum(row.reason is not None for row in rows) == 1
    assert about["citation"] == "Somebody et al. 2026" and about["version"] and about["rows"] == 12
    with gzip.open(tmp_path / "snapshot.jsonl.gz", "rt") as lines:
        assert {name for line in lines for name in json.loads(line)} == {"id", "formula", "structure", "gap"}


@pytest.mark.parametrize("faults", [["cut"], [503, "other"], [500, 502, "cut", 504]])
def test_what_comes_damaged_is_fetched_again(server, tmp_path, faults):
    server.faults = list(faults)
    assert len(fetched(tmp_path)[0]) == 12 and server.asked == len(faults) + 1


def test_what_a_killed_download_left_is_fetched_again(server, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "perovskites.json.gz").write_bytes(server.body[:100])
    assert len(fetched(tmp_path)[0]) == 12


def test_a_file_that_is_there_is_not_fetched(server, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "perovskites.json.gz").write_bytes(server.body)
    assert len(fetched(tmp_path)[0]) == 12 and server.asked == 0


def test_a_server_that_stays_away(server, tmp_path):
    server.faults = [503] * 9
    with pytest.raises(ValueError, match=r"could not be fetched in 5 tries: 503 Server Error"):
        fetched(tmp_path)
    assert not (tmp_path / "snapshot.jsonl.gz").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset": "perovskite"}, "matminer has no data set 'perovskite'; one of perovskites"),
        ({"columns": {"formula": "f"}}, r"'perovskites' has no column \['f'\], but \['formula', 'structure'"),
    ],
)
def test_mistakes_are_one_line(server, tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        fetched(tmp_path, **changes)
