"""What a property model's folder holds: weights, `model.json`, `parity.parquet` and `README.md`; split and metrics.

Suffixes: N formulas.
"""

import importlib.metadata
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline import tables
from pipeline.composition import ATOMIC_NUMBERS, Compositions
from pipeline.provenance import derived_seed, file_digest

FORMATION_ENERGY = "formation_energy_ev_per_atom"
BAND_GAP = "band_gap_ev"
DESCRIPTION_FILE, PARITY_FILE, CARD_FILE = "model.json", "parity.parquet", "README.md"
WEIGHTS = (".safetensors", ".gz")
MIN_FORMULAS_OF_ELEMENT = 10
PARITY_ROWS = 3000
TRAIN, VALIDATION, TEST = 0, 1, 2

PARITY = tables.Table(
    "parity",
    (
        tables.column("model", pa.string(), "target that the model predicts"),
        tables.column("id", pa.string(), "id of a test row in the training source"),
        tables.column("target", pa.float64(), "value in the source, unit of the target's name"),
        tables.column("prediction", pa.float64(), "value predicted, same unit"),
        tables.column("uncertainty", pa.float64(), "half-width of the 90 % interval, same unit"),
    ),
)


@dataclass(frozen=True)
class Labelled:
    """Compositions with one label each.

    Attributes:
        ids: Ids in the source, shape (N,).
        compositions: N distinct reduced compositions.
        values: Labels, float64 of shape (N,).
    """

    ids: np.ndarray
    compositions: Compositions
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> "Labelled":
        """The rows at positions or of a boolean mask."""
        return Labelled(self.ids[rows], self.compositions.take(rows), self.values[rows])

    def lowest_energy(self, energies: np.ndarray) -> "Labelled":
        """One row a formula: that of lowest energy (a known one before none), then the first."""
        order = np.argsort(energies, kind="stable")  # NaN sorts last
        first, _ = self.compositions.take(order).unique()
        return self.take(np.sort(order[first]))

    def without_rare_elements(self) -> "Labelled":
        """Without formulas of elements that fewer than ten formulas have: nothing can be learnt of those."""
        frequency = np.bincount(self.compositions.elements, minlength=256)
        rare = (frequency < MIN_FORMULAS_OF_ELEMENT)[self.compositions.elements]
        kept = np.ones(len(self), dtype=bool)
        kept[self.compositions.rows[rare]] = False
        return self.take(kept)


def three_way_split(compositions: Compositions, validation: float, test: float, seed: int) -> np.ndarray:
    """Assign each composition to training (0), validation (1) or test (2) by a hash of its reduced formula.

    Polymorphs and multiples of one formula fall together, and a formula keeps its place when rows are added.

    Args:
        compositions: N compositions.
        validation, test: Shares of the two.
        seed: Another seed is another split.

    Returns:
        uint8 of shape (N,).
    """
    with np.errstate(over="ignore"):
        mixed = (compositions.reduced().hashes() ^ np.uint64(derived_seed(seed, "split"))) * np.uint64(
            0x9E3779B97F4A7C15
        )
    uniform = (mixed >> np.uint64(11)) / float(1 << 53)
    return np.where(uniform < test, TEST, np.where(uniform < test + validation, VALIDATION, TRAIN)).astype(np.uint8)


def regression_metrics(
    target: np.ndarray,
    prediction: np.ndarray,
    uncertainty: np.ndarray,
    train_mean: float,
) -> dict:
    """Errors on a test set beside those of a model that always says the training mean; coverage of the intervals."""
    error = np.abs(prediction - target)
    return {
        "rows": len(target),
        "mae": float(error.mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": float(1 - (error**2).sum() / max(((target - target.mean()) ** 2).sum(), 1e-300)),
        "mean_predictor_mae": float(np.abs(target - train_mean).mean()),
        "interval_coverage": float((error <= uncertainty).mean()),
        "mean_interval_half_width": float(uncertainty.mean()),
    }


def by_n_elements(test: Labelled, prediction: np.ndarray, uncertainty: np.ndarray) -> list[dict]:
    """The same error and coverage apart for formulas of one, two, three... elements: a mean hides its poorest group."""
    error, sizes = np.abs(prediction - test.values), test.compositions.n_elements
    groups = ((int(size), error[sizes == size], uncertainty[sizes == size]) for size in np.unique(sizes))
    return [
        {"n_elements": size, "rows": len(wrong), "mae": float(wrong.mean()), "coverage": float((wrong <= width).mean())}
        for size, wrong, width in groups
    ]


def versions() -> dict[str, str]:
    """Versions of the libraries that make the weights."""
    return {name: importlib.metadata.version(name) for name in ("numpy", "torch", "lightgbm", "matminer")}


def write_parity(
    folder: Path,
    target: str,
    test: Labelled,
    prediction,
    uncertainty,
    provenance: dict | None,
) -> None:
    """Write target, prediction and uncertainty of at most ``PARITY_ROWS`` test rows, evenly taken."""
    rows = np.unique(np.linspace(0, len(test) - 1, min(len(test), PARITY_ROWS)).astype(int)) if len(test) else []
    data = {
        "model": [target] * len(rows),
        "id": [str(test.ids[row]) for row in rows],
        "target": test.values[rows],
        "prediction": np.round(prediction[rows], 4),
        "uncertainty": np.round(uncertainty[rows], 4),
    }
    tables.write(folder / PARITY_FILE, PARITY, data, provenance)


def read_description(folder: str | Path, target: str) -> dict:
    """Read `model.json` of a folder and hold it to the target it is asked for.

    Raises:
        ValueError: The folder holds no model, one of another property, a description that no model has, or other
            weights than those described.
    """
    path = Path(folder) / DESCRIPTION_FILE
    if not path.is_file():
        raise ValueError(f"{folder}: no property model here ({DESCRIPTION_FILE} is missing); train one or name another")
    description = tables.read_json(path)
    if not isinstance(description, dict) or description.get("target") != target:
        found = description.get("target") if isinstance(description, dict) else description
        raise ValueError(f"{path}: this model predicts {str(found)[:50]!r}, '{target}' was asked for")
    if fault := _fault(description) or _changed(Path(folder), description):
        raise ValueError(f"{path}: {fault}; restore the folder or train the model anew")
    return description


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the weights in a folder, by name: `model.json` lists them, and so its own hash names them too."""
    files = sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS)
    return {path.name: file_digest(path) for path in files}


def _changed(folder: Path, description: dict) -> str | None:
    listed, found = description.get("sha256"), digests(folder)
    if not isinstance(listed, dict):
        return "'sha256' does not list the weights"
    odd = next((name for name in sorted(listed.keys() | found.keys()) if listed.get(name) != found.get(name)), None)
    return odd and f"'{odd}' is not the file whose check sum is listed"


def _fault(description: dict) -> str | None:
    """Why predictions cannot use the description, None if they can."""
    elements, factors = description.get("elements"), description.get("interval_factors")
    if not isinstance(elements, list) or not elements or not all(map(_is_symbol, elements)):
        return "'elements' is no list of element symbols"
    if len(set(elements)) < len(elements):
        return "'elements' names one of them twice"
    if not isinstance(factors, list) or len(factors) != 2 or not all(map(_is_finite, factors)) or min(factors) < 0:
        return "'interval_factors' is no list of two numbers from 0"
    if description["target"] == BAND_GAP and not _is_finite(description.get("nonmetal_threshold")):
        return "'nonmetal_threshold' is no number"
    return None


def _is_symbol(value: object) -> bool:
    return isinstance(value, str) and value in ATOMIC_NUMBERS


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
