"""Proves that nothing in the log was changed, removed, inserted, reordered or cut off."""

import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from visagedb_server.audit_log.chain import NO_DIGEST, digest_of, parse_line
from visagedb_server.audit_log.entries import FILE, PREVIOUS, REMOVED, THROUGH, Entry
from visagedb_server.audit_log.folder import Folder, Head, lines_of


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        file: Name of the file.
        sequence: Number of the entry where it was noticed; 0 where it has none.
        problem: What is wrong, in words.
    """

    file: str
    sequence: int
    problem: str


@dataclass(frozen=True, slots=True)
class Verification:
    """The outcome of a check.

    Attributes:
        entry_count: Entries that were looked at.
        first_sequence: Number of the oldest that is kept; 0 without any.
        head: The last one.
        findings: What is wrong; empty when all is well.
    """

    entry_count: int
    first_sequence: int
    head: Head
    findings: tuple[Finding, ...]


def verify(folder: Folder, known_head: str = "") -> Verification:
    """Checks a log, which may be written to at the same time.

    Args:
        folder: Where it is.
        known_head: A head that was noted earlier, ``{sequence}:{digest}``; the digest may be cut
            short after 16 digits. It must still be in the log: that finds also entries cut off
            by somebody who has put back an old copy of the whole folder.

    Raises:
        FailedPreconditionError: The key cannot be read.
        ValueError: `known_head` is no head.
    """
    key = folder.read_key()
    # Read first: entries that are written meanwhile lie behind it.
    on_disk = folder.read_head()
    chain = _Chain(key, _known(known_head))
    files = folder.files()
    for path in files:
        chain.begin_file(path)
        for line in lines_of(path):
            chain.add(line)
    return chain.finish(on_disk, wrote=bool(files))


class _Chain:
    """The chain as far as it was followed."""

    def __init__(self, key: bytes, known: Head | None) -> None:
        self._key = key
        self._known = known
        self._known_seen = False
        self._findings: list[Finding] = []
        self._file = ""
        self._count = 0
        self._first = 0
        self._head: Head | None = None
        self._removed_through = 0
        self._at_file_start = False

    def begin_file(self, path: Path) -> None:
        """Goes on to the next file."""
        self._file, self._at_file_start = path.name, True

    def add(self, line: bytes) -> None:
        """Follows the chain by one line."""
        self._count += 1
        try:
            digest, content, entry = parse_line(line)
        except ValueError as error:
            last = 0 if self._head is None else self._head.sequence
            self._report(last + 1, f"changed: {error}")
            self._at_file_start = False
            return
        before = self._before(entry)
        self._check_number(entry, before)
        if not hmac.compare_digest(digest_of(self._key, before.digest, content), digest):
            self._report(entry.sequence, self._why(entry, content, digest, before))
        if self._known is not None and entry.sequence == self._known.sequence:
            self._known_seen = True
            if not digest.startswith(self._known.digest):
                self._report(entry.sequence, "is not the entry of the head that was given")
        if entry.event == REMOVED:
            self._removed_through = int(entry.details.get(THROUGH, "0"))
        self._first = self._first or entry.sequence
        # What follows is compared with what is there, so that one change is one finding.
        self._head = Head(entry.sequence, digest)
        self._at_file_start = False

    def _before(self, entry: Entry) -> Head:
        if self._head is not None:
            return self._head
        # The oldest file that is kept says itself what came before.
        previous = entry.details.get(PREVIOUS, NO_DIGEST) if entry.event == FILE else NO_DIGEST
        return Head(entry.sequence - 1, previous)

    def _check_number(self, entry: Entry, before: Head) -> None:
        expected = before.sequence + 1
        if entry.sequence == expected:
            return
        if entry.sequence > expected:
            what = f"removed: the entries {expected} to {entry.sequence - 1} before it"
        else:
            what = f"reordered or inserted: it follows entry {before.sequence}"
        self._report(entry.sequence, what)

    def _why(self, entry: Entry, content: bytes, digest: str, before: Head) -> str:
        if self._at_file_start and entry.event == FILE:
            own = digest_of(self._key, entry.details.get(PREVIOUS, ""), content)
            if hmac.compare_digest(own, digest):
                return "the file does not follow the one before"
        if entry.sequence != before.sequence + 1:
            return "it does not follow the entry before"
        return "changed, or written by somebody without the key"

    def _report(self, sequence: int, problem: str) -> None:
        self._findings.append(Finding(self._file, sequence, problem))

    def finish(self, on_disk: Head | None, *, wrote: bool) -> Verification:
        """The outcome, at the end of the last file."""
        head = self._head or Head()
        if self._first > 1 and self._removed_through < self._first - 1:
            self._file = ""
            self._report(self._first, "removed: the files before it, which the log does not say")
        self._check_end(head, on_disk, wrote=wrote)
        if self._known is not None and not self._known_seen:
            where = "cut off" if self._known.sequence > head.sequence else "no longer kept"
            self._report(self._known.sequence, f"{where}: the entry of the head that was given")
        return Verification(self._count, self._first, head, tuple(self._findings))

    def _check_end(self, head: Head, on_disk: Head | None, *, wrote: bool) -> None:
        if on_disk is None:
            if wrote:
                self._report(head.sequence, "the file HEAD is gone or cannot be read")
        elif on_disk.sequence > head.sequence:
            self._report(
                head.sequence, f"cut off: the entries {head.sequence + 1} to {on_disk.sequence}"
            )
        elif on_disk.sequence == head.sequence and on_disk.digest != head.digest:
            self._report(head.sequence, "is not the entry that HEAD names")


def _known(text: str) -> Head | None:
    if not text:
        return None
    sequence, _, digest = text.partition(":")
    if not sequence.isdecimal() or len(digest) < 16 or set(digest) - set("0123456789abcdef"):
        raise ValueError(f"{text!r} is no head, which is NUMBER:DIGEST as the server's log has it")
    return Head(int(sequence), digest)


def summary(found: Verification) -> Iterator[str]:
    """A check in words."""
    yield f"{found.entry_count:,} entries from {found.first_sequence}; head {found.head}"
    for finding in found.findings:
        yield f"{finding.file or 'log'}, entry {finding.sequence}: {finding.problem}"
