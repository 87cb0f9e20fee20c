"""A property model: its learners, intervals and reach, and the folder that holds them.

A folder holds `model.json` (what it predicts, elements, learners, split, metrics), the weights, `parity.parquet` (test
formulas) and `README.md` (the model card); a model with analogues also the known compounds that it looks them up in.

Suffixes: N formulas, F features, G groups.
"""

import importlib
import importlib.metadata
import math
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa

from pipeline import tables
from pipeline.composition import ATOMIC_NUMBERS, Compositions
from pipeline.provenance import file_digest
from pipeline.screening import groups
from pipeline.screening.analogues import KNOWN_FILE, Analogues
from pipeline.screening.features import FEATURE_NAMES
from pipeline.screening.interval import COVERAGE, Interval
from pipeline.screening.learners import Inputs, Learner
from pipeline.screening.reach import Reach

FORMATION_ENERGY = "formation_energy_ev_per_atom"
DECOMPOSITION_ENERGY = "decomposition_energy_ev_per_atom"
BAND_GAP = "band_gap_ev"
EXPERIMENTAL_BAND_GAP = "experimental_band_gap_ev"
TARGETS = (FORMATION_ENERGY, DECOMPOSITION_ENERGY, BAND_GAP, EXPERIMENTAL_BAND_GAP)
GAPS = (BAND_GAP, EXPERIMENTAL_BAND_GAP)
"""0 for a metal: a classifier stands before the regressor, which learns from values above 0 alone."""

LEARNERS = {"elemnet": "ElemNet", "boosted": "Boosted", "attention": "Attention"}
"""Module and class of each learner; its settings are the class of that name and ``Training``."""
NONMETAL_THRESHOLD = 0.5
DESCRIPTION_FILE, PARITY_FILE, CARD_FILE = "model.json", "parity.parquet", "README.md"
WEIGHTS = (".safetensors", ".gz")
PARITY_ROWS = 3000
N_QUANTILES = 201
METAL = "called a metal for sure"
"""The group of gaps with a probability of a non-metal below one tenth: most are 0 and predicted without any error."""

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


def unit(target: str) -> str:
    """The unit of a target."""
    return "eV/atom" if target.endswith("_ev_per_atom") else "eV"


def uncertainty_column(target: str) -> str:
    """The column of the half-width that stands beside a target's: ``band_gap_ev`` has ``band_gap_uncertainty_ev``."""
    return target.replace("_ev", "_uncertainty_ev")


def learner(name: str) -> ModuleType:
    """The module of a learner; only those that a model has are imported."""
    return importlib.import_module(f"pipeline.screening.{name}")


@dataclass(frozen=True)
class Prediction:
    """What a model says of N formulas.

    Attributes:
        value: In the target's unit, float64 of shape (N,).
        half_width: Of the 90 % interval, same unit.
        probability_nonmetal: Of a gap above 0; None where the target is no gap.
        distance: From the training formulas, see :class:`Reach`.
    """

    value: np.ndarray
    half_width: np.ndarray
    probability_nonmetal: np.ndarray | None
    distance: np.ndarray


@dataclass(frozen=True)
class Estimator:
    """What stands between features and intervals: learners whose mean is the prediction, and analogues.

    Attributes:
        vocabulary: Atomic numbers of the elements that it knows, ascending.
        regressor: By name; their mean is the value.
        classifier: By name; their mean is the probability of a value above 0. Empty where the target is no gap.
        reach: Of the training formulas.
        analogues: Where the learners were trained with them, else None.
    """

    vocabulary: list[int]
    regressor: dict[str, Learner]
    classifier: dict[str, Learner]
    reach: Reach
    analogues: Analogues | None

    def inputs(self, compositions: Compositions, magpie_NF: np.ndarray) -> Inputs:
        """Formulas as the learners see them."""
        return inputs(compositions, magpie_NF, self.analogues)

    def predict(self, rows: Inputs, threads: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Value (0 where called a metal) and probability of a non-metal, float64 of shape (N,) each."""
        if not self.classifier:
            return mean(self.regressor, rows, threads), None
        probability = mean(self.classifier, rows, threads)
        nonmetal = np.flatnonzero(probability >= NONMETAL_THRESHOLD)
        value = np.zeros(len(rows))
        value[nonmetal] = np.maximum(mean(self.regressor, rows.take(nonmetal), threads), 0)
        return value, probability

    def shape(
        self, rows: Inputs, value: np.ndarray, probability: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What intervals are made from.

        Returns:
            Features of shape (N, F), groups of shape (N, G), and distances from training of shape (N,).
        """
        distance = self.reach.distance(rows.features_NF[:, : len(FEATURE_NAMES)])
        added = [value, distance] + ([] if probability is None else [probability])
        groups_NG = groups.membership(rows.compositions)
        if probability is not None:
            metal = probability < 1 - COVERAGE
            groups_NG = np.column_stack([groups_NG & ~metal[:, None], metal])
        return np.column_stack([rows.features_NF, *added]), groups_NG, distance


@dataclass(frozen=True)
class PropertyModel:
    """An estimator with its intervals.

    Attributes:
        estimator: Makes values.
        interval: Makes their half-widths.
    """

    estimator: Estimator
    interval: Interval

    def predict(self, compositions: Compositions, magpie_NF: np.ndarray, threads: int) -> Prediction:
        """Predict N formulas of the model's elements from their Magpie features."""
        rows = self.estimator.inputs(compositions, magpie_NF)
        value, probability = self.estimator.predict(rows, threads)
        features_NF, groups_NG, distance = self.estimator.shape(rows, value, probability)
        return Prediction(value, self.interval.half_width(features_NF, groups_NG, threads), probability, distance)

    @classmethod
    def load(cls, folder: str | Path, target: str) -> "PropertyModel":
        """Read a folder.

        Raises:
            ValueError: The model is missing, damaged, or of another property.
        """
        description, folder = read_description(folder, target), Path(folder)
        vocabulary = [ATOMIC_NUMBERS[symbol] for symbol in description["elements"]]
        regressor, classifier = (
            {
                name: getattr(learner(name), LEARNERS[name]).load(weights_path(folder, part, name), vocabulary)
                for name in description["learners"][part]
            }
            for part in ("regressor", "classifier")
        )
        analogues = Analogues.load(folder / KNOWN_FILE) if description["analogues"] else None
        reach = Reach.load(folder, len(FEATURE_NAMES))
        interval = Interval.load(folder, list(description["interval_factors"].values()))
        return cls(Estimator(vocabulary, regressor, classifier, reach, analogues), interval)


def inputs(compositions: Compositions, magpie_NF: np.ndarray, analogues: Analogues | None) -> Inputs:
    """Formulas as learners see them: Magpie features, then those of analogues."""
    if analogues is None:
        return Inputs(compositions, magpie_NF)
    return Inputs(compositions, np.column_stack([magpie_NF, analogues.features(compositions)]))


def mean(learners: dict[str, Learner], rows: Inputs, threads: int) -> np.ndarray:
    """Mean of the learners' predictions, float64 of shape (N,)."""
    return sum(each.predict(rows, threads) for each in learners.values()) / len(learners)


def weights_path(folder: Path, part: str, name: str) -> Path:
    """Where the weights of a learner lie in a model's folder."""
    return folder / f"{part}-{name}.{learner(name).SUFFIX}"


def settings_class(name: str) -> type:
    """The dataclass of a learner's settings."""
    return getattr(learner(name), f"{LEARNERS[name]}Training")


def group_kinds(target: str) -> dict[str, str]:
    """The groups that intervals are calibrated by, each with its kind."""
    return groups.KINDS | ({METAL: METAL} if target in GAPS else {})


def residual_quantiles(scores: np.ndarray) -> list[float]:
    """201 quantiles, 0 to 1, of (true - predicted) / half-width; of no rows those of even chances in the interval."""
    if len(scores) == 0:
        return np.linspace(-1, 1, N_QUANTILES).tolist()
    return np.round(np.quantile(scores, np.linspace(0, 1, N_QUANTILES)), 6).tolist()


def versions() -> dict[str, str]:
    """Versions of the libraries that make the weights."""
    return {name: importlib.metadata.version(name) for name in ("numpy", "torch", "lightgbm", "matminer")}


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
    files = sorted(path for path in folder.iterdir() if path.suffix in WEIGHTS or path.name == KNOWN_FILE)
    return {path.name: file_digest(path) for path in files}


def _changed(folder: Path, description: dict) -> str | None:
    listed, found = description.get("sha256"), digests(folder)
    if not isinstance(listed, dict):
        return "'sha256' does not list the weights"
    odd = next((name for name in sorted(listed.keys() | found.keys()) if listed.get(name) != found.get(name)), None)
    return odd and f"'{odd}' is not the file whose check sum is listed"


def _fault(description: dict) -> str | None:
    """Why predictions cannot use the description, None if they can."""
    elements, learners = description.get("elements"), description.get("learners")
    if not isinstance(elements, list) or not elements or not all(map(_is_symbol, elements)):
        return "'elements' is no list of element symbols"
    if len(set(elements)) < len(elements):
        return "'elements' names one of them twice"
    if not isinstance(learners, dict) or set(learners) != {"regressor", "classifier"}:
        return "'learners' does not name those of a regressor and a classifier"
    if not all(isinstance(names, list) and set(names) <= set(LEARNERS) for names in learners.values()):
        return f"'learners' names others than {', '.join(LEARNERS)}"
    if not learners["regressor"] or bool(learners["classifier"]) != (description["target"] in GAPS):
        return "'learners' lacks the regressor's, or a gap's classifier's"
    if not isinstance(description.get("analogues"), bool):
        return "'analogues' is neither true nor false"
    factors = description.get("interval_factors")
    names = tuple(group_kinds(description["target"]))
    if not isinstance(factors, dict) or tuple(factors) != names or not all(map(_is_finite, factors.values())):
        return "'interval_factors' is no number for each group of formulas"
    quantiles = description.get("residual_quantiles")
    if not isinstance(quantiles, list) or len(quantiles) != N_QUANTILES or not all(map(_is_finite, quantiles)):
        return f"'residual_quantiles' is no list of {N_QUANTILES} numbers"
    if quantiles != sorted(quantiles):
        return "'residual_quantiles' do not ascend"
    return None


def _is_symbol(value: object) -> bool:
    return isinstance(value, str) and value in ATOMIC_NUMBERS


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
