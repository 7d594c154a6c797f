"""Agglomeration over the edges of a graph: the best pairs are merged until none is good enough.

A cluster is its number of faces and the sum of their vectors, which is all that the linkages
here need. Every round merges all pairs that are each other's best at once, as parallel
nearest-neighbour chains do (Murtagh 1983), and scores anew only the pairs that touch a merged
cluster.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.values import Vector

Indices = NDArray[np.int32]
Scores = NDArray[np.float32]

_PAIRS_AT_ONCE: Final = 1 << 11
"""Pairs scored in one piece: what is gathered for them stays in the processor's cache."""
_ROUNDS_PER_REST: Final = 4
"""How often it is looked for pairs that can be set aside."""
_ALIVE_SHARE_MAX: Final = 0.7
"""They are, when no more than this share has to stay."""


@dataclass(frozen=True, slots=True, eq=False)
class Summaries:
    """What a linkage needs to know of some clusters.

    Attributes:
        sizes: How many faces they are worth, shape (m,).
        points: Where they are, shape (m, dimension).
        own: What they say on their own, shape (m,).
    """

    sizes: Scores
    points: Vector
    own: Scores

    def chosen(self, rows: Indices | slice) -> "Summaries":
        """Of some of the clusters."""
        return Summaries(self.sizes[rows], self.points[rows], self.own[rows])

    def replace(self, rows: Indices, other: "Summaries") -> None:
        """Writes new summaries over those of some clusters."""
        self.sizes[rows], self.points[rows], self.own[rows] = other.sizes, other.points, other.own


class Linkage(Protocol):
    """How well two clusters go together."""

    @property
    def threshold(self) -> float:
        """Pairs that score less are not merged."""
        ...

    def summarise(self, counts: Scores, sums: Vector) -> Summaries:
        """What is computed once for every cluster.

        Args:
            counts: Faces of each cluster, shape (m,).
            sums: Sums of their vectors, shape (m, dimension).
        """
        ...

    def score(self, left: Summaries, right: Summaries) -> Scores:
        """Scores of m pairs of clusters; each depends on nothing but its two clusters."""
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
    pairs = _Pairs(left, right, state, linkage.threshold, len(counts))
    while True:
        if check is not None:
            check()
        kept, absorbed = pairs.reciprocal_best()
        if not len(kept):
            return number_by_appearance(state.roots())
        state.merge(kept, absorbed)
        pairs.follow(kept, absorbed)


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """Pairs of clusters, the lower one first, with their scores."""

    low: Indices
    high: Indices
    scores: Scores

    def chosen(self, rows: NDArray[np.bool_]) -> "_Table":
        return _Table(self.low[rows], self.high[rows], self.scores[rows])

    def joined(self, other: "_Table") -> "_Table":
        return _Table(
            np.concatenate([self.low, other.low]),
            np.concatenate([self.high, other.high]),
            np.concatenate([self.scores, other.scores]),
        )


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
        self._summaries = linkage.summarise(self._counts, self._sums)
        self._anchored = None if anchored is None else anchored.copy()
        self._parent = np.arange(len(counts), dtype=np.int32)

    def scores(self, left: Indices, right: Indices) -> Scores:
        scores = np.empty(len(left), np.float32)
        for start in range(0, len(left), _PAIRS_AT_ONCE):
            piece = slice(start, start + _PAIRS_AT_ONCE)
            one, other = self._summaries.chosen(left[piece]), self._summaries.chosen(right[piece])
            scores[piece] = self._linkage.score(one, other)
        if self._anchored is not None:
            scores[self._anchored[left] & self._anchored[right]] = -np.inf
        return scores

    def merge(self, kept: Indices, absorbed: Indices) -> None:
        """Merges disjoint pairs."""
        self._counts[kept] += self._counts[absorbed]
        self._sums[kept] += self._sums[absorbed]
        self._parent[absorbed] = kept
        self._summaries.replace(kept, self._linkage.summarise(self._counts[kept], self._sums[kept]))
        if self._anchored is not None:
            self._anchored[kept] |= self._anchored[absorbed]

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

    A cluster is alive when one of its pairs could be merged. A pair of two that are not cannot
    change before one of them has come alive, so it is set aside until then: after the first
    rounds little is left to look at.

    A pair that is no more is a pair of cluster 0 with itself, of score -inf, until there are
    many: that is cheaper than to move all pairs in every round.
    """

    def __init__(
        self, left: Indices, right: Indices, clusters: _Clusters, threshold: float, count: int
    ) -> None:
        self._clusters = clusters
        self._threshold = threshold
        low, high = _unique_pairs(np.minimum(left, right), np.maximum(left, right))
        self._hot = _Table(low, high, clusters.scores(low, high))
        self._cold = _Table(low[:0], high[:0], self._hot.scores[:0])
        self._has_cold = np.zeros(count, np.bool_)
        self._marks = np.zeros(count, np.bool_)
        self._best = np.full(count, -np.inf, np.float32)
        self._first = np.full(count, np.iinfo(np.uint64).max, np.uint64)
        self._rounds = 0

    def reciprocal_best(self) -> tuple[Indices, Indices]:
        """Pairs at or above the threshold that are the best of both their clusters."""
        good = np.flatnonzero(self._hot.scores >= self._threshold)
        a, b, s = self._hot.low[good], self._hot.high[good], self._hot.scores[good]
        self._wake(a, b)
        best = self._best
        np.maximum.at(best, a, s)
        np.maximum.at(best, b, s)
        mutual = (s == best[a]) & (s == best[b])
        best[a] = best[b] = -np.inf
        if self._rounds % _ROUNDS_PER_REST == 0:
            self._set_aside(a, b)
        self._rounds += 1
        return self._untied(a[mutual], b[mutual])

    def follow(self, kept: Indices, absorbed: Indices) -> None:
        """After a merge: pairs of merged clusters are renamed, united and scored anew."""
        hot = self._hot
        changed = np.flatnonzero(self._marked(hot, kept, absorbed))
        a = self._clusters.parents(hot.low[changed])
        b = self._clusters.parents(hot.high[changed])
        apart = a != b
        a, b = _unique_pairs(np.minimum(a, b)[apart], np.maximum(a, b)[apart])
        filled, emptied = changed[: len(a)], changed[len(a) :]
        hot.low[filled], hot.high[filled] = a, b
        hot.scores[filled] = self._clusters.scores(a, b)
        hot.low[emptied] = hot.high[emptied] = 0
        hot.scores[emptied] = -np.inf

    def _untied(self, a: Indices, b: Indices) -> tuple[Indices, Indices]:
        """Of pairs that share a cluster, one: equal scores, as of copies of one photograph.

        A hash decides, so that of a thousand equal faces many pairs are merged in a round, and
        the order of the pairs is no matter.
        """
        priority, first = _hash(a, b), self._first
        np.minimum.at(first, a, priority)
        np.minimum.at(first, b, priority)
        won = (priority == first[a]) & (priority == first[b])
        first[a] = first[b] = np.iinfo(np.uint64).max
        return a[won], b[won]

    def _wake(self, a: Indices, b: Indices) -> None:
        """Brings back the pairs of clusters that have come alive."""
        alive = np.concatenate([a, b])
        woken = alive[self._has_cold[alive]]
        if len(woken):
            here = self._marked(self._cold, woken, woken)
            self._hot = self._hot.joined(self._cold.chosen(here))
            self._cold = self._cold.chosen(~here)
            self._has_cold[woken] = False

    def _set_aside(self, a: Indices, b: Indices) -> None:
        """Takes the pairs out of sight of which neither cluster is alive, and drops gone ones."""
        alive = self._marked(self._hot, a, b)
        if np.count_nonzero(alive) > _ALIVE_SHARE_MAX * len(alive):
            return
        resting = self._hot.chosen(~alive & (self._hot.low != self._hot.high))
        self._has_cold[resting.low] = self._has_cold[resting.high] = True
        self._cold = self._cold.joined(resting)
        self._hot = self._hot.chosen(alive)

    def _marked(self, table: "_Table", one: Indices, other: Indices) -> NDArray[np.bool_]:
        """Which pairs have one of some clusters."""
        self._marks[one] = self._marks[other] = True
        found: NDArray[np.bool_] = self._marks[table.low] | self._marks[table.high]
        self._marks[one] = self._marks[other] = False
        return found


def _hash(a: Indices, b: Indices) -> NDArray[np.uint64]:
    """A one-to-one mixture of pairs (the finaliser of SplitMix64; Steele et al. 2014)."""
    x = (a.astype(np.uint64) << np.uint64(32)) | b.astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[np.uint64] = x ^ (x >> np.uint64(31))
    return mixed


def _unique_pairs(low: Indices, high: Indices) -> tuple[Indices, Indices]:
    keys = np.sort((low.astype(np.int64) << 32) | high)
    keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])[: len(keys)]]
    return (keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32)


def number_by_appearance(labels: NDArray[np.integer]) -> Indices:
    """The same partition with clusters numbered 0, 1, ... in order of their first member."""
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    number = np.empty(len(first), np.int32)
    number[np.argsort(first, kind="stable")] = np.arange(len(first), dtype=np.int32)
    result: Indices = number[inverse]
    return result
