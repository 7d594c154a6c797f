"""Moving faces from some identities to one, in one transaction, with a record of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from visagedb_indexer import limits, validation
from visagedb_indexer.clock import now_us
from visagedb_indexer.commands import Effects
from visagedb_indexer.errors import LimitExceededError
from visagedb_indexer.loose_faces import OwnedFace
from visagedb_indexer.store import (
    LOOSE_NUMBER,
    FaceRecord,
    IdentityRecord,
    LineageRecord,
    LineageSource,
    Transaction,
)


@dataclass(frozen=True, slots=True)
class Moved:
    """The answer to a change.

    Attributes:
        lineage: Its entry; None when every face was there already.
        identity: The identity that has the faces now; None for loose faces.
        faces: The faces under their present names.
    """

    lineage: LineageRecord | None
    identity: IdentityRecord | None
    faces: tuple[OwnedFace, ...]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What is kept of an answer for a repeat of the request."""

    lineage: int
    identity_id: str
    ordinals: bytes


@dataclass(frozen=True, slots=True)
class Group:
    """Faces that come from one identity, or that are loose."""

    source: IdentityRecord | None
    faces: list[FaceRecord]
    ends: bool = False


def transfer(
    txn: Transaction,
    kind: str,
    groups: Sequence[Group],
    target: IdentityRecord | None,
    *,
    founded: bool,
    undoes: int = -1,
) -> Effects[Moved]:
    """Moves the faces of some groups and writes down where they came from."""
    number = LOOSE_NUMBER if target is None else target.number
    count = sum(len(group.faces) for group in groups)
    check_room(target, count)
    moved = [
        txn.move_face(face, number_of(group.source), number)
        for group in groups
        for face in group.faces
    ]
    ended = [group.source for group in groups if group.ends and group.source is not None]
    for group in groups:
        if group.ends and group.source is not None:
            txn.remove_identity(group.source)
        elif group.source is not None:
            txn.put_identity(recounted(group.source, -len(group.faces)))
    if target is not None and groups:
        target = recounted(target, count)
        txn.put_identity(target)
    entry = None
    if groups:
        entry = LineageRecord(
            number=txn.next_lineage(),
            kind=kind,
            time_us=now_us(),
            to_number=number,
            to_id=target.id if target else "",
            founded=founded,
            sources=tuple(_source(group) for group in groups),
            face_count=count,
            to_created=target if founded else None,
            undoes=undoes,
        )
        txn.lineage.put(entry)
        txn.lineage.trim(most=2, kept=limits.LINEAGE_ENTRIES_MAX)
    owner = target.id if target else ""
    return Effects(
        Moved(entry, target, tuple(OwnedFace(owner, face) for face in moved)),
        created=(target,) if target is not None and founded else (),
        deleted=tuple(ended),
        moved_faces=tuple((face.ordinal, number) for face in moved),
    )


def recalled(txn: Transaction, request_id: str, fingerprint: bytes) -> Effects[Moved] | None:
    """The answer to this request, if it was made before."""
    validation.check_request_id(request_id)
    known = txn.requests.recall(request_id, fingerprint, _Answer)
    if known is None:
        return None
    located = [txn.locate(ordinal) for ordinal in np.frombuffer(known.ordinals, "<i8").tolist()]
    identity = txn.find_identity(known.identity_id) if known.identity_id else None
    faces = tuple(OwnedFace(*place) for place in located if place is not None)
    return Effects(Moved(txn.lineage.find(known.lineage), identity, faces))


def kept(
    txn: Transaction, effects: Effects[Moved], request_id: str, fingerprint: bytes
) -> Effects[Moved]:
    """Keeps an answer for a repeat of its request."""
    moved = effects.result
    answer = _Answer(
        moved.lineage.number if moved.lineage else -1,
        moved.identity.id if moved.identity else "",
        packed(owned.face for owned in moved.faces),
    )
    txn.requests.keep(request_id, fingerprint, answer, now_us())
    return effects


def _source(group: Group) -> LineageSource:
    source = group.source
    return LineageSource(
        number=number_of(source),
        id=source.id if source else "",
        ordinals=packed(group.faces),
        ended=source if group.ends else None,
    )


def packed(faces: Iterable[FaceRecord]) -> bytes:
    """Ordinals of faces as little-endian int64."""
    return np.fromiter((face.ordinal for face in faces), "<i8").tobytes()


def number_of(identity: IdentityRecord | None) -> int:
    """An identity's number; that of loose faces for None."""
    return LOOSE_NUMBER if identity is None else identity.number


def recounted(identity: IdentityRecord, change: int) -> IdentityRecord:
    """An identity after its number of faces has changed."""
    return replace(
        identity,
        face_count=identity.face_count + change,
        update_time_us=now_us(),
        revision=identity.revision + 1,
    )


def check_room(target: IdentityRecord | None, count: int) -> None:
    """Refuses more faces than an identity can have.

    Raises:
        LimitExceededError: It would have too many.
    """
    if target is not None and target.face_count + count > limits.FACES_PER_IDENTITY_MAX:
        raise LimitExceededError(
            f"identity {target.id!r} would have {target.face_count + count} faces",
            {"identity": target.id, "limit": str(limits.FACES_PER_IDENTITY_MAX)},
        )
