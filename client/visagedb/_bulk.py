"""Enrolment of many faces: what goes in, what comes out, and when to try again."""

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

from visagedb._api.faces import enroll, enroll_loose
from visagedb._call import Call
from visagedb._errors import (
    OverloadedError,
    ResourceExhaustedError,
    UnavailableError,
    VisageError,
)
from visagedb._inputs import ImageInput, VectorInput, new_request_id, selection_value
from visagedb._names import gallery_name
from visagedb._resources import Enrollment, LooseEnrollment
from visagedb._values import EnrollOutcome, FaceSelection

DEFAULT_CONCURRENCY: Final = 48
DEFAULT_PATIENCE_SECONDS: Final = 120.0
BULK_TIMEOUT_SECONDS: Final = 120.0
"""An item may wait behind interactive requests, so it gets longer than they do."""
BACKOFF_SECONDS_MIN: Final = 0.05
BACKOFF_SECONDS_MAX: Final = 2.0


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


Answer: TypeAlias = Enrollment | LooseEnrollment


def result_of(item: EnrollItem, answer: Answer) -> EnrollResult:
    """The result of an item that went well."""
    if isinstance(answer, LooseEnrollment):
        return EnrollResult(item, None, None, answer)
    return EnrollResult(item, answer, None)


@dataclass(frozen=True, slots=True)
class BulkProgress:
    """How far a bulk enrolment has come.

    Attributes:
        done: Items that have an outcome, failed ones included.
        failed: Items that ended in an error.
        already_enrolled: Items whose content was there before.
        elapsed_seconds: Time since the start.
    """

    done: int = 0
    failed: int = 0
    already_enrolled: int = 0
    elapsed_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Items per second so far."""
        return self.done / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0


ProgressCallback = Callable[[BulkProgress], None]


@dataclass(frozen=True, slots=True)
class BulkOptions:
    """What all items of one bulk enrolment share."""

    gallery: str
    model: str = ""
    face_selection: FaceSelection | str | None = None
    create: bool = True
    patience: float = DEFAULT_PATIENCE_SECONDS
    timeout: float | None = None

    def __post_init__(self) -> None:
        """What is wrong for all items is reported at once, not once for each."""
        gallery_name(self.gallery)
        selection_value(self.face_selection)

    def call(self, item: EnrollItem) -> Call[Answer]:
        """The call for one item. Its request_id stays, so every repeat of it is safe."""
        if not item.identity:
            return enroll_loose(
                self.gallery,
                image=item.image,
                vector=item.vector,
                model=self.model,
                source=item.source,
                bulk=True,
                request_id=new_request_id(),
                timeout=self.timeout or BULK_TIMEOUT_SECONDS,
            )
        return enroll(
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
            bulk=True,
            request_id=new_request_id(),
            timeout=self.timeout or BULK_TIMEOUT_SECONDS,
        )


class Tally:
    """Counts outcomes and reports them."""

    def __init__(self, progress: ProgressCallback | None) -> None:
        self._progress = progress
        self._started = time.monotonic()
        self._state = BulkProgress()

    def add(self, result: EnrollResult) -> EnrollResult:
        """Counts a result and passes it on."""
        state = self._state
        answer = result.enrollment or result.loose
        repeated = answer is not None and answer.outcome is EnrollOutcome.ALREADY_ENROLLED
        self._state = BulkProgress(
            done=state.done + 1,
            failed=state.failed + (not result.ok),
            already_enrolled=state.already_enrolled + repeated,
            elapsed_seconds=time.monotonic() - self._started,
        )
        if self._progress is not None:
            self._progress(self._state)
        return result


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, (OverloadedError, UnavailableError)):
        return True
    # gRPC's own flow limits have no reason of ours. A message over the size limit has the
    # same status, and never gets smaller by waiting.
    return type(error) is ResourceExhaustedError and "larger than max" not in error.message


def backoff_delays(patience: float) -> Iterator[float]:
    """Growing pauses with jitter, in seconds, that together last about `patience`."""
    waited, ceiling = 0.0, BACKOFF_SECONDS_MIN
    while waited < patience:
        # Jitter keeps many clients from coming back all at the same moment.
        delay = ceiling * random.uniform(0.5, 1.0)  # noqa: S311
        yield delay
        waited += delay
        ceiling = min(ceiling * 2, BACKOFF_SECONDS_MAX)


def check_concurrency(concurrency: int) -> None:
    """Makes sure that at least one item can be in flight.

    Raises:
        ValueError: Fewer than one.
    """
    if concurrency < 1:
        raise ValueError(f"concurrency must be at least 1, not {concurrency}")
