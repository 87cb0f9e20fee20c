"""All scores of the default models, on random formulas of the embedded database's shapes.

Ours is the stage's own job on parts of a table, likeness, novelty and intervals included, in two processes, as
Snakemake runs it on two cores. The reference calls the same networks and trees on matminer's features, formula by
formula and all in one, for the values alone: its rate is that of matminer.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from benchmarks.compare import summary, timed
from benchmarks.formulas import embedded
from pipeline import tables
from pipeline.composition import COUNTS, ELEMENTS, Compositions
from pipeline.filtering.baseline import element_frequency, matched_random
from pipeline.filtering.schema import FILTERED, Rules
from pipeline.processes import pool
from pipeline.screening import likeness
from pipeline.screening.features import DECIMALS
from pipeline.screening.learners import Inputs
from pipeline.screening.models import BAND_GAP, DECOMPOSITION_ENERGY, FORMATION_ENERGY, PropertyModel
from pipeline.screening.predict import predict_part
from pipeline.screening.schema import PREDICTED

MODELS = {
    FORMATION_ENERGY: "resources/models/formation_energy_oqmd",
    DECOMPOSITION_ENERGY: "resources/models/decomposition_energy_mp",
    BAND_GAP: "resources/models/band_gap_mp",
}
PROCESSES = 2
FOR_REFERENCE = 1000
RULES = Rules("icsd24_medium", include_alloys=False)
TOLERANCE = 2e-4  # scores are rounded to four decimals


def measure(quick: bool) -> dict:
    """One benchmark; ``seconds`` is what all ``formulas`` took."""
    n, parts = (40_000, 2) if quick else (2_000_000, 8)
    known = embedded(100_000)
    shapes = known.take(np.arange(n) % len(known))
    formulas = matched_random(shapes, element_frequency(known), seed=1)
    with tempfile.TemporaryDirectory() as folder:
        tables.write(Path(folder, "entries.parquet"), tables.Table("entries", (ELEMENTS, COUNTS)), known.columns())
        none = np.full(len(known), np.nan)
        likeness.fit(known, none, Path(folder, likeness.LIKENESS), RULES, None, seed=1, threads=1)
        for part, rows in enumerate(np.array_split(np.arange(n), parts)):
            tables.write(Path(folder, f"filtered-{part}.parquet"), FILTERED, _survivors(formulas.take(rows)))
        _predict(folder, 1, warm := Path(folder, "warm.parquet"))  # compiled and read from disk, as after the first job
        warm.unlink()
        start = time.perf_counter()
        with pool(PROCESSES) as submit:
            for job in [submit(_predict, folder, part) for part in range(parts)]:
                job.result()
        seconds = time.perf_counter() - start
        ours = tables.read(Path(folder, "predicted-0.parquet"), PREDICTED)
    few = formulas.take(np.arange(FOR_REFERENCE))
    turns = []
    for _ in range(1 if quick else 3):
        theirs, slow = timed(lambda: _reference(few))
        gaps = [_difference(ours[name].to_numpy()[:FOR_REFERENCE], values) for name, values in theirs.items()]
        wrong = sum(int((gap > TOLERANCE).sum()) for gap in gaps)
        turns.append((n / seconds, FOR_REFERENCE / slow, wrong, max(float(gap.max()) for gap in gaps)))
    return {
        **summary(turns, FOR_REFERENCE),
        "formulas": n,
        "seconds": round(seconds, 1),
        "processes": PROCESSES,
    }


def _predict(folder: str, part: int, path: Path | None = None) -> None:
    predict_part(
        filtered_path=Path(folder, f"filtered-{part}.parquet"),
        predicted_path=path or Path(folder, f"predicted-{part}.parquet"),
        entries_path=Path(folder, "entries.parquet"),
        models={**MODELS, likeness.LIKENESS: Path(folder, likeness.LIKENESS)},
    )


def _survivors(formulas: Compositions) -> dict:
    n = len(formulas)
    states = pa.nulls(n, FILTERED.schema.field("oxidation_states").type)
    return {
        "id": formulas.formulas(),
        "n_drawn": np.ones(n, dtype=np.int32),
        **formulas.columns(),
        "oxidation_states": states,
        "verdict": ["balanced"] * n,
        "smact_valid": np.ones(n, dtype=bool),
        "rejected_by": pa.nulls(n, pa.string()),
    }


def _reference(formulas: Compositions) -> dict[str, np.ndarray]:
    """Scores of the formulas by column of ``PREDICTED``; NaN where a model never saw an element."""
    from matminer.featurizers.composition import ElementProperty
    from pymatgen.core import Composition

    texts = formulas.formulas().to_pylist()
    featurizer = ElementProperty.from_preset("magpie", impute_nan=True)
    features_NF = np.array([np.round(featurizer.featurize(Composition(text)), DECIMALS) for text in texts])
    columns = {}
    for target, folder in MODELS.items():
        estimator = PropertyModel.load(folder, target).estimator
        outside = formulas.rows[~np.isin(formulas.elements, estimator.vocabulary)]
        seen = np.setdiff1d(np.arange(len(formulas)), outside)
        columns[target] = np.full(len(formulas), np.nan)
        rows = Inputs(formulas.take(seen), features_NF[seen])
        columns[target][seen], _ = estimator.predict(rows, torch.get_num_threads())
    return columns


def _difference(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """Absolute differences; infinite where only one of the two has a score."""
    gap = np.where(np.isnan(ours) != np.isnan(theirs), np.inf, np.abs(ours - theirs))
    return np.nan_to_num(gap, nan=0.0, posinf=np.inf)
