"""Methods about audits of a gallery's labels."""

from collections.abc import Collection

from visagedb import _convert as convert
from visagedb import _convert_audits as convert_audits
from visagedb._audits import GalleryAudit, GalleryFinding
from visagedb._call import Call, Page, Pages, Started, call
from visagedb._inputs import new_request_id, resource
from visagedb._names import gallery_name
from visagedb._values import FindingKind
from visagedb.v1 import gallery_audits_pb2 as pb


def audit_gallery(
    gallery: str,
    *,
    kinds: Collection[FindingKind | str] = (),
    filter: str = "",  # noqa: A002 (the API's own word)
    timeout: float | None = None,
) -> Started[GalleryAudit]:
    """Starts to look for labels that may be wrong; changes nothing.

    Args:
        gallery: Id of the gallery.
        kinds: What to look for; everything by default.
        filter: Only the faces of identities whose labels pass; see `identify`.
        timeout: Seconds to start it; None means the client's default.

    Returns:
        A handle on the operation, whose result is a `GalleryAudit`.

    Raises:
        GalleryTooLargeError: By the result: the gallery has more faces than can be audited.
    """
    request = pb.AuditGalleryRequest(
        gallery=gallery_name(gallery),
        filter=filter,
        kinds=[convert_audits.KIND_NUMBERS[FindingKind(kind)] for kind in kinds],
        request_id=new_request_id(),
    )
    return Started(
        call(
            "GalleryAuditService/AuditGallery",
            request,
            pb.AuditGalleryResponse,
            lambda answer: convert.operation_status(answer.operation),
            timeout,
        )
    )


def get_gallery_audit(
    audit: GalleryAudit | str, *, timeout: float | None = None
) -> Call[GalleryAudit]:
    """The result of an earlier audit.

    Raises:
        NotFoundError: There is none of this name, or it is forgotten.
    """
    return call(
        "GalleryAuditService/GetGalleryAudit",
        pb.GetGalleryAuditRequest(name=resource(audit, [GalleryAudit])),
        pb.GetGalleryAuditResponse,
        lambda answer: convert_audits.audit(answer.audit),
        timeout,
    )


def gallery_findings(
    audit: GalleryAudit | str,
    *,
    min_probability: float = 0.0,
    page_size: int = 0,
    timeout: float | None = None,
) -> Pages[GalleryFinding]:
    """The findings of an audit that are still open, read page by page.

    Kind after kind, the strongest evidence first. What has been corrected since is left out.

    Args:
        audit: The audit, or its resource name.
        min_probability: Leave out findings that are less probable; hubs are never left out.
        page_size: Findings per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.
    """
    parent = resource(audit, [GalleryAudit])

    def page(token: str) -> Call[Page[GalleryFinding]]:
        return call(
            "GalleryAuditService/ListGalleryAuditFindings",
            pb.ListGalleryAuditFindingsRequest(
                parent=parent,
                page_size=page_size,
                page_token=token,
                min_probability=min_probability,
            ),
            pb.ListGalleryAuditFindingsResponse,
            lambda answer: Page(
                tuple(convert_audits.finding(f) for f in answer.findings), answer.next_page_token
            ),
            timeout,
        )

    return Pages(page)
