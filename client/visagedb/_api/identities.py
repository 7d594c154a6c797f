"""Methods about identities."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from visagedb import _convert as convert
from visagedb import _convert_erasures as erasures
from visagedb._call import Call, Page, Pages, call
from visagedb._erasures import Erasure
from visagedb._inputs import new_request_id, struct, timestamp
from visagedb._names import check_id, gallery_name, identity_name
from visagedb._resources import Identity
from visagedb._values import UNSET, Unset
from visagedb.v1 import identities_pb2 as pb


def create_identity(
    gallery: str,
    identity: str = "",
    *,
    display_name: str = "",
    labels: Mapping[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    expire_time: datetime | None = None,
    timeout: float | None = None,
) -> Call[Identity]:
    """Creates a person without faces; enrolment creates identities, too.

    Args:
        gallery: Id of the gallery.
        identity: The caller's own id; empty, and the server makes one.
        display_name: For people.
        labels: Small key and value strings for filters, at most 32.
        metadata: Anything else to keep, up to 16 KiB as JSON.
        expire_time: When the server is to erase the identity, by itself; naive means UTC.
        timeout: Seconds; None means the client's default.

    Raises:
        IdentityExistsError: There is one of this id already.
        InvalidLabelsError: Labels or metadata break a limit.
    """
    if identity:
        check_id(identity, "identity")
    request = pb.CreateIdentityRequest(
        parent=gallery_name(gallery),
        identity_id=identity,
        identity=pb.Identity(
            display_name=display_name,
            labels=dict(labels or {}),
            metadata=struct(metadata),
            expire_time=timestamp(expire_time),
        ),
        request_id=new_request_id(),
    )
    return call(
        "IdentityService/CreateIdentity",
        request,
        pb.CreateIdentityResponse,
        lambda answer: convert.identity(answer.identity),
        timeout,
    )


def get_identity(gallery: str, identity: str, *, timeout: float | None = None) -> Call[Identity]:
    """A person, with labels and metadata.

    Raises:
        IdentityNotFoundError: The gallery has none of this id.
    """
    return call(
        "IdentityService/GetIdentity",
        pb.GetIdentityRequest(name=identity_name(gallery, identity)),
        pb.GetIdentityResponse,
        lambda answer: convert.identity(answer.identity),
        timeout,
    )


def list_identities(
    gallery: str,
    *,
    filter: str = "",  # noqa: A002 (the API's own word)
    page_size: int = 0,
    timeout: float | None = None,
) -> Pages[Identity]:
    """The identities of a gallery in the order of creation, read page by page.

    Args:
        gallery: Id of the gallery.
        filter: Only identities whose labels pass; see `identify`.
        page_size: Identities per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.
    """
    parent = gallery_name(gallery)

    def page(token: str) -> Call[Page[Identity]]:
        return call(
            "IdentityService/ListIdentities",
            pb.ListIdentitiesRequest(
                parent=parent, page_size=page_size, page_token=token, filter=filter
            ),
            pb.ListIdentitiesResponse,
            lambda answer: Page(
                tuple(convert.identity(i) for i in answer.identities), answer.next_page_token
            ),
            timeout,
        )

    return Pages(page)


def update_identity(
    gallery: str,
    identity: str,
    *,
    display_name: str | Unset = UNSET,
    labels: Mapping[str, str] | Unset = UNSET,
    metadata: Mapping[str, Any] | Unset | None = UNSET,
    expire_time: datetime | Unset | None = UNSET,
    etag: str = "",
    timeout: float | None = None,
) -> Call[Identity]:
    """Changes the given fields of an identity and leaves the others.

    Args:
        gallery: Id of the gallery.
        identity: Id of the identity.
        display_name: For people.
        labels: All of the new labels, not only the changed ones.
        metadata: All of the new metadata; None to remove it.
        expire_time: When the server is to erase it; None for never.
        etag: If given, the update happens only when the identity still has this etag.
        timeout: Seconds; None means the client's default.

    Raises:
        EtagMismatchError: The identity changed since it was read.
        IdentityNotFoundError: The gallery has none of this id.
    """
    fields: dict[str, Any] = {
        "display_name": display_name,
        "labels": labels if isinstance(labels, Unset) else dict(labels),
        "metadata": metadata if isinstance(metadata, Unset) else struct(metadata),
        "expire_time": expire_time if isinstance(expire_time, Unset) else timestamp(expire_time),
    }
    given = {key: value for key, value in fields.items() if value is not UNSET}
    request = pb.UpdateIdentityRequest(
        identity=pb.Identity(name=identity_name(gallery, identity), etag=etag, **given),
        update_mask=FieldMask(paths=list(given)),
    )
    return call(
        "IdentityService/UpdateIdentity",
        request,
        pb.UpdateIdentityResponse,
        lambda answer: convert.identity(answer.identity),
        timeout,
    )


def delete_identity(
    gallery: str,
    identity: str,
    *,
    etag: str = "",
    missing_ok: bool = False,
    timeout: float | None = None,
) -> Call[Erasure | None]:
    """Deletes an identity and its faces; no search that starts later returns them.

    Args:
        gallery: Id of the gallery.
        identity: Id of the identity.
        etag: If given, it is deleted only when it still has this etag.
        missing_ok: Succeed if there is no such identity.
        timeout: Seconds; None means the client's default.

    Returns:
        The receipt; None if there was no such identity.

    Raises:
        IdentityNotFoundError: The gallery has none of this id.
    """
    request = pb.DeleteIdentityRequest(
        name=identity_name(gallery, identity), etag=etag, allow_missing=missing_ok
    )
    return call(
        "IdentityService/DeleteIdentity",
        request,
        pb.DeleteIdentityResponse,
        lambda answer: erasures.erasure(answer.erasure) if answer.HasField("erasure") else None,
        timeout,
    )
