"""python -m benchmarks.structures --data FOLDER --export FOLDER: measure all, and write docs/structures.md.

What was measured stays in the folder of ``--work`` as ``NAME.jsonl``; delete a file to measure it again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.structures.known import WORK
from benchmarks.structures.page import page
from pipeline.provenance import ROOT
from pipeline.tables import atomic

PAGE = ROOT / "docs" / "structures.md"


def commands(data: Path, work: Path, export: Path, processes: int) -> dict[str, list[str]]:
    """Arguments of each measurement, by its name; the library first, since others read it."""
    where = ["--data", str(data), "--work", str(work)]
    return {
        "library": [*where, "--processes", str(processes)],
        "assignment": [*where, "--processes", str(processes)],
        "rates": [*where, "--processes", "1", str(processes)],
        "robustness": [*where, "--processes", str(processes)],
        "dft": [str(export)],
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structures", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds mp/")
    parser.add_argument("--export", type=Path, required=True, help="hand-over folder whose POSCARs a DFT code reads")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what is kept (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    measured = {}
    for name, options in commands(arguments.data, arguments.work, arguments.export, arguments.processes).items():
        path = arguments.work / f"{name}.jsonl"
        if not path.exists():
            print(name, file=sys.stderr)
            command = [sys.executable, "-m", f"benchmarks.structures.{name}", *options]
            said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            path.write_text(said)
        # CHGNet prints of itself among the lines.
        measured[name] = [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
    with atomic(PAGE) as temporary:
        temporary.write_text(page(measured))


if __name__ == "__main__":
    main()
