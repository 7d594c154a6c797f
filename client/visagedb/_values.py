"""Small frozen values that the client's answers are made of.

Positions are in pixels of the upright image: x to the right, y down. Scores are cosine
similarities from -1 to 1, higher is closer.
"""

from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vector: TypeAlias = NDArray[np.float32]
"""A template of shape (dimension,)."""


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "unset"

    def __repr__(self) -> str:
        return "UNSET"


UNSET = Unset.UNSET
"""Leaves a field of an update as it is; None clears it."""


class FaceSelection(StrEnum):
    """Which face of an image is meant."""

    ONLY = "only"
    """The image must show exactly one face."""
    LARGEST = "largest"
    CENTRAL = "central"
    """The face nearest to the middle of the image."""
    ALL = "all"
    """Every face; for identification and embedding."""


class FaceScope(StrEnum):
    """Which faces of a gallery are meant."""

    IDENTITIES = "identities"
    """Faces of identities."""
    LOOSE = "loose"
    """Faces enrolled without an identity."""
    ALL = "all"


class Role(StrEnum):
    """What an API key is for."""

    READER = "reader"
    """Searches, and reads what is stored, but for templates."""
    ENROLLER = "enroller"
    """Also changes the people of a gallery."""
    ADMIN = "admin"
    """Everything."""
    AUDITOR = "auditor"
    """Reads the audit log and the list of keys, and no face."""
    UNKNOWN = "unknown"
    """What a newer server may say; it cannot be given."""


class Decision(StrEnum):
    """On which side of the threshold the best score lies."""

    MATCH = "match"
    NO_MATCH = "no_match"
    UNKNOWN = "unknown"


class ThresholdSource(StrEnum):
    """Where the threshold of a decision comes from."""

    REQUEST = "request"
    GALLERY = "gallery"
    MODEL = "model"
    """The model card's default."""
    CALIBRATION = "calibration"
    UNKNOWN = "unknown"


class ScoreFusion(StrEnum):
    """How several faces of one identity make one score."""

    MAXIMUM = "maximum"
    """The best face counts."""
    MEAN_OF_BEST = "mean_of_best"
    """The mean of the scores of the best two faces."""
    MEAN_VECTOR = "mean_vector"
    """The score of the mean of the faces."""
    QUALITY_WEIGHTED = "quality_weighted"
    """The same, with better faces counting more."""
    ADAPTIVE_MEAN = "adaptive_mean"
    """The same, with those faces counting more that resemble the probe more."""
    UNKNOWN = "unknown"


class InvariantKind(StrEnum):
    """What can be done about an invariant that does not hold."""

    DERIVED = "derived"
    """A repair makes it anew from what is primary."""
    PRIMARY = "primary"
    """Nothing else holds it: restore a backup, or drop what is damaged."""
    UNKNOWN = "unknown"


class GalleryState(StrEnum):
    """Whether a gallery can be used."""

    ACTIVE = "active"
    DAMAGED = "damaged"
    """Its database cannot be opened: repair it, restore a backup, or delete it."""
    UNKNOWN = "unknown"


class FindingKind(StrEnum):
    """What an audit of a gallery's labels may find."""

    DUPLICATE_IDENTITIES = "duplicate_identities"
    """Two identities, one person."""
    MISLABELLED_FACE = "mislabelled_face"
    """One identity, two persons: a face that does not belong to the others."""
    HUB_FACE = "hub_face"
    """A face that is near to too many identities."""
    UNKNOWN = "unknown"


class ErasureState(StrEnum):
    """How far an erasure is."""

    PENDING = "pending"
    """Deleted; bytes of it may still be in the data directory."""
    COMPLETE = "complete"
    """No byte of its templates is left there."""
    UNKNOWN = "unknown"


class ErasureKind(StrEnum):
    """What was erased."""

    IDENTITY = "identity"
    FACE = "face"
    GALLERY = "gallery"
    UNKNOWN = "unknown"


class ErasureCause(StrEnum):
    """Why something was erased."""

    REQUEST = "request"
    EXPIRY = "expiry"
    UNKNOWN = "unknown"


class SearchState(StrEnum):
    """How a gallery is searched at present."""

    EXACT = "exact"
    """Every search compares with every stored vector."""
    BUILDING = "building"
    """The compact codes are being built; searches are exact until they are ready."""
    COMPACT = "compact"
    """Compact scan with exact rescoring."""
    UNKNOWN = "unknown"


class EnrollMode(StrEnum):
    """What an enrolment does with what is there already."""

    INSERT = "insert"
    """Adds the face; one of the same face id, made from something else, refuses it."""
    UPSERT = "upsert"
    """Adds the face, or puts it in the place of the one of the same face id. What is said of
    the identity replaces what was known of it; what is not said stays."""
    SKIP_EXISTING = "skip_existing"
    """Adds the face only if its identity is new; one that exists is left as it is."""


class EnrollOutcome(StrEnum):
    """What an enrolment changed."""

    ENROLLED = "enrolled"
    ALREADY_ENROLLED = "already_enrolled"
    """The same content was enrolled for this identity before; nothing changed."""
    REPLACED = "replaced"
    """It has taken the place of the face of the same id."""
    SKIPPED = "skipped"
    """Its identity was there already and was left as it is."""
    QUARANTINED = "quarantined"
    """A check of the gallery has set the face aside."""
    UNKNOWN = "unknown"


class HealthStatus(StrEnum):
    """What the server says of itself."""

    SERVING = "serving"
    NOT_SERVING = "not_serving"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Point:
    """A position in pixels."""

    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in pixels; it may reach past the image's edge."""

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

    @property
    def points(self) -> tuple[Point, Point, Point, Point, Point]:
        """All five, eyes first."""
        return (self.left_eye, self.right_eye, self.nose, self.left_mouth, self.right_mouth)


@dataclass(frozen=True, slots=True)
class Quality:
    """How fit a face is for recognition; every figure from 0 (useless) to 1 (excellent).

    Attributes:
        score: All factors together.
        size: From the distance between the eyes.
        sharpness: From the strength of fine detail.
        pose: 1 when frontal, 0 in profile.
        exposure: 1 when well lit.
        detection: The detector's own confidence.
        reasons: What keeps the score down, as stable words such as ``TOO_SMALL``.
    """

    score: float
    size: float
    sharpness: float
    pose: float
    exposure: float
    detection: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DetectedFace:
    """A face found in an image.

    Attributes:
        box: Where it is.
        landmarks: Its five points; None when the server did not tell.
        detection_score: The detector's confidence, 0 to 1.
        quality: How fit it is for recognition; None when the server did not tell.
    """

    box: Box
    landmarks: Landmarks | None
    detection_score: float
    quality: Quality | None


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which network made a vector; two vectors compare only when it is the same one.

    Attributes:
        name: For example ``sface``.
        version: Of the model card: weights, preprocessing and centring together.
        dimension: Length of the vectors.
        sha256: Digest of the weights in hexadecimal; empty for vectors from elsewhere.
        precision: ``float32`` or ``bfloat16``; empty for vectors from elsewhere.
    """

    name: str
    version: str
    dimension: int
    sha256: str = ""
    precision: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A face as a vector.

    Attributes:
        vector: Shape (dimension,).
        model: What made it, ``name`` or ``name@version``; empty when nobody said.
    """

    vector: Vector
    model: str = ""
