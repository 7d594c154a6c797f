"""Copying a gallery's database so that nothing is left of what was deleted.

LMDB never changes a page in place and clears none that it frees, so the bytes of a deleted vector
stay in the file until chance overwrites them. A compaction writes all that is alive to another
file, while reads and writes go on, and puts that in the place of the first:

    compaction/     the copy, until it takes its place; worthless after a crash
    data.mdb        replaced by one rename: before it the old database is whole, after it the new
    replaced.mdb    the old file's second name, while it is to be overwritten

What is written during the copy is noted by key and carried over; only the last of it holds up
the writer.
"""

import io
import os
import shutil
import threading
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from visagedb_indexer import limits
from visagedb_indexer.failpoints import reached
from visagedb_indexer.store.changes import Change, Changes
from visagedb_indexer.store.environment import Environment, translated
from visagedb_indexer.store.folders import sync_folder
from visagedb_indexer.store.opened import open_environment

if TYPE_CHECKING:
    from visagedb_indexer.store.gallery_store import GalleryStore

Watch: TypeAlias = Callable[[float], None]
"""Told the progress, 0 to 1; raises to give the compaction up."""

_FOLDER: Final = "compaction"
_REPLACED: Final = "replaced.mdb"
_DATA: Final = "data.mdb"
_LOCK: Final = "lock.mdb"
_CHUNK_BYTES: Final = limits.MIB
_CARRIED_AT_ONCE: Final = 4096
_CARRIED_LAST_MAX: Final = 1024
"""With so few keys left the writer is held up for the rest: no longer than for a usual commit."""
_CARRYING_ROUNDS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction has done.

    Attributes:
        bytes_before: Size of the file that was replaced.
        bytes_after: Size of the new one.
        held_up_seconds: How long writes had to wait.
        carried_keys: Keys that were changed while the copy was made.
    """

    bytes_before: int
    bytes_after: int
    held_up_seconds: float
    carried_keys: int


def compact(
    store: "GalleryStore", watch: Watch, *, overwrite: bool = False, gently: bool = False
) -> Compacted:
    """Replaces a gallery's database by a copy without free pages; reads and writes go on.

    Args:
        store: The gallery's database. One compaction at a time.
        watch: Told the progress.
        overwrite: Write zeros over the old file before it is removed. Of use where the file
            system writes in place, and the disk too.
        gently: Rest as long as is worked, for the others' sake.

    Raises:
        StorageFullError: There is no room for the copy; everything is as it was.
    """
    clean_up(store.path)
    folder = store.path / _FOLDER
    folder.mkdir(mode=0o700)
    old = store.environment
    bytes_before = old.file_bytes()
    changes = old.watch()
    try:
        reached("compaction.before_copy")
        _copy(old, folder / _DATA, watch, gently=gently)
        reached("compaction.after_copy")
        fresh = open_environment(folder)
        try:
            carried = _carry_most(old, fresh, changes)
            with store.without_writes():
                started = time.monotonic()
                carried += _carry(old, fresh, changes.take())
                _switch(store, fresh, overwrite=overwrite)
                held_up = time.monotonic() - started
        finally:
            if store.environment is not fresh:
                fresh.close()
    finally:
        old.unwatch()
        shutil.rmtree(folder, ignore_errors=True)
    reached("compaction.after_switch")
    old.retire()
    _remove_replaced(store.path)
    reached("compaction.after_removal")
    return Compacted(bytes_before, fresh.file_bytes(), held_up, carried)


def clean_up(path: Path) -> None:
    """Removes from a gallery's folder what a compaction has left that was cut short."""
    shutil.rmtree(path / _FOLDER, ignore_errors=True)
    _remove_replaced(path)


def _copy(old: Environment, target: Path, watch: Watch, *, gently: bool) -> None:
    expected = max(1, old.used_bytes())
    written = 0
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with translated(old.path), os.fdopen(descriptor, "wb", buffering=0) as file:
        with closing(stream(old)) as chunks:
            for chunk, seconds in chunks:
                started = time.monotonic()
                file.write(chunk)
                written += len(chunk)
                watch(min(1.0, written / expected))
                if gently:
                    time.sleep(seconds + time.monotonic() - started)
        reached("compaction.before_copy_sync")
        os.fsync(file.fileno())


def stream(environment: Environment) -> Generator[tuple[memoryview, float], None, None]:
    """The copy in chunks, each with the seconds it took.

    Through a pipe, so that it can be given up at any time.
    """
    reader, writer = os.pipe()
    failures: list[Exception] = []

    def write() -> None:
        try:
            environment.copy_to(writer)
        except Exception as error:  # noqa: BLE001 - raised again by the thread that reads
            failures.append(error)
        finally:
            os.close(writer)

    thread = threading.Thread(target=write, name="compaction")
    thread.start()
    buffer = bytearray(_CHUNK_BYTES)
    try:
        with os.fdopen(reader, "rb", buffering=0) as pipe:
            started = time.monotonic()
            while count := _fill(pipe, buffer):
                yield memoryview(buffer)[:count], time.monotonic() - started
                started = time.monotonic()
    finally:
        thread.join()
    if failures:
        raise failures[0]


def _fill(pipe: io.FileIO, buffer: bytearray) -> int:
    filled = 0
    view = memoryview(buffer)
    while filled < len(buffer):
        count = pipe.readinto(view[filled:])
        if not count:
            break
        filled += count
    return filled


def _carry_most(old: Environment, fresh: Environment, changes: Changes) -> int:
    """Carries over what was changed during the copy, until little is left."""
    carried = 0
    for _ in range(_CARRYING_ROUNDS_MAX):
        if len(changes) <= _CARRIED_LAST_MAX:
            break
        carried += _carry(old, fresh, changes.take())
    return carried


def _carry(old: Environment, fresh: Environment, changed: Iterable[Change]) -> int:
    keys = sorted(changed)
    for start in range(0, len(keys), _CARRIED_AT_ONCE):
        reached("compaction.before_carry")
        old.carry(keys[start : start + _CARRIED_AT_ONCE], fresh)
    return len(keys)


def _switch(store: "GalleryStore", fresh: Environment, *, overwrite: bool) -> None:
    """The one moment: the new database takes the place of the old one. Writes are held up."""
    path, folder = store.path, store.path / _FOLDER
    reached("compaction.before_switch")
    if overwrite:
        os.link(path / _DATA, path / _REPLACED)
        sync_folder(path)
        reached("compaction.after_link")
    (folder / _DATA).replace(path / _DATA)
    # From here on there is only the new one, whatever else may fail.
    store.exchange(fresh)
    fresh.moved_to(path)
    reached("compaction.after_rename")
    with suppress(OSError):
        # The locks go with the file whose readers they count; a start makes them anew.
        (folder / _LOCK).replace(path / _LOCK)
    sync_folder(path)


def _remove_replaced(path: Path) -> None:
    """Writes zeros over the file that was replaced, if it is there, and removes it."""
    file_path = path / _REPLACED
    if not file_path.exists():
        return
    if file_path.stat().st_nlink == 1:
        _overwrite(file_path)
    # With another name it is the database in use: the switch was cut short before the rename.
    file_path.unlink()
    sync_folder(path)


def _overwrite(path: Path) -> None:
    zeros = memoryview(bytes(_CHUNK_BYTES))
    with path.open("r+b", buffering=0) as file:
        left = path.stat().st_size
        while left > 0:
            left -= file.write(zeros[:left])
        os.fsync(file.fileno())
    reached("compaction.after_overwrite")
