"""Entry points of the stage's rules: baselines in, figures of each set out, and one page of all."""

import os
from collections.abc import Sequence

import numpy as np
import pyarrow.compute as pc

from pipeline import tables
from pipeline.composition import Compositions
from pipeline.database.schema import ENTRIES
from pipeline.encoding import SPLIT
from pipeline.evaluation.baselines import BASELINES
from pipeline.evaluation.evaluate import FEWEST_DRAWS, Known, evaluate
from pipeline.evaluation.metrics import FormulaSet
from pipeline.evaluation.page import render
from pipeline.evaluation.read import DRAWN, read_drawn


def draw_baseline(
    *,
    entries_path: str | os.PathLike,
    split_path: str | os.PathLike,
    drawn_path: str | os.PathLike,
    baseline: str,
    n_drawn: int,
    seed: int,
    provenance: dict | None = None,
) -> None:
    """Draw as many formulas of a baseline as the generator drew, and write the distinct ones.

    Args:
        entries_path, split_path: What the baseline learns from: entries that are not held out.
        drawn_path: Gets the ``DRAWN`` table.
        baseline: One of ``BASELINES``.
        n_drawn: Draws.
        seed: Campaign seed.
        provenance: Stored in the table.
    """
    known = read_known(entries_path, split_path)
    drawn = FormulaSet.of(BASELINES[baseline](known.training, n_drawn, seed))
    columns = {"n_drawn": drawn.n_drawn.astype(np.int32), **drawn.formulas.columns()}
    tables.write(drawn_path, DRAWN, columns, provenance)


def evaluate_set(
    *,
    drawn_paths: Sequence[str | os.PathLike],
    entries_path: str | os.PathLike,
    split_path: str | os.PathLike,
    figures_path: str | os.PathLike,
    is_baseline: bool,
    seed: int,
) -> None:
    """Write all figures of one set as JSON; see :func:`evaluate_baseline` of what may be null."""
    known = read_known(entries_path, split_path)
    drawn = read_drawn(drawn_paths)
    tables.write_json(figures_path, (evaluate_baseline if is_baseline else evaluate)(drawn, known, seed))


def evaluate_baseline(drawn: FormulaSet, known: Known, seed: int) -> dict | None:
    """All figures of a baseline; None where it says too little: of some databases nothing is ever neutral."""
    return evaluate(drawn, known, seed) if drawn.n_drawn.sum() >= FEWEST_DRAWS else None


def write_page(*, figures_paths: dict[str, str], page_path: str, json_path: str, about: dict) -> None:
    """Gather the figures of all sets in one page and one JSON, the generator first.

    Args:
        figures_paths: Name of each set to what :func:`evaluate_set` wrote of it.
        page_path, json_path: What is written.
        about: What the page says of the campaign: name to text.
    """
    figures = {name: tables.read_json(path) for name, path in figures_paths.items()}
    write_figures(figures, page_path, json_path, about)


def write_figures(figures: dict[str, dict | None], page_path: str, json_path: str, about: dict) -> None:
    """Write the page and the JSON of figures by set; a baseline of None is named and left out."""
    if nothing := [name for name, found in figures.items() if found is None]:
        about = about | {"baselines that can say nothing here": ", ".join(nothing)}
    figures = {name: found for name, found in figures.items() if found is not None}
    tables.write_json(json_path, {"about": about, "sets": figures})
    with tables.atomic(page_path) as temporary:
        temporary.write_text(render(figures, about), encoding="utf-8")


def read_known(entries_path: str | os.PathLike, split_path: str | os.PathLike) -> Known:
    """Training and held-out formulas of 2 to 8 elements, each once.

    Raises:
        ValueError: A table is missing or damaged, or the two are not of one run.
    """
    entries = tables.read(entries_path, ENTRIES, ["id", "elements", "counts"])
    split = tables.read(split_path, SPLIT)
    place = pc.index_in(entries["id"], split["id"].combine_chunks())
    if place.null_count:
        raise ValueError(f"{split_path}: {place.null_count} entries of {entries_path} are absent; rerun encoding")
    held_out, by_system = (split[name].take(place).to_numpy() for name in ("held_out", "held_out_system"))
    known = known_of(Compositions.from_table(entries), held_out, by_system)
    if not len(known.training):
        raise ValueError(
            f"{entries_path}: no formula of 2 to 8 elements is left to compare with; lower encoding.holdout_share"
        )
    return known


def known_of(formulas: Compositions, held_out: np.ndarray, by_system: np.ndarray) -> Known:
    """Training set and hold-outs of formulas that are marked so, bool of shape (N,) each."""
    kinds = {"formula": held_out & ~by_system, "chemical_system": by_system}
    return Known(
        FormulaSet.of(formulas.take(~held_out)).formulas,
        {kind: FormulaSet.of(formulas.take(rows)).formulas for kind, rows in kinds.items()},
    )
