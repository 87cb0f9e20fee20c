"""OQMD's dump, read from a real MariaDB server with qmpy's tables."""

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from dataclasses import replace
from functools import reduce
from math import gcd

import numpy as np
import pytest

from pipeline.composition import ATOMIC_NUMBERS, SYMBOLS, parse_formula
from pipeline.database import fetching
from pipeline.database.crystals import lattice_from_parameters
from pipeline.database.records import Row
from pipeline.database.remote import oqmd_sql
from pipeline.database.sources import measure
from tests.databases.mariadb import mariadb
from tests.databases.qmpy import Crystal, create, insert, random_crystals

PASSWORD = "kim/b3r:l1te@"
N = 5000


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with mariadb(tmp_path_factory.mktemp("db")) as server:
        with server.admin() as connection, connection.cursor() as cursor:
            cursor.execute("CREATE USER reader@'127.0.0.1' IDENTIFIED BY %s", (PASSWORD,))
        yield server


@pytest.fixture(scope="module")
def crystals(server, tmp_path_factory):
    """What database ``qmdb`` holds; nobody changes it."""
    crystals = random_crystals(N, seed=1)
    fill_database(server, "qmdb", crystals, tmp_path_factory.mktemp("load"))
    return crystals


@pytest.fixture
def settings(server, crystals, monkeypatch):
    monkeypatch.setenv("OQMD_PASSWORD", PASSWORD)
    return for_database(server, "qmdb")


def for_database(server, database: str) -> dict:
    return {"name": "oqmd", "kind": "oqmd_sql", "url": f"mysql+pymysql://reader@127.0.0.1:{server.port}/{database}"}


def fill_database(server, name: str, crystals, folder) -> None:
    create(server, name)
    insert(server, name, crystals, folder)
    run(server, name, f"GRANT SELECT ON {name}.* TO reader@'127.0.0.1'")


def run(server, database: str, *statements: str) -> None:
    with server.admin(database) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def fetch(settings: dict, cursor=None) -> list[dict]:
    return [record for page in oqmd_sql.pages(settings, cursor) for record in page.records]


def filled(record: dict) -> Row:
    row = Row("oqmd.jsonl.gz", 1)
    oqmd_sql.fill(row, json.loads(json.dumps(record)), {})
    if row.reason is None and row.cell is not None:
        measure(row)
    return row


def assert_same(row: Row, crystal: Crystal) -> None:
    assert row.reason is None
    assert row.id == f"oqmd-{crystal.id}"
    numbers = [ATOMIC_NUMBERS[symbol] for symbol in crystal.symbols]
    assert row.amounts == Counter(numbers)
    assert row.cell.elements.tolist() == numbers
    np.testing.assert_array_equal(row.cell.lattice, crystal.lattice)  # to the last of 17 digits
    np.testing.assert_array_equal(row.cell.fractional, crystal.fractional)
    expected = {
        "formation_energy_ev_per_atom": crystal.delta_e,
        "energy_above_hull_ev_per_atom": None if crystal.stability is None else max(crystal.stability, 0.0),
        "band_gap_ev": crystal.band_gap,
    }
    volume = row.targets.pop("volume_a3_per_atom")
    assert row.targets == {name: value for name, value in expected.items() if value is not None}
    assert volume == pytest.approx(abs(np.linalg.det(crystal.lattice)) / len(numbers), rel=1e-12)


def test_all_is_as_inserted(settings, crystals):
    pages = list(oqmd_sql.pages(settings, None))
    records = [record for page in pages for record in page.records]
    assert {page.total for page in pages} == {N}
    assert [page.cursor for page in pages] == [crystals[1999].id, crystals[3999].id, crystals[-1].id]
    assert [record["id"] for record in records] == [crystal.id for crystal in crystals]
    for record, crystal in zip(records, crystals, strict=True):
        assert record["composition_id"] == crystal.composition
        assert record["label"] == "static"  # not the higher energy of the relaxation, nor that of another fit
        assert_same(filled(record), crystal)


def test_a_cursor_gives_the_rest(settings, crystals):
    settings["page_limit"] = 700
    whole = list(oqmd_sql.pages(settings, None))
    assert [len(page.records) for page in whole] == [700] * 7 + [100]
    assert list(oqmd_sql.pages(settings, json.loads(json.dumps(whole[2].cursor)))) == whole[3:]
    assert list(oqmd_sql.pages(settings, whole[-1].cursor)) == []


def test_about(settings, crystals):
    said = oqmd_sql.about(settings)
    assert said["licence"] == "CC BY 4.0" and said["version"] is None
    assert "10.1007/s11837-013-0755-4" in said["citation"] and "10.1038/npjcompumats.2015.10" in said["citation"]
    assert said["table_rows"] == {"entries": N, "formation_energies": N * 2 + N // 5}
    assert "MariaDB" in said["server"] and said["database"] == "qmdb"


def test_a_socket_will_do(server, settings, crystals):
    run(
        server,
        "qmdb",
        f"CREATE USER reader@localhost IDENTIFIED BY '{PASSWORD}'",
        "GRANT SELECT ON qmdb.* TO reader@localhost",
    )
    by_socket = {"name": "oqmd", "url": f"mysql+pymysql://reader@/qmdb?unix_socket={server.socket}"}
    assert next(oqmd_sql.pages(by_socket, None)) == next(oqmd_sql.pages(settings, None))


# As docs/databases.md has it: the tables that are read, of all that a dump holds.
TABLES_READ = r"""
/^-- Table structure for table/ { seen = 1; keep = /`(entries|formation_energies|calculations|structures|atoms)`/ }
!seen || keep"""


def test_the_dump_of_the_tables_that_are_read_is_enough(server, settings, crystals, tmp_path):
    """A dump as OQMD makes it, loaded by the documented commands."""
    run(server, "qmdb", "CREATE DATABASE part", "GRANT SELECT ON part.* TO reader@'127.0.0.1'")
    access = ["--no-defaults", f"--socket={server.socket}", "--user=root"]
    with (tmp_path / "dump.sql").open("wb") as dump:
        subprocess.run(["mariadb-dump", *access, "qmdb"], stdout=dump, check=True)
    part = subprocess.run(["awk", TABLES_READ, tmp_path / "dump.sql"], capture_output=True, check=True).stdout
    subprocess.run(["mariadb", *access, "part"], input=part, check=True)
    with server.admin("part") as connection, connection.cursor() as cursor:
        cursor.execute("SHOW TABLES")
        assert {name for (name,) in cursor.fetchall()} == set(oqmd_sql._COLUMNS)
    assert fetch(for_database(server, "part")) == fetch(settings)


def test_what_is_left_out_and_what_is_refused(server, settings, tmp_path):
    """Each entry in its own state; the reasons name it."""
    made = [replace(crystal, id=place + 1) for place, crystal in enumerate(random_crystals(12, seed=2))]
    made[1] = replace(made[1], duplicate_of=1)
    made[3] = replace(made[3], occupancy=0.5)
    made[4] = replace(made[4], converged=0)
    made[9] = replace(made[9], lattice=made[9].lattice * 0.1)
    fill_database(
        server, "odd", [replace(crystal, duplicate_of=crystal.duplicate_of or crystal.id) for crystal in made], tmp_path
    )
    run(
        server,
        "odd",
        "SET foreign_key_checks = 0",
        "DELETE FROM formation_energies WHERE entry_id = 3 AND fit_id = 'standard'",
        "UPDATE calculations SET output_id = NULL WHERE entry_id = 6",
        "DELETE FROM atoms WHERE structure_id = 15 LIMIT 1",
        "UPDATE atoms SET element_id = 'Xx' WHERE structure_id = 17 LIMIT 1",
        "UPDATE atoms SET element_id = NULL WHERE structure_id = 19 LIMIT 1",
        "UPDATE formation_energies SET delta_e = NULL WHERE entry_id = 11",
        "UPDATE entries SET duplicate_of_id = NULL WHERE id = 12",  # as older versions of qmpy leave it
    )
    page, *none = oqmd_sql.pages(for_database(server, "odd"), None)
    rows = {record["id"]: filled(record) for record in page.records}
    assert none == [] and page.total == len(rows) and page.cursor == 12
    assert sorted(rows) == [1, 4, 5, 6, 7, 8, 9, 10, 12]
    assert_same(rows[1], made[0])
    assert_same(rows[12], made[11])
    assert rows[4].reason == "partial occupancies: 0.5 at the least"
    assert rows[5].reason == "calculation 11 (static) did not converge"
    assert rows[6].reason is None and rows[6].cell is None
    assert rows[6].amounts == parse_formula(made[5].composition)
    assert rows[6].targets["formation_energy_ev_per_atom"] == made[5].delta_e
    n = len(made[6].symbols)
    assert rows[7].reason == f"structure 15 has {n - 1} atoms of {n}"
    assert rows[8].reason == "['Xx'] are no elements"
    assert rows[9].reason == "structure 19 has an atom of no element"
    assert rows[10].reason.startswith(("cell volume", "atoms overlap"))


def test_deuterium_is_hydrogen():
    record = fetch_like(random_crystals(1, seed=3)[0])
    record["atoms"] = "D" + record["atoms"][record["atoms"].index(" ") :]
    assert filled(record).cell.elements[0] == 1


def fetch_like(crystal: Crystal) -> dict:
    """A record as the server would give it."""
    atoms = [f"{el} {x} {y} {z} 1" for el, (x, y, z) in zip(crystal.symbols, crystal.fractional, strict=True)]
    return {
        "id": crystal.id,
        "composition_id": crystal.composition,
        "energy_id": 1,
        "delta_e": crystal.delta_e,
        "stability": crystal.stability,
        "calculation_id": 1,
        "label": "static",
        "converged": 1,
        "band_gap": 0.0,
        "structure_id": 1,
        "natoms": len(atoms),
        "lattice": crystal.lattice.ravel().tolist(),
        "atoms": ";".join(atoms),
    }


def test_a_damaged_record_has_a_reason():
    record = fetch_like(random_crystals(1, seed=4)[0])
    assert filled(record).reason is None
    harmless = {"energy_id", "label", "composition_id"}  # not needed where there is a structure
    for key in record.keys() - harmless:
        for value in ("x\n\x1b[31m", "H 0 0 0 1e999", [], {}, [[1]], [None] * 9, 1e999, -(10**400)):
            row = filled({**record, key: value})
            assert row.reason is None or row.reason.isprintable()
            if key in {"lattice", "atoms", "natoms"}:
                assert row.reason, (key, value)
        without = {other: record[other] for other in record if other != key}
        assert filled(without).reason, key


def test_a_killed_server_is_waited_for(server, settings, crystals, capsys):
    """kill -9 of the server between and within questions, three times; nothing is lost and nothing comes twice."""
    settings["page_limit"] = 100
    whole = fetch(settings)
    assert len(whole) == N

    def power_cut() -> None:
        server.kill()
        time.sleep(1.5)
        server.start()

    records, cut = [], None
    for number, page in enumerate(oqmd_sql.pages(settings, None)):
        records += page.records
        if number in (5, 20, 35):
            if cut:
                cut.join()
            cut = threading.Thread(target=power_cut)
            cut.start()
    cut.join()
    assert records == whole
    assert capsys.readouterr().err.count("again in 1 s") >= 3


def test_killed_connections_and_locks_are_waited_for(server, settings, crystals, capsys):
    settings["page_limit"] = 250
    whole = fetch(settings)
    run(server, "qmdb", "SET GLOBAL lock_wait_timeout = 1")
    records = []
    try:
        for number, page in enumerate(oqmd_sql.pages(settings, None)):
            records += page.records
            if number == 3:
                holder = server.admin("qmdb")
                with holder.cursor() as cursor:
                    cursor.execute("LOCK TABLES atoms WRITE")
                threading.Timer(2.5, holder.close).start()
            if number == 8:
                stop = threading.Event()
                killer = threading.Thread(target=kill_connections, args=(server, stop))
                killer.start()
                threading.Timer(1.5, stop.set).start()
        killer.join()
    finally:
        run(server, "qmdb", "SET GLOBAL lock_wait_timeout = 86400")
    assert records == whole
    said = capsys.readouterr().err
    assert "Lock wait timeout exceeded" in said
    assert "Lost connection" in said or "Connection was killed" in said or "gone away" in said


def kill_connections(server, stop: threading.Event) -> None:
    with server.admin() as connection, connection.cursor() as cursor:
        while not stop.is_set():
            cursor.execute("KILL USER reader")
            time.sleep(0.005)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9])
def test_what_is_no_server_is_an_error(answer, monkeypatch):
    monkeypatch.setattr(oqmd_sql, "FIRST_WAITS_SECONDS", (0.01,))
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            for _ in range(2):
                with closing(listening.accept()[0]) as connection:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"mysql+pymysql://reader@127.0.0.1:{listening.getsockname()[1]}/qmdb"
        with pytest.raises(ValueError, match=f"oqmd: .*127.0.0.1:{listening.getsockname()[1]}/qmdb: ") as error:
            fetch({"name": "oqmd", "url": url, "timeout_s": 2})
        thread.join()
    assert "\n" not in str(error.value)


def bad_sources(server) -> dict[str, str]:
    """{url: what the error must say}."""
    host = f"127.0.0.1:{server.port}"
    return {
        f"mysql+pymysql://reader@{host}/nowhere": r"/nowhere: Access denied .*; let the user read it: GRANT SELECT",
        f"mysql+pymysql://reader@{host}/half": r"/half: no table 'formation_energies' that this user may read",
        f"mysql+pymysql://reader@{host}/other": r"/other: table 'atoms' has no column \['occupancy'\]",
        f"mysql+pymysql://reader@{host}/bare": r"/bare: no entry has a formation energy of the fit 'standard'",
        f"mysql+pymysql://nobody@{host}/qmdb": r"Access denied for user 'nobody'.*environment variable OQMD_PASSWORD",
        "mysql+pymysql://reader@127.0.0.1:1/qmdb": r"Connection refused.*check host and port, and that the server runs",
        "mysql+pymysql://reader@no-such-host.invalid/qmdb": r"Can't connect .*; check host and port",
        f"mysql+pymysql://reader:secret@{host}/qmdb": "holds a password, .*; set OQMD_PASSWORD instead",
        f"mysql+pymysql://reader@{host}": r"no address of a MariaDB or MySQL database; write mysql\+pymysql://USER",
        f"postgresql://reader@{host}/qmdb": "no address of a MariaDB or MySQL database",
        "/var/lib/mysql": "no address of a MariaDB or MySQL database",
        "$OQMD_NOT_SET": "'\\$OQMD_NOT_SET': this environment variable is not set",
    }


def test_no_password_anywhere(server, settings, crystals, tmp_path, monkeypatch, capsys):
    """Not in a message, a record, or what is said of the source; nor one that the driver was not yet given."""
    monkeypatch.setattr(oqmd_sql, "FIRST_WAITS_SECONDS", (0.01,))
    for name in ("half", "other", "bare"):
        create(server, name)
        run(server, name, f"GRANT SELECT ON {name}.* TO reader@'127.0.0.1'")
    run(server, "half", "DROP TABLE formation_energies, calculations")
    run(server, "other", "ALTER TABLE atoms DROP COLUMN occupancy")
    seen = []
    for url, message in bad_sources(server).items():
        for ask in (oqmd_sql.about, fetch):
            if "/bare" in url and ask is oqmd_sql.about:
                continue
            with pytest.raises(ValueError, match=f"^database.sources: oqmd: .*{message}") as error:
                ask({"name": "oqmd", "url": url})
            seen.append(str(error.value))
    assert all("\n" not in line for line in seen)
    quoted = "kim%2Fb3r%3Al1te%40"
    for wrong in ("", "x"):  # the right one and a wrong one, in the URL
        monkeypatch.setenv("OQMD_URL", f"mysql://reader:{quoted}{wrong}@127.0.0.1:{server.port}/qmdb")
        monkeypatch.delenv("OQMD_PASSWORD", raising=False)
        inside = {"name": "oqmd", "kind": "oqmd_sql", "url": "$OQMD_URL"}
        if wrong:
            with pytest.raises(ValueError, match="Access denied") as error:
                fetch(inside)
            seen.append(str(error.value))
        else:
            snapshot, about = tmp_path / "snapshot.jsonl.gz", tmp_path / "snapshot.json"
            fetching.fetch(source=inside, partial_path=tmp_path / "partial", snapshot_path=snapshot, about_path=about)
            seen += [gzip.decompress(snapshot.read_bytes()).decode(), about.read_text()]
    for unescaped in (PASSWORD, f"p@{PASSWORD}", f"p@/{PASSWORD}", f"p:@{PASSWORD}"):
        monkeypatch.setenv("OQMD_URL", f"mysql://reader:{unescaped}127.0.0.1:{server.port}/qmdb")
        with pytest.raises(ValueError, match=r"Access denied|'@', ':' and '/' in a name or password as %40") as error:
            fetch(inside)
        seen.append(str(error.value))
    seen += capsys.readouterr()
    for text in seen:
        assert PASSWORD not in text and quoted not in text and "b3r" not in text and "l1te" not in text


def test_data_never_become_sql(server, settings, tmp_path):
    evil = "'; DROP TABLE entries; -- %s :after \\"
    fill_database(server, "evil", random_crystals(3, seed=5), tmp_path)
    with server.admin("evil") as connection, connection.cursor() as cursor:
        cursor.execute("SET foreign_key_checks = 0")
        cursor.execute("UPDATE entries SET composition_id = %s", (evil,))
        cursor.execute("UPDATE calculations SET label = %s, output_id = NULL", (evil,))
    records = fetch(for_database(server, "evil"))
    assert [(record["composition_id"], record["label"]) for record in records] == [(evil, evil)] * 3
    assert all("no" in filled(record).reason or "cannot be read" in filled(record).reason for record in records)
    assert fetch(for_database(server, "evil")) == records


BENCHMARK = """
import gzip, json, resource, sys, time
from pipeline.database.remote import oqmd_sql
from pipeline.database.sources import read_source
settings, path = json.loads(sys.argv[1]), sys.argv[2]
begin = time.perf_counter()
n = 0
with gzip.open(path, "wt", compresslevel=1) as lines:
    for page in oqmd_sql.pages(settings, None):
        lines.writelines(json.dumps(record, separators=(",", ":")) + "\\n" for record in page.records)
        n += len(page.records)
fetched = time.perf_counter()
read = reasons = sites = 0
for row in read_source(settings, path):
    read, reasons = read + 1, reasons + (row.reason is not None)
    sites += len(row.cell.elements) if row.cell else 0
end = time.perf_counter()
print(json.dumps({
    "records": n, "total": page.total, "read": read, "reasons": reasons, "sites": sites,
    "fetch_s": round(fetched - begin, 1), "read_s": round(end - fetched, 1), "cpu_s": round(time.process_time(), 1),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}))
"""


def real_crystals(data):
    """The Materials Project's structures, and OQMD's formulas each on the smallest of them with as many atoms of one,
    two, ... elements."""
    smallest: dict[tuple, tuple] = {}
    number = 0
    with gzip.open(data / "mp" / "mp_structures.jsonl.gz", "rt") as lines:
        for number, line in enumerate(lines, start=1):
            record = json.loads(line)
            lattice, fractional = lattice_from_parameters(*record["cell"]), np.array(record["frac"], dtype=float)
            yield Crystal(number, lattice, record["el"], fractional, -0.5, 0.1, 1.0)
            ranked = Counter(record["el"]).most_common()
            divisor = reduce(gcd, (count for _, count in ranked))
            key = tuple(count // divisor for _, count in ranked)
            if key not in smallest or len(fractional) < len(smallest[key][2]):
                smallest[key] = lattice, [symbol for symbol, _ in ranked], fractional, record["el"]
    with gzip.open(data / "oqmd" / "oqmd.csv.gz", "rt") as lines:
        next(lines)
        for line in lines:
            formula, energy, _, gap = line.rstrip("\n").split(",")
            ranked = sorted(parse_formula(formula).items(), key=lambda pair: -pair[1])
            found = smallest.get(tuple(count for _, count in ranked))
            if found and energy:
                lattice, was, fractional, symbols = found
                becomes = dict(zip(was, (SYMBOLS[z - 1] for z, _ in ranked), strict=True))
                number += 1
                symbols = [becomes[symbol] for symbol in symbols]
                yield Crystal(number, lattice, symbols, fractional, float(energy), 0.1, float(gap) if gap else None)


@pytest.mark.slow
def test_300_000_entries_within_5_minutes_and_2_gigabytes(server, data, tmp_path, monkeypatch, root, capsys):
    """Real structures and formulas at full scale; the figures go into the documentation."""
    begin = time.perf_counter()
    fill_database(server, "large", real_crystals(data), tmp_path)
    loaded = time.perf_counter() - begin
    monkeypatch.setenv("OQMD_PASSWORD", PASSWORD)
    done = subprocess.run(
        [sys.executable, "-c", BENCHMARK, json.dumps(for_database(server, "large")), str(tmp_path / "large.jsonl.gz")],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    megabytes = (tmp_path / "large.jsonl.gz").stat().st_size >> 20
    with capsys.disabled():
        print(f"\n{figures}, snapshot {megabytes} MB, loaded in {loaded:.0f} s, server {server.peak_megabytes} MB")
    assert figures["records"] == figures["total"] == figures["read"] >= 300_000
    assert figures["reasons"] < 0.001 * figures["records"]
    assert figures["fetch_s"] + figures["read_s"] < 300
    assert figures["peak_mb"] < 2048
