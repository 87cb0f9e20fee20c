"""What every learner of a property is given and gives back; each is a module of its own.

A learner's module holds ``SUFFIX`` (of its weights' file), ``METHOD`` (for the model card), a dataclass of settings and
``fit``, which returns an object with ``history``, ``predict``, ``save`` and ``load``; ``models.LEARNERS`` names them.

Suffixes: N formulas, F features.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from pipeline.composition import Compositions

Task = Literal["regression", "classification"]
"""``"regression"`` learns numbers by their mean absolute error, ``"classification"`` the probability of True."""

Report = Callable[[dict], None]
"""Called with each new row of a learner's history."""


@dataclass(frozen=True)
class Inputs:
    """Formulas as learners see them.

    Attributes:
        compositions: N reduced compositions, of elements in the model's vocabulary.
        features_NF: Magpie features, then those of analogues where the model has them; float64 of shape (N, F).
    """

    compositions: Compositions
    features_NF: np.ndarray

    def __len__(self) -> int:
        return len(self.compositions)

    def take(self, rows: np.ndarray) -> "Inputs":
        """The rows at positions or of a boolean mask."""
        return Inputs(self.compositions.take(rows), self.features_NF[rows])


class Learner(Protocol):
    """What ``fit`` of a learner's module returns.

    Attributes:
        history: Rows of ``epoch`` (or ``tree``), ``train_...`` and ``validation_...`` in the target's unit.
    """

    history: list[dict]

    def predict(self, inputs: Inputs, threads: int) -> np.ndarray:
        """The target of each formula, or the probability of True; float64 of shape (N,)."""
        ...

    def save(self, path: Path) -> None:
        """Write the weights."""
        ...

    @classmethod
    def load(cls, path: Path, vocabulary: list[int]) -> "Learner":
        """Read what :meth:`save` wrote.

        Args:
            path: Of the weights.
            vocabulary: Atomic numbers of the model's elements, ascending.

        Raises:
            ValueError: The file is missing, damaged, or of another learner.
        """
        ...
