"""Erasing people for good: deletions with receipts, and the end of those whose time is over.

A deletion takes effect at once: nothing returns the face any more, and its vector is overwritten
in the table. What the file still holds of it elsewhere goes with the next compaction. The receipt
is kept in the same commit as the deletion; it is pending until then, and complete afterwards.
"""

import hashlib
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from visagedb_indexer import limits
from visagedb_indexer.clock import now_us
from visagedb_indexer.commands import Command, Effects, RunCommand, check_etag
from visagedb_indexer.errors import FaceNotFoundError, IdentityNotFoundError
from visagedb_indexer.store import (
    Counters,
    ErasureRecord,
    FaceRecord,
    GalleryRecord,
    GalleryStore,
    IdentityRecord,
    Transaction,
)
from visagedb_indexer.values import ErasureCause, ErasureKind

_EXPIRED_PER_COMMIT: Final = 256
_COMPLETED_PER_COMMIT: Final = 2048


@dataclass(frozen=True, slots=True)
class PendingErasures:
    """What a compaction is waited for with.

    Attributes:
        count: Receipts that are pending.
        oldest_us: Time of the oldest, in microseconds since 1970; None without any.
        next_expiry_us: When the next identity expires; None for never.
    """

    count: int
    oldest_us: int | None
    next_expiry_us: int | None


class Erasures:
    """The deletions of one gallery.

    Args:
        store: The gallery's database.
        run: The gallery's writer.
        gallery: The gallery's settings as they are.
    """

    def __init__(
        self, store: GalleryStore, run: RunCommand, gallery: Callable[[], GalleryRecord]
    ) -> None:
        self._store = store
        self._run = run
        self._gallery = gallery

    def delete_identity(
        self, identity_id: str, etag: str = "", *, allow_missing: bool = False
    ) -> ErasureRecord | None:
        """Deletes an identity with its faces; returns the receipt, or None if there was none.

        Raises:
            IdentityNotFoundError: There is none, and that is not allowed.
            EtagMismatchError: It changed since the caller read it.
        """
        gallery_id = self._gallery().id

        def command(txn: Transaction) -> Effects[ErasureRecord | None]:
            record = txn.find_identity(identity_id) if allow_missing else txn.identity(identity_id)
            if record is None:
                for face in txn.drop_quarantined(identity_id):
                    keep_face_receipt(txn, face, gallery_id, identity_id)
                return Effects(None)
            check_etag(etag, record.revision)
            return _erased(txn, [record], gallery_id, ErasureCause.REQUEST).only()

        return self._run(command)

    def delete_face(
        self, identity_id: str, face_id: str, *, allow_missing: bool = False
    ) -> ErasureRecord | None:
        """Deletes a face, with an empty identity id a loose one; None if there was none.

        Raises:
            IdentityNotFoundError: There is no such identity.
            FaceNotFoundError: It has no such face, and that is not allowed.
        """
        gallery_id = self._gallery().id

        def command(txn: Transaction) -> Effects[ErasureRecord | None]:
            try:
                face = txn.face_by_id(identity_id, face_id)
                identity = txn.identity(identity_id) if identity_id else None
            except (IdentityNotFoundError, FaceNotFoundError):
                if allow_missing:
                    return Effects(None)
                raise
            txn.remove_face(identity, face)
            uid = "" if identity is None else identity.uid
            receipt = keep_face_receipt(txn, face, gallery_id, identity_id, uid)
            return Effects(receipt, removed_faces=(face.ordinal,))

        return self._run(command)

    def erase_expired(self, time_us: int) -> int:
        """Erases the identities whose time is over, some hundred per commit; how many they were.

        Args:
            time_us: The present time, microseconds since 1970, by a clock that is trusted.
        """
        erased = 0
        while some := self._run(_expire(time_us, self._gallery().id)):
            erased += some
        return erased

    def get(self, erasure_id: str) -> ErasureRecord:
        """A receipt.

        Raises:
            NotFoundError: There is none of this id.
        """
        with self._store.read() as view:
            return view.erasures.get(erasure_id)

    def newest(self, before: str = "", most: int = 100) -> list[ErasureRecord]:
        """Up to `most` receipts with ids below `before`, newest first."""
        with self._store.read() as view:
            return list(islice(view.erasures.newest(before), most))

    def all(self) -> list[ErasureRecord]:
        """All receipts."""
        with self._store.read() as view:
            return list(view.erasures.newest())

    def of_gallery(self, counters: Counters) -> ErasureRecord:
        """The receipt of the erasure of the gallery itself, to be kept by the catalogue."""
        gallery = self._gallery()
        return ErasureRecord(
            id=_new_id(),
            kind=ErasureKind.GALLERY,
            cause=ErasureCause.REQUEST,
            gallery_id=gallery.id,
            time_us=now_us(),
            generation=counters.generation,
            identity_uid=gallery.uid,
            identity_count=counters.identity_count,
            face_count=counters.face_count,
        )

    def pending(self) -> PendingErasures:
        """What a compaction is waited for with."""
        with self._store.read() as view:
            oldest = next(view.erasures.pending(), None)
            return PendingErasures(
                view.erasures.pending_count(),
                None if oldest is None else oldest.time_us,
                view.erasures.next_expiry(),
            )

    def complete(self, generation: int, *, overwritten: bool = False) -> int:
        """Makes the receipts up to a generation complete; how many they were."""
        completed = 0
        while some := self._run(_complete(generation, overwritten=overwritten)):
            completed += some
        return completed


def keep_face_receipt(
    txn: Transaction, face: FaceRecord, gallery_id: str, identity_id: str, identity_uid: str = ""
) -> ErasureRecord:
    """Keeps the receipt of a face that was erased alone, in the commit that erases it.

    Args:
        txn: The commit; the face is removed already.
        face: The face.
        gallery_id: Where it was.
        identity_id: Whose it was, or was to be; empty for a loose face.
        identity_uid: Of that identity; empty without one.
    """
    receipt = ErasureRecord(
        id=_new_id(),
        kind=ErasureKind.FACE,
        cause=ErasureCause.REQUEST,
        gallery_id=gallery_id,
        time_us=now_us(),
        generation=txn.counters().generation,
        identity_id=identity_id,
        identity_uid=identity_uid,
        face_id=face.id,
        face_count=1,
        content_digest=_digest([face]),
    )
    _keep(txn, receipt)
    return receipt


@dataclass(frozen=True, slots=True)
class _Erased:
    receipts: tuple[ErasureRecord, ...]
    identities: tuple[IdentityRecord, ...]
    ordinals: tuple[int, ...]

    def only(self) -> Effects[ErasureRecord | None]:
        return Effects(self.receipts[0], deleted=self.identities, removed_faces=self.ordinals)


def _erased(
    txn: Transaction, records: Iterable[IdentityRecord], gallery_id: str, cause: ErasureCause
) -> _Erased:
    """Removes identities with their faces and what is known of them, and keeps the receipts."""
    receipts: list[ErasureRecord] = []
    gone: list[IdentityRecord] = []
    ordinals: list[int] = []
    for record in records:
        faces = list(txn.faces(record.number))
        ordinals += txn.remove_identity(record)
        txn.lineage.erase(record.number)
        faces += txn.drop_quarantined(record.id)
        receipt = ErasureRecord(
            id=_new_id(),
            kind=ErasureKind.IDENTITY,
            cause=cause,
            gallery_id=gallery_id,
            time_us=now_us(),
            generation=txn.counters().generation,
            identity_id=record.id,
            identity_uid=record.uid,
            identity_count=1,
            face_count=len(faces),
            content_digest=_digest(faces),
            expire_time_us=record.expire_time_us if cause is ErasureCause.EXPIRY else None,
        )
        _keep(txn, receipt)
        receipts.append(receipt)
        gone.append(record)
    return _Erased(tuple(receipts), tuple(gone), tuple(ordinals))


def _expire(time_us: int, gallery_id: str) -> Command[int]:
    def command(txn: Transaction) -> Effects[int]:
        numbers = txn.erasures.expired(time_us, _EXPIRED_PER_COMMIT)
        found = [txn.identity_by_number(number) for number in numbers]
        records = [record for record in found if record is not None]
        erased = _erased(txn, records, gallery_id, ErasureCause.EXPIRY)
        return Effects(len(records), deleted=erased.identities, removed_faces=erased.ordinals)

    return command


def _complete(generation: int, *, overwritten: bool) -> Command[int]:
    def command(txn: Transaction) -> Effects[int]:
        covered = (one for one in txn.erasures.pending() if one.generation <= generation)
        done = list(islice(covered, _COMPLETED_PER_COMMIT))
        time_us = now_us()
        for record in done:
            txn.erasures.complete(record, time_us, overwritten=overwritten)
        return Effects(len(done))

    return command


def _keep(txn: Transaction, receipt: ErasureRecord) -> None:
    txn.erasures.add(receipt)
    txn.erasures.forget_oldest(limits.ERASURES_KEPT_MAX, most=4)


def _digest(faces: Iterable[FaceRecord]) -> bytes:
    return hashlib.sha256(b"".join(sorted(face.content_sha256 for face in faces))).digest()


def _new_id() -> str:
    # The time in front keeps the receipts in the order of the erasures.
    return f"{now_us():016x}-{uuid.uuid4().hex[:8]}"
