"""The server as a client of any language sees it: stubs, requests, and typed errors."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from visagedb.v1 import (
    clusters_pb2,
    clusters_pb2_grpc,
    erasures_pb2_grpc,
    galleries_pb2,
    galleries_pb2_grpc,
    gallery_audits_pb2_grpc,
    identities_pb2,
    identities_pb2_grpc,
    imports_pb2,
    imports_pb2_grpc,
    search_pb2,
    search_pb2_grpc,
    types_pb2,
)
from visagedb_indexer.values import Vector

DIMENSION = 16


class Api:
    """All services over one channel, and the requests that tests make again and again."""

    def __init__(self, address: str) -> None:
        options = [("grpc.max_receive_message_length", 32 << 20)]
        self.channel = grpc.insecure_channel(address, options)
        self.galleries = galleries_pb2_grpc.GalleryServiceStub(self.channel)
        self.identities = identities_pb2_grpc.IdentityServiceStub(self.channel)
        self.search = search_pb2_grpc.SearchServiceStub(self.channel)
        self.clusters = clusters_pb2_grpc.ClusterServiceStub(self.channel)
        self.audits = gallery_audits_pb2_grpc.GalleryAuditServiceStub(self.channel)
        self.erasures = erasures_pb2_grpc.ErasureServiceStub(self.channel)
        self.imports = imports_pb2_grpc.ImportServiceStub(self.channel)
        self.operations = operations_pb2_grpc.OperationsStub(self.channel)

    def close(self) -> None:
        self.channel.close()

    def create_gallery(
        self, gallery_id: str = "people", dimension: int = DIMENSION, **fields: Any
    ) -> galleries_pb2.Gallery:
        model = types_pb2.ModelIdentity(name="test", version="1", dimension=dimension)
        gallery = galleries_pb2.Gallery(**{"model": model, **fields})
        request = galleries_pb2.CreateGalleryRequest(gallery_id=gallery_id, gallery=gallery)
        return self.galleries.CreateGallery(request).gallery

    def create_identity(
        self, identity_id: str, gallery: str = "people", **fields: Any
    ) -> identities_pb2.Identity:
        request = identities_pb2.CreateIdentityRequest(
            parent=f"galleries/{gallery}",
            identity_id=identity_id,
            identity=identities_pb2.Identity(**fields),
        )
        return self.identities.CreateIdentity(request).identity

    def enroll(
        self, identity_id: str, vector: Vector, gallery: str = "people", **fields: Any
    ) -> identities_pb2.EnrollFaceResponse:
        request = identities_pb2.EnrollFaceRequest(
            identity=f"galleries/{gallery}/identities/{identity_id}",
            **{"template": template(vector), "allow_missing": True, **fields},
        )
        return self.identities.EnrollFace(request)

    def identify(
        self, vector: Vector, gallery: str = "people", **fields: Any
    ) -> search_pb2.IdentifyResponse:
        request = search_pb2.IdentifyRequest(
            gallery=f"galleries/{gallery}", probe=probe(vector), **fields
        )
        return self.search.Identify(request)

    def best(self, vector: Vector, gallery: str = "people", **fields: Any) -> str:
        """Id of the best identity; empty when there is none."""
        [answer] = self.identify(vector, gallery, top_k=1, **fields).identifications
        return answer.candidates[0].identity.split("/")[-1] if answer.candidates else ""

    def gallery(self, gallery: str = "people") -> galleries_pb2.Gallery:
        request = galleries_pb2.GetGalleryRequest(name=f"galleries/{gallery}")
        return self.galleries.GetGallery(request).gallery

    def identity(self, identity_id: str, gallery: str = "people") -> identities_pb2.Identity:
        request = identities_pb2.GetIdentityRequest(
            name=f"galleries/{gallery}/identities/{identity_id}"
        )
        return self.identities.GetIdentity(request).identity

    def all_faces(self, gallery: str = "people") -> dict[str, list[str]]:
        """Ids of all identities and their faces, read page by page."""
        found: dict[str, list[str]] = {}
        parent = f"galleries/{gallery}"
        pages = read_pages(
            self.identities.ListIdentities, identities_pb2.ListIdentitiesRequest(parent=parent)
        )
        for page in pages:
            for identity in page.identities:
                found[identity.name.split("/")[-1]] = self.faces(identity.name)
        return found

    def faces(self, identity_name: str) -> list[str]:
        """Ids of the faces of an identity, read page by page."""
        request = identities_pb2.ListFacesRequest(parent=identity_name)
        return [
            face.name.split("/")[-1]
            for page in read_pages(self.identities.ListFaces, request)
            for face in page.faces
        ]

    def start_import(self, path: object, gallery: str = "people", **fields: Any) -> str:
        """Starts an import; the name of its operation."""
        request = imports_pb2.ImportFacesRequest(
            gallery=f"galleries/{gallery}", path=str(path), **fields
        )
        return self.imports.ImportFaces(request).operation.name

    def run_import(
        self, path: object, gallery: str = "people", **fields: Any
    ) -> operations_pb2.Operation:
        """Runs an import to its end."""
        return self.finished(self.start_import(path, gallery, **fields))

    def export(self, path: object, gallery: str = "people", **fields: Any) -> imports_pb2.Export:
        """Runs an export to its end."""
        request = imports_pb2.ExportFacesRequest(
            gallery=f"galleries/{gallery}", path=str(path), **fields
        )
        operation = self.finished(self.imports.ExportFaces(request).operation.name)
        answer = imports_pb2.Export()
        assert operation.response.Unpack(answer), operation
        return answer

    def finished(self, name: str) -> operations_pb2.Operation:
        """An operation once it is done."""
        while True:
            wait = operations_pb2.WaitOperationRequest(name=name)
            operation = self.operations.WaitOperation(wait)
            if operation.done:
                return operation

    def cluster(self, gallery: str = "people", **fields: Any) -> operations_pb2.Operation:
        """Runs a clustering to its end."""
        request = clusters_pb2.ClusterRequest(
            **{"gallery": f"galleries/{gallery}", "threshold": 0.5, **fields}
        )
        operation = self.clusters.Cluster(request).operation
        wait = operations_pb2.WaitOperationRequest(name=operation.name)
        return self.operations.WaitOperation(wait)


def import_of(operation: operations_pb2.Operation) -> imports_pb2.Import:
    """The import of an operation that went well, or of one that runs."""
    answer = imports_pb2.Import()
    if operation.response.Unpack(answer):
        return answer
    metadata = imports_pb2.ImportFacesMetadata()
    assert operation.metadata.Unpack(metadata), operation
    found: imports_pb2.Import = getattr(metadata, "import")
    return found


def template(vector: Vector, model: str = "") -> types_pb2.Template:
    return types_pb2.Template(vector=vector.astype("<f4").tobytes(), model=model)


def probe(vector: Vector) -> types_pb2.Probe:
    return types_pb2.Probe(template=template(vector))


def read_pages(method: Any, request: Any) -> Iterator[Any]:
    """All pages of a listing."""
    while True:
        page = method(request)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


@dataclass
class Refusal:
    """A typed error as it came over the wire."""

    code: str = ""
    reason: str = ""
    fields: list[str] = field(default_factory=list)
    message: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


def refusal_of(error: grpc.RpcError) -> Refusal:
    status = rpc_status.from_call(error)
    assert status is not None, f"an error without details: {error}"
    return refusal_of_status(status)


def refusal_of_status(status: status_pb2.Status) -> Refusal:
    result = Refusal(code_pb2.Code.Name(status.code), message=status.message)
    for detail in status.details:
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            assert info.domain == "visagedb"
            result.reason, result.metadata = info.reason, dict(info.metadata)
        elif detail.Unpack(request):
            result.fields = [violation.field for violation in request.field_violations]
    assert result.reason, f"an error without a reason: {status}"
    assert result.message
    return result


@contextmanager
def refused(code: str, reason: str, field_name: str = "") -> Iterator[Refusal]:
    """Expects a typed error; the value is filled in when the block has ended."""
    result = Refusal()
    try:
        yield result
    except grpc.RpcError as error:
        vars(result).update(vars(refusal_of(error)))
        assert (result.code, result.reason) == (code, reason), result
        if field_name:
            assert result.fields == [field_name], result
    else:
        raise AssertionError(f"not refused: expected {code} {reason}")
