"""The database of one gallery: typed reads and writes over the schema."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits
from visagedb_indexer.errors import (
    ClusteringNotFoundError,
    FaceNotFoundError,
    IdentityNotFoundError,
    StorageCorruptError,
)
from visagedb_indexer.store import schema
from visagedb_indexer.store.blocks import OWNER_BLOCK_BYTES, Column, ColumnReader, ColumnWriter
from visagedb_indexer.store.environment import Environment, LmdbTransaction
from visagedb_indexer.store.records import (
    ClusteringRecord,
    ClusterRecord,
    Counters,
    FaceRecord,
    GalleryRecord,
    IdentityRecord,
    decode,
    encode,
)
from visagedb_indexer.store.requests import RequestReader, RequestWriter
from visagedb_indexer.store.row_map import RowMap
from visagedb_indexer.values import Vector

NO_OWNER = -1
"""Owner of a deleted face."""


class GalleryStore:
    """The LMDB environment of one gallery.

    Args:
        path: Its folder.
        create: The settings of a new gallery; None opens an existing one.

    Raises:
        StorageCorruptError: There is no gallery in the folder, or it cannot be read.
        FormatTooNewError: A newer release has written it.
    """

    def __init__(self, path: Path, create: GalleryRecord | None = None) -> None:
        self.environment = Environment(
            path, schema.GALLERY_DATABASES, map_bytes=limits.MAP_BYTES_GALLERY
        )
        if create is not None:
            with self.environment.write() as txn:
                meta = self.environment.handle(schema.META)
                txn.put(schema.GALLERY_KEY, encode(create), db=meta)
                txn.put(schema.COUNTERS_KEY, encode(Counters()), db=meta)
            record = create
        else:
            with self.environment.read() as txn:
                data = txn.get(schema.GALLERY_KEY, db=self.environment.handle(schema.META))
                if data is None:
                    raise StorageCorruptError(f"{path} holds no gallery")
                record = decode(data, GalleryRecord)
        self.vector_column = Column.of(
            schema.VECTORS, "<f4", record.model.dimension, limits.BLOCK_BYTES
        )
        self.owner_column = Column.of(schema.OWNERS, "<i4", 1, OWNER_BLOCK_BYTES)
        self.vector_rows = RowMap(self.vector_column, self._open_vectors)

    @contextmanager
    def read(self) -> Iterator["Reader"]:
        """A consistent view of the gallery."""
        with self.environment.read() as txn:
            yield Reader(self, txn)

    @contextmanager
    def write(self) -> Iterator["Transaction"]:
        """A write transaction, durable when the block has ended."""
        with self.environment.write() as txn:
            transaction = Transaction(self, txn)
            yield transaction
            changed = transaction.flush()
        self.vector_rows.follow(changed)

    @contextmanager
    def _open_vectors(self) -> Iterator[ColumnReader]:
        with self.environment.read() as txn:
            yield ColumnReader(self.environment, txn, self.vector_column)

    def close(self) -> None:
        """Closes the environment."""
        self.environment.close()


class Reader:
    """Typed reads in one LMDB transaction."""

    def __init__(self, store: GalleryStore, txn: LmdbTransaction) -> None:
        self._txn = txn
        self._db = store.environment.handle
        self._gather = store.vector_rows.gather
        self._vectors = ColumnReader(store.environment, txn, store.vector_column)
        self._owners = ColumnReader(store.environment, txn, store.owner_column)
        self.requests = RequestReader(store.environment, txn)

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

    def numbers(self) -> NDArray[np.uint32]:
        """The numbers of all identities, ascending."""
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

    def find_face(self, number: int, face_id: str) -> FaceRecord | None:
        """A face of an identity by id, or None."""
        key = schema.u32(number) + face_id.encode()
        data = self._txn.get(key, db=self._db(schema.FACE_IDS))
        return None if data is None else self.face(number, schema.read_u64(bytes(data)))

    def face_by_id(self, identity: IdentityRecord, face_id: str) -> FaceRecord:
        """A face of an identity by id.

        Raises:
            FaceNotFoundError: There is none.
        """
        record = self.find_face(identity.number, face_id)
        if record is None:
            raise FaceNotFoundError(
                f"identity {identity.id!r} has no face {face_id!r}",
                {"identity": identity.id, "face": face_id},
            )
        return record

    def find_content(self, number: int, sha256: bytes) -> FaceRecord | None:
        """The face of an identity made from this content, or None."""
        data = self._txn.get(schema.u32(number) + sha256, db=self._db(schema.CONTENTS))
        return None if data is None else self.face(number, schema.read_u64(bytes(data)))

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

    def clustering(self, clustering_id: str) -> ClusteringRecord:
        """A clustering by id.

        Raises:
            ClusteringNotFoundError: There is none.
        """
        data = self._txn.get(clustering_id.encode(), db=self._db(schema.CLUSTERINGS))
        if data is None:
            raise ClusteringNotFoundError(f"there is no clustering {clustering_id!r}")
        return decode(data, ClusteringRecord)

    def cluster(self, clustering_id: str, rank: int) -> ClusterRecord:
        """One cluster of a clustering; rank 0 is the largest.

        Raises:
            ClusteringNotFoundError: There is none.
        """
        key = schema.cluster_key(clustering_id, rank)
        data = self._txn.get(key, db=self._db(schema.CLUSTERS))
        if data is None:
            raise ClusteringNotFoundError(f"clustering {clustering_id!r} has no cluster {rank}")
        return decode(data, ClusterRecord)


class Transaction(Reader):
    """Typed writes in one LMDB write transaction.

    The methods keep the sub-databases in step with each other; whether a write is
    allowed is the gallery's business.
    """

    def __init__(self, store: GalleryStore, txn: LmdbTransaction) -> None:
        super().__init__(store, txn)
        self._vector_writer = ColumnWriter(store.environment, txn, store.vector_column)
        self._owner_writer = ColumnWriter(store.environment, txn, store.owner_column)
        self._counters_before = self._counters = super().counters()
        self.requests: RequestWriter = RequestWriter(store.environment, txn)

    def counters(self) -> Counters:
        """Where the gallery will stand after this transaction."""
        return self._counters

    def put_gallery(self, record: GalleryRecord) -> None:
        """Replaces the gallery's settings."""
        self._txn.put(schema.GALLERY_KEY, encode(record), db=self._db(schema.META))

    def add_identity(self, record: IdentityRecord) -> IdentityRecord:
        """Adds an identity; its number is given here."""
        counters = self._counters
        record = replace(record, number=counters.next_number)
        self._put_identity(record)
        number = schema.u32(record.number)
        self._txn.put(record.id.encode(), number, db=self._db(schema.IDENTITY_IDS))
        self._put_labels(record)
        self._count(identities=1, numbers=1)
        return record

    def replace_identity(self, old: IdentityRecord, new: IdentityRecord) -> None:
        """Replaces an identity's own fields; id and number stay."""
        for key, value in old.labels.items():
            self._txn.delete(schema.label_key(key, value, old.number), db=self._db(schema.LABELS))
        self._put_identity(new)
        self._put_labels(new)
        self._count()

    def remove_identity(self, record: IdentityRecord) -> list[int]:
        """Removes an identity and its faces; returns the faces' ordinals."""
        faces = list(self.faces(record.number))
        for face in faces:
            self._remove_face(record.number, face)
        for key, value in record.labels.items():
            self._txn.delete(
                schema.label_key(key, value, record.number), db=self._db(schema.LABELS)
            )
        self._txn.delete(record.id.encode(), db=self._db(schema.IDENTITY_IDS))
        self._txn.delete(schema.u32(record.number), db=self._db(schema.IDENTITIES))
        self._count(identities=-1, faces=-len(faces))
        return [face.ordinal for face in faces]

    def add_face(
        self, identity: IdentityRecord, record: FaceRecord, vector: Vector
    ) -> tuple[IdentityRecord, FaceRecord]:
        """Adds a face to an identity; its ordinal is given here."""
        record = replace(record, ordinal=self._counters.next_ordinal)
        identity = replace(identity, face_count=identity.face_count + 1)
        number, ordinal = identity.number, record.ordinal
        self._txn.put(schema.face_key(number, ordinal), encode(record), db=self._db(schema.FACES))
        where = schema.u64(ordinal)
        self._txn.put(schema.u32(number) + record.id.encode(), where, db=self._db(schema.FACE_IDS))
        self._txn.put(
            schema.u32(number) + record.content_sha256, where, db=self._db(schema.CONTENTS)
        )
        self._vector_writer.put(ordinal, vector)
        self._owner_writer.put(ordinal, number)
        self._put_identity(identity)
        self._count(faces=1, ordinals=1)
        return identity, record

    def remove_face(self, identity: IdentityRecord, face: FaceRecord) -> None:
        """Removes one face of an identity and overwrites its vector with zeros."""
        self._remove_face(identity.number, face)
        self._put_identity(replace(identity, face_count=identity.face_count - 1))
        self._count(faces=-1)

    def put_clustering(self, record: ClusteringRecord, clusters: list[ClusterRecord]) -> None:
        """Keeps the result of a clustering run, largest cluster first."""
        self._txn.put(record.id.encode(), encode(record), db=self._db(schema.CLUSTERINGS))
        for rank, cluster in enumerate(clusters):
            key = schema.cluster_key(record.id, rank)
            self._txn.put(key, encode(cluster), db=self._db(schema.CLUSTERS))

    def flush(self) -> list[int]:
        """Writes what was collected, once, before the commit.

        Returns:
            The blocks of vectors that have changed.
        """
        changed = self._vector_writer.flush()
        self._owner_writer.flush()
        if self._counters != self._counters_before:
            self._txn.put(schema.COUNTERS_KEY, encode(self._counters), db=self._db(schema.META))
        return changed

    def _remove_face(self, number: int, face: FaceRecord) -> None:
        key = schema.u32(number)
        self._txn.delete(schema.face_key(number, face.ordinal), db=self._db(schema.FACES))
        self._txn.delete(key + face.id.encode(), db=self._db(schema.FACE_IDS))
        self._txn.delete(key + face.content_sha256, db=self._db(schema.CONTENTS))
        self._vector_writer.put(face.ordinal, 0)
        self._owner_writer.put(face.ordinal, NO_OWNER)

    def _put_identity(self, record: IdentityRecord) -> None:
        number = schema.u32(record.number)
        self._txn.put(number, encode(record), db=self._db(schema.IDENTITIES))

    def _put_labels(self, record: IdentityRecord) -> None:
        for key, value in record.labels.items():
            self._txn.put(
                schema.label_key(key, value, record.number), b"", db=self._db(schema.LABELS)
            )

    def _count(
        self, *, identities: int = 0, faces: int = 0, numbers: int = 0, ordinals: int = 0
    ) -> None:
        counters = self._counters
        self._counters = Counters(
            next_ordinal=counters.next_ordinal + ordinals,
            next_number=counters.next_number + numbers,
            identity_count=counters.identity_count + identities,
            face_count=counters.face_count + faces,
            generation=counters.generation + 1,
        )
