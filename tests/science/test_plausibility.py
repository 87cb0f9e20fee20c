"""Bond valences and packing of known stable crystals: the figures that settings and docs cite."""

import numpy as np

from benchmarks.structures.known import targets
from pipeline.structures.plausibility import global_instability_index, minimum_distance_ratio, packing
from pipeline.structures.schema import JudgeSettings
from pipeline.structures.templates import guess_oxidation_states


def test_known_crystals_are_plausible(data, tmp_path):
    indices, packed, ratios = [], [], []
    for target in targets(data, tmp_path, 1500):
        packed.append(packing(target.cell))
        ratios.append(minimum_distance_ratio(target.cell))
        states = guess_oxidation_states(target.elements, target.counts)
        index = states and global_instability_index(target.cell, dict(zip(target.elements, states, strict=True)))
        if index is not None:
            indices.append(index)
    print(len(indices), np.quantile(indices, [0.25, 0.5, 0.75, 0.9]), np.quantile(ratios, [0.001, 0.5, 0.999]))
    assert len(indices) == 433
    assert np.quantile(indices, 0.5) < 0.24 and np.quantile(indices, 0.9) < 0.62
    limits = JudgeSettings()
    assert np.mean((np.array(packed) > limits.min_packing) & (np.array(packed) < limits.max_packing)) > 0.997
