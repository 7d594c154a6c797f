"""A tar of images as the source of an import.

Members that lie together and share a key, their path up to the first dot of the name, belong
together: ``key.jpg`` is the image; ``key.json`` says what `said_of` reads; ``key.txt`` or
``key.cls`` holds the name of the identity. Names are never used as paths.
"""

import gzip
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

from visagedb_indexer import limits
from visagedb_indexer.errors import IndexerError, InvalidSourceError
from visagedb_indexer.exchange.entries import Entry, Ignored
from visagedb_indexer.exchange.images import ImageEntries, too_large
from visagedb_indexer.exchange.naming import IMAGE_SUFFIXES, check_readable
from visagedb_indexer.exchange.said import Said, said_in_json

_READ_BYTES_MAX: Final = limits.MIB
"""More is asked for at once only by a header that says it has a very long name."""
_EXPANSION_MAX: Final = 100
"""Images do not get much smaller; what expands so much is no tar of images."""
_EXPANSION_FREE_BYTES: Final = 64 * limits.MIB
_SIDECARS: Final = frozenset({".json", ".txt", ".cls"})


class TarSource:
    """The images in a tar, plain or compressed with gzip.

    Args:
        path: For messages.
        file: The tar; closed with the source.
        images: Makes entries of images.
        check: Called now and then; raises to stop.
    """

    def __init__(
        self, path: Path, file: BinaryIO, images: ImageEntries, check: Callable[[], None]
    ) -> None:
        status = os.fstat(file.fileno())
        self.mark = f"{status.st_size} {status.st_mtime_ns}"
        self._path = path
        self._size = max(1, status.st_size)
        self._images = images
        self._file = file
        file.seek(0)
        compressed = file.read(2) == b"\x1f\x8b"
        self._blocks = _Blocks(file, self._size, check, compressed=compressed)

    def count(self) -> int:
        """Not known before the end."""
        return 0

    def progress(self, position: str) -> float | None:
        """See `Source.progress`; of a compressed file what has been read of it."""
        return self._blocks.share(int(position or 0)) / self._size

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def entries(self, position: str) -> Iterator[Entry]:
        """See `Source.entries`."""
        try:
            yield from self._entries(int(position or 0))
        except (tarfile.TarError, EOFError, OSError, ValueError) as error:
            # UnicodeError and zlib's errors are among these.
            raise InvalidSourceError(
                f"{self._path.name} is damaged or cut short: {error}"
            ) from error

    def _entries(self, start: int) -> Iterator[Entry]:
        self._blocks.seek(start)
        # Read plainly by tarfile; what is compressed is expanded below it.
        blocks: Any = self._blocks
        archive = tarfile.TarFile(fileobj=blocks, errors="surrogateescape")
        sample: _Sample | None = None
        while (member := archive.next()) is not None:
            # It would remember them all.
            archive.members.clear()  # type: ignore[attr-defined]
            if member.isdir():
                continue
            key, suffix = _split(member.name)
            if sample is not None and (key != sample.key or not member.isreg()):
                yield from sample.entries(str(member.offset), self._images)
                sample = None
            if not member.isreg() or not (suffix in IMAGE_SUFFIXES or suffix in _SIDECARS):
                if sample is None:
                    yield Entry(member.name, str(archive.offset), Ignored())
                else:
                    sample.ignored.append(member.name)
                continue
            sample = sample or _Sample(key)
            sample.take(member, suffix, archive)
        self._check_end()
        if sample is not None:
            yield from sample.entries(str(archive.offset), self._images)

    def _check_end(self) -> None:
        """A tar ends with a block of zeros; tarfile takes any other end for one, too."""
        last = self._blocks.last
        if len(last) != tarfile.BLOCKSIZE or any(last):
            raise InvalidSourceError(f"{self._path.name} is damaged or cut short: it has no end")


@dataclass(slots=True)
class _Sample:
    """Members with one key."""

    key: str
    name: str = ""
    image: bytes = b""
    said: dict[str, bytes] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    error: IndexerError | None = None

    def take(self, member: tarfile.TarInfo, suffix: str, archive: tarfile.TarFile) -> None:
        """Reads the next member."""
        if suffix in IMAGE_SUFFIXES and self.name:
            self.ignored.append(member.name)
        elif suffix in IMAGE_SUFFIXES:
            self.name = member.name
            if member.size > limits.IMAGE_BYTES_MAX:
                self.error = too_large(member.size)
            else:
                self.image = _content(member, archive)
        elif member.size > limits.SIDECAR_BYTES_MAX:
            self.error = InvalidSourceError(
                f"{member.name} is larger than {limits.SIDECAR_BYTES_MAX} bytes"
            )
        else:
            self.said[suffix] = _content(member, archive)

    def entries(self, after: str, images: ImageEntries) -> Iterator[Entry]:
        """What the members are together."""
        yield from (Entry(name, after, Ignored()) for name in self.ignored)
        if not self.name:
            # Said of an image that is not there.
            yield Entry(self.key, after, Ignored())
            return
        yield self._entry(after, images)

    def _entry(self, after: str, images: ImageEntries) -> Entry:
        if self.error is not None:
            return Entry(self.name, after, self.error)
        try:
            check_readable(self.name)
            return images.of(self.name, after, self.image, self._said())
        except IndexerError as error:
            return Entry(self.name, after, error)

    def _said(self) -> Said:
        if ".json" in self.said:
            said = said_in_json(self.said[".json"])
            if said.identity_id:
                return said
        else:
            said = Said()
        for suffix in (".txt", ".cls"):
            if suffix in self.said:
                return _named(said, self.said[suffix])
        return said


def _named(said: Said, text: bytes) -> Said:
    try:
        return replace(said, identity_name=text.decode().strip())
    except UnicodeError as error:
        raise InvalidSourceError("the text beside the image is not UTF-8") from error


def _split(name: str) -> tuple[str, str]:
    """The key of a member, and its last suffix."""
    folder, slash, file = name.rpartition("/")
    stem, _, rest = file.partition(".")
    suffix = f".{rest.rpartition('.')[2]}".lower() if rest else ""
    return f"{folder}{slash}{stem}", suffix


def _content(member: tarfile.TarInfo, archive: tarfile.TarFile) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    parts = []
    with file:
        while part := file.read(_READ_BYTES_MAX):
            parts.append(part)
    return b"".join(parts)


class _Blocks:
    """A tar as tarfile reads it: forward only, in bounded pieces, and expanded within reason.

    Attributes:
        last: What the last read has returned.
    """

    def __init__(
        self, file: BinaryIO, size: int, check: Callable[[], None], *, compressed: bool
    ) -> None:
        self._raw = file
        self._compressed = compressed
        self._file: Any = file
        self._size = size
        self._check = check
        self.last = b""

    def seek(self, position: int) -> None:
        if not self._compressed:
            self._file.seek(position)
            return
        if self._file is self._raw or position < self._file.tell():
            self._raw.seek(0)
            self._file = gzip.GzipFile(fileobj=self._raw, mode="rb")
        while (left := position - self._file.tell()) > 0:
            if not self.read(min(left, _READ_BYTES_MAX)):
                return

    def tell(self) -> int:
        return int(self._file.tell())

    def read(self, size: int) -> bytes:
        if not 0 <= size <= _READ_BYTES_MAX:
            raise InvalidSourceError(f"a header of the tar is {size} bytes long")
        self._check()
        self.last = self._file.read(size)
        if self._compressed and self.tell() > _EXPANSION_FREE_BYTES + _EXPANSION_MAX * self._size:
            raise InvalidSourceError(
                f"the compressed tar expands to more than {_EXPANSION_MAX} times its size"
            )
        return self.last

    def share(self, position: int) -> int:
        """How many bytes of the file are in front of a position in the tar."""
        return self._raw.tell() if self._compressed else position
