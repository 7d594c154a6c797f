"""Enrolment of a matrix of vectors: columns, in batches that are one commit each."""

from collections.abc import AsyncIterable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from json import dumps
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from visagedb import _convert_gate as gates
from visagedb._bulk import DEFAULT_PATIENCE_SECONDS, ProgressCallback, Tally
from visagedb._convert import ENROLL_OUTCOMES
from visagedb._delivering import STALL_SECONDS, Shipment
from visagedb._errors import InvalidVectorError
from visagedb._gate import GateFinding
from visagedb._inputs import mode_value, new_request_id
from visagedb._names import gallery_name
from visagedb._translate import error_from_status
from visagedb._values import EnrollMode, EnrollOutcome
from visagedb.v1 import identities_pb2 as pb

BATCH_BYTES_DEFAULT: Final = 1 << 20
BATCH_ROWS_DEFAULT: Final = 1024
BATCHES_IN_FLIGHT_DEFAULT: Final = 6
_OUTCOMES: Final[dict[int, EnrollOutcome]] = {
    int(number): outcome for number, outcome in ENROLL_OUTCOMES.items()
}


@dataclass(frozen=True, slots=True, eq=False)
class VectorBatch:
    """Vectors to enrol in one commit. A column is None, or has a value for each row.

    Attributes:
        identities: Ids of the identities; created if there is none.
        vectors: Shape (n, dimension), numbers; at most 16,384 rows and 16 MiB as float32.
        face_ids: The caller's own ids for the faces; for an empty one the server makes one.
        sources: The caller's own references, for example file names.
        display_names: Of identities that are created, or with `upsert` of any.
        labels: Likewise: for each label key a value for each row, or one for all rows. An empty
            value leaves the label out.
        metadata: Likewise: what can be written as JSON.
        key: Anything by which the caller knows the batch again; not sent.
    """

    identities: Sequence[str] | NDArray[Any]
    vectors: ArrayLike
    face_ids: Sequence[str] | None = None
    sources: Sequence[str] | None = None
    display_names: Sequence[str] | None = None
    labels: Mapping[str, Sequence[str] | str] | None = None
    metadata: Sequence[Mapping[str, Any] | None] | None = None
    key: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class VectorResult:
    """What became of a batch, or of all vectors of one call.

    Attributes:
        outcomes: For each row; None for one that was refused.
        errors: By row, why: a `VisageError`, or what was wrong before anything was sent.
        created_identity_count: Identities that are new.
        key: The batch's.
        findings: By row, what the gallery's checks object to in rows that are not refused.
    """

    outcomes: tuple[EnrollOutcome | None, ...]
    errors: Mapping[int, Exception]
    created_identity_count: int
    key: Any = None
    findings: Mapping[int, tuple[GateFinding, ...]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no row was refused."""
        return not self.errors

    def count(self, outcome: EnrollOutcome | str) -> int:
        """How many rows have an outcome."""
        return self.outcomes.count(EnrollOutcome(outcome))


def batches_shipment(
    gallery: str,
    batches: Iterable[VectorBatch] | AsyncIterable[VectorBatch],
    *,
    mode: EnrollMode | str = EnrollMode.INSERT,
    create: bool = True,
    model: str = "",
    in_flight: int = BATCHES_IN_FLIGHT_DEFAULT,
    progress: ProgressCallback | None = None,
    patience: float = DEFAULT_PATIENCE_SECONDS,
    timeout: float | None = None,
) -> Shipment[VectorResult]:
    """What is sent for batches, and how their answers are read.

    Raises:
        ValueError: No batch could be in flight.
    """
    if in_flight < 1:
        raise ValueError(f"in_flight must be at least 1, not {in_flight}")
    shared = pb.EnrollTemplatesRequest(
        gallery=gallery_name(gallery), allow_missing=create, mode=mode_value(mode), model=model
    )
    tally = Tally(progress)

    def result(batch: VectorBatch, answer: Any) -> VectorResult:
        made = _result(batch, answer)
        tally.add(made.outcomes)
        return made

    stall = STALL_SECONDS if timeout is None else timeout
    return Shipment(
        batches, lambda batch: _request(batch, shared), result, in_flight, patience, stall
    )


def slices(batch: VectorBatch, rows: int | None) -> Iterator[VectorBatch]:
    """A batch as smaller ones, whose keys are their first rows.

    Raises:
        InvalidVectorError: The vectors are no matrix.
        ValueError: The columns differ in length, or `rows` is not positive.
    """
    matrix = np.asanyarray(batch.vectors)
    if matrix.ndim != 2 or not matrix.shape[1]:
        raise _no_matrix(matrix)
    count = len(batch.identities)
    columns = {
        "vectors": matrix,
        "face_ids": batch.face_ids,
        "sources": batch.sources,
        "display_names": batch.display_names,
        "metadata": batch.metadata,
        **{
            f"labels[{key!r}]": column
            for key, column in (batch.labels or {}).items()
            if not isinstance(column, str)
        },
    }
    for name, column in columns.items():
        if column is not None and len(column) != count:
            raise ValueError(f"{name} has {len(column)} values for {count} identities")
    if rows is None:
        rows = min(BATCH_ROWS_DEFAULT, max(1, BATCH_BYTES_DEFAULT // (4 * matrix.shape[1])))
    if rows < 1:
        raise ValueError(f"a batch has at least one row, not {rows}")
    return (_cut(batch, matrix, slice(at, at + rows)) for at in range(0, count, rows))


def joined(results: Iterable[VectorResult]) -> VectorResult:
    """The results of slices as one, by the rows of the whole."""
    ordered = sorted(results, key=lambda result: int(result.key))
    return VectorResult(
        tuple(outcome for result in ordered for outcome in result.outcomes),
        {result.key + row: error for result in ordered for row, error in result.errors.items()},
        sum(result.created_identity_count for result in ordered),
        findings={
            result.key + row: found for result in ordered for row, found in result.findings.items()
        },
    )


def _cut(batch: VectorBatch, matrix: NDArray[Any], part: slice) -> VectorBatch:
    def column(values: Any) -> Any:
        return None if values is None else values[part]

    labels = {
        key: values if isinstance(values, str) else values[part]
        for key, values in (batch.labels or {}).items()
    }
    return VectorBatch(
        batch.identities[part],
        matrix[part],
        column(batch.face_ids),
        column(batch.sources),
        column(batch.display_names),
        labels,
        column(batch.metadata),
        part.start,
    )


def _request(batch: VectorBatch, shared: pb.EnrollTemplatesRequest) -> pb.StreamEnrollFacesRequest:
    matrix = np.asarray(batch.vectors)
    if matrix.ndim != 2 or matrix.dtype.kind not in "fiu":
        raise _no_matrix(matrix)
    count = len(batch.identities)
    message = pb.StreamEnrollFacesRequest(templates=shared)
    templates = message.templates
    with np.errstate(over="ignore"):
        templates.vectors = np.ascontiguousarray(matrix, dtype="<f4").tobytes()
    templates.identity_ids.extend(_texts(batch.identities))
    templates.face_ids.extend(_texts(batch.face_ids or ()))
    templates.sources.extend(_texts(batch.sources or ()))
    templates.display_names.extend(_texts(batch.display_names or ()))
    templates.metadata.extend([dumps(one) if one else "" for one in batch.metadata or ()])
    for key, values in (batch.labels or {}).items():
        column = [values] * count if isinstance(values, str) else _texts(values)
        templates.labels.add(key=key, values=column)
    templates.request_id = new_request_id()
    return message


def _texts(values: Any) -> list[str]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _result(batch: VectorBatch, answer: pb.StreamEnrollFacesResponse | Exception) -> VectorResult:
    rows = range(len(batch.identities))
    if isinstance(answer, Exception):
        error: Exception = answer
    elif answer.WhichOneof("result") == "templates":
        templates = answer.templates
        outcomes = tuple(
            _OUTCOMES.get(number, EnrollOutcome.UNKNOWN) if number else None
            for number in templates.outcomes
        )
        errors = {one.row: error_from_status(one.error) for one in templates.errors}
        findings = {one.row: gates.findings(one.findings) for one in templates.findings}
        created = templates.created_identity_count
        return VectorResult(outcomes, errors, created, batch.key, findings)
    else:
        error = error_from_status(answer.error)
    return VectorResult((None,) * len(rows), dict.fromkeys(rows, error), 0, batch.key)


def _no_matrix(matrix: NDArray[Any]) -> InvalidVectorError:
    return InvalidVectorError(
        f"not usable vectors: their shape is {matrix.shape} and their type {matrix.dtype}, "
        "not (n, dimension) of numbers",
        code="INVALID_ARGUMENT",
        reason="INVALID_VECTOR",
    )
