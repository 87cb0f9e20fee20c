"""Two runs at once.

The same campaign started twice within two seconds: one run completes, the other ends with a line that says who is at
work. Two campaigns in one checkout: both complete, and neither is seen in the other's files.
"""

import random
import shutil
import time

import psutil
import pytest

from tests.faults.stage import complaint, differences, end

pytestmark = pytest.mark.slow
GROUP = "Two runs at once"


def test_the_same_campaign_twice(sites, stages, intact, trials, record):
    n = trials(1, 20)
    site, stage, moment = sites[0], stages["draw"], random.Random(0)
    for _ in range(n):
        stage.clear(site)
        first = stage.start(site)
        time.sleep(moment.uniform(0, 2))
        second = stage.start(site)
        said = [end(first), end(second)]
        assert sorted(map(bool, (first.returncode, second.returncode))) == [False, True], said
        assert "campaign 'small' is taken by process" in complaint(said[first.returncode == 0])
        assert differences(site, intact) == []
    record(GROUP, "the same campaign, 0 to 2 s apart", n, "one completes, the other ends with one line; same bytes")


def test_two_campaigns_in_one_checkout(finished, intact, trials, record, tmp_path):
    n = trials(0, 1)
    site = finished.copy(tmp_path / "site")
    shutil.rmtree(site.folder / "results")
    other = type(site)(site.folder, "other")
    overlay = other.overlay("other.yaml", campaign="other")
    runs = [site.start(cores=1), other.start(overlay=overlay, cores=1)]
    said = [end(run) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    mine, theirs = site.files(), other.files()
    assert differences(site, intact) == []
    named = ("export", "report")  # they hold the campaign's name
    assert all(theirs[name] == data for name, data in mine.items() if not name.startswith(named))
    record(GROUP, "two campaigns in one checkout", n, "both complete; same bytes as alone")


def test_a_job_that_outlives_its_run(finished, intact, trials, record, tmp_path):
    """Its Snakemake alone is killed: no other run begins beside it, and what it leaves is not taken for theirs."""
    n = trials(1, 5)
    site = finished.copy(tmp_path / "site")
    long = site.overlay("long.yaml", training={"settings": {"likelihood_epochs": 20}})
    log = site.folder / "logs" / site.results.name / "training.log"
    for _ in range(n):
        log.unlink()
        run = site.start("training", overlay=long)
        while not (log.exists() and "epochs/s" in log.read_text()):
            time.sleep(0.1)
            assert run.poll() is None
        (job,) = [child for child in psutil.Process(run.pid).children() if "training.py" in " ".join(child.cmdline())]
        run.kill()
        refused = site.run("training")
        assert refused.returncode and f"a job outlived its run: process {job.pid} on " in complaint(refused.stdout)
        end(run)  # its output is open until the job has ended
        said = site.run("training")
        assert said.returncode == 0, said.stdout[-3000:]
        assert differences(site, intact) == []
    record(GROUP, "a job whose run was killed, and the next run at once", n, "one line until it has ended; same bytes")
