"""Sampling of MatGAN against a plain PyTorch loop that decodes in numpy: draws a second, and which differ.

Ours is drawn as the workflow draws, in as many processes of one thread as there are cores; the reference has all cores
as threads of one process.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import plain_loop, plain_sequence
from benchmarks.compare import compare
from benchmarks.training import CORES, DEVICE, bounds, box, peak
from pipeline.composition import Compositions
from pipeline.generators import matgan, seqgan


def measure(quick: bool) -> dict:
    """One benchmark; see :func:`benchmarks.compare.compare`, and of the other keys :func:`benchmarks.training.measure`.

    Disagreements are of the draws of one block with the same noise: formulas that only one of the two says.
    """
    settings = matgan.PRESETS["default"]
    _, vocabulary = box(3000)
    network = said_by_noise(len(vocabulary), settings)
    weights = matgan.weights_of(network)
    n = (2000 if quick else 10000) * (50 if DEVICE == "cuda" else 1)
    block, said = (weights, vocabulary, settings, n), (network, vocabulary, settings.threshold)
    torch.set_num_threads(CORES)
    with ProcessPoolExecutor(CORES, get_context("spawn"), torch.set_num_threads, (1,)) as pool:

        def ours() -> Compositions:
            drawn = [pool.submit(matgan.draw, *block, seed, DEVICE) for seed in range(CORES)]
            first, *_ = [batch.result().compositions for batch in drawn]
            return first

        def reference() -> list[str]:
            all_formulas = (plain_loop.sample(*said, n, seed, DEVICE) for seed in range(CORES))
            first, *_ = all_formulas
            return [formula for formula in first if formula]

        ours()
        figures = compare(ours, reference, n * CORES, difference)
        figures["sequence"] = sequence(pool, n)
    torch.set_num_threads(1)
    with FlopCounterMode(display=False) as counter:
        plain_loop.sample(network, vocabulary, settings.threshold, 100, 0, DEVICE)
    flops = counter.get_total_flops() / 100
    drawn = bounds(lambda: matgan.draw(weights, vocabulary, settings, 1000, 0, DEVICE))
    return {**figures, **peak(flops * figures["ours_per_s"] / CORES), "bounds": drawn}


def sequence(pool: ProcessPoolExecutor, n: int) -> dict:
    """The same of the sequence GAN, untrained; its draws are other ones, so that none are compared."""
    counts_NE, vocabulary = box(3000)
    settings = seqgan.PRESETS["default"]
    torch.manual_seed(0)
    network = plain_sequence.Generator(vocabulary, settings.width)
    network.set_frequencies(torch.from_numpy(counts_NE))
    block = (matgan.weights_of(network), vocabulary, settings, n)
    network.to(DEVICE)

    def ours() -> list:
        drawn = [pool.submit(seqgan.draw, *block, seed, DEVICE) for seed in range(CORES)]
        return [each.result() for each in drawn]

    def reference() -> list:
        return [plain_sequence.sample(network, vocabulary, settings.temperature, n, seed) for seed in range(CORES)]

    ours()
    return compare(ours, reference, n * CORES, lambda mine, theirs: (0, 0.0)) | {"compared": 0}


def said_by_noise(n_elements: int, settings: matgan.Settings) -> plain_loop.Generator:
    """A generator that says a few elements: random weights, statistics of its own, and three cells in a thousand on."""
    torch.manual_seed(0)
    network = plain_loop.Generator(n_elements, settings.architecture)
    last = network.blocks[-2]
    with torch.no_grad():
        last.weight *= 30
        for _ in range(50):
            network(torch.randn(128, matgan.NOISE))
        before = torch.logit(network.eval()(torch.randn(1000, matgan.NOISE)), 1e-6)
        last.bias -= before.quantile(0.997)
    return network


def difference(mine: Compositions, theirs: list[str]) -> tuple[int, float]:
    """Formulas that only one of the two drew."""
    theirs = Compositions.from_formulas(theirs).reduced()
    sets = [np.sort(np.array(each.formulas().to_pylist())) for each in (mine, theirs)]
    found = [dict(zip(*np.unique(each, return_counts=True), strict=True)) for each in sets]
    names = found[0].keys() | found[1].keys()
    return sum(abs(found[0].get(name, 0) - found[1].get(name, 0)) for name in names), 0.0
