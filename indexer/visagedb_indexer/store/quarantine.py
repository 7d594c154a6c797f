"""The quarantine in a gallery's database: faces that its checks have set aside."""

from collections.abc import Iterator

import numpy as np

from visagedb_indexer.errors import QuarantinedFaceNotFoundError, StorageCorruptError
from visagedb_indexer.store import schema
from visagedb_indexer.store.environment import Environment, LmdbTransaction
from visagedb_indexer.store.records import QuarantineRecord, decode, encode
from visagedb_indexer.values import Vector


class QuarantineReader:
    """Reads the quarantine in one transaction."""

    def __init__(self, environment: Environment, txn: LmdbTransaction) -> None:
        self._txn = txn
        self._db = environment.handle

    def count(self) -> int:
        """How many faces there are."""
        return int(self._txn.stat(db=self._db(schema.QUARANTINE))["entries"])

    def get(self, number: int) -> QuarantineRecord:
        """A face by its number.

        Raises:
            QuarantinedFaceNotFoundError: There is none.
        """
        data = self._txn.get(schema.u64(number), db=self._db(schema.QUARANTINE))
        if data is None:
            raise QuarantinedFaceNotFoundError(
                f"there is no face {number} in quarantine; it was accepted or dropped",
                {"quarantine": str(number)},
            )
        return decode(data, QuarantineRecord)

    def vector(self, number: int) -> Vector:
        """The vector of a face that is there, shape (dimension,).

        Raises:
            StorageCorruptError: It has none.
        """
        data = self._txn.get(schema.u64(number), db=self._db(schema.QUARANTINE_VECTORS))
        if data is None:
            raise StorageCorruptError(f"the vector of face {number} in quarantine is missing")
        return np.frombuffer(decode(data, bytes), dtype="<f4").astype(np.float32)

    def all(self, after: int = -1) -> Iterator[QuarantineRecord]:
        """Faces with numbers above `after`, oldest first."""
        with self._txn.cursor(db=self._db(schema.QUARANTINE)) as cursor:
            found = cursor.set_range(schema.u64(after + 1))
            while found:
                yield decode(cursor.value(), QuarantineRecord)
                found = cursor.next()

    def of_identity(self, identity_id: str, sha256: bytes = b"") -> list[int]:
        """Numbers of the faces meant for an identity, or of those made from one content."""
        prefix = schema.quarantine_content_prefix(identity_id, sha256)
        numbers: list[int] = []
        with self._txn.cursor(db=self._db(schema.QUARANTINE_CONTENTS)) as cursor:
            found = cursor.set_range(prefix)
            while found and (key := bytes(cursor.key()))[: len(prefix)] == prefix:
                numbers.append(schema.read_u64(key[-8:]))
                found = cursor.next()
        return numbers


class QuarantineWriter(QuarantineReader):
    """Changes the quarantine in one write transaction."""

    def put(self, record: QuarantineRecord, vector: Vector) -> None:
        """Sets a face aside."""
        number = schema.u64(record.number)
        self._txn.put(number, encode(record), db=self._db(schema.QUARANTINE))
        packed = encode(vector.astype("<f4").tobytes())
        self._txn.put(number, packed, db=self._db(schema.QUARANTINE_VECTORS))
        self._txn.put(_content_key(record), b"", db=self._db(schema.QUARANTINE_CONTENTS))

    def remove(self, record: QuarantineRecord) -> None:
        """Removes a face with its vector."""
        number = schema.u64(record.number)
        self._txn.delete(number, db=self._db(schema.QUARANTINE))
        self._txn.delete(number, db=self._db(schema.QUARANTINE_VECTORS))
        self._txn.delete(_content_key(record), db=self._db(schema.QUARANTINE_CONTENTS))


def _content_key(record: QuarantineRecord) -> bytes:
    return schema.quarantine_content_key(
        record.identity_id, record.face.content_sha256, record.number
    )
