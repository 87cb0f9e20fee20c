"""The sections of the page, one for each task: Markdown from what the task found."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.properties import pictures
from benchmarks.properties.folds import summary

_RECALLS = (1, 2, 5, 10, 25, 50, 75, 90)


def hidden(found: dict, picture: Path) -> str:
    held, pools = found["held_out"], found["pools"]
    sizes = [
        (
            kind,
            f"{pool['candidates']:,}",
            pool["stable"],
            pool["unstable"],
            pool["stable_also_drawn"],
            pool["unscored"],
        )
        for kind, pool in pools.items()
    ]
    tables = "\n".join(_top(kind, pool) for kind, pool in pools.items())
    stable, unstable = held["stable"], held["unstable"]
    every, n_held, left = found["training_formulas"] + held["formulas"], held["formulas"], found["labelled"]
    wanted, far = (f"{each['formulas']:,}" for each in (stable, unstable))
    passed = f"{stable['pass_the_filter']:,} and {unstable['pass_the_filter']:,}"
    return f"""## Does it find materials?

A campaign on {every:,} formulas of the Materials Project holds {n_held:,} out, among them whole chemical systems.
Nothing that ranks has seen these: not the generator, not likeness, not the models, nor the energies above the hull that
they learn from, which are measured anew from the {left:,} compounds that are left. {wanted} of them lie on the hull of
the whole database and are what is looked for; {far} lie more than 0.1 eV/atom above it
({held["without_energy"]:,} have no energy). The campaign's filter, charge neutrality and electronegativity balance
without alloys, passes {passed} of them; only these can be found. They are put among formulas that pass the same filter
and are not in the training set:

- **random**: counts of known compounds, elements drawn in proportion to their frequency;
- **enumeration**: elements and counts drawn evenly;
- **generator**: what the campaign's generator drew, of {found["drawn"]:,} draws {found["samples"]:,} distinct formulas,
  {found["survivors"]:,} of which pass.

The campaign is `snakemake filtering --configfile config/mp.yaml --config 'sampling={{n_samples: {found["drawn"]}}}'`.

{markdown(("among", "candidates", "stable hidden", "unstable hidden", "stable ones also drawn", "no score"), sizes)}
*Enrichment* is what the first rows hold over what a random order would; in brackets the number found. Every other
formula counts as a miss, though some of them may well be stable and unknown. *Best possible*: nothing else in the first
rows.

{tables}
![Share of the hidden stable compounds found]({picture.name})
"""


def _top(kind: str, pool: dict) -> str:
    rows = [
        (name, *(f"{row['enrichment']:,.0f} ({row['found']:,})" for row in ranking["stable"]), ranking["unstable"][1])
        for name, ranking in pool["rankings"].items()
    ]
    any_ranking = next(iter(pool["rankings"].values()))["stable"]
    rows.append(("best possible", *(f"{row['most']:,.0f}" for row in any_ranking), ""))
    head = ("ranked by", *(f"top {row['top']:,}" for row in any_ranking), "unstable ones in the top 1,000")
    return f"**{kind}**\n\n{markdown(head, rows)}"


def stability(found: dict) -> str:
    rows = [
        (name, f"{each['roc_auc']:.3f}", f"{each['average_precision']:.3f}")
        for name, each in found["stability"].items()
    ]
    held = found["held_out"]
    share = held["stable"]["pass_the_filter"] / (
        held["stable"]["pass_the_filter"] + held["unstable"]["pass_the_filter"]
    )
    return f"""### Stable against unstable

To tell compounds from random formulas is not to tell stable ones from unstable ones. Among the hidden compounds alone,
of which {share:.2f} are stable (the average precision of a random order):

{markdown(("ranked by", "ROC-AUC", "average precision"), rows)}"""


def decomposition(found: dict, picture: Path) -> str:
    learners = [
        (
            row["name"],
            figure(row["mae"]),
            figure(row["r2"]),
            f"{row['stable_roc_auc']:.3f}",
            f"{row['stable_average_precision']:.3f}",
            row.get("seconds", ""),
        )
        for row in found["learners"]
    ]
    rankings = [
        (name, *(f"{each['precision'][recall - 1]:.2f}" for recall in _RECALLS), f"{each['stable_roc_auc']:.3f}")
        for name, each in found["rankings"].items()
    ]
    rows, error = found["rows"], found["formation_energy"]
    return f"""## Decomposition energy

The distance to the hull of all other compounds, negative for stable ones (Bartel et al. 2020,
doi:10.1038/s41524-020-00362-y), learnt directly. Split by reduced formula: {rows["train"]:,} formulas to train,
{rows["validation"]:,} to stop and calibrate, {rows["test"]:,} to test. A model that always says the mean errs by
{found["mean_predictor_mae"]:.4f} eV/atom.

{markdown(("learner", "MAE, eV/atom", "R2", "ROC-AUC of stable", "average precision", "seconds"), learners)}
**Precision at recall**: of the first formulas that hold this share of the stable ones, how many are stable. In a random
order {found["stable_share"]:.2f}. Formation energies, even the true ones, rank worse: a model of them with an MAE of
{error["mae"]:.4f} eV/atom says little of stability.

{markdown(("ranked by", *(f"{recall} %" for recall in _RECALLS), "ROC-AUC"), rankings)}
![Precision at each recall]({picture.name})
"""


def calibration(found: dict, parity: Path, coverage: Path) -> str:
    names = {"oqmd": "formation energy (OQMD)", "decomposition": "decomposition energy (MP)"}
    models = {names[task]: of_task for task, of_task in found.items()}
    reliability = found.get("decomposition", {}).get("reliability", {})
    pictures.parity(parity, {name: model["parity"] for name, model in models.items()})
    pictures.calibration(coverage, models, reliability)
    groups = list(dict.fromkeys(row["group"] for model in models.values() for row in model["by_group"]))
    by_group = [(group, *(cell for model in models.values() for cell in _cells(model, group))) for group in groups]
    head = [cell for name in models for cell in (f"{name}: coverage", "MAE, eV/atom", "rows")]
    whole = ("all", *(cell for model in models.values() for cell in _of(model)))
    far = [
        (
            place + 1,
            *(
                cell
                for model in models.values()
                for row in model["by_distance"][place : place + 1]
                for cell in (f"{row['from']:.2f} to {row['to']:.2f}", f"{row['coverage']:.3f}", figure(row["mae"]))
            ),
        )
        for place in range(10)
    ]
    far_head = [cell for name in models for cell in (f"{name}: distance", "coverage", "MAE, eV/atom")]
    return f"""## How sure the models are

![True and predicted values of the test sets]({parity.name})

Every prediction has a 90 % interval. Nine in ten true values should lie in theirs, of every kind of formulas:

{markdown(("kind", *head), [whole, *by_group])}
The distance from training is that to the nearest cluster of training formulas, 1 for the median of these. The more a
formula is unlike them, the larger the error; the intervals grow with it:

{markdown(("tenth", *far_head), far)}
![Coverage and reliability]({coverage.name})
{_reliability(reliability)}"""


def _cells(model: dict, group: str) -> tuple:
    row = next((row for row in model["by_group"] if row["group"] == group), None)
    return _of(row) if row else ("", "", "")


def _of(row: dict) -> tuple:
    return f"{row['coverage']:.3f}", figure(row["mae"]), f"{row['rows']:,}"


def _reliability(found: Mapping[str, dict]) -> str:
    tables = []
    for cutoff, each in found.items():
        rows = [
            (
                f"{row['from']:.1f} to {row['to']:.1f}",
                f"{row['rows']:,}",
                f"{row['said']:.3f}",
                f"{row['happened']:.3f}",
            )
            for row in each["bins"]
        ]
        tables.append(
            f"""
The probability that the decomposition energy is at most {cutoff} eV/atom, and what came true. Mean gap between the two
{each["expected_calibration_error"]:.3f}; mean squared error {each["brier"]:.3f}, of the mean share alone
{each["brier_of_mean_share"]:.3f}.

{markdown(("probability", "formulas", "said", "came true"), rows)}"""
        )
    return "".join(tables)


def oqmd(found: dict) -> str:
    learners = [
        (row["name"], figure(row["mae"]), figure(row["rmse"]), figure(row["r2"]), row.get("seconds", ""))
        for row in found["learners"]
    ]
    rows, shipped = found["rows"], found["shipped"]
    learners.append(
        (
            f"shipped model ({' and '.join(shipped['learners'])}), from its card",
            *(figure(shipped[key]) for key in ("mae", "rmse", "r2")),
            "",
        )
    )
    return f"""## Formation energy, OQMD

Split by reduced formula: {rows["train"]:,} formulas to train, {rows["validation"]:,} to stop and calibrate,
{rows["test"]:,} to test, the test set of the shipped model. A model that always says the mean errs by
{found["mean_predictor_mae"]:.4f} eV/atom.

{markdown(("learner", "MAE, eV/atom", "RMSE, eV/atom", "R2", "seconds"), learners)}"""


def learning(picture: Path) -> str:
    return f"""## How errors fall with more data

![Test error by training formulas]({picture.name})

The same test set each time; training formulas drawn at random, analogues looked up among them alone.
"""


def matbench(found: Mapping[str, dict]) -> str:
    sections = []
    for task, each in found.items():
        learners = summary(each["learners"])
        measures = list(next(iter(learners.values())))[1:]
        rows = [
            (_named(name, each), row["folds"], *(_over_folds(*row[key], row["folds"]) for key in measures))
            for name, row in learners.items()
        ]
        words = {
            "mae": "MAE",
            "rmse": "RMSE",
            "r2": "R2",
            "roc_auc": "ROC-AUC",
            "roc_auc_of_labels": "ROC-AUC of labels",
        }
        sections.append(
            f"""### {task}

{each["rows"]:,} rows of {each["formulas"]:,} formulas;
{each["test_rows_whose_formula_is_in_training"]:.0%} of the test rows have a row of their own formula in training.

{markdown(("learner and what it sees", "folds", *(words[key] for key in measures)), rows)}"""
        )
    return _MATBENCH + "\n".join(sections)


_MATBENCH = """## Matbench

The official folds of Matbench v0.1 (Dunn et al. 2020, doi:10.1038/s41524-020-00406-3), mean and standard deviation over
folds; a tenth of each training fold stops training. These folds are not grouped by formula, so nothing trained here is
shipped, and nothing of it serves the search for materials. What learners see beside Magpie features:

- *analogues*: compounds of the training fold one element away, and their values;
- *same formula*: number, mean, lowest, highest and median target of other training rows of the same formula;
- *computed gaps*: the same two of Matbench's table of computed (PBE) gaps, and what a model trained on that table
  says. These are further data, which an entry that learns from the task's own table alone does not have; no
  experimental value of a test row enters;
- *metals first*: a classifier says which rows are metals, and a regressor learns from the others.

"""


def _over_folds(mean: float, deviation: float, n_folds: int) -> str:
    return f"{mean:.4f}" if n_folds == 1 else f"{mean:.4f} ± {deviation:.4f}"


def _named(name: str, found: dict) -> str:
    if name == "joined":
        return f"mean of {len(found['joined'])}: {'; '.join(found['joined'])}"
    repeats = next((each["repeats"] for each in found["variants"] if each["name"] == name), 1)
    return name if repeats == 1 else f"{name} ({repeats} trainings)"


def figure(value: float) -> str:
    """Four decimals, or three figures of what is above 10."""
    return f"{value:.4f}" if abs(value) < 10 else f"{value:,.0f}"


def markdown(head: Sequence, rows: Sequence[Sequence]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
