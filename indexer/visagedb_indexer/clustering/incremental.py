"""New faces join existing clusters or found new ones, without a full run.

A cluster is its number of faces and their sum, so the clusters that the new faces are near
to, and the new faces, are all that has to be looked at. The same agglomeration as in a full
run decides; only that two existing clusters do not come together, so that names stay right.
"""

from dataclasses import dataclass
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.clustering.agglomeration import agglomerate
from visagedb_indexer.clustering.graph import NEIGHBOURS_DEFAULT
from visagedb_indexer.clustering.neighbours import Neighbours
from visagedb_indexer.clustering.partition import PldaLinkage
from visagedb_indexer.clustering.plda import PldaModel, least_evidence
from visagedb_indexer.clustering.threads import Threads
from visagedb_indexer.clustering.tiles import VectorSource
from visagedb_indexer.values import Vector

_NEW_ROWS: Final = 4096
_OLD_ROWS: Final = 1024


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """Where new faces went.

    Attributes:
        labels: Shape (m,), int32: an existing cluster's label, or for a founded cluster the
            labels that follow the highest existing one, by first appearance.
        founded: How many clusters were founded.
    """

    labels: NDArray[np.int32]
    founded: int


def assign(
    new: Vector,
    vectors: VectorSource,
    labels: NDArray[np.int32],
    model: PldaModel,
    *,
    floor: float,
    threshold: float | None = None,
    neighbours: int = NEIGHBOURS_DEFAULT,
) -> Assignment:
    """Assigns new faces to the clusters of a gallery.

    Args:
        new: Unit vectors of the new faces, shape (m, dimension).
        vectors: Those of the clustered faces, shape (n, dimension).
        labels: Their clusters, shape (n,), not negative.
        model: The PLDA model of the full run.
        floor: Least cosine of an edge, as in the full run.
        threshold: Least log-likelihood ratio; by default that of a full run with all faces.
        neighbours: Nearest faces of a new one that are looked at.
    """
    if threshold is None:
        threshold = least_evidence(len(labels) + len(new))
    near, other = _edges(new, vectors, floor, neighbours)
    old = other < len(labels)
    clusters, place = np.unique(labels[other[old]], return_inverse=True)
    counts, sums = _totals(vectors, labels, clusters, model)
    ends = np.empty(len(near), np.int32)
    ends[old] = place
    ends[~old] = other[~old] - len(labels) + len(clusters)
    anchored = np.zeros(len(clusters) + len(new), np.bool_)
    anchored[: len(clusters)] = True
    found = agglomerate(
        np.concatenate([counts, np.ones(len(new), np.float32)]),
        np.concatenate([sums, model.project(new)]),
        (near + len(clusters)).astype(np.int32),
        ends,
        PldaLinkage(model, threshold),
        anchored=anchored,
    )
    return _named(found, clusters, int(labels.max(initial=-1)) + 1)


def _named(found: NDArray[np.int32], clusters: NDArray[np.int32], free: int) -> Assignment:
    """Existing clusters keep their labels; the others get the free ones."""
    names = np.full(int(found.max(initial=-1)) + 1, -1, np.int64)
    names[found[: len(clusters)]] = clusters
    fresh = np.flatnonzero(names < 0)
    names[fresh] = free + np.arange(len(fresh))
    return Assignment(names[found[len(clusters) :]].astype(np.int32), len(fresh))


def _edges(
    new: Vector, vectors: VectorSource, floor: float, neighbours: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pairs of a new face and a near one; new faces are numbered after the old ones."""
    count = vectors.shape[0]
    best = Neighbours(len(new), neighbours)

    def compare(
        piece: tuple[int, int],
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        start, first = piece
        scores = new[first : first + _NEW_ROWS] @ _block(vectors, new, start).T
        near = np.flatnonzero(scores.max(axis=1, initial=-2.0) >= floor)
        i, j = np.nonzero(scores[near] >= floor)
        rows, others, found = near[i] + first, j + start, scores[near[i], j]
        apart = rows + count != others
        return rows[apart], others[apart], found[apart]

    pieces = product(range(0, count + len(new), _OLD_ROWS), range(0, len(new), _NEW_ROWS))
    with Threads() as threads:
        for found in threads.map(compare, pieces):
            best.add(*found)
    near_rows, near_others, _ = best.pairs()
    return near_rows, near_others


def _block(vectors: VectorSource, new: Vector, start: int) -> Vector:
    """Some of the old faces and the new ones, one after the other."""
    count = vectors.shape[0]
    old = vectors[min(start, count) : min(start + _OLD_ROWS, count)]
    more = new[max(start - count, 0) : max(start + _OLD_ROWS - count, 0)]
    return np.concatenate([old, more]) if len(more) else old


def _totals(
    vectors: VectorSource,
    labels: NDArray[np.int32],
    clusters: NDArray[np.int32],
    model: PldaModel,
) -> tuple[NDArray[np.float32], Vector]:
    """Number of faces and sum of projected vectors of some clusters."""
    wanted = np.full(int(labels.max(initial=-1)) + 1, -1, np.int32)
    wanted[clusters] = np.arange(len(clusters), dtype=np.int32)
    members = np.flatnonzero(wanted[labels] >= 0)
    which = wanted[labels[members]]
    sums = np.zeros((len(clusters), vectors.shape[1]), np.float32)
    for start in range(0, len(members), _NEW_ROWS):
        piece = slice(start, start + _NEW_ROWS)
        np.add.at(sums, which[piece], model.project(vectors[members[piece]]))
    counts = np.bincount(which, minlength=len(clusters)).astype(np.float32)
    return counts, sums
