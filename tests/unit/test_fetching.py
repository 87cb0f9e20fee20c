"""A fetch keeps each page, goes on after a kill, and gives a whole snapshot or none."""

import gzip
import hashlib
import json
from types import SimpleNamespace

import pytest

from pipeline.database import fetching
from pipeline.database.fetching import fetch
from pipeline.database.remote import Page, holds_password
from pipeline.tables import read_json

SOURCE = {"name": "far", "kind": "optimade", "url": "http://far", "filter": "nelements=2"}
RECORDS = [{"id": str(i), "x": "Å" * i} for i in range(10)]


class Database:
    """Gives ``RECORDS`` in pages of three; ``fail_at`` a page raises, ``edit`` changes a page."""

    def __init__(self, monkeypatch):
        self.asked, self.fail_at, self.edit = [], None, lambda page: page
        module = SimpleNamespace(about=lambda settings: {"licence": "CC0", "citation": "me"}, pages=self.pages)
        monkeypatch.setattr(fetching, "module_of", lambda kind: module)

    def pages(self, settings, cursor):
        for begin in range(cursor or 0, len(RECORDS), 3):
            self.asked.append(begin)
            if begin == self.fail_at:
                raise ValueError("http://far does not answer")
            yield self.edit(Page(RECORDS[begin : begin + 3], begin + 3, len(RECORDS)))


@pytest.fixture
def database(monkeypatch):
    return Database(monkeypatch)


@pytest.fixture
def run(tmp_path):
    def run(**changes):
        fetch(
            source=SOURCE | changes,
            partial_path=str(tmp_path / "partial"),
            snapshot_path=str(tmp_path / "snapshot.jsonl.gz"),
            about_path=str(tmp_path / "snapshot.json"),
        )
        with gzip.open(tmp_path / "snapshot.jsonl.gz", "rt", encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    return run


def test_the_snapshot_holds_the_records_as_they_came(database, run, tmp_path):
    assert run() == RECORDS and sorted(path.name for path in tmp_path.iterdir()) == [
        "snapshot.json",
        "snapshot.jsonl.gz",
    ]
    about = read_json(tmp_path / "snapshot.json")
    assert about["sha256"] == hashlib.sha256((tmp_path / "snapshot.jsonl.gz").read_bytes()).hexdigest()
    assert about["rows"] == 10 and about["licence"] == "CC0" and about["source"] == SOURCE and about["date"][:2] == "20"


@pytest.mark.parametrize("at", [0, 3, 9])
def test_it_goes_on_where_it_was(database, run, tmp_path, at):
    whole = run()
    expected = (tmp_path / "snapshot.jsonl.gz").read_bytes()
    (tmp_path / "snapshot.jsonl.gz").unlink()
    database.fail_at = at
    kept = f"{at} records are kept; run again" if at else "does not answer$"
    with pytest.raises(ValueError, match=kept):
        run()
    assert not (tmp_path / "snapshot.jsonl.gz").exists()
    database.fail_at, database.asked = None, []
    assert run() == whole and (tmp_path / "snapshot.jsonl.gz").read_bytes() == expected
    assert database.asked == list(range(at, 10, 3))


def test_a_page_that_was_half_written_is_asked_for_again(database, run, tmp_path):
    database.fail_at = 6
    with pytest.raises(ValueError):
        run()
    with (tmp_path / "partial" / "records.jsonl.gz").open("ab") as file:
        file.write(b"\x1f\x8b half a page")
    database.fail_at, database.asked = None, []
    assert run() == RECORDS and database.asked == [6, 9]


@pytest.mark.parametrize("damage", [b"", b"\x1f\x8b no gzip" * 50])
def test_damaged_pages_are_all_asked_for_again(database, run, tmp_path, damage):
    database.fail_at = 6
    with pytest.raises(ValueError):
        run()
    (tmp_path / "partial" / "records.jsonl.gz").write_bytes(damage)
    database.fail_at, database.asked = None, []
    assert run() == RECORDS and database.asked == [0, 3, 6, 9]


def test_a_state_that_lacks_the_cursor_is_none(database, run, tmp_path):
    database.fail_at = 6
    with pytest.raises(ValueError):
        run()
    state = tmp_path / "partial" / "state.json"
    state.write_text(json.dumps({key: value for key, value in read_json(state).items() if key != "cursor"}))
    database.fail_at, database.asked = None, []
    assert run() == RECORDS and database.asked == [0, 3, 6, 9]


def test_killed_at_its_very_end_it_has_the_records_still(database, run, tmp_path, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(fetching, "file_digest", lambda path: exit("killed"))
        with pytest.raises(SystemExit):
            run()
    database.asked = []
    assert not (tmp_path / "snapshot.jsonl.gz").exists() and run() == RECORDS and database.asked == []


def test_what_a_file_manager_lays_there_is_in_nobodys_way(database, run, tmp_path):
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / ".DS_Store").touch()
    assert run() == RECORDS and not (tmp_path / "partial").exists()


def test_another_query_begins_anew_and_another_page_size_does_not(database, run):
    database.fail_at = 6
    for filter_, page_limit, asked in (("a", 1, [0, 3, 6]), ("a", 2, [6]), ("b", 2, [0, 3, 6])):
        database.asked = []
        with pytest.raises(ValueError):
            run(filter=filter_, page_limit=page_limit)
        assert database.asked == asked


def test_records_that_come_twice_are_kept_once(database, run, capsys):
    database.edit = lambda page: page._replace(records=RECORDS[:2] + page.records)
    assert run() == RECORDS
    assert "8 that came twice left out" in capsys.readouterr().err


@pytest.mark.parametrize("total", [9, 11])
def test_a_count_that_does_not_fit_is_an_error_and_no_snapshot(database, run, tmp_path, total):
    database.edit = lambda page: page._replace(total=total)
    with pytest.raises(ValueError, match=f"10 different records came where the server counts {total}"):
        run()
    assert not list(tmp_path.iterdir())


def test_a_server_that_does_not_count_is_believed(database, run):
    database.edit = lambda page: page._replace(total=None)
    assert run() == RECORDS


def test_no_records_are_an_error(database, run, tmp_path):
    database.edit = lambda page: Page([], page.cursor, 0)
    with pytest.raises(ValueError, match="the query has no records; loosen its filter"):
        run()


@pytest.mark.parametrize(
    ("url", "holds"),
    [
        ("https://far.org/optimade", False),
        ("https://far.org:8080/optimade", False),
        ("mysql+pymysql://me@127.0.0.1:3307/oqmd", False),
        ("mysql+pymysql://me@/oqmd?unix_socket=/run/my.sock&charset=utf8mb4", False),
        ("mysql+pymysql://me:$PASSWORD@far/oqmd", False),
        ("$OQMD_URL", False),
        ("https://me:secret@far.org", True),
        ("mysql+pymysql://me:p/w@far/oqmd", True),
        ("mysql+pymysql://me@far/oqmd?charset=utf8mb4&password=secret", True),
        ("https://far.org?API_KEY=secret", True),
    ],
)
def test_a_password_in_an_address_is_seen(url, holds):
    assert holds_password(url) is holds
