"""IdentityService."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import grpc
import numpy as np

from visagedb.v1 import identities_pb2, identities_pb2_grpc, types_pb2
from visagedb_indexer.database import Database
from visagedb_indexer.errors import InvalidArgumentError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import (
    Enrollment,
    EnrollOutcome,
    IdentityPatch,
    NewFace,
)
from visagedb_indexer.loose_faces import LooseEnrollment, NewLooseFaces
from visagedb_indexer.store import FaceRecord
from visagedb_indexer.values import Vector
from visagedb_server import convert, convert_gate, names, paging
from visagedb_server.calls import deadline_of, not_supported
from visagedb_server.extraction import ExtractOptions, Extractor, choice_of_one, chosen_faces
from visagedb_server.services import changes

_CHANGEABLE = ("display_name", "labels", "metadata", "expire_time")
_OUTCOMES = {
    EnrollOutcome.ENROLLED: identities_pb2.ENROLL_OUTCOME_ENROLLED,
    EnrollOutcome.ALREADY_ENROLLED: identities_pb2.ENROLL_OUTCOME_ALREADY_ENROLLED,
    EnrollOutcome.QUARANTINED: identities_pb2.ENROLL_OUTCOME_QUARANTINED,
}


class IdentityService(identities_pb2_grpc.IdentityServiceServicer):
    """Identities and their faces."""

    def __init__(self, database: Database, extractor: Extractor) -> None:
        self._database = database
        self._extractor = extractor

    def CreateIdentity(  # noqa: N802
        self, request: identities_pb2.CreateIdentityRequest, context: grpc.ServicerContext
    ) -> identities_pb2.CreateIdentityResponse:
        """Creates an identity without faces."""
        gallery = self._database.gallery(names.parse_gallery(request.parent))
        record = gallery.create_identity(
            request.identity_id, convert.new_identity(request.identity), request.request_id
        )
        return identities_pb2.CreateIdentityResponse(
            identity=convert.identity(gallery.record.id, record)
        )

    def GetIdentity(  # noqa: N802
        self, request: identities_pb2.GetIdentityRequest, context: grpc.ServicerContext
    ) -> identities_pb2.GetIdentityResponse:
        """One identity."""
        gallery, identity_id = self._find(request.name)
        record = gallery.identity(identity_id)
        return identities_pb2.GetIdentityResponse(
            identity=convert.identity(gallery.record.id, record)
        )

    def ListIdentities(  # noqa: N802
        self, request: identities_pb2.ListIdentitiesRequest, context: grpc.ServicerContext
    ) -> identities_pb2.ListIdentitiesResponse:
        """Identities in the order of creation."""
        gallery = self._database.gallery(names.parse_gallery(request.parent))
        listing = f"{gallery.record.uid} identities {request.filter}"
        size = paging.page_size(request.page_size)
        after = paging.read_number(request.page_token, listing)
        found = gallery.identities(request.filter, after, size + 1)
        page, more = paging.cut_page(
            [convert.identity(gallery.record.id, record) for record in found], size
        )
        return identities_pb2.ListIdentitiesResponse(
            identities=page,
            next_page_token=paging.token_after(found[len(page) - 1].number, listing)
            if more
            else "",
        )

    def UpdateIdentity(  # noqa: N802
        self, request: identities_pb2.UpdateIdentityRequest, context: grpc.ServicerContext
    ) -> identities_pb2.UpdateIdentityResponse:
        """Changes some fields."""
        fields = convert.masked(request.update_mask.paths, _CHANGEABLE)
        asked = convert.new_identity(request.identity)
        gallery, identity_id = self._find(request.identity.name)
        patch = IdentityPatch(
            display_name=asked.display_name if "display_name" in fields else None,
            labels=asked.labels if "labels" in fields else None,
            metadata=asked.metadata if "metadata" in fields else None,
            expire_time_us=asked.expire_time_us if "expire_time" in fields else None,
            clear_expire_time="expire_time" in fields and asked.expire_time_us is None,
        )
        record = gallery.update_identity(identity_id, patch, request.identity.etag)
        return identities_pb2.UpdateIdentityResponse(
            identity=convert.identity(gallery.record.id, record)
        )

    def DeleteIdentity(  # noqa: N802
        self, request: identities_pb2.DeleteIdentityRequest, context: grpc.ServicerContext
    ) -> identities_pb2.DeleteIdentityResponse:
        """Deletes an identity with its faces."""
        gallery, identity_id = self._find(request.name)
        count = gallery.delete_identity(
            identity_id, request.etag, allow_missing=request.allow_missing
        )
        return identities_pb2.DeleteIdentityResponse(deleted_face_count=count)

    def EnrollFace(  # noqa: N802
        self, request: identities_pb2.EnrollFaceRequest, context: grpc.ServicerContext
    ) -> identities_pb2.EnrollFaceResponse:
        """Adds a face, from an image or a vector."""
        gallery, identity_id = self._find(request.identity)
        content = request.WhichOneof("content")
        if content == "template":
            vector = convert.vector(request.template, gallery.model)
            new = self._new_face(request, identity_id, request.template.vector, vector)
            return _enrolled(gallery, gallery.enroll(new))
        if content != "image":
            raise InvalidArgumentError("give an image or a template to enrol", {"field": "content"})
        new = self._new_face(request, identity_id, request.image, np.empty(0, np.float32))
        # What is there already need not be looked at again: a repeat costs no embedding.
        known = gallery.foresee_enrollment(new)
        if known is None:
            known = gallery.enroll(self._extracted(gallery, request, new, context))
        return _enrolled(gallery, known)

    def _new_face(
        self,
        request: identities_pb2.EnrollFaceRequest,
        identity_id: str,
        content: bytes,
        vector: Vector,
    ) -> NewFace:
        creation = convert.new_identity(request.new_identity) if request.allow_missing else None
        return NewFace(
            identity_id=identity_id,
            vector=vector,
            content_sha256=hashlib.sha256(content).digest(),
            face_id=request.face_id,
            source=request.source,
            new_identity=creation,
            request_id=request.request_id,
        )

    def _extracted(
        self,
        gallery: Gallery,
        request: identities_pb2.EnrollFaceRequest,
        new: NewFace,
        context: grpc.ServicerContext,
    ) -> NewFace:
        options = ExtractOptions(
            choice=choice_of_one(request.face_selection),
            bulk=request.bulk,
            deadline=deadline_of(context),
        )
        found = self._extractor.extract(request.image, gallery.record, options)
        (face,) = chosen_faces(found, options.choice)
        assert face.vector is not None
        return replace(new, vector=face.vector, extracted=face, detected_count=len(found.faces))

    def StreamEnrollFaces(  # noqa: N802
        self,
        request_iterator: Iterator[identities_pb2.StreamEnrollFacesRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[identities_pb2.StreamEnrollFacesResponse]:
        """Not implemented yet."""
        raise not_supported("stream enrolment")

    def GetFace(  # noqa: N802
        self, request: identities_pb2.GetFaceRequest, context: grpc.ServicerContext
    ) -> identities_pb2.GetFaceResponse:
        """One face."""
        gallery_id, identity_id, face_id = names.parse_face(request.name)
        gallery = self._database.gallery(gallery_id)
        record, vector = gallery.face(identity_id, face_id, with_vector=request.include_template)
        return identities_pb2.GetFaceResponse(face=_face(gallery, identity_id, record, vector))

    def ListFaces(  # noqa: N802
        self, request: identities_pb2.ListFacesRequest, context: grpc.ServicerContext
    ) -> identities_pb2.ListFacesResponse:
        """Faces of an identity, or the loose ones, oldest first."""
        gallery_id, identity_id = names.parse_owner(request.parent)
        gallery = self._database.gallery(gallery_id)
        listing = f"{gallery.record.uid} faces {identity_id}"
        size = paging.page_size(request.page_size)
        after = paging.read_number(request.page_token, listing)
        found = gallery.faces(identity_id, after, size + 1, with_vectors=request.include_template)
        page, more = paging.cut_page(
            [_face(gallery, identity_id, record, vector) for record, vector in found], size
        )
        return identities_pb2.ListFacesResponse(
            faces=page,
            next_page_token=paging.token_after(found[len(page) - 1][0].ordinal, listing)
            if more
            else "",
        )

    def DeleteFace(  # noqa: N802
        self, request: identities_pb2.DeleteFaceRequest, context: grpc.ServicerContext
    ) -> identities_pb2.DeleteFaceResponse:
        """Deletes one face."""
        gallery_id, identity_id, face_id = names.parse_face(request.name)
        self._database.gallery(gallery_id).delete_face(
            identity_id, face_id, allow_missing=request.allow_missing
        )
        return identities_pb2.DeleteFaceResponse()

    def EnrollLooseFaces(  # noqa: N802
        self, request: identities_pb2.EnrollLooseFacesRequest, context: grpc.ServicerContext
    ) -> identities_pb2.EnrollLooseFacesResponse:
        """Adds every face of an image, or a vector, without an identity."""
        gallery = self._database.gallery(names.parse_gallery(request.gallery))
        content = request.WhichOneof("content")
        if content is None:
            raise InvalidArgumentError("give an image or a template to enrol", {"field": "content"})
        given = request.image if content == "image" else request.template.vector
        new = NewLooseFaces(
            vectors=(),
            content_sha256=hashlib.sha256(given).digest(),
            source=request.source,
            request_id=request.request_id,
        )
        if content == "template":
            vectors = [convert.vector(request.template, gallery.model)]
            return _enrolled_loose(gallery, gallery.loose.enroll(replace(new, vectors=vectors)))
        answer = gallery.loose.recall(new)
        if answer is None:
            options = ExtractOptions(bulk=request.bulk, deadline=deadline_of(context))
            found = self._extractor.extract(request.image, gallery.record, options).faces
            vectors = [face.vector for face in found if face.vector is not None]
            answer = gallery.loose.enroll(replace(new, vectors=vectors, extracted=found))
        return _enrolled_loose(gallery, answer)

    def MoveFaces(  # noqa: N802
        self, request: identities_pb2.MoveFacesRequest, context: grpc.ServicerContext
    ) -> identities_pb2.MoveFacesResponse:
        """Gives faces to one identity, or makes them loose."""
        return changes.move_faces(self._database, request)

    def MergeIdentities(  # noqa: N802
        self, request: identities_pb2.MergeIdentitiesRequest, context: grpc.ServicerContext
    ) -> identities_pb2.MergeIdentitiesResponse:
        """Makes identities part of another one."""
        return changes.merge_identities(self._database, request)

    def SplitIdentity(  # noqa: N802
        self, request: identities_pb2.SplitIdentityRequest, context: grpc.ServicerContext
    ) -> identities_pb2.SplitIdentityResponse:
        """Founds an identity from some faces of one."""
        return changes.split_identity(self._database, request)

    def ListLineage(  # noqa: N802
        self, request: identities_pb2.ListLineageRequest, context: grpc.ServicerContext
    ) -> identities_pb2.ListLineageResponse:
        """Changes, newest first."""
        return changes.list_lineage(self._database, request)

    def UndoChange(  # noqa: N802
        self, request: identities_pb2.UndoChangeRequest, context: grpc.ServicerContext
    ) -> identities_pb2.UndoChangeResponse:
        """Sends faces back to where they came from."""
        return changes.undo_change(self._database, request)

    def _find(self, name: str) -> tuple[Gallery, str]:
        gallery_id, identity_id = names.parse_identity(name)
        return self._database.gallery(gallery_id), identity_id


def _enrolled(gallery: Gallery, answer: Enrollment) -> identities_pb2.EnrollFaceResponse:
    face = None
    if answer.face is not None:
        face = _face(gallery, answer.identity_id, answer.face, None)
    return identities_pb2.EnrollFaceResponse(
        face=face,
        outcome=_OUTCOMES[answer.outcome],
        identity_created=answer.identity_created,
        detected_face_count=answer.detected_count,
        findings=convert_gate.findings(gallery.record.id, answer.findings),
        quarantined_face=convert_gate.quarantine_name(gallery.record.id, answer.quarantine_number),
    )


def _enrolled_loose(
    gallery: Gallery, answer: LooseEnrollment
) -> identities_pb2.EnrollLooseFacesResponse:
    return identities_pb2.EnrollLooseFacesResponse(
        faces=[_face(gallery, owned.identity_id, owned.face, None) for owned in answer.faces],
        outcome=_OUTCOMES[answer.outcome],
        gated_faces=[
            identities_pb2.GatedFace(
                detection=convert.detection(gated.face),
                findings=convert_gate.findings(gallery.record.id, gated.findings),
                face=(
                    names.face_name(gallery.record.id, "", gated.face.id)
                    if gated.face.ordinal >= 0
                    else ""
                ),
                quarantined_face=convert_gate.quarantine_name(
                    gallery.record.id, gated.quarantine_number
                ),
            )
            for gated in answer.gated
        ],
    )


def _face(
    gallery: Gallery, identity_id: str, record: FaceRecord, vector: Vector | None
) -> identities_pb2.Face:
    template: types_pb2.Template | None = None
    if vector is not None:
        template = convert.template(vector, gallery.model)
    return convert.face(gallery.record.id, identity_id, record, template)
