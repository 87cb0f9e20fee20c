"""A small campaign in a copy of the repository, run by Snakemake itself, as a user does."""

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from pipeline.database import sources

OVERLAY = {
    "campaign": "small",
    "database": {
        "sources": [
            {"name": "small", "kind": "table", "path": "small.csv", "columns": {"id": "id", "formula": "formula"}}
        ],
        "max_rejected_share": 0.1,
    },
    "training": {
        "settings": {"likelihood_epochs": 3, "adversarial_epochs": 1, "batch_size": 128},
        "autoencoder": {"epochs": 1},
    },
    "sampling": {"n_samples": 4000, "block_size": 1000},
    "screening": {"select": {"n_selected": 60}},
    "structures": {
        "threads": 1,  # the cluster of the tests may have one core
        "build": {"n_candidates": 5, "max_structures_per_formula": 2},
        "relax": {"max_steps": 2},
    },
}


class Campaign:
    """A copy of the repository with a campaign in it.

    Args:
        folder: Of the copy.
        name: Of the campaign.
    """

    def __init__(self, folder: Path, name: str = "small") -> None:
        self.folder = folder
        self.results = folder / "results" / name

    @classmethod
    def new(cls, root: Path, folder: Path) -> "Campaign":
        """Copy the repository at ``root``, and write a database and an overlay; nothing is run."""
        for name in ("Snakefile", "pipeline", "workflow", "config", "profiles", "resources", "slurm"):
            copy = shutil.copytree if (root / name).is_dir() else shutil.copy2
            copy(root / name, folder / name)
        (folder / "small.csv").write_text(_formulas(1500))
        made = cls(folder)
        made.overlay("small.yaml")
        return made

    def copy(self, folder: Path) -> "Campaign":
        """Another copy, results and all, in which nothing is left to do."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return type(self)(folder, self.results.name)

    def start(
        self, *arguments: str, overlay: str = "small.yaml", cores: int = 2, under: Sequence[str] = ()
    ) -> subprocess.Popen:
        """Start snakemake in a process group of its own, `under` another command; stdout and stderr together."""
        options = ["--cores", str(cores), "--configfile", overlay]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        return subprocess.Popen(
            [*under, sys.executable, "-m", "snakemake", *arguments, *options],
            cwd=self.folder,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *arguments: str, **how) -> subprocess.CompletedProcess:
        """Run snakemake to its end, started as `how` says."""
        process = self.start(*arguments, **how)
        try:
            said, _ = process.communicate()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, said)

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

    def files(self) -> dict[str, bytes]:
        """Every file of the campaign's results by its path, hidden ones too."""
        return {
            path.relative_to(self.results).as_posix(): path.read_bytes()
            for path in sorted(self.results.rglob("*"))
            if path.is_file()
        }


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
