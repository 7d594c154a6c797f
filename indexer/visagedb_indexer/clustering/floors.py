"""Cosines that a gallery of this size and embedder asks for."""

from typing import Final

import numpy as np
from scipy.special import ndtri

from visagedb_indexer.clustering.tiles import VectorSource

FALSE_EDGES_PER_FACE: Final = 5.0
"""Edges to other people that a face may have on average, before the best are chosen."""
_SAMPLE_ROWS: Final = 2048


def choose_floor(
    vectors: VectorSource, *, false_edges_per_face: float = FALSE_EDGES_PER_FACE, seed: int = 1
) -> float:
    """The cosine above which a face has so few edges to other people.

    The cosines of different people have a Gaussian tail. Its place and width are taken from
    the middle of the distribution, where mates are too few to matter.
    """
    count = vectors.shape[0]
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(count, min(count, _SAMPLE_ROWS), replace=False))
    sample = vectors[rows]
    scores = (sample @ sample.T)[np.triu_indices(len(sample), 1)]
    if not len(scores):
        return 1.0
    middle, upper = np.quantile(scores, [0.5, 0.9])
    width = (upper - middle) / _upper_quantile(0.1)
    rate = min(false_edges_per_face / count, 0.1)
    return float(np.clip(middle + width * _upper_quantile(rate), 0.0, 1.0))


def _upper_quantile(probability: float) -> float:
    """What a standard normal variable exceeds with this probability."""
    return float(-ndtri(probability))
