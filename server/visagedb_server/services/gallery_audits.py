"""GalleryAuditService."""

from collections.abc import Collection, Sequence
from typing import Final

import grpc
import numpy as np
from google.longrunning import operations_pb2

from visagedb.v1 import gallery_audits_pb2, gallery_audits_pb2_grpc
from visagedb_indexer.audit_run import audit_gallery
from visagedb_indexer.clock import now_us
from visagedb_indexer.database import Database
from visagedb_indexer.errors import InvalidArgumentError
from visagedb_indexer.filters import parse_filter
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.store import AuditRecord, FindingRecord
from visagedb_indexer.values import FindingKind
from visagedb_server import convert, names, paging
from visagedb_server.operations import Job, Operations, Request

_KINDS: Final = {
    gallery_audits_pb2.FINDING_KIND_DUPLICATE_IDENTITIES: FindingKind.DUPLICATE_IDENTITIES,
    gallery_audits_pb2.FINDING_KIND_MISLABELLED_FACE: FindingKind.MISLABELLED_FACE,
    gallery_audits_pb2.FINDING_KIND_HUB_FACE: FindingKind.HUB_FACE,
}
_KIND_NUMBERS: Final = {kind: number for number, kind in _KINDS.items()}


class GalleryAuditService(gallery_audits_pb2_grpc.GalleryAuditServiceServicer):
    """Looks for labels that may be wrong."""

    def __init__(self, database: Database, operations: Operations) -> None:
        self._database = database
        self._operations = operations

    def AuditGallery(  # noqa: N802
        self, request: gallery_audits_pb2.AuditGalleryRequest, context: grpc.ServicerContext
    ) -> gallery_audits_pb2.AuditGalleryResponse:
        """Starts an audit."""
        gallery = self._database.gallery(names.parse_gallery(request.gallery))
        if unknown := set(request.kinds) - set(_KINDS):
            raise InvalidArgumentError(
                f"unknown kinds of findings: {sorted(unknown)}", {"field": "kinds"}
            )
        kinds = [_KINDS[kind] for kind in request.kinds] or list(FindingKind)
        operation = start_audit(self._operations, gallery, request, request.filter, kinds)
        return gallery_audits_pb2.AuditGalleryResponse(operation=operation)

    def GetGalleryAudit(  # noqa: N802
        self, request: gallery_audits_pb2.GetGalleryAuditRequest, context: grpc.ServicerContext
    ) -> gallery_audits_pb2.GetGalleryAuditResponse:
        """The result of an audit."""
        gallery_id, audit_id = names.parse_audit(request.name)
        record = self._database.gallery(gallery_id).audits.get(audit_id)
        return gallery_audits_pb2.GetGalleryAuditResponse(audit=_audit(gallery_id, record))

    def ListGalleryAuditFindings(  # noqa: N802
        self,
        request: gallery_audits_pb2.ListGalleryAuditFindingsRequest,
        context: grpc.ServicerContext,
    ) -> gallery_audits_pb2.ListGalleryAuditFindingsResponse:
        """The findings of an audit that are still open."""
        gallery_id, audit_id = names.parse_audit(request.parent)
        gallery = self._database.gallery(gallery_id)
        size = paging.page_size(request.page_size)
        start = paging.read_number(request.page_token, request.parent) + 1
        found = gallery.audits.findings(audit_id, start, size + 1)
        page, more = found[:size], len(found) > size
        response = gallery_audits_pb2.ListGalleryAuditFindingsResponse(
            findings=_open_findings(
                gallery, [one for one in page if _probable(one[1], request.min_probability)]
            )
        )
        if more:
            response.next_page_token = paging.token_after(page[-1][0], request.parent)
        return response


def start_audit(
    operations: Operations,
    gallery: Gallery,
    request: Request,
    filter_text: str,
    kinds: Collection[FindingKind],
) -> operations_pb2.Operation:
    """Starts an audit of a gallery as an operation.

    Raises:
        InvalidFilterError: The filter cannot be read.
        RequestIdReusedError: The request id belonged to another request.
    """
    parse_filter(filter_text)
    metadata = gallery_audits_pb2.AuditGalleryMetadata(
        gallery=names.gallery_name(gallery.record.id),
        create_time=convert.timestamp(now_us()),
        stage="waiting",
    )

    def work(job: Job) -> gallery_audits_pb2.GalleryAudit:
        def progress(done: float, stage: str) -> None:
            metadata.progress, metadata.stage = done, stage
            job.report(metadata)

        record = audit_gallery(
            gallery, job.id, kinds=kinds, filter_text=filter_text, progress=progress
        )
        metadata.progress, metadata.stage = 1.0, "done"
        job.report(metadata)
        return _audit(gallery.record.id, record)

    return operations.start("audit", request, metadata, work)


def _probable(record: FindingRecord, least: float) -> bool:
    return record.kind is FindingKind.HUB_FACE or record.probability >= least


def _audit(gallery_id: str, record: AuditRecord) -> gallery_audits_pb2.GalleryAudit:
    counts = record.finding_counts
    return gallery_audits_pb2.GalleryAudit(
        name=names.audit_name(gallery_id, record.id),
        create_time=convert.timestamp(record.create_time_us),
        face_count=record.face_count,
        identity_count=record.identity_count,
        duplicate_count=counts.get(FindingKind.DUPLICATE_IDENTITIES, 0),
        mislabelled_count=counts.get(FindingKind.MISLABELLED_FACE, 0),
        hub_count=counts.get(FindingKind.HUB_FACE, 0),
        near_score=record.floor,
        gallery_generation=record.generation,
    )


def _open_findings(
    gallery: Gallery, found: Sequence[tuple[int, FindingRecord]]
) -> list[gallery_audits_pb2.GalleryAuditFinding]:
    """Messages of those findings whose faces are where the audit saw them."""
    ordinals = sorted({o for _, one in found for o in (one.ordinal, one.other_ordinal) if o >= 0})
    owners = gallery.owners(np.array(ordinals, dtype=np.int64))
    owner_of = dict(zip(ordinals, owners.tolist(), strict=True))
    places = {ordinal: (who, face) for ordinal, who, face in gallery.locate(ordinals)}
    messages = []
    for rank, one in found:
        needed = [(one.ordinal, one.owner)]
        if one.other_ordinal >= 0:
            needed.append((one.other_ordinal, one.other_owner))
        if any(o not in places or owner_of[o] != owner for o, owner in needed):
            continue
        message = gallery_audits_pb2.GalleryAuditFinding(
            kind=_KIND_NUMBERS[one.kind],
            rank=rank + 1,
            evidence=one.evidence,
            probability=one.probability,
            score=one.score,
            template_score=one.template_score,
            supporting_count=one.support,
            compared_count=one.compared,
        )
        identity, face = places[one.ordinal]
        message.identity = names.identity_name(gallery.record.id, identity)
        message.face = names.face_name(gallery.record.id, identity, face.id)
        message.source = face.source
        if one.other_ordinal >= 0:
            identity, face = places[one.other_ordinal]
            message.other_identity = names.identity_name(gallery.record.id, identity)
            message.other_face = names.face_name(gallery.record.id, identity, face.id)
            message.other_source = face.source
        messages.append(message)
    return messages
