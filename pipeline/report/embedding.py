"""A map of compositions: t-SNE (van der Maaten & Hinton 2008) of element fractions."""

import numpy as np

from pipeline.composition import Compositions

MIN_POINTS = 50
PERPLEXITY = 30
ITERATIONS = 500


def embed(compositions: Compositions, seed: int) -> np.ndarray:
    """Place compositions in the plane so that similar ones are neighbours.

    Distances are those of the square roots of the element fractions (Hellinger distance).

    Args:
        compositions: N compositions, at least ``MIN_POINTS``.
        seed: Of the embedding.

    Returns:
        Coordinates without unit, float64 of shape (N, 2), rounded to 2 decimals.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    vocabulary = np.unique(compositions.elements)
    roots_NE = np.sqrt(compositions.dense(vocabulary) / compositions.n_atoms[:, None]).astype(np.float32)
    with threadpool_limits(1):  # sums in one order, so that the same seed gives the same picture
        placed = TSNE(
            perplexity=PERPLEXITY, max_iter=ITERATIONS, init="pca", random_state=seed % 2**32, n_jobs=1
        ).fit_transform(roots_NE)
    return np.round(placed.astype(np.float64), 2)
