"""The writer: calls leave their entries in a queue, one thread writes and syncs them.

An entry that must be durable before its call is answered waits for the sync; those that have
gathered share it. The others are written some milliseconds later and synced within a second: a
server that is killed loses those milliseconds, a machine that loses power that second.
"""

import os
import queue
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from pathlib import Path
from typing import IO, Final

import structlog

from visagedb_indexer.clock import now_us
from visagedb_indexer.failpoints import reached
from visagedb_server import limits
from visagedb_server.access.errors import AuditLogUnavailableError
from visagedb_server.audit_log.chain import digest_of, encode, line_of
from visagedb_server.audit_log.entries import FILE, PREVIOUS, REMOVED, START, STOP, THROUGH, Entry
from visagedb_server.audit_log.folder import Folder, Head, sync_folder

_LOG = structlog.get_logger("visagedb.audit")

GATHER_SECONDS: Final = 0.02
SYNC_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 1.0
DURABLE_SECONDS_MAX: Final = 10.0

_Waiting = tuple[Entry | None, Future[None] | None]


class AuditLog:
    """The log of one data directory.

    Args:
        folder: Where it is.

    Raises:
        FailedPreconditionError: Its key is gone.
        OSError: It cannot be written.
    """

    def __init__(
        self,
        folder: Folder,
        *,
        file_bytes_max: int = limits.AUDIT_LOG_FILE_BYTES_MAX,
        files_max: int = limits.AUDIT_LOG_FILES_MAX,
    ) -> None:
        self.folder = folder
        self._file_bytes_max = file_bytes_max
        self._files_max = files_max
        self._key = folder.make()
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._urgent = threading.Event()
        self._failure = ""
        self._closed = False
        self._file: IO[bytes] | None = None
        self._size = 0
        self._head = self._continue()
        self._synced = time.monotonic()
        self._dirty = False
        self._thread = threading.Thread(target=self._run, name="audit-log", daemon=True)
        self._thread.start()

    @property
    def head(self) -> Head:
        """The last entry that was written."""
        return self._head

    def check(self) -> None:
        """Looks whether entries can be written, before something happens that needs one.

        Raises:
            AuditLogUnavailableError: They cannot.
        """
        if self._failure or self._queue.qsize() >= limits.AUDIT_LOG_QUEUE_MAX:
            raise AuditLogUnavailableError(
                "what is asked for cannot be written into the audit log, so it is not done: "
                + (self._failure or "too much is waiting to be written")
            )

    def put(self, entry: Entry) -> None:
        """Leaves an entry to be written."""
        self._queue.put((entry, None))

    def put_durable(self, entry: Entry) -> None:
        """Leaves an entry, and returns when it is on disk.

        Raises:
            AuditLogUnavailableError: It could not be written yet; it will be.
        """
        self._wait(entry)

    def flush(self) -> None:
        """Returns when everything that was left before is on disk.

        Raises:
            AuditLogUnavailableError: It could not be written yet.
        """
        self._wait(None)

    def _wait(self, entry: Entry | None) -> None:
        done: Future[None] = Future()
        self._queue.put((entry, done))
        self._urgent.set()
        try:
            done.result(DURABLE_SECONDS_MAX)
        except FutureTimeoutError as error:
            raise AuditLogUnavailableError(
                "it is not in the audit log yet: " + (self._failure or "it is slow")
            ) from error

    def close(self) -> None:
        """Writes what is waiting, and the end."""
        if self._closed:
            return
        self._closed = True
        self._queue.put((Entry(now_us(), STOP), None))
        self._queue.put(None)
        self._urgent.set()
        self._thread.join()
        if self._file is not None:
            self._file.close()
        _LOG.info("audit log closed", head=str(self._head))

    def _continue(self) -> Head:
        """Goes on after the last entry; says in the log how the last run ended."""
        cut, details = self.folder.cut_torn_line(), {}
        known, (found, damage) = self.folder.read_head(), self.folder.last()
        if damage:
            details["damage"] = damage
        if known is not None and known.sequence > found.sequence:
            # The gap stays in the numbers for ever; a check finds it.
            details["damage"] = f"the entries after {found.sequence} are gone"
            found = known
        if cut:
            details["torn_bytes"] = str(cut)
        if "damage" in details:
            _LOG.error("the audit log was damaged; visagedb audit verify", **details)
        self._head = found
        if "damage" not in details and (files := self.folder.files()):
            self._file = os.fdopen(os.open(files[-1], os.O_WRONLY | os.O_APPEND), "wb", buffering=0)
            self._size = files[-1].stat().st_size
        self._append([Entry(now_us(), START, details=details)])
        self._sync()
        _LOG.info("audit log open", head=str(self._head), folder=str(self.folder.path))
        return self._head

    def _run(self) -> None:
        try:
            self._write_all()
        except Exception:  # noqa: BLE001
            self._failure = "the writer has stopped; restart the server"
            _LOG.exception("the audit log's writer has stopped")

    def _write_all(self) -> None:
        open_ = True
        while open_:
            waiting, open_ = self._gather()
            while not self._written([entry for entry, _ in waiting if entry is not None]):
                if self._closed:
                    return
                time.sleep(RETRY_SECONDS)
            due = time.monotonic() - self._synced >= SYNC_SECONDS
            if due or not open_ or any(done is not None for _, done in waiting):
                if not self._synced_now():
                    return
                for _, done in waiting:
                    if done is not None:
                        done.set_result(None)

    def _written(self, entries: list[Entry]) -> bool:
        """Writes entries, all or none; whether that went well."""
        try:
            self._append(entries)
        except OSError as error:
            if not self._failure:
                _LOG.error("the audit log cannot be written", error=str(error))
            self._failure = error.strerror or str(error)
            return False
        if self._failure:
            _LOG.info("the audit log can be written again")
            self._failure = ""
        return True

    def _synced_now(self) -> bool:
        """Syncs; from the first failure on nothing more is written."""
        try:
            self._sync()
        except OSError as error:
            _LOG.error("the audit log cannot be synced", error=str(error))
            self._failure = f"{error.strerror or error}; restart the server"
            return False
        return True

    def _gather(self) -> tuple[list[_Waiting], bool]:
        """What has come, and whether more may; empty when a sync is due."""
        try:
            first = self._queue.get(timeout=SYNC_SECONDS if self._dirty else None)
        except queue.Empty:
            return [], True
        if first is None:
            return [], False
        batch = [first]
        # Whoever waits is not made to; the others gather.
        self._urgent.wait(GATHER_SECONDS)
        self._urgent.clear()
        while len(batch) < limits.AUDIT_LOG_QUEUE_MAX:
            try:
                more = self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return batch, False
            batch.append(more)
        return batch, True

    def _append(self, entries: list[Entry]) -> None:
        """Writes entries, or none of them."""
        if self._file is None or self._size >= self._file_bytes_max:
            self._open_next()
        assert self._file is not None
        head, lines = self._head, []
        for entry in entries:
            line, head = self._line(entry, head)
            lines.append(line)
        if not lines:
            return
        data = b"".join(lines)
        self._write(data)
        self._head, self._size, self._dirty = head, self._size + len(data), True

    def _line(self, entry: Entry, head: Head) -> tuple[bytes, Head]:
        entry.sequence = head.sequence + 1
        content = encode(entry)
        digest = digest_of(self._key, head.digest, content)
        return line_of(digest, content), Head(entry.sequence, digest)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError:
            # A part may have been written.
            os.ftruncate(self._file.fileno(), self._size)
            raise

    def _open_next(self) -> None:
        """Begins a file, which says where the one before ended; removes the oldest of too many."""
        if self._file is not None:
            self._sync()
        before = self._head
        path = self.folder.file_at(before.sequence + 1)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        file = os.fdopen(descriptor, "wb", buffering=0)
        line, head = self._line(Entry(now_us(), FILE, details={PREVIOUS: before.digest}), before)
        try:
            file.write(line)
            os.fsync(file.fileno())
            sync_folder(self.folder.path)
        except OSError:
            file.close()
            path.unlink(missing_ok=True)
            raise
        if self._file is not None:
            self._file.close()
            _LOG.info("audit log begins a new file", head=str(before))
        self._file, self._size, self._head, self._dirty = file, len(line), head, True
        self._remove_oldest()

    def _remove_oldest(self) -> None:
        files = self.folder.files()
        surplus = files[: max(0, len(files) - self._files_max)]
        if not surplus:
            return
        through = int(files[len(surplus)].stem) - 1
        entry = Entry(now_us(), REMOVED, details={THROUGH: str(through)})
        line, head = self._line(entry, self._head)
        self._write(line)
        self._head, self._size = head, self._size + len(line)
        # On disk before the file goes, or its absence could not be told from a theft.
        self._sync()
        for path in surplus:
            path.unlink()

    def _sync(self) -> None:
        if self._file is None or not self._dirty:
            return
        reached("audit_log.before_sync")
        os.fsync(self._file.fileno())
        self.folder.write_head(self._head)
        self._synced, self._dirty = time.monotonic(), False
        reached("audit_log.after_sync")


def open_log(data: Path, key_file: Path | None = None) -> AuditLog:
    """The log of a data directory."""
    return AuditLog(Folder(data / "audit", key_file))
