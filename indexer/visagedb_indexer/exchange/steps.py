"""The entries of an import as steps of one commit: faces, loose faces, identities without faces."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, cast

import numpy as np

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
from visagedb_indexer.exchange.entries import (
    Answer,
    BareIdentity,
    Content,
    LooseCopy,
    Outcome,
    VectorRow,
)
from visagedb_indexer.gallery_values import Enrollment, EnrollMode, EnrollOutcome, NewFace
from visagedb_indexer.loose_faces import NewLooseFaces, enroll_loose
from visagedb_indexer.store import LOOSE_NUMBER, ImportRecord, Transaction
from visagedb_indexer.template_batches import TemplateBatch, check_batch, enroll_batch
from visagedb_indexer.values import ModelIdentity


@dataclass(frozen=True, slots=True)
class Answers:
    """What became of the entries of a step, and how many identities are new."""

    answers: Sequence[Answer]
    created_count: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """Entries that are enrolled together.

    Attributes:
        places: Which of the entries of the commit they are.
        command: Enrols them.
    """

    places: Sequence[int]
    command: Command[Answers]


class Done:
    """What the steps of a commit have done so far.

    Attributes:
        created_count: Identities that are new.
    """

    def __init__(self) -> None:
        self.created_count = 0
        self._answers: dict[int, Answer] = {}
        self._effects: list[Effects[Answers]] = []

    def run(self, step: Step, txn: Transaction) -> None:
        """Does the next step."""
        effects = step.command(txn)
        self._answers.update(zip(step.places, effects.result.answers, strict=True))
        self.created_count += effects.result.created_count
        self._effects.append(effects)

    @property
    def answers(self) -> list[Answer]:
        """What became of the entries, in their order."""
        return [self._answers[place] for place in sorted(self._answers)]

    def effects(self, record: ImportRecord) -> Effects[ImportRecord]:
        """All steps as one, with the import's record as its result."""
        all_arrivals = [one.arrivals for one in self._effects if one.arrivals is not None]
        assert len(all_arrivals) <= 1, "the rows of a commit are one step"
        return Effects(
            record,
            arrivals=all_arrivals[0] if all_arrivals else None,
            created=tuple(one for step in self._effects for one in step.created),
            replaced=tuple(one for step in self._effects for one in step.replaced),
            added_faces=tuple(one for step in self._effects for one in step.added_faces),
            removed_faces=tuple(one for step in self._effects for one in step.removed_faces),
        )


def steps_of(
    contents: Sequence[Content], mode: EnrollMode, model: ModelIdentity, gate: EnrolmentGate
) -> list[Step]:
    """What enrols contents; checked as far as possible before the transaction.

    Plain rows are one step; the others are taken in their order.
    """
    rows: list[tuple[int, VectorRow]] = []
    others: list[tuple[int, Content]] = []
    for place, content in enumerate(contents):
        if not isinstance(content, VectorRow):
            others.append((place, content))
        elif content.vector.shape != (model.dimension,):
            others.append((place, _wrong_dimension(content, model)))
        else:
            rows.append((place, content))
    steps = []
    if rows:
        steps.append(
            Step([place for place, _ in rows], _rows([row for _, row in rows], mode, model, gate))
        )
    for kind, group in groupby(others, key=lambda one: type(one[1])):
        run = list(group)
        command = _command(kind, [content for _, content in run], mode, model, gate)
        steps.append(Step([place for place, _ in run], command))
    return steps


def _command(
    kind: type,
    contents: list[Content],
    mode: EnrollMode,
    model: ModelIdentity,
    gate: EnrolmentGate,
) -> Command[Answers]:
    if kind is NewFace:
        return _faces(enroll_many(cast("list[NewFace]", contents), mode, model, gate))
    if kind is NewLooseFaces:
        return _each([_loose(cast("NewLooseFaces", one), model, gate) for one in contents])
    if kind is LooseCopy:
        return _each([_loose_copy(cast("LooseCopy", one), model) for one in contents])
    if kind is BareIdentity:
        return _each([_bare_identity(cast("BareIdentity", one)) for one in contents])
    known = Answers(cast("list[Answer]", contents))
    return lambda txn: Effects(known)


def _rows(
    rows: Sequence[VectorRow], mode: EnrollMode, model: ModelIdentity, gate: EnrolmentGate
) -> Command[Answers]:
    batch = TemplateBatch(
        identity_ids=[row.identity_id for row in rows],
        vectors=np.stack([row.vector for row in rows]),
        face_ids=[row.face_id for row in rows],
        sources=[row.source for row in rows],
        said=[row.said for row in rows],
        mode=mode,
    )
    command = enroll_batch(check_batch(batch, model.dimension), gate)

    def run(txn: Transaction) -> Effects[Answers]:
        effects = command(txn)
        became = effects.result
        answers: list[Answer] = [
            became.errors[place] if outcome is None else Outcome(outcome)
            for place, outcome in enumerate(became.outcomes)
        ]
        return _with(effects, Answers(answers, became.created_identity_count))

    return run


def _wrong_dimension(row: VectorRow, model: ModelIdentity) -> IndexerError:
    try:
        validation.unit_vector(row.vector, model.dimension)
    except IndexerError as error:
        return error
    raise AssertionError("a vector of another dimension was taken")


def _faces(command: Command[list[Enrollment | IndexerError]]) -> Command[Answers]:
    def run(txn: Transaction) -> Effects[Answers]:
        effects = command(txn)
        done = [one for one in effects.result if isinstance(one, Enrollment)]
        answers: list[Answer] = [
            one if isinstance(one, IndexerError) else Outcome(one.outcome) for one in effects.result
        ]
        return _with(effects, Answers(answers, sum(one.identity_created for one in done)))

    return run


def _with(effects: Effects[Any], result: Answers) -> Effects[Answers]:
    return replace(effects, result=result)


def _each(commands: Sequence[Command[Answer]]) -> Command[Answers]:
    """Commands one after the other; each is refused alone."""

    def run(txn: Transaction) -> Effects[Answers]:
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
        created = tuple(one for effects in done for one in effects.created)
        return Effects(
            Answers(answers, len(created)),
            created=created,
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
        return Effects(Outcome(EnrollOutcome.ENROLLED), created=(record,))

    return run


def _refused(error: IndexerError) -> Command[Answer]:
    return lambda txn: Effects(error)
