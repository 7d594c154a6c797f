"""Methods about the audit log: what was done on the server."""

from datetime import datetime

from visagedb._access import ApiKey
from visagedb._audit_log import AuditEntry, AuditLogFinding, AuditLogVerification
from visagedb._call import Call, Page, Pages, call
from visagedb._moments import moment
from visagedb._names import last_id
from visagedb.v1 import audit_log_pb2 as pb


def list_audit_entries(
    *,
    api_key: ApiKey | str = "",
    method: str = "",
    resource: str = "",
    outcome: str = "",
    start_time: datetime | None = None,
    end_time: datetime | None = None,
    oldest_first: bool = False,
    after_sequence: int = 0,
    page_size: int = 0,
    timeout: float | None = None,
) -> Pages[AuditEntry]:
    """Entries of the audit log, newest first, read page by page.

    Args:
        api_key: What this key did: the key, or its id.
        method: The end of a method's name, such as ``Identify``.
        resource: A resource with all that is in it, such as ``galleries/staff``.
        outcome: ``OK``, or the status code or the reason of refusals.
        start_time: From this moment on.
        end_time: Before this moment.
        oldest_first: From the oldest on.
        after_sequence: With `oldest_first`, only the entries behind this one.
        page_size: Entries per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.

    Raises:
        PermissionDeniedError: This client's key is neither an auditor's nor an admin's.
    """
    key_id = api_key.id if isinstance(api_key, ApiKey) else api_key.removeprefix("apiKeys/")

    def page(token: str) -> Call[Page[AuditEntry]]:
        request = pb.ListAuditEntriesRequest(
            page_size=page_size,
            page_token=token,
            api_key=f"apiKeys/{key_id}" if key_id else "",
            method=method,
            resource=resource,
            outcome=outcome,
            oldest_first=oldest_first,
            after_sequence=after_sequence,
        )
        if start_time is not None:
            request.start_time.FromDatetime(start_time)
        if end_time is not None:
            request.end_time.FromDatetime(end_time)
        return call(
            "AuditLogService/ListAuditEntries",
            request,
            pb.ListAuditEntriesResponse,
            lambda answer: Page(
                tuple(_entry(one) for one in answer.entries), answer.next_page_token
            ),
            timeout,
        )

    return Pages(page)


def verify_audit_log(head: str = "", *, timeout: float | None = None) -> Call[AuditLogVerification]:
    """Lets the server follow the whole chain of the audit log.

    Args:
        head: A head that was noted earlier, as the server's own log or an earlier check has
            it: it must still be in the chain.
        timeout: Seconds; None means the client's default.
    """
    return call(
        "AuditLogService/VerifyAuditLog",
        pb.VerifyAuditLogRequest(head=head),
        pb.VerifyAuditLogResponse,
        lambda answer: AuditLogVerification(
            answer.entry_count,
            answer.first_sequence,
            answer.head,
            tuple(AuditLogFinding(f.file, f.sequence, f.problem) for f in answer.findings),
        ),
        timeout,
    )


def _entry(message: pb.AuditEntry) -> AuditEntry:
    return AuditEntry(
        sequence=message.sequence,
        time=moment(message.time),
        event=message.event,
        api_key=last_id(message.api_key) if message.api_key else "",
        peer=message.peer,
        method=message.method,
        resource=message.resource,
        outcome=message.outcome,
        reason=message.reason,
        decision=message.decision,
        counts=dict(message.counts),
        details=dict(message.details),
    )
