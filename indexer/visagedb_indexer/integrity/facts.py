"""What the primary tables of a gallery say, read once for all invariants."""

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.errors import StorageCorruptError
from visagedb_indexer.integrity.values import Finding
from visagedb_indexer.store import (
    LOOSE_NUMBER,
    Counters,
    FaceRecord,
    GalleryRecord,
    GalleryStore,
    IdentityRecord,
    schema,
)
from visagedb_indexer.store.records import Record, decode
from visagedb_indexer.store.schema import SubDatabase
from visagedb_indexer.store.tables import Tables

NO_OWNER: Final = -1
_TICK_ENTRIES: Final = 2048

Answer = TypeVar("Answer")


class Facts:
    """The tables of one gallery in one transaction.

    Args:
        store: The gallery's database.
        tables: Its sub-databases in the transaction.
        tick: Called now and then; raises to stop the check.
    """

    def __init__(
        self, store: GalleryStore, tables: Tables, tick: Callable[[], None] = lambda: None
    ) -> None:
        self.store = store
        self.tables = tables
        self._tick = tick
        self._answers: dict[Callable[[Facts], Any], Any] = {}

    def once(self, question: Callable[["Facts"], Answer]) -> Answer:
        """The answer to a question that several invariants ask; it is looked for once."""
        if question not in self._answers:
            self._answers[question] = question(self)
        answer: Answer = self._answers[question]
        return answer

    def items(self, database: SubDatabase, start: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of a sub-database, from a key on."""
        for place, item in enumerate(self.tables.items(database, start)):
            self.tick(place)
            yield item

    def tick(self, place: int) -> None:
        """Marks that a walk goes on; lets the check be stopped now and then."""
        if place % _TICK_ENTRIES == 0:
            self._tick()

    def readable(
        self, database: SubDatabase, kind: type[Record], start: bytes = b""
    ) -> Iterator[tuple[bytes, Record]]:
        """Keys and records of a sub-database, without those that cannot be read."""
        for key, data in self.items(database, start):
            try:
                yield key, decode(data, kind)
            except StorageCorruptError:
                continue

    def one(self, database: SubDatabase, key: bytes, kind: type[Record]) -> Record | None:
        """A record; None if there is none or it cannot be read."""
        data = self.tables.get(database, key)
        try:
            return None if data is None else decode(data, kind)
        except StorageCorruptError:
            return None

    def unreadable(self, database: SubDatabase, key: bytes) -> bool:
        """Whether there is an entry; of one whose record `one` could not read, that it is damaged.

        What else is known of a damaged record must stay: it may be all that is left.
        """
        return self.tables.get(database, key) is not None

    def identities(self) -> Iterator[IdentityRecord]:
        """The identities that can be read, by number."""
        for key, record in self.readable(schema.IDENTITIES, IdentityRecord):
            if key == schema.u32(record.number):
                yield record

    def faces(self, first: int = 0) -> Iterator[tuple[int, FaceRecord]]:
        """Number and record of the faces that can be read, of identities from a number on."""
        for key, record in self.readable(schema.FACES, FaceRecord, schema.u32(first)):
            number = int.from_bytes(key[:4], "big")
            if key == schema.face_key(number, record.ordinal) and record.ordinal < self.capacity:
                yield number, record

    @cached_property
    def gallery(self) -> GalleryRecord | None:
        """The settings; None if they cannot be read."""
        return self.one(schema.META, schema.GALLERY_KEY, GalleryRecord)

    @cached_property
    def counters(self) -> Counters | None:
        """The counters; None if they cannot be read."""
        return self.one(schema.META, schema.COUNTERS_KEY, Counters)

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Numbers of all identities, ascending, those that cannot be read included."""
        keys = [key for key in self.tables.keys(schema.IDENTITIES) if len(key) == 4]
        return np.frombuffer(b"".join(keys), dtype=">u4").astype(np.int64)

    @cached_property
    def capacity(self) -> int:
        """Ordinals for which there is room in the blocks of vectors, or should be."""
        rows = self.store.opened.vector_column.rows_per_block
        given = 0 if self.counters is None else self.counters.next_ordinal
        return max(self.tables.count(schema.VECTORS), -(-given // rows)) * rows

    @cached_property
    def owners(self) -> NDArray[np.int32]:
        """The identity of every face by ordinal, as the faces say; shape (capacity,)."""
        owners = np.full(self.capacity, NO_OWNER, dtype=np.int32)
        keys = b"".join(key for key in self.tables.keys(schema.FACES) if len(key) == 12)
        found = np.frombuffer(keys, dtype=[("number", ">u4"), ("ordinal", ">u8")])
        inside = found["ordinal"] < self.capacity
        ordinals = found["ordinal"][inside].astype(np.int64)
        owners[ordinals] = found["number"][inside].astype(np.int64).astype(np.int32)
        return owners

    @cached_property
    def ordinal_end(self) -> int:
        """Ordinals given so far, as far as it is known; no more than `capacity`."""
        highest = int(np.flatnonzero(self.owners != NO_OWNER).max(initial=-1)) + 1
        given = self.counters.next_ordinal if self.counters is not None else highest
        return min(self.capacity, max(given, highest))

    def known(self, number: int) -> bool:
        """Whether there is an identity of this number, or it stands for loose faces."""
        if number == LOOSE_NUMBER:
            return True
        place = int(np.searchsorted(self.numbers, number))
        return place < len(self.numbers) and int(self.numbers[place]) == number

    def identity_id(self, number: int) -> str:
        """The id of an identity, from wherever it can be read; empty for none."""
        if not 0 <= number < LOOSE_NUMBER:
            return ""
        record = self.one(schema.IDENTITIES, schema.u32(number), IdentityRecord)
        if record is not None:
            return record.id
        wanted = schema.u32(number)
        for key, data in self.tables.items(schema.IDENTITY_IDS):
            if data == wanted:
                return key.decode(errors="replace")
        return ""

    def face_id(self, number: int, ordinal: int) -> str:
        """The id of a face, from wherever it can be read; empty if nowhere."""
        record = self.one(schema.FACES, schema.face_key(number, ordinal), FaceRecord)
        if record is not None:
            return record.id
        prefix, wanted = schema.u32(number), schema.u64(ordinal)
        for key, data in self.tables.items(schema.FACE_IDS, prefix):
            if key[:4] != prefix:
                break
            if data == wanted:
                return key[4:].decode(errors="replace")
        return ""

    def about(self, message: str, number: int, ordinal: int = -1) -> Finding:
        """A finding about an identity, or one of its faces, under the names that are known."""
        face = self.face_id(number, ordinal) if ordinal >= 0 else ""
        return Finding(message, self.identity_id(number), face, ordinal)
