"""python -m benchmarks.structures.dft EXPORT_FOLDER [--n 5]: a real DFT code reads exported POSCARs and runs an SCF.

GPAW as Debian packages it (apt-get install gpaw gpaw-data), with the Python that its command names. The best-ranked
candidates of few atoms whose elements have setups, one after another; one JSON line each.
"""

import argparse
import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

SCRIPT = Path(__file__).with_name("gpaw_scf.py")
MAX_ATOMS = 12
LIMIT_S = 300


def interpreter() -> list[str] | None:
    """The command of the Python that GPAW is installed for, by the first line of `gpaw`; None without GPAW."""
    command = shutil.which("gpaw")
    if command is None:
        return None
    with open(command, "rb") as handle:
        line = handle.readline().decode(errors="replace")
    return shlex.split(line[2:]) if line.startswith("#!") else None


def setups(python: Sequence[str]) -> frozenset[str]:
    """Symbols of the elements that GPAW can compute."""
    return frozenset(json.loads(_run(python, "setups", LIMIT_S)))


def chosen(export: Path, known: frozenset[str], n: int, max_atoms: int = MAX_ATOMS) -> list[dict]:
    """Lines of the manifest, best rank first: one a formula, of few atoms, with setups for all elements.

    Only POSCAR and manifest.csv are read, as a DFT colleague would.
    """
    with open(export / "manifest.csv", encoding="utf-8", newline="") as file:
        lines = sorted(csv.DictReader(file), key=lambda line: int(line["rank"]))
    taken: dict[str, dict] = {}
    for line in lines:
        rows = (export / line["file"]).read_text().splitlines()
        fits = set(rows[5].split()) <= known and sum(map(int, rows[6].split())) <= max_atoms
        if fits and len(taken) < n:
            taken.setdefault(line["formula"], line)
    return list(taken.values())


def calculations(export: Path, lines: Sequence[dict], python: Sequence[str], limit_s: float) -> Iterator[dict]:
    """An SCF of each line's POSCAR: energy of the cell in eV, iterations, seconds, and whether it converged."""
    for line in lines:
        begin = time.perf_counter()
        try:
            told = json.loads(_run(python, str(export / line["file"]), limit_s))
        except subprocess.TimeoutExpired:
            told = {"formula": line["formula"], "converged": False, "error": f"no end within {limit_s:g} s"}
        except subprocess.CalledProcessError as failed:
            reason = (failed.stderr.strip().splitlines() or ["no message"])[-1]
            told = {"formula": line["formula"], "converged": False, "error": reason}
        yield {"id": line["id"], **told, "seconds": round(time.perf_counter() - begin, 1)}


def _run(python: Sequence[str], argument: str, limit_s: float) -> str:
    """What the script says last; on one thread, without this project's packages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    command = [*python, str(SCRIPT), argument]
    done = subprocess.run(
        command, env={**kept, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=limit_s, check=True
    )
    return done.stdout.strip().splitlines()[-1]


def main() -> None:
    """Run the SCFs; exit status 1 where one did not converge or there were fewer candidates than asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structures.dft", description=__doc__)
    parser.add_argument("export", type=Path, metavar="EXPORT_FOLDER", help="as the export stage makes it")
    parser.add_argument("--n", type=int, default=5, help="candidates (default: %(default)s)")
    parser.add_argument("--max-atoms", type=int, default=MAX_ATOMS, help="larger cells are passed over (%(default)s)")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds for each (%(default)s)")
    arguments = parser.parse_args()
    python = interpreter()
    if python is None:
        sys.exit("kimberlite: no command 'gpaw'; on Debian: apt-get install gpaw gpaw-data")
    lines = chosen(arguments.export, setups(python), arguments.n, arguments.max_atoms)
    done = []
    for told in calculations(arguments.export, lines, python, arguments.limit):
        print(json.dumps(told), flush=True)
        done.append(told["converged"])
    if sum(done) < arguments.n:
        sys.exit(f"kimberlite: {sum(done)} of {len(lines)} candidates converged, {arguments.n} were asked for")


if __name__ == "__main__":
    main()
