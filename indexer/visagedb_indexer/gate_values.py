"""What a gallery's enrolment gate is told, and what it finds."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

MIN_QUALITY_DEFAULT: Final = 0.35
"""`docs/guides/enrolment-quality.md` shows what this keeps out."""
QUALITY_REASONS: Final = (
    "TOO_SMALL", "BLURRED", "TURNED_AWAY", "TOO_DARK", "TOO_BRIGHT", "LOW_CONTRAST",
    "LOW_DETECTION_SCORE",
)  # fmt: skip


class GateAction(StrEnum):
    """What a gallery does with a face that a check objects to, mildest first."""

    OFF = "off"
    """The check is not made."""
    REPORT = "report"
    """The face is enrolled, and the answer carries the finding."""
    QUARANTINE = "quarantine"
    """The face is kept aside until somebody accepts or drops it."""
    REJECT = "reject"
    """The enrolment is refused and changes nothing."""


_STRICTNESS: Final = {action: rank for rank, action in enumerate(GateAction)}


class GateReason(StrEnum):
    """What a check may object to."""

    LOW_QUALITY = "low_quality"
    DUPLICATE_IDENTITY = "duplicate_identity"
    IDENTITY_MISMATCH = "identity_mismatch"


@dataclass(frozen=True, slots=True)
class QualityCheck:
    """Is a face good enough to be recognised by?

    Attributes:
        action: What to do if not.
        min_score: A quality score below this is objected to, 0 to 1.
        reasons: So is a face with any of these `QUALITY_REASONS`, whatever its score.
    """

    action: GateAction = GateAction.OFF
    min_score: float = MIN_QUALITY_DEFAULT
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class IdentityCheck:
    """Whose face is it? At most one of threshold and rate is given.

    Attributes:
        action: What to do if it is not whose it is said to be.
        threshold: The cosine from which on two faces are taken for one person.
        max_false_positive_rate: The error rate that chooses that cosine. With neither, it is
            where the gallery decides.
    """

    action: GateAction = GateAction.OFF
    threshold: float | None = None
    max_false_positive_rate: float | None = None


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What a face is asked before it is enrolled.

    Attributes:
        quality: Is it good enough?
        duplicate: Is the person enrolled under another id?
        mismatch: Does it look like the other faces of its identity?
    """

    quality: QualityCheck = QualityCheck()
    duplicate: IdentityCheck = IdentityCheck()
    mismatch: IdentityCheck = IdentityCheck()

    @property
    def compares(self) -> bool:
        """Whether faces are compared with those that are enrolled."""
        return any(check.action is not GateAction.OFF for check in (self.duplicate, self.mismatch))

    @property
    def off(self) -> bool:
        """Whether nothing is asked."""
        return self.quality.action is GateAction.OFF and not self.compares


@dataclass(frozen=True, slots=True)
class GateFinding:
    """What one check objects to in one face.

    Attributes:
        reason: Which check.
        action: What the gallery does about it.
        score: The face's quality, its cosine to the other identity, or to its own.
        threshold: What the score was compared with.
        identity_id: The other identity: a duplicate's other id, or who a mismatched face
            may be; empty for nobody.
        face_id: The most similar face of it.
        quality_reasons: What is wrong with the quality.
    """

    reason: GateReason
    action: GateAction
    score: float
    threshold: float
    identity_id: str = ""
    face_id: str = ""
    quality_reasons: tuple[str, ...] = ()


def strictest(findings: Iterable[GateFinding]) -> GateAction:
    """The action that counts; OFF without findings."""
    actions = (finding.action for finding in findings)
    return max(actions, key=_STRICTNESS.__getitem__, default=GateAction.OFF)
