"""What a backup consists of: its manifest, with the digest of every file.

MANIFEST                    SHA-256 of the rest in hexadecimal | newline | JSON
catalogue/data.mdb          of the whole server only
galleries/{uid}/data.mdb    each an LMDB database without free pages
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from visagedb_indexer.errors import (
    BackupNotFoundError,
    FormatTooNewError,
    InvalidNameError,
    StorageCorruptError,
)
from visagedb_indexer.store.schema import FORMAT_VERSION
from visagedb_indexer.values import ModelIdentity

MANIFEST: Final = "MANIFEST"
BACKUP_FORMAT: Final = 1

Kind = TypeVar("Kind")
_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class BackedUpFile:
    """A file of a backup.

    Attributes:
        path: Relative to the backup's folder.
        size_bytes: Its length.
        sha256: Its digest in hexadecimal.
    """

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class BackedUpGallery:
    """A gallery in a backup.

    Attributes:
        id: Its id at that time.
        uid: Likewise.
        model: That all its vectors come from.
        identity_count: At that moment; likewise the other counts.
        face_count: Of identities, and loose ones.
        generation: Of the gallery's content.
        file: Its database.
        broken_invariants: What did not hold when the copy was checked; empty for a sound one.
    """

    id: str
    uid: str
    model: ModelIdentity
    identity_count: int
    face_count: int
    generation: int
    file: BackedUpFile
    broken_invariants: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup consists of.

    Attributes:
        id: Name of its folder.
        create_time_us: Microseconds since 1970.
        galleries: What is in it.
        catalogue: The catalogue's database, in a backup of the whole server.
        files: What else was in the data directory.
        format: Of the backup.
        storage_format: Of the databases in it.
    """

    id: str
    create_time_us: int
    galleries: tuple[BackedUpGallery, ...]
    catalogue: BackedUpFile | None = None
    files: tuple[BackedUpFile, ...] = ()
    format: int = BACKUP_FORMAT
    storage_format: int = FORMAT_VERSION

    @property
    def size_bytes(self) -> int:
        """Of all its files."""
        catalogue = () if self.catalogue is None else (self.catalogue,)
        files = (*(gallery.file for gallery in self.galleries), *catalogue, *self.files)
        return sum(file.size_bytes for file in files)


def check_backup_id(backup_id: str) -> str:
    """Refuses what can be no name of a backup.

    Raises:
        InvalidNameError: It is not 1 to 128 of ``a-z A-Z 0-9 . _ -``, not beginning with a dot.
    """
    if not _ID.fullmatch(backup_id):
        raise InvalidNameError(
            f"{backup_id[:200]!r} cannot be the name of a backup: 1 to 128 of a-z A-Z 0-9 . _ -, "
            "not beginning with a dot",
            {"field": "backup_id"},
        )
    return backup_id


def encoded(manifest: Manifest) -> bytes:
    """A manifest as its file."""
    data = msgspec.json.format(msgspec.json.encode(manifest))
    return hashlib.sha256(data).hexdigest().encode() + b"\n" + data


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup.

    Raises:
        BackupNotFoundError: There is no backup in the folder.
        StorageCorruptError: The manifest is not what was written.
        FormatTooNewError: A newer release has written the backup.
    """
    try:
        digest, _, data = (folder / MANIFEST).read_bytes().partition(b"\n")
    except OSError as error:
        raise BackupNotFoundError(
            f"there is no backup {folder.name!r}", {"backup": folder.name}
        ) from error
    if hashlib.sha256(data).hexdigest().encode() != digest:
        raise StorageCorruptError(f"the manifest of the backup {folder.name!r} is damaged")
    # Looked at first: what else a newer one says may be unreadable.
    versions = _decoded(data, _Versions, folder)
    if versions.format > BACKUP_FORMAT or versions.storage_format > FORMAT_VERSION:
        raise FormatTooNewError(
            f"the backup {folder.name!r} was written by a newer release; use that to restore it",
            {"backup": folder.name},
        )
    return _decoded(data, Manifest, folder)


@dataclass(frozen=True, slots=True)
class _Versions:
    format: int
    storage_format: int


def _decoded(data: bytes, kind: type[Kind], folder: Path) -> Kind:
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.MsgspecError as error:
        raise StorageCorruptError(
            f"the manifest of the backup {folder.name!r} cannot be read: {error}"
        ) from error
