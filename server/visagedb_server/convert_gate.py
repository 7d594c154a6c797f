"""The enrolment gate and the quarantine, between the indexer's values and the wire."""

from collections.abc import Iterable
from typing import Final

from visagedb.v1 import enrolment_gate_pb2 as pb
from visagedb.v1 import galleries_pb2, quarantine_pb2, types_pb2
from visagedb_indexer.errors import InvalidArgumentError
from visagedb_indexer.gate_values import (
    MIN_QUALITY_DEFAULT,
    GateAction,
    GateFinding,
    GateReason,
    GateSettings,
    IdentityCheck,
    QualityCheck,
)
from visagedb_indexer.store import QuarantineRecord
from visagedb_indexer.values import ModelIdentity, Vector
from visagedb_server import convert, names

FIELDS: Final = ("enrolment_gate.quality", "enrolment_gate.duplicate", "enrolment_gate.mismatch")
"""What can be changed of a gallery's gate."""

_ACTIONS: Final = {
    pb.GATE_ACTION_OFF: GateAction.OFF,
    pb.GATE_ACTION_REPORT: GateAction.REPORT,
    pb.GATE_ACTION_QUARANTINE: GateAction.QUARANTINE,
    pb.GATE_ACTION_REJECT: GateAction.REJECT,
}
_ACTION_NUMBERS: Final = {action: number for number, action in _ACTIONS.items()}
_REASONS: Final = {
    pb.GATE_REASON_LOW_QUALITY: GateReason.LOW_QUALITY,
    pb.GATE_REASON_DUPLICATE_IDENTITY: GateReason.DUPLICATE_IDENTITY,
    pb.GATE_REASON_IDENTITY_MISMATCH: GateReason.IDENTITY_MISMATCH,
}
_REASON_NUMBERS: Final = {reason: number for number, reason in _REASONS.items()}


def settings(message: galleries_pb2.EnrolmentGate) -> GateSettings:
    """What a gallery is told to ask of faces.

    Raises:
        InvalidArgumentError: An action is unknown.
    """
    return GateSettings(
        quality=quality_check(message.quality),
        duplicate=identity_check(message.duplicate),
        mismatch=identity_check(message.mismatch),
    )


def quality_check(message: pb.QualityCheck) -> QualityCheck:
    """Whether a face is good enough.

    Raises:
        InvalidArgumentError: The action is unknown.
    """
    given = message.HasField("min_score")
    # The shortest decimal of a float32, so that 0.4 comes back as 0.4.
    least = float(f"{message.min_score:.6g}") if given else MIN_QUALITY_DEFAULT
    return QualityCheck(_action(message.action), least, tuple(sorted(set(message.reasons))))


def identity_check(message: pb.IdentityCheck) -> IdentityCheck:
    """Whose face it is.

    Raises:
        InvalidArgumentError: The action is unknown.
    """
    point = message.operating_point.WhichOneof("point")
    return IdentityCheck(
        _action(message.action),
        message.operating_point.threshold if point == "threshold" else None,
        message.operating_point.max_false_positive_rate
        if point == "max_false_positive_rate"
        else None,
    )


def gate(source: GateSettings) -> galleries_pb2.EnrolmentGate:
    """What a gallery asks of faces."""
    return galleries_pb2.EnrolmentGate(
        quality=pb.QualityCheck(
            action=_ACTION_NUMBERS[source.quality.action],
            min_score=source.quality.min_score,
            reasons=source.quality.reasons,
        ),
        duplicate=_identity_check(source.duplicate),
        mismatch=_identity_check(source.mismatch),
    )


def _identity_check(source: IdentityCheck) -> pb.IdentityCheck:
    message = pb.IdentityCheck(action=_ACTION_NUMBERS[source.action])
    if source.threshold is not None:
        message.operating_point.threshold = source.threshold
    elif source.max_false_positive_rate is not None:
        message.operating_point.max_false_positive_rate = source.max_false_positive_rate
    return message


def _action(number: int) -> GateAction:
    if not number:
        return GateAction.OFF
    found = [action for wire, action in _ACTIONS.items() if wire == number]
    if not found:
        raise InvalidArgumentError("unknown action of a check", {"field": "enrolment_gate"})
    return found[0]


def reason(number: int) -> GateReason | None:
    """A finding's reason; None for an unset one.

    Raises:
        InvalidArgumentError: It is unknown.
    """
    if not number:
        return None
    found = [known for wire, known in _REASONS.items() if wire == number]
    if not found:
        raise InvalidArgumentError("unknown reason", {"field": "reason"})
    return found[0]


def findings(gallery_id: str, found: Iterable[GateFinding]) -> list[pb.GateFinding]:
    """What the checks object to in a face."""
    return [
        pb.GateFinding(
            reason=_REASON_NUMBERS[one.reason],
            action=_ACTION_NUMBERS[one.action],
            score=one.score,
            threshold=one.threshold,
            identity=names.identity_name(gallery_id, one.identity_id) if one.identity_id else "",
            face=names.face_name(gallery_id, one.identity_id, one.face_id) if one.face_id else "",
            quality_reasons=one.quality_reasons,
        )
        for one in found
    ]


def quarantine_name(gallery_id: str, number: int) -> str:
    """The name of a face in quarantine; empty for any other."""
    return names.quarantine_name(gallery_id, number) if number >= 0 else ""


def quarantined(
    gallery_id: str, record: QuarantineRecord, vector: Vector | None, made_by: ModelIdentity
) -> quarantine_pb2.QuarantinedFace:
    """A face in quarantine."""
    owner, face = record.identity_id, record.face
    template: types_pb2.Template | None = None
    if vector is not None:
        template = convert.template(vector, made_by)
    return quarantine_pb2.QuarantinedFace(
        name=names.quarantine_name(gallery_id, record.number),
        identity=names.identity_name(gallery_id, owner) if owner else "",
        detection=convert.detection(face),
        content_sha256=face.content_sha256,
        source=face.source,
        create_time=convert.timestamp(face.create_time_us),
        findings=findings(gallery_id, record.findings),
        template=template,
    )
