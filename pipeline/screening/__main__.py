"""python -m pipeline.screening explain FORMULA: why a formula stands where it stands in a campaign."""

import argparse
import json
import sys
from pathlib import Path

from pipeline.screening.campaign import Campaign
from pipeline.screening.explain import explain
from pipeline.screening.telling import tell
from pipeline.text import visible


def main() -> None:
    """Explain the formula named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.screening", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("explain", help="a formula's scores, terms, cutoffs, rank, nearest known compounds")
    command.add_argument("formula", help="drawn by the campaign or not: LiFeO2, 'Li3Fe2(PO4)3'")
    command.add_argument(
        "--configfile", type=Path, nargs="+", default=[], metavar="FILE", help="as given to snakemake for the campaign"
    )
    command.add_argument("--results", type=Path, metavar="FOLDER", help="of the campaign (results/NAME of its config)")
    command.add_argument("--json", action="store_true", help="facts for machines in place of words")
    arguments = parser.parse_args()
    try:
        found = explain(arguments.formula, Campaign.read(arguments.configfile, arguments.results))
    except (ValueError, OSError) as error:
        sys.exit(f"kimberlite: {visible(' '.join(str(error).split()))}")
    text = json.dumps(found, indent=2, allow_nan=False) + "\n" if arguments.json else tell(found)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
