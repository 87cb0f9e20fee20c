"""What several tests need."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.campaign import Campaign

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session")
def data() -> Path:
    """Folder of real data sets, from KIMBERLITE_DATA; tests that want it are skipped without."""
    folder = os.environ.get("KIMBERLITE_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("KIMBERLITE_DATA does not name a folder with real data sets")
    return Path(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory, root) -> Campaign:
    """A small campaign, run once to its end. Nobody changes it: take a `copy`.

    It runs without any network, as compute nodes do, where this machine lets us take it away.
    """
    made = Campaign.new(root, tmp_path_factory.mktemp("finished"))
    offline = ["unshare", "--net"]
    may = shutil.which("unshare") and not subprocess.run([*offline, "true"], capture_output=True).returncode
    said = made.run(under=offline if may else [])
    assert said.returncode == 0, said.stdout[-5000:]
    assert made.planned() == set()
    return made


@pytest.fixture
def each_epoch_saved(monkeypatch):
    """Short epochs too: otherwise only one in five seconds is."""
    monkeypatch.setattr("pipeline.generators.checkpoints.SAVE_EPOCHS_EVERY_S", 0.0)
