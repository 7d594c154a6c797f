"""Which identity owns which face, in memory: one int32 per face.

There is one writer, the gallery's; readers take a view and need no lock. A deleted
face is marked at once, so no search that starts later can return it, whatever the
codes of the compact scan still hold.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.values import FaceScope

NO_OWNER = -1
LOOSE = 2**31 - 1
"""Owner of a face that belongs to no identity. Like every face it is in the codes."""
_CAPACITY_MIN = 1024


@dataclass(frozen=True, slots=True, eq=False)
class FacesView:
    """The owners of all faces that exist at one moment; deletions still show through."""

    owners: NDArray[np.int32]

    @property
    def count(self) -> int:
        """Ordinals given so far, the deleted ones included."""
        return len(self.owners)

    def passing(
        self, allowed: NDArray[np.bool_] | None, scope: FaceScope = FaceScope.ALL
    ) -> NDArray[np.bool_]:
        """Which ordinals live, are in scope and pass a filter on identity numbers.

        Loose faces pass no filter. Shape (count,), bool.
        """
        alive: NDArray[np.bool_]
        alive = self.owners == LOOSE if scope is FaceScope.LOOSE else self.owners >= 0
        if scope is FaceScope.IDENTITIES and allowed is None:
            alive &= self.owners != LOOSE
        if allowed is None:
            return alive
        known = self.owners < len(allowed)
        result = alive & known
        if len(allowed):
            result[result] = allowed[self.owners[result]]
        return result


class FacesTable:
    """A growing table of owners.

    Args:
        owners: Identity number by ordinal, `NO_OWNER` where deleted; shape (n,), int32.
    """

    def __init__(self, owners: NDArray[np.int32]) -> None:
        self._table = np.full(max(_CAPACITY_MIN, 2 * len(owners)), NO_OWNER, dtype=np.int32)
        self._table[: len(owners)] = owners
        self._view = FacesView(self._table[: len(owners)])
        self.live_count = int(np.count_nonzero(owners >= 0))
        self.loose_count = int(np.count_nonzero(owners == LOOSE))

    def view(self) -> FacesView:
        """The faces known now."""
        return self._view

    def add(self, ordinal: int, number: int) -> None:
        """Adds the next face."""
        if ordinal >= len(self._table):
            grown = np.full(2 * len(self._table), NO_OWNER, dtype=np.int32)
            grown[: len(self._table)] = self._table
            self._table = grown
        self._table[ordinal] = number
        self.live_count += 1
        self.loose_count += number == LOOSE
        self._view = FacesView(self._table[: ordinal + 1])

    def remove(self, ordinal: int) -> None:
        """Marks a face as deleted."""
        self.loose_count -= bool(self._table[ordinal] == LOOSE)
        self._table[ordinal] = NO_OWNER
        self.live_count -= 1

    def reassign(self, moved: Iterable[tuple[int, int]]) -> None:
        """Gives faces, by ordinal, to other identities, by number."""
        for ordinal, number in moved:
            self.loose_count += (number == LOOSE) - bool(self._table[ordinal] == LOOSE)
            self._table[ordinal] = number
