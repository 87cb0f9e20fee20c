"""Scored candidates made by hand."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline import tables
from pipeline.composition import Compositions
from pipeline.database.schema import ENTRIES
from pipeline.screening.schema import PREDICTED

UNIFORM = np.linspace(-1, 1, 201).tolist()
"""Residual quantiles of a model that errs by at most its half-width, evenly."""
SCORES = {
    "formation_energy_ev_per_atom": -2.0,
    "formation_energy_uncertainty_ev_per_atom": 0.1,
    "decomposition_energy_ev_per_atom": 0.0,
    "decomposition_energy_uncertainty_ev_per_atom": 0.1,
    "probability_nonmetal": 1.0,
    "band_gap_ev": 2.0,
    "band_gap_uncertainty_ev": 0.5,
    "experimental_band_gap_ev": None,
    "experimental_band_gap_uncertainty_ev": None,
    "likeness": 0.5,
    "distance_from_training": 1.0,
    "nearest_known_distance": 1.0,
    "is_known": False,
    "unscored_because": None,
}


def predicted(formulas: Sequence[str], **scores) -> pa.Table:
    """Rows of ``PREDICTED``; a score is a value for all or one for each, ``SCORES`` where none is given."""
    n, compositions = len(formulas), Compositions.from_formulas(formulas)
    data = {"id": compositions.formulas(), "n_drawn": [1] * n, **compositions.columns(), "verdict": ["balanced"] * n}
    data |= {name: [value] * n for name, value in SCORES.items()}
    data |= {
        name: value if isinstance(value, list | np.ndarray | pa.Array) else [value] * n
        for name, value in scores.items()
    }
    data |= {"oxidation_states": [None] * n}
    types = {field.name: field.type for field in PREDICTED.fields}
    return pa.table(
        {name: data[name] if isinstance(data[name], pa.Array) else pa.array(data[name], types[name]) for name in types}
    )


def write_entries(path: Path, formulas: Sequence[str], **columns) -> Path:
    """A database of these formulas, ids ``e0``, ``e1``, ..."""
    compositions = Compositions.from_formulas(formulas)
    n = len(formulas)
    data = {field.name: pa.nulls(n, field.type) for field in ENTRIES.fields}
    data |= {"id": [f"e{row}" for row in range(n)], "source": ["x"] * n, "formula": compositions.formulas()}
    tables.write(path, ENTRIES, data | compositions.columns() | columns)
    return path
