"""The enrolment gate and the quarantine, between protobuf and frozen values. Pure functions."""

from collections.abc import Iterable
from typing import Final

from visagedb import _gate as gate
from visagedb._convert_faces import detected_face, template
from visagedb._moments import moment
from visagedb.v1 import enrolment_gate_pb2 as pb
from visagedb.v1 import identities_pb2, quarantine_pb2, types_pb2

_ACTIONS: Final = {
    pb.GATE_ACTION_OFF: gate.GateAction.OFF,
    pb.GATE_ACTION_REPORT: gate.GateAction.REPORT,
    pb.GATE_ACTION_QUARANTINE: gate.GateAction.QUARANTINE,
    pb.GATE_ACTION_REJECT: gate.GateAction.REJECT,
}
_ACTION_NUMBERS: Final = {action: number for number, action in _ACTIONS.items()}
_REASONS: Final = {
    pb.GATE_REASON_LOW_QUALITY: gate.GateReason.LOW_QUALITY,
    pb.GATE_REASON_DUPLICATE_IDENTITY: gate.GateReason.DUPLICATE_IDENTITY,
    pb.GATE_REASON_IDENTITY_MISMATCH: gate.GateReason.IDENTITY_MISMATCH,
}
REASON_NUMBERS: Final = {reason: number for number, reason in _REASONS.items()}


def quality_check(message: pb.QualityCheck) -> gate.QualityCheck:
    """Whether a face is good enough."""
    return gate.QualityCheck(
        action=_ACTIONS.get(message.action, gate.GateAction.UNKNOWN),
        # The shortest decimal of a float32, so that 0.4 comes back as 0.4.
        min_score=float(f"{message.min_score:.6g}") if message.HasField("min_score") else None,
        reasons=tuple(message.reasons),
    )


def identity_check(message: pb.IdentityCheck) -> gate.IdentityCheck:
    """Whose face it is."""
    point = message.operating_point
    kind = point.WhichOneof("point")
    return gate.IdentityCheck(
        action=_ACTIONS.get(message.action, gate.GateAction.UNKNOWN),
        threshold=float(f"{point.threshold:.6g}") if kind == "threshold" else None,
        max_false_positive_rate=(
            point.max_false_positive_rate if kind == "max_false_positive_rate" else None
        ),
    )


def quality_message(check: gate.QualityCheck) -> pb.QualityCheck:
    """The same as a request says it."""
    return pb.QualityCheck(
        action=_action(check.action), min_score=check.min_score, reasons=check.reasons
    )


def identity_message(check: gate.IdentityCheck) -> pb.IdentityCheck:
    """The same as a request says it.

    Raises:
        ValueError: Both a threshold and a rate are given.
    """
    if check.threshold is not None and check.max_false_positive_rate is not None:
        raise ValueError("give a threshold or an error rate, not both")
    message = pb.IdentityCheck(action=_action(check.action))
    if check.threshold is not None:
        message.operating_point.CopyFrom(types_pb2.OperatingPoint(threshold=check.threshold))
    elif check.max_false_positive_rate is not None:
        message.operating_point.CopyFrom(
            types_pb2.OperatingPoint(max_false_positive_rate=check.max_false_positive_rate)
        )
    return message


def _action(action: gate.GateAction) -> pb.GateAction.ValueType:
    known = gate.GateAction(action)
    if known not in _ACTION_NUMBERS:
        raise ValueError(f"{known.value!r} is what a newer server may say; it cannot be chosen")
    return _ACTION_NUMBERS[known]


def findings(messages: Iterable[pb.GateFinding]) -> tuple[gate.GateFinding, ...]:
    """What the checks object to in a face."""
    return tuple(
        gate.GateFinding(
            reason=_REASONS.get(message.reason, gate.GateReason.UNKNOWN),
            action=_ACTIONS.get(message.action, gate.GateAction.UNKNOWN),
            score=message.score,
            threshold=message.threshold,
            identity=message.identity,
            face=message.face,
            quality_reasons=tuple(message.quality_reasons),
        )
        for message in messages
    )


def gated_face(message: identities_pb2.GatedFace) -> gate.GatedFace:
    """A face of an image that the quality check objects to."""
    return gate.GatedFace(
        detection=detected_face(message.detection) if message.HasField("detection") else None,
        findings=findings(message.findings),
        face=message.face,
        quarantined_face=message.quarantined_face,
    )


def quarantined_face(message: quarantine_pb2.QuarantinedFace) -> gate.QuarantinedFace:
    """A face in quarantine."""
    return gate.QuarantinedFace(
        name=message.name,
        identity_name=message.identity,
        detection=detected_face(message.detection) if message.HasField("detection") else None,
        content_sha256=message.content_sha256.hex(),
        source=message.source,
        create_time=moment(message.create_time),
        findings=findings(message.findings),
        template=template(message.template) if message.HasField("template") else None,
    )
