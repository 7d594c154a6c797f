"""What is known of some faces before their commit, and what the commit makes of it.

The searches run before the commit, beside everything else. The faces that come in between are
compared within the commit, one commit after the other. So a face is compared with every face
that is enrolled before it, whoever enrols it and however close in time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from visagedb_indexer.enrolment_gate.late_faces import LateFaces
from visagedb_indexer.errors import (
    DuplicateIdentityError,
    EnrolmentRejectedError,
    IdentityMismatchError,
    IndexerError,
    LowQualityError,
    NotCalibratedError,
    UnavailableError,
)
from visagedb_indexer.gate_values import (
    GateAction,
    GateFinding,
    GateReason,
    GateSettings,
)
from visagedb_indexer.operating_points import Evidence, Trial, threshold_for
from visagedb_indexer.store import IdentityRecord, Transaction
from visagedb_indexer.values import Fusion, Vector

_ERRORS: Final[Mapping[GateReason, type[EnrolmentRejectedError]]] = {
    GateReason.LOW_QUALITY: LowQualityError,
    GateReason.DUPLICATE_IDENTITY: DuplicateIdentityError,
    GateReason.IDENTITY_MISMATCH: IdentityMismatchError,
}


@dataclass(frozen=True, slots=True)
class Resemblance:
    """How much a face resembles another identity."""

    score: float
    identity_id: str
    face_id: str


@dataclass(frozen=True, slots=True)
class Compared:
    """What a search found for one face.

    Attributes:
        own_number: The identity that it is to be enrolled for; -1 if there was none.
        own: Its score against that identity's faces; None if there were none.
        other: The most similar other identity; None if there was none.
    """

    own_number: int = -1
    own: float | None = None
    other: Resemblance | None = None


class Judgement:
    """What is known of some faces before their commit.

    Args:
        settings: What is asked.
        evidence: What is known of strangers' scores.
        fusion: How several faces of an identity make one score.
        quality: What the quality check objects to, for each face.
        vectors: Unit length; an error for a face that cannot be enrolled.
        compared: What was found for each face; None for one that was not searched for.
        seen: The first ordinal that the searches may not have seen.
    """

    def __init__(
        self,
        settings: GateSettings,
        evidence: Evidence,
        fusion: Fusion,
        quality: Sequence[tuple[GateFinding, ...]],
        vectors: Sequence[Vector | IndexerError],
        compared: Sequence[Compared | None],
        seen: int,
    ) -> None:
        self.settings = settings
        self.evidence = evidence
        self.fusion = fusion
        self.quality = quality
        self.vectors = vectors
        self.compared = compared
        self.seen = seen

    def within(self, txn: Transaction) -> "Verdicts":
        """The judgement in a commit, where it becomes final."""
        return Verdicts(self, txn)


class Verdicts:
    """Final judgements, face after face, in the order in which they are enrolled."""

    def __init__(self, judgement: Judgement, txn: Transaction) -> None:
        self._judgement = judgement
        self._txn = txn
        self._late: LateFaces | None = None

    def findings(self, position: int, identity: IdentityRecord | None) -> tuple[GateFinding, ...]:
        """What the checks object to in a face that is about to be enrolled.

        Args:
            position: Of the face.
            identity: Whose it is to be; None for one that will be created.

        Raises:
            EnrolmentRejectedError: A check rejects it.
            UnavailableError: It was not compared, as it was enrolled already, but is no more.
        """
        found = list(self._judgement.quality[position])
        if self._judgement.settings.compares:
            found += self._compare(position, identity)
        refusal = rejection(found)
        if refusal is not None:
            raise refusal
        return tuple(found)

    def _compare(self, position: int, identity: IdentityRecord | None) -> list[GateFinding]:
        judged, vector = self._judgement, self._judgement.vectors[position]
        compared = judged.compared[position]
        if compared is None or isinstance(vector, IndexerError):
            raise UnavailableError("the gallery was changed meanwhile; try again")
        number = -1 if identity is None else identity.number
        if self._late is None:
            self._late = LateFaces(self._txn, judged.seen, judged.vectors, len(vector))
        late_own, late_other = self._late.best(position, number)
        known = compared.own if compared.own_number == number else None
        own = max((score for score in (known, late_own) if score is not None), default=None)
        other = compared.other
        if late_other is not None and (other is None or late_other[0] > other.score):
            other = self._located(*late_other) or other
        return [
            *self._duplicate(other),
            *self._mismatch(own, other, 1 if identity is None else identity.face_count),
        ]

    def _located(self, score: float, ordinal: int) -> Resemblance | None:
        place = self._txn.locate(ordinal)
        return None if place is None else Resemblance(score, place[0], place[1].id)

    def _duplicate(self, other: Resemblance | None) -> list[GateFinding]:
        check = self._judgement.settings.duplicate
        if check.action is GateAction.OFF or other is None:
            return []
        trial = Trial("identify", max(1, self._txn.counters().identity_count))
        threshold = self._threshold(trial, check.threshold, check.max_false_positive_rate)
        if other.score < threshold:
            return []
        return [
            GateFinding(
                GateReason.DUPLICATE_IDENTITY, check.action, other.score, threshold,
                other.identity_id, other.face_id,
            )
        ]  # fmt: skip

    def _mismatch(
        self, own: float | None, other: Resemblance | None, faces: int
    ) -> list[GateFinding]:
        check = self._judgement.settings.mismatch
        if check.action is GateAction.OFF or own is None:
            return []
        trial = Trial.of_identity(self._judgement.fusion, faces)
        threshold = self._threshold(trial, check.threshold, check.max_false_positive_rate)
        if own >= threshold:
            return []
        # A stranger resembles somebody, too; only whom it may be is worth naming.
        likelier = other if other is not None and other.score >= threshold else None
        return [
            GateFinding(
                GateReason.IDENTITY_MISMATCH, check.action, own, threshold,
                likelier.identity_id if likelier else "", likelier.face_id if likelier else "",
            )
        ]  # fmt: skip

    def _threshold(self, trial: Trial, threshold: float | None, rate: float | None) -> float:
        return checked_threshold(self._judgement.evidence, trial, threshold, rate)


def checked_threshold(
    evidence: Evidence, trial: Trial, threshold: float | None, rate: float | None
) -> float:
    """The cosine of an identity check.

    Raises:
        NotCalibratedError: Nothing tells where two faces are one person.
    """
    found = threshold_for(evidence, trial, threshold=threshold, rate=rate)
    if found is None:
        raise NotCalibratedError(
            "the gallery compares faces before it enrols them, but nothing tells where two faces "
            "are one person: calibrate it, or give the check a threshold"
        )
    return found.value


def rejection(findings: Sequence[GateFinding]) -> EnrolmentRejectedError | None:
    """The error of a face that a check rejects; None if none does."""
    rejecting = [finding for finding in findings if finding.action is GateAction.REJECT]
    if not rejecting:
        return None
    first = rejecting[0]
    metadata = {
        "score": f"{first.score:.4f}",
        "threshold": f"{first.threshold:.4f}",
        "identity": first.identity_id,
        "face": first.face_id,
        "quality_reasons": ",".join(first.quality_reasons),
        "findings": ",".join(finding.reason.name for finding in rejecting),
    }
    return _ERRORS[first.reason](
        _sentence(first), {key: value for key, value in metadata.items() if value}
    )


def _sentence(finding: GateFinding) -> str:
    figures = f"{finding.score:.3f}, the gallery wants {finding.threshold:.3f}"
    if finding.reason is GateReason.LOW_QUALITY:
        why = f" ({', '.join(finding.quality_reasons)})" if finding.quality_reasons else ""
        return f"the face's quality is {figures}{why}"
    if finding.reason is GateReason.DUPLICATE_IDENTITY:
        return (
            f"the person is enrolled as {finding.identity_id!r} already: the score is "
            f"{finding.score:.3f}, the gallery's limit {finding.threshold:.3f}"
        )
    resembles = f"; it may be {finding.identity_id!r}" if finding.identity_id else ""
    return f"the face does not look like its identity: its score is {figures}{resembles}"
