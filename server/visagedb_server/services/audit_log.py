"""AuditLogService."""

import grpc

from visagedb.v1 import audit_log_pb2, audit_log_pb2_grpc
from visagedb_indexer.errors import InvalidArgumentError
from visagedb_server import convert, names, paging
from visagedb_server.access import current_caller
from visagedb_server.audit_log import AuditLog, Entry
from visagedb_server.audit_log.reading import Filter, find
from visagedb_server.audit_log.verifying import verify

_LISTING = "auditEntries"


class AuditLogService(audit_log_pb2_grpc.AuditLogServiceServicer):
    """The audit log: list, verify."""

    def __init__(self, log: AuditLog) -> None:
        self._log = log
        self._folder = log.folder

    def ListAuditEntries(  # noqa: N802
        self, request: audit_log_pb2.ListAuditEntriesRequest, context: grpc.ServicerContext
    ) -> audit_log_pb2.ListAuditEntriesResponse:
        """Entries that pass a filter."""
        if request.after_sequence < 0:
            raise InvalidArgumentError("after_sequence is negative", {"field": "after_sequence"})
        token = paging.read_token(request.page_token, _LISTING)
        if token and not (token.isdecimal() and len(token) < 18):
            raise InvalidArgumentError("the page token is not of this listing")
        start, end = (
            convert.microseconds(getattr(request, field)) if request.HasField(field) else None
            for field in ("start_time", "end_time")
        )
        wanted = Filter(
            sees=current_caller().sees,
            key=names.parse_api_key(request.api_key) if request.api_key else "",
            method=request.method,
            resource=request.resource.rstrip("/"),
            outcome=request.outcome,
            start_us=start,
            end_us=end,
        )
        # Whoever asks sees what was answered before.
        self._log.flush()
        after = int(token) if token else request.after_sequence if request.oldest_first else 0
        found = find(
            self._folder,
            wanted,
            paging.page_size(request.page_size),
            after=after,
            oldest_first=request.oldest_first,
        )
        return audit_log_pb2.ListAuditEntriesResponse(
            entries=[_message(entry) for entry in found.entries],
            next_page_token=(
                paging.token_after(found.next_sequence, _LISTING) if found.next_sequence else ""
            ),
        )

    def VerifyAuditLog(  # noqa: N802
        self, request: audit_log_pb2.VerifyAuditLogRequest, context: grpc.ServicerContext
    ) -> audit_log_pb2.VerifyAuditLogResponse:
        """Follows the whole chain."""
        try:
            found = verify(self._folder, request.head)
        except ValueError as error:
            raise InvalidArgumentError(str(error), {"field": "head"}) from error
        return audit_log_pb2.VerifyAuditLogResponse(
            entry_count=found.entry_count,
            first_sequence=found.first_sequence,
            head=str(found.head),
            findings=[
                audit_log_pb2.AuditLogFinding(
                    file=one.file, sequence=one.sequence, problem=one.problem
                )
                for one in found.findings
            ],
        )


def _message(entry: Entry) -> audit_log_pb2.AuditEntry:
    return audit_log_pb2.AuditEntry(
        sequence=entry.sequence,
        time=convert.timestamp(entry.time_us),
        event=entry.event,
        api_key=names.api_key_name(entry.key) if entry.key else "",
        peer=entry.peer,
        method=entry.method,
        resource=entry.resource,
        outcome=entry.outcome,
        reason=entry.reason,
        decision=entry.decision,
        counts=entry.counts,
        details=entry.details,
    )
