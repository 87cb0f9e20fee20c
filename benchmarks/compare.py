"""Ours beside the reference, on the same input, turn by turn in one process."""

import os
import resource
import statistics
import time
from collections.abc import Callable

import torch

REPEATS = 3
MAIN = (
    "ours_per_s",
    "reference_per_s",
    "ratio",
    "compared",
    "disagreements",
    "largest_difference",
    "peak_memory_mb",
    "device",
)


def compare(
    ours: Callable, reference: Callable, n: int, difference: Callable, *, n_reference: int | None = None
) -> dict:
    """Run both in turn, three times; rates a second, and their ratio within each turn.

    Args:
        ours, reference: Take nothing and return what is compared.
        n: Items that ``ours`` treats.
        difference: Takes both results and returns how many items disagree, and the largest difference of a number (0
            where nothing is a number).
        n_reference: Items that ``reference`` treats, where it is too slow for all; ``difference`` then compares these.

    Returns:
        What is printed of a benchmark, without its name.
    """
    slow_n = n if n_reference is None else n_reference
    turns = []
    for _ in range(REPEATS):
        (mine, seconds), (theirs, slow_seconds) = timed(ours), timed(reference)
        turns.append((n / seconds, slow_n / slow_seconds, *difference(mine, theirs)))
    return summary(turns, slow_n)


def summary(turns: list[tuple[float, float, int, float]], compared: int) -> dict:
    """Of each turn our rate, the reference's, disagreements and largest difference; see :func:`compare`."""
    fast, slow, disagreements, differences = zip(*turns, strict=True)
    ratios = [mine / theirs for mine, theirs in zip(fast, slow, strict=True)]
    figures = (statistics.median(ratios), min(ratios), max(ratios))
    return {
        "ours_per_s": _rounded(statistics.median(fast)),
        "reference_per_s": _rounded(statistics.median(slow)),
        "ratio": dict(zip(("median", "min", "max"), map(_rounded, figures), strict=True)),
        "compared": compared,
        "disagreements": int(max(disagreements)),
        "largest_difference": float(max(differences)),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "device": device(),
    }


def timed(function: Callable) -> tuple[object, float]:
    """What the function returns, and the seconds that it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def device() -> str:
    """The GPU's name, or how many cores this process may use."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu, {len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
