"""The catalogue: which galleries there are, the long-running operations, and the API keys."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path

from visagedb_indexer import limits
from visagedb_indexer.errors import OperationNotFoundError
from visagedb_indexer.failpoints import reached
from visagedb_indexer.store import migrations, schema
from visagedb_indexer.store.api_keys import ApiKeyRecord
from visagedb_indexer.store.environment import Environment, LmdbTransaction
from visagedb_indexer.store.erasures import newest as newest_erasures
from visagedb_indexer.store.records import (
    ErasureRecord,
    OperationRecord,
    Record,
    decode,
    encode,
)
from visagedb_indexer.store.requests import RequestReader, RequestWriter


class Catalogue:
    """The small database beside the galleries. Its writes are rare and commit singly."""

    def __init__(self, path: Path) -> None:
        self._environment = Environment(
            path,
            schema.CATALOGUE_DATABASES,
            map_bytes=limits.MAP_BYTES_CATALOGUE,
            steps=migrations.CATALOGUE_STEPS,
        )
        self._db = self._environment.handle

    @property
    def environment(self) -> Environment:
        """The open database, to be copied."""
        return self._environment

    def galleries(self) -> dict[str, str]:
        """The uid of every gallery by its id."""
        with self._environment.read() as txn, txn.cursor(db=self._db(schema.GALLERIES)) as cursor:
            return {bytes(k).decode(): bytes(v).decode() for k, v in cursor.iternext()}

    def recall(self, request_id: str, fingerprint: bytes, kind: type[Record]) -> Record | None:
        """The answer given to this request before, or None."""
        with self._environment.read() as txn:
            return RequestReader(self._environment, txn).recall(request_id, fingerprint, kind)

    def add_gallery(
        self, gallery_id: str, uid: str, *, request_id: str, fingerprint: bytes, now_us: int
    ) -> None:
        """Makes a gallery exist; the answer to the request is its uid."""
        with self._write() as txn:
            txn.put(gallery_id.encode(), uid.encode(), db=self._db(schema.GALLERIES))
            RequestWriter(self._environment, txn).keep(request_id, fingerprint, uid, now_us)

    def remove_gallery(self, gallery_id: str, receipts: Iterable[ErasureRecord] = ()) -> None:
        """Makes a gallery cease to exist, and keeps the receipts of its erasures."""
        with self._write() as txn:
            txn.delete(gallery_id.encode(), db=self._db(schema.GALLERIES))
            for receipt in receipts:
                txn.put(receipt.id.encode(), encode(receipt), db=self._db(schema.ERASURES))

    def complete_erasures(self, time_us: int, ids: Collection[str] | None = None) -> None:
        """Makes receipts complete, by id or all: the folder of the gallery is removed."""
        with self._write() as txn:
            for record in list(newest_erasures(txn, self._db(schema.ERASURES), "")):
                if not record.complete_time_us and (ids is None or record.id in ids):
                    done = replace(record, complete_time_us=time_us)
                    txn.put(record.id.encode(), encode(done), db=self._db(schema.ERASURES))

    def erasure(self, erasure_id: str) -> ErasureRecord | None:
        """The receipt of an erasure in a gallery that is deleted, or None."""
        with self._environment.read() as txn:
            data = txn.get(erasure_id.encode(), db=self._db(schema.ERASURES))
            return None if data is None else decode(data, ErasureRecord)

    def erasures(self, gallery_id: str, before: str, most: int) -> list[ErasureRecord]:
        """Up to `most` receipts of deleted galleries of an id, newest first."""
        with self._environment.read() as txn:
            found = newest_erasures(txn, self._db(schema.ERASURES), before)
            return list(islice((one for one in found if one.gallery_id == gallery_id), most))

    def clock(self) -> int | None:
        """The last time that was believed, microseconds since 1970; None before the first."""
        with self._environment.read() as txn:
            data = txn.get(schema.CLOCK_KEY, db=self._db(schema.META))
            return None if data is None else schema.read_u64(bytes(data))

    def remember_clock(self, time_us: int) -> None:
        """Keeps the time that is believed."""
        with self._write() as txn:
            txn.put(schema.CLOCK_KEY, schema.u64(time_us), db=self._db(schema.META))

    def put_operation(
        self, record: OperationRecord, *, request_id: str = "", fingerprint: bytes = b""
    ) -> None:
        """Adds or replaces an operation; the answer to the request is its id."""
        with self._write() as txn:
            txn.put(record.id.encode(), encode(record), db=self._db(schema.OPERATIONS))
            RequestWriter(self._environment, txn).keep(
                request_id, fingerprint, record.id, record.create_time_us
            )

    def operation(self, operation_id: str) -> OperationRecord:
        """An operation by id.

        Raises:
            OperationNotFoundError: There is none.
        """
        with self._environment.read() as txn:
            data = txn.get(operation_id.encode(), db=self._db(schema.OPERATIONS))
            if data is None:
                raise OperationNotFoundError(f"there is no operation {operation_id!r}")
            return decode(data, OperationRecord)

    def operations(self) -> list[OperationRecord]:
        """All operations, in the order of their ids, which is the order of creation."""
        with self._environment.read() as txn, txn.cursor(db=self._db(schema.OPERATIONS)) as cursor:
            return [
                decode(data, OperationRecord) for data in cursor.iternext(values=True, keys=False)
            ]

    def remove_operation(self, operation_id: str) -> None:
        """Forgets an operation."""
        self.operation(operation_id)
        with self._write() as txn:
            txn.delete(operation_id.encode(), db=self._db(schema.OPERATIONS))

    def put_api_key(self, record: ApiKeyRecord) -> None:
        """Adds or replaces an API key."""
        with self._write() as txn:
            txn.put(record.id.encode(), encode(record), db=self._db(schema.API_KEYS))

    def api_keys(self) -> list[ApiKeyRecord]:
        """All API keys, in the order of their ids."""
        with self._environment.read() as txn, txn.cursor(db=self._db(schema.API_KEYS)) as cursor:
            return [decode(data, ApiKeyRecord) for data in cursor.iternext(values=True, keys=False)]

    @contextmanager
    def _write(self) -> Iterator[LmdbTransaction]:
        reached("catalogue.before_transaction")
        with self._environment.write() as txn:
            yield txn
            reached("catalogue.before_sync")
        reached("catalogue.after_sync")

    def close(self) -> None:
        """Closes the database."""
        self._environment.close()
