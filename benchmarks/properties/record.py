"""What a task found, kept as JSON beside how, when and with what it was found."""

import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

from pipeline import tables

PACKAGES = ("torch", "lightgbm", "scikit-learn", "matminer", "smact")


def write(work: Path, task: str, found: dict, seconds: float, command: str, inputs: dict[str, str]) -> None:
    """Write ``TASK.json``.

    Args:
        work: Folder of all tasks.
        task: Its name.
        found: What the page tells.
        seconds: That it took.
        command: That repeats it.
        inputs: SHA-256 of the tables that were read, by name.
    """
    versions = {name: version(name) for name in PACKAGES}
    how = {
        "task": task,
        "command": command,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": round(seconds),
        "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
        "versions": versions,
        "inputs": inputs,
    }
    tables.write_json(work / f"{task}.json", {**how, "found": found})


def read(work: Path) -> dict[str, dict]:
    """All records of a folder, by task."""
    return {record["task"]: record for record in map(tables.read_json, sorted(work.glob("*.json")))}
