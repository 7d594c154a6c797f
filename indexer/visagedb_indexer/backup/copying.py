"""Copies of databases, with their digests taken on the way."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from visagedb_indexer import limits
from visagedb_indexer.backup.manifest import BackedUpFile
from visagedb_indexer.errors import StorageCorruptError, StorageFullError, UnavailableError
from visagedb_indexer.store.compaction import stream
from visagedb_indexer.store.environment import Environment

Watch: TypeAlias = Callable[[int], None]
"""Told how many bytes more are done; raises to give the work up."""

_CHUNK_BYTES: Final = limits.MIB
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turns what the file system raises into our errors.

    Raises:
        StorageFullError: There is no room.
        UnavailableError: Anything else.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFullError(f"{doing}: the disk is full; nothing of it is left") from error
        raise UnavailableError(f"{doing}: {error.strerror or error}") from error


def copy_environment(source: Environment, root: Path, path: str, watch: Watch) -> BackedUpFile:
    """Writes a database as it is at this moment; reads and writes of it go on."""
    with closing(stream(source)) as chunks:
        return _write((chunk for chunk, _ in chunks), root, path, watch)


def copy_file(source: Path, root: Path, path: str, watch: Watch) -> BackedUpFile:
    """Writes a copy of a file."""
    with source.open("rb") as file:
        return _write(_chunks(file.read), root, path, watch)


def fetch(root: Path, file: BackedUpFile, target: Path, watch: Watch) -> None:
    """Copies a file out of a backup, and checks it on the way.

    Raises:
        StorageCorruptError: It is not what was written; then nothing is left at the target.
    """
    copied = copy_file(checked_path(root, file), target.parent, target.name, watch)
    if (copied.size_bytes, copied.sha256) != (file.size_bytes, file.sha256):
        target.unlink()
        raise damaged(root, file)


def check(root: Path, file: BackedUpFile, watch: Watch) -> None:
    """Reads a file of a backup again.

    Raises:
        StorageCorruptError: It is not what was written.
    """
    digest = hashlib.sha256()
    with checked_path(root, file).open("rb") as stored:
        for chunk in _chunks(stored.read):
            digest.update(chunk)
            watch(len(chunk))
    if digest.hexdigest() != file.sha256:
        raise damaged(root, file)


def checked_path(root: Path, file: BackedUpFile) -> Path:
    """Where a file of a backup is.

    Raises:
        StorageCorruptError: It is missing, has another size, or lies outside the backup.
    """
    path = root / file.path
    inside = path.resolve().is_relative_to(root.resolve())
    if not inside or not path.is_file() or path.stat().st_size != file.size_bytes:
        raise damaged(root, file)
    return path


def damaged(root: Path, file: BackedUpFile) -> StorageCorruptError:
    """The refusal of a file that is not what was written."""
    return StorageCorruptError(
        f"the backup {root.name!r} is damaged: {file.path} is not what was written",
        {"backup": root.name, "file": file.path},
    )


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Writes a file that must not be there yet, for the owner's eyes only, and syncs it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        for chunk in chunks:
            view = memoryview(chunk)
            while len(view):
                view = view[file.write(view) :]
        os.fsync(file.fileno())
    sync_folder(path.parent)


def _write(
    chunks: Iterable[bytes | memoryview], root: Path, path: str, watch: Watch
) -> BackedUpFile:
    digest, size = hashlib.sha256(), 0

    def watched() -> Iterator[bytes | memoryview]:
        nonlocal size
        for chunk in chunks:
            digest.update(chunk)
            size += len(chunk)
            yield chunk
            watch(len(chunk))

    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_file(target, watched())
    return BackedUpFile(path, size, digest.hexdigest())


def _chunks(read: Callable[[int], bytes]) -> Iterator[bytes]:
    while chunk := read(_CHUNK_BYTES):
        yield chunk
