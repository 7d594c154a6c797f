"""Long-running operations: started by a service, run in threads, kept in the catalogue.

An operation of a kind that a service has registered goes on after a restart: its request is
kept, and its work is begun again. What the work had done by then is its own business.
"""

import hashlib
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol, TypeAlias

import structlog
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from visagedb_indexer import cancellation, limits
from visagedb_indexer.clock import now_us
from visagedb_indexer.errors import CancelledError, IndexerError
from visagedb_indexer.failpoints import reached
from visagedb_indexer.store import Catalogue, OperationRecord
from visagedb_indexer.system_errors import of_system
from visagedb_indexer.validation import check_request_id
from visagedb_server import names
from visagedb_server.errors import status_of

_LOG = structlog.get_logger("visagedb.operations")
_THREADS = 2


class Request(Protocol):
    """A request that starts an operation, and that may be repeated."""

    @property
    def request_id(self) -> str:
        """The same for a repeat; empty for none."""
        ...

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes:  # noqa: N802
        """The request as bytes."""
        ...


class Job:
    """What a running operation's work may do: say how far it is, and learn of a cancel.

    Attributes:
        id: Of the operation; the same after a restart.
    """

    def __init__(self, operation_id: str) -> None:
        self.id = operation_id
        self.finished = threading.Event()
        self.changed = threading.Condition()
        self.cancelled = threading.Event()
        self.stopped = threading.Event()
        self.forgotten = False
        self.metadata = any_pb2.Any()

    def wake(self) -> None:
        """Lets those who wait look again."""
        with self.changed:
            self.changed.notify_all()

    def report(self, metadata: Message) -> None:
        """Publishes progress, and stops the work here if the operation was cancelled."""
        packed = any_pb2.Any()
        packed.Pack(metadata)
        self.metadata = packed
        self.check()

    @property
    def interrupted(self) -> bool:
        """Whether the server stops, so that the work goes on at the next start."""
        return self.stopped.is_set() and not self.cancelled.is_set()

    def check(self) -> None:
        """Stops the work here if the operation was cancelled.

        Raises:
            CancelledError: It was.
        """
        if self.cancelled.is_set():
            raise CancelledError("the operation was cancelled")
        if self.stopped.is_set():
            raise CancelledError("the server stopped; start it again")


Work: TypeAlias = Callable[[Job], Message]


class Operations:
    """All operations of a server.

    Args:
        catalogue: Where they are kept.

    Attributes:
        on_finished: Told of every operation that has ended, and of its error.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.on_finished: Callable[[OperationRecord, IndexerError | None], None] = (
            lambda record, error: None
        )
        self._catalogue = catalogue
        self._running: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="operation")
        self._own_threads: dict[str, ThreadPoolExecutor] = {}
        self._resumptions: dict[str, Callable[[bytes], Work]] = {}

    def register(self, kind: str, again: Callable[[bytes], Work], threads: int = 0) -> None:
        """Lets operations of a kind go on after a restart.

        Args:
            kind: As given to `start`.
            again: Makes the work anew from the bytes of the request.
            threads: Of its own, for a kind that mostly waits; 0 shares those of all kinds.
        """
        self._resumptions[kind] = again
        if threads:
            self._own_threads[kind] = ThreadPoolExecutor(threads, thread_name_prefix=kind)

    def resume(self) -> None:
        """Goes on with what a crash or a stop cut short, once every kind is registered.

        Operations of other kinds are marked as failed, cancelled ones as cancelled.
        """
        for record in self._catalogue.operations():
            if record.done:
                continue
            again = self._resumptions.get(record.kind)
            if record.cancelled:
                self._finish(record, error=CancelledError("the operation was cancelled"))
            elif again is None or not record.request:
                self._finish(record, error=CancelledError("the server stopped; start it again"))
            else:
                _LOG.info("operation goes on", operation=record.id, kind=record.kind)
                job = Job(record.id)
                job.metadata.ParseFromString(record.metadata)
                self._submit(record, job, again(record.request))
        self._forget_old()

    def start(
        self, kind: str, request: Request, metadata: Message, work: Work
    ) -> operations_pb2.Operation:
        """Starts an operation; `work` returns its response or raises an IndexerError.

        Raises:
            RequestIdReusedError: The request id belonged to another request.
            OperationNotFoundError: This request's operation has been deleted.
        """
        check_request_id(request.request_id)
        content = request.SerializeToString(deterministic=True)
        fingerprint = hashlib.sha256(kind.encode() + content).digest()
        with self._lock:
            known = self._catalogue.recall(request.request_id, fingerprint, str)
            if known is None:
                known = self._start(kind, request, fingerprint, metadata, work)
                self._forget_old()
        return self.get(known)

    def _start(
        self,
        kind: str,
        request: Request,
        fingerprint: bytes,
        metadata: Message,
        work: Work,
    ) -> str:
        now = now_us()
        # The time in front keeps the catalogue in the order of creation.
        record = OperationRecord(
            f"{now:016x}-{uuid.uuid4().hex[:8]}", kind, now, gallery=_gallery_of(metadata)
        )
        job = Job(record.id)
        job.report(metadata)
        record = replace(
            record,
            metadata=job.metadata.SerializeToString(),
            request=request.SerializeToString() if kind in self._resumptions else b"",
        )
        reached("operations.before_start")
        self._catalogue.put_operation(
            record, request_id=request.request_id, fingerprint=fingerprint
        )
        reached("operations.after_start")
        self._submit(record, job, work)
        return record.id

    def _submit(self, record: OperationRecord, job: Job, work: Work) -> None:
        self._running[record.id] = job
        threads = self._own_threads.get(record.kind, self._threads)
        threads.submit(self._run, record, job, work)

    def _run(self, record: OperationRecord, job: Job, work: Work) -> None:
        response, error = None, None
        try:
            job.check()
            response = work(job)
        except IndexerError as raised:
            error = raised
        except Exception as raised:  # noqa: BLE001
            _LOG.exception("operation failed", operation=record.id)
            error = of_system(raised) or IndexerError(
                "an internal error; the server's log has the details"
            )
        record = replace(record, metadata=job.metadata.SerializeToString())
        try:
            with self._lock:
                del self._running[record.id]
                if job.interrupted and error is not None and record.request:
                    # It goes on at the next start.
                    return
                if not job.forgotten:
                    self._finish(record, response, error)
        finally:
            job.finished.set()
            job.wake()

    def _finish(
        self,
        record: OperationRecord,
        response: Message | None = None,
        error: IndexerError | None = None,
    ) -> None:
        packed = any_pb2.Any()
        if response is not None:
            packed.Pack(response)
        done = replace(
            record,
            done=True,
            response=packed.SerializeToString(),
            error=b"" if error is None else status_of(error).SerializeToString(),
            request=b"",
            end_time_us=now_us(),
        )
        reached("operations.before_finish")
        self._catalogue.put_operation(done)
        self.on_finished(done, error)
        reached("operations.after_finish")

    def _forget_old(self) -> None:
        done = [record for record in self._catalogue.operations() if record.done]
        oldest_us = now_us() - int(limits.OPERATION_SECONDS_KEPT * 1e6)
        surplus = len(done) - limits.OPERATIONS_KEPT_MAX
        for place, record in enumerate(done):
            if place < surplus or (record.end_time_us or record.create_time_us) < oldest_us:
                self._catalogue.remove_operation(record.id)

    def unfinished(self) -> set[str]:
        """Ids of the operations that run, or will go on."""
        return {
            record.id
            for record in self._catalogue.operations()
            if not record.done and not record.cancelled
        }

    def get(self, operation_id: str) -> operations_pb2.Operation:
        """An operation as it stands.

        Raises:
            OperationNotFoundError: There is none of this id.
        """
        with self._lock:
            job = self._running.get(operation_id)
        return _message(self._catalogue.operation(operation_id), job)

    def gallery_of(self, operation_id: str) -> str:
        """Id of the gallery that an operation is about; empty for the whole server.

        Raises:
            OperationNotFoundError: There is none of this id.
        """
        return self._catalogue.operation(operation_id).gallery

    def list(self, sees: Callable[[str], bool]) -> list[operations_pb2.Operation]:
        """Operations, oldest first.

        Args:
            sees: Whether those of a gallery, by its id, are wanted; empty for the whole server.
        """
        with self._lock:
            running = dict(self._running)
        return [
            _message(record, running.get(record.id))
            for record in self._catalogue.operations()
            if sees(record.gallery)
        ]

    @property
    def running_count(self) -> int:
        """Operations that are not done."""
        with self._lock:
            return len(self._running)

    def wait(self, operation_id: str, timeout: float) -> operations_pb2.Operation:
        """An operation once it is done, or as it stands after `timeout` seconds.

        A caller who has gone is not waited for.
        """
        with self._lock:
            job = self._running.get(operation_id)
        if job is not None:
            caller = cancellation.current()
            with caller.calling(job.wake), job.changed:
                job.changed.wait_for(lambda: job.finished.is_set() or caller.cancelled, timeout)
        return self.get(operation_id)

    def cancel(self, operation_id: str) -> None:
        """Asks an operation to stop; one that is done stays as it is."""
        record = self._catalogue.operation(operation_id)
        with self._lock:
            job = self._running.get(operation_id)
            if job is None or job.cancelled.is_set():
                return
            # Whatever happens now, it will not go on after a restart.
            self._catalogue.put_operation(replace(record, cancelled=True))
            job.cancelled.set()

    def delete(self, operation_id: str) -> None:
        """Forgets an operation; one that runs is asked to stop."""
        self.cancel(operation_id)
        with self._lock:
            job = self._running.get(operation_id)
            if job is not None:
                job.forgotten = True
            self._catalogue.remove_operation(operation_id)

    def close(self) -> None:
        """Asks all operations to stop, and waits for them; some go on at the next start."""
        with self._lock:
            for job in self._running.values():
                job.stopped.set()
        for threads in (self._threads, *self._own_threads.values()):
            threads.shutdown(wait=True)


def _gallery_of(metadata: Message) -> str:
    """Id of the gallery that an operation's metadata name; empty for the whole server."""
    return str(getattr(metadata, "gallery", "")).removeprefix("galleries/")


def _message(record: OperationRecord, job: Job | None) -> operations_pb2.Operation:
    message = operations_pb2.Operation(name=names.operation_name(record.id), done=record.done)
    if job is not None and not record.done:
        message.metadata.CopyFrom(job.metadata)
    elif record.metadata:
        message.metadata.ParseFromString(record.metadata)
    if record.error:
        message.error.ParseFromString(record.error)
    elif record.done:
        message.response.ParseFromString(record.response)
    return message
