"""Entries of calls: the interceptor tells of each call, and here it is decided what is kept."""

from collections.abc import Callable
from typing import Any

import grpc
from google.rpc import code_pb2

from visagedb_indexer.clock import now_us
from visagedb_indexer.errors import IndexerError
from visagedb_indexer.store import OperationRecord
from visagedb_server import limits
from visagedb_server.access import Admission
from visagedb_server.access.rules import Audit
from visagedb_server.audit_log.entries import CALL, EXPIRY, OPERATION, Entry
from visagedb_server.audit_log.facts import about, answered
from visagedb_server.audit_log.writer import AuditLog
from visagedb_server.names import gallery_name, operation_name


class Recorder:
    """Tells the log of calls.

    Args:
        log: Where entries go.
        code_of: The status code of an error.
    """

    def __init__(self, log: AuditLog, code_of: Callable[[IndexerError], int]) -> None:
        self._log = log
        self._code_of = code_of

    def before(self, admission: Admission, request: Any) -> Audit:
        """Called before a call is worked on; says how it is going to be recorded.

        Raises:
            AuditLogUnavailableError: It could not be recorded, so it may not be done.
        """
        audit = admission.rule.audit_of(request)
        if audit is not Audit.NONE:
            self._log.check()
        return audit

    def after(
        self,
        audit: Audit,
        admission: Admission,
        context: grpc.ServicerContext,
        request: Any,
        response: Any,
    ) -> None:
        """Called when a call is done and not answered yet.

        Raises:
            AuditLogUnavailableError: It must be durable before the answer, and is not.
        """
        if audit is Audit.NONE:
            return
        entry = self._entry(admission, context)
        about(entry, admission.rule, request)
        entry.outcome = "OK"
        answered(entry, response)
        if audit is Audit.BEFORE_ANSWER:
            self._log.put_durable(entry)
        else:
            self._log.put(entry)

    def refused(
        self,
        admission: Admission,
        context: grpc.ServicerContext,
        request: Any,
        error: IndexerError,
    ) -> None:
        """Called when a call has failed, wherever; those that are not let in are kept too."""
        if admission.rule.audit_of(request) is Audit.NONE and not _shut_out(self._code_of(error)):
            return
        entry = self._entry(admission, context)
        about(entry, admission.rule, request)
        self._fail(entry, error)
        self._log.put(entry)

    def shut_out(self, method: str, context: grpc.ServicerContext, error: IndexerError) -> None:
        """Called when a caller is not let in before its request is read."""
        key = error.metadata.get("api_key", "")
        entry = Entry(now_us(), CALL, key=key, peer=context.peer(), method=method[1:])
        self._fail(entry, error)
        self._log.put(entry)

    def operation_finished(self, record: OperationRecord, error: IndexerError | None) -> None:
        """Called when a long-running operation has ended."""
        name = operation_name(record.id)
        entry = Entry(now_us(), OPERATION, details={"operation": name, "kind": record.kind})
        entry.resource = gallery_name(record.gallery) if record.gallery else ""
        if error is None:
            entry.outcome = "OK"
        else:
            self._fail(entry, error)
        self._log.put(entry)

    def expired(self, gallery_id: str, count: int) -> None:
        """Called when identities whose time was over were erased."""
        resource = gallery_name(gallery_id)
        entry = Entry(now_us(), EXPIRY, resource=resource, outcome="OK")
        entry.counts = {"identities": count}
        self._log.put(entry)

    def stream(self, admission: Admission, context: grpc.ServicerContext) -> "StreamRecorder":
        """Follows a stream."""
        return StreamRecorder(self._log, admission, lambda: self._entry(admission, context))

    def stream_refused(
        self, admission: Admission, context: grpc.ServicerContext, error: IndexerError
    ) -> None:
        """Called when a stream has ended with an error."""
        entry = self._entry(admission, context)
        self._fail(entry, error)
        self._log.put(entry)

    def _entry(self, admission: Admission, context: grpc.ServicerContext) -> Entry:
        return Entry(
            now_us(),
            CALL,
            key=admission.caller.key_id,
            peer=context.peer(),
            method=admission.method[1:],
        )

    def _fail(self, entry: Entry, error: IndexerError) -> None:
        entry.outcome, entry.reason = code_pb2.Code.Name(self._code_of(error)), error.reason


class StreamRecorder:
    """The items of one stream: an entry for each probe, one for many enrolments."""

    def __init__(self, log: AuditLog, admission: Admission, new_entry: Callable[[], Entry]) -> None:
        self._log = log
        self._rule = admission.rule
        self._new_entry = new_entry
        self._requests: dict[str, Any] = {}
        self._counts = {"faces": 0, "refused": 0}
        self._resource = ""

    def request(self, item: Any) -> None:
        """Called with every item before it is worked on.

        Raises:
            AuditLogUnavailableError: It could not be recorded.
        """
        if self._rule.audit_of(item) is Audit.NONE:
            return
        self._log.check()
        entry = self._new_entry()
        about(entry, self._rule, item)
        if self._rule.each_item:
            self._requests[item.item_id] = entry
        elif entry.resource:
            self._resource = self._resource or "/".join(entry.resource.split("/")[:2])

    def answer(self, item: Any) -> None:
        """Called with every answer before it is sent."""
        failed = item.HasField("error") if "error" in item.DESCRIPTOR.fields_by_name else False
        if self._rule.each_item:
            entry = self._requests.pop(item.item_id, None)
            if entry is None:
                return
            if failed:
                entry.outcome = code_pb2.Code.Name(item.error.code)
            else:
                entry.outcome = "OK"
                answered(entry, item.response)
            self._log.put(entry)
            return
        done, refused = _faces(item, failed=failed)
        self._counts["faces"] += done
        self._counts["refused"] += refused
        if sum(self._counts.values()) >= limits.AUDIT_LOG_STREAM_ITEMS:
            self.end()

    def end(self) -> None:
        """Called when the stream is over."""
        if any(self._counts.values()):
            entry = self._new_entry()
            entry.outcome, entry.resource = "OK", self._resource
            entry.counts = self._counts
            self._counts = {"faces": 0, "refused": 0}
            self._log.put(entry)


def _faces(answer: Any, *, failed: bool) -> tuple[int, int]:
    """How many faces an answer of a stream of enrolments is about, and how many were refused."""
    if failed:
        return 0, 1
    if answer.HasField("templates"):
        outcomes = answer.templates.outcomes
        return len(outcomes) - outcomes.count(0), outcomes.count(0)
    return (len(answer.loose.faces) if answer.HasField("loose") else 1), 0


def _shut_out(code: int) -> bool:
    return code in (code_pb2.UNAUTHENTICATED, code_pb2.PERMISSION_DENIED)
