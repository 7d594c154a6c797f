"""Audits from protobuf to frozen values. Pure functions."""

from typing import Final

from visagedb._audits import GalleryAudit, GalleryFinding
from visagedb._moments import moment
from visagedb._values import FindingKind
from visagedb.v1 import gallery_audits_pb2 as pb

_KINDS: Final = {
    pb.FINDING_KIND_DUPLICATE_IDENTITIES: FindingKind.DUPLICATE_IDENTITIES,
    pb.FINDING_KIND_MISLABELLED_FACE: FindingKind.MISLABELLED_FACE,
    pb.FINDING_KIND_HUB_FACE: FindingKind.HUB_FACE,
}
KIND_NUMBERS: Final = {kind: number for number, kind in _KINDS.items()}


def audit(message: pb.GalleryAudit) -> GalleryAudit:
    """The result of an audit."""
    return GalleryAudit(
        name=message.name,
        create_time=moment(message.create_time),
        face_count=message.face_count,
        identity_count=message.identity_count,
        duplicate_count=message.duplicate_count,
        mislabelled_count=message.mislabelled_count,
        hub_count=message.hub_count,
        near_score=message.near_score,
        gallery_generation=message.gallery_generation,
    )


def finding(message: pb.GalleryAuditFinding) -> GalleryFinding:
    """One finding."""
    return GalleryFinding(
        kind=_KINDS.get(message.kind, FindingKind.UNKNOWN),
        rank=message.rank,
        evidence=message.evidence,
        probability=message.probability,
        face=message.face,
        other_face=message.other_face,
        score=message.score,
        template_score=message.template_score,
        supporting_count=message.supporting_count,
        compared_count=message.compared_count,
        source=message.source,
        other_source=message.other_source,
    )
