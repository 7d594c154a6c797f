"""Small frozen values that more than one room of the indexer speaks of."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float32]
"""A template of shape (dimension,) and unit length, or a batch of shape (n, dimension)."""


STAGES: Final = ("decode", "detect", "align", "quality", "embed")
"""Of the way from an image to its vectors."""


class Fusion(StrEnum):
    """How several faces of one identity make one score; always a cosine of the probe."""

    MAXIMUM = "maximum"
    """To the best face."""
    MEAN_OF_BEST = "mean_of_best"
    """The mean of the cosines to the best two faces."""
    MEAN_VECTOR = "mean_vector"
    """To the mean of the faces."""
    QUALITY_WEIGHTED = "quality_weighted"
    """To the mean of the faces, in which better ones count more."""
    ADAPTIVE_MEAN = "adaptive_mean"
    """To the mean of the faces, in which those count more that resemble the probe more."""


class FindingKind(StrEnum):
    """What an audit of a gallery's labels may find."""

    DUPLICATE_IDENTITIES = "duplicate_identities"
    """Two identities, one person."""
    MISLABELLED_FACE = "mislabelled_face"
    """One identity, two persons: a face that does not belong to the others."""
    HUB_FACE = "hub_face"
    """A face that is near to too many identities."""


class SourceFormat(StrEnum):
    """What an import reads."""

    FOLDER = "folder"
    """A folder of images."""
    TAR = "tar"
    """A tar of images, with what is said of each beside it."""
    PARQUET = "parquet"
    """Vectors with what belongs to them; also what an export writes."""
    NPZ = "npz"
    """NumPy arrays of vectors and of what belongs to them."""


class ImportState(StrEnum):
    """How an import stands."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    """The source was read to its end."""
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Point:
    """A position in pixels of the upright image: x to the right, y down, centre of pixel at .0."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Quotas:
    """How large a gallery may become; 0 for no limit."""

    identities_max: int = 0
    faces_max: int = 0
    bytes_max: int = 0


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels of the upright image; it may reach past the image's edge."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Landmarks:
    """Five points of a face, named as seen in the image from the left."""

    left_eye: Point
    right_eye: Point
    nose: Point
    left_mouth: Point
    right_mouth: Point


@dataclass(frozen=True, slots=True)
class Quality:
    """How fit a face is for recognition.

    Attributes:
        score: All factors together, 0 (useless) to 1 (excellent).
        size: From the distance between the eyes, 0 to 1.
        sharpness: From the strength of fine detail in the aligned face, 0 to 1.
        pose: From the landmarks, 1 when frontal, 0 in profile.
        exposure: 1 when well lit, 0 when black, burnt out, or without contrast.
        detection: The detector's own confidence, 0 to 1.
        reasons: What keeps the score down, as stable words such as TOO_SMALL, BLURRED,
            TURNED_AWAY, TOO_DARK, TOO_BRIGHT, LOW_CONTRAST, LOW_DETECTION_SCORE.
    """

    score: float
    size: float
    sharpness: float
    pose: float
    exposure: float
    detection: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class ExtractedFace:
    """One face found in an image.

    Attributes:
        box: Where it is.
        landmarks: Its five points.
        detection_score: The detector's confidence, 0 to 1.
        quality: How fit it is for recognition.
        vector: Its template, shape (dimension,), unit length, already centred as the
            model card says; None when only detection was asked for.
    """

    box: Box
    landmarks: Landmarks
    detection_score: float
    quality: Quality
    vector: Vector | None = None


@dataclass(frozen=True, slots=True)
class Extraction:
    """All faces of one image, largest box first.

    Attributes:
        width: Width of the upright image in pixels.
        height: Height of the upright image in pixels.
        faces: The faces found; empty when there is none.
    """

    width: int
    height: int
    faces: tuple[ExtractedFace, ...]


class ErasureKind(StrEnum):
    """What was erased."""

    IDENTITY = "identity"
    FACE = "face"
    GALLERY = "gallery"


class ErasureCause(StrEnum):
    """Why it was erased."""

    REQUEST = "request"
    EXPIRY = "expiry"
    """Its time was over."""


class FaceScope(StrEnum):
    """Which faces of a gallery are meant: those of identities, the loose ones, or all."""

    IDENTITIES = "identities"
    LOOSE = "loose"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which network made a vector; two vectors compare only when all of this agrees.

    Attributes:
        name: For example ``sface``.
        version: Of the card: weights, preprocessing and centring together.
        dimension: Length of the vectors.
        sha256: Digest of the weights in hexadecimal; empty for vectors from elsewhere.
        precision: ``float32`` or ``bfloat16``; empty for vectors from elsewhere.
    """

    name: str
    version: str
    dimension: int
    sha256: str = ""
    precision: str = ""
