"""A real Slurm on this machine, and small campaigns on it."""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.campaign import Campaign

SCRIPT = Path(__file__).with_name("cluster.sh")


NO_SLURM = 3  # the script's exit status where the machine cannot have one


class Job(NamedTuple):
    """What Slurm says of a job; ``gpu`` and ``array`` are its own words, empty where there is none."""

    id: int
    rule: str
    state: str
    partition: str
    memory_mb: int
    minutes: int
    gpu: str
    array: str


class Cluster:
    """The cluster that ``cluster.sh`` started."""

    def jobs(self) -> list[Job]:
        """All jobs so far, in the order of their submission."""
        return [_job(text) for text in _slurm("scontrol", "show", "job").split("\n\n") if text.startswith("JobId=")]

    def last(self) -> int:
        """The number of the job submitted last."""
        return max((job.id for job in self.jobs()), default=0)


def _slurm(*command: str) -> str:
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout


def _job(text: str) -> Job:
    said = dict(re.findall(r"(\w+)=(\S*)", text))
    days, hours, minutes = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):\d+", said["TimeLimit"]).groups(default="0")
    return Job(
        int(said["JobId"]),
        said.get("Comment", "").removeprefix("rule_").split("_wildcards")[0],
        said["JobState"],
        said["Partition"],
        int(said["MinMemoryNode"].removesuffix("M")),
        (int(days) * 24 + int(hours)) * 60 + int(minutes),
        said.get("TresPerJob", said.get("TresPerNode", "")),
        said.get("ArrayJobId", ""),
    )


@pytest.fixture(scope="session", params=["none"])
def cluster(request) -> Iterator[Cluster]:
    """Slurm without accounting, or with it: ``parametrize("cluster", ["sacct"], indirect=True)``."""
    with tempfile.TemporaryDirectory() as folder:
        said = subprocess.run([SCRIPT, "up", folder, request.param], text=True, stderr=subprocess.PIPE)
        if said.returncode == NO_SLURM:
            pytest.skip(f"no Slurm on this machine: {said.stderr.strip().splitlines()[-1]}")
        assert said.returncode == 0, said.stderr
        try:
            yield Cluster()
        finally:
            subprocess.run([SCRIPT, "down", folder], check=True)


class OnSlurm(Campaign):
    """A small campaign that is run as README says, only that Slurm is asked sooner."""

    def start(self, *arguments: str, **named) -> subprocess.Popen:
        sooner = ("--slurm-init-seconds-before-status-checks", "10", "--latency-wait", "5")
        return super().start("--profile", "slurm", *sooner, *arguments, **named)


@pytest.fixture
def on_slurm(cluster, finished, tmp_path) -> OnSlurm:
    """The finished campaign's code and database, of which nothing has been run."""
    return OnSlurm.new(finished.folder, tmp_path)
