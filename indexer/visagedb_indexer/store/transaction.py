"""Typed writes of a gallery's database."""

import uuid
from dataclasses import replace
from typing import cast

from visagedb_indexer.failpoints import reached
from visagedb_indexer.store import checksums, schema
from visagedb_indexer.store.audits import AuditWriter
from visagedb_indexer.store.blocks import ColumnWriter
from visagedb_indexer.store.calibrations import CalibrationWriter
from visagedb_indexer.store.clusterings import ClusteringWriter
from visagedb_indexer.store.environment import LmdbTransaction
from visagedb_indexer.store.erasures import ErasureWriter
from visagedb_indexer.store.imports import ImportWriter
from visagedb_indexer.store.lineage import LineageWriter
from visagedb_indexer.store.newcomers import Arrivals, Newcomers, put_newcomers
from visagedb_indexer.store.opened import Opened
from visagedb_indexer.store.quarantine import QuarantineWriter
from visagedb_indexer.store.quotas import check_quotas
from visagedb_indexer.store.reader import NO_OWNER, Reader
from visagedb_indexer.store.records import (
    Counters,
    FaceRecord,
    GalleryRecord,
    IdentityRecord,
    QuarantineRecord,
    encode,
)
from visagedb_indexer.store.requests import RequestWriter
from visagedb_indexer.values import Quotas, Vector


class Transaction(Reader):
    """Typed writes in one LMDB write transaction.

    The methods keep the sub-databases in step with each other; whether a write is
    allowed is the gallery's business.
    """

    def __init__(self, store: Opened, txn: LmdbTransaction) -> None:
        super().__init__(store, txn)
        self._vector_writer = ColumnWriter(store.environment, txn, store.vector_column)
        self._owner_writer = ColumnWriter(store.environment, txn, store.owner_column)
        self._checksum_writer = ColumnWriter(store.environment, txn, store.checksum_column)
        self._counters_before = self._counters = super().counters()
        self._quotas: Quotas | None = None
        self._environment = store.environment
        self._row_bytes = 4 * store.vector_column.width
        self.requests: RequestWriter = RequestWriter(store.environment, txn)
        self.audits: AuditWriter = AuditWriter(store.environment, txn)
        self.calibrations: CalibrationWriter = CalibrationWriter(store.environment, txn)
        self.clusterings: ClusteringWriter = ClusteringWriter(store.environment, txn)
        self.imports: ImportWriter = ImportWriter(store.environment, txn)
        self.lineage: LineageWriter = LineageWriter(store.environment, txn)
        self.quarantine: QuarantineWriter = QuarantineWriter(store.environment, txn)
        self.erasures: ErasureWriter = ErasureWriter(store.environment, txn)

    def counters(self) -> Counters:
        """Where the gallery will stand after this transaction."""
        return self._counters

    def _stored_owner(self, ordinal: int) -> int:
        # Commands of one commit see each other's changes.
        return int(cast("int", self._owner_writer.row(ordinal)[0]))

    def vector(self, ordinal: int) -> Vector:
        """A face's vector as it stands, with the changes of this transaction."""
        return cast("Vector", self._vector_writer.row(ordinal))

    def check_room(self, *, identities: int = 0, faces: int = 0) -> None:
        """Asks whether the gallery may grow by so much.

        Raises:
            QuotaExceededError: It may not.
        """
        if self._quotas is None:
            self._quotas = self.gallery().quotas
        if self._quotas != Quotas():
            check_quotas(
                self._quotas, self._counters, self._bytes_in_use, identities=identities, faces=faces
            )

    def _bytes_in_use(self) -> int:
        unwritten = self._counters.next_ordinal - self._counters_before.next_ordinal
        return self._environment.bytes_in_use(self._txn) + unwritten * self._row_bytes

    def put_gallery(self, record: GalleryRecord) -> None:
        """Replaces the gallery's settings."""
        self._quotas = record.quotas
        self._txn.put(schema.GALLERY_KEY, encode(record), db=self._db(schema.META))

    def add_identity(self, record: IdentityRecord) -> IdentityRecord:
        """Adds an identity; its number is given here."""
        self.check_room(identities=1)
        counters = self._counters
        record = replace(record, number=counters.next_number)
        self._put_identity(record)
        number = schema.u32(record.number)
        self._txn.put(record.id.encode(), number, db=self._db(schema.IDENTITY_IDS))
        self._put_marks(record)
        self._count(identities=1, numbers=1)
        return record

    def replace_identity(self, old: IdentityRecord, new: IdentityRecord) -> None:
        """Replaces an identity's own fields; id and number stay."""
        self._remove_marks(old)
        self._put_identity(new)
        self._put_marks(new)
        self._count()

    def remove_identity(self, record: IdentityRecord) -> list[int]:
        """Removes an identity and its faces; returns the faces' ordinals."""
        faces = list(self.faces(record.number))
        for face in faces:
            self._remove_face(record.number, face)
        self._remove_marks(record)
        self._txn.delete(record.id.encode(), db=self._db(schema.IDENTITY_IDS))
        self._txn.delete(schema.u32(record.number), db=self._db(schema.IDENTITIES))
        self._count(identities=-1, faces=-len(faces))
        return [face.ordinal for face in faces]

    def put_identity(self, record: IdentityRecord) -> None:
        """Replaces an identity whose labels have not changed."""
        self._put_identity(record)
        self._count()

    def restore_identity(self, record: IdentityRecord) -> None:
        """Brings a removed identity back, under the number that it had."""
        self._put_identity(record)
        self._txn.put(
            record.id.encode(), schema.u32(record.number), db=self._db(schema.IDENTITY_IDS)
        )
        self._put_marks(record)
        self._count(identities=1)

    def add_face(
        self, identity: IdentityRecord, record: FaceRecord, vector: Vector
    ) -> tuple[IdentityRecord, FaceRecord]:
        """Adds a face to an identity; its ordinal is given here."""
        self.check_room(faces=1)
        record = self._add_face(identity.number, record, vector)
        identity = replace(identity, face_count=identity.face_count + 1)
        self._put_identity(identity)
        self._count(faces=1, ordinals=1)
        return identity, record

    def add_newcomers(self, new: Newcomers, time_us: int) -> Arrivals:
        """Adds identities with their faces; numbers and ordinals are given here."""
        counters = self._counters
        arrivals = put_newcomers(
            self._txn, self._db, new, (counters.next_number, counters.next_ordinal), time_us
        )
        first = arrivals.first_ordinal
        self._vector_writer.put_rows(first, new.vectors)
        self._checksum_writer.put_rows(first, new.checksums[:, None])
        self._owner_writer.put_rows(first, arrivals.owners[:, None])
        people, faces = arrivals.identity_count, len(new.digests)
        self._count(identities=people, numbers=people, faces=faces, ordinals=faces)
        return arrivals

    def add_loose_face(self, record: FaceRecord, vector: Vector) -> FaceRecord:
        """Adds a face that belongs to no identity; its ordinal is given here."""
        self.check_room(faces=1)
        record = self._add_face(schema.LOOSE_NUMBER, record, vector)
        self._count(faces=1, ordinals=1, loose=1)
        return record

    def move_face(self, face: FaceRecord, source: int, destination: int) -> FaceRecord:
        """Gives a face from one identity, by number, to another, or from or to none.

        Ordinal and vector stay; the id stays unless the destination has a face of this id.
        The identities' counts of faces are the caller's business.
        """
        self._remove_face_keys(source, face)
        if self.find_face(destination, face.id) is not None:
            face = replace(face, id=uuid.uuid4().hex)
        self._put_face_keys(destination, face)
        self._owner_writer.put(face.ordinal, destination)
        loose = schema.LOOSE_NUMBER
        self._count(loose=int(destination == loose) - int(source == loose))
        return face

    def remove_face(self, identity: IdentityRecord | None, face: FaceRecord) -> None:
        """Removes a face of an identity, or a loose one, and overwrites its vector with zeros."""
        self._remove_face(schema.LOOSE_NUMBER if identity is None else identity.number, face)
        if identity is not None:
            self._put_identity(replace(identity, face_count=identity.face_count - 1))
        self._count(faces=-1, loose=-1 if identity is None else 0)

    @property
    def grows(self) -> bool:
        """Whether there are new identities or faces in it."""
        before, after = self._counters_before, self._counters
        return (before.next_number, before.next_ordinal, before.next_quarantine) != (
            after.next_number,
            after.next_ordinal,
            after.next_quarantine,
        )

    def flush(self) -> list[int]:
        """Writes what was collected, once, before the commit.

        Returns:
            The blocks of vectors that have changed.
        """
        reached("columns.before_vectors")
        changed = self._vector_writer.flush()
        self._checksum_writer.flush()
        reached("columns.before_owners")
        self._owner_writer.flush()
        reached("columns.after_owners")
        if self._counters != self._counters_before:
            self._txn.put(schema.COUNTERS_KEY, encode(self._counters), db=self._db(schema.META))
        return changed

    def next_lineage(self) -> int:
        """A number for an entry of the lineage."""
        number = self._counters.next_lineage
        self._counters = replace(self._counters, next_lineage=number + 1)
        return number

    def drop_quarantined(self, identity_id: str) -> list[FaceRecord]:
        """Removes the faces in quarantine that were meant for an identity; returns them."""
        records = [
            self.quarantine.get(number) for number in self.quarantine.of_identity(identity_id)
        ]
        for record in records:
            self.remove_quarantined(record)
        return [record.face for record in records]

    def remove_quarantined(self, record: QuarantineRecord) -> None:
        """Removes a face in quarantine with its vector."""
        self.quarantine.remove(record)
        # A change of content: a compaction that began before has copied the vector.
        self._count()

    def next_quarantine(self) -> int:
        """A number for a face in quarantine."""
        number = self._counters.next_quarantine
        self._counters = replace(self._counters, next_quarantine=number + 1)
        return number

    def _add_face(self, number: int, record: FaceRecord, vector: Vector) -> FaceRecord:
        record = replace(record, ordinal=self._counters.next_ordinal)
        self._put_face_keys(number, record)
        self._vector_writer.put(record.ordinal, vector)
        self._checksum_writer.put(record.ordinal, checksums.of_vector(vector))
        self._owner_writer.put(record.ordinal, number)
        return record

    def _put_face_keys(self, number: int, face: FaceRecord) -> None:
        key, where = schema.u32(number), schema.u64(face.ordinal)
        self._txn.put(
            schema.face_key(number, face.ordinal), encode(face), db=self._db(schema.FACES)
        )
        self._txn.put(key + face.id.encode(), where, db=self._db(schema.FACE_IDS))
        if number == schema.LOOSE_NUMBER:
            content = face.content_sha256 + where
            self._txn.put(content, b"", db=self._db(schema.LOOSE_CONTENTS))
        else:
            # Two faces of one photograph may come to one identity.
            content = key + face.content_sha256
            self._put_content(content, {*self._content(content), face.ordinal})

    def _remove_face_keys(self, number: int, face: FaceRecord) -> None:
        key = schema.u32(number)
        self._txn.delete(schema.face_key(number, face.ordinal), db=self._db(schema.FACES))
        self._txn.delete(key + face.id.encode(), db=self._db(schema.FACE_IDS))
        content = key + face.content_sha256
        self._put_content(content, {*self._content(content)} - {face.ordinal})

    def _put_content(self, content: bytes, ordinals: set[int]) -> None:
        if ordinals:
            packed = schema.u64s(sorted(ordinals))
            self._txn.put(content, packed, db=self._db(schema.CONTENTS))
        else:
            self._txn.delete(content, db=self._db(schema.CONTENTS))

    def _remove_face(self, number: int, face: FaceRecord) -> None:
        self._remove_face_keys(number, face)
        # It stays when a loose face gets an identity: its photograph is still enrolled.
        content = face.content_sha256 + schema.u64(face.ordinal)
        self._txn.delete(content, db=self._db(schema.LOOSE_CONTENTS))
        self._vector_writer.put(face.ordinal, 0)
        self._checksum_writer.put(face.ordinal, 0)
        self._owner_writer.put(face.ordinal, NO_OWNER)

    def _put_identity(self, record: IdentityRecord) -> None:
        number = schema.u32(record.number)
        self._txn.put(number, encode(record), db=self._db(schema.IDENTITIES))

    def _remove_marks(self, record: IdentityRecord) -> None:
        for key, value in record.labels.items():
            self._txn.delete(
                schema.label_key(key, value, record.number), db=self._db(schema.LABELS)
            )
        self.erasures.expect_no_more(record)

    def _put_marks(self, record: IdentityRecord) -> None:
        """What an identity is found by other than its id: labels, and its expiry."""
        self.erasures.expect(record)
        for key, value in record.labels.items():
            self._txn.put(
                schema.label_key(key, value, record.number), b"", db=self._db(schema.LABELS)
            )

    def _count(
        self,
        *,
        identities: int = 0,
        faces: int = 0,
        numbers: int = 0,
        ordinals: int = 0,
        loose: int = 0,
    ) -> None:
        counters = self._counters
        self._counters = replace(
            counters,
            next_ordinal=counters.next_ordinal + ordinals,
            next_number=counters.next_number + numbers,
            identity_count=counters.identity_count + identities,
            face_count=counters.face_count + faces,
            generation=counters.generation + 1,
            loose_face_count=counters.loose_face_count + loose,
        )
