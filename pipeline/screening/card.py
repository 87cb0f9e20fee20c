"""The model card: what a property model was trained on, how, and how it does on formulas that it never saw."""

from pipeline.screening.labelled import MIN_FORMULAS_OF_ELEMENT
from pipeline.screening.models import KNOWN_FILE, PARITY_ROWS, learner, unit

_ANALOGUES = f"""
Learners that take features also see known compounds of the training set that differ from the formula by one element
(Glawe et al. 2016, doi:10.1088/1367-2630/18/9/093011), and their values: `{KNOWN_FILE}`.
"""


def card(description: dict, data: str) -> str:
    """The card as Markdown.

    Args:
        description: Of the model, as in `model.json`.
        data: A paragraph on the data.
    """
    rows, split = description["rows"], description["split"]
    methods = "\n\n".join(
        f"**{name}** ({_settings(given)}). {learner(name).METHOD}" for name, given in description["training"].items()
    )
    gap = (
        "A classifier of values above 0 stands before a regressor of those alone.\n"
        if description["learners"]["classifier"]
        else ""
    )
    measures = [
        (name, f"{value}" if isinstance(value, int) else f"{value:.4f}")
        for name, value in description["metrics"].items()
    ]
    kinds = [
        (each["group"], each["rows"], f"{each['mae']:.4f}", f"{each['coverage']:.3f}")
        for each in description["by_group"]
    ]
    far = [
        (f"{each['from']:.2f} to {each['to']:.2f}", each["rows"], f"{each['mae']:.4f}", f"{each['coverage']:.3f}")
        for each in description["by_distance"]
    ]
    return f"""# {description["target"]}: {" and ".join(description["training"])}

## Data
{data}

## Model
The mean of its learners. {gap}
{methods}
{_ANALOGUES if description["analogues"] else ""}
## Split
By {split["by"]}, seed {description["seed"]}: {rows["train"]} formulas to train, {rows["validation"]} to stop training
and calibrate the intervals, {rows["test"]} for the test below. Formulas of elements that fewer than
{MIN_FORMULAS_OF_ELEMENT} formulas have are left out. The model knows {len(description["elements"])} elements;
formulas with others get no score.

## Test set
Errors in {unit(description["target"])}. The interval is that of 90 %; of formulas unlike those of training it covers
less.

{_table(("measure", "value"), measures)}

{_table(("kind of formula", "rows", "MAE", "interval coverage"), kinds)}

Distance from the training formulas, 1 for the median of these:

{_table(("distance", "rows", "MAE", "interval coverage"), far)}

## Files
Weights, `model.json` (elements, learners, split, metrics, versions, seed) and `parity.parquet` (target, prediction and
uncertainty of up to {PARITY_ROWS} test formulas).
"""


def _settings(given: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in given.items())


def _table(head: tuple, rows: list[tuple]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
