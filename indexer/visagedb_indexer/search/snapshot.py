"""The codes on disk, so that a restart need not make them again.

A snapshot holds the codes of all ordinals below a watermark, as they were at some moment.
Ordinals are never used twice and a stored vector never changes, so an old snapshot is as good
as a new one: faces enrolled since lie above the watermark, and those deleted since are known
to the gallery. A snapshot is derived data. Whatever is doubtful about it (a digest, its
gallery, a shape) makes it worthless, and the codes are built anew.

    manifest       SHA-256 of the rest in hexadecimal | newline | JSON
    *.part         the rotation, the quantiser, the segments; named by their SHA-256

Segments never change, so a new snapshot writes only those that the last one did not have.
"""

import hashlib
import logging
import os
import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

import msgspec

from visagedb_indexer.failpoints import reached
from visagedb_indexer.search.audit import Audit
from visagedb_indexer.search.compact import Codec, Segment
from visagedb_indexer.search.compact_index import CompactIndex

_LOG = logging.getLogger(__name__)
_FORMAT: Final = 3
_MANIFEST: Final = "manifest"
_LENGTH: Final = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class _Manifest:
    """What a snapshot consists of; parts by their digests."""

    format: int
    gallery: str
    dimension: int
    indexed: int
    generation: int
    trained_on: int
    level: int
    codec: str
    segments: tuple[str, ...]
    audit: Audit | None = None


class Snapshot:
    """The snapshot of one gallery.

    Args:
        folder: Where its files are; made when needed.
        gallery: The gallery's uid; a snapshot of another is not used.
        dimension: Length of the vectors.
    """

    def __init__(self, folder: Path, gallery: str, dimension: int) -> None:
        self._folder = folder
        self._gallery = gallery
        self._dimension = dimension
        self._written: WeakKeyDictionary[Codec | Segment, str] = WeakKeyDictionary()

    def save(self, index: CompactIndex, audit: Audit | None = None) -> None:
        """Replaces the snapshot; until the last step the old one stays as it is.

        Args:
            index: The codes.
            audit: Their audit, if there was one.

        Raises:
            OSError: It cannot be written; the old one stays.
        """
        # Codes tell something of faces: they are for the owner's eyes, like the database.
        reached("codes.before_save")
        self._folder.mkdir(mode=0o700, exist_ok=True)
        manifest = _Manifest(
            format=_FORMAT,
            gallery=self._gallery,
            dimension=self._dimension,
            indexed=index.indexed,
            generation=index.generation,
            trained_on=index.codec.trained_on,
            level=index.codec.level,
            codec=self._part(index.codec),
            # One at a time, so that no second copy of all codes is ever in memory.
            segments=tuple(self._part(segment) for segment in index.segments),
            audit=audit,
        )
        data = msgspec.json.encode(manifest)
        digest = hashlib.sha256(data).hexdigest().encode()
        reached("codes.before_manifest")
        self._write(_MANIFEST, digest + b"\n" + data)
        reached("codes.after_manifest")
        self._forget_all_but({manifest.codec, *manifest.segments})

    def remove(self) -> None:
        """Removes the snapshot."""
        if self._folder.exists():
            shutil.rmtree(self._folder)

    def load(self, ordinal_count: int) -> tuple[CompactIndex, Audit | None] | None:
        """The codes and their audit, or None when there is no snapshot that can be trusted.

        Args:
            ordinal_count: Ordinals that the gallery has given so far.
        """
        try:
            return self.read(ordinal_count)
        except ValueError as error:
            _LOG.warning("the search snapshot %s is not used: %s", self._folder, error)
            return None

    def read(self, ordinal_count: int) -> tuple[CompactIndex, Audit | None] | None:
        """Like `load`, for those who want to know why; None only when there is no snapshot.

        Raises:
            ValueError: There is one, and it cannot be trusted; the message says why.
        """
        if not (self._folder / _MANIFEST).exists():
            return None
        try:
            return self._read(ordinal_count)
        except (OSError, RuntimeError, MemoryError, msgspec.MsgspecError) as error:
            raise ValueError(str(error)) from error

    def time(self) -> float | None:
        """When it was written, seconds since 1970; None when there is none."""
        try:
            return (self._folder / _MANIFEST).stat().st_mtime
        except OSError:
            return None

    def _read(self, ordinal_count: int) -> tuple[CompactIndex, Audit | None]:
        digest, _, data = (self._folder / _MANIFEST).read_bytes().partition(b"\n")
        if hashlib.sha256(data).hexdigest().encode() != digest:
            raise ValueError("its manifest is damaged")
        manifest = msgspec.json.decode(data, type=_Manifest)
        if manifest.format != _FORMAT:
            raise ValueError("it is of another format")
        if (manifest.gallery, manifest.dimension) != (self._gallery, self._dimension):
            raise ValueError("it belongs to another gallery")
        if not 0 <= manifest.indexed <= ordinal_count:
            raise ValueError("it knows faces that the gallery does not")
        rotation, template = self._load(manifest.codec)
        codec = Codec.deserialized(
            rotation, template, self._dimension, manifest.trained_on, manifest.level
        )
        self._written[codec] = manifest.codec
        segments = []
        for name in manifest.segments:
            segment = Segment.deserialized(codec, *self._load(name))
            self._written[segment] = name
            segments.append(segment)
        index = CompactIndex(codec, tuple(segments), manifest.indexed, manifest.generation)
        return index, manifest.audit

    def _part(self, part: Codec | Segment) -> str:
        """Writes a part, unless the folder has it; returns its name."""
        name = self._written.get(part)
        if name is None or not self._path(name).exists():
            first, second = part.serialized()
            data = b"".join((_LENGTH.pack(len(first)), first, second))
            name = hashlib.sha256(data).hexdigest()
            self._write(self._path(name).name, data)
            self._written[part] = name
        return name

    def _load(self, name: str) -> tuple[memoryview, memoryview]:
        """The two halves of a part, its digest checked: the parser trusts what it reads."""
        data = memoryview(self._path(name).read_bytes())
        if hashlib.sha256(data).hexdigest() != name:
            raise ValueError("a digest does not agree")
        (length,) = _LENGTH.unpack_from(data)
        end = _LENGTH.size + length
        return data[_LENGTH.size : end], data[end:]

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.part"

    def _write(self, name: str, data: bytes) -> None:
        """Writes a file aside, syncs it, and puts it in its place."""
        aside = self._folder / f"{name}.new"
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            reached("codes.before_write")
            stream.write(data)
            stream.flush()
            reached("codes.before_sync")
            os.fsync(stream.fileno())
        reached("codes.before_rename")
        aside.replace(self._folder / name)
        reached("codes.after_rename")
        folder = os.open(self._folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _forget_all_but(self, names: set[str]) -> None:
        kept = {_MANIFEST, *(self._path(name).name for name in names)}
        for path in self._folder.iterdir():
            if path.name not in kept:
                reached("codes.before_removal")
                path.unlink()
        reached("codes.after_save")
