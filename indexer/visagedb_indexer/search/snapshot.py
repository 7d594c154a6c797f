"""The codes on disk, so that a restart need not make them again.

A snapshot holds the codes of all ordinals below a watermark, as they were at some moment.
Ordinals are never used twice and a stored vector never changes, so an old snapshot is as good
as a new one: faces enrolled since lie above the watermark, and those deleted since are known
to the gallery. A snapshot is derived data. Whatever is doubtful about it (a digest, its
gallery, a shape) makes it worthless, and the codes are built anew.

    magic, 8 bytes | header, JSON | rotation | quantiser | segment | segment | ...

Each part is preceded by its length (u64, little-endian) and its SHA-256.
"""

import hashlib
import logging
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from visagedb_indexer.search.compact import Codec, Segment
from visagedb_indexer.search.compact_index import CompactIndex

_LOG = logging.getLogger(__name__)
_MAGIC: Final = b"VISAGEX1"
_PART: Final = struct.Struct("<Q32s")


@dataclass(frozen=True, slots=True)
class _Header:
    gallery: str
    dimension: int
    indexed: int
    generation: int
    trained_on: int
    segments: int


class SnapshotFile:
    """The snapshot of one gallery.

    Args:
        path: The file.
        gallery: The gallery's uid; a snapshot of another is not used.
        dimension: Length of the vectors.
    """

    def __init__(self, path: Path, gallery: str, dimension: int) -> None:
        self._path = path
        self._gallery = gallery
        self._dimension = dimension

    def save(self, index: CompactIndex) -> None:
        """Replaces the file: written aside, synced, renamed.

        Raises:
            OSError: It cannot be written; the old one stays.
        """
        header = _Header(
            gallery=self._gallery,
            dimension=self._dimension,
            indexed=index.indexed,
            generation=index.generation,
            trained_on=index.codec.trained_on,
            segments=len(index.segments),
        )
        aside = self._path.with_suffix(".new")
        # Codes tell something of faces: they are for the owner's eyes, like the database.
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(_MAGIC)
            _write_part(stream, msgspec.json.encode(header))
            for part in index.codec.serialized():
                _write_part(stream, part)
            # One at a time, so that no second copy of all codes is ever in memory.
            for segment in index.segments:
                _write_part(stream, segment.serialized())
            stream.flush()
            os.fsync(stream.fileno())
        aside.rename(self._path)

    def load(self, ordinal_count: int) -> CompactIndex | None:
        """The codes, or None when there is no snapshot that can be trusted.

        Args:
            ordinal_count: Ordinals that the gallery has given so far.
        """
        try:
            with self._path.open("rb") as stream:
                return self._read(stream, ordinal_count)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RuntimeError, MemoryError, msgspec.MsgspecError) as error:
            _LOG.warning("the search snapshot %s is not used: %s", self._path, error)
            return None

    def _read(self, stream: BinaryIO, ordinal_count: int) -> CompactIndex:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise ValueError("it is of another format")
        header = msgspec.json.decode(_read_part(stream), type=_Header)
        if (header.gallery, header.dimension) != (self._gallery, self._dimension):
            raise ValueError("it belongs to another gallery")
        if not 0 <= header.indexed <= ordinal_count or header.segments < 1:
            raise ValueError("it knows faces that the gallery does not")
        rotation, quantiser = _read_part(stream), _read_part(stream)
        codec = Codec.deserialized(rotation, quantiser, self._dimension, header.trained_on)
        segments = [Segment.deserialized(codec, _read_part(stream)) for _ in range(header.segments)]
        return CompactIndex(codec, tuple(segments), header.indexed, header.generation)


def _write_part(stream: BinaryIO, data: bytes) -> None:
    stream.write(_PART.pack(len(data), hashlib.sha256(data).digest()))
    stream.write(data)


def _read_part(stream: BinaryIO) -> bytes:
    """The next part, its digest checked: the parser of index files trusts what it reads."""
    prefix = stream.read(_PART.size)
    if len(prefix) != _PART.size:
        raise ValueError("it is cut short")
    length, digest = _PART.unpack(prefix)
    if length > os.fstat(stream.fileno()).st_size - stream.tell():
        raise ValueError("it is cut short")
    data = stream.read(length)
    if hashlib.sha256(data).digest() != digest:
        raise ValueError("a digest does not agree")
    return data
