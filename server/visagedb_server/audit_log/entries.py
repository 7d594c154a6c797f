"""What is written down."""

from typing import Final

import msgspec

CALL: Final = "call"
OPERATION: Final = "operation"
"""A long-running operation has ended."""
EXPIRY: Final = "expiry"
"""Identities whose time was over were erased."""
START: Final = "start"
STOP: Final = "stop"
FILE: Final = "file"
"""The first entry of a file; its `previous` is the digest of the last one of the file before."""
REMOVED: Final = "removed"
"""The oldest file was removed to make room."""

PREVIOUS: Final = "previous"
THROUGH: Final = "through_sequence"


class Entry(msgspec.Struct, omit_defaults=True):
    """One entry. It has names, numbers and words, never a vector or an image.

    Attributes:
        sequence: Counts the entries from 1 on; the writer gives it.
        time_us: When, in microseconds since 1970.
        event: ``call``; what the server did by itself: ``operation``, ``expiry``; or what the
            log says of itself: ``start``, ``stop``, ``file``, ``removed``.
        key: Id of the caller's API key; empty for a caller without one.
        peer: Address of the caller.
        method: ``package.Service/Method``.
        resource: Name of what the call was about.
        outcome: ``OK``, or the status code of the refusal.
        reason: Of the refusal.
        decision: Of a search or comparison: ``match`` or ``no_match``.
        counts: Numbers, such as those of faces or candidates.
        details: Words, such as the name of what was made.
    """

    time_us: int
    event: str
    sequence: int = 0
    key: str = ""
    peer: str = ""
    method: str = ""
    resource: str = ""
    outcome: str = ""
    reason: str = ""
    decision: str = ""
    counts: dict[str, int] = {}
    details: dict[str, str] = {}

    @property
    def gallery(self) -> str:
        """Id of the gallery that the entry is about; empty for the whole server."""
        parts = self.resource.split("/")
        return parts[1] if len(parts) > 1 and parts[0] == "galleries" else ""
