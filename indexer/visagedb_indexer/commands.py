"""The writes of a gallery, as commands for its single writer.

A command checks first and raises before it has changed anything; then it changes the
store and says, as `Effects`, what the structures in memory have to follow once the
change is durable.
"""

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeAlias, TypeVar

import msgspec

from visagedb_indexer import limits, validation
from visagedb_indexer.clock import now_us
from visagedb_indexer.errors import (
    EtagMismatchError,
    IdentityExistsError,
    IdentityNotFoundError,
)
from visagedb_indexer.gallery_values import (
    GalleryPatch,
    IdentityPatch,
    NewIdentity,
)
from visagedb_indexer.gate_values import GateSettings
from visagedb_indexer.store import (
    Arrivals,
    FaceRecord,
    GalleryRecord,
    IdentityRecord,
    Transaction,
)
from visagedb_indexer.values import ExtractedFace

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Effects(Generic[Result]):
    """What a command has done.

    Attributes:
        result: What its caller gets.
        arrivals: New identities with their faces, many at once.
        created: Other identities that are new.
        replaced: Identities before and after.
        deleted: Identities that are gone.
        added_faces: Ordinal and identity number of each new face.
        moved_faces: Ordinal and new identity number of faces that have changed hands.
        removed_faces: Ordinals of the faces that are gone.
        settings: The gallery's new settings.
    """

    result: Result
    arrivals: Arrivals | None = None
    created: tuple[IdentityRecord, ...] = ()
    replaced: tuple[tuple[IdentityRecord, IdentityRecord], ...] = ()
    deleted: tuple[IdentityRecord, ...] = ()
    added_faces: tuple[tuple[int, int], ...] = ()
    moved_faces: tuple[tuple[int, int], ...] = ()
    removed_faces: tuple[int, ...] = ()
    settings: GalleryRecord | None = None


Command: TypeAlias = Callable[[Transaction], Effects[Result]]


class RunCommand(Protocol):
    """Runs a command in the gallery's writer."""

    def __call__(self, command: Command[Result], /) -> Result:
        """Returns when the command's change is durable and searchable."""
        ...


def update_gallery(patch: GalleryPatch, etag: str) -> Command[GalleryRecord]:
    """Changes a gallery's settings."""
    validation.check_text(patch.display_name or "", "display_name", limits.DISPLAY_NAME_LENGTH_MAX)
    validation.check_cosine(patch.threshold, "threshold")
    validation.check_mate_loss_bound(patch.mate_loss_bound)
    validation.check_gate(_patched_gate(GateSettings(), patch))
    validation.check_quotas(patch.quotas)

    def command(txn: Transaction) -> Effects[GalleryRecord]:
        old = txn.gallery()
        check_etag(etag, old.revision)
        threshold = old.threshold if patch.threshold is None else patch.threshold
        new = replace(
            old,
            display_name=_given(patch.display_name, old.display_name),
            threshold=None if patch.clear_threshold else threshold,
            fusion=_given(patch.fusion, old.fusion),
            mate_loss_bound=_given(patch.mate_loss_bound, old.mate_loss_bound),
            gate=_patched_gate(old.gate, patch),
            quotas=_given(patch.quotas, old.quotas),
            update_time_us=now_us(),
            revision=old.revision + 1,
        )
        txn.put_gallery(new)
        return Effects(new, settings=new)

    return command


def create_identity(identity_id: str, new: NewIdentity, request_id: str) -> Command[IdentityRecord]:
    """Creates an identity without faces; an empty id makes one."""
    validation.check_request_id(request_id)
    if identity_id:
        validation.check_id(identity_id, "identity")
    new = checked_identity(new)
    fingerprint = fingerprint_of("create_identity", identity_id, new)

    def command(txn: Transaction) -> Effects[IdentityRecord]:
        known = txn.requests.recall(request_id, fingerprint, IdentityRecord)
        if known is not None:
            return Effects(known)
        if identity_id and txn.find_identity(identity_id) is not None:
            raise IdentityExistsError(
                f"there is an identity {identity_id!r} already", {"identity": identity_id}
            )
        record = txn.add_identity(identity_record(identity_id, new))
        txn.requests.keep(request_id, fingerprint, record, record.create_time_us)
        return Effects(record, created=(record,))

    return command


def update_identity(identity_id: str, patch: IdentityPatch, etag: str) -> Command[IdentityRecord]:
    """Changes some fields of an identity."""

    def command(txn: Transaction) -> Effects[IdentityRecord]:
        old = txn.identity(identity_id)
        check_etag(etag, old.revision)
        expiry = old.expire_time_us if patch.expire_time_us is None else patch.expire_time_us
        fields = checked_identity(
            NewIdentity(
                _given(patch.display_name, old.display_name),
                _given(patch.labels, old.labels),
                _given(patch.metadata, old.metadata),
                None if patch.clear_expire_time else expiry,
            )
        )
        new = replace(
            old,
            display_name=fields.display_name,
            labels=fields.labels,
            metadata=fields.metadata,
            expire_time_us=fields.expire_time_us,
            update_time_us=now_us(),
            revision=old.revision + 1,
        )
        txn.replace_identity(old, new)
        return Effects(new, replaced=((old, new),))

    return command


def _patched_gate(old: GateSettings, patch: GalleryPatch) -> GateSettings:
    return GateSettings(
        quality=_given(patch.quality_check, old.quality),
        duplicate=_given(patch.duplicate_check, old.duplicate),
        mismatch=_given(patch.mismatch_check, old.mismatch),
    )


def _given(new: Result | None, old: Result) -> Result:
    return old if new is None else new


def check_etag(given: str, revision: int) -> None:
    """Refuses a write by somebody who has not seen the present state.

    Raises:
        EtagMismatchError: The etag given is not that of the revision.
    """
    if given and given != str(revision):
        raise EtagMismatchError(
            "it was changed since it was read; read it again", {"etag": str(revision)}
        )


def checked_identity(new: NewIdentity) -> NewIdentity:
    """What a caller says of an identity, checked.

    Raises:
        InvalidArgumentError: A name, label or the metadata is not valid.
    """
    return replace(
        new,
        display_name=validation.check_text(
            new.display_name, "display_name", limits.DISPLAY_NAME_LENGTH_MAX
        ),
        labels=validation.check_labels(new.labels),
        metadata=validation.check_metadata(new.metadata),
    )


def no_identity(identity_id: str) -> IdentityNotFoundError:
    """The refusal of a write to an identity that does not exist."""
    return IdentityNotFoundError(
        f"there is no identity {identity_id!r}; create it first, or allow_missing",
        {"identity": identity_id},
    )


def identity_record(identity_id: str, new: NewIdentity) -> IdentityRecord:
    """The record of a new identity, checked; an empty id makes one."""
    new = checked_identity(new)
    now = now_us()
    uid = uuid.uuid4().hex
    return IdentityRecord(
        id=identity_id or uid,
        uid=uid,
        number=-1,
        create_time_us=now if new.create_time_us is None else new.create_time_us,
        update_time_us=now if new.update_time_us is None else new.update_time_us,
        display_name=new.display_name,
        labels=new.labels,
        metadata=new.metadata,
        expire_time_us=new.expire_time_us,
    )


def face_record(
    face_id: str,
    content_sha256: bytes,
    source: str,
    found: ExtractedFace | None,
    create_time_us: int | None = None,
) -> FaceRecord:
    """The record of a new face; an empty id makes one, and its time is now unless given."""
    return FaceRecord(
        id=face_id or uuid.uuid4().hex,
        ordinal=-1,
        content_sha256=content_sha256,
        create_time_us=now_us() if create_time_us is None else create_time_us,
        source=source,
        box=found.box if found else None,
        landmarks=found.landmarks if found else None,
        detection_score=found.detection_score if found else 0.0,
        quality=found.quality if found else None,
    )


def fingerprint_of(*parts: object) -> bytes:
    """What makes two writes the same request."""
    # Labels and metadata come in any order, also in the repeat of a request.
    return hashlib.sha256(msgspec.msgpack.encode(parts, order="deterministic")).digest()
