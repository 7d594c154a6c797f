"""Receipts of erasures and the clock on the wire."""

from typing import Final

from visagedb.v1 import erasures_pb2 as pb
from visagedb_indexer.store import ErasureRecord
from visagedb_indexer.trusted_clock import Reading
from visagedb_indexer.values import ErasureCause, ErasureKind
from visagedb_server import names
from visagedb_server.convert import timestamp

_KINDS: Final = {
    ErasureKind.IDENTITY: pb.ERASURE_KIND_IDENTITY,
    ErasureKind.FACE: pb.ERASURE_KIND_FACE,
    ErasureKind.GALLERY: pb.ERASURE_KIND_GALLERY,
}
_CAUSES: Final = {
    ErasureCause.REQUEST: pb.ERASURE_CAUSE_REQUEST,
    ErasureCause.EXPIRY: pb.ERASURE_CAUSE_EXPIRY,
}
_NOT_REACHED: Final = (
    "backups, snapshots and exports made before it was deleted, and whatever keeps old blocks "
    "beneath the file system"
)


def erasure(record: ErasureRecord) -> pb.Erasure:
    """A receipt."""
    message = pb.Erasure(
        name=names.erasure_name(record.gallery_id, record.id),
        state=pb.ERASURE_STATE_PENDING,
        kind=_KINDS[record.kind],
        cause=_CAUSES[record.cause],
        delete_time=timestamp(record.time_us),
        target=_target(record),
        target_uid=record.identity_uid,
        identity_count=record.identity_count,
        face_count=record.face_count,
        content_digest=record.content_digest,
        overwritten=record.overwritten,
        not_reached=_NOT_REACHED,
    )
    if record.complete_time_us:
        message.state = pb.ERASURE_STATE_COMPLETE
        message.complete_time.CopyFrom(timestamp(record.complete_time_us))
    if record.expire_time_us is not None:
        message.expire_time.CopyFrom(timestamp(record.expire_time_us))
    return message


def clock(reading: Reading) -> pb.Clock:
    """What the server thinks of its clock."""
    message = pb.Clock(
        time=timestamp(reading.time_us), trusted=reading.trusted, reason=reading.reason
    )
    if not reading.trusted:
        message.last_trusted_time.CopyFrom(timestamp(reading.last_trusted_us))
    return message


def _target(record: ErasureRecord) -> str:
    if record.kind is ErasureKind.FACE:
        return names.face_name(record.gallery_id, record.identity_id, record.face_id)
    if record.kind is ErasureKind.IDENTITY:
        return names.identity_name(record.gallery_id, record.identity_id)
    return names.gallery_name(record.gallery_id)
