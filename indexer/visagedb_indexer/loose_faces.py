"""Faces that belong to no identity yet: a photo archive, to be clustered and then named.

They lie beside the faces of identities: with an ordinal, in the codes, kept under a reserved
identity number. A search returns them only when it asks for them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from visagedb_indexer import limits, validation
from visagedb_indexer.commands import Command, Effects, RunCommand, face_record, fingerprint_of
from visagedb_indexer.enrolment_gate import EnrolmentGate, set_aside
from visagedb_indexer.filters import parse_filter
from visagedb_indexer.gallery_values import EnrollOutcome
from visagedb_indexer.gate_values import GateAction, GateFinding, strictest
from visagedb_indexer.label_index import LabelIndex
from visagedb_indexer.search import SearchEngine, SearchRequest
from visagedb_indexer.store import (
    LOOSE_NUMBER,
    FaceRecord,
    GalleryStore,
    Reader,
    Transaction,
)
from visagedb_indexer.values import ExtractedFace, FaceScope, ModelIdentity, Vector


@dataclass(frozen=True, slots=True, eq=False)
class NewLooseFaces:
    """The faces of one photograph, or one vector, to enrol without an identity.

    Attributes:
        vectors: A template for each face, shape (dimension,); brought to unit length here.
        content_sha256: Digest of what they were made from, 32 bytes.
        extracted: Where each was found; empty for a vector.
        source: The caller's own reference, for example the photograph's path.
        request_id: For safe repeats; empty for none.
    """

    vectors: Sequence[Vector]
    content_sha256: bytes
    extracted: Sequence[ExtractedFace] = ()
    source: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class OwnedFace:
    """A face and the id of the identity it belongs to; empty for a loose one."""

    identity_id: str
    face: FaceRecord


@dataclass(frozen=True, slots=True)
class GatedFace:
    """A face of a photograph that the quality check objects to.

    Attributes:
        face: The face; its ordinal is -1 unless it is enrolled all the same.
        findings: What is wrong with it.
        quarantine_number: Of a face in quarantine; -1 for any other.
    """

    face: FaceRecord
    findings: tuple[GateFinding, ...]
    quarantine_number: int = -1


@dataclass(frozen=True, slots=True)
class LooseEnrollment:
    """The answer to a loose enrolment.

    Attributes:
        faces: Those that are enrolled, largest first.
        outcome: What became of them.
        gated: Faces that the quality check objects to; a rejected one is in neither place.
    """

    faces: tuple[OwnedFace, ...]
    outcome: EnrollOutcome
    gated: tuple[GatedFace, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A stored face that is like a probe."""

    identity_id: str
    face: FaceRecord
    score: float


class LooseFaces:
    """The loose faces of one gallery, and the search for single faces.

    Args:
        store: The gallery's database.
        run: The gallery's writer.
        engine: The gallery's search structures.
        labels: The gallery's identities by label.
        model: That all vectors come from.
        gate: What is asked of faces before they are enrolled.
    """

    def __init__(
        self,
        store: GalleryStore,
        run: RunCommand,
        engine: SearchEngine,
        labels: LabelIndex,
        model: ModelIdentity,
        gate: EnrolmentGate,
    ) -> None:
        self._store = store
        self._run = run
        self._engine = engine
        self._labels = labels
        self._model = model
        self._gate = gate

    def recall(self, new: NewLooseFaces) -> LooseEnrollment | None:
        """The answer to this request, or to this content, if it was enrolled loose before.

        Faces of it that have an identity by now are part of the answer, so that enrolling
        a folder again brings nothing back that has been sorted.

        Raises:
            RequestIdReusedError: The request id belonged to another request.
            InvalidArgumentError: The request id or the source is not valid.
        """
        with self._store.read() as view:
            return recall_loose(new, view)

    def enroll(self, new: NewLooseFaces) -> LooseEnrollment:
        """Adds faces without an identity; durable and searchable on return.

        Raises:
            RequestIdReusedError: The request id belonged to another request.
            InvalidVectorError: A vector cannot be used.
            InvalidArgumentError: The request id or the source is not valid.
        """
        faces = list(new.extracted)
        if not faces:
            # Nothing is known of a vector's quality.
            return self._run(enroll_loose(new, self._model, [()] * len(new.vectors)))
        findings = [self._gate.quality(face) for face in faces]
        return self._run(enroll_loose(new, self._model, findings))

    def find(
        self,
        probe: Vector,
        *,
        count: int,
        scope: FaceScope,
        filter_text: str = "",
        min_score: float | None = None,
        deadline: float | None = None,
    ) -> list[FoundFace]:
        """The most similar faces, each on its own, best first.

        Args:
            probe: Shape (dimension,); any length but zero.
            count: How many faces.
            scope: Which faces.
            filter_text: Only faces of identities whose labels pass; loose faces pass none.
            min_score: Leave out faces below this cosine.
            deadline: `time.monotonic()` seconds; None for none.

        Raises:
            InvalidVectorError: The probe cannot be used.
            InvalidFilterError: The filter cannot be read.
            InvalidArgumentError: An option is out of range.
            DeadlineExceededError: The deadline passed before the answer was there.
        """
        validation.check_top_k(count)
        validation.check_cosine(min_score, "min_score")
        request = SearchRequest(
            vector=validation.unit_vector(probe, self._model.dimension),
            top_k=count,
            allowed=self._labels.mask(parse_filter(filter_text)),
            min_score=min_score,
            deadline=deadline,
            scope=scope,
            each_face=True,
        )
        hits = self._engine.search(request)
        with self._store.read() as view:
            located = [(hit, view.locate(hit.ordinal)) for hit in hits]
        return [FoundFace(*place, hit.score) for hit, place in located if place is not None]


def enroll_loose(
    new: NewLooseFaces, model: ModelIdentity, findings: Sequence[tuple[GateFinding, ...]]
) -> Command[LooseEnrollment]:
    """Adds faces without an identity; what was made from the same content is the answer.

    Args:
        new: The faces.
        model: That their vectors come from.
        findings: What the quality check objects to, for each face.
    """
    _check(new)
    vectors = [validation.unit_vector(vector, model.dimension) for vector in new.vectors]
    found: list[ExtractedFace | None] = list(new.extracted) or [None] * len(vectors)

    def command(txn: Transaction) -> Effects[LooseEnrollment]:
        known = recall_loose(new, txn)
        if known is not None:
            return Effects(known)
        faces: list[FaceRecord] = []
        gated: list[GatedFace] = []
        for where, vector, objections in zip(found, vectors, findings, strict=True):
            face = face_record("", new.content_sha256, new.source, where)
            action, number = strictest(objections), -1
            if action is GateAction.QUARANTINE:
                number = set_aside(txn, "", face, vector, objections).number
            elif action is not GateAction.REJECT:
                face = txn.add_loose_face(face, vector)
                faces.append(face)
            if objections:
                gated.append(GatedFace(face, objections, number))
        owned = tuple(OwnedFace("", face) for face in faces)
        answer = LooseEnrollment(owned, EnrollOutcome.ENROLLED, tuple(gated))
        if faces:
            time_us = faces[0].create_time_us
            txn.requests.keep(new.request_id, _fingerprint(new), answer, time_us)
        return Effects(answer, added_faces=tuple((face.ordinal, LOOSE_NUMBER) for face in faces))

    return command


def recall_loose(new: NewLooseFaces, view: Reader) -> LooseEnrollment | None:
    """See `LooseFaces.recall`."""
    _check(new)
    known = view.requests.recall(new.request_id, _fingerprint(new), LooseEnrollment)
    if known is not None:
        return known
    same = view.loose_content(new.content_sha256)
    if not same:
        return None
    faces = tuple(OwnedFace(identity_id, face) for identity_id, face in same)
    return LooseEnrollment(faces, EnrollOutcome.ALREADY_ENROLLED)


def _check(new: NewLooseFaces) -> None:
    validation.check_request_id(new.request_id)
    validation.check_text(new.source, "source", limits.SOURCE_LENGTH_MAX)


def _fingerprint(new: NewLooseFaces) -> bytes:
    return fingerprint_of("enroll_loose", new.content_sha256, new.source)
