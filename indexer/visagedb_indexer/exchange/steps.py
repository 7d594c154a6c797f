"""The entries of an import as steps of one commit: faces, loose faces, identities without faces."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from visagedb_indexer import limits, validation
from visagedb_indexer.commands import (
    Command,
    Effects,
    checked_identity,
    face_record,
    identity_record,
)
from visagedb_indexer.enrollment import enroll_many
from visagedb_indexer.enrolment_gate import EnrolmentGate
from visagedb_indexer.errors import FaceExistsError, IndexerError, StorageCorruptError
from visagedb_indexer.exchange.entries import Answer, BareIdentity, Content, LooseCopy, Outcome
from visagedb_indexer.gallery_values import Enrollment, EnrollMode, EnrollOutcome, NewFace
from visagedb_indexer.loose_faces import NewLooseFaces, enroll_loose
from visagedb_indexer.store import LOOSE_NUMBER, ImportRecord, Transaction
from visagedb_indexer.values import ModelIdentity


@dataclass(slots=True)
class Done:
    """What the steps of a commit have done so far, in order."""

    answers: list[Answer] = field(default_factory=list)
    steps: list[Effects[list[Answer]]] = field(default_factory=list)

    def add(self, step: Effects[list[Answer]]) -> None:
        """Takes note of the next step."""
        self.answers += step.result
        self.steps.append(step)

    def effects(self, record: ImportRecord) -> Effects[ImportRecord]:
        """All steps as one, with the import's record as its result."""
        return Effects(
            record,
            created=tuple(one for step in self.steps for one in step.created),
            replaced=tuple(one for step in self.steps for one in step.replaced),
            added_faces=tuple(one for step in self.steps for one in step.added_faces),
            removed_faces=tuple(one for step in self.steps for one in step.removed_faces),
        )


def step_of(
    kind: type,
    contents: list[Content | Outcome],
    mode: EnrollMode,
    model: ModelIdentity,
    gate: EnrolmentGate,
) -> Command[list[Answer]]:
    """What enrols contents of one kind; checked as far as possible before the transaction."""
    if kind is NewFace:
        return _faces(enroll_many(cast("list[NewFace]", contents), mode, model, gate))
    if kind is NewLooseFaces:
        return _each([_loose(cast("NewLooseFaces", one), model, gate) for one in contents])
    if kind is LooseCopy:
        return _each([_loose_copy(cast("LooseCopy", one), model) for one in contents])
    if kind is BareIdentity:
        return _each([_bare_identity(cast("BareIdentity", one)) for one in contents])
    known = cast("list[Answer]", contents)
    return lambda txn: Effects(known)


def _faces(command: Command[list[Enrollment | IndexerError]]) -> Command[list[Answer]]:
    def run(txn: Transaction) -> Effects[list[Answer]]:
        effects = command(txn)
        answers: list[Answer] = [
            one if isinstance(one, IndexerError) else Outcome(one.outcome, one.identity_created)
            for one in effects.result
        ]
        return replace(cast("Effects[list[Answer]]", effects), result=answers)

    return run


def _each(commands: Sequence[Command[Answer]]) -> Command[list[Answer]]:
    """Commands one after the other; each is refused alone."""

    def run(txn: Transaction) -> Effects[list[Answer]]:
        answers: list[Answer] = []
        done: list[Effects[Answer]] = []
        for command in commands:
            try:
                done.append(command(txn))
                answers.append(done[-1].result)
            except StorageCorruptError:
                raise
            except IndexerError as error:
                answers.append(error)
        return Effects(
            answers,
            created=tuple(one for effects in done for one in effects.created),
            added_faces=tuple(one for effects in done for one in effects.added_faces),
        )

    return run


def _loose(new: NewLooseFaces, model: ModelIdentity, gate: EnrolmentGate) -> Command[Answer]:
    try:
        findings = [gate.quality(face) for face in new.extracted] or [()] * len(new.vectors)
        enroll = enroll_loose(new, model, findings)
    except IndexerError as error:
        return _refused(error)

    def run(txn: Transaction) -> Effects[Answer]:
        effects = enroll(txn)
        return Effects(Outcome(effects.result.outcome), added_faces=effects.added_faces)

    return run


def _loose_copy(copy: LooseCopy, model: ModelIdentity) -> Command[Answer]:
    try:
        validation.check_id(copy.face_id, "face")
        validation.check_text(copy.source, "source", limits.SOURCE_LENGTH_MAX)
        vector = validation.unit_vector(copy.vector, model.dimension)
    except IndexerError as error:
        return _refused(error)
    record = face_record(
        copy.face_id, copy.content_sha256, copy.source, copy.extracted, copy.copied_from_us
    )

    def run(txn: Transaction) -> Effects[Answer]:
        known = txn.find_face(LOOSE_NUMBER, copy.face_id)
        if known is not None and known.content_sha256 != copy.content_sha256:
            raise FaceExistsError(
                f"there is a loose face {copy.face_id!r}, made from something else",
                {"face": copy.face_id},
            )
        if known is not None:
            return Effects(Outcome(EnrollOutcome.ALREADY_ENROLLED))
        face = txn.add_loose_face(record, vector)
        return Effects(Outcome(EnrollOutcome.ENROLLED), added_faces=((face.ordinal, LOOSE_NUMBER),))

    return run


def _bare_identity(bare: BareIdentity) -> Command[Answer]:
    try:
        validation.check_id(bare.identity_id, "identity")
        checked_identity(bare.new)
    except IndexerError as error:
        return _refused(error)

    def run(txn: Transaction) -> Effects[Answer]:
        if txn.find_identity(bare.identity_id) is not None:
            return Effects(Outcome(EnrollOutcome.ALREADY_ENROLLED))
        record = txn.add_identity(identity_record(bare.identity_id, bare.new))
        return Effects(Outcome(EnrollOutcome.ENROLLED, identity_created=True), created=(record,))

    return run


def _refused(error: IndexerError) -> Command[Answer]:
    return lambda txn: Effects(error)
