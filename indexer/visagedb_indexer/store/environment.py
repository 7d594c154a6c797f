"""Opening LMDB environments, and its errors turned into ours.

The databases are opened with LMDB's full durability: a commit returns after the data
and the meta page are on disk.
"""

import logging
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import lmdb

from visagedb_indexer import limits
from visagedb_indexer.errors import (
    FormatTooNewError,
    GalleryClosedError,
    IndexerError,
    StorageCorruptError,
    StorageFullError,
    UnavailableError,
)
from visagedb_indexer.failpoints import reached
from visagedb_indexer.store.changes import Change, Changes
from visagedb_indexer.store.folders import sync_folder
from visagedb_indexer.store.migrations import Step
from visagedb_indexer.store.pages import DATA_FILE, check_file
from visagedb_indexer.store.schema import (
    FORMAT_KEY,
    FORMAT_VERSION,
    META,
    SubDatabase,
    read_u32,
    u32,
)
from visagedb_indexer.store.tables import Tables
from visagedb_indexer.system_errors import of_system

if TYPE_CHECKING:
    LmdbTransaction: TypeAlias = Any
    Handle: TypeAlias = Any
else:
    LmdbTransaction = lmdb.Transaction
    Handle = object


_LOG = logging.getLogger(__name__)

_LOCK_FILE_BYTES: Final = limits.READERS_MAX * 64 + 4096
"""A cache line for each reader, and a page for what comes before them."""

_DAMAGE = (
    lmdb.BadTxnError,
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.VersionMismatchError,
)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns what LMDB raises for the database in a folder into our errors."""
    try:
        yield
    except IndexerError:
        raise
    except lmdb.MapFullError as error:
        raise StorageFullError("the database has used up its address range") from error
    except _DAMAGE as error:
        raise StorageCorruptError(f"the database is damaged: {error}") from error
    except lmdb.ReadersFullError as error:
        raise UnavailableError("too many reads at once; try again") from error
    except lmdb.Error as error:
        if _is_full(path, str(error)):
            raise StorageFullError("the disk is full; nothing was written") from error
        if "closed" in str(error) or "Attempt to operate" in str(error):
            raise GalleryClosedError("the database is closed") from error
        raise UnavailableError(f"the database cannot be used: {error}") from error
    except OSError as error:
        refused = of_system(error)
        if refused is None:
            raise
        raise refused from error


def _is_full(path: Path, message: str) -> bool:
    if "No space left" in message or "quota exceeded" in message:
        return True
    # The write that fills the disk is cut short, and LMDB calls that an I/O error.
    disk = os.statvfs(path)
    return "Input/output error" in message and disk.f_bavail * disk.f_frsize < limits.MIB


def _allocate_lock_file(path: Path) -> None:
    """Gives LMDB's table of readers its room on the disk.

    LMDB would make it a sparse file and write to it through a map: on a full disk that ends the
    process.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(path / "lock.mdb", flags, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, _LOCK_FILE_BYTES)
    finally:
        os.close(descriptor)


class Environment:
    """One LMDB environment with its sub-databases open and its format checked.

    Args:
        path: Its folder; made if missing.
        databases: The sub-databases it has.
        map_bytes: Size of its address range, the most it can ever hold.
        steps: By format version, how a database comes from it to the next one.

    Raises:
        FormatTooNewError: A newer release has written it.
        StorageCorruptError: It is not a readable LMDB database.
    """

    def __init__(
        self,
        path: Path,
        databases: Sequence[SubDatabase],
        *,
        map_bytes: int,
        steps: Mapping[int, Step] | None = None,
    ) -> None:
        self.path = path
        self._reads = 0
        self._closing = False
        self._no_reads = threading.Condition()
        self._changes: Changes | None = None
        with translated(path):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            _allocate_lock_file(path)
        is_new = not (path / DATA_FILE).exists()
        check_file(path)
        with translated(path):
            self._env = lmdb.open(
                str(path),
                map_size=map_bytes,
                max_dbs=len(databases) + 16,
                max_readers=limits.READERS_MAX,
                # Templates are biometric data.
                mode=0o600,
                # One process owns the directory, so stale slots are our own from a crash.
                readahead=False,
            )
            try:
                self._env.reader_check()
                self._bring_up_to_date(steps or {})
                self._handles: dict[bytes, Handle] = {
                    database.name: self._env.open_db(database.name) for database in databases
                }
                if is_new:
                    sync_folder(path)
                    sync_folder(path.parent)
            except BaseException:
                self._env.close()
                raise

    def _bring_up_to_date(self, steps: Mapping[int, Step]) -> None:
        meta = self._env.open_db(META.name)
        with self._env.begin(db=meta, write=True) as txn:
            stored = txn.get(FORMAT_KEY)
            version = FORMAT_VERSION if stored is None else read_u32(stored)
            if stored is None:
                txn.put(FORMAT_KEY, u32(FORMAT_VERSION))
        if version > FORMAT_VERSION:
            raise FormatTooNewError(
                f"{self.path} has storage format {version}, this release reads up to "
                f"{FORMAT_VERSION}; use a newer VisageDB",
            )
        for old in range(version, FORMAT_VERSION):
            self._migrate(old, steps)

    def _migrate(self, old: int, steps: Mapping[int, Step]) -> None:
        """Takes one step, and notes it in the same commit."""
        step = steps.get(old)
        if step is None:
            raise StorageCorruptError(
                f"{self.path} has storage format {old}, which this release cannot read; "
                "open it with an older release first, or restore a backup"
            )
        _LOG.info("%s is brought from storage format %d to %d", self.path, old, old + 1)
        reached("migration.before_step")
        with self._env.begin(write=True, buffers=True) as txn:

            def opened(database: SubDatabase) -> Handle:
                return self._env.open_db(database.name, txn=txn)

            step(Tables(opened, txn))
            txn.put(FORMAT_KEY, u32(old + 1), db=opened(META))
            reached("migration.before_commit")
        reached("migration.after_commit")

    def handle(self, database: SubDatabase) -> Handle:
        """The open sub-database."""
        return self._handles[database.name]

    @contextmanager
    def read(self) -> Iterator[LmdbTransaction]:
        """A read transaction: a consistent view that no writer waits for.

        Values are memoryviews of the map, valid until the transaction ends.
        """
        with self._no_reads:
            if self._closing:
                raise GalleryClosedError("the database is closed")
            self._reads += 1
        try:
            with translated(self.path), self._env.begin(buffers=True) as txn:
                yield txn
        finally:
            with self._no_reads:
                self._reads -= 1
                self._no_reads.notify_all()

    @contextmanager
    def write(self) -> Iterator[LmdbTransaction]:
        """The write transaction; synced to disk when the block ends, undone if it raises.

        One that has changed nothing costs no sync.
        """
        with translated(self.path), self._env.begin(write=True, buffers=True) as txn:
            changes = self._changes
            if changes is None:
                yield txn
                return
            watched = changes.watched(txn)
            yield watched
        changes.committed(watched.changed)

    def crowded(self, txn: LmdbTransaction) -> bool:
        """Whether so much of the address range is used that the rest is for deletions.

        A deletion writes pages, too, before it frees any.
        """
        info, page_bytes = self._env.info(), self._env.stat()["psize"]
        room = info["map_size"] - min(limits.MAP_BYTES_RESERVED, info["map_size"] // 2)
        if (info["last_pgno"] + 1) * page_bytes <= room:
            return False
        kinds = ("branch_pages", "leaf_pages", "overflow_pages")
        pages = sum(txn.stat(handle)[kind] for handle in self._handles.values() for kind in kinds)
        return bool(pages * page_bytes > room)

    def watch(self) -> Changes:
        """Begins to note which keys are changed; every commit from now on is complete in it."""
        changes = Changes({handle: name for name, handle in self._handles.items()})
        # The lock of the writers: one that runs ends before, the next one is watched.
        with translated(self.path), self._env.begin(write=True):
            self._changes = changes
        return changes

    def unwatch(self) -> None:
        """Ends what `watch` began."""
        self._changes = None

    def carry(self, changed: Iterable[Change], target: "Environment") -> None:
        """Brings some keys of a copy, in one commit, to what they are here."""
        with self.read() as txn, target.write() as other:
            for name, key in changed:
                value = txn.get(key, db=self._handles[name])
                if value is None:
                    other.delete(key, db=target._handles[name])
                else:
                    other.put(key, value, db=target._handles[name])

    def copy_to(self, descriptor: int) -> None:
        """Writes a copy without free pages to a file or pipe; reads and writes go on meanwhile.

        Raises:
            UnavailableError: The reader of the pipe has closed it, or the write failed.
            StorageCorruptError: The database has pages that belong to nothing.
        """
        with self.read():
            self._env.copyfd(descriptor, compact=True)

    def moved_to(self, path: Path) -> None:
        """The files of the open database have been renamed."""
        self.path = path

    def used_bytes(self) -> int:
        """Bytes up to the last page ever used."""
        with self.read():
            info = self._env.info()
            return int((info["last_pgno"] + 1) * self._env.stat()["psize"])

    def free_bytes(self) -> int:
        """Bytes of pages that hold nothing any more, and of those that count them."""
        with self.read() as txn:
            return self.used_bytes() - self.bytes_in_use(txn)

    def bytes_in_use(self, txn: LmdbTransaction) -> int:
        """Bytes of pages that hold something, as a transaction sees them."""
        stats = [txn.stat(handle) for handle in self._handles.values()]
        kinds = ("branch_pages", "leaf_pages", "overflow_pages")
        pages = sum(int(stat[kind]) for stat in stats for kind in kinds)
        return pages * int(self._env.stat()["psize"])

    def reader_count(self) -> int:
        """Slots of readers in use; a thread that has read keeps its slot."""
        with self.read():
            return int(self._env.info()["num_readers"])

    def file_bytes(self) -> int:
        """Size of the database file."""
        with self.read():
            return (self.path / "data.mdb").stat().st_size

    def retire(self) -> None:
        """Closes the environment when nobody reads any more; until then reads may begin."""
        with self._no_reads:
            self._no_reads.wait_for(lambda: self._reads == 0)
            self._closing = True
        self._env.close()

    def close(self) -> None:
        """Closes the environment, once the reads in progress have ended.

        Their arrays are views of the map: unmapping it under them would end the process.
        """
        with self._no_reads:
            self._closing = True
            self._no_reads.wait_for(lambda: self._reads == 0)
        self._env.close()
