"""python -m pipeline.evaluation FILE: how good a set of generated formulas is, anyone's, beside cheap baselines."""

import argparse
import os
import sys
from pathlib import Path

from pipeline.evaluation.baselines import BASELINES
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.metrics import FormulaSet
from pipeline.evaluation.read import KINDS, read_set
from pipeline.evaluation.stage import evaluate_baseline, read_known, write_figures
from pipeline.text import visible

SEED = 1


def main() -> None:
    """Evaluate the file named on the command line against a campaign's database."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluation", description=__doc__)
    parser.add_argument("file", type=Path, help=KINDS)
    parser.add_argument("--formula", default="formula", metavar="COLUMN", help="of a table (formula)")
    parser.add_argument(
        "--campaign",
        type=Path,
        default=Path("results/default"),
        metavar="FOLDER",
        help="whose database was trained on, after `snakemake encoding` (results/default)",
    )
    parser.add_argument(
        "--baselines",
        type=_baselines,
        default=list(BASELINES),
        metavar="NAMES",
        help=f"some of {','.join(BASELINES)} with commas between, or none (all)",
    )
    parser.add_argument("--output", type=Path, help="folder of evaluation.html and .json (beside the file)")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"kimberlite: {visible(' '.join(str(error).split()))}")


def run(arguments: argparse.Namespace) -> None:
    """Read, evaluate, write."""
    file, campaign = arguments.file, arguments.campaign
    place = Path(os.path.abspath(file))  # "." has no name
    title = visible(place.name)
    entries, split = campaign / "database" / "entries.parquet", campaign / "encoding" / "split.parquet"
    for needed in (entries, split):
        if not needed.is_file():
            raise ValueError(
                f"{needed}: no such file; run `snakemake --cores 2 encoding` first, or name another --campaign"
            )
    drawn, left_out = read_set(file, arguments.formula)
    known = read_known(entries, split)
    n = int(drawn.n_drawn.sum())
    try:
        _tell(title, drawn)
        figures = {"generated": evaluate(drawn, known, SEED) | {"left_out": left_out}}
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    for name in arguments.baselines:
        drawn = FormulaSet.of(BASELINES[name](known.training, n, SEED))
        _tell(name, drawn)
        figures[name] = evaluate_baseline(drawn, known, SEED)
    folder = arguments.output or place.with_name(f"{place.name}.evaluation")
    folder.mkdir(parents=True, exist_ok=True)
    about = {"set": title, "compared with": f"the training set of {visible(str(campaign))}", **_words(left_out)}
    page, numbers = folder / "evaluation.html", folder / "evaluation.json"
    write_figures(figures, str(page), str(numbers), about)
    print(f"{visible(str(page))}\n{visible(str(numbers))}")


def _baselines(names: str) -> list[str]:
    """The baselines named on the command line."""
    chosen = [] if names == "none" else names.split(",")
    if unknown := [name for name in chosen if name not in BASELINES]:
        raise argparse.ArgumentTypeError(f"no baseline {unknown[0]!r}; write some of {','.join(BASELINES)}, or none")
    return chosen


def _tell(name: str, drawn: FormulaSet) -> None:
    print(f"{name}: {int(drawn.n_drawn.sum()):,} draws, {len(drawn):,} distinct formulas", file=sys.stderr)


def _words(left_out: dict) -> dict[str, str]:
    return {
        name.replace("_", " "): f"{value:,}" if isinstance(value, int) else visible(value)
        for name, value in left_out.items()
        if value is not None
    }


if __name__ == "__main__":
    main()
