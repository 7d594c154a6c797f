"""What a gallery asks of faces before they are enrolled, and what it sets aside."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from visagedb._names import last_id, segment
from visagedb._values import DetectedFace, Template


class GateAction(StrEnum):
    """What a gallery does with a face that a check objects to."""

    OFF = "off"
    """The check is not made."""
    REPORT = "report"
    """The face is enrolled, and the answer carries the finding."""
    QUARANTINE = "quarantine"
    """The face is set aside until somebody accepts or drops it."""
    REJECT = "reject"
    """The enrolment is refused and changes nothing."""
    UNKNOWN = "unknown"


class GateReason(StrEnum):
    """What a check may object to."""

    LOW_QUALITY = "low_quality"
    """The face is not good enough to be recognised by."""
    DUPLICATE_IDENTITY = "duplicate_identity"
    """The person is enrolled under another id."""
    IDENTITY_MISMATCH = "identity_mismatch"
    """The face does not look like the other faces of its identity."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class QualityCheck:
    """Is a face good enough? Asked of faces from images: nothing is known of a vector's.

    Attributes:
        action: What to do if not.
        min_score: A face below this quality score, 0 to 1, is objected to; None for the
            server's default.
        reasons: So is one with any of these, whatever its score, for example ``TURNED_AWAY``.
    """

    action: GateAction = GateAction.OFF
    min_score: float | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IdentityCheck:
    """Whose face is it? With neither threshold nor rate, where the gallery decides.

    Attributes:
        action: What to do if it is not whose it is said to be.
        threshold: The cosine from which on two faces are taken for one person.
        max_false_positive_rate: The error rate that chooses that cosine.
    """

    action: GateAction = GateAction.OFF
    threshold: float | None = None
    max_false_positive_rate: float | None = None


@dataclass(frozen=True, slots=True)
class GateFinding:
    """What one check objects to in one face.

    Attributes:
        reason: Which check.
        action: What the gallery does about it.
        score: The face's quality, its cosine to the other identity, or to its own.
        threshold: What the score was compared with.
        identity: Resource name of the other identity: a duplicate's other id, or who a
            mismatched face may be; empty for nobody.
        face: Resource name of its most similar face.
        quality_reasons: What is wrong with the quality.
    """

    reason: GateReason
    action: GateAction
    score: float
    threshold: float
    identity: str = ""
    face: str = ""
    quality_reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class GatedFace:
    """A face of an image that the gallery's quality check objects to.

    Attributes:
        detection: Where it is; None when the server did not tell.
        findings: What is wrong with it.
        face: Its resource name, if it is enrolled all the same.
        quarantined_face: Its resource name in quarantine, if it is there.
    """

    detection: DetectedFace | None
    findings: tuple[GateFinding, ...]
    face: str
    quarantined_face: str


@dataclass(frozen=True, slots=True)
class QuarantinedFace:
    """A face that a gallery's checks have set aside; no search finds it.

    Attributes:
        name: ``galleries/{gallery}/quarantine/{number}``.
        identity_name: The identity that it was to be enrolled for; empty for a loose face.
        detection: Where it was found; None for a face that came as a vector.
        content_sha256: Digest of the image or vector, hexadecimal.
        source: The caller's own reference, for example a file name.
        findings: Why it is here.
        template: The vector, when it was asked for.
    """

    name: str
    identity_name: str
    detection: DetectedFace | None
    content_sha256: str
    source: str
    create_time: datetime | None
    findings: tuple[GateFinding, ...]
    template: Template | None

    @property
    def number(self) -> int:
        """Its number in the gallery's quarantine."""
        return int(last_id(self.name))

    @property
    def identity(self) -> str:
        """Id of the identity that it was to be enrolled for; empty for a loose face."""
        return segment(self.identity_name, "identities")

    @property
    def gallery(self) -> str:
        """Id of its gallery."""
        return segment(self.name, "galleries")
