"""Many templates as columns: checked together, enrolled in one commit.

A row of an identity that the gallery does not know goes with all the others of its kind
(`store/newcomers.py`). Any other row goes the way of single faces, with the same outcome.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits, validation
from visagedb_indexer.clock import now_us
from visagedb_indexer.commands import Command, Effects, checked_identity, fingerprint_of
from visagedb_indexer.enrollment import Changes, enroll_one, nothing
from visagedb_indexer.enrolment_gate import EnrolmentGate, Judgement
from visagedb_indexer.errors import (
    IndexerError,
    InvalidArgumentError,
    InvalidVectorError,
    QuotaExceededError,
)
from visagedb_indexer.gallery_values import (
    Enrollment,
    EnrollMode,
    EnrollOutcome,
    NewFace,
    NewIdentity,
)
from visagedb_indexer.store import Newcomers, Transaction, checksums
from visagedb_indexer.values import Vector

_ROWS_CHECKED_TOGETHER: Final = 128
"""Few enough that the arithmetic stays in the processor's cache."""
_NOTHING_SAID: Final = NewIdentity()


@dataclass(frozen=True, slots=True, eq=False)
class TemplateBatch:
    """Templates to enrol. A column is empty, or has a value for each row.

    Attributes:
        identity_ids: Whose each is.
        vectors: Shape (n, dimension), float32; brought to unit length here.
        face_ids: The caller's ids; an empty one is made.
        sources: The caller's own references.
        said: Of identities that are created, or with UPSERT of any.
        create: Whether an identity that does not exist is created.
        mode: What to do with what is there already.
        request_id: For a safe repeat of the whole batch; empty for none.
    """

    identity_ids: Sequence[str]
    vectors: Vector
    face_ids: Sequence[str] = ()
    sources: Sequence[str] = ()
    said: Sequence[NewIdentity] = ()
    create: bool = True
    mode: EnrollMode = EnrollMode.INSERT
    request_id: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class BatchAnswer:
    """What became of each row.

    Attributes:
        outcomes: For each row its outcome; None for one that is refused.
        errors: Why, by row, for those that are refused.
        created_identity_count: Identities that are new.
        gated: By row, the answers to those that the gallery's checks object to. The answer to a
            repeat has only those that were enrolled by it.
    """

    outcomes: Sequence[EnrollOutcome | None]
    errors: Mapping[int, IndexerError]
    created_identity_count: int
    gated: Mapping[int, Enrollment] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    """The answer to a request, as it is kept; a repeat tries the refused rows again."""

    outcomes: tuple[EnrollOutcome | None, ...]
    created: int


@dataclass(slots=True, eq=False)
class CheckedBatch:
    """A batch whose rows are checked; what is done to it needs no arithmetic any more."""

    batch: TemplateBatch
    units: Vector
    checksums: NDArray[np.uint32]
    digests: Sequence[bytes]
    errors: dict[int, IndexerError]
    fingerprint: bytes

    def face(self, row: int) -> NewFace:
        """One row as a face of its own."""
        batch = self.batch
        said = batch.said[row] if batch.said else _NOTHING_SAID
        return NewFace(
            identity_id=batch.identity_ids[row],
            vector=self.units[row],
            content_sha256=self.digests[row],
            face_id=batch.face_ids[row] if batch.face_ids else "",
            source=batch.sources[row] if batch.sources else "",
            new_identity=said if batch.create else None,
        )


def check_batch(batch: TemplateBatch, dimension: int) -> CheckedBatch:
    """Checks all that can be checked without the gallery, row by row where it must be.

    Raises:
        InvalidArgumentError: The columns do not fit together, or are too long.
        InvalidVectorError: The vectors are of another dimension.
    """
    count = len(batch.identity_ids)
    _check_shape(batch, dimension, count)
    validation.check_request_id(batch.request_id)
    rows = np.ascontiguousarray(batch.vectors, dtype="<f4")
    units, errors = _unit_rows(rows)
    for row, error in _refused_rows(batch):
        errors.setdefault(row, error)
    data, width = rows.data.cast("B"), 4 * dimension
    sha256 = hashlib.sha256
    digests = [
        sha256(data[start : start + width]).digest() for start in range(0, count * width, width)
    ]
    fingerprint = b""
    if batch.request_id:
        fingerprint = fingerprint_of(
            "templates", batch.mode, batch.create, "\n".join(batch.identity_ids), batch.face_ids,
            batch.sources, batch.said, b"".join(digests),
        )  # fmt: skip
    return CheckedBatch(batch, units, checksums.of_vectors(units), digests, errors, fingerprint)


def enroll_batch(checked: CheckedBatch, gate: EnrolmentGate) -> Command[BatchAnswer]:
    """Enrols the rows of a batch, each with its own outcome.

    Raises:
        NotCalibratedError: The gate compares faces, and nothing tells where two are one person.
    """
    batch, rows = checked.batch, range(len(checked.digests))
    judgement: Judgement | None = None
    if gate.asks:
        vectors = [checked.errors.get(row, checked.units[row]) for row in rows]
        judgement = gate.judge([checked.face(row) for row in rows], vectors, batch.mode)

    def command(txn: Transaction) -> Effects[BatchAnswer]:
        changes = Changes()
        errors, gated = dict(checked.errors), dict[int, Enrollment]()
        known = txn.requests.recall(batch.request_id, checked.fingerprint, _Kept)
        outcomes: list[EnrollOutcome | None] = [None] * len(rows)
        if known is not None:
            outcomes = list(known.outcomes)
        others: Sequence[int] = [row for row in rows if outcomes[row] is None]
        if known is None and judgement is None:
            lane, others = _divide(checked, txn)
            if lane and not _have_room(checked, lane, txn):
                # One by one, as many as there is room for.
                lane, others = [], rows
            if lane:
                changes.arrivals = txn.add_newcomers(_newcomers(checked, lane), now_us())
            for row in lane:
                outcomes[row] = EnrollOutcome.ENROLLED
        verdicts = judgement and judgement.within(txn)
        for row in others:
            if row in errors:
                continue
            ask = partial(verdicts.findings, row) if verdicts else nothing
            unit = checked.units[row]
            one = enroll_one(txn, checked.face(row), batch.mode, unit, changes, ask)
            if isinstance(one, IndexerError):
                errors[row] = one
            else:
                outcomes[row] = one.outcome
                if one.findings:
                    gated[row] = one
        created = changes.created_count + (known.created if known else 0)
        if any(outcomes[row] for row in others) or changes.arrivals:
            kept = _Kept(tuple(outcomes), created)
            txn.requests.keep(batch.request_id, checked.fingerprint, kept, now_us())
        return changes.effects(BatchAnswer(outcomes, errors, created, gated))

    return command


def _have_room(checked: CheckedBatch, lane: Sequence[int], txn: Transaction) -> bool:
    """Whether the gallery may grow by all of the newcomers."""
    people = {checked.batch.identity_ids[row] for row in lane}
    try:
        txn.check_room(identities=len(people), faces=len(lane))
    except QuotaExceededError:
        return False
    return True


def _divide(checked: CheckedBatch, txn: Transaction) -> tuple[list[int], list[int]]:
    """Rows that are newcomers, and the others, which are to follow them one by one."""
    batch, errors = checked.batch, checked.errors
    ids = batch.identity_ids
    existing = txn.existing(ids) if batch.create else set(ids)
    if not existing and not errors and len(set(ids)) == len(ids):
        return list(range(len(ids))), []
    lane: list[int] = []
    others: list[int] = []
    seen: dict[str, set[str | bytes]] = {}
    # With these modes what comes later looks at what came before.
    single = batch.mode is not EnrollMode.INSERT
    for row, identity_id in enumerate(ids):
        if row in errors:
            continue
        if identity_id in existing:
            others.append(row)
            continue
        content = checked.digests[row]
        face_id = batch.face_ids[row] if batch.face_ids else ""
        known = seen.setdefault(identity_id, set())
        full = len(known) >= limits.FACES_PER_IDENTITY_MAX
        if content in known or face_id in known or full or (single and known):
            others.append(row)
            continue
        known.add(content)
        if face_id:
            known.add(face_id)
        lane.append(row)
    return lane, others


def _newcomers(checked: CheckedBatch, lane: Sequence[int]) -> Newcomers:
    batch = checked.batch
    numbers: dict[str, int] = {}
    owners = np.array(
        [numbers.setdefault(batch.identity_ids[row], len(numbers)) for row in lane],
        dtype=np.int64,
    )
    # The faces of an identity become neighbours.
    order = np.argsort(owners, kind="stable")
    rows = np.array(lane, dtype=np.int64)[order]
    places, nothing_said = rows.tolist(), [""] * len(rows)
    said: Sequence[Mapping[str, Any]] = ()
    if batch.said:
        first = dict(zip(reversed(owners[order].tolist()), reversed(places), strict=True))
        said = [_fields(batch.said[first[number]]) for number in range(len(numbers))]
    return Newcomers(
        identity_ids=list(numbers),
        said=said,
        owners=owners[order],
        face_ids=[batch.face_ids[row] for row in places] if batch.face_ids else nothing_said,
        digests=[checked.digests[row] for row in places],
        sources=[batch.sources[row] for row in places] if batch.sources else nothing_said,
        vectors=checked.units[rows],
        checksums=checked.checksums[rows],
    )


def _fields(said: NewIdentity) -> dict[str, Any]:
    return {
        "display_name": said.display_name,
        "labels": said.labels,
        "metadata": said.metadata,
        "expire_time_us": said.expire_time_us,
    }


def _check_shape(batch: TemplateBatch, dimension: int, count: int) -> None:
    if not 1 <= count <= limits.BATCH_ROWS_MAX:
        raise InvalidArgumentError(
            f"a batch has 1 to {limits.BATCH_ROWS_MAX} rows, not {count}",
            {"field": "identity_ids"},
        )
    if batch.vectors.shape != (count, dimension):
        raise InvalidVectorError(
            f"{count} rows of the gallery's dimension {dimension} were expected, the vectors "
            f"have the shape {batch.vectors.shape}",
            {"field": "vectors", "expected": str(dimension)},
        )
    if batch.vectors.nbytes > limits.BATCH_BYTES_MAX:
        raise InvalidArgumentError(
            f"a batch has at most {limits.BATCH_BYTES_MAX} bytes of vectors", {"field": "vectors"}
        )
    columns = {"face_ids": batch.face_ids, "sources": batch.sources, "said": batch.said}
    for name, column in columns.items():
        if column and len(column) != count:
            raise InvalidArgumentError(
                f"the column {name} has {len(column)} values for {count} rows", {"field": name}
            )


def _unit_rows(rows: Vector) -> tuple[Vector, dict[int, IndexerError]]:
    """All rows at unit length, and why some have none."""
    units = np.empty_like(rows)
    bad: list[int] = []
    for start in range(0, len(rows), _ROWS_CHECKED_TOGETHER):
        wide = rows[start : start + _ROWS_CHECKED_TOGETHER].astype(np.float64)
        norms = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        # Not finite if any value is not: also float32's largest squared is finite here.
        usable = np.isfinite(norms) & (norms >= limits.VECTOR_NORM_MIN)
        if not usable.all():
            bad += (start + np.flatnonzero(~usable)).tolist()
            norms = np.where(usable, norms, 1.0)
        # What was stored and comes back stays the same to the bit.
        norms[np.abs(norms - 1.0) <= limits.VECTOR_UNIT_TOLERANCE] = 1.0
        np.divide(wide, norms[:, None], out=wide)
        with np.errstate(invalid="ignore", over="ignore"):
            units[start : start + len(wide)] = wide
    return units, {row: _why(rows[row]) for row in bad}


def _why(vector: Vector) -> IndexerError:
    try:
        validation.unit_vector(vector, len(vector))
    except InvalidVectorError as error:
        return error
    return InvalidVectorError("the vector cannot be used", {"field": "vector"})


def _refused_rows(batch: TemplateBatch) -> Iterator[tuple[int, IndexerError]]:
    identity = partial(validation.check_id, what="identity")
    if not validation.are_ids(batch.identity_ids):
        yield from _refused(batch.identity_ids, identity)
    if any(batch.face_ids) and not validation.are_ids(filter(None, batch.face_ids)):
        yield from _refused(
            batch.face_ids, lambda value: value and validation.check_id(value, "face")
        )
    if any(batch.sources):
        yield from _refused(
            batch.sources,
            lambda value: validation.check_text(value, "source", limits.SOURCE_LENGTH_MAX),
        )
    if batch.said:
        passed: dict[int, NewIdentity] = {}
        for row, said in enumerate(batch.said):
            # Rows may share what is said of them.
            if id(said) in passed:
                continue
            try:
                passed[id(said)] = checked_identity(said)
            except IndexerError as error:
                yield row, error


def _refused(column: Sequence[Any], check: Any) -> Iterator[tuple[int, IndexerError]]:
    for row, value in enumerate(column):
        try:
            check(value)
        except IndexerError as error:
            yield row, error
