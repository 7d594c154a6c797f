"""Which PLDA model a gallery is clustered with."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.clustering.plda import PEOPLE_MIN, PldaModel, fit, from_covariances
from visagedb_indexer.clustering.tiles import VectorSource
from visagedb_indexer.values import Vector

_SAMPLE_ROWS: Final = 50_000
_BETWEEN_SHARE: Final = 0.6
"""Of the variance of all faces, what lies between persons when nothing is known."""


def for_gallery(
    vectors: VectorSource,
    people: NDArray[np.integer] | None = None,
    *,
    shipped: PldaModel | None = None,
) -> PldaModel:
    """The model for a gallery: its own, else the embedding model's, else a generic one.

    Args:
        vectors: Unit vectors, shape (n, dimension).
        people: Their identities as numbers, shape (n,), negative for loose faces; None when
            the identities are not to be trusted.
        shipped: The model that came with the model card.
    """
    count = vectors.shape[0]
    if people is not None:
        rows = _of_people_with_several(people)
        if len(np.unique(people[rows])) >= PEOPLE_MIN:
            return fit(vectors[rows], people[rows])
    if shipped is not None and shipped.dimension == vectors.shape[1]:
        return shipped
    rows = np.unique(np.linspace(0, max(count - 1, 0), min(count, _SAMPLE_ROWS), dtype=np.int64))
    return generic(vectors[rows])


def generic(vectors: Vector) -> PldaModel:
    """A model for embeddings of which nothing is known but how they spread."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    dimension = len(mean)
    total = max(1.0 - float(mean @ mean), 1e-3) / dimension * np.eye(dimension)
    return from_covariances(mean, _BETWEEN_SHARE * total, (1 - _BETWEEN_SHARE) * total)


def _of_people_with_several(people: NDArray[np.integer]) -> NDArray[np.int64]:
    """Rows of people with two or more faces: as many as a fit has use for."""
    known = np.flatnonzero(people >= 0)
    _, which, counts = np.unique(people[known], return_inverse=True, return_counts=True)
    rows: NDArray[np.int64] = known[counts[which] > 1]
    step = max(1, -(-len(rows) // _SAMPLE_ROWS))
    # Whole people are left out, not single faces.
    chosen: NDArray[np.int64] = rows[people[rows] % step == 0]
    return chosen
