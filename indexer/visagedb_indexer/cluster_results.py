"""From labels to clusters: who belongs to which, how central, how close to the next cluster."""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.clustering import Edges
from visagedb_indexer.store import ClusterRecord
from visagedb_indexer.values import Vector

_ROWS: Final = 1 << 14
_PAIRS: Final = 1 << 16


def describe(
    ordinals: NDArray[np.int64],
    vectors: Vector,
    labels: NDArray[np.int32],
    edges: Edges | None = None,
) -> list[ClusterRecord]:
    """The clusters of a partition, largest first, among equals by their oldest face.

    Args:
        ordinals: Of the faces, ascending, shape (n,).
        vectors: Unit vectors, shape (n, dimension).
        labels: Numbered 0, 1, ... by first member, shape (n,).
        edges: Neighbours, among which the nearest other cluster is looked for; None for none.
    """
    if not len(labels):
        return []
    sizes = np.bincount(labels)
    by_rank = np.argsort(-sizes, kind="stable")
    rank_of = np.empty(len(by_rank), np.int64)
    rank_of[by_rank] = np.arange(len(by_rank))
    ranks = rank_of[labels]
    centres = np.empty((len(sizes), vectors.shape[1]), np.float32)
    centralities = np.empty(len(labels), np.float32)
    order = np.argsort(ranks, kind="stable")
    ends = np.cumsum(sizes[by_rank])
    for first, last in _pieces(ends):
        start = int(ends[first - 1]) if first else 0
        rows = order[start : int(ends[last - 1])]
        piece = vectors[rows]
        begins = np.concatenate([[0], ends[first : last - 1] - start])
        sums = np.add.reduceat(piece, begins, axis=0)
        centres[first:last] = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-6)
        centralities[rows] = np.einsum("ij,ij->i", piece, centres[ranks[rows]])
    nearest, scores = _nearest(ranks, centres, edges)
    order = np.lexsort((ordinals, -centralities, ranks))
    places, closeness = ordinals[order].astype("<i8"), centralities[order].astype("<f4")
    begins = np.concatenate([[0], ends[:-1]])
    cohesion = np.add.reduceat(closeness, begins) / np.diff(begins, append=len(labels))
    return [
        ClusterRecord(
            ordinals=places[begin:end].tobytes(),
            centralities=closeness[begin:end].tobytes(),
            cohesion=float(min(mean, 1.0)),
            nearest=int(other),
            nearest_score=float(score),
        )
        for begin, end, mean, other, score in zip(
            begins, ends, cohesion, nearest, scores, strict=True
        )
    ]


def _pieces(ends: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of whole clusters with about `_ROWS` faces together."""
    first = 0
    while first < len(ends):
        start = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, start + _ROWS, side="right")))
        yield first, last
        first = last


def _nearest(
    ranks: NDArray[np.int64], centres: Vector, edges: Edges | None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each cluster the one with the nearest centre, of those it has an edge to; or -1."""
    nearest = np.full(len(centres), -1, np.int64)
    best = np.zeros(len(centres), np.float32)
    if edges is None or not len(edges):
        return nearest, best
    left, right = ranks[edges.left], ranks[edges.right]
    apart = left != right
    low, high = np.minimum(left, right)[apart], np.maximum(left, right)[apart]
    pairs = np.unique((low << 32) | high)
    low, high = pairs >> 32, pairs & 0xFFFFFFFF
    score = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _PAIRS):
        piece = slice(start, start + _PAIRS)
        score[piece] = np.einsum("ij,ij->i", centres[low[piece]], centres[high[piece]])
    one, other = np.concatenate([low, high]), np.concatenate([high, low])
    both = np.concatenate([score, score])
    order = np.lexsort((other, -both, one))
    clusters, first = np.unique(one[order], return_index=True)
    nearest[clusters] = other[order][first]
    best[clusters] = np.clip(both[order][first], -1.0, 1.0)
    return nearest, best
