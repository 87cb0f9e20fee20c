"""Growth of the workflow with the number of samples: time, memory and disk from sampling to screening.

Snakemake runs the stages on two cores as a user's campaign does, shards and all, in a fresh folder and from a generator
trained shortly before. There is no reference. Slopes are the exponents of growth between neighbouring points: 0 is
constant, 1 in proportion to the samples. Memory is that of the largest process, and of all together.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import yaml

from benchmarks.compare import device
from benchmarks.formulas import embedded

ROOT = Path(__file__).resolve().parent.parent
CORES = 2
STAGES = ("sampling", "filtering", "screening")
FULL = {
    "sizes": (100_000, 1_000_000, 10_000_000),
    "shard_size": 500_000,
    "formulas": 100_000,
    "training": {"likelihood_epochs": 8, "adversarial_epochs": 2},
    "targets": ("filtering", "screening"),
}
QUICK = {
    "sizes": (10_000, 100_000),
    "shard_size": 50_000,
    "formulas": 3000,
    "training": {"likelihood_epochs": 1, "adversarial_epochs": 1},
    "targets": ("screening",),  # without pass rates
}
POLL_S = 0.1
METER = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[2:])
used = resource.getrusage(resource.RUSAGE_CHILDREN)
json.dump({"largest": used.ru_maxrss * 1024, "core_seconds": used.ru_utime + used.ru_stime}, open(sys.argv[1], "w"))
sys.exit(code)
"""
"""A small process of its own: what a process held before exec counts towards its peak, and this one holds torch."""


def measure(quick: bool) -> dict:
    """Of each number of samples seconds, MB and rows, and the slopes between their logarithms.

    ``largest_process_mb`` is the peak of one process, as the system counts it; ``all_processes_mb`` the peak of all
    together, Snakemake's own among them, where pages that processes share count once for each. Disk is what the stages
    leave; one MB is 10^6 bytes.
    """
    plan = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        formulas = embedded(plan["formulas"]).formulas().to_pylist()
        Path(folder, "formulas.csv").write_text("\n".join(["formula", *formulas]) + "\n")
        _run(folder, plan, plan["sizes"][0], "results/scale/training/generator.safetensors")
        points = [_point(folder, plan, n_samples) for n_samples in plan["sizes"]]
    return {
        "points": points,
        "slopes": {
            measured: [_slope(*pair, measured) for pair in pairwise(points)]
            for measured in ("seconds", "core_seconds", "largest_process_mb", "all_processes_mb", "disk_mb")
        },
        "shard_size": plan["shard_size"],
        "device": device(),
    }


def _point(folder: Path, plan: dict, n_samples: int) -> dict:
    results = folder / "results" / "scale"
    for stage in STAGES:
        shutil.rmtree(results / stage, ignore_errors=True)
    start = time.perf_counter()
    used = _run(folder, plan, n_samples, *plan["targets"])
    seconds = time.perf_counter() - start
    files = [path for stage in STAGES for path in (results / stage).rglob("*") if path.is_file()]
    return {
        "samples": n_samples,
        "distinct": _rows(results / "sampling" / "samples"),
        "screened": _rows(results / "screening" / "screened"),
        "selected": pq.read_metadata(results / "screening" / "selected.parquet").num_rows,
        "seconds": round(seconds, 1),
        "core_seconds": round(used["core_seconds"], 1),
        "largest_process_mb": round(used["largest"] / 1e6),
        "all_processes_mb": round(used["together"] / 1e6),
        "disk_mb": round(sum(path.stat().st_size for path in files) / 1e6, 2),
    }


def _run(folder: Path, plan: dict, n_samples: int, *targets: str) -> dict[str, float]:
    """Run Snakemake to its end; seconds of cores, and bytes of the largest process and of all, each at its peak."""
    overlay = {
        "campaign": "scale",
        "database": {
            "sources": [
                {"name": "embedded", "kind": "table", "path": "formulas.csv", "columns": {"formula": "formula"}},
            ],
        },
        "training": {"settings": plan["training"]},
        "sampling": {"n_samples": n_samples, "shard_size": plan["shard_size"]},
    }
    Path(folder, "scale.yaml").write_text(yaml.safe_dump(overlay))
    options = ["--cores", str(CORES), "--configfile", "scale.yaml", "--snakefile", ROOT / "Snakefile"]
    command = [sys.executable, "-m", "snakemake", *options, "--", *targets]
    with open(folder / "said.txt", "w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", METER, "used.json", *command],
            cwd=folder,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        together = _watch(process)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"snakemake ended with {process.returncode}:\n{said.read()[-4000:]}")
    return {**json.loads(Path(folder, "used.json").read_text()), "together": together}


def _watch(process: subprocess.Popen) -> int:
    """Wait for a process; the peak of the resident memory of it and its descendants together, in bytes."""
    peak, first = 0, psutil.Process(process.pid)
    while process.poll() is None:
        memory = 0
        for each in [first, *first.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                memory += each.memory_info().rss
        peak = max(peak, memory)
        time.sleep(POLL_S)
    return peak


def _rows(parts: Path) -> int:
    return sum(pq.read_metadata(path).num_rows for path in parts.glob("part-*.parquet"))


def _slope(one: dict, other: dict, measured: str) -> float:
    """Exponent of the growth between two points: 0 is constant, 1 in proportion to the samples."""
    return round(math.log(other[measured] / one[measured]) / math.log(other["samples"] / one["samples"]), 3)
