"""Faces with the identities they are enrolled under, and the evidence between them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.clustering import Edges, PldaModel
from visagedb_indexer.values import Vector

_BLOCK: Final = 1 << 14

Check = Callable[[], None]
"""Called now and then; raises to end the work."""


@dataclass(frozen=True, slots=True, eq=False)
class LabelledFaces:
    """The faces of a gallery and what is near to what.

    Attributes:
        vectors: Unit vectors, shape (n, dimension).
        owners: Identity of each face, counted from 0 without gaps, shape (n,).
        counts: Faces of each identity, shape (identities,).
        projected: The vectors in the model's coordinates.
        model: How the faces of a person and of different persons spread.
        edges: Near pairs of faces.
        floor: The cosine from which on a pair is near.
    """

    vectors: Vector
    owners: NDArray[np.int64]
    counts: NDArray[np.int64]
    projected: Vector
    model: PldaModel
    edges: Edges
    floor: float

    @classmethod
    def of(
        cls,
        vectors: Vector,
        owners: NDArray[np.integer],
        model: PldaModel,
        edges: Edges,
        floor: float,
    ) -> Self:
        """From faces with identity numbers of any kind."""
        _, index, counts = np.unique(owners, return_inverse=True, return_counts=True)
        projected = model.project(vectors)
        return cls(vectors, index.astype(np.int64), counts, projected, model, edges, floor)

    def __len__(self) -> int:
        return len(self.owners)

    @property
    def identity_count(self) -> int:
        """Identities with a face."""
        return len(self.counts)

    def sums(self, kept: NDArray[np.bool_]) -> tuple[NDArray[np.int64], Vector]:
        """Of each identity, how many faces are kept, and the sum of their projections."""
        counts = np.bincount(self.owners[kept], minlength=self.identity_count)
        sums = np.zeros((self.identity_count, self.projected.shape[1]), np.float32)
        rows = np.flatnonzero(kept)
        rows = rows[np.argsort(self.owners[rows], kind="stable")]
        present = np.flatnonzero(counts)
        if len(rows):
            starts = np.concatenate([[0], np.cumsum(counts[present])[:-1]])
            sums[present] = np.add.reduceat(self.projected[rows], starts, axis=0)
        return counts, sums

    def foreign(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
        """Near pairs under different identities, each both ways: face, other face, cosine."""
        left, right = self.edges.left.astype(np.int64), self.edges.right.astype(np.int64)
        apart = self.owners[left] != self.owners[right]
        left, right, score = left[apart], right[apart], self.edges.score[apart]
        return (
            np.concatenate([left, right]),
            np.concatenate([right, left]),
            np.concatenate([score, score]),
        )

    def evidence(
        self,
        left: tuple[NDArray[np.int64], Vector],
        right: tuple[NDArray[np.int64], Vector],
        pairs: tuple[NDArray[np.int64], NDArray[np.int64]],
        check: Check = lambda: None,
    ) -> NDArray[np.float32]:
        """Evidence that sets of faces are of one person, in nats.

        Args:
            left: Counts and sums of some sets.
            right: Counts and sums of others.
            pairs: Which of the left is compared with which of the right.
            check: Called between blocks.
        """
        found = [np.empty(0, np.float32)]
        for start in range(0, len(pairs[0]), _BLOCK):
            check()
            one, other = (part[start : start + _BLOCK] for part in pairs)
            found.append(
                self.model.llr(
                    left[0][one].astype(np.float32),
                    left[1][one],
                    right[0][other].astype(np.float32),
                    right[1][other],
                )
            )
        return np.concatenate(found)
