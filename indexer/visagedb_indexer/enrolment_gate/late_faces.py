"""Faces that came between a search and the commit that rests on it."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.errors import IndexerError
from visagedb_indexer.store import LOOSE_NUMBER, Transaction
from visagedb_indexer.values import Vector

_TOGETHER: Final = 64
"""Probes that are compared with the late faces at once: of a large batch most are late faces of
one another, and reading them anew for each would take longer than all the rest."""


class LateFaces:
    """The faces from an ordinal on, also those that this commit is adding.

    Args:
        txn: The commit.
        start: The first ordinal that the search may not have seen.
        probes: What is compared, in this order; unit length, an error for what is not.
        dimension: Length of the vectors.
    """

    def __init__(
        self,
        txn: Transaction,
        start: int,
        probes: Sequence[Vector | IndexerError],
        dimension: int,
    ) -> None:
        self._txn = txn
        self._start = start
        self._probes = probes
        self._count = 0
        self._vectors: Vector = np.empty((16, dimension), dtype=np.float32)
        self._owners: NDArray[np.int64] = np.empty(16, dtype=np.int64)
        self._block = range(0)
        self._block_scores: Vector = np.empty((0, 0), dtype=np.float32)

    def best(self, position: int, number: int) -> tuple[float | None, tuple[float, int] | None]:
        """The most similar late faces of an identity, and of all others.

        Args:
            position: Of the probe.
            number: The identity; -1 for one that does not exist yet.

        Returns:
            The score of the identity's own, None without one; score and ordinal of the best of
            another identity.
        """
        self._gather()
        if not self._count:
            return None, None
        scores, owners = self._scores(position), self._owners[: self._count]
        own = self._highest(scores, (owners == number) & (number >= 0))
        people = (owners >= 0) & (owners != LOOSE_NUMBER)
        other = self._highest(scores, people & (owners != number))
        return (own and own[0]), other

    def _highest(
        self, scores: NDArray[np.float32], wanted: NDArray[np.bool_]
    ) -> tuple[float, int] | None:
        """Score and ordinal of the best of some faces that still have their owner."""
        while wanted.any():
            place = int(np.argmax(np.where(wanted, scores, -np.inf)))
            owner = self._txn.owner(self._start + place)
            if owner == self._owners[place]:
                return float(scores[place]), self._start + place
            # Replaced by a later face of this commit.
            self._owners[place] = owner
            wanted[place] = False
        return None

    def _scores(self, position: int) -> NDArray[np.float32]:
        if position not in self._block:
            self._block = range(position, min(position + _TOGETHER, len(self._probes)))
            blank = np.zeros(self._vectors.shape[1], dtype=np.float32)
            probes = [self._probes[place] for place in self._block]
            matrix = np.stack([blank if isinstance(one, IndexerError) else one for one in probes])
            self._block_scores = matrix @ self._vectors[: self._count].T
        known = self._block_scores[position - self._block.start]
        probe = self._probes[position]
        assert not isinstance(probe, IndexerError)
        newest = self._vectors[len(known) : self._count] @ probe
        scores: NDArray[np.float32] = np.concatenate([known, newest])
        return scores

    def _gather(self) -> None:
        """Reads the faces that have come since the last look."""
        missing = self._txn.counters().next_ordinal - self._start - self._count
        while len(self._vectors) < self._count + missing:
            self._vectors = np.concatenate([self._vectors, np.empty_like(self._vectors)])
            self._owners = np.concatenate([self._owners, np.empty_like(self._owners)])
        for _ in range(missing):
            ordinal = self._start + self._count
            self._vectors[self._count] = self._txn.vector(ordinal)
            self._owners[self._count] = self._txn.owner(ordinal)
            self._count += 1
