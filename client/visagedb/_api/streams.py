"""Methods that search for many probes over one stream."""

from collections.abc import AsyncIterable, Iterable
from typing import Any, Final, TypeAlias

from visagedb import _convert as convert
from visagedb._answers import ProbeResult
from visagedb._call import Stream
from visagedb._inputs import ProbeInput, any_probe_message, operating_point, selection_value
from visagedb._names import gallery_name
from visagedb._translate import error_from_status
from visagedb._values import FaceSelection
from visagedb.v1 import search_pb2 as pb

IN_FLIGHT_DEFAULT: Final = 32
"""As many as a server works on at once."""

ProbeItem: TypeAlias = ProbeInput | tuple[str, ProbeInput]
"""A probe, or the caller's id for it and the probe."""


def stream_identify(
    gallery: str,
    probes: Iterable[ProbeItem] | AsyncIterable[ProbeItem],
    *,
    top_k: int = 0,
    filter: str = "",  # noqa: A002 (the API's own word)
    min_score: float | None = None,
    threshold: float | None = None,
    max_false_positive_rate: float | None = None,
    exact: bool = False,
    face_selection: FaceSelection | str | None = None,
    in_flight: int = IN_FLIGHT_DEFAULT,
    timeout: float | None = None,
) -> Stream[ProbeResult]:
    """Who are these? Searches a gallery for many probes and yields a result for each.

    Results come as soon as they are there, in any order. A probe that fails has an error for
    its result and does not stop the others. Probes that are under way together share the work
    of the search, so a stream is faster than single calls one after another.

    Args:
        gallery: Id of the gallery.
        probes: Images (bytes or paths), vectors such as the rows of an array, enrolled
            faces; or pairs of an id and one of these. They are taken, and files read, only
            when it is their turn, by the blocking client in a thread of its own; so a
            generator that never ends is fine. The asyncio client takes asynchronous
            iterables too.
        top_k: How many distinct identities to return, 1 to 1,000; 0 for the server's 10.
        filter: Only identities whose labels pass.
        min_score: Only candidates with at least this cosine.
        threshold: Decide at this cosine instead of the gallery's own threshold.
        max_false_positive_rate: Decide at the threshold of this false positive
            identification rate; needs a calibrated gallery.
        exact: Compare with every stored vector, whatever the search structures say.
        face_selection: Which faces of each image; all of them by default.
        in_flight: How many probes may be without a result that was taken; bounds the memory.
        timeout: Seconds for the whole stream; None for no limit.

    Raises:
        OverloadedError: The server serves as many streams as it may.
        ServerUnreachableError: The server cannot be reached, or went away.
        DeadlineExceededError: The timeout passed before the last result.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight must be at least 1, not {in_flight}")
    selection_value(face_selection)
    shared = pb.IdentifyRequest(
        gallery=gallery_name(gallery),
        top_k=top_k,
        filter=filter,
        min_score=min_score,
        operating_point=operating_point(threshold, max_false_positive_rate),
        exact=exact,
    )

    def request(wire_id: str, item: ProbeItem) -> pb.StreamIdentifyRequest:
        message = pb.StreamIdentifyRequest(item_id=wire_id, request=shared)
        message.request.probe.CopyFrom(any_probe_message(_divided(item)[1], face_selection))
        return message

    return Stream(
        "/visagedb.v1.SearchService/StreamIdentify",
        probes,
        request,
        pb.StreamIdentifyResponse,
        _result,
        in_flight,
        timeout,
    )


def _result(
    item: ProbeItem, place: int, answer: pb.StreamIdentifyResponse | Exception
) -> ProbeResult:
    given, _ = _divided(item)
    item_id = str(place) if given is None else given
    if isinstance(answer, Exception):
        return ProbeResult(item_id, place, None, answer)
    if answer.HasField("error"):
        return ProbeResult(item_id, place, None, error_from_status(answer.error))
    return ProbeResult(item_id, place, convert.identify_result(answer.response), None)


def _divided(item: Any) -> tuple[str | None, ProbeInput]:
    """The caller's id, if there is one, and the probe."""
    # A tuple of numbers is a vector.
    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
        return item
    return None, item
