"""QuarantineService."""

import grpc

from visagedb.v1 import identities_pb2, quarantine_pb2, quarantine_pb2_grpc
from visagedb_indexer.database import Database
from visagedb_indexer.errors import InvalidArgumentError
from visagedb_indexer.gallery_values import EnrollOutcome
from visagedb_server import convert, convert_erasures, convert_gate, names, paging

_OUTCOMES = {
    EnrollOutcome.ENROLLED: identities_pb2.ENROLL_OUTCOME_ENROLLED,
    EnrollOutcome.ALREADY_ENROLLED: identities_pb2.ENROLL_OUTCOME_ALREADY_ENROLLED,
    EnrollOutcome.REPLACED: identities_pb2.ENROLL_OUTCOME_REPLACED,
}


class QuarantineService(quarantine_pb2_grpc.QuarantineServiceServicer):
    """Faces that a gallery's checks have set aside."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ListQuarantinedFaces(  # noqa: N802
        self, request: quarantine_pb2.ListQuarantinedFacesRequest, context: grpc.ServicerContext
    ) -> quarantine_pb2.ListQuarantinedFacesResponse:
        """Faces in quarantine, oldest first."""
        gallery = self._database.gallery(names.parse_gallery(request.parent))
        reason = convert_gate.reason(request.reason)
        listing = f"{gallery.record.uid} quarantine {request.reason}"
        size = paging.page_size(request.page_size)
        after = paging.read_number(request.page_token, listing)
        found = gallery.quarantine.faces(
            after, size + 1, reason=reason, with_vectors=request.include_template
        )
        page, more = paging.cut_page(
            [
                convert_gate.quarantined(gallery.record.id, record, vector, gallery.model)
                for record, vector in found
            ],
            size,
        )
        return quarantine_pb2.ListQuarantinedFacesResponse(
            faces=page,
            next_page_token=(
                paging.token_after(found[len(page) - 1][0].number, listing) if more else ""
            ),
        )

    def AcceptQuarantinedFace(  # noqa: N802
        self, request: quarantine_pb2.AcceptQuarantinedFaceRequest, context: grpc.ServicerContext
    ) -> quarantine_pb2.AcceptQuarantinedFaceResponse:
        """Enrols a face in quarantine."""
        gallery_id, number = names.parse_quarantine(request.name)
        identity_id = ""
        if request.identity:
            other_gallery, identity_id = names.parse_identity(request.identity)
            if other_gallery != gallery_id:
                raise InvalidArgumentError(
                    "the identity belongs to another gallery", {"field": "identity"}
                )
        gallery = self._database.gallery(gallery_id)
        answer = gallery.quarantine.accept(number, identity_id, request.request_id)
        assert answer.face is not None
        return quarantine_pb2.AcceptQuarantinedFaceResponse(
            face=convert.face(gallery_id, answer.identity_id, answer.face, None),
            outcome=_OUTCOMES[answer.outcome],
            identity_created=answer.identity_created,
        )

    def DropQuarantinedFace(  # noqa: N802
        self, request: quarantine_pb2.DropQuarantinedFaceRequest, context: grpc.ServicerContext
    ) -> quarantine_pb2.DropQuarantinedFaceResponse:
        """Removes a face from quarantine for good."""
        gallery_id, number = names.parse_quarantine(request.name)
        gallery = self._database.gallery(gallery_id)
        receipt = gallery.quarantine.drop(number, allow_missing=request.allow_missing)
        return quarantine_pb2.DropQuarantinedFaceResponse(
            erasure=None if receipt is None else convert_erasures.erasure(receipt)
        )
