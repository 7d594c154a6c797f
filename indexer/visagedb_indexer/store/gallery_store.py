"""The database of one gallery: where it lies, and how it is read and written."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import telemetry
from visagedb_indexer.errors import GalleryClosedError, StorageCorruptError, StorageFullError
from visagedb_indexer.failpoints import reached
from visagedb_indexer.store import schema
from visagedb_indexer.store.compaction import clean_up
from visagedb_indexer.store.environment import Environment
from visagedb_indexer.store.opened import Opened, open_environment
from visagedb_indexer.store.pages import DATA_FILE
from visagedb_indexer.store.reader import Reader
from visagedb_indexer.store.records import Counters, GalleryRecord, decode, encode
from visagedb_indexer.store.transaction import Transaction
from visagedb_indexer.telemetry import Measure
from visagedb_indexer.values import Vector


def rename_gallery(path: Path, gallery_id: str, uid: str) -> None:
    """Gives the gallery in a folder another id and uid, while nobody has it open."""
    store = GalleryStore(path)
    try:
        with store.write() as txn:
            txn.put_gallery(replace(txn.gallery(), id=gallery_id, uid=uid))
    finally:
        store.close()


class GalleryStore:
    """The LMDB environment of one gallery.

    Args:
        path: Its folder.
        create: The settings of a new gallery; None opens an existing one.

    Raises:
        StorageCorruptError: There is no gallery in the folder, or it cannot be read.
        FormatTooNewError: A newer release has written it.
    """

    def __init__(self, path: Path, create: GalleryRecord | None = None) -> None:
        self.path = path
        clean_up(path)
        data = path / DATA_FILE
        if create is None and not (data.exists() and data.stat().st_size):
            raise StorageCorruptError(f"{data} is missing or empty; restore it from a backup")
        environment = open_environment(path)
        if create is not None:
            with environment.write() as txn:
                meta = environment.handle(schema.META)
                txn.put(schema.GALLERY_KEY, encode(create), db=meta)
                txn.put(schema.COUNTERS_KEY, encode(Counters()), db=meta)
            record = create
        else:
            with environment.read() as txn:
                data = txn.get(schema.GALLERY_KEY, db=environment.handle(schema.META))
                if data is None:
                    raise StorageCorruptError(f"{path} holds no gallery")
                record = decode(data, GalleryRecord)
        self._dimension = record.model.dimension
        self._opened = Opened(environment, self._dimension)
        self.upkeep = threading.Lock()
        """Held by whoever exchanges the database, or looks at its file beside LMDB."""
        self._writing = threading.Lock()
        self._turnstile = threading.Lock()

    @property
    def opened(self) -> Opened:
        """The open database; another one after a compaction."""
        return self._opened

    @property
    def environment(self) -> Environment:
        """The environment; another one after a compaction."""
        return self._opened.environment

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """A consistent view of the gallery."""
        with ExitStack() as stack:
            opened = self._opened
            try:
                txn = stack.enter_context(opened.environment.read())
            except GalleryClosedError:
                if opened is self._opened:
                    raise
                # A compaction has put another database in its place just now.
                opened = self._opened
                txn = stack.enter_context(opened.environment.read())
            yield Reader(opened, txn)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A write transaction, durable when the block has ended."""
        with self._turnstile:
            # Whoever wants to exchange the database passes before the next write.
            pass
        with self._writing:
            opened = self._opened
            with opened.environment.write() as txn:
                transaction = Transaction(opened, txn)
                yield transaction
                if transaction.grows and opened.environment.crowded(txn):
                    raise StorageFullError("the database has used up its address range")
                changed = transaction.flush()
                reached("commit.before_sync")
                began = time.perf_counter()
            telemetry.observe(Measure.COMMIT_SYNC, time.perf_counter() - began)
            reached("commit.after_sync")
            opened.vector_rows.follow(changed)

    def numbers_with_label(self, key: str, value: str | None) -> list[int]:
        """Numbers of the identities with this label, or with any value of it."""
        with self.read() as view:
            return view.numbers_with_label(key, value)

    def vectors(self, ordinals: NDArray[np.int64]) -> tuple[NDArray[np.int64], Vector]:
        """Those of the ordinals whose faces still exist, and their vectors."""
        with self.read() as view:
            vectors = view.vectors(ordinals)
        # A face deleted since has a zero vector.
        kept = np.any(vectors != 0, axis=1)
        return ordinals[kept], vectors[kept]

    @contextmanager
    def without_writes(self) -> Iterator[None]:
        """Holds up the writes for as long as the block runs."""
        with self._turnstile, self._writing:
            yield

    def exchange(self, environment: Environment) -> Environment:
        """Puts another environment in the place of the present one, which is returned.

        To be called while writes are held up. Whoever reads goes on with the one that was there
        when the read began.
        """
        before = self._opened.environment
        self._opened = Opened(environment, self._dimension)
        return before

    def close(self) -> None:
        """Closes the environment."""
        self.environment.close()
