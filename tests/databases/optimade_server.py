"""A real OPTIMADE server: that of optimade-python-tools, in a process of its own, with structures that a test gives."""

import csv
import gzip
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pipeline.database.crystals import lattice_from_parameters

START_SECONDS = 60
PROPERTIES = ("formation_energy_per_atom", "energy_above_hull", "band_gap")  # served with the prefix _exmpl_


def materials_project(data: Path, n: int) -> list[tuple[dict, dict, dict]]:
    """(OPTIMADE resource, structure as the file has it, line of the table) of entries from all over the data."""
    with gzip.open(data / "mp" / "mp.csv.gz", "rt") as handle:
        targets = {row["material_id"]: row for row in csv.DictReader(handle)}
    with gzip.open(data / "mp" / "mp_structures.jsonl.gz", "rt") as handle:
        lines = itertools.islice(handle, 0, None, len(targets) // n)
        records = [json.loads(line) for line in itertools.islice(lines, n)]
    return [(resource(record, targets[record["id"]]), record, targets[record["id"]]) for record in records]


def resource(record: dict, targets: dict) -> dict:
    """One structure in OPTIMADE's form; absent properties are left out."""
    lattice = lattice_from_parameters(*record["cell"])
    counts = Counter(record["el"])
    divisor = math.gcd(*counts.values())
    elements = sorted(counts)
    return {
        "id": record["id"],
        "type": "structures",
        "attributes": {
            "elements": elements,
            "nelements": len(elements),
            "elements_ratios": [counts[symbol] / len(record["el"]) for symbol in elements],
            "chemical_formula_reduced": "".join(
                symbol + str(counts[symbol] // divisor) * (counts[symbol] > divisor) for symbol in elements
            ),
            "dimension_types": [1, 1, 1],
            "nperiodic_dimensions": 3,
            "nsites": len(record["el"]),
            "lattice_vectors": lattice.tolist(),
            "cartesian_site_positions": (np.array(record["frac"]) @ lattice).tolist(),
            "species_at_sites": record["el"],
            "species": [{"name": name, "chemical_symbols": [name], "concentration": [1.0]} for name in elements],
            "structure_features": [],
            "last_modified": f"{targets['created_at']}T00:00:00Z",
            **{name: float(targets[name]) for name in PROPERTIES if targets[name]},
        },
    }


@contextmanager
def serve(folder: Path, resources: list[dict], **config) -> Iterator[str]:
    """Base URL of a server that holds the resources; ``config`` goes to optimade-python-tools' ``ServerConfig``."""
    with (folder / "structures.jsonl").open("w") as handle:
        for line in ({"x-optimade": {"meta": {"api_version": "1.1.0"}}}, *resources):
            handle.write(json.dumps(line) + "\n")
    settings = {
        "insert_from_jsonl": str(folder / "structures.jsonl"),
        "insert_test_data": False,
        "validate_api_response": False,
        "log_dir": str(folder),
        "page_limit_max": 1000,
        "provider_fields": {
            "structures": [{"name": name, "type": "float", "description": name} for name in PROPERTIES]
        },
        **config,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "optimade.server.main:app", "--port", str(port), "--no-access-log"],
            env={**os.environ, "OPTIMADE_CONFIG_FILE": str(folder / "config.json")},
            cwd=folder,
            stdout=log,
            stderr=log,
        )
    try:
        end = time.monotonic() + START_SECONDS
        while not _answers(base):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError((folder / "server.log").read_text()[-2000:])
            time.sleep(0.1)
        yield base
    finally:
        process.terminate()
        process.wait(timeout=30)


def _answers(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/v1/info", timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False
