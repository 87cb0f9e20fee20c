"""One run at a time has a campaign, and no job outlives it unseen; nothing stays locked after a kill."""

import errno
import os
import subprocess
import sys

import pytest

from pipeline import locks

CALLS = {"run": "claim(sys.argv[1], 'x')", "job": "join(sys.argv[1])"}


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.setenv(locks.VARIABLE, "")  # so that what a claim sets is taken back


@pytest.fixture
def other(tmp_path, root):
    """A process of its own that claims the campaign, or works for it, until it is killed."""
    started = []

    def start(what: str) -> subprocess.Popen:
        code = (
            f"import sys, time; from pipeline.locks import *; f = {CALLS[what]}; print(1, flush=True); time.sleep(60)"
        )
        process = subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=root, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path, other):
    first = other("run")
    with pytest.raises(ValueError, match=f"campaign 'c' is taken by process {first.pid} on .*; wait for that run, or"):
        locks.claim(tmp_path, "c")
    first.kill()
    first.wait()
    locks.claim(tmp_path, "c").close()


def test_no_run_begins_beside_a_job_that_outlived_another(tmp_path, other):
    jobs = [other("job"), other("job")]  # jobs work beside each other
    with pytest.raises(ValueError, match=f"a job outlived its run: process {jobs[1].pid} on .*scancel"):
        locks.claim(tmp_path, "c")
    for job in jobs:
        job.kill()
        job.wait()
    locks.claim(tmp_path, "c").close()


def test_a_job_that_waited_while_another_run_began_ends(tmp_path):
    locks.claim(tmp_path, "c").close()
    mine = os.environ[locks.VARIABLE]
    locks.join(tmp_path).close()
    (tmp_path / locks.RUN).write_text("process 1 on other since then\n")
    for call in (locks.join, locks.check_run):
        with pytest.raises(ValueError, match="has ended, and another has begun"):
            call(tmp_path)
    assert mine != (tmp_path / locks.RUN).read_text()
    locks.claim(tmp_path, "c").close()
    locks.join(tmp_path).close()


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(locks.fcntl, "flock", none)
    locks.claim(tmp_path, "c").close()
    locks.join(tmp_path).close()
    assert "no locks; see that one run at a time works here" in capsys.readouterr().err
