"""The folder of the log: its files by the number of their first entry, its key, its head.

audit/KEY                      what the digests are made with; may lie elsewhere
audit/HEAD                     number and digest of the last entry that is on disk
audit/0000000000000001.log     entries
"""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from visagedb_indexer.errors import FailedPreconditionError
from visagedb_server.audit_log.chain import DIGEST_LENGTH, NO_DIGEST, parse_line

KEY_BYTES: Final = 32
_SEQUENCE_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry: with its digest it stands for all entries before it."""

    sequence: int = 0
    digest: str = NO_DIGEST

    def __str__(self) -> str:
        return f"{self.sequence}:{self.digest}"


class Folder:
    """The files of one log.

    Args:
        path: The folder.
        key_file: Where its key is; None for ``KEY`` in the folder.
    """

    def __init__(self, path: Path, key_file: Path | None = None) -> None:
        self.path = path
        self.key_file = key_file or path / "KEY"

    def make(self) -> bytes:
        """Makes folder and key if there are none; returns the key.

        Raises:
            FailedPreconditionError: There are entries, but their key is gone.
            OSError: The folder cannot be written.
        """
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self.key_file.exists():
            if self.files():
                raise FailedPreconditionError(
                    f"the audit log {self.path} has entries, but its key {self.key_file} is not "
                    "there: bring it back, or move the folder away to begin a new log"
                )
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with os.fdopen(os.open(self.key_file, flags, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES).hex().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            sync_folder(self.key_file.parent)
        return self.read_key()

    def read_key(self) -> bytes:
        """The key.

        Raises:
            FailedPreconditionError: It is not there, or no key.
        """
        try:
            key = bytes.fromhex(self.key_file.read_text().strip())
        except (OSError, ValueError) as error:
            raise FailedPreconditionError(
                f"the key of the audit log cannot be read: {error}"
            ) from error
        if len(key) < KEY_BYTES:
            raise FailedPreconditionError(
                f"{self.key_file} is no key: {2 * KEY_BYTES} hexadecimal digits are"
            )
        return key

    def file_at(self, sequence: int) -> Path:
        """The file whose first entry has this number."""
        return self.path / f"{sequence:0{_SEQUENCE_DIGITS}d}.log"

    def files(self) -> list[Path]:
        """All files, oldest first."""
        names = (path for path in self.path.glob("*.log") if path.stem.isdecimal())
        return sorted(path for path in names if len(path.stem) == _SEQUENCE_DIGITS)

    def read_head(self) -> Head | None:
        """The head that was written last; None if there is none that can be read."""
        try:
            sequence, _, digest = (self.path / "HEAD").read_text().strip().partition(":")
            head = Head(int(sequence), digest)
        except (OSError, ValueError):
            return None
        return head if len(digest) == DIGEST_LENGTH else None

    def write_head(self, head: Head) -> None:
        """Writes the head, in place: it is shorter than what a disk writes at once."""
        text = f"{head.sequence:0{_SEQUENCE_DIGITS}d}:{head.digest}\n".encode()
        with os.fdopen(os.open(self.path / "HEAD", os.O_WRONLY | os.O_CREAT, 0o600), "wb") as file:
            file.write(text)

    def cut_torn_line(self) -> int:
        """Removes the piece of a line with which a crash ended the newest file; bytes removed."""
        files = self.files()
        if not files:
            return 0
        data = files[-1].read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(files[-1], whole)
        if not whole:
            # The crash came before the line that a file begins with.
            files[-1].unlink()
        return len(data) - whole

    def last(self) -> tuple[Head, str]:
        """The last entry that can be read, and what is wrong with those behind it."""
        damage = ""
        files = self.files()
        for path in reversed(files):
            for line in reversed(path.read_bytes().splitlines()):
                try:
                    digest, _, entry = parse_line(line)
                except ValueError as error:
                    damage = f"{path.name} ends with {error}"
                else:
                    # Numbers go on behind those of the files: none may be overwritten.
                    behind = int(files[-1].stem) if damage else 0
                    return Head(max(entry.sequence, behind), digest), damage
        return Head(int(files[-1].stem)) if files else Head(), damage


def lines_of(path: Path) -> Iterator[bytes]:
    """The whole lines of a file that may be written to at the same time."""
    data = path.read_bytes()
    yield from data[: data.rfind(b"\n") + 1].splitlines()


def sync_folder(path: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
