"""Gradient-boosted trees (LightGBM) as this package trains and stores them: in LightGBM's own text, gzipped."""

import gzip
import re
import zlib
from pathlib import Path

import lightgbm as lgb
import numpy as np

from pipeline.trees import check

MAX_MODEL_BYTES = 1 << 28  # the largest that is shipped takes 7 MB
COMMON = {
    "feature_fraction": 0.5,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "min_data_in_leaf": 20,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


def train(
    objective: str,
    rows: tuple[np.ndarray, np.ndarray],
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    trees: int,
    leaves: int,
    learning_rate: float,
    patience: int = 0,
    seed: int,
    threads: int,
) -> lgb.Booster:
    """Train one booster; the same input and seed give the same trees, whatever the number of threads.

    Args:
        objective: LightGBM's name of the loss.
        rows: Features of shape (N, F) and targets of shape (N,).
        validation: The same; with it, training ends after ``patience`` trees that do not lower its loss.
        trees: Most trees.
        leaves: Most leaves of a tree.
        learning_rate: Shrinkage of a tree.
        patience: See ``validation``.
        seed: Of the sampling of rows and features.
        threads: Threads to use.
    """
    parameters = {
        **COMMON,
        "objective": objective,
        "num_leaves": leaves,
        "learning_rate": learning_rate,
        "seed": seed % (1 << 31),
        "num_threads": threads,
    }
    training = lgb.Dataset(rows[0], rows[1].astype(np.float64))
    if validation is None:
        return lgb.train(parameters, training, num_boost_round=trees)
    return lgb.train(
        parameters,
        training,
        num_boost_round=trees,
        valid_sets=[lgb.Dataset(validation[0], validation[1].astype(np.float64), reference=training)],
        callbacks=[lgb.early_stopping(patience, verbose=False)],
    )


def predict(booster: lgb.Booster, features_NF: np.ndarray, threads: int) -> np.ndarray:
    """The booster's value for each row, float64 of shape (N,).

    Raises:
        ValueError: The booster was trained on another number of features.
    """
    if features_NF.shape[1] != booster.num_feature():
        raise ValueError(f"a LightGBM model of {booster.num_feature()} features was given {features_NF.shape[1]}")
    return booster.predict(features_NF, num_threads=threads) if len(features_NF) else np.zeros(0)


def save(booster: lgb.Booster, path: Path) -> None:
    """Write a booster as gzipped text: the same bytes for the same trees, whatever the threads that grew them."""
    text = re.sub(r"\[num_threads: \d+\]", "[num_threads: 1]", booster.model_to_string())
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def load(path: Path) -> lgb.Booster:
    """Read a booster written by :func:`save`.

    Raises:
        ValueError: The file is missing, damaged, or holds something else.
    """
    try:
        with gzip.open(path) as handle:
            text = handle.read(MAX_MODEL_BYTES + 1)
        if len(text) > MAX_MODEL_BYTES:
            raise ValueError(f"unpacks to more than {MAX_MODEL_BYTES} bytes")
        return lgb.Booster(model_str=check(text.decode("ascii")))
    except (OSError, EOFError, zlib.error, ValueError, lgb.basic.LightGBMError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise ValueError(f"{path}: no gzipped LightGBM model ({reason}); restore it or train the model anew") from error
