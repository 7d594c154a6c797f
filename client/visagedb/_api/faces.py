"""Methods about enrolled faces."""

from collections.abc import Mapping

from visagedb import _convert as convert
from visagedb import _convert_erasures as erasures
from visagedb._call import Call, Page, Pages, call
from visagedb._erasures import Erasure
from visagedb._inputs import (
    ImageInput,
    VectorInput,
    image_bytes,
    mode_value,
    new_request_id,
    only_one_of,
    selection_value,
    template_message,
)
from visagedb._names import check_id, face_name, gallery_name, identity_name, owner_name
from visagedb._resources import Enrollment, Face, LooseEnrollment
from visagedb._values import EnrollMode, FaceSelection
from visagedb.v1 import identities_pb2 as pb


def enroll(
    gallery: str,
    identity: str,
    *,
    image: ImageInput | None = None,
    vector: VectorInput | None = None,
    model: str = "",
    face_selection: FaceSelection | str | None = None,
    create: bool = True,
    display_name: str = "",
    labels: Mapping[str, str] | None = None,
    source: str = "",
    face_id: str = "",
    mode: EnrollMode | str = EnrollMode.INSERT,
    bulk: bool = False,
    request_id: str = "",
    timeout: float | None = None,
) -> Call[Enrollment]:
    """Adds one face to an identity; durable and searchable when it returns.

    The same content enrolled again for the same identity returns the face that is there.

    Args:
        gallery: Id of the gallery.
        identity: Id of the identity.
        image: An encoded image as bytes, or the path of one. Give this or `vector`.
        vector: Shape (dimension,), made by the gallery's model.
        model: What made the vector, ``name`` or ``name@version``; the server refuses it
            if it is not the gallery's model.
        face_selection: Which face of the image; by default it must show exactly one.
        create: Create the identity if there is none.
        display_name: Of an identity that this call creates.
        labels: Of an identity that this call creates.
        source: The caller's own reference of the face, for example a file name.
        face_id: The caller's own id for the face; empty, and the server makes one.
        mode: What to do with what is there already.
        bulk: Work that may wait for interactive requests.
        request_id: Makes a repeat return the first answer; empty for a fresh one.
        timeout: Seconds; None means the client's default.

    Raises:
        NoFaceError: The image shows no face.
        SeveralFacesError: It shows several, and none was selected.
        InvalidImageError: The image cannot be used for another reason.
        InvalidVectorError: The vector has the wrong length or is not finite.
        GalleryNotFoundError: There is no such gallery.
        IdentityNotFoundError: There is no such identity and `create` is off.
        ModelNotAvailableError: The server takes only vectors for this gallery.
    """
    only_one_of(image=image, vector=vector)
    request = pb.EnrollFaceRequest(
        identity=identity_name(gallery, identity),
        face_selection=selection_value(face_selection),
        face_id=check_id(face_id, "face") if face_id else "",
        allow_missing=create,
        source=source,
        request_id=request_id or new_request_id(),
        bulk=bulk,
        mode=mode_value(mode),
    )
    if image is not None:
        request.image = image_bytes(image)
    elif vector is not None:
        request.template.CopyFrom(template_message(vector, model))
    if display_name or labels:
        request.new_identity.display_name = display_name
        request.new_identity.labels.update(labels or {})
    return call(
        "IdentityService/EnrollFace", request, pb.EnrollFaceResponse, convert.enrollment, timeout
    )


def enroll_loose(
    gallery: str,
    *,
    image: ImageInput | None = None,
    vector: VectorInput | None = None,
    model: str = "",
    source: str = "",
    bulk: bool = False,
    request_id: str = "",
    timeout: float | None = None,
) -> Call[LooseEnrollment]:
    """Adds every face of an image, or one vector, without an identity.

    For photo archives: `cluster` groups loose faces by person, `assign_cluster` and
    `move_faces` give them a name. `identify` does not return them. What was enrolled this
    way before is not looked at again.

    Args:
        gallery: Id of the gallery.
        image: An encoded image as bytes, or the path of one. Give this or `vector`.
        vector: Shape (dimension,), made by the gallery's model.
        model: What made the vector, ``name`` or ``name@version``.
        source: The caller's own reference, for example the photograph's path.
        bulk: Work that may wait for interactive requests.
        request_id: Makes a repeat return the first answer; empty for a fresh one.
        timeout: Seconds; None means the client's default.

    Raises:
        InvalidImageError: The image cannot be used. One without a face is no error.
        InvalidVectorError: The vector has the wrong length or is not finite.
        GalleryNotFoundError: There is no such gallery.
        ModelNotAvailableError: The server takes only vectors for this gallery.
    """
    only_one_of(image=image, vector=vector)
    request = pb.EnrollLooseFacesRequest(
        gallery=gallery_name(gallery),
        source=source,
        request_id=request_id or new_request_id(),
        bulk=bulk,
    )
    if image is not None:
        request.image = image_bytes(image)
    elif vector is not None:
        request.template.CopyFrom(template_message(vector, model))
    return call(
        "IdentityService/EnrollLooseFaces",
        request,
        pb.EnrollLooseFacesResponse,
        convert.loose_enrollment,
        timeout,
    )


def get_face(
    gallery: str,
    identity: str,
    face: str,
    *,
    include_template: bool = False,
    timeout: float | None = None,
) -> Call[Face]:
    """An enrolled face, with its vector if that is asked for.

    Args:
        gallery: Id of the gallery.
        identity: Id of the identity; empty for a loose face.
        face: Id of the face.
        include_template: Return the vector, too.
        timeout: Seconds; None means the client's default.

    Raises:
        FaceNotFoundError: The identity has none of this id.
    """
    request = pb.GetFaceRequest(
        name=face_name(gallery, identity, face), include_template=include_template
    )
    return call(
        "IdentityService/GetFace",
        request,
        pb.GetFaceResponse,
        lambda answer: convert.face(answer.face),
        timeout,
    )


def list_faces(
    gallery: str,
    identity: str = "",
    *,
    include_template: bool = False,
    page_size: int = 0,
    timeout: float | None = None,
) -> Pages[Face]:
    """The faces of an identity in the order of enrolment, read page by page.

    Args:
        gallery: Id of the gallery.
        identity: Id of the identity; empty for the gallery's loose faces.
        include_template: Return the vectors, too.
        page_size: Faces per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.
    """
    parent = owner_name(gallery, identity)

    def page(token: str) -> Call[Page[Face]]:
        return call(
            "IdentityService/ListFaces",
            pb.ListFacesRequest(
                parent=parent,
                page_size=page_size,
                page_token=token,
                include_template=include_template,
            ),
            pb.ListFacesResponse,
            lambda answer: Page(
                tuple(convert.face(f) for f in answer.faces), answer.next_page_token
            ),
            timeout,
        )

    return Pages(page)


def delete_face(
    gallery: str,
    identity: str,
    face: str,
    *,
    missing_ok: bool = False,
    timeout: float | None = None,
) -> Call[Erasure | None]:
    """Deletes one face; no search that starts later returns it.

    Args:
        gallery: Id of the gallery.
        identity: Id of the identity; empty for a loose face.
        face: Id of the face.
        missing_ok: Succeed if there is none.
        timeout: Seconds; None means the client's default.

    Returns:
        The receipt; None if there was no such face.

    Raises:
        FaceNotFoundError: The identity has none of this id and `missing_ok` is off.
    """
    request = pb.DeleteFaceRequest(
        name=face_name(gallery, identity, face), allow_missing=missing_ok
    )
    return call(
        "IdentityService/DeleteFace",
        request,
        pb.DeleteFaceResponse,
        lambda answer: erasures.erasure(answer.erasure) if answer.HasField("erasure") else None,
        timeout,
    )
