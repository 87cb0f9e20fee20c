"""How far a formula lies from those that a model learnt from: the distance to the nearest cluster of them.

Distances are Euclidean between standardised Magpie features; clusters are found by k-means (Lloyd 1982,
doi:10.1109/TIT.1982.1056489). A model errs more the farther it is asked, and its intervals are told.

Suffixes: N formulas, F features, C clusters.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

REACH_FILE = "reach.safetensors"
CLUSTERS, LEAST_PER_CLUSTER, ITERATIONS = 512, 8, 10
BLOCK = 1 << 13


@dataclass(frozen=True)
class Reach:
    """Where the training formulas lie.

    Attributes:
        mean_F, deviation_F: What features are standardised by, float64.
        clusters_CF: Centres in standardised features, float64.
        unit: Median distance of the training formulas to the nearest centre.
    """

    mean_F: np.ndarray
    deviation_F: np.ndarray
    clusters_CF: np.ndarray
    unit: float

    @classmethod
    def fit(cls, features_NF: np.ndarray, seed: int) -> "Reach":
        """Find the clusters of the training formulas."""
        from sklearn.cluster import KMeans
        from threadpoolctl import threadpool_limits

        mean, deviation = features_NF.mean(axis=0), features_NF.std(axis=0)
        deviation = np.where(deviation > 0, deviation, 1.0)
        n_clusters = max(min(CLUSTERS, len(features_NF) // LEAST_PER_CLUSTER), 1)
        with threadpool_limits(1):  # the same clusters whatever the threads
            found = KMeans(n_clusters, init="random", n_init=1, max_iter=ITERATIONS, random_state=seed % (1 << 32))
            found.fit((features_NF - mean) / deviation)
        kept = cls(*(_rounded(each) for each in (mean, deviation, found.cluster_centers_)), 1.0)
        return cls(
            kept.mean_F, kept.deviation_F, kept.clusters_CF, max(float(np.median(kept.distance(features_NF))), 1e-6)
        )

    def distance(self, features_NF: np.ndarray) -> np.ndarray:
        """Distance to the nearest cluster over that of the median training formula, float64 of shape (N,)."""
        squared = np.empty(len(features_NF))
        norm_C = (self.clusters_CF**2).sum(axis=1)
        for start in range(0, len(features_NF), BLOCK):
            block = (features_NF[start : start + BLOCK] - self.mean_F) / self.deviation_F
            nearest = (norm_C - 2 * (block @ self.clusters_CF.T)).min(axis=1)
            squared[start : start + BLOCK] = nearest + (block**2).sum(axis=1)
        return np.sqrt(np.maximum(squared, 0)) / self.unit

    def save(self, folder: Path) -> None:
        """Write the clusters."""
        arrays = {
            "mean": self.mean_F,
            "deviation": self.deviation_F,
            "clusters": self.clusters_CF,
        }
        weights = {name: array.astype(np.float32) for name, array in arrays.items()}
        weights["unit"] = np.array([self.unit])
        (folder / REACH_FILE).write_bytes(safetensors.numpy.save(weights))

    @classmethod
    def load(cls, folder: Path, n_features: int) -> "Reach":
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: The file is missing, damaged, or of other features.
        """
        path = folder / REACH_FILE
        try:
            weights = safetensors.numpy.load_file(path)
            mean, deviation, clusters = (weights[name].astype(np.float64) for name in ("mean", "deviation", "clusters"))
            unit = float(weights["unit"].item())
        except (OSError, SafetensorError, LookupError, ValueError, TypeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"{path}: no clusters of training formulas ({reason}); restore it or train anew"
            ) from error
        shapes = mean.shape, deviation.shape, clusters.shape[1:]
        if set(shapes) != {(n_features,)} or len(clusters) == 0 or not (deviation > 0).all() or not unit > 0:
            raise ValueError(f"{path}: no clusters over {n_features} features; restore it or train the model anew")
        return cls(mean, deviation, clusters, unit)


def _rounded(values: np.ndarray) -> np.ndarray:
    """As the file keeps them, so that what is measured is what is shipped."""
    return values.astype(np.float32).astype(np.float64)
