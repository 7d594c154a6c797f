"""The lineage: which faces were given to whom, and what it takes to undo it."""

from collections.abc import Iterator
from dataclasses import replace

from visagedb_indexer.errors import LineageNotFoundError
from visagedb_indexer.store import schema
from visagedb_indexer.store.environment import Environment, LmdbTransaction
from visagedb_indexer.store.records import LineageRecord, decode, encode


class LineageReader:
    """Reads the lineage in one transaction."""

    def __init__(self, environment: Environment, txn: LmdbTransaction) -> None:
        self._txn = txn
        self._db = environment.handle

    def find(self, number: int) -> LineageRecord | None:
        """An entry by number, or None."""
        data = self._txn.get(schema.u64(number), db=self._db(schema.LINEAGE))
        return None if data is None else decode(data, LineageRecord)

    def get(self, number: int) -> LineageRecord:
        """An entry by number.

        Raises:
            LineageNotFoundError: There is none.
        """
        record = self.find(number)
        if record is None:
            raise LineageNotFoundError(f"there is no lineage entry {number}")
        return record

    def newest(self, before: int | None = None) -> Iterator[LineageRecord]:
        """All entries with numbers below `before`, newest first."""
        with self._txn.cursor(db=self._db(schema.LINEAGE)) as cursor:
            below = before is not None and cursor.set_range(schema.u64(before))
            found = cursor.prev() if below else cursor.last()
            while found:
                yield decode(cursor.value(), LineageRecord)
                found = cursor.prev()

    def newest_of(self, identity: int, before: int | None = None) -> Iterator[LineageRecord]:
        """The entries that touch an identity, by number, below `before`, newest first."""
        for number in reversed(self.numbers_of(identity)):
            if before is None or number < before:
                record = self.find(number)
                if record is not None:
                    yield record

    def numbers_of(self, identity: int) -> list[int]:
        """Numbers of the entries that touch an identity, ascending."""
        prefix = schema.u32(identity)
        found: list[int] = []
        with self._txn.cursor(db=self._db(schema.LINEAGE_OF)) as cursor:
            more = cursor.set_range(prefix)
            while more and cursor.key()[:4] == prefix:
                found.append(schema.read_u64(bytes(cursor.key()[4:])))
                more = cursor.next()
        return found


class LineageWriter(LineageReader):
    """Writes the lineage in one write transaction."""

    def put(self, record: LineageRecord) -> None:
        """Adds or replaces an entry."""
        number = schema.u64(record.number)
        self._txn.put(number, encode(record), db=self._db(schema.LINEAGE))
        for identity in _touched(record):
            self._txn.put(schema.u32(identity) + number, b"", db=self._db(schema.LINEAGE_OF))

    def mark_undone(self, record: LineageRecord) -> None:
        """Notes that an entry has been undone."""
        self.put(replace(record, undone=True))

    def remove(self, record: LineageRecord) -> None:
        """Forgets an entry."""
        number = schema.u64(record.number)
        self._txn.delete(number, db=self._db(schema.LINEAGE))
        for identity in _touched(record):
            self._txn.delete(schema.u32(identity) + number, db=self._db(schema.LINEAGE_OF))

    def erase(self, identity: int) -> None:
        """Forgets every entry that touches an identity, and the identities that became part of it.

        Whoever is erased must not come back by an undo.
        """
        ended = [identity]
        while ended:
            touched = ended.pop()
            for number in self.numbers_of(touched):
                record = self.find(number)
                if record is not None:
                    self.remove(record)
                    merged = (s.number for s in record.sources if s.ended is not None)
                    ended += [m for m in merged if record.to_number == touched]

    def trim(self, most: int, kept: int) -> None:
        """Forgets up to `most` of the oldest entries beyond the newest `kept`."""
        count = self._txn.stat(self._db(schema.LINEAGE))["entries"]
        with self._txn.cursor(db=self._db(schema.LINEAGE)) as cursor:
            oldest = [
                decode(data, LineageRecord)
                for _, (_, data) in zip(range(min(most, count - kept)), cursor, strict=False)
            ]
        for record in oldest:
            self.remove(record)


def _touched(record: LineageRecord) -> set[int]:
    return {record.to_number, *(source.number for source in record.sources)} - {schema.LOOSE_NUMBER}
