"""python -m pipeline.export check FOLDER: whether the files of an export are whole and agree with each other."""

import argparse
import sys

from pipeline.export.checks import check_folder


def main() -> None:
    """Check the folder named on the command line; one line for what is wrong, exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.export", description=__doc__)
    parser.add_argument("command", choices=["check"])
    parser.add_argument("folder", help="the export, with its SHA256SUMS")
    folder = parser.parse_args().folder
    try:
        candidates, files = check_folder(folder)
    except (ValueError, OSError) as error:
        sys.exit(f"kimberlite: {' '.join(str(error).split())}")
    print(f"{folder}: {candidates} candidates in {files} files, all whole and of one mind")


if __name__ == "__main__":
    main()
