"""Other ways to cluster the same embeddings. Each takes one number, chosen on other people.

A peer gives a label to every face; what it calls noise is a cluster of one.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from galleries import Vectors
from numpy.typing import NDArray

from clustering.rank_order import rank_order
from visagedb_indexer.clustering import Edges, partitioner
from visagedb_indexer.clustering.fitting import generic

Labels = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Peer:
    """A method and the values its one number is chosen from.

    Attributes:
        cluster: Labels of vectors, given the number.
        values: Candidates, tried on the people it is tuned on.
        library: What has to be installed.
    """

    cluster: Callable[[Vectors, float], Labels]
    values: tuple[float, ...]
    library: str | None = None


def cosines_grid(low: float, high: float, step: float = 0.02) -> tuple[float, ...]:
    return tuple(float(value) for value in np.round(np.arange(low, high, step), 4))


def exact_edges(vectors: Vectors, floor: float) -> Edges:
    """All pairs with at least this cosine."""
    left, right, scores = [], [], []
    for start in range(0, len(vectors), 2048):
        block = vectors[start : start + 2048] @ vectors[start:].T
        i, j = np.nonzero(block >= floor)
        later = j > i
        left.append(i[later] + start)
        right.append(j[later] + start)
        scores.append(block[i[later], j[later]])
    one, other, found = (np.concatenate(column) for column in (left, right, scores))
    return Edges.of_pairs(one, other, found, len(vectors))


def without_noise(labels: Labels) -> Labels:
    """Noise, which is labelled -1, as clusters of one."""
    alone = labels < 0
    labels = labels.copy()
    labels[alone] = labels.max(initial=0) + 1 + np.arange(np.count_nonzero(alone))
    return labels


def dbscan(vectors: Vectors, cosine: float) -> Labels:
    from sklearn.cluster import DBSCAN

    distance = float(np.sqrt(2 - 2 * cosine))
    return without_noise(DBSCAN(eps=distance, min_samples=2).fit_predict(vectors))


def hdbscan(vectors: Vectors, samples: float) -> Labels:
    from sklearn.cluster import HDBSCAN

    # A distance below which clusters are not split, as below, makes it fail with numpy 2.4.
    method = HDBSCAN(min_cluster_size=2, min_samples=int(samples), copy=True)
    return without_noise(method.fit_predict(vectors))


def fast_hdbscan(vectors: Vectors, cosine: float) -> Labels:
    import fast_hdbscan as library

    distance = float(np.sqrt(2 - 2 * cosine))
    method: Any = library.HDBSCAN(
        min_cluster_size=2,
        min_samples=1,
        cluster_selection_epsilon=distance,
        metric="euclidean",
    )
    return without_noise(np.asarray(method.fit_predict(vectors)))


def dlib_whispers(vectors: Vectors, cosine: float) -> Labels:
    import dlib

    edges = exact_edges(vectors, cosine)
    # Edges from a face to itself keep it in the answer.
    pairs = [(i, i, 0.0) for i in range(len(vectors))]
    pairs += zip(edges.left.tolist(), edges.right.tolist(), edges.score.tolist(), strict=True)
    return np.array(dlib.chinese_whispers(pairs))


def of_graph(name: str) -> Callable[[Vectors, float], Labels]:
    """One of our own other methods on the exact graph."""

    def cluster(vectors: Vectors, cosine: float) -> Labels:
        method = partitioner(name, generic(vectors[:2]), cosine)
        return method.partition(exact_edges(vectors, cosine), vectors)

    return cluster


_COSINES: Final = cosines_grid(0.28, 0.56)
PEERS: Final[Mapping[str, Peer]] = {
    "scikit-learn DBSCAN": Peer(dbscan, _COSINES, "sklearn"),
    "scikit-learn HDBSCAN": Peer(hdbscan, (1.0, 2.0, 3.0, 5.0), "sklearn"),
    "fast-hdbscan": Peer(fast_hdbscan, _COSINES, "pynndescent"),
    "Chinese whispers (dlib)": Peer(dlib_whispers, _COSINES, "dlib"),
    "approximate rank order": Peer(rank_order, cosines_grid(0.05, 2.0, 0.1)),
    "Infomap, exact graph": Peer(of_graph("infomap"), _COSINES, "infomap"),
    "Leiden, exact graph": Peer(of_graph("leiden"), _COSINES, "igraph"),
    "average linkage": Peer(of_graph("average-linkage"), _COSINES),
}
