"""python -m benchmarks.structures.library --data FOLDER: the template library of the whole Materials Project."""

import argparse
import json
import time
from pathlib import Path

from benchmarks.structures.known import WORK, database_rows
from pipeline import tables
from pipeline.structures.assign import Library
from pipeline.structures.template_schema import TEMPLATES, TemplateSettings
from pipeline.structures.templates import ROWS, build_templates


def library_of(data: Path, work: Path, processes: int) -> Path:
    """The template library of the whole Materials Project and AFLOW; made once."""
    path = work / "templates.parquet"
    if not path.exists():
        rows = database_rows(data, work)
        build_templates(rows_paths=[rows], output_path=path, settings=TemplateSettings(), processes=processes)
    return path


def main() -> None:
    """Build the library anew and print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.structures.library", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that holds mp/")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of what is made once (default: %(default)s)")
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    rows = database_rows(arguments.data, arguments.work)
    (arguments.work / "templates.parquet").unlink(missing_ok=True)
    begin = time.perf_counter()
    path = library_of(arguments.data, arguments.work, arguments.processes)
    built = time.perf_counter()
    Library(path)
    loaded = time.perf_counter()
    table = tables.read(path, TEMPLATES, ["prototype", "source"])
    told = {
        "structures": len(tables.read(rows, ROWS, ["id"])),
        "templates": len(table),
        "prototypes": len(table["prototype"].unique()),
        "processes": arguments.processes,
        "build_s": round(built - begin),
        "load_s": round(loaded - built, 1),
        "megabytes": round(path.stat().st_size / 1e6),
    }
    print(json.dumps({"name": "library", **told}))


if __name__ == "__main__":
    main()
