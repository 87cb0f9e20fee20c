"""The whole way by Snakemake: a database behind a network, killed and gone on, then everything else without one."""

import os
import re
import signal
import time

import pytest

from pipeline.tables import read_json
from tests.campaign import Campaign
from tests.databases import proxy as faults
from tests.databases.optimade_server import serve
from tests.databases.proxy import Proxy
from tests.databases.test_optimade import COLUMNS, N_SALTS, PAGE, salts


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("server"), salts()) as base:
        yield base


@pytest.fixture(scope="module")
def campaign(root, tmp_path_factory):
    return Campaign.new(root, tmp_path_factory.mktemp("campaign"))


def overlay(campaign, url: str, **changes) -> str:
    far = {"name": "far", "kind": "optimade", "url": url, "page_limit": PAGE, "columns": COLUMNS, **changes}
    return campaign.overlay("far.yaml", campaign="far", database={"sources": [far]})


def test_killed_gone_on_and_offline(campaign, server):
    folder = campaign.folder / "results" / "far" / "database"
    with Proxy(server) as proxy:
        config = overlay(campaign, proxy.url)
        proxy.faults = [faults.as_it_is] * 4 + [faults.late(60)]
        run = campaign.start("database", overlay=config)
        while len(proxy.asked) < 5 and run.poll() is None:
            time.sleep(0.01)
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        assert not (folder / "entries.parquet").exists()
        waiting = proxy.asked.pop()
        said = campaign.run("database", overlay=config)
        assert said.returncode == 0, said.stdout[-3000:]
        assert f"far: going on after {3 * PAGE} records" in said.stdout
        pages = [asked for asked in proxy.asked if asked.startswith("/v1/structures")]
        assert len(pages) == len(set(pages)) == N_SALTS / PAGE and waiting in pages
        asked = len(proxy.asked)
        # Nothing of ours that changes is a reason to ask again, nor is how it is asked; another filter is.
        edited = campaign.folder / "pipeline" / "database" / "fetching.py"
        edited.write_text(edited.read_text() + "\n_UNUSED = 1\n")
        (campaign.folder / "workflow" / "scripts" / "fetch.py").touch()
        assert campaign.planned("database", overlay=overlay(campaign, proxy.url, timeout_s=7, page_limit=9)) == set()
        reader = campaign.folder / "pipeline" / "database" / "remote" / "optimade.py"
        reader.write_text(reader.read_text().replace("SHARE_TOLERANCE = 1e-6", "SHARE_TOLERANCE = 1e-7"))
        assert campaign.planned("database", overlay=overlay(campaign, proxy.url)) == {"read_rows", "clean_rows"}
        other = overlay(campaign, proxy.url, filter='elements HAS "O"')
        assert campaign.planned("database", overlay=other) == {"fetch", "read_rows", "clean_rows"}
        assert len(proxy.asked) == asked
    said = read_json(folder / "sources.json")[0]
    assert (said["name"], said["rows"], said["entries"], said["rejected"]) == ("far", N_SALTS, N_SALTS, 0)
    assert re.fullmatch(r"[0-9a-f]{64}", said["sha256"]) and said["date"] and said["provider"] == "Example provider"
    # The server is gone now. A snapshot is a file like any other for a campaign of another name.
    config = overlay(campaign, "http://127.0.0.1:9", snapshot=str(folder / "far" / "snapshot.jsonl.gz"))
    text = (campaign.folder / config).read_text()
    (campaign.folder / config).write_text(text.replace("campaign: far", "campaign: b"))
    again = campaign.run("encoding", overlay=config, under=("unshare", "--net"))
    assert again.returncode == 0, again.stdout[-3000:]
    other = campaign.folder / "results" / "b" / "database"
    for name in ("cleaning.json", "sources.json", "summary.txt"):
        assert (other / name).read_bytes() == (folder / name).read_bytes()


def test_a_count_that_is_short_leaves_nothing(campaign, server):
    with Proxy(server) as proxy:
        proxy.faults = [faults.as_it_is] * 2 + [faults.page_after]
        config = campaign.overlay(
            "short.yaml",
            campaign="short",
            database={"sources": [{"name": "far", "kind": "optimade", "url": proxy.url, "page_limit": PAGE}]},
        )
        said = campaign.run("database", overlay=config)
    assert said.returncode and "Traceback" not in said.stdout
    line = next(line for line in said.stdout.splitlines() if line.startswith("kimberlite: fetch:"))
    assert f"{N_SALTS - PAGE} different records came where the server counts {N_SALTS}" in line
    assert not (campaign.folder / "results" / "short" / "database" / "far" / "snapshot.jsonl.gz").exists()


def test_a_server_that_is_not_there(campaign):
    far = {"name": "far", "kind": "optimade", "url": "http://user@127.0.0.1:9"}
    said = campaign.run("database", overlay=campaign.overlay("no.yaml", campaign="no", database={"sources": [far]}))
    assert said.returncode and "kimberlite: fetch: database.sources: url holds a user name" in said.stdout


@pytest.mark.parametrize("kind", ["optimade", "oqmd_sql", "materials_project"])
def test_a_password_in_the_config_goes_nowhere(campaign, kind):
    far = {"name": "far", "kind": kind, "url": "http://user:open_sesame@127.0.0.1:9"}
    said = campaign.run("database", overlay=campaign.overlay("no.yaml", campaign="no", database={"sources": [far]}))
    assert said.returncode and "kimberlite: database.sources: url of 'far' holds a password" in said.stdout
    assert "open_sesame" not in said.stdout
    kept = [path for name in ("results", "logs", ".snakemake") for path in (campaign.folder / name).rglob("*")]
    assert not [path for path in kept if path.is_file() and b"open_sesame" in path.read_bytes()]
