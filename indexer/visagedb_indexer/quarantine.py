"""Faces that a gallery's checks have set aside, until somebody accepts or drops them.

They are durable and found by no search. Deleting an identity also drops those meant for it.
"""

from visagedb_indexer import validation
from visagedb_indexer.commands import Command, Effects, RunCommand, fingerprint_of
from visagedb_indexer.enrollment import Changes, store_face
from visagedb_indexer.erasures import keep_face_receipt
from visagedb_indexer.errors import QuarantinedFaceNotFoundError
from visagedb_indexer.gallery_values import (
    Enrollment,
    EnrollMode,
    EnrollOutcome,
    NewFace,
    NewIdentity,
)
from visagedb_indexer.gate_values import GateReason
from visagedb_indexer.store import (
    LOOSE_NUMBER,
    ErasureRecord,
    GalleryStore,
    IdentityRecord,
    QuarantineRecord,
    Transaction,
)
from visagedb_indexer.values import ExtractedFace, Vector


class Quarantine:
    """The quarantine of one gallery.

    Args:
        store: The gallery's database.
        run: The gallery's writer.
        gallery_id: Of the gallery.
    """

    def __init__(self, store: GalleryStore, run: RunCommand, gallery_id: str) -> None:
        self._store = store
        self._run = run
        self._gallery_id = gallery_id

    def count(self) -> int:
        """How many faces there are."""
        with self._store.read() as view:
            return view.quarantine.count()

    def faces(
        self,
        after: int = -1,
        most: int = 100,
        *,
        reason: GateReason | None = None,
        with_vectors: bool = False,
    ) -> list[tuple[QuarantineRecord, Vector | None]]:
        """Up to `most` faces with numbers above `after`, oldest first.

        Args:
            after: A number; -1 for the beginning.
            most: How many.
            reason: Only faces with this finding.
            with_vectors: Also read their vectors, shape (dimension,).
        """
        found: list[tuple[QuarantineRecord, Vector | None]] = []
        with self._store.read() as view:
            for record in view.quarantine.all(after):
                if reason is not None and all(one.reason is not reason for one in record.findings):
                    continue
                vector = view.quarantine.vector(record.number) if with_vectors else None
                found.append((record, vector))
                if len(found) == most:
                    break
        return found

    def accept(self, number: int, identity_id: str = "", request_id: str = "") -> Enrollment:
        """Enrols a face without asking the checks; durable and searchable on return.

        Args:
            number: Of the face.
            identity_id: Another identity than it was meant for, created if there is none;
                empty for the one that it was meant for.
            request_id: For safe repeats; empty for none.

        Raises:
            QuarantinedFaceNotFoundError: There is none of this number.
            IdentityNotFoundError: Its identity is not there and may not be created.
            FaceExistsError: The face id belongs to a face made from something else.
            LimitExceededError: The identity has too many faces.
        """
        return self._run(_accept(number, identity_id, request_id))

    def drop(self, number: int, *, allow_missing: bool = False) -> ErasureRecord | None:
        """Removes a face and its vector for good; returns the receipt, None if there was none.

        Raises:
            QuarantinedFaceNotFoundError: There is none of this number, and that is not allowed.
        """

        def command(txn: Transaction) -> Effects[ErasureRecord | None]:
            try:
                record = txn.quarantine.get(number)
            except QuarantinedFaceNotFoundError:
                if allow_missing:
                    return Effects(None)
                raise
            txn.remove_quarantined(record)
            return Effects(
                keep_face_receipt(txn, record.face, self._gallery_id, record.identity_id)
            )

        return self._run(command)


def _accept(number: int, identity_id: str, request_id: str) -> Command[Enrollment]:
    validation.check_request_id(request_id)
    if identity_id:
        validation.check_id(identity_id, "identity")
    fingerprint = fingerprint_of("accept_quarantined", number, identity_id)

    def command(txn: Transaction) -> Effects[Enrollment]:
        known = txn.requests.recall(request_id, fingerprint, Enrollment)
        if known is not None:
            return Effects(known)
        record = txn.quarantine.get(number)
        vector = txn.quarantine.vector(number)
        owner = identity_id or record.identity_id
        changes = Changes()
        if owner:
            founding = _described(record.founding) if not identity_id else NewIdentity()
            # An identity that has come since must not make the face vanish.
            upsert = record.mode == EnrollMode.UPSERT and not identity_id
            mode = EnrollMode.UPSERT if upsert else EnrollMode.INSERT
            new = _new_face(record, owner, vector, founding)
            answer = store_face(txn, new, mode, vector, changes)
        else:
            face = txn.add_loose_face(record.face, vector)
            changes.added.append((face.ordinal, LOOSE_NUMBER))
            answer = Enrollment("", face, EnrollOutcome.ENROLLED)
        txn.remove_quarantined(record)
        time_us = answer.face.create_time_us if answer.face else record.face.create_time_us
        txn.requests.keep(request_id, fingerprint, answer, time_us)
        return changes.effects(answer)

    return command


def _described(founding: IdentityRecord | None) -> NewIdentity | None:
    if founding is None:
        return None
    return NewIdentity(
        founding.display_name, founding.labels, founding.metadata, founding.expire_time_us
    )


def _new_face(
    record: QuarantineRecord, identity_id: str, vector: Vector, founding: NewIdentity | None
) -> NewFace:
    face = record.face
    extracted: ExtractedFace | None = None
    if face.box is not None and face.landmarks is not None and face.quality is not None:
        extracted = ExtractedFace(face.box, face.landmarks, face.detection_score, face.quality)
    return NewFace(
        identity_id=identity_id,
        vector=vector,
        content_sha256=face.content_sha256,
        face_id=face.id,
        source=face.source,
        extracted=extracted,
        new_identity=founding,
    )
