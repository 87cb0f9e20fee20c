"""One rule's job at a time: run it alone, watch its process, kill it, mend it, and compare what it leaves."""

import base64
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from tests.campaign import Campaign

START_SECONDS = 1.5
"""From the command to the job, about: kills of the whole process group fall there too."""

CHECKPOINTS = {
    "train": "training/checkpoints/generator/last.safetensors",
    "autoencode": "training/checkpoints/autoencoder/last.safetensors",
}
"""Where the rules that train save how far they came, relative to the campaign's results."""


@dataclass(frozen=True)
class Stage:
    """One job of a rule.

    Attributes:
        rule: Its name.
        outputs: What it declares, relative to the campaign's folder; the first is asked for to run it.
        seconds: How long the undisturbed job took.
    """

    rule: str
    outputs: tuple[str, ...]
    seconds: float

    def clear(self, site: Campaign) -> None:
        """Delete the outputs and the checkpoint, so that this job alone is to do, from its beginning."""
        for output in self.outputs:
            (site.folder / output).unlink(missing_ok=True)
        if self.rule in CHECKPOINTS:
            (site.results / CHECKPOINTS[self.rule]).unlink(missing_ok=True)

    def run(self, site: Campaign, *arguments: str) -> subprocess.CompletedProcess:
        """Ask Snakemake for the first output alone."""
        return site.run(self.outputs[0], *arguments, cores=1)

    def start(self, site: Campaign) -> subprocess.Popen:
        """The same without waiting."""
        return site.start(self.outputs[0], cores=1)


def timed(site: Campaign, stage: Stage) -> Stage:
    """The stage with the time that its job takes now: the machine may be idler than when the campaign was made."""
    stage.clear(site)
    process = stage.start(site)
    job_of(process)
    begun = time.monotonic()
    end(process)
    return replace(stage, seconds=time.monotonic() - begun)


def stages_of(campaign: Campaign) -> dict[str, Stage]:
    """The first job of each rule, with its outputs and time, as Snakemake noted them."""
    notes = {}
    for note in (campaign.folder / ".snakemake" / "metadata").iterdir():
        notes[base64.b64decode(note.name).decode()] = json.loads(note.read_text())
    jobs: dict[str, dict[str, list[str]]] = {}
    for output, note in sorted(notes.items()):
        jobs.setdefault(note["rule"], {}).setdefault(note["log"][0], []).append(output)
    stages = {}
    for rule, by_log in sorted(jobs.items()):
        outputs = tuple(next(iter(by_log.values())))
        note = notes[outputs[0]]
        stages[rule] = Stage(rule, outputs, note["endtime"] - note["starttime"])
    return stages


def job_of(process: subprocess.Popen) -> psutil.Process | None:
    """The job's own process under a running Snakemake, None if Snakemake ended first."""
    while process.poll() is None:
        try:
            for child in psutil.Process(process.pid).children():
                if any("/.snakemake/scripts/" in word for word in child.cmdline()):
                    return child
        except psutil.Error:
            pass
        time.sleep(0.01)
    return None


def end(process: subprocess.Popen) -> str:
    """Wait for Snakemake; what it said."""
    said, _ = process.communicate()
    return said


def cut_power(process: subprocess.Popen) -> None:
    """SIGKILL to Snakemake and to all of its jobs."""
    os.killpg(process.pid, signal.SIGKILL)
    end(process)


def power_cut(site: Campaign, stage: Stage, moment: random.Random) -> bool:
    """Kill everything at a random moment of the run; False if the run was over by then."""
    process = stage.start(site)
    time.sleep(moment.uniform(0, START_SECONDS + stage.seconds))
    alive = process.poll() is None
    if alive:
        cut_power(process)
    else:
        end(process)
    return alive


def job_killed(site: Campaign, stage: Stage, moment: random.Random) -> bool:
    """Kill only the job at a random moment of its life, as the kernel does when memory runs out."""
    process = stage.start(site)
    job = job_of(process)
    time.sleep(moment.uniform(0, stage.seconds))
    with contextlib.suppress(psutil.NoSuchProcess):
        job.kill()
    end(process)
    return process.returncode != 0


def mend(site: Campaign, stage: Stage) -> subprocess.CompletedProcess:
    """Run the same command again, and nothing else."""
    said = stage.run(site)
    assert said.returncode == 0, said.stdout[-3000:]
    return said


def differences(site: Campaign, intact: dict[str, bytes]) -> list[str]:
    """Files that are missing, other or too many; empty if the campaign is as it should be."""
    found = site.files()
    return sorted(
        [f"{name}: missing" for name in intact.keys() - found.keys()]
        + [f"{name}: left over" for name in found.keys() - intact.keys()]
        + [f"{name}: other bytes" for name in found.keys() & intact.keys() if found[name] != intact[name]]
    )


def complaint(said: str) -> str:
    """The one line that Kimberlite says for the user.

    Raises:
        AssertionError: There is none, or a traceback beside it.
    """
    lines = [line for line in said.splitlines() if line.startswith("kimberlite:")]
    assert lines, said[-3000:]
    assert "Traceback" not in said, said[-3000:]
    return lines[-1]


def when_there(path: Path, pattern: str, process: subprocess.Popen, act: Callable[[], None]) -> bool:
    """Act as soon as a file whose name matches stands in the folder; False if the process ended first."""
    wanted = re.compile(pattern)
    while process.poll() is None:
        try:
            with os.scandir(path) as entries:
                if any(wanted.fullmatch(entry.name) for entry in entries):
                    act()
                    return True
        except FileNotFoundError:
            pass
        time.sleep(0.0002)
    return False
