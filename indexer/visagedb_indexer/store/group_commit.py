"""Group commit: one thread writes, and writes that arrive together share one sync.

A sync costs the same whether it makes one row or a thousand durable. So callers hand
their writes to a queue and wait; the writer takes all that have gathered, runs them in
one transaction, commits, lets the in-memory structures follow, and only then answers.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from visagedb_indexer import limits, telemetry
from visagedb_indexer.errors import (
    GalleryClosedError,
    IndexerError,
    StorageCorruptError,
    UnavailableError,
)
from visagedb_indexer.failpoints import reached
from visagedb_indexer.store.gallery_store import GalleryStore
from visagedb_indexer.store.transaction import Transaction
from visagedb_indexer.telemetry import Measure

_LOG = logging.getLogger(__name__)

_CROWD_SECONDS: Final = 0.002
"""Short beside a sync, long enough for the other half of a worker's batch to arrive."""

Result = TypeVar("Result")


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Change(Generic[Result]):
    """What a command has done.

    Attributes:
        result: What its caller gets.
        apply: Brings the in-memory structures up to date; runs after the commit, in
            commit order, and must not fail.
    """

    result: Result
    apply: Callable[[], None] = _nothing


@dataclass(frozen=True, slots=True)
class _Submission:
    command: Callable[[Transaction], Change[Any]]
    future: Future[Any]
    weight: int


class GroupCommit:
    """The single writer of a gallery.

    A command had better raise an `IndexerError` before it has changed anything, for then one
    refused command does not undo its neighbours. Should one fail later, or in any other way,
    the whole transaction is undone and the commands run again one by one.

    Should memory fail to follow a durable change, the writer stops: reopening the
    gallery brings the two together again.
    """

    def __init__(self, store: GalleryStore, name: str) -> None:
        self._store = store
        self._queue: queue.SimpleQueue[_Submission | None] = queue.SimpleQueue()
        self._closed = False
        self.failed = False
        """Whether the writer has stopped because memory could not follow."""
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=f"writer-{name}", daemon=True)
        self._thread.start()

    def run(self, command: Callable[[Transaction], Change[Result]]) -> Result:
        """Runs a command; returns when its change is durable and searchable.

        Raises:
            GalleryClosedError: The writer has been closed.
        """
        with telemetry.timed(Measure.COMMIT):
            return self.submit(command).result()

    def submit(
        self, command: Callable[[Transaction], Change[Result]], weight: int = 1
    ) -> Future[Result]:
        """Queues a command; its result is there when its change is durable and searchable.

        Args:
            command: What to do.
            weight: Rows that it writes: a commit takes only so many.

        Raises:
            GalleryClosedError: The writer has been closed.
        """
        future: Future[Result] = Future()
        with self._lock:
            if self._closed:
                raise GalleryClosedError("the gallery is closed")
            self._queue.put(_Submission(command, future, weight))
        return future

    @property
    def waiting(self) -> int:
        """Writes that are queued."""
        return self._queue.qsize()

    def close(self) -> None:
        """Finishes what is queued, then stops."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        batch: list[_Submission] = []
        try:
            while batch := self._gather(crowded=len(batch) > 1):
                self._commit(batch)
        except Exception:  # noqa: BLE001
            _LOG.exception("%s has stopped; restart the server", self._thread.name)
            self._abandon(batch)

    def _gather(self, *, crowded: bool = False) -> list[_Submission]:
        """All that is queued, waiting for the first; nothing once the writer is closed.

        Where writes come in numbers, a moment's wait lets more of them share one sync.
        """
        batch: list[_Submission] = []
        weight = 0
        while not batch or (
            len(batch) < limits.COMMIT_COMMANDS_MAX
            and weight < limits.COMMIT_WEIGHT_MAX
            and not self._queue.empty()
        ):
            submission = self._queue.get()
            if submission is None:
                self._queue.put(None)
                break
            if crowded and not batch:
                with telemetry.timed(Measure.COMMIT_GATHER):
                    time.sleep(_CROWD_SECONDS)
            batch.append(submission)
            weight += submission.weight
        return batch

    def _abandon(self, batch: list[_Submission]) -> None:
        with self._lock:
            self._closed = self.failed = True
            self._queue.put(None)
        while left := [one for one in batch if not one.future.done()] or self._gather():
            for submission in left:
                submission.future.set_exception(
                    UnavailableError("the gallery's writer has stopped; restart the server")
                )

    def _commit(self, batch: list[_Submission]) -> None:
        telemetry.observe(Measure.COMMIT_COMMANDS, len(batch))
        try:
            done = self._attempt(batch)
        except Exception as error:  # noqa: BLE001 - the writer must outlive any command
            if len(batch) == 1:
                batch[0].future.set_exception(error)
            else:
                for submission in batch:
                    self._commit([submission])
            return
        reached("commit.before_apply")
        for submission, change in done:
            change.apply()
            reached("commit.before_acknowledgement")
            submission.future.set_result(change.result)
        reached("commit.after_acknowledgement")

    def _attempt(self, batch: list[_Submission]) -> list[tuple[_Submission, Change[Any]]]:
        done: list[tuple[_Submission, Change[Any]]] = []
        refused: list[tuple[_Submission, IndexerError]] = []
        reached("commit.before_transaction")
        with self._store.write() as txn:
            reached("commit.before_commands")
            with telemetry.timed(Measure.COMMIT_WRITE):
                for submission in batch:
                    before = txn.counters()
                    try:
                        done.append((submission, submission.command(txn)))
                    except StorageCorruptError:
                        # Found on the way, so that half of the command may be done.
                        raise
                    except IndexerError as error:
                        if txn.counters() is not before:
                            # Half of the command is done: it is undone with all the others.
                            raise
                        refused.append((submission, error))
            reached("commit.after_commands")
        for submission, refusal in refused:
            submission.future.set_exception(refusal)
        return done
