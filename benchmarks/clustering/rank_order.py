"""Approximate rank-order clustering (Otto, Wang, Jain 2018, "Clustering millions of faces").

Two faces are near when their lists of neighbours agree: the distance counts the neighbours of
one, down to the other, that are missing from the other's list. Faces nearer than a threshold
are joined, transitively.
"""

from typing import Final

import numpy as np
from galleries import Vectors
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

_NEIGHBOURS: Final = 40


def rank_order(vectors: Vectors, threshold: float) -> NDArray[np.integer]:
    """Labels of vectors, shape (n,); the threshold is on the symmetric distance."""
    one, other, distance = _distances(vectors)
    near = distance < threshold
    graph = coo_array(
        (np.ones(np.count_nonzero(near), np.int8), (one[near], other[near])),
        shape=(len(vectors), len(vectors)),
    )
    labels: NDArray[np.integer] = connected_components(graph, directed=False)[1]
    return labels


def _distances(
    vectors: Vectors,
) -> tuple[NDArray[np.integer], NDArray[np.integer], NDArray[np.floating]]:
    """Every face with every face of its list: the two, and their symmetric distance."""
    lists = _lists(vectors)
    count, length = lists.shape
    listed = np.zeros((count, count), np.bool_)
    np.put_along_axis(listed, lists, True, axis=1)
    # For a face outside a list: as if it came last.
    ranks = np.full((count, count), length, np.int16)
    missing = np.empty((count, count), np.int16)
    member = csr_array(listed.astype(np.int32))
    missing[:] = length - (member @ member.T).toarray()
    for face, row in enumerate(lists):
        ranks[face, row] = np.arange(length)
        absent = ~listed[np.ix_(row, row)]
        missing[face, row] = np.cumsum(absent, axis=1)[np.arange(length), np.arange(length)]
    one, other = np.repeat(np.arange(count), length), lists.ravel()
    apart = one != other
    one, other = one[apart], other[apart]
    both = missing[one, other] + missing[other, one]
    return one, other, both / np.minimum(ranks[one, other], ranks[other, one])


def _lists(vectors: Vectors) -> NDArray[np.integer]:
    """Every face's neighbours, itself first, nearest next."""
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, 2.0)
    lists: NDArray[np.integer] = np.argsort(-scores, axis=1, kind="stable")
    return lists[:, : min(_NEIGHBOURS, len(vectors))]
