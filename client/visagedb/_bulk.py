"""Enrolment of many faces over one stream: what goes in, what comes out."""

import time
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from visagedb import _convert as convert
from visagedb._api.faces import enroll, enroll_loose
from visagedb._delivering import STALL_SECONDS, Shipment
from visagedb._errors import VisageError
from visagedb._inputs import ImageInput, VectorInput, selection_value
from visagedb._names import gallery_name
from visagedb._resources import Enrollment, LooseEnrollment
from visagedb._translate import error_from_status
from visagedb._values import EnrollMode, EnrollOutcome, FaceSelection
from visagedb.v1 import identities_pb2 as pb

DEFAULT_CONCURRENCY: Final = 48
DEFAULT_PATIENCE_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True, eq=False)
class EnrollItem:
    """One face to enrol.

    Attributes:
        identity: Id of the identity; created if there is none. Empty enrols every face of
            the image without an identity, as `enroll_loose` does.
        image: Encoded bytes, or a path, which is read when its turn comes. Give this or
            `vector`.
        vector: Shape (dimension,).
        display_name: Of an identity that this item creates.
        labels: Of an identity that this item creates.
        source: The caller's own reference of the face, for example a file name.
        face_id: The caller's own id for the face; empty, and the server makes one.
        key: Anything by which the caller knows the item again; not sent.
    """

    identity: str
    image: ImageInput | None = None
    vector: VectorInput | None = None
    display_name: str = ""
    labels: Mapping[str, str] | None = None
    source: str = ""
    face_id: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class EnrollResult:
    """What became of one item: an enrolment or an error, never both.

    Attributes:
        item: The item.
        enrollment: The answer; None if it failed, and for a loose enrolment.
        loose: The answer to a loose enrolment; else None.
        error: Why it failed: a `VisageError`, or an `OSError` for an unreadable file.
    """

    item: EnrollItem
    enrollment: Enrollment | None
    error: Exception | None
    loose: LooseEnrollment | None = None

    @property
    def ok(self) -> bool:
        """Whether the face is enrolled."""
        return self.error is None

    @property
    def outcome(self) -> str:
        """``enrolled``, ``already_enrolled``, or the error's reason such as ``NO_FACE``.

        A loose enrolment of an image without faces is no error, and has the outcome ``no_face``.
        """
        if self.loose is not None and not self.loose.faces:
            return "no_face"
        answer = self.enrollment or self.loose
        if answer is not None:
            return str(answer.outcome)
        if isinstance(self.error, VisageError):
            return self.error.reason or self.error.code
        return "UNREADABLE_FILE" if isinstance(self.error, OSError) else "INVALID_ITEM"


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """How far a bulk enrolment has come.

    Attributes:
        done: Items that have an outcome, failed ones included.
        failed: Items that ended in an error.
        already_enrolled: Items whose content was there before.
        skipped: Items whose identity was there before, and was left alone.
        elapsed_seconds: Time since the start.
    """

    done: int = 0
    failed: int = 0
    already_enrolled: int = 0
    skipped: int = 0
    elapsed_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Items per second so far."""
        return self.done / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0


ProgressCallback = Callable[[BulkProgress], None]
WaitingCallback = Callable[[VisageError], None]


class Tally:
    """Counts outcomes and reports them."""

    def __init__(self, progress: ProgressCallback | None) -> None:
        self._progress = progress
        self._started = time.monotonic()
        self._state = BulkProgress()

    def add(self, outcomes: Iterable[EnrollOutcome | None]) -> None:
        """Counts some items; None stands for an error."""
        state, counted = self._state, list(outcomes)
        self._state = BulkProgress(
            done=state.done + len(counted),
            failed=state.failed + counted.count(None),
            already_enrolled=state.already_enrolled + counted.count(EnrollOutcome.ALREADY_ENROLLED),
            skipped=state.skipped + counted.count(EnrollOutcome.SKIPPED),
            elapsed_seconds=time.monotonic() - self._started,
        )
        if self._progress is not None:
            self._progress(self._state)


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """What all items of one bulk enrolment share; see `Client.enroll_many`."""

    gallery: str
    model: str = ""
    face_selection: FaceSelection | str | None = None
    create: bool = True
    mode: EnrollMode | str = EnrollMode.INSERT

    def __post_init__(self) -> None:
        """What is wrong for all items is reported at once, not once for each."""
        gallery_name(self.gallery)
        selection_value(self.face_selection)
        EnrollMode(self.mode)

    def request(self, item: EnrollItem) -> pb.StreamEnrollFacesRequest:
        """What is sent for an item. Its request_id stays, so every repeat of it is safe."""
        if not item.identity:
            loose = enroll_loose(
                self.gallery,
                image=item.image,
                vector=item.vector,
                model=self.model,
                source=item.source,
                bulk=True,
            )
            return pb.StreamEnrollFacesRequest(
                loose=cast("pb.EnrollLooseFacesRequest", loose.request)
            )
        one = enroll(
            self.gallery,
            item.identity,
            image=item.image,
            vector=item.vector,
            model=self.model,
            face_selection=self.face_selection,
            create=self.create,
            display_name=item.display_name,
            labels=item.labels,
            source=item.source,
            face_id=item.face_id,
            mode=self.mode,
            bulk=True,
        )
        return pb.StreamEnrollFacesRequest(request=cast("pb.EnrollFaceRequest", one.request))


def items_shipment(
    options: BulkOptions,
    items: Iterable[EnrollItem] | AsyncIterable[EnrollItem],
    concurrency: int,
    patience: float,
    timeout: float | None,
    progress: ProgressCallback | None,
    waiting: WaitingCallback | None = None,
) -> Shipment[EnrollResult]:
    """What is sent for single items, and how their answers are read.

    Raises:
        ValueError: No item could be in flight.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")
    tally = Tally(progress)

    def result(item: EnrollItem, answer: Any) -> EnrollResult:
        made = _result(item, answer)
        given = made.enrollment or made.loose
        tally.add([given.outcome if given else None])
        return made

    stall = STALL_SECONDS if timeout is None else timeout
    return Shipment(items, options.request, result, concurrency, patience, stall, waiting)


def _result(item: EnrollItem, answer: pb.StreamEnrollFacesResponse | Exception) -> EnrollResult:
    if isinstance(answer, Exception):
        return EnrollResult(item, None, answer)
    match answer.WhichOneof("result"):
        case "response":
            return EnrollResult(item, convert.enrollment(answer.response), None)
        case "loose":
            return EnrollResult(item, None, None, convert.loose_enrollment(answer.loose))
        case _:
            return EnrollResult(item, None, error_from_status(answer.error))
