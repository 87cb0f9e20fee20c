"""Memory: what each rule takes, and how it ends with less than it asks for.

Each rule's job runs under half of its `mem_mb`, then under half of the private memory that it was seen to take (a limit
of the process, as `prlimit --data` sets it). What it takes is the peak of its resident memory in the small campaign,
most of it libraries; larger tables add to it.
"""

import re
import resource
import time
from pathlib import Path

import psutil
import pytest

from tests.faults.stage import differences, end, job_of, mend
from tests.faults.test_kill import RULES

pytestmark = pytest.mark.slow
GROUP = "Memory"


@pytest.fixture(scope="module")
def asked(finished) -> dict[str, int]:
    """What each rule asks for, in MB."""
    said = finished.run("--dry-run", "--forceall")
    return {rule: int(mb) for rule, mb in re.findall(r"^rule (\w+):\n(?:    .*\n)*?.*mem_mb=(\d+)", said.stdout, re.M)}


@pytest.mark.parametrize("rule", RULES)
def test_half_the_memory(rule, sites, stages, intact, asked, trials, record):
    n = trials(int(rule == "collect"), 2)
    site, stage = sites[0], stages[rule]
    stage.clear(site)
    code, said, resident, own = limited(site, stage, asked[rule] * 1_000_000 // 2)
    assert code == 0, said
    assert differences(site, intact) == []
    for _ in range(1, n):
        stage.clear(site)
        code, said, _, _ = limited(site, stage, own // 2)
        if code:
            assert len(said.splitlines()) < 100, said
            mend(site, stage)
        assert differences(site, intact) == []
    named = re.search("memory|alloc|failed to map", said.lower())
    ended = "a library says so and ends" if named else "ends without saying why"
    ended = "completes" if not code else "one clear line" if "kimberlite:" in said else ended
    record(
        GROUP,
        f"`{rule}`, which asks for {asked[rule]} MB and takes {resident / 1e6:.0f} MB",
        n,
        f"half of what it asks for: completes; half of what it takes: {ended}; same bytes afterwards",
    )


def limited(site, stage, limit) -> tuple[int, str, int, int]:
    """Run the job with so many bytes of data; exit code, what was said, peaks of resident and of private memory."""
    process = stage.start(site)
    job = job_of(process)
    status, peaks = Path(f"/proc/{job.pid}/status"), {"VmHWM": 0, "RssAnon": 0}
    resource.prlimit(job.pid, resource.RLIMIT_DATA, (limit, limit))
    while job.is_running() and job.status() != psutil.STATUS_ZOMBIE:
        for name, kilobytes in re.findall(r"^(VmHWM|RssAnon):\s+(\d+) kB", status.read_text(), re.M):
            peaks[name] = max(peaks[name], int(kilobytes) * 1024)
        time.sleep(0.02)
    said = end(process)
    return process.returncode, said, peaks["VmHWM"], peaks["RssAnon"]
