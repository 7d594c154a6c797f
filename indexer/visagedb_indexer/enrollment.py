"""Enrolment: faces, one or many, into identities.

Many faces are one command, so they share a commit. Each has its own outcome or refusal, and
one that is refused changes nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeAlias

from visagedb_indexer import limits, validation
from visagedb_indexer.clock import now_us
from visagedb_indexer.commands import (
    Command,
    Effects,
    Result,
    checked_identity,
    face_record,
    fingerprint_of,
    identity_record,
    no_identity,
)
from visagedb_indexer.enrolment_gate import EnrolmentGate, set_aside
from visagedb_indexer.errors import (
    FaceExistsError,
    IndexerError,
    LimitExceededError,
    StorageCorruptError,
)
from visagedb_indexer.gallery_values import (
    Enrollment,
    EnrollMode,
    EnrollOutcome,
    NewFace,
    NewIdentity,
)
from visagedb_indexer.gate_values import GateAction, GateFinding, strictest
from visagedb_indexer.store import Arrivals, FaceRecord, IdentityRecord, Reader, Transaction
from visagedb_indexer.values import ModelIdentity, Vector

Answer: TypeAlias = Enrollment | IndexerError
Ask: TypeAlias = Callable[[IdentityRecord | None], tuple[GateFinding, ...]]
"""What a gallery objects to in a face for an identity, None for one to be created; may raise."""

_KEPT_OUTCOMES: Final = {
    EnrollOutcome.ENROLLED,
    EnrollOutcome.REPLACED,
    EnrollOutcome.QUARANTINED,
}
"""Answers that a repeat of the request gets again; the others follow from what is there."""


def fingerprint(new: NewFace, mode: EnrollMode) -> bytes:
    """What makes two enrolments the same request.

    The vector is not part of it: it follows from the content.
    """
    return fingerprint_of(
        "enroll",
        mode,
        new.identity_id,
        new.face_id,
        new.content_sha256,
        new.source,
        new.new_identity,
    )


def foresee(new: NewFace, mode: EnrollMode, view: Reader) -> Enrollment | None:
    """The answer to an enrolment if it is known without the vector; refuses what can be."""
    _check(new)
    known = view.requests.recall(new.request_id, fingerprint(new, mode), Enrollment)
    if known is not None:
        return known
    identity = view.find_identity(new.identity_id)
    if identity is None:
        if new.new_identity is None:
            raise no_identity(new.identity_id)
        return None
    if mode is EnrollMode.SKIP_EXISTING:
        return Enrollment(identity.id, None, EnrollOutcome.SKIPPED)
    place = _place(view, identity, new, mode)
    if place is None or place.content_sha256 != new.content_sha256:
        return None
    if mode is EnrollMode.UPSERT and _with_said(identity, new.new_identity) != identity:
        return None
    return Enrollment(identity.id, place, EnrollOutcome.ALREADY_ENROLLED)


def enroll_many(
    faces: Sequence[NewFace], mode: EnrollMode, model: ModelIdentity, gate: EnrolmentGate
) -> Command[list[Answer]]:
    """Adds faces, in their order; for each its answer, or why it is refused.

    Raises:
        NotCalibratedError: The gate compares faces, and nothing tells where two are one person.
    """
    checked = [_unit_vector(new, model) for new in faces]
    judgement = gate.judge(faces, checked, mode)

    def command(txn: Transaction) -> Effects[list[Answer]]:
        changes = Changes()
        answers: list[Answer] = []
        verdicts = judgement and judgement.within(txn)
        for position, (new, vector) in enumerate(zip(faces, checked, strict=True)):
            if isinstance(vector, IndexerError):
                answers.append(vector)
                continue
            ask = partial(verdicts.findings, position) if verdicts else nothing
            answers.append(enroll_one(txn, new, mode, vector, changes, ask))
        return changes.effects(answers)

    return command


def nothing(_identity: IdentityRecord | None) -> tuple[GateFinding, ...]:
    """Objects to nothing."""
    return ()


@dataclass(slots=True)
class Changes:
    """What has been done so far, for the structures in memory."""

    arrivals: Arrivals | None = None
    created: list[IdentityRecord] = field(default_factory=list)
    replaced: list[tuple[IdentityRecord, IdentityRecord]] = field(default_factory=list)
    added: list[tuple[int, int]] = field(default_factory=list)
    removed: list[int] = field(default_factory=list)

    @property
    def created_count(self) -> int:
        """Identities that are new."""
        return len(self.created) + (self.arrivals.identity_count if self.arrivals else 0)

    def effects(self, result: Result) -> Effects[Result]:
        """The same as a command says it."""
        return Effects(
            result,
            arrivals=self.arrivals,
            created=tuple(self.created),
            replaced=tuple(self.replaced),
            added_faces=tuple(self.added),
            removed_faces=tuple(self.removed),
        )


def enroll_one(
    txn: Transaction,
    new: NewFace,
    mode: EnrollMode,
    vector: Vector,
    changes: Changes,
    ask: Ask,
) -> Answer:
    """Adds one checked face in a commit; its answer, or why it is refused."""
    request = fingerprint(new, mode) if new.request_id else b""
    try:
        known = txn.requests.recall(new.request_id, request, Enrollment)
        if known is not None:
            return known
        answer = store_face(txn, new, mode, vector, changes, ask)
    except StorageCorruptError:
        # Found on the way, so that half of the enrolment may be done.
        raise
    except IndexerError as error:
        return error
    if answer.outcome in _KEPT_OUTCOMES:
        txn.requests.keep(new.request_id, request, answer, now_us())
    return answer


def store_face(
    txn: Transaction,
    new: NewFace,
    mode: EnrollMode,
    vector: Vector,
    changes: Changes,
    ask: Ask = nothing,
) -> Enrollment:
    """Adds one face in a commit; `ask` has the last word before anything is changed.

    Raises:
        IndexerError: The face is refused.
    """
    identity = txn.find_identity(new.identity_id)
    place: FaceRecord | None = None
    if identity is None and new.new_identity is None:
        raise no_identity(new.identity_id)
    if identity is not None:
        if mode is EnrollMode.SKIP_EXISTING:
            return Enrollment(identity.id, None, EnrollOutcome.SKIPPED)
        place = _place(txn, identity, new, mode)
    same = place is not None and place.content_sha256 == new.content_sha256
    findings = () if same else ask(identity)
    if strictest(findings) is GateAction.QUARANTINE:
        return _set_aside(txn, new, mode, vector, findings)
    created = identity is None
    if not same:
        txn.check_room(identities=int(created), faces=int(place is None))
    if identity is None:
        assert new.new_identity is not None
        identity = txn.add_identity(identity_record(new.identity_id, new.new_identity))
        changes.created.append(identity)
    elif mode is EnrollMode.UPSERT and new.new_identity is not None:
        identity = _updated(txn, identity, new.new_identity, changes)
    if same:
        return Enrollment(identity.id, place, EnrollOutcome.ALREADY_ENROLLED)
    outcome = EnrollOutcome.ENROLLED
    if place is not None:
        txn.remove_face(identity, place)
        changes.removed.append(place.ordinal)
        identity = replace(identity, face_count=identity.face_count - 1)
        outcome = EnrollOutcome.REPLACED
    record = face_record(
        new.face_id, new.content_sha256, new.source, new.extracted, new.copied_from_us
    )
    identity, face = txn.add_face(identity, record, vector)
    changes.added.append((face.ordinal, identity.number))
    return Enrollment(identity.id, face, outcome, created, new.detected_count, findings)


def _set_aside(
    txn: Transaction,
    new: NewFace,
    mode: EnrollMode,
    vector: Vector,
    findings: tuple[GateFinding, ...],
) -> Enrollment:
    founding: IdentityRecord | None = None
    if new.new_identity is not None:
        founding = identity_record(new.identity_id, new.new_identity)
    face = face_record(
        new.face_id, new.content_sha256, new.source, new.extracted, new.copied_from_us
    )
    record = set_aside(txn, new.identity_id, face, vector, findings, founding, mode)
    return Enrollment(
        new.identity_id,
        None,
        EnrollOutcome.QUARANTINED,
        detected_count=new.detected_count,
        findings=record.findings,
        quarantine_number=record.number,
    )


def _updated(
    txn: Transaction, old: IdentityRecord, said: NewIdentity, changes: Changes
) -> IdentityRecord:
    new = _with_said(old, said)
    if new == old:
        return old
    new = replace(new, update_time_us=now_us(), revision=old.revision + 1)
    txn.replace_identity(old, new)
    changes.replaced.append((old, new))
    return new


def _with_said(old: IdentityRecord, said: NewIdentity | None) -> IdentityRecord:
    """The identity with what is said of it now; what is not said stays."""
    if said is None:
        return old
    return replace(
        old,
        display_name=said.display_name or old.display_name,
        labels=said.labels or old.labels,
        metadata=said.metadata or old.metadata,
        expire_time_us=old.expire_time_us if said.expire_time_us is None else said.expire_time_us,
    )


def _place(
    view: Reader, identity: IdentityRecord, new: NewFace, mode: EnrollMode
) -> FaceRecord | None:
    """The face that is there already: made from this content, or to be replaced.

    None when there is room for a new one.
    """
    named = view.find_face(identity.number, new.face_id) if new.face_id else None
    if mode is EnrollMode.UPSERT and named is not None:
        return named
    if new.face_id and new.copied_from_us is not None:
        same = named if named and named.content_sha256 == new.content_sha256 else None
    else:
        same = view.find_content(identity.number, new.content_sha256)
    if same is not None:
        return same
    if named is not None:
        raise FaceExistsError(
            f"identity {identity.id!r} has a face {new.face_id!r}, made from something else",
            {"identity": identity.id, "face": new.face_id},
        )
    if identity.face_count >= limits.FACES_PER_IDENTITY_MAX:
        raise LimitExceededError(
            f"identity {identity.id!r} has {identity.face_count} faces, the most it can have",
            {"identity": identity.id, "limit": str(limits.FACES_PER_IDENTITY_MAX)},
        )
    return None


def _unit_vector(new: NewFace, model: ModelIdentity) -> Vector | IndexerError:
    try:
        _check(new)
        return validation.unit_vector(new.vector, model.dimension)
    except IndexerError as error:
        return error


def _check(new: NewFace) -> None:
    validation.check_id(new.identity_id, "identity")
    validation.check_request_id(new.request_id)
    validation.check_text(new.source, "source", limits.SOURCE_LENGTH_MAX)
    if new.face_id:
        validation.check_id(new.face_id, "face")
    if new.new_identity is not None:
        checked_identity(new.new_identity)
