"""python -m pipeline.evaluation FILE: how good a set of generated formulas is, anyone's, beside cheap baselines."""

import argparse
import sys
from pathlib import Path

from pipeline.evaluation.baselines import BASELINES
from pipeline.evaluation.evaluate import Known, evaluate
from pipeline.evaluation.metrics import FormulaSet
from pipeline.evaluation.read import read_set
from pipeline.evaluation.stage import read_known, write_figures
from pipeline.text import visible

SEED = 1


def main() -> None:
    """Evaluate the file named on the command line against a campaign's database."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.evaluation", description=__doc__)
    parser.add_argument("file", type=Path, help="CSV, JSON lines or Parquet; folder, zip or tar of CIFs; extxyz")
    parser.add_argument("--formula", default="formula", metavar="COLUMN", help="of a table (formula)")
    parser.add_argument(
        "--campaign",
        type=Path,
        default=Path("results/default"),
        metavar="FOLDER",
        help="whose database was trained on, after `snakemake encoding` (results/default)",
    )
    parser.add_argument("--baselines", nargs="*", choices=list(BASELINES), default=list(BASELINES), metavar="NAME")
    parser.add_argument("--output", type=Path, help="folder of evaluation.html and .json (beside FILE)")
    arguments = parser.parse_args()
    try:
        run(arguments)
    except (ValueError, OSError) as error:
        sys.exit(f"kimberlite: {visible(' '.join(str(error).split()))}")


def run(arguments: argparse.Namespace) -> None:
    """Read, evaluate, write."""
    file, campaign = arguments.file, arguments.campaign
    drawn, left_out = read_set(file, arguments.formula)
    entries, split = campaign / "database" / "entries.parquet", campaign / "encoding" / "split.parquet"
    if not split.is_file():
        raise ValueError(f"{split}: no such file; run `snakemake --cores 2 encoding` first, or name another campaign")
    known = read_known(entries, split)
    n = int(drawn.n_drawn.sum())
    figures = {file.name: _evaluated(file.name, drawn, known) | {"left_out": left_out}}
    for name in arguments.baselines:
        figures[name] = _evaluated(name, FormulaSet.of(BASELINES[name](known.training, n, SEED)), known)
    folder = arguments.output or file.parent / f"{file.name}.evaluation"
    folder.mkdir(parents=True, exist_ok=True)
    about = {"set": file.name, "compared with": f"the training set of {campaign}", **_words(left_out)}
    page, numbers = folder / "evaluation.html", folder / "evaluation.json"
    write_figures(figures, str(page), str(numbers), about)
    print(f"{page}\n{numbers}")


def _evaluated(name: str, drawn: FormulaSet, known: Known) -> dict:
    print(f"{name}: {int(drawn.n_drawn.sum()):,} draws, {len(drawn):,} distinct formulas", file=sys.stderr)
    return evaluate(drawn, known, SEED)


def _words(left_out: dict) -> dict[str, str]:
    return {
        name.replace("_", " "): f"{value:,}" if isinstance(value, int) else visible(value)
        for name, value in left_out.items()
        if value is not None
    }


if __name__ == "__main__":
    main()
