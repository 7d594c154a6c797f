"""Methods that search, compare and look at images."""

from visagedb import _convert as convert
from visagedb._answers import (
    DetectResult,
    EmbedResult,
    FoundFace,
    IdentifyResult,
    Verification,
)
from visagedb._call import Call, call
from visagedb._inputs import (
    ImageInput,
    ProbeInput,
    VectorInput,
    any_probe_message,
    image_bytes,
    only_one_of,
    operating_point,
    probe_message,
    scope_value,
    selection_value,
)
from visagedb._names import gallery_name, identity_name
from visagedb._resources import Face
from visagedb._values import FaceScope, FaceSelection
from visagedb.v1 import search_pb2 as pb


def identify(
    gallery: str,
    *,
    image: ImageInput | None = None,
    vector: VectorInput | None = None,
    face: Face | str | None = None,
    model: str = "",
    top_k: int = 0,
    filter: str = "",  # noqa: A002 (the API's own word)
    min_score: float | None = None,
    threshold: float | None = None,
    max_false_positive_rate: float | None = None,
    exact: bool = False,
    face_selection: FaceSelection | str | None = None,
    timeout: float | None = None,
) -> Call[IdentifyResult]:
    """Who is this? Searches a gallery for every (or the selected) face of the probe.

    Give exactly one of `image`, `vector` and `face`.

    Args:
        gallery: Id of the gallery.
        image: An encoded image as bytes, or the path of one.
        vector: Shape (dimension,), made by the gallery's model.
        face: An enrolled face, or its resource name.
        model: What made the vector; refused if it is not the gallery's model.
        top_k: How many distinct identities to return, 1 to 1,000; 0 for the server's 10.
        filter: Only identities whose labels pass, for example
            ``labels.site = "north" AND NOT labels.role = "guest"`` or ``labels.badge:*``.
        min_score: Only candidates with at least this cosine.
        threshold: Decide at this cosine instead of the gallery's own threshold.
        max_false_positive_rate: Decide at the threshold of this false positive
            identification rate; needs a calibrated gallery.
        exact: Compare with every stored vector, whatever the search structures say.
        face_selection: Which faces of the image; all of them by default.
        timeout: Seconds; None means the client's default.

    Raises:
        GalleryNotFoundError: There is no such gallery.
        InvalidFilterError: The filter cannot be understood.
        InvalidImageError: The image cannot be used.
        NotCalibratedError: An error rate was asked for without a calibration.
    """
    request = pb.IdentifyRequest(
        gallery=gallery_name(gallery),
        probe=probe_message(
            image=image, vector=vector, face=face, model=model, face_selection=face_selection
        ),
        top_k=top_k,
        filter=filter,
        min_score=min_score,
        operating_point=operating_point(threshold, max_false_positive_rate),
        exact=exact,
    )
    return call(
        "SearchService/Identify", request, pb.IdentifyResponse, convert.identify_result, timeout
    )


def find_faces(
    gallery: str,
    *,
    image: ImageInput | None = None,
    vector: VectorInput | None = None,
    face: Face | str | None = None,
    model: str = "",
    top_k: int = 0,
    scope: FaceScope | str | None = None,
    filter: str = "",  # noqa: A002 (the API's own word)
    min_score: float | None = None,
    face_selection: FaceSelection | str | None = None,
    timeout: float | None = None,
) -> Call[tuple[FoundFace, ...]]:
    """The stored faces that are most like a probe, loose ones included, best first.

    Every face counts on its own, and nothing is decided: for photo archives. Give exactly
    one of `image`, `vector` and `face`; a stored face does not find itself.

    Args:
        gallery: Id of the gallery.
        image: An encoded image as bytes, or the path of one.
        vector: Shape (dimension,), made by the gallery's model.
        face: A stored face, loose or not, or its resource name.
        model: What made the vector; refused if it is not the gallery's model.
        top_k: How many faces to return, 1 to 1,000; 0 for the server's 10.
        scope: Which faces; None for all.
        filter: Only faces of identities whose labels pass; loose faces pass no filter.
        min_score: Only faces with at least this cosine.
        face_selection: Which face of an image; by default it must show exactly one.
        timeout: Seconds; None means the client's default.

    Raises:
        GalleryNotFoundError: There is no such gallery.
        FaceNotFoundError: There is no such stored face.
        InvalidImageError: The image cannot be used, shows no face, or several.
    """
    request = pb.FindFacesRequest(
        gallery=gallery_name(gallery),
        probe=probe_message(
            image=image, vector=vector, face=face, model=model, face_selection=face_selection
        ),
        top_k=top_k,
        scope=scope_value(scope),
        filter=filter,
        min_score=min_score,
    )
    return call(
        "SearchService/FindFaces",
        request,
        pb.FindFacesResponse,
        lambda answer: tuple(convert.found_face(one) for one in answer.faces),
        timeout,
    )


def verify(
    probe: ProbeInput,
    other: ProbeInput | None = None,
    *,
    gallery: str = "",
    identity: str | None = None,
    threshold: float | None = None,
    max_false_positive_rate: float | None = None,
    face_selection: FaceSelection | str | None = None,
    timeout: float | None = None,
) -> Call[Verification]:
    """Are these two the same person? Compares two faces, or a face with an identity.

    Args:
        probe: An image (bytes or path), a vector, or an enrolled `Face`.
        other: What it is compared with. Give this or `identity`.
        gallery: Id of the gallery that gives the model and the threshold; empty for the
            server's default model. Needed with `identity`.
        identity: Id of an identity of the gallery: all of its faces.
        threshold: Decide at this cosine.
        max_false_positive_rate: Decide at the threshold of this false match rate.
        face_selection: Which face of an image; by default it must show exactly one.
        timeout: Seconds; None means the client's default.

    Raises:
        InvalidImageError: An image cannot be used, shows no face, or several.
        IdentityNotFoundError: The gallery has no such identity.
    """
    only_one_of(other=other, identity=identity)
    request = pb.VerifyRequest(
        gallery=gallery_name(gallery) if gallery else "",
        probe=any_probe_message(probe, face_selection),
        operating_point=operating_point(threshold, max_false_positive_rate),
    )
    if identity is not None:
        if not gallery:
            raise TypeError("an identity needs the gallery it is in: verify(..., gallery=...)")
        request.identity = identity_name(gallery, identity)
    elif other is not None:
        request.other.CopyFrom(any_probe_message(other, face_selection))
    return call("SearchService/Verify", request, pb.VerifyResponse, convert.verification, timeout)


def detect(image: ImageInput, *, timeout: float | None = None) -> Call[DetectResult]:
    """Finds the faces of an image: boxes, five points, quality. Stores nothing.

    Raises:
        InvalidImageError: The image cannot be used. An image without faces is no error.
        ModelNotAvailableError: The server runs without face models.
    """
    return call(
        "SearchService/DetectFaces",
        pb.DetectFacesRequest(image=image_bytes(image)),
        pb.DetectFacesResponse,
        convert.detect_result,
        timeout,
    )


def embed(
    image: ImageInput,
    gallery: str = "",
    *,
    face_selection: FaceSelection | str | None = None,
    bulk: bool = False,
    timeout: float | None = None,
) -> Call[EmbedResult]:
    """Finds the faces of an image and makes their vectors. Stores nothing.

    Args:
        image: An encoded image as bytes, or the path of one.
        gallery: Use this gallery's model and options; empty for the server's default.
        face_selection: Which faces; all of them by default.
        bulk: Work that may wait for interactive requests.
        timeout: Seconds; None means the client's default.

    Raises:
        InvalidImageError: The image cannot be used.
        ModelNotAvailableError: The server does not run the model.
    """
    request = pb.EmbedFacesRequest(
        image=image_bytes(image),
        gallery=gallery_name(gallery) if gallery else "",
        face_selection=selection_value(face_selection),
        bulk=bulk,
    )
    return call(
        "SearchService/EmbedFaces", request, pb.EmbedFacesResponse, convert.embed_result, timeout
    )
