"""The gate of one gallery: what is asked of faces before they are enrolled."""

from collections.abc import Sequence
from typing import Protocol

from visagedb_indexer import ranking
from visagedb_indexer.enrolment_gate.judgement import (
    Compared,
    Judgement,
    Resemblance,
    checked_threshold,
)
from visagedb_indexer.enrolment_gate.quality import check_quality
from visagedb_indexer.errors import FaceNotFoundError, IndexerError
from visagedb_indexer.gallery_values import (
    EnrollMode,
    GalleryPatch,
    NewFace,
    SearchAnswer,
    SearchOptions,
)
from visagedb_indexer.gate_values import (
    GateAction,
    GateFinding,
    GateSettings,
    IdentityCheck,
)
from visagedb_indexer.operating_points import Evidence, Trial
from visagedb_indexer.store import Counters, GalleryRecord, GalleryStore, IdentityRecord, Reader
from visagedb_indexer.values import ExtractedFace, Vector

_OPTIONS = SearchOptions(top_k=2)
"""The identity's own faces may be the most similar ones, so the best other is among two."""


class Host(Protocol):
    """What the gate needs of its gallery."""

    @property
    def record(self) -> GalleryRecord:
        """The settings."""
        ...

    @property
    def counters(self) -> Counters:
        """How much is committed and searchable."""
        ...

    def evidence(self) -> Evidence:
        """What is known of strangers' scores."""
        ...

    def identify_many(self, probes: Sequence[Vector], options: SearchOptions) -> list[SearchAnswer]:
        """For each probe the most similar identities."""
        ...


class EnrolmentGate:
    """What a gallery asks of faces before they are enrolled.

    Args:
        store: The gallery's database.
        host: The gallery.
    """

    def __init__(self, store: GalleryStore, host: Host) -> None:
        self._store = store
        self._host = host

    @property
    def asks(self) -> bool:
        """Whether any check is on."""
        return not self._host.record.gate.off

    def judge(
        self, faces: Sequence[NewFace], vectors: Sequence[Vector | IndexerError], mode: EnrollMode
    ) -> Judgement | None:
        """Asks what can be asked before the commit; None when nothing is asked.

        Args:
            faces: To be enrolled together.
            vectors: Of each, unit length; an error for one that cannot be enrolled.
            mode: What becomes of faces that are there already.

        Raises:
            NotCalibratedError: Nothing tells where two faces are one person.
        """
        settings = self._host.record.gate
        if settings.off:
            return None
        evidence = self._host.evidence()
        check_thresholds(settings, evidence)
        # Before the search: it sees every face below this ordinal.
        seen = self._host.counters.next_ordinal
        compared: list[Compared | None] = [None] * len(faces)
        if settings.compares:
            compared = self._compare(faces, vectors, mode)
        quality = [check_quality(settings.quality, new.extracted) for new in faces]
        fusion = self._host.record.fusion
        return Judgement(settings, evidence, fusion, quality, vectors, compared, seen)

    def check_patch(self, patch: GalleryPatch) -> None:
        """Refuses new settings of checks that could not be made.

        Raises:
            NotCalibratedError: Nothing tells where two faces are one person.
        """
        settings = GateSettings(
            duplicate=patch.duplicate_check or IdentityCheck(),
            mismatch=patch.mismatch_check or IdentityCheck(),
        )
        check_thresholds(settings, self._host.evidence())

    def quality(self, face: ExtractedFace) -> tuple[GateFinding, ...]:
        """What the quality check objects to in a face."""
        return check_quality(self._host.record.gate.quality, face)

    def _compare(
        self, faces: Sequence[NewFace], vectors: Sequence[Vector | IndexerError], mode: EnrollMode
    ) -> list[Compared | None]:
        with self._store.read() as view:
            owners = [view.find_identity(new.identity_id) for new in faces]
            asked = [
                (place, vectors[place])
                for place, (new, owner) in enumerate(zip(faces, owners, strict=True))
                if not _is_there(view, new, owner, mode)
            ]
        probes = [(place, one) for place, one in asked if not isinstance(one, IndexerError)]
        compared: list[Compared | None] = [None] * len(faces)
        if probes:
            answers = self._host.identify_many([vector for _, vector in probes], _OPTIONS)
            for (place, vector), answer in zip(probes, answers, strict=True):
                compared[place] = self._found(vector, owners[place], answer)
        return compared

    def _found(
        self, vector: Vector, owner: IdentityRecord | None, answer: SearchAnswer
    ) -> Compared:
        number = -1 if owner is None else owner.number
        other: Resemblance | None = None
        own: float | None = None
        for candidate in answer.candidates:
            if candidate.identity.number == number:
                own = candidate.score
            elif other is None:
                other = Resemblance(candidate.score, candidate.identity.id, candidate.face.id)
        needed = self._host.record.gate.mismatch.action is not GateAction.OFF
        if own is None and owner is not None and needed:
            own = self._own_score(vector, owner)
        return Compared(number, own, other)

    def _own_score(self, vector: Vector, owner: IdentityRecord) -> float | None:
        with self._store.read() as view:
            if view.identity_by_number(owner.number) is None:
                return None
            try:
                score, _ = ranking.compare(view, vector, owner.id, self._host.record.fusion)
            except FaceNotFoundError:
                return None
        return score


def check_thresholds(settings: GateSettings, evidence: Evidence) -> None:
    """Refuses checks that cannot be made.

    Raises:
        NotCalibratedError: Nothing tells where two faces are one person.
    """
    trials = ((settings.duplicate, Trial("identify")), (settings.mismatch, Trial("verify")))
    for check, trial in trials:
        if check.action is not GateAction.OFF:
            checked_threshold(evidence, trial, check.threshold, check.max_false_positive_rate)


def _is_there(view: Reader, new: NewFace, owner: IdentityRecord | None, mode: EnrollMode) -> bool:
    """Whether a face is answered from what is there, so that nothing need be searched for."""
    if owner is None:
        return False
    if mode is EnrollMode.SKIP_EXISTING:
        return True
    if mode is EnrollMode.UPSERT and new.face_id:
        face = view.find_face(owner.number, new.face_id)
        if face is not None:
            return face.content_sha256 == new.content_sha256
    return view.find_content(owner.number, new.content_sha256) is not None
