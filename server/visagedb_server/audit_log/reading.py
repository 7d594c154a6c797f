"""Entries by filter, newest or oldest first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from visagedb_server import limits
from visagedb_server.audit_log.chain import parse_line
from visagedb_server.audit_log.entries import Entry
from visagedb_server.audit_log.folder import Folder, lines_of


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are wanted; what is empty or None passes all.

    Attributes:
        key: Id of an API key.
        method: The end of a method's name, such as ``Identify`` or ``SearchService/Identify``.
        resource: A resource with all that is in it.
        outcome: ``OK``, or the status code or reason of a refusal.
        start_us: Entries from this moment on, in microseconds since 1970.
        end_us: Entries before this moment.
        sees: Whether entries about a gallery, by its id, are wanted; empty for the whole server.
    """

    sees: Callable[[str], bool]
    key: str = ""
    method: str = ""
    resource: str = ""
    outcome: str = ""
    start_us: int | None = None
    end_us: int | None = None

    def passes(self, entry: Entry) -> bool:
        """Whether an entry is wanted."""
        return (
            (not self.key or entry.key == self.key)
            and (not self.method or f"/{entry.method}".endswith(f"/{self.method}"))
            and (not self.resource or f"{entry.resource}/".startswith(f"{self.resource}/"))
            and (not self.outcome or self.outcome in (entry.outcome, entry.reason))
            and (self.start_us is None or entry.time_us >= self.start_us)
            and (self.end_us is None or entry.time_us < self.end_us)
            and self.sees(entry.gallery)
        )


@dataclass(frozen=True, slots=True)
class Found:
    """Some entries, and from where to go on.

    Attributes:
        entries: Those that pass.
        next_sequence: Number of the entry that was looked at last; 0 at the end of the log.
    """

    entries: tuple[Entry, ...]
    next_sequence: int


def find(
    folder: Folder, wanted: Filter, count: int, *, after: int = 0, oldest_first: bool = False
) -> Found:
    """Entries that pass a filter.

    Args:
        folder: Where the log is.
        wanted: The filter.
        count: At most so many.
        after: Number of the entry behind which to go on, in the direction of reading; 0 for the
            beginning.
        oldest_first: Whether to read from the oldest on.
    """
    found: list[Entry] = []
    entries = _read(folder, after, oldest_first=oldest_first)
    for looked, entry in enumerate(entries, 1):
        if wanted.passes(entry):
            found.append(entry)
        if len(found) == count or looked == limits.AUDIT_LOG_SCAN_ENTRIES_MAX:
            return Found(tuple(found), entry.sequence)
    return Found(tuple(found), 0)


def _read(folder: Folder, after: int, *, oldest_first: bool) -> Iterator[Entry]:
    files = folder.files()
    starts = [int(path.stem) for path in files]
    spans = list(zip(files, starts, [*starts[1:], None], strict=True))
    for path, start, end in spans if oldest_first else reversed(spans):
        beside = end is not None and end <= after + 1 if oldest_first else 0 < after <= start
        if beside:
            continue
        try:
            lines = list(lines_of(path))
        except FileNotFoundError:
            continue  # Removed to make room.
        for line in lines if oldest_first else reversed(lines):
            try:
                entry = parse_line(line)[2]
            except ValueError:
                continue  # A check reports it.
            if after and (entry.sequence <= after if oldest_first else entry.sequence >= after):
                continue
            yield entry
