"""Training is killed, and goes on from its checkpoint.

A training run of 12 + 2 epochs is ended at a random moment after its first checkpoint, and run again. SIGTERM is what
a scheduler sends at a time limit: the job saves where it is and ends by itself within seconds. Weights, learning curve
and samples of each epoch are byte for byte those of a run that nothing interrupted.
"""

import contextlib
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.faults.stage import differences, end, job_of, mend, when_there

pytestmark = pytest.mark.slow
GROUP = "Training resumed"
LONG = {"training": {"settings": {"likelihood_epochs": 12, "adversarial_epochs": 2, "batch_size": 128}}}
GRACE_SECONDS = 10


@pytest.fixture(scope="module")
def uninterrupted(finished, copies, stages, intact, pytestconfig, tmp_path_factory):
    """Two copies with a training run that nothing interrupted, its files, its seconds after the first checkpoint."""
    stage = stages["train"]
    if not pytestconfig.getoption("--reliability", None):
        return copies, intact, 0.0
    longer = [finished.copy(tmp_path_factory.mktemp("long")) for _ in range(2)]
    for copy in longer:
        copy.overlay("small.yaml", **LONG)
    assert stage.run(longer[0]).returncode == 0
    process = stage.start(longer[1])
    job = job_of(process)
    assert when_there(checkpoints(longer[1]), "last.safetensors", process, lambda: None)
    begun = time.monotonic()
    job.wait()
    seconds = time.monotonic() - begun
    end(process)
    first, second = (copy.files() for copy in longer)
    assert first == second
    return longer, first, seconds


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_resumed_training_is_the_same(name, stages, uninterrupted, trials, record):
    n = trials(int(name == "SIGTERM"), 20)
    copies, intact, seconds = uninterrupted
    stage = stages["train"]

    def trial(copy, moment: random.Random) -> tuple[bool, bool]:
        stage.clear(copy)
        said = killed(copy, stage, signal.Signals[name], moment.uniform(0, seconds))
        mended = mend(copy, stage).stdout
        assert differences(copy, intact) == []
        return "saved in" in said, "resuming after" in mended

    def several(worker: int) -> list[bool]:
        moment, ended = random.Random(f"{name} {worker}"), []
        while len(ended) < len(range(worker, n, 2)):
            saved, resumed = trial(copies[worker], moment)
            ended += [saved] * resumed  # else training had ended by then
        return ended

    with ThreadPoolExecutor(2) as threads:
        ended = [saved for worker in threads.map(several, range(2)) for saved in worker]
    outcome = "went on from its checkpoint; same weights, curve and samples"
    saved = f", {sum(ended)} of them from a step within an epoch" * (name == "SIGTERM")
    record(GROUP, f"{name} to the training job", n, outcome + saved)


def killed(site, stage, number, seconds) -> str:
    """End the training job some seconds after it has a checkpoint; what was said."""
    process = stage.start(site)
    job = job_of(process)
    assert when_there(checkpoints(site), "last.safetensors", process, lambda: time.sleep(seconds))
    with contextlib.suppress(psutil.NoSuchProcess):
        job.send_signal(number)
        psutil.wait_procs([job], GRACE_SECONDS)
        assert not job.is_running(), f"the job lives {GRACE_SECONDS} s after {number.name}"
    said = end(process)
    assert "Traceback" not in said, said
    return said


def checkpoints(site) -> Path:
    """Folder of the generator's checkpoint."""
    return site.results / "training" / "checkpoints" / "generator"
