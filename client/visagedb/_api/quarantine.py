"""Methods about faces that a gallery's checks have set aside."""

from visagedb import _convert as convert
from visagedb import _convert_erasures as erasures
from visagedb import _convert_gate as convert_gate
from visagedb._call import Call, Page, Pages, call
from visagedb._erasures import Erasure
from visagedb._gate import GateReason, QuarantinedFace
from visagedb._inputs import new_request_id
from visagedb._names import gallery_name, identity_name
from visagedb._resources import Enrollment
from visagedb.v1 import enrolment_gate_pb2 as gate_pb
from visagedb.v1 import identities_pb2
from visagedb.v1 import quarantine_pb2 as pb


def list_quarantined_faces(
    gallery: str,
    *,
    reason: GateReason | str | None = None,
    include_template: bool = False,
    page_size: int = 0,
    timeout: float | None = None,
) -> Pages[QuarantinedFace]:
    """The faces in quarantine, oldest first, read page by page.

    Args:
        gallery: Id of the gallery.
        reason: Only faces with this finding.
        include_template: Return the vectors, too.
        page_size: Faces per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.
    """
    parent = gallery_name(gallery)
    number = gate_pb.GATE_REASON_UNSPECIFIED
    if reason is not None:
        number = convert_gate.REASON_NUMBERS[GateReason(reason)]

    def page(token: str) -> Call[Page[QuarantinedFace]]:
        return call(
            "QuarantineService/ListQuarantinedFaces",
            pb.ListQuarantinedFacesRequest(
                parent=parent,
                page_size=page_size,
                page_token=token,
                reason=number,
                include_template=include_template,
            ),
            pb.ListQuarantinedFacesResponse,
            lambda answer: Page(
                tuple(convert_gate.quarantined_face(one) for one in answer.faces),
                answer.next_page_token,
            ),
            timeout,
        )

    return Pages(page)


def accept_quarantined_face(
    gallery: str,
    face: QuarantinedFace | int,
    *,
    identity: str = "",
    request_id: str = "",
    timeout: float | None = None,
) -> Call[Enrollment]:
    """Enrols a face that is in quarantine without asking the gallery's checks again.

    Args:
        gallery: Id of the gallery.
        face: The face, or its number.
        identity: Enrol it for this identity instead, for example the one that it is a
            duplicate of; created if there is none.
        request_id: Makes a repeat return the first answer; empty for a fresh one.
        timeout: Seconds; None means the client's default.

    Raises:
        QuarantinedFaceNotFoundError: It has been accepted or dropped.
        IdentityNotFoundError: Its identity is not there, and may not be created.
    """
    request = pb.AcceptQuarantinedFaceRequest(
        name=_name(gallery, face),
        identity=identity_name(gallery, identity) if identity else "",
        request_id=request_id or new_request_id(),
    )
    return call(
        "QuarantineService/AcceptQuarantinedFace",
        request,
        pb.AcceptQuarantinedFaceResponse,
        lambda answer: convert.enrollment(
            identities_pb2.EnrollFaceResponse(
                face=answer.face,
                outcome=answer.outcome,
                identity_created=answer.identity_created,
            )
        ),
        timeout,
    )


def drop_quarantined_face(
    gallery: str,
    face: QuarantinedFace | int,
    *,
    missing_ok: bool = False,
    timeout: float | None = None,
) -> Call[Erasure | None]:
    """Removes a face and its vector from quarantine for good.

    Args:
        gallery: Id of the gallery.
        face: The face, or its number.
        missing_ok: Succeed if there is no such face.
        timeout: Seconds; None means the client's default.

    Returns:
        The receipt; None if there was no such face.

    Raises:
        QuarantinedFaceNotFoundError: It has been accepted or dropped.
    """
    return call(
        "QuarantineService/DropQuarantinedFace",
        pb.DropQuarantinedFaceRequest(name=_name(gallery, face), allow_missing=missing_ok),
        pb.DropQuarantinedFaceResponse,
        lambda answer: erasures.erasure(answer.erasure) if answer.HasField("erasure") else None,
        timeout,
    )


def _name(gallery: str, face: QuarantinedFace | int) -> str:
    number = face.number if isinstance(face, QuarantinedFace) else face
    return f"{gallery_name(gallery)}/quarantine/{number:d}"
