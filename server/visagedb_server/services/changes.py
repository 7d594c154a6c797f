"""Who a face belongs to, changed: the part of IdentityService that writes the lineage."""

from collections.abc import Iterable

from visagedb.v1 import identities_pb2
from visagedb_indexer.database import Database
from visagedb_indexer.errors import InvalidArgumentError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.moves import Destination
from visagedb_indexer.store import LineageRecord
from visagedb_indexer.transfer import Moved
from visagedb_server import convert, names, paging


def move_faces(
    database: Database, request: identities_pb2.MoveFacesRequest
) -> identities_pb2.MoveFacesResponse:
    """Gives faces to one identity, or makes them loose."""
    gallery_id, identity_id = names.parse_owner(request.destination)
    gallery = database.gallery(gallery_id)
    creation = convert.new_identity(request.new_identity) if request.allow_missing else None
    if creation is not None and not identity_id:
        raise InvalidArgumentError(
            "a destination that is to be created needs an id", {"field": "destination"}
        )
    moved = gallery.moves.move(
        faces_of(request.faces, gallery_id),
        Destination(identity_id, creation, request.etag),
        request.request_id,
    )
    return identities_pb2.MoveFacesResponse(
        faces=[
            convert.face(gallery_id, owned.identity_id, owned.face, None) for owned in moved.faces
        ],
        lineage=entry(gallery, moved.lineage),
    )


def merge_identities(
    database: Database, request: identities_pb2.MergeIdentitiesRequest
) -> identities_pb2.MergeIdentitiesResponse:
    """Makes identities part of another one."""
    gallery_id, identity_id = names.parse_identity(request.destination)
    gallery = database.gallery(gallery_id)
    sources = [names.parse_identity(name) for name in request.sources]
    _check_one_gallery([one for one, _ in sources], gallery_id, "sources")
    moved = gallery.moves.merge(
        [identity for _, identity in sources], identity_id, request.etag, request.request_id
    )
    return identities_pb2.MergeIdentitiesResponse(
        identity=_identity(gallery, moved), lineage=entry(gallery, moved.lineage)
    )


def split_identity(
    database: Database, request: identities_pb2.SplitIdentityRequest
) -> identities_pb2.SplitIdentityResponse:
    """Founds an identity from some faces of one."""
    gallery_id, source_id = names.parse_identity(request.source)
    gallery = database.gallery(gallery_id)
    faces = faces_of(request.faces, gallery_id)
    if any(owner != source_id for owner, _ in faces):
        raise InvalidArgumentError(
            "the faces of a split belong to its source; others can be moved", {"field": "faces"}
        )
    moved = gallery.moves.split(
        source_id,
        [face for _, face in faces],
        request.identity_id,
        convert.new_identity(request.new_identity),
        request.etag,
        request.request_id,
    )
    return identities_pb2.SplitIdentityResponse(
        identity=_identity(gallery, moved), lineage=entry(gallery, moved.lineage)
    )


def list_lineage(
    database: Database, request: identities_pb2.ListLineageRequest
) -> identities_pb2.ListLineageResponse:
    """Changes of a gallery or of one identity, newest first."""
    gallery_id, identity_id = names.parse_owner(request.parent)
    gallery = database.gallery(gallery_id)
    listing = f"{gallery.record.uid} lineage {identity_id}"
    size = paging.page_size(request.page_size)
    before = paging.read_number(request.page_token, listing)
    found = gallery.moves.lineage(identity_id, None if before < 0 else before, size + 1)
    page, more = paging.cut_page([convert.lineage(gallery_id, one) for one in found], size)
    token = paging.token_after(found[len(page) - 1].number, listing) if more else ""
    return identities_pb2.ListLineageResponse(entries=page, next_page_token=token)


def undo_change(
    database: Database, request: identities_pb2.UndoChangeRequest
) -> identities_pb2.UndoChangeResponse:
    """Sends faces back to where they came from."""
    gallery_id, number = names.parse_lineage(request.name)
    gallery = database.gallery(gallery_id)
    moved = gallery.moves.undo(number, request.request_id)
    return identities_pb2.UndoChangeResponse(lineage=entry(gallery, moved.lineage))


def faces_of(face_names: Iterable[str], gallery_id: str) -> list[tuple[str, str]]:
    """Identity id and face id of faces that all belong to one gallery.

    Raises:
        InvalidArgumentError: One belongs to another gallery.
        InvalidNameError: One is not the name of a face.
    """
    parsed = [names.parse_face(name) for name in face_names]
    _check_one_gallery([one for one, _, _ in parsed], gallery_id, "faces")
    return [(identity, face) for _, identity, face in parsed]


def entry(gallery: Gallery, record: LineageRecord | None) -> identities_pb2.LineageEntry | None:
    """An entry of the lineage on the wire."""
    return None if record is None else convert.lineage(gallery.record.id, record)


def _identity(gallery: Gallery, moved: Moved) -> identities_pb2.Identity | None:
    if moved.identity is None:
        return None
    return convert.identity(gallery.record.id, moved.identity)


def _check_one_gallery(found: list[str], expected: str, field: str) -> None:
    if any(gallery_id != expected for gallery_id in found):
        raise InvalidArgumentError(
            f"everything here belongs to one gallery; {expected!r} is not the only one named",
            {"field": field},
        )
