"""Methods about erasing people for good."""

from datetime import datetime

from visagedb import _convert as convert
from visagedb import _convert_erasures as convert_erasures
from visagedb._call import Call, Page, Pages, Started, call
from visagedb._erasures import Compaction, Erasure, Retention, ServerClock
from visagedb._inputs import new_request_id, resource, timestamp
from visagedb._names import gallery_name
from visagedb._values import ErasureState
from visagedb.v1 import erasures_pb2 as pb


def compact_gallery(
    gallery: str, *, overwrite: bool = False, timeout: float | None = None
) -> Started[Compaction]:
    """Starts to copy a gallery's database so that nothing is left of what was deleted.

    Reads and writes go on. Gives space back to the file system; for a while it takes as much
    again.

    Args:
        gallery: Id of the gallery.
        overwrite: Write zeros over the old file before it is removed. A copy-on-write file
            system or a solid-state disk may keep the old blocks nevertheless.
        timeout: Seconds to start it; None means the client's default.

    Returns:
        A handle on the operation, whose result is a `Compaction`.
    """
    request = pb.CompactGalleryRequest(
        name=gallery_name(gallery), overwrite=overwrite, request_id=new_request_id()
    )
    return Started(
        call(
            "ErasureService/CompactGallery",
            request,
            pb.CompactGalleryResponse,
            lambda answer: convert.operation_status(answer.operation),
            timeout,
        )
    )


def get_erasure(erasure: Erasure | str, *, timeout: float | None = None) -> Call[Erasure]:
    """The receipt of an erasure as it is now.

    Args:
        erasure: The receipt, or its resource name.
        timeout: Seconds; None means the client's default.

    Raises:
        NotFoundError: There is none of this name, or it is forgotten.
    """
    return call(
        "ErasureService/GetErasure",
        pb.GetErasureRequest(name=resource(erasure, [Erasure])),
        pb.GetErasureResponse,
        lambda answer: convert_erasures.erasure(answer.erasure),
        timeout,
    )


def list_erasures(
    gallery: str,
    *,
    state: ErasureState | str | None = None,
    page_size: int = 0,
    timeout: float | None = None,
) -> Pages[Erasure]:
    """The receipts of a gallery, newest first; also of one that was itself deleted.

    Args:
        gallery: Id of the gallery.
        state: Only those in this state; None for all.
        page_size: Receipts per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.
    """
    number = pb.ERASURE_STATE_UNSPECIFIED
    if state is not None:
        number = convert_erasures.STATE_NUMBERS[ErasureState(state)]

    def page(token: str) -> Call[Page[Erasure]]:
        return call(
            "ErasureService/ListErasures",
            pb.ListErasuresRequest(
                parent=gallery_name(gallery), page_size=page_size, page_token=token, state=number
            ),
            pb.ListErasuresResponse,
            lambda answer: Page(
                tuple(convert_erasures.erasure(one) for one in answer.erasures),
                answer.next_page_token,
            ),
            timeout,
        )

    return Pages(page)


def get_retention(gallery: str, *, timeout: float | None = None) -> Call[Retention]:
    """How far the erasing of a gallery is, and whether the server believes its clock.

    Raises:
        GalleryNotFoundError: There is none of this id.
    """
    return call(
        "ErasureService/GetRetention",
        pb.GetRetentionRequest(name=gallery_name(gallery)),
        pb.GetRetentionResponse,
        lambda answer: convert_erasures.retention(answer.retention),
        timeout,
    )


def confirm_clock(time: datetime, *, timeout: float | None = None) -> Call[ServerClock]:
    """Makes the server believe its clock again, after it has jumped.

    Args:
        time: What the server's clock shows, as `get_retention` says; naive means UTC.
        timeout: Seconds; None means the client's default.

    Raises:
        InvalidArgumentError: It shows another time.
    """
    return call(
        "ErasureService/ConfirmClock",
        pb.ConfirmClockRequest(time=timestamp(time)),
        pb.ConfirmClockResponse,
        lambda answer: convert_erasures.clock(answer.clock),
        timeout,
    )
