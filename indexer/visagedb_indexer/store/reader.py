"""Typed reads of a gallery's database."""

from collections.abc import Iterable, Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.errors import (
    FaceNotFoundError,
    IdentityNotFoundError,
    StorageCorruptError,
)
from visagedb_indexer.store import schema
from visagedb_indexer.store.audits import AuditReader
from visagedb_indexer.store.blocks import ColumnReader
from visagedb_indexer.store.calibrations import CalibrationReader
from visagedb_indexer.store.clusterings import ClusteringReader
from visagedb_indexer.store.environment import LmdbTransaction
from visagedb_indexer.store.erasures import ErasureReader
from visagedb_indexer.store.imports import ImportReader
from visagedb_indexer.store.lineage import LineageReader
from visagedb_indexer.store.opened import Opened
from visagedb_indexer.store.quarantine import QuarantineReader
from visagedb_indexer.store.records import (
    Counters,
    FaceRecord,
    GalleryRecord,
    IdentityRecord,
    decode,
)
from visagedb_indexer.store.requests import RequestReader
from visagedb_indexer.store.tables import Tables
from visagedb_indexer.values import Vector

NO_OWNER = -1
"""Owner of a deleted face."""


class Reader:
    """Typed reads in one LMDB transaction."""

    def __init__(self, store: Opened, txn: LmdbTransaction) -> None:
        self._txn = txn
        self._db = store.environment.handle
        self._gather = store.vector_rows.gather
        self._vectors = ColumnReader(store.environment, txn, store.vector_column)
        self._owners = ColumnReader(store.environment, txn, store.owner_column)
        self.requests = RequestReader(store.environment, txn)
        self.audits = AuditReader(store.environment, txn)
        self.calibrations = CalibrationReader(store.environment, txn)
        self.clusterings = ClusteringReader(store.environment, txn)
        self.imports = ImportReader(store.environment, txn)
        self.lineage = LineageReader(store.environment, txn)
        self.tables = Tables(store.environment.handle, txn)
        self.quarantine = QuarantineReader(store.environment, txn)
        self.erasures = ErasureReader(store.environment, txn)

    def gallery(self) -> GalleryRecord:
        """The gallery's settings."""
        return decode(self._meta(schema.GALLERY_KEY), GalleryRecord)

    def counters(self) -> Counters:
        """Where the gallery stands."""
        return decode(self._meta(schema.COUNTERS_KEY), Counters)

    def _meta(self, key: bytes) -> memoryview:
        data = self._txn.get(key, db=self._db(schema.META))
        if data is None:
            raise StorageCorruptError(f"the database has lost its {key.decode()}")
        return cast("memoryview", data)

    def find_identity(self, identity_id: str) -> IdentityRecord | None:
        """An identity by id, or None."""
        number = self._txn.get(identity_id.encode(), db=self._db(schema.IDENTITY_IDS))
        return None if number is None else self.identity_by_number(schema.read_u32(bytes(number)))

    def existing(self, identity_ids: Iterable[str]) -> set[str]:
        """Those of the ids that identities have."""
        keys = sorted(one.encode() for one in set(identity_ids))
        with self._txn.cursor(db=self._db(schema.IDENTITY_IDS)) as cursor:
            return {bytes(key).decode() for key, _ in cursor.getmulti(keys)}

    def identity(self, identity_id: str) -> IdentityRecord:
        """An identity by id.

        Raises:
            IdentityNotFoundError: There is none.
        """
        record = self.find_identity(identity_id)
        if record is None:
            raise IdentityNotFoundError(
                f"there is no identity {identity_id!r}", {"identity": identity_id}
            )
        return record

    def identity_by_number(self, number: int) -> IdentityRecord | None:
        """An identity by its number, or None when it has been deleted."""
        data = self._txn.get(schema.u32(number), db=self._db(schema.IDENTITIES))
        return None if data is None else decode(data, IdentityRecord)

    def numbers(self, owners: NDArray[np.int32]) -> NDArray[np.uint32]:
        """The numbers of all identities, ascending.

        Args:
            owners: As `owners` gives them. Where every identity has a face they say it all,
                and ten million keys need not be walked through.
        """
        counters = self.counters()
        with_faces = np.zeros(counters.next_number, dtype=np.bool_)
        with_faces[owners[(owners >= 0) & (owners < counters.next_number)]] = True
        known = np.flatnonzero(with_faces)
        if len(known) == counters.identity_count:
            return known.astype(np.uint32)
        with self._txn.cursor(db=self._db(schema.IDENTITIES)) as cursor:
            keys = b"".join(bytes(key) for key in cursor.iternext(keys=True, values=False))
        return np.frombuffer(keys, dtype=">u4").astype(np.uint32)

    def numbers_with_label(self, key: str, value: str | None) -> list[int]:
        """Numbers of the identities with this label, or with any value of it."""
        prefix = schema.label_prefix(key, value)
        found: list[int] = []
        with self._txn.cursor(db=self._db(schema.LABELS)) as cursor:
            if cursor.set_range(prefix):
                for raw in cursor.iternext(keys=True, values=False):
                    if raw[: len(prefix)] != prefix:
                        break
                    found.append(schema.read_u32(bytes(raw[-4:])))
        return found

    def owner_number(self, identity_id: str) -> int:
        """The number of an identity; that of loose faces for an empty id.

        Raises:
            IdentityNotFoundError: There is none.
        """
        return self.identity(identity_id).number if identity_id else schema.LOOSE_NUMBER

    def find_face(self, number: int, face_id: str) -> FaceRecord | None:
        """A face of an identity by id, or None."""
        key = schema.u32(number) + face_id.encode()
        data = self._txn.get(key, db=self._db(schema.FACE_IDS))
        return None if data is None else self.face(number, schema.read_u64(bytes(data)))

    def face_by_id(self, identity_id: str, face_id: str) -> FaceRecord:
        """A face of an identity, or with an empty identity id a loose one, by id.

        Raises:
            IdentityNotFoundError: There is no such identity.
            FaceNotFoundError: There is no such face.
        """
        record = self.find_face(self.owner_number(identity_id), face_id)
        if record is None:
            who = f"identity {identity_id!r} has no" if identity_id else "there is no loose"
            raise FaceNotFoundError(
                f"{who} face {face_id!r}", {"identity": identity_id, "face": face_id}
            )
        return record

    def find_content(self, number: int, sha256: bytes) -> FaceRecord | None:
        """The face of an identity made from this content, the oldest of several, or None."""
        ordinals = self._content(schema.u32(number) + sha256)
        return self.face(number, ordinals[0]) if ordinals else None

    def _content(self, key: bytes) -> list[int]:
        data = self._txn.get(key, db=self._db(schema.CONTENTS))
        return [] if data is None else schema.read_u64s(bytes(data))

    def loose_content(self, sha256: bytes) -> list[tuple[str, FaceRecord]]:
        """The faces that were enrolled loose from this content: identity id now, and record."""
        ordinals = []
        with self._txn.cursor(db=self._db(schema.LOOSE_CONTENTS)) as cursor:
            found = cursor.set_range(sha256)
            while found and cursor.key()[: len(sha256)] == sha256:
                ordinals.append(schema.read_u64(bytes(cursor.key()[len(sha256) :])))
                found = cursor.next()
        found = [self.locate(ordinal) for ordinal in ordinals]
        return [one for one in found if one is not None]

    def owner(self, ordinal: int) -> int:
        """The identity number of a face; negative for one that is deleted or unknown."""
        if not 0 <= ordinal < self.counters().next_ordinal:
            return NO_OWNER
        return self._stored_owner(ordinal)

    def _stored_owner(self, ordinal: int) -> int:
        return int(cast("int", self._owners.row(ordinal)[0]))

    def locate(self, ordinal: int) -> tuple[str, FaceRecord] | None:
        """Identity id (empty for none) and record of a face, or None when it is deleted."""
        number = self.owner(ordinal)
        identity_id = ""
        if number != schema.LOOSE_NUMBER:
            identity = self.identity_by_number(number) if number >= 0 else None
            if identity is None:
                return None
            identity_id = identity.id
        face = self.face(number, ordinal)
        return None if face is None else (identity_id, face)

    def face(self, number: int, ordinal: int) -> FaceRecord | None:
        """A face by its place, or None when it has been deleted."""
        data = self._txn.get(schema.face_key(number, ordinal), db=self._db(schema.FACES))
        return None if data is None else decode(data, FaceRecord)

    def faces(self, number: int, after: int = -1) -> Iterator[FaceRecord]:
        """The faces of an identity with ordinals above `after`, oldest first."""
        with self._txn.cursor(db=self._db(schema.FACES)) as cursor:
            found = cursor.set_range(schema.face_key(number, after + 1))
            while found:
                key, data = cursor.item()
                if schema.read_face_key(bytes(key))[0] != number:
                    return
                yield decode(data, FaceRecord)
                found = cursor.next()

    def all_identities(self) -> Iterator[IdentityRecord]:
        """Every identity, in the order of their numbers, which is that of creation."""
        with self._txn.cursor(db=self._db(schema.IDENTITIES)) as cursor:
            for data in cursor.iternext(keys=False, values=True):
                yield decode(data, IdentityRecord)

    def all_faces(self) -> Iterator[tuple[int, FaceRecord]]:
        """Identity number and record of every face, by identity and then oldest first."""
        with self._txn.cursor(db=self._db(schema.FACES)) as cursor:
            for key, data in cursor:
                yield schema.read_face_key(bytes(key))[0], decode(data, FaceRecord)

    def vector_now(self, ordinal: int) -> Vector:
        """A vector as this transaction sees it, also where it has changed since.

        A view that is valid until the transaction ends; `vectors` is faster and sees the present.
        """
        return cast("Vector", self._vectors.row(ordinal))

    def face_ordinals(self, numbers: Iterable[int]) -> list[list[int]]:
        """The ordinals of the faces of some identities, oldest first; reads no records."""
        found = []
        with self._txn.cursor(db=self._db(schema.FACES)) as cursor:
            for number in numbers:
                owner, ordinals = schema.u32(number), []
                more = cursor.set_range(owner)
                while more and (key := bytes(cursor.key()))[:4] == owner:
                    ordinals.append(schema.read_face_key(key)[1])
                    more = cursor.next()
                found.append(ordinals)
        return found

    def vectors(self, ordinals: NDArray[np.int64]) -> Vector:
        """Vectors by ordinal, shape (len(ordinals), dimension), float32."""
        return cast("Vector", self._gather(ordinals))

    def vector_blocks(self, start: int = 0) -> Iterator[tuple[int, Vector]]:
        """All vectors from the block that holds `start`: first ordinal and rows.

        The rows are views that are valid until the transaction ends.
        """
        return cast("Iterator[tuple[int, Vector]]", self._vectors.blocks(start))

    def owners(self) -> NDArray[np.int32]:
        """The identity number of every ordinal, `NO_OWNER` where the face is deleted."""
        blocks = [rows[:, 0] for _, rows in self._owners.blocks()]
        if not blocks:
            return np.empty(0, dtype=np.int32)
        return np.concatenate(blocks)[: self.counters().next_ordinal].astype(np.int32)
