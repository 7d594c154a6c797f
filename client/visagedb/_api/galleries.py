"""Methods about galleries."""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.field_mask_pb2 import FieldMask

from visagedb import _convert as convert
from visagedb import _convert_erasures as erasures
from visagedb import _convert_gate as convert_gate
from visagedb._call import Call, Page, Pages, call
from visagedb._erasures import Erasure
from visagedb._gate import IdentityCheck, QualityCheck
from visagedb._inputs import new_request_id
from visagedb._names import gallery_name
from visagedb._resources import Gallery, GalleryQuotas, GalleryStats
from visagedb._values import UNSET, ScoreFusion, Unset
from visagedb.v1 import galleries_pb2 as pb
from visagedb.v1.types_pb2 import ModelIdentity

_FUSIONS: Final[Mapping[ScoreFusion, pb.ScoreFusion.ValueType]] = {
    ScoreFusion.MAXIMUM: pb.SCORE_FUSION_MAXIMUM,
    ScoreFusion.MEAN_OF_BEST: pb.SCORE_FUSION_MEAN_OF_BEST,
    ScoreFusion.MEAN_VECTOR: pb.SCORE_FUSION_MEAN_VECTOR,
    ScoreFusion.QUALITY_WEIGHTED: pb.SCORE_FUSION_QUALITY_WEIGHTED,
    ScoreFusion.ADAPTIVE_MEAN: pb.SCORE_FUSION_ADAPTIVE_MEAN,
}


def create_gallery(
    gallery: str,
    *,
    display_name: str = "",
    model: str = "",
    dimension: int = 0,
    flip_averaging: bool | None = None,
    score_fusion: ScoreFusion | str | None = None,
    threshold: float | None = None,
    mate_loss_bound: float = 0.0,
    quality_check: QualityCheck | None = None,
    duplicate_check: IdentityCheck | None = None,
    mismatch_check: IdentityCheck | None = None,
    quotas: GalleryQuotas | None = None,
    timeout: float | None = None,
) -> Call[Gallery]:
    """Creates a gallery, whose model is pinned for ever.

    Args:
        gallery: Its id: 1 to 128 of ``a-z A-Z 0-9 . _ -``, not starting with a dot.
        display_name: For people.
        model: ``name`` or ``name@version``; empty for the server's default model. Any
            name will do for vectors that are made elsewhere.
        dimension: Length of the vectors, needed for a model that the server does not run.
        flip_averaging: Add the mirror image's embedding: fewer errors for twice the time.
            None leaves it to the server, which does so for its own models.
        score_fusion: How several faces of one identity make one score; None for the
            server's default.
        threshold: The gallery's own decision threshold, a cosine; None for the model's.
        mate_loss_bound: Of the mates that exact search finds, the compact scan may lose at
            most this fraction; 0 for the server's default, 0.001.
        quality_check: Whether a face is good enough to be enrolled; None does not ask.
        duplicate_check: Whether its person is enrolled under another id.
        mismatch_check: Whether it looks like the other faces of its identity.
        quotas: How large it may become; None for no limits.
        timeout: Seconds; None means the client's default.

    Raises:
        GalleryExistsError: There is one of this id already.
        ModelNotAvailableError: The server does not run the model and no dimension is given.
        NotCalibratedError: A check compares faces, and nothing tells when two are one person.
    """
    name, _, version = model.partition("@")
    message = pb.Gallery(
        display_name=display_name,
        model=ModelIdentity(name=name, version=version, dimension=dimension),
        embedding=(
            None if flip_averaging is None else pb.EmbeddingOptions(flip_averaging=flip_averaging)
        ),
        score_fusion=(
            pb.SCORE_FUSION_UNSPECIFIED
            if score_fusion is None
            else _fusion(ScoreFusion(score_fusion))
        ),
        threshold=threshold,
        mate_loss_bound=mate_loss_bound,
        enrolment_gate=_gate(
            quality=quality_check, duplicate=duplicate_check, mismatch=mismatch_check
        ),
        quotas=None if quotas is None else _quotas(quotas),
    )
    gallery_name(gallery)
    request = pb.CreateGalleryRequest(
        gallery_id=gallery, gallery=message, request_id=new_request_id()
    )
    return call(
        "GalleryService/CreateGallery",
        request,
        pb.CreateGalleryResponse,
        lambda answer: convert.gallery(answer.gallery),
        timeout,
    )


def get_gallery(gallery: str, *, timeout: float | None = None) -> Call[Gallery]:
    """A gallery with its present counts.

    Raises:
        GalleryNotFoundError: There is none of this id.
    """
    return call(
        "GalleryService/GetGallery",
        pb.GetGalleryRequest(name=gallery_name(gallery)),
        pb.GetGalleryResponse,
        lambda answer: convert.gallery(answer.gallery),
        timeout,
    )


def list_galleries(*, page_size: int = 0, timeout: float | None = None) -> Pages[Gallery]:
    """All galleries, read page by page while they are iterated over.

    Args:
        page_size: Galleries per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.
    """

    def page(token: str) -> Call[Page[Gallery]]:
        return call(
            "GalleryService/ListGalleries",
            pb.ListGalleriesRequest(page_size=page_size, page_token=token),
            pb.ListGalleriesResponse,
            lambda answer: Page(
                tuple(convert.gallery(g) for g in answer.galleries), answer.next_page_token
            ),
            timeout,
        )

    return Pages(page)


def update_gallery(
    gallery: str,
    *,
    display_name: str | Unset = UNSET,
    threshold: float | Unset | None = UNSET,
    score_fusion: ScoreFusion | str | Unset = UNSET,
    mate_loss_bound: float | Unset = UNSET,
    quality_check: QualityCheck | Unset = UNSET,
    duplicate_check: IdentityCheck | Unset = UNSET,
    mismatch_check: IdentityCheck | Unset = UNSET,
    quotas: GalleryQuotas | Unset = UNSET,
    etag: str = "",
    timeout: float | None = None,
) -> Call[Gallery]:
    """Changes the given fields of a gallery and leaves the others.

    Args:
        gallery: Its id.
        display_name: For people.
        threshold: The gallery's own decision threshold; None to go back to the model's.
        score_fusion: How several faces of one identity make one score.
        mate_loss_bound: Fraction of the mates that the compact scan may lose; 0 for the
            server's default.
        quality_check: Whether a face is good enough to be enrolled.
        duplicate_check: Whether its person is enrolled under another id.
        mismatch_check: Whether it looks like the other faces of its identity.
        quotas: How large it may become.
        etag: If given, the update happens only when the gallery still has this etag.
        timeout: Seconds; None means the client's default.

    Raises:
        EtagMismatchError: The gallery changed since it was read.
        GalleryNotFoundError: There is none of this id.
        NotCalibratedError: A check compares faces, and nothing tells when two are one person.
    """
    checks = {"quality": quality_check, "duplicate": duplicate_check, "mismatch": mismatch_check}
    asked = {key: check for key, check in checks.items() if not isinstance(check, Unset)}
    fields: dict[str, Any] = {
        "display_name": display_name,
        "threshold": threshold,
        "score_fusion": score_fusion
        if isinstance(score_fusion, Unset)
        else _fusion(ScoreFusion(score_fusion)),
        "mate_loss_bound": mate_loss_bound,
        "quotas": quotas if isinstance(quotas, Unset) else _quotas(quotas),
    }
    given = {key: value for key, value in fields.items() if value is not UNSET}
    request = pb.UpdateGalleryRequest(
        gallery=pb.Gallery(
            name=gallery_name(gallery), etag=etag, enrolment_gate=_gate(**asked), **given
        ),
        update_mask=FieldMask(paths=[*given, *(f"enrolment_gate.{key}" for key in asked)]),
    )
    return call(
        "GalleryService/UpdateGallery",
        request,
        pb.UpdateGalleryResponse,
        lambda answer: convert.gallery(answer.gallery),
        timeout,
    )


def _quotas(quotas: GalleryQuotas) -> pb.GalleryQuotas:
    return pb.GalleryQuotas(
        identities_max=quotas.identities_max,
        faces_max=quotas.faces_max,
        bytes_max=quotas.bytes_max,
    )


def _gate(**checks: QualityCheck | IdentityCheck | None) -> pb.EnrolmentGate | None:
    given = {key: check for key, check in checks.items() if check is not None}
    messages: dict[str, Any] = {
        key: convert_gate.quality_message(check)
        if isinstance(check, QualityCheck)
        else convert_gate.identity_message(check)
        for key, check in given.items()
    }
    return pb.EnrolmentGate(**messages) if messages else None


def _fusion(fusion: ScoreFusion) -> pb.ScoreFusion.ValueType:
    if fusion not in _FUSIONS:
        raise ValueError(f"{fusion.value!r} is what a newer server may say; it cannot be chosen")
    return _FUSIONS[fusion]


def delete_gallery(
    gallery: str,
    *,
    etag: str = "",
    missing_ok: bool = False,
    timeout: float | None = None,
) -> Call[Erasure | None]:
    """Deletes a gallery and every face in it, at once and for ever.

    Args:
        gallery: Its id.
        etag: If given, it is deleted only when it still has this etag.
        missing_ok: Succeed if there is no such gallery.
        timeout: Seconds; None means the client's default.

    Returns:
        The receipt; None if there was no such gallery.

    Raises:
        GalleryNotFoundError: There is none of this id.
    """
    request = pb.DeleteGalleryRequest(
        name=gallery_name(gallery), etag=etag, allow_missing=missing_ok
    )
    return call(
        "GalleryService/DeleteGallery",
        request,
        pb.DeleteGalleryResponse,
        lambda answer: erasures.erasure(answer.erasure) if answer.HasField("erasure") else None,
        timeout,
    )


def gallery_stats(gallery: str, *, timeout: float | None = None) -> Call[GalleryStats]:
    """Counts, sizes, and the state of the gallery's search structures.

    Raises:
        GalleryNotFoundError: There is none of this id.
    """
    return call(
        "GalleryService/GetGalleryStats",
        pb.GetGalleryStatsRequest(name=gallery_name(gallery)),
        pb.GetGalleryStatsResponse,
        lambda answer: convert.gallery_stats(answer.stats),
        timeout,
    )
