"""Average linkage over the exact graph of all pairs.

Two groups are joined while the mean cosine between their members is at least the
threshold (Sokal and Michener 1958). Every pair is compared, so it is meant for small
galleries.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from visagedb_indexer.values import Vector

METHOD: Final = "average-linkage"


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """Faces taken for one person, most central first.

    Attributes:
        members: Positions in the input, shape (n,), int64.
        centralities: Cosine of each to the group's centre, shape (n,), float32.
    """

    members: NDArray[np.int64]
    centralities: NDArray[np.float32]

    @property
    def cohesion(self) -> float:
        """Mean cosine of the members to the centre."""
        return float(self.centralities.mean())


def group_faces(vectors: Vector, threshold: float) -> list[Group]:
    """Groups unit vectors of shape (n, dimension) by person, largest group first."""
    if len(vectors) == 0:
        return []
    labels = _labels(vectors, threshold)
    order = np.argsort(labels, kind="stable")
    edges = np.flatnonzero(np.diff(labels[order])) + 1
    groups = [_group(vectors, members) for members in np.split(order, edges)]
    groups.sort(key=lambda group: (-len(group.members), group.members.min()))
    return groups


def _labels(vectors: Vector, threshold: float) -> NDArray[np.int64]:
    count = len(vectors)
    if count == 1:
        return np.zeros(1, dtype=np.int64)
    # Row by row, so that the square matrix never exists: half the memory.
    rows = [1.0 - vectors[i + 1 :] @ vectors[i] for i in range(count - 1)]
    distances = np.maximum(np.concatenate(rows, dtype=np.float64), 0.0)
    tree = linkage(distances, method="average")
    labels: NDArray[np.int64] = fcluster(tree, t=1.0 - threshold, criterion="distance")
    return labels.astype(np.int64)


def _group(vectors: Vector, members: NDArray[np.int64]) -> Group:
    chosen = vectors[members]
    centre = chosen.sum(axis=0)
    centralities = chosen @ (centre / max(float(np.linalg.norm(centre)), 1e-12))
    order = np.lexsort((members, -centralities))
    return Group(members[order], centralities[order].astype(np.float32))
