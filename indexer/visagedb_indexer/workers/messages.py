"""What goes over the socket between the pool and its children.

MessagePack of a fixed form, never pickle: an image that takes over a child may send whatever it
likes, and must not get further than this module. What a child says is checked here as if an
enemy had said it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeVar

import msgspec
import numpy as np

from visagedb_indexer import limits
from visagedb_indexer.choice import Choice
from visagedb_indexer.errors import (
    ImageCrashedWorkerError,
    ImageError,
    IndexerError,
    ModelError,
    ModelNotAvailableError,
)
from visagedb_indexer.gate_values import QUALITY_REASONS
from visagedb_indexer.values import (
    STAGES,
    Box,
    ExtractedFace,
    Extraction,
    Landmarks,
    Quality,
)

MEMORY_STATUS: Final = 77
"""With which a child ends that has come up against its memory limit."""
_TEXT_LENGTH_MAX: Final = 2000
_METADATA_ENTRIES_MAX: Final = 16
_SIDE_PIXELS_MAX: Final = 1e6
"""Of a box: it may reach past the image."""


class BadMessageError(Exception):
    """A child has sent something that no child of ours sends."""


class WorkerSettings(msgspec.Struct, frozen=True):
    """How a child sets itself up.

    Attributes:
        card_paths: Model cards, or folders of them.
        precision: Of the embedders.
        device: A torch device.
        threads: That torch may use.
        niceness: Added to the process's nice value.
        memory_bytes: That the process may have; 0 for no limit.
    """

    card_paths: tuple[str, ...]
    precision: str
    device: str
    threads: int
    niceness: int
    memory_bytes: int = 0


class Batch(msgspec.Struct, frozen=True):
    """Images to work on together.

    Attributes:
        number: Counts the batches of a child.
        urgent: Goes before batches that are not, and have not begun.
        model: Name of the embedder.
        flip: Average with the mirror image.
        embed: Make vectors, or only detect.
        choice: Which faces get a vector.
        images: Encoded files.
    """

    number: int
    urgent: bool
    model: str
    flip: bool
    embed: bool
    choice: Choice
    images: tuple[bytes, ...]


class Refusal(msgspec.Struct, frozen=True):
    """An error, by the word that it has on the wire."""

    reason: str
    message: str
    metadata: dict[str, str] = {}

    @classmethod
    def of(cls, error: IndexerError) -> "Refusal":
        """What is sent for an error."""
        metadata = {key: value[:_TEXT_LENGTH_MAX] for key, value in error.metadata.items()}
        return cls(error.reason, error.message[:_TEXT_LENGTH_MAX], metadata)


class SentFace(msgspec.Struct, frozen=True):
    """A face; its vector as little-endian float32 bytes, None without one."""

    box: Box
    landmarks: Landmarks
    detection_score: float
    quality: Quality
    vector: bytes | None


class Outcome(msgspec.Struct, frozen=True):
    """Of one image: its size and faces, or a refusal."""

    width: int = 0
    height: int = 0
    faces: tuple[SentFace, ...] = ()
    refusal: Refusal | None = None


class Started(msgspec.Struct, frozen=True, tag=True):
    """The child is ready, or says why it never will be."""

    refusal: Refusal | None = None


class Began(msgspec.Struct, frozen=True, tag=True):
    """The child has begun a batch."""

    number: int


class Answered(msgspec.Struct, frozen=True, tag=True):
    """One outcome per image of a batch, and the seconds spent per stage."""

    number: int
    outcomes: tuple[Outcome, ...]
    seconds: dict[str, float]


Message = Started | Began | Answered
"""What a child says."""

Form = TypeVar("Form")


class _Codec(Generic[Form]):
    def __init__(self, form: Any) -> None:
        self._decoder = msgspec.msgpack.Decoder(form)

    def read(self, data: bytes) -> Form:
        try:
            found: Form = self._decoder.decode(data)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise BadMessageError(f"the message cannot be read: {error}") from error
        return found


_ENCODER: Final = msgspec.msgpack.Encoder()
_MESSAGES: Final[_Codec[Message]] = _Codec(Message)
_BATCHES: Final[_Codec[Batch]] = _Codec(Batch)
_SETTINGS: Final[_Codec[WorkerSettings]] = _Codec(WorkerSettings)


def packed(message: Message | Batch | WorkerSettings) -> bytes:
    """A message as bytes."""
    return _ENCODER.encode(message)


def read_settings(data: bytes) -> WorkerSettings:
    """How the child is to set itself up."""
    return _SETTINGS.read(data)


def read_batch(data: bytes) -> Batch:
    """What the child is to do."""
    return _BATCHES.read(data)


def read_message(data: bytes) -> Message:
    """What a child says.

    Raises:
        BadMessageError: It is no message.
    """
    return _MESSAGES.read(data)


def sent(outcome: Extraction | IndexerError) -> Outcome:
    """The outcome of an image as a child sends it."""
    if isinstance(outcome, IndexerError):
        return Outcome(refusal=Refusal.of(outcome))
    faces = tuple(
        SentFace(
            face.box,
            face.landmarks,
            face.detection_score,
            face.quality,
            None if face.vector is None else face.vector.astype("<f4").tobytes(),
        )
        for face in outcome.faces
    )
    return Outcome(outcome.width, outcome.height, faces)


def received(outcomes: Sequence[Outcome], count: int) -> list[Extraction | IndexerError]:
    """The outcomes of a batch of so many images, checked.

    Raises:
        BadMessageError: They are not what a child of ours sends.
    """
    if len(outcomes) != count:
        raise BadMessageError(f"{len(outcomes)} outcomes for {count} images")
    return [
        _extraction(one) if one.refusal is None else received_error(one.refusal) for one in outcomes
    ]


def received_seconds(seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds by stage, without what is none."""
    return {
        stage: spent
        for stage in STAGES
        if 0.0 <= (spent := seconds.get(stage, 0.0)) <= limits.WORKER_BATCH_SECONDS_MAX * 10
    }


def received_error(refusal: Refusal) -> IndexerError:
    """An error that a child may raise; any other is the image's."""
    if (
        len(refusal.metadata) > _METADATA_ENTRIES_MAX
        or max(map(len, _texts(refusal)), default=0) > _TEXT_LENGTH_MAX
    ):
        raise BadMessageError("an error has too much to say")
    kind = _ERRORS.get(refusal.reason, ImageCrashedWorkerError)
    return kind(refusal.message, refusal.metadata)


def _texts(refusal: Refusal) -> Iterator[str]:
    yield refusal.message
    for key, value in refusal.metadata.items():
        yield from (key, value)


def _extraction(outcome: Outcome) -> Extraction:
    sides = (outcome.width, outcome.height)
    if not all(0 < side <= limits.IMAGE_SIDE_PIXELS_MAX for side in sides):
        raise BadMessageError(f"an image of {sides} pixels")
    if len(outcome.faces) > limits.FACES_PER_IMAGE_MAX:
        raise BadMessageError(f"{len(outcome.faces)} faces in one image")
    return Extraction(*sides, tuple(map(_face, outcome.faces)))


def _face(face: SentFace) -> ExtractedFace:
    quality = face.quality
    shares = (
        face.detection_score, quality.score, quality.size, quality.sharpness, quality.pose,
        quality.exposure, quality.detection,
    )  # fmt: skip
    if not all(0.0 <= share <= 1.0 for share in shares):
        raise BadMessageError("a quality out of range")
    if not set(quality.reasons) <= set(QUALITY_REASONS):
        raise BadMessageError("an unknown reason of a quality")
    _check_places(_places(face))
    vector = None
    if face.vector is not None:
        if not 0 < len(face.vector) <= 4 * limits.VECTOR_DIMENSION_MAX or len(face.vector) % 4:
            raise BadMessageError(f"a vector of {len(face.vector)} bytes")
        vector = np.frombuffer(face.vector, dtype="<f4").astype(np.float32)
        if not np.all(np.isfinite(vector)):
            raise BadMessageError("a vector with NaN or infinity")
    return ExtractedFace(face.box, face.landmarks, face.detection_score, quality, vector)


def _places(face: SentFace) -> Iterator[float]:
    box, points = face.box, face.landmarks
    yield from (box.x, box.y, box.width, box.height)
    for point in (
        points.left_eye, points.right_eye, points.nose, points.left_mouth, points.right_mouth,
    ):  # fmt: skip
        yield from (point.x, point.y)


def _check_places(places: Iterable[float]) -> None:
    if not all(math.isfinite(place) and abs(place) <= _SIDE_PIXELS_MAX for place in places):
        raise BadMessageError("a face that is nowhere")


def _tree(*roots: type[IndexerError]) -> Iterator[type[IndexerError]]:
    for root in roots:
        yield root
        yield from _tree(*root.__subclasses__())


_ERRORS: Final = {
    kind.reason: kind for kind in _tree(ImageError, ModelError, ModelNotAvailableError)
}
"""Errors that a child may send."""
