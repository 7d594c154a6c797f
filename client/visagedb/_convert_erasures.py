"""Receipts of erasures from protobuf to frozen values. Pure functions."""

from typing import Final

from visagedb._erasures import Compaction, Erasure, Retention, ServerClock
from visagedb._moments import moment
from visagedb._values import ErasureCause, ErasureKind, ErasureState
from visagedb.v1 import erasures_pb2 as pb

_STATES: Final = {
    pb.ERASURE_STATE_PENDING: ErasureState.PENDING,
    pb.ERASURE_STATE_COMPLETE: ErasureState.COMPLETE,
}
STATE_NUMBERS: Final = {state: number for number, state in _STATES.items()}
_KINDS: Final = {
    pb.ERASURE_KIND_IDENTITY: ErasureKind.IDENTITY,
    pb.ERASURE_KIND_FACE: ErasureKind.FACE,
    pb.ERASURE_KIND_GALLERY: ErasureKind.GALLERY,
}
_CAUSES: Final = {
    pb.ERASURE_CAUSE_REQUEST: ErasureCause.REQUEST,
    pb.ERASURE_CAUSE_EXPIRY: ErasureCause.EXPIRY,
}


def erasure(message: pb.Erasure) -> Erasure:
    """A receipt."""
    return Erasure(
        name=message.name,
        state=_STATES.get(message.state, ErasureState.UNKNOWN),
        kind=_KINDS.get(message.kind, ErasureKind.UNKNOWN),
        cause=_CAUSES.get(message.cause, ErasureCause.UNKNOWN),
        delete_time=moment(message.delete_time),
        complete_time=moment(message.complete_time),
        target=message.target,
        target_uid=message.target_uid,
        identity_count=message.identity_count,
        face_count=message.face_count,
        content_digest=message.content_digest.hex(),
        expire_time=moment(message.expire_time),
        overwritten=message.overwritten,
        not_reached=message.not_reached,
    )


def compaction(message: pb.Compaction) -> Compaction:
    """What a compaction has done."""
    return Compaction(
        name=message.gallery,
        bytes_before=message.bytes_before,
        bytes_after=message.bytes_after,
        completed_erasure_count=message.completed_erasure_count,
        held_up_seconds=message.held_up_seconds,
    )


def clock(message: pb.Clock) -> ServerClock:
    """What the server thinks of its clock."""
    return ServerClock(
        time=moment(message.time),
        trusted=message.trusted,
        last_trusted_time=moment(message.last_trusted_time),
        reason=message.reason,
    )


def retention(message: pb.Retention) -> Retention:
    """How far the erasing of a gallery is."""
    return Retention(
        pending_erasure_count=message.pending_erasure_count,
        oldest_pending_time=moment(message.oldest_pending_time),
        compaction_due_time=moment(message.compaction_due_time),
        next_expire_time=moment(message.next_expire_time),
        clock=clock(message.clock),
    )
