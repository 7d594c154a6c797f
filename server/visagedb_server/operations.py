"""Long-running operations: started by a service, run in threads, kept in the catalogue."""

import hashlib
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Protocol

import structlog
from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.message import Message

from visagedb_indexer.clock import now_us
from visagedb_indexer.errors import CancelledError, IndexerError
from visagedb_indexer.store import Catalogue, OperationRecord
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
    """What a running operation's work may do: say how far it is, and learn of a cancel."""

    def __init__(self) -> None:
        self.finished = threading.Event()
        self.cancelled = threading.Event()
        self.forgotten = False
        self.metadata = any_pb2.Any()

    def report(self, metadata: Message) -> None:
        """Publishes progress, and stops the work here if the operation was cancelled."""
        packed = any_pb2.Any()
        packed.Pack(metadata)
        self.metadata = packed
        self.check()

    def check(self) -> None:
        """Stops the work here if the operation was cancelled.

        Raises:
            CancelledError: It was.
        """
        if self.cancelled.is_set():
            raise CancelledError("the operation was cancelled")


class Operations:
    """All operations of a server.

    Args:
        catalogue: Where they are kept. Those that a crash or a stop cut short are marked
            as failed here.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._running: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="operation")
        for record in catalogue.operations():
            if not record.done:
                self._finish(record, error=CancelledError("the server stopped; start it again"))

    def start(
        self, kind: str, request: Request, metadata: Message, work: Callable[[Job], Message]
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
                known = self._start(kind, request.request_id, fingerprint, metadata, work)
        return self.get(known)

    def _start(
        self,
        kind: str,
        request_id: str,
        fingerprint: bytes,
        metadata: Message,
        work: Callable[[Job], Message],
    ) -> str:
        now = now_us()
        # The time in front keeps the catalogue in the order of creation.
        record = OperationRecord(f"{now:016x}-{uuid.uuid4().hex[:8]}", kind, now)
        job = Job()
        job.report(metadata)
        record = replace(record, metadata=job.metadata.SerializeToString())
        self._catalogue.put_operation(record, request_id=request_id, fingerprint=fingerprint)
        self._running[record.id] = job
        self._threads.submit(self._run, record, job, work)
        return record.id

    def _run(self, record: OperationRecord, job: Job, work: Callable[[Job], Message]) -> None:
        response, error = None, None
        try:
            job.check()
            response = work(job)
        except IndexerError as raised:
            error = raised
        except Exception:  # noqa: BLE001
            _LOG.exception("operation failed", operation=record.id)
            error = IndexerError("an internal error; the server's log has the details")
        record = replace(record, metadata=job.metadata.SerializeToString())
        try:
            with self._lock:
                del self._running[record.id]
                if not job.forgotten:
                    self._finish(record, response, error)
        finally:
            job.finished.set()

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
        )
        self._catalogue.put_operation(done)

    def get(self, operation_id: str) -> operations_pb2.Operation:
        """An operation as it stands.

        Raises:
            OperationNotFoundError: There is none of this id.
        """
        with self._lock:
            job = self._running.get(operation_id)
        return _message(self._catalogue.operation(operation_id), job)

    def list(self) -> list[operations_pb2.Operation]:
        """All operations, oldest first."""
        with self._lock:
            running = dict(self._running)
        return [_message(record, running.get(record.id)) for record in self._catalogue.operations()]

    def wait(self, operation_id: str, timeout: float) -> operations_pb2.Operation:
        """An operation once it is done, or as it stands after `timeout` seconds."""
        with self._lock:
            job = self._running.get(operation_id)
        if job is not None:
            job.finished.wait(timeout)
        return self.get(operation_id)

    def cancel(self, operation_id: str) -> None:
        """Asks an operation to stop; one that is done stays as it is."""
        self._catalogue.operation(operation_id)
        with self._lock:
            job = self._running.get(operation_id)
        if job is not None:
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
        """Asks all operations to stop, and waits for them."""
        with self._lock:
            for job in self._running.values():
                job.cancelled.set()
        self._threads.shutdown(wait=True)


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
