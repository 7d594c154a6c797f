"""Faces that came between a search and the commit that rests on it."""

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.store import LOOSE_NUMBER, Transaction
from visagedb_indexer.values import Vector


class LateFaces:
    """The faces from an ordinal on, also those that this commit is adding.

    Args:
        txn: The commit.
        start: The first ordinal that the search may not have seen.
        dimension: Length of the vectors.
    """

    def __init__(self, txn: Transaction, start: int, dimension: int) -> None:
        self._txn = txn
        self._start = start
        self._count = 0
        self._vectors: Vector = np.empty((16, dimension), dtype=np.float32)

    def best(self, vector: Vector, number: int) -> tuple[float | None, tuple[float, int] | None]:
        """The most similar ones of an identity, and of all others.

        Args:
            vector: Unit length, shape (dimension,).
            number: The identity; -1 for one that does not exist yet.

        Returns:
            The score of the identity's own, None without one; score and ordinal of the best of
            another identity.
        """
        self._gather()
        if not self._count:
            return None, None
        scores = self._vectors[: self._count] @ vector
        owners = self._owners()
        own = scores[owners == number] if number >= 0 else scores[:0]
        others = np.flatnonzero((owners >= 0) & (owners != LOOSE_NUMBER) & (owners != number))
        other = None
        if len(others):
            best = int(others[np.argmax(scores[others])])
            other = (float(scores[best]), self._start + best)
        return (float(own.max()) if len(own) else None), other

    def _owners(self) -> NDArray[np.int64]:
        ordinals = range(self._start, self._start + self._count)
        return np.fromiter(map(self._txn.owner, ordinals), dtype=np.int64, count=self._count)

    def _gather(self) -> None:
        """Reads the vectors that have come since the last look."""
        missing = self._txn.counters().next_ordinal - self._start - self._count
        while len(self._vectors) < self._count + missing:
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
        for _ in range(missing):
            self._vectors[self._count] = self._txn.vector(self._start + self._count)
            self._count += 1
