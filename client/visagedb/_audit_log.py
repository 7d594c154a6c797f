"""Entries of the audit log, as frozen values. Audits of a gallery's labels are in `_audits`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What was done, by whom, and when.

    Attributes:
        sequence: Counts the entries from 1 on, without a gap.
        event: ``call``; what the server did by itself: ``operation``, ``expiry``; or what the
            log says of itself: ``start``, ``stop``, ``file``, ``removed``.
        api_key: Id of the caller's key; empty for a caller without one.
        peer: Address of the caller.
        method: ``package.Service/Method``.
        resource: Name of what the call was about.
        outcome: ``OK``, or the status code of the refusal.
        reason: Of the refusal.
        decision: Of a search or comparison: ``match`` or ``no_match``.
        counts: Numbers, such as those of faces or candidates.
        details: Words, such as the name of what was made.
    """

    sequence: int
    time: datetime | None
    event: str
    api_key: str
    peer: str
    method: str
    resource: str
    outcome: str
    reason: str
    decision: str
    counts: Mapping[str, int]
    details: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AuditLogFinding:
    """One thing that is wrong with the audit log.

    Attributes:
        file: Name of the file.
        sequence: Number of the entry where it was noticed.
        problem: What is wrong, in words.
    """

    file: str
    sequence: int
    problem: str


@dataclass(frozen=True, slots=True)
class AuditLogVerification:
    """The outcome of a check of the audit log.

    Attributes:
        entry_count: Entries that were looked at.
        first_sequence: Number of the oldest that is kept.
        head: The last entry, ``{sequence}:{digest}``. Keep it elsewhere, and give it to a
            later check.
        findings: What is wrong; empty when all is well.
    """

    entry_count: int
    first_sequence: int
    head: str
    findings: tuple[AuditLogFinding, ...]
