"""Writing goes wrong: killed in the middle of it, a full disk, a disk that turns read-only.

Kills in the middle of a write come the moment that a temporary file appears; the process is stopped first, so that it
is still there. For a full disk the results lie on a small file system with 0, 50 or 90 % of the room that the rule's
files need. After the fault the same command runs again: kills as above, disks with room made or made writable.
"""

import os
import random
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.faults.disk import full, read_only, small_disk
from tests.faults.stage import complaint, cut_power, differences, end, job_of, mend, when_there
from tests.faults.test_kill import RULES

pytestmark = pytest.mark.slow
GROUP = "Writing goes wrong"


def killed_writing(site, stage, folder, pattern, nth) -> bool:
    """Cut the power when the nth file of that name is being written; False if there were fewer."""
    process, seen = stage.start(site), set()
    job = job_of(process)
    while when_there(folder, pattern, process, job.suspend):
        there = [entry.inode() for entry in os.scandir(folder) if entry.name.startswith(".")]
        seen.update(there)
        if len(seen) >= nth:
            cut_power(process)
            return True
        job.resume()
        time.sleep(0.0005)
    end(process)
    return False


def test_killed_while_a_checkpoint_is_written(sites, stages, intact, trials, record):
    n = trials(1, 20)
    stage = stages["train"]

    def trial(number: int) -> bool:
        site = sites[number % 2]
        folder = site.results / "training" / "checkpoints" / "generator"
        stage.clear(site)
        hit = killed_writing(site, stage, folder, r"\.last\.safetensors\..*", random.Random(number).randint(1, 3))
        mend(site, stage)
        assert differences(site, intact) == []
        return hit

    with ThreadPoolExecutor(2) as threads:
        hits = list(threads.map(lambda worker: [trial(number) for number in range(worker, n, 2)], range(2)))
    assert sum(map(sum, hits)) == n
    record(GROUP, "`train` killed while it writes a checkpoint", n, "goes on from the checkpoint before it; same bytes")


@pytest.mark.parametrize("rule", RULES)
def test_killed_while_a_result_is_written(rule, sites, stages, intact, trials, record):
    n = trials(0, 2)
    stage = stages[rule]

    def trial(worker: int) -> int:
        site, hits = sites[worker], 0
        folder = (site.folder / stage.outputs[worker % len(stage.outputs)]).parent
        if rule == "export_folder":
            folder = folder.parent
        for _ in range(n):
            stage.clear(site)
            hits += killed_writing(site, stage, folder, r"\..*\.tmp", 1)
            mend(site, stage)
            assert differences(site, intact) == []
        return hits

    with ThreadPoolExecutor(2) as threads:
        hits = sum(threads.map(trial, range(2)))
    assert hits == 2 * n
    record(GROUP, f"`{rule}` killed while it writes its result", hits, "no half file under a final name; same bytes")


@pytest.mark.parametrize("rule", RULES)
def test_a_full_disk(rule, sites, stages, intact, trials, record):
    n = trials(int(rule == "collect"), 3)
    stage = stages[rule]
    shares = (0, 0.5, 0.9)[:n]
    site = sites[0]
    lines = []
    with small_disk(site.folder / "results") as disk:
        size = sum((site.folder / output).stat().st_size for output in stage.outputs)
        for share in shares:
            stage.clear(site)
            with full(disk, int(share * size)):
                said = stage.run(site)
            if said.returncode:
                lines.append(complaint(said.stdout))
                assert "No space left on device" in lines[-1] or "disk" in lines[-1].lower(), lines[-1]
            mend(site, stage)
            assert differences(site, intact) == []
    assert lines
    record(GROUP, f"`{rule}`, disk full", n, f"{len(lines)} one clear line, {n - len(lines)} fitted in; same bytes")


def test_a_full_disk_under_everything(finished, stages, intact, trials, record, tmp_path):
    n = trials(0, 3)
    (tmp_path / "site").mkdir()
    with small_disk(tmp_path / "site") as disk:
        site = finished.copy(disk)
        for rule in ("clean_rows", "draw", "write_report")[:n]:
            stages[rule].clear(site)
            with full(disk, 0):
                said = stages[rule].run(site)
            assert said.returncode and "No space left on device" in said.stdout, said.stdout[-3000:]
            mend(site, stages[rule])
            assert differences(site, intact) == []
    record(GROUP, "disk full under results, logs and Snakemake's own notes", n, "ends with the reason; same bytes")


def test_a_read_only_disk(sites, stages, intact, trials, record):
    n = trials(1, 2)
    site, stage = sites[1], stages["draw"]
    with small_disk(site.folder / "results") as disk:
        stage.clear(site)
        with read_only(disk):
            assert "cannot be written" in complaint(stage.run(site).stdout)
        mend(site, stage)
        assert differences(site, intact) == []
        record(GROUP, "results folder read-only from the start", 1, "one clear line before any work; same bytes")
        for _ in range(1, n):
            stage.clear(site)
            process = stage.start(site)
            assert job_of(process)
            with read_only(disk):
                assert "Read-only file system" in complaint(end(process))
            mend(site, stage)
            assert differences(site, intact) == []
            record(GROUP, "results folder turns read-only while a job runs", 1, "one clear line; same bytes")


@pytest.mark.parametrize("hours", [24, -24])
def test_a_clock_that_jumped(hours, sites, stages, intact, trials, record):
    """Files of one stage from the future or the past: what Snakemake then reruns gives the same bytes."""
    n = trials(int(hours > 0), 1)
    site = sites[0]
    for path in (site.results / "encoding").iterdir():
        moved = time.time() + 3600 * hours
        os.utime(path, (moved, moved))
    said = site.run("sampling")
    assert said.returncode == 0, said.stdout[-3000:]
    assert differences(site, intact) == []
    assert site.planned("sampling") == set()
    record(
        GROUP, f"a finished stage's files {abs(hours)} h in the {'future' if hours > 0 else 'past'}", n, "same bytes"
    )
