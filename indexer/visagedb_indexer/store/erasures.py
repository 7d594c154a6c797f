"""Receipts of erasures, and when identities expire, in the database of a gallery."""

from collections.abc import Iterator
from dataclasses import replace

from visagedb_indexer.errors import NotFoundError
from visagedb_indexer.store import schema
from visagedb_indexer.store.environment import Environment, LmdbTransaction
from visagedb_indexer.store.records import ErasureRecord, IdentityRecord, decode, encode


class ErasureReader:
    """Reads receipts and expiries in one transaction."""

    def __init__(self, environment: Environment, txn: LmdbTransaction) -> None:
        self._txn = txn
        self._db = environment.handle

    def find(self, erasure_id: str) -> ErasureRecord | None:
        """A receipt by id, or None."""
        data = self._txn.get(erasure_id.encode(), db=self._db(schema.ERASURES))
        return None if data is None else decode(data, ErasureRecord)

    def get(self, erasure_id: str) -> ErasureRecord:
        """A receipt by id.

        Raises:
            NotFoundError: There is none.
        """
        record = self.find(erasure_id)
        if record is None:
            raise no_receipt(erasure_id)
        return record

    def newest(self, before: str = "") -> Iterator[ErasureRecord]:
        """All receipts with ids below `before`, newest first; from the newest if it is empty."""
        yield from newest(self._txn, self._db(schema.ERASURES), before)

    def pending_count(self) -> int:
        """Erasures whose bytes may still be in the data directory."""
        return int(self._txn.stat(self._db(schema.ERASURES_PENDING))["entries"])

    def pending(self) -> Iterator[ErasureRecord]:
        """Those erasures, oldest first."""
        with self._txn.cursor(db=self._db(schema.ERASURES_PENDING)) as cursor:
            for key in cursor.iternext(keys=True, values=False):
                record = self.find(bytes(key).decode())
                if record is not None:
                    yield record

    def next_expiry(self) -> int | None:
        """When the next identity expires, in microseconds since 1970; None for never."""
        with self._txn.cursor(db=self._db(schema.EXPIRIES)) as cursor:
            return schema.read_u64(bytes(cursor.key()[:8])) if cursor.first() else None

    def expired(self, now_us: int, most: int) -> list[int]:
        """Numbers of up to `most` identities whose time is over, the earliest first."""
        found: list[int] = []
        with self._txn.cursor(db=self._db(schema.EXPIRIES)) as cursor:
            more = cursor.first()
            while more and len(found) < most:
                key = bytes(cursor.key())
                if schema.read_u64(key[:8]) > now_us:
                    break
                found.append(schema.read_u32(key[8:]))
                more = cursor.next()
        return found


class ErasureWriter(ErasureReader):
    """Writes receipts and expiries in one write transaction."""

    def add(self, record: ErasureRecord) -> None:
        """Keeps the receipt of an erasure that is to be completed."""
        key = record.id.encode()
        self._txn.put(key, encode(record), db=self._db(schema.ERASURES))
        self._txn.put(key, b"", db=self._db(schema.ERASURES_PENDING))

    def complete(self, record: ErasureRecord, time_us: int, *, overwritten: bool) -> None:
        """Nothing is left of what was erased."""
        key = record.id.encode()
        done = replace(record, complete_time_us=time_us, overwritten=overwritten)
        self._txn.put(key, encode(done), db=self._db(schema.ERASURES))
        self._txn.delete(key, db=self._db(schema.ERASURES_PENDING))

    def forget_oldest(self, kept: int, most: int) -> None:
        """Forgets up to `most` of the oldest complete receipts beyond the newest `kept`."""
        surplus = self._txn.stat(self._db(schema.ERASURES))["entries"] - kept
        with self._txn.cursor(db=self._db(schema.ERASURES)) as cursor:
            more = cursor.first()
            for _ in range(min(surplus, most)):
                if not more or not decode(cursor.value(), ErasureRecord).complete_time_us:
                    return
                more = cursor.delete()

    def expect(self, identity: IdentityRecord) -> None:
        """Notes when an identity expires."""
        if identity.expire_time_us is not None:
            key = schema.expiry_key(identity.expire_time_us, identity.number)
            self._txn.put(key, b"", db=self._db(schema.EXPIRIES))

    def expect_no_more(self, identity: IdentityRecord) -> None:
        """Inverse of `expect`."""
        if identity.expire_time_us is not None:
            key = schema.expiry_key(identity.expire_time_us, identity.number)
            self._txn.delete(key, db=self._db(schema.EXPIRIES))


def newest(txn: LmdbTransaction, database: object, before: str) -> Iterator[ErasureRecord]:
    """Receipts of a sub-database with ids below `before`, newest first."""
    with txn.cursor(db=database) as cursor:
        below = bool(before) and cursor.set_range(before.encode())
        found = cursor.prev() if below else cursor.last()
        while found:
            yield decode(cursor.value(), ErasureRecord)
            found = cursor.prev()


def no_receipt(erasure_id: str) -> NotFoundError:
    """The answer to somebody who asks for a receipt that is not there."""
    return NotFoundError(f"there is no erasure {erasure_id!r}", {"erasure": erasure_id})
