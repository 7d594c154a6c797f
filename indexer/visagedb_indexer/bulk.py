"""Enrolment for streams and imports: what is handed over now is answered later.

So the next batch is read and checked while the last one is written and synced.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol, TypeVar

from visagedb_indexer import enrollment
from visagedb_indexer.commands import Command
from visagedb_indexer.enrolment_gate import EnrolmentGate
from visagedb_indexer.gallery_values import EnrollMode, NewFace
from visagedb_indexer.store import Change, GroupCommit, Transaction
from visagedb_indexer.template_batches import (
    BatchAnswer,
    TemplateBatch,
    check_batch,
    enroll_batch,
)
from visagedb_indexer.values import ModelIdentity

Result = TypeVar("Result")


class MakeDurable(Protocol):
    """Adds to a command what memory has to do after its commit."""

    def __call__(self, command: Command[Result], /) -> Callable[[Transaction], Change[Result]]:
        """The command as the writer runs it."""
        ...


class BulkEnrollment:
    """Enrolment of one gallery whose answers come later, in the order of the calls.

    Args:
        writer: The gallery's writer.
        durable: Makes of a command what the writer runs.
        model: That all vectors come from.
        gate: What the gallery asks of faces.
    """

    def __init__(
        self, writer: GroupCommit, durable: MakeDurable, model: ModelIdentity, gate: EnrolmentGate
    ) -> None:
        self._writer = writer
        self._durable = durable
        self._model = model
        self._gate = gate

    def faces(
        self, faces: Sequence[NewFace], mode: EnrollMode = EnrollMode.INSERT
    ) -> Future[list[enrollment.Answer]]:
        """Adds faces; the future has what `Gallery.enroll_many` returns.

        Raises:
            GalleryClosedError: The gallery is closed.
            NotCalibratedError: The gate compares faces, and nothing tells when two are one person.
        """
        command = enrollment.enroll_many(faces, mode, self._model, self._gate)
        return self._writer.submit(self._durable(command), len(faces))

    def templates(self, batch: TemplateBatch) -> Future[BatchAnswer]:
        """Adds templates given as columns, in one commit.

        The future may raise a `RequestIdReusedError`.

        Raises:
            InvalidArgumentError: The columns do not fit together, or are too long.
            InvalidVectorError: The vectors are of another dimension.
            GalleryClosedError: The gallery is closed.
            NotCalibratedError: The gate compares faces, and nothing tells when two are one person.
        """
        checked = check_batch(batch, self._model.dimension)
        command = enroll_batch(checked, self._gate)
        return self._writer.submit(self._durable(command), len(checked.digests))
