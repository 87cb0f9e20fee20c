"""Training MatGAN against a plain PyTorch loop of the same networks: examples a second, and losses after as many."""

import dataclasses
import io
import os
from contextlib import redirect_stderr

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import plain_loop, plain_sequence
from benchmarks.compare import compare, timed
from benchmarks.formulas import embedded
from pipeline.generators import matgan, seqgan
from pipeline.generators.checkpoints import Progress

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CORES = 1 if DEVICE == "cuda" else len(os.sched_getaffinity(0))


def measure(quick: bool) -> dict:
    """One benchmark; see :func:`benchmarks.compare.compare`.

    The largest difference is that of a loss, relative to the critic's. ``share_of_peak`` is what the layers' operations
    come to a second, of a matrix product's in bfloat16 and in float32; ``bounds`` are the operations that took longest.
    """
    torch.set_num_threads(CORES)
    settings = dataclasses.replace(matgan.PRESETS["default"], epochs=1)
    n = settings.batch_size * settings.critic_steps * (1 if quick else 8) * (20 if DEVICE == "cuda" else 1)
    counts_NE, vocabulary = box(n)

    def ours(counts_NE: np.ndarray = counts_NE) -> dict[str, float]:
        progress = Progress(None, "", 1)
        chosen = {"vocabulary": vocabulary, "settings": settings, "seed": 1, "device": DEVICE, "progress": progress}
        with redirect_stderr(io.StringIO()):
            matgan.train({"counts": counts_NE}, **chosen)
        return progress.history[-1]

    def reference(counts_NE: np.ndarray = counts_NE) -> dict[str, float]:
        return plain_loop.train(counts_NE, settings, 1, DEVICE)[1]

    def difference(mine: dict, theirs: dict) -> tuple[int, float]:
        size = abs(theirs["critic_loss"])
        return 0, max(abs(mine[name] - value) / size for name, value in theirs.items())

    few = counts_NE[: settings.batch_size * settings.critic_steps]
    ours(few), reference(few)
    figures = compare(ours, reference, n, difference)
    done = figures["ours_per_s"] * operations(len(vocabulary), settings)
    told = {**figures, **peak(done), "bounds": bounds(lambda: ours(few))}
    return {**told, "sequence_likelihood": sequence(2000 if quick else 20000)}


def sequence(n: int) -> dict:
    """The same of an epoch of likelihood of the sequence GAN; the difference is the loss's, of other substitutions."""
    settings = dataclasses.replace(seqgan.PRESETS["default"], likelihood_epochs=1, adversarial_epochs=0)
    counts_NE, vocabulary = box(n)

    def ours() -> float:
        progress = Progress(None, "", 1)
        chosen = {"vocabulary": vocabulary, "settings": settings, "seed": 1, "device": DEVICE, "progress": progress}
        with redirect_stderr(io.StringIO()):
            seqgan.train({"counts": counts_NE}, **chosen)
        return progress.history[-1]["negative_log_likelihood"]

    ours()
    return compare(
        ours,
        lambda: plain_sequence.train(counts_NE, vocabulary, settings, 1, DEVICE)[1],
        n,
        lambda mine, theirs: (0, abs(mine - theirs) / theirs),
    )


def operations(n_elements: int, settings: matgan.Settings) -> float:
    """Multiplications and additions for an example of the critic, with the penalty; of the layers alone.

    An update of the critic takes a pass of the generator, three forward of the critic (real, generated, between), and
    seven as long: back for the layers and for the weights of both, through the gradient, and back for both through it.
    One of the generator takes its pass and two back, and a pass and one back of the critic.
    """
    shape = n_elements, settings.architecture
    networks = matgan.Generator(*shape), matgan.Critic(*shape, batch_norm=False)
    forward = []
    for network, given in zip(networks, (torch.zeros(1, matgan.NOISE), torch.zeros(1, n_elements, 8)), strict=True):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(given)
        forward.append(counter.get_total_flops())
    generator, critic = forward
    return generator + 10 * critic + (3 * generator + 2 * critic) / settings.critic_steps


def box(n: int) -> tuple[np.ndarray, list[int]]:
    """Count matrix of ``n`` real formulas that fit the box, repeated where there are fewer, and its elements."""
    compositions = embedded(min(n, 40000))
    compositions = compositions.take(compositions.largest_count() <= matgan.KINDS)
    vocabulary = sorted(set(compositions.elements.tolist()))
    return np.resize(compositions.dense(vocabulary).astype(np.uint8), (n, len(vocabulary))), vocabulary


def peak(flops_per_s: float) -> dict:
    """Operations a second, and their share of those of a product of matrices that the device is measured with here."""
    found = {}
    for name, kind in (("bfloat16", torch.bfloat16), ("float32", torch.float32)):
        size = 8192 if DEVICE == "cuda" else 1024
        matrix = torch.ones(size, size, dtype=kind, device=DEVICE)

        def product(matrix=matrix) -> float:
            return float((matrix @ matrix)[0, 0])

        product()
        found[name] = 2 * size**3 / min(timed(product)[1] for _ in range(5))
    share = {name: float(f"{flops_per_s / most:.3g}") for name, most in found.items()}
    return {"gflops_per_s": round(flops_per_s / 1e9, 1), "share_of_peak": share}


def bounds(function) -> dict[str, float]:
    """The five operations that take most time of their own, and their share of all."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if DEVICE == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        function()
    time_of = "self_device_time_total" if DEVICE == "cuda" else "self_cpu_time_total"
    took = {event.key: getattr(event, time_of) for event in profile.key_averages()}
    total = sum(took.values())
    longest = sorted(took, key=took.get, reverse=True)[:5]
    return {name: round(took[name] / total, 3) for name in longest}
