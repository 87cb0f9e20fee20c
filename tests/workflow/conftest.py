"""A small campaign, run once by Snakemake itself in a copy of the repository."""

import csv
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from pipeline.database import sources

OVERLAY = {
    "campaign": "small",
    "database": {
        "source": {"kind": "table", "path": "small.csv", "columns": {"id": "id", "formula": "formula"}},
        "max_rejected_share": 0.1,
    },
    "training": {
        "settings": {"likelihood_epochs": 3, "adversarial_epochs": 1, "batch_size": 128},
        "autoencoder": {"epochs": 1},
    },
    "sampling": {"n_samples": 4000, "block_size": 1000},
    "screening": {"select": {"n_selected": 60}},
    "structures": {"build": {"n_structures": 5, "relaxation": "none"}},
}


class Campaign:
    """A copy of the repository with a small campaign in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results" / "small"

    def run(self, *arguments: str, overlay: str = "small.yaml") -> subprocess.CompletedProcess:
        """Run snakemake as a user does; stdout and stderr together."""
        command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--configfile", overlay]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        return subprocess.run(
            command, cwd=self.folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def planned(self, *arguments: str, overlay: str = "small.yaml") -> set[str]:
        """Names of the rules that a dry run would execute, target rules left out."""
        said = self.run("--dry-run", *arguments, overlay=overlay)
        assert said.returncode == 0, said.stdout
        table = re.search(r"^job +count\n-[- ]+\n(.*?)\n\n", said.stdout, re.DOTALL | re.MULTILINE)
        rules = set() if table is None else {line.split()[0] for line in table[1].splitlines()}
        stages = {path.stem for path in (self.folder / "workflow" / "rules").glob("*.smk")}
        return rules - {"all", "total"} - stages

    def overlay(self, name: str, **changes: dict) -> str:
        """Write another overlay: the small one with some sections merged over."""
        merged = _merge(OVERLAY, changes)
        (self.folder / name).write_text(yaml.safe_dump(merged))
        return name


@pytest.fixture(scope="session")
def campaign(tmp_path_factory, root) -> Campaign:
    folder = tmp_path_factory.mktemp("campaign")
    for name in ("Snakefile", "pipeline", "workflow", "config", "resources", "slurm"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy2
        copy(root / name, folder / name)
    (folder / "small.csv").write_text(_formulas(1500))
    made = Campaign(folder)
    made.overlay("small.yaml")
    said = made.run()
    assert said.returncode == 0, said.stdout[-5000:]
    return made


def _formulas(n: int) -> str:
    """Every k-th formula of the embedded database as a CSV, a bad one among them."""
    archive = sources.matminer_transport_archive()
    with tarfile.open(archive) as tar, tar.extractfile("transport_database.csv") as member:
        rows = list(csv.DictReader(io.TextIOWrapper(member)))
    chosen = rows[:: len(rows) // n]
    return "id,formula\n" + "".join(f"{row['mp_id']},{row['pretty_formula']}\n" for row in chosen) + "bad-1,Xx2O3\n"


def _merge(base: dict, changes: dict) -> dict:
    merged = dict(base)
    for key, value in changes.items():
        merged[key] = _merge(base.get(key, {}), value) if isinstance(value, dict) else value
    return merged
