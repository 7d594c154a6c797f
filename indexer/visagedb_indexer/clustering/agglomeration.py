"""Agglomeration over the edges of a graph: the best pairs are merged until none is good enough.

A cluster is its number of faces and the sum of their vectors, which is all that the linkages
here need. Every round merges all pairs that are each other's best at once, as parallel
nearest-neighbour chains do (Murtagh 1983), and scores anew only the pairs that touch a merged
cluster.
"""

from collections.abc import Callable
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.values import Vector

Indices = NDArray[np.int32]
Scores = NDArray[np.float32]

_PAIRS_AT_ONCE: Final = 1 << 16
"""Pairs scored in one piece, so that gathered sums stay small."""
_KEPT_SHARE_MIN: Final = 0.7
"""When less than this share of the pairs is left, they are moved together."""


class Linkage(Protocol):
    """How well two clusters go together.

    `threshold` is the least score at which two clusters are merged. Scores depend on nothing
    but the counts and sums, so that they can be computed in any order and piece by piece.
    """

    @property
    def threshold(self) -> float:
        """Pairs below it are not merged."""
        ...

    def score(
        self, left_counts: Scores, left_sums: Vector, right_counts: Scores, right_sums: Vector
    ) -> Scores:
        """Scores of pairs of clusters.

        Args:
            left_counts: Faces of the first cluster of each pair, shape (m,).
            left_sums: Sums of their vectors, shape (m, dimension).
            right_counts: Faces of the second, shape (m,).
            right_sums: Sums of their vectors, shape (m, dimension).
        """
        ...


def agglomerate(
    counts: Scores,
    sums: Vector,
    left: Indices,
    right: Indices,
    linkage: Linkage,
    *,
    anchored: NDArray[np.bool_] | None = None,
    check: Callable[[], None] | None = None,
) -> Indices:
    """Merges clusters along the pairs of a graph.

    The answer does not depend on the order of the pairs.

    Args:
        counts: Faces of each cluster at the start, shape (n,), float32.
        sums: Sums of their vectors, shape (n, dimension), float32.
        left: One cluster of each pair, shape (m,).
        right: The other, shape (m,), not equal to `left`.
        linkage: What is merged.
        anchored: Clusters of which no two may come together, shape (n,).
        check: Called between rounds; raises to give up.

    Returns:
        The cluster of each starting cluster, numbered by first appearance, shape (n,).
    """
    state = _Clusters(counts, sums, linkage, anchored)
    pairs = _Pairs(left, right, state)
    while True:
        if check is not None:
            check()
        kept, absorbed = pairs.reciprocal_best(linkage.threshold, len(counts))
        if not len(kept):
            return number_by_appearance(state.roots())
        pairs.follow(state.merge(kept, absorbed))


class _Clusters:
    """Counts and sums under way, and where each starting cluster has gone."""

    def __init__(
        self,
        counts: Scores,
        sums: Vector,
        linkage: Linkage,
        anchored: NDArray[np.bool_] | None,
    ) -> None:
        self._counts = counts.astype(np.float32)
        self._sums = sums.astype(np.float32)
        self._linkage = linkage
        self._anchored = None if anchored is None else anchored.copy()
        self._parent = np.arange(len(counts), dtype=np.int32)

    def scores(self, left: Indices, right: Indices) -> Scores:
        scores = np.empty(len(left), np.float32)
        for start in range(0, len(left), _PAIRS_AT_ONCE):
            piece = slice(start, start + _PAIRS_AT_ONCE)
            a, b = left[piece], right[piece]
            scores[piece] = self._linkage.score(
                self._counts[a], self._sums[a], self._counts[b], self._sums[b]
            )
        if self._anchored is not None:
            scores[self._anchored[left] & self._anchored[right]] = -np.inf
        return scores

    def merge(self, kept: Indices, absorbed: Indices) -> NDArray[np.bool_]:
        """Merges disjoint pairs; says which clusters changed."""
        self._counts[kept] += self._counts[absorbed]
        self._sums[kept] += self._sums[absorbed]
        self._parent[absorbed] = kept
        if self._anchored is not None:
            self._anchored[kept] |= self._anchored[absorbed]
        touched = np.zeros(len(self._parent), np.bool_)
        touched[kept] = touched[absorbed] = True
        return touched

    def parents(self, clusters: Indices) -> Indices:
        """Where clusters went in the last merge."""
        return self._parent[clusters]

    def roots(self) -> Indices:
        """The cluster that each starting cluster ended in."""
        roots = self._parent
        while True:
            further = roots[roots]
            if np.array_equal(further, roots):
                return roots
            roots = further


class _Pairs:
    """The pairs of clusters that are joined by an edge, and their scores.

    A pair that is no more is a pair of cluster 0 with itself, of score -inf, until there are
    many: that is cheaper than to move all pairs in every round.
    """

    def __init__(self, left: Indices, right: Indices, clusters: _Clusters) -> None:
        self._clusters = clusters
        self._low, self._high = _unique_pairs(np.minimum(left, right), np.maximum(left, right))
        self._scores = clusters.scores(self._low, self._high)

    def reciprocal_best(self, threshold: float, count: int) -> tuple[Indices, Indices]:
        """Pairs at or above the threshold that are the best of both their clusters."""
        good = np.flatnonzero(self._scores >= threshold)
        a, b, s = self._low[good], self._high[good], self._scores[good]
        best = np.full(count, -np.inf, np.float32)
        np.maximum.at(best, a, s)
        np.maximum.at(best, b, s)
        mutual = (s == best[a]) & (s == best[b])
        a, b = a[mutual], b[mutual]
        # Equal scores (copies of one photograph) are decided by a hash, so that of a thousand
        # equal faces many pairs are merged in a round, and the order of the pairs is no matter.
        priority = _hash(a, b)
        first = np.full(count, np.iinfo(np.uint64).max, np.uint64)
        np.minimum.at(first, a, priority)
        np.minimum.at(first, b, priority)
        won = (priority == first[a]) & (priority == first[b])
        return a[won], b[won]

    def follow(self, touched: NDArray[np.bool_]) -> None:
        """After a merge: pairs of merged clusters are renamed, united and scored anew."""
        changed = np.flatnonzero(touched[self._low] | touched[self._high])
        a = self._clusters.parents(self._low[changed])
        b = self._clusters.parents(self._high[changed])
        apart = a != b
        a, b = _unique_pairs(np.minimum(a, b)[apart], np.maximum(a, b)[apart])
        filled, emptied = changed[: len(a)], changed[len(a) :]
        self._low[filled], self._high[filled] = a, b
        self._scores[filled] = self._clusters.scores(a, b)
        self._low[emptied] = self._high[emptied] = 0
        self._scores[emptied] = -np.inf
        self._drop_gone()

    def _drop_gone(self) -> None:
        there = self._low != self._high
        if np.count_nonzero(there) < _KEPT_SHARE_MIN * len(there):
            self._low, self._high = self._low[there], self._high[there]
            self._scores = self._scores[there]


def _hash(a: Indices, b: Indices) -> NDArray[np.uint64]:
    """A one-to-one mixture of pairs (the finaliser of SplitMix64; Steele et al. 2014)."""
    x = (a.astype(np.uint64) << np.uint64(32)) | b.astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def _unique_pairs(low: Indices, high: Indices) -> tuple[Indices, Indices]:
    keys = np.unique((low.astype(np.int64) << 32) | high)
    return (keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32)


def number_by_appearance(labels: NDArray[np.integer]) -> Indices:
    """The same partition with clusters numbered 0, 1, ... in order of their first member."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int32)
    number[np.argsort(first, kind="stable")] = np.arange(len(first), dtype=np.int32)
    result: Indices = number[inverse]
    return result
