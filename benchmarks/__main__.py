"""python -m benchmarks [NAME ...] [--quick]: measure ours beside the reference and print one JSON line for each."""

import argparse
import importlib
import json
import warnings

NAMES = (
    "filter",
    "mixed_valence",
    "features",
    "screening",
    "hull",
    "novelty",
    "parsing",
    "cifs",
    "scale",
    "training",
    "sampling",
)


def main() -> None:
    """Run the benchmarks named on the command line, or all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help="smaller inputs, 40 s at most")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark '{unknown[0]}'; there are {', '.join(NAMES)}")
    warnings.simplefilter("ignore")
    for name in arguments.names or NAMES:
        figures = importlib.import_module(f"benchmarks.{name}").measure(arguments.quick)
        print(json.dumps({"name": name, **figures}), flush=True)


if __name__ == "__main__":
    main()
