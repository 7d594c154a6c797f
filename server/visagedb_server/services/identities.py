"""IdentityService."""

from collections.abc import Iterator

import grpc

from visagedb.v1 import identities_pb2, identities_pb2_grpc, types_pb2
from visagedb_indexer.database import Database
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import (
    IdentityPatch,
)
from visagedb_indexer.store import FaceRecord
from visagedb_indexer.values import Vector
from visagedb_server import convert, convert_erasures, names, paging
from visagedb_server.calls import deadline_of
from visagedb_server.extraction import Extractor
from visagedb_server.services import changes
from visagedb_server.services.enrolling import Enrolling

_CHANGEABLE = ("display_name", "labels", "metadata", "expire_time")


class IdentityService(identities_pb2_grpc.IdentityServiceServicer):
    """Identities and their faces."""

    def __init__(self, database: Database, extractor: Extractor, streams_max: int) -> None:
        self._database = database
        self._enrolling = Enrolling(database, extractor, streams_max)

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
        receipt = gallery.erasures.delete_identity(
            identity_id, request.etag, allow_missing=request.allow_missing
        )
        if receipt is None:
            return identities_pb2.DeleteIdentityResponse()
        return identities_pb2.DeleteIdentityResponse(
            deleted_face_count=receipt.face_count, erasure=convert_erasures.erasure(receipt)
        )

    def EnrollFace(  # noqa: N802
        self, request: identities_pb2.EnrollFaceRequest, context: grpc.ServicerContext
    ) -> identities_pb2.EnrollFaceResponse:
        """Adds a face, from an image or a vector."""
        return self._enrolling.face(request, deadline_of(context))

    def StreamEnrollFaces(  # noqa: N802
        self,
        request_iterator: Iterator[identities_pb2.StreamEnrollFacesRequest],
        context: grpc.ServicerContext,
    ) -> Iterator[identities_pb2.StreamEnrollFacesResponse]:
        """Enrols the items of a stream, each as EnrollFace and its like do."""
        return self._enrolling.stream(request_iterator, context)

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
        receipt = self._database.gallery(gallery_id).erasures.delete_face(
            identity_id, face_id, allow_missing=request.allow_missing
        )
        return identities_pb2.DeleteFaceResponse(
            erasure=None if receipt is None else convert_erasures.erasure(receipt)
        )

    def EnrollLooseFaces(  # noqa: N802
        self, request: identities_pb2.EnrollLooseFacesRequest, context: grpc.ServicerContext
    ) -> identities_pb2.EnrollLooseFacesResponse:
        """Adds every face of an image, or a vector, without an identity."""
        return self._enrolling.loose(request, deadline_of(context))

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


def _face(
    gallery: Gallery, identity_id: str, record: FaceRecord, vector: Vector | None
) -> identities_pb2.Face:
    template: types_pb2.Template | None = None
    if vector is not None:
        template = convert.template(vector, gallery.model)
    return convert.face(gallery.record.id, identity_id, record, template)
