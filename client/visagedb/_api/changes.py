"""Methods about who a face belongs to: move, merge, split, and undo."""

from collections.abc import Mapping, Sequence

from visagedb import _convert_lineage as convert_lineage
from visagedb._call import Call, Page, Pages, call
from visagedb._inputs import new_request_id, resource
from visagedb._lineage import Change, LineageEntry
from visagedb._names import check_id, identity_name, owner_name
from visagedb._resources import Face
from visagedb.v1 import identities_pb2 as pb


def move_faces(
    gallery: str,
    faces: Sequence[Face | str],
    identity: str,
    *,
    create: bool = True,
    display_name: str = "",
    labels: Mapping[str, str] | None = None,
    etag: str = "",
    timeout: float | None = None,
) -> Call[Change]:
    """Gives faces, loose ones or of any identities, to one identity.

    One durable change: searches see it at once, and `undo_change` takes it back. Faces keep
    their ids unless the identity has a face of the same id.

    Args:
        gallery: Id of the gallery.
        faces: The faces, or their resource names.
        identity: Id of the identity that receives them; empty makes them loose.
        create: Create the identity if there is none.
        display_name: Of an identity that this call creates.
        labels: Of an identity that this call creates.
        etag: If set, must be the identity's present one.
        timeout: Seconds; None means the client's default.

    Raises:
        FaceNotFoundError: One of the faces is not there.
        IdentityNotFoundError: There is no such identity and `create` is off.
        EtagMismatchError: The identity changed since it was read.
        LimitExceededError: The identity would have too many faces.
    """
    request = pb.MoveFacesRequest(
        faces=[resource(face, [Face]) for face in faces],
        destination=owner_name(gallery, identity),
        request_id=new_request_id(),
        etag=etag,
        allow_missing=create and bool(identity),
        new_identity=pb.Identity(display_name=display_name, labels=labels or {}),
    )
    return call(
        "IdentityService/MoveFaces", request, pb.MoveFacesResponse, convert_lineage.moved, timeout
    )


def merge_identities(
    gallery: str,
    identity: str,
    others: Sequence[str],
    *,
    etag: str = "",
    timeout: float | None = None,
) -> Call[Change]:
    """Makes other identities part of one, which keeps its name and labels.

    Args:
        gallery: Id of the gallery.
        identity: Id of the identity that stays.
        others: Ids of those that become part of it; `undo_change` brings them back.
        etag: If set, must be the present one of the identity that stays.
        timeout: Seconds; None means the client's default.

    Raises:
        IdentityNotFoundError: One of them is not there.
        EtagMismatchError: The identity changed since it was read.
        LimitExceededError: The identity would have too many faces.
    """
    request = pb.MergeIdentitiesRequest(
        destination=identity_name(gallery, identity),
        sources=[identity_name(gallery, other) for other in others],
        request_id=new_request_id(),
        etag=etag,
    )
    return call(
        "IdentityService/MergeIdentities",
        request,
        pb.MergeIdentitiesResponse,
        convert_lineage.merged,
        timeout,
    )


def split_identity(
    gallery: str,
    identity: str,
    faces: Sequence[Face | str],
    *,
    new_identity: str = "",
    display_name: str = "",
    labels: Mapping[str, str] | None = None,
    etag: str = "",
    timeout: float | None = None,
) -> Call[Change]:
    """Founds a new identity from some, not all, faces of one.

    Args:
        gallery: Id of the gallery.
        identity: Id of the identity that the faces leave.
        faces: The faces, or their resource names.
        new_identity: Id of the new identity; empty, and the server makes one.
        display_name: Of the new identity.
        labels: Of the new identity.
        etag: If set, must be the present one of the identity that the faces leave.
        timeout: Seconds; None means the client's default.

    Raises:
        FaceNotFoundError: One of the faces is not there.
        IdentityExistsError: There is an identity of the new id already.
        EtagMismatchError: The identity changed since it was read.
    """
    request = pb.SplitIdentityRequest(
        source=identity_name(gallery, identity),
        faces=[resource(face, [Face]) for face in faces],
        identity_id=check_id(new_identity, "identity") if new_identity else "",
        request_id=new_request_id(),
        etag=etag,
        new_identity=pb.Identity(display_name=display_name, labels=labels or {}),
    )
    return call(
        "IdentityService/SplitIdentity",
        request,
        pb.SplitIdentityResponse,
        convert_lineage.merged,
        timeout,
    )


def list_lineage(
    gallery: str, identity: str = "", *, page_size: int = 0, timeout: float | None = None
) -> Pages[LineageEntry]:
    """Who came from where, newest change first, read page by page.

    Args:
        gallery: Id of the gallery.
        identity: Only changes that touch this identity; empty for all.
        page_size: Entries per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.
    """
    parent = owner_name(gallery, identity)

    def page(token: str) -> Call[Page[LineageEntry]]:
        return call(
            "IdentityService/ListLineage",
            pb.ListLineageRequest(parent=parent, page_size=page_size, page_token=token),
            pb.ListLineageResponse,
            lambda answer: Page(
                tuple(convert_lineage.entry(one) for one in answer.entries),
                answer.next_page_token,
            ),
            timeout,
        )

    return Pages(page)


def undo_change(
    change: Change | LineageEntry | str, *, timeout: float | None = None
) -> Call[LineageEntry]:
    """Sends the faces of a change, where it left them, back to where they came from.

    Identities that a merge ended come back; an identity that the change founded goes again
    if it is empty then and was not changed since.

    Args:
        change: The change, its entry in the lineage, or the entry's resource name.
        timeout: Seconds; None means the client's default.

    Raises:
        NotUndoableError: It was undone already, or what that needs is gone.
        LineageNotFoundError: There is no such change.
    """
    if isinstance(change, Change):
        if change.lineage is None:
            raise ValueError("nothing was changed, so there is nothing to undo")
        change = change.lineage
    request = pb.UndoChangeRequest(
        name=resource(change, [LineageEntry]), request_id=new_request_id()
    )
    return call(
        "IdentityService/UndoChange",
        request,
        pb.UndoChangeResponse,
        lambda answer: convert_lineage.entry(answer.lineage),
        timeout,
    )
