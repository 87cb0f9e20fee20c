"""How early a ranking finds what is looked for: recall, enrichment over a random order, precision at each recall.

Suffixes: N candidates.
"""

from collections.abc import Sequence

import numpy as np


def best_first(scores: np.ndarray, seed: int = 1) -> np.ndarray:
    """Positions from the highest score to the lowest, NaN last; equal scores in an order drawn from ``seed``."""
    shuffled = np.random.default_rng(seed).permutation(len(scores))
    ranked = np.where(np.isnan(scores), -np.inf, scores)[shuffled]
    return shuffled[np.argsort(-ranked, kind="stable")]


def found_within(wanted: np.ndarray, order: np.ndarray, tops: Sequence[int]) -> list[dict]:
    """What the first rows of a ranking hold.

    Args:
        wanted: bool of shape (N,).
        order: Positions, best first, of shape (N,).
        tops: How many rows are looked at.

    Returns:
        A row of ``top``, ``found``, ``recall`` (share of all wanted ones) and ``enrichment`` (found over what a random
        order would find on average) for each; ``most`` is the enrichment if the first rows held nothing else.
    """
    rows = []
    for top in tops:
        first = order[:top]
        found, expected = int(wanted[first].sum()), len(first) * float(wanted.mean())
        rows.append(
            {
                "top": int(top),
                "found": found,
                "recall": found / int(wanted.sum()),
                "enrichment": found / expected,
                "most": min(len(first), int(wanted.sum())) / expected,
            }
        )
    return rows


def recall_curve(wanted: np.ndarray, order: np.ndarray, points: int = 60) -> dict[str, list]:
    """Share of the wanted ones within the first rows, at up to ``points`` sizes that grow by a factor from 10 on."""
    sizes = np.unique(np.geomspace(min(10, len(order)), len(order), points).astype(int))
    recall = np.cumsum(wanted[order])[sizes - 1] / wanted.sum()
    return {"rows": sizes.tolist(), "recall": np.round(recall, 5).tolist()}


def precision_at_recall(wanted: np.ndarray, order: np.ndarray, steps: int = 100) -> np.ndarray:
    """Precision where the ranking has found 1/steps, 2/steps, ... of the wanted ones; float64 of shape (steps,)."""
    places = np.flatnonzero(wanted[order])
    needed = np.ceil(np.arange(1, steps + 1) / steps * len(places) - 1e-9).astype(int)
    return needed / (places[needed - 1] + 1)
