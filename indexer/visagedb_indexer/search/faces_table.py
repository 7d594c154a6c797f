"""Which identity owns which face, in memory: two int32 per face, one per identity.

There is one writer, the gallery's; readers take a view and need no lock. A deleted
face is marked at once, so no search that starts later can return it, whatever the
codes of the compact scan still hold.

The faces of an identity are a chain. A small filter finds its faces that way, without a look
at all the others.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.values import FaceScope

NO_OWNER = -1
LOOSE = 2**31 - 1
"""Owner of a face that belongs to no identity. Like every face it is in the codes."""
_NO_FACE = -1
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
        owners = self.owners
        alive: NDArray[np.bool_]
        alive = owners == LOOSE if scope is FaceScope.LOOSE else owners >= 0
        if allowed is None:
            return alive & (owners != LOOSE) if scope is FaceScope.IDENTITIES else alive
        if not len(allowed):
            return np.zeros(len(owners), dtype=np.bool_)
        known = alive & (owners < len(allowed))
        # Whoever is not known stands for the first identity while all are looked up at once.
        result: NDArray[np.bool_] = known & allowed[np.where(known, owners, 0)]
        return result


class FacesTable:
    """A growing table of owners.

    Args:
        owners: Identity number by ordinal, `NO_OWNER` where deleted; shape (n,), int32.
    """

    def __init__(self, owners: NDArray[np.int32]) -> None:
        count = len(owners)
        self._owners = _Growing(owners, NO_OWNER)
        self._older = _Growing(np.full(count, _NO_FACE, dtype=np.int32), _NO_FACE)
        self._newest = _Growing(np.empty(0, dtype=np.int32), _NO_FACE)
        self._view = FacesView(self._owners.values[:count])
        self._chain_all(owners)
        self.live_count = int(np.count_nonzero(owners >= 0))
        self.loose_count = int(np.count_nonzero(owners == LOOSE))
        self.number_count = int(owners[owners != LOOSE].max(initial=NO_OWNER)) + 1
        """Identity numbers up to the highest that a face was given to."""
        self._moves = 0

    def _chain_all(self, owners: NDArray[np.int32]) -> None:
        live = np.flatnonzero((owners >= 0) & (owners != LOOSE)).astype(np.int32)
        if not len(live):
            return
        chained = live[np.argsort(owners[live], kind="stable")]
        whose = owners[chained]
        continues = whose[1:] == whose[:-1]
        self._older.values[chained[1:][continues]] = chained[:-1][continues]
        ends = np.append(~continues, True)
        self._newest.reach(int(whose[-1]))
        self._newest.values[whose[ends]] = chained[ends]

    @property
    def memory_bytes(self) -> int:
        """What the table takes."""
        return sum(part.values.nbytes for part in (self._owners, self._older, self._newest))

    def view(self) -> FacesView:
        """The faces known now."""
        return self._view

    def add(self, ordinal: int, number: int) -> None:
        """Adds the next face."""
        self._owners.reach(ordinal)
        self._older.reach(ordinal)
        self._owners.values[ordinal] = number
        self._chain(ordinal, number)
        self.live_count += 1
        self.loose_count += number == LOOSE
        self._view = FacesView(self._owners.values[: ordinal + 1])

    def add_many(self, ordinal: int, numbers: NDArray[np.int32]) -> None:
        """Adds the next faces, none of them loose: identity numbers, shape (n,)."""
        end = ordinal + len(numbers)
        self._owners.reach(end - 1)
        self._older.reach(end - 1)
        self._owners.values[ordinal:end] = numbers
        self._chain_many(np.arange(ordinal, end, dtype=np.int32), numbers)
        self.live_count += len(numbers)
        self._view = FacesView(self._owners.values[:end])

    def _chain_many(self, ordinals: NDArray[np.int32], numbers: NDArray[np.int32]) -> None:
        self.number_count = max(self.number_count, int(numbers.max()) + 1)
        self._newest.reach(self.number_count - 1)
        order = np.argsort(numbers, kind="stable")
        chained, whose = ordinals[order], numbers[order]
        begins = np.append(True, whose[1:] != whose[:-1])
        older = np.roll(chained, 1)
        older[begins] = self._newest.values[whose[begins]]
        # Before anything leads to them.
        self._older.values[chained] = older
        ends = np.append(begins[1:], True)
        self._newest.values[whose[ends]] = chained[ends]

    def remove(self, ordinal: int) -> None:
        """Marks a face as deleted."""
        self.loose_count -= bool(self._owners.values[ordinal] == LOOSE)
        # It stays in its chain, where its missing owner says that it is no more.
        self._owners.values[ordinal] = NO_OWNER
        self.live_count -= 1

    def reassign(self, moved: Iterable[tuple[int, int]]) -> None:
        """Gives faces, by ordinal, to other identities, by number."""
        owners = self._owners.values
        to = dict(moved)
        if not to:
            return
        # An odd number while chains are being changed: readers do not trust them then.
        self._moves += 1
        for number in {int(owners[ordinal]) for ordinal in to} - {LOOSE, NO_OWNER}:
            kept = [ordinal for ordinal in self._faces_of(number) if ordinal not in to]
            self._newest.values[number] = _NO_FACE
            for ordinal in reversed(kept):
                self._chain(ordinal, number)
        for ordinal, number in to.items():
            self.loose_count += (number == LOOSE) - bool(owners[ordinal] == LOOSE)
            owners[ordinal] = number
            self._chain(ordinal, number)
        self._moves += 1

    def _chain(self, ordinal: int, number: int) -> None:
        if number == LOOSE:
            return
        self.number_count = max(self.number_count, number + 1)
        self._newest.reach(number)
        self._older.values[ordinal] = self._newest.values[number]
        self._newest.values[number] = ordinal

    def _faces_of(self, number: int) -> Iterator[int]:
        ordinal = int(self._newest.values[number])
        while ordinal != _NO_FACE:
            following = int(self._older.values[ordinal])
            yield ordinal
            ordinal = following

    def have_several_faces(self, numbers: NDArray[np.int64]) -> bool:
        """Whether any of some identities has more than one face, or had so once."""
        newest = self._newest.values[numbers]
        return bool(np.any(self._older.values[newest[newest != _NO_FACE]] != _NO_FACE))

    def ordinals_of(
        self, numbers: NDArray[np.integer], faces: FacesView, most: int
    ) -> NDArray[np.int64] | None:
        """The faces of some identities, ascending; None if that is not to be had cheaply.

        There may be more than `most`, or faces are changing hands at this moment.

        Args:
            numbers: The identities, each once.
            faces: The faces that exist; newer ones are left out.
            most: A bound on the work.
        """
        moves = self._moves
        newest = self._newest.values
        links = newest[numbers[numbers < len(newest)]]
        # Read after the first links: a face is put into this array before anything leads to it.
        older = self._older.values
        found: list[NDArray[np.int32]] = []
        total = 0
        while len(links := links[links != _NO_FACE]):
            total += len(links)
            if total > most:
                return None
            found.append(links)
            links = older[links]
        if moves % 2 or moves != self._moves:
            return None
        if not found:
            return np.empty(0, dtype=np.int64)
        ordinals = np.sort(np.concatenate(found)).astype(np.int64)
        ordinals = ordinals[ordinals < faces.count]
        return ordinals[faces.owners[ordinals] >= 0]


class _Growing:
    """An array that is replaced by a larger copy when it must reach further."""

    def __init__(self, values: NDArray[np.int32], empty: int) -> None:
        self._empty = empty
        self.values = values
        self.reach(len(values))

    def reach(self, position: int) -> None:
        if position < len(self.values):
            return
        grown = np.full(position + position // 4 + _CAPACITY_MIN, self._empty, dtype=np.int32)
        grown[: len(self.values)] = self.values
        self.values = grown
