"""The database of one gallery: where it lies, and how it is read and written."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visagedb_indexer import limits, telemetry
from visagedb_indexer.errors import StorageCorruptError
from visagedb_indexer.failpoints import reached
from visagedb_indexer.store import schema
from visagedb_indexer.store.blocks import (
    CHECKSUM_BLOCK_BYTES,
    OWNER_BLOCK_BYTES,
    Column,
    ColumnReader,
)
from visagedb_indexer.store.environment import Environment
from visagedb_indexer.store.reader import Reader
from visagedb_indexer.store.records import Counters, GalleryRecord, decode, encode
from visagedb_indexer.store.row_map import RowMap
from visagedb_indexer.store.transaction import Transaction
from visagedb_indexer.telemetry import Measure


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
        self.environment = Environment(
            path, schema.GALLERY_DATABASES, map_bytes=limits.MAP_BYTES_GALLERY
        )
        if create is not None:
            with self.environment.write() as txn:
                meta = self.environment.handle(schema.META)
                txn.put(schema.GALLERY_KEY, encode(create), db=meta)
                txn.put(schema.COUNTERS_KEY, encode(Counters()), db=meta)
            record = create
        else:
            with self.environment.read() as txn:
                data = txn.get(schema.GALLERY_KEY, db=self.environment.handle(schema.META))
                if data is None:
                    raise StorageCorruptError(f"{path} holds no gallery")
                record = decode(data, GalleryRecord)
        self.vector_column = Column.of(
            schema.VECTORS, "<f4", record.model.dimension, limits.BLOCK_BYTES
        )
        self.owner_column = Column.of(schema.OWNERS, "<i4", 1, OWNER_BLOCK_BYTES)
        self.checksum_column = Column.of(schema.VECTOR_CHECKSUMS, "<u4", 1, CHECKSUM_BLOCK_BYTES)
        self.vector_rows = RowMap(self.vector_column, self._open_vectors)

    @contextmanager
    def read(self) -> Iterator[Reader]:
        """A consistent view of the gallery."""
        with self.environment.read() as txn:
            yield Reader(self, txn)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """A write transaction, durable when the block has ended."""
        with self.environment.write() as txn:
            transaction = Transaction(self, txn)
            yield transaction
            changed = transaction.flush()
            reached("commit.before_sync")
            began = time.perf_counter()
        telemetry.observe(Measure.COMMIT_SYNC, time.perf_counter() - began)
        reached("commit.after_sync")
        self.vector_rows.follow(changed)

    def numbers_with_label(self, key: str, value: str | None) -> list[int]:
        """Numbers of the identities with this label, or with any value of it."""
        with self.read() as view:
            return view.numbers_with_label(key, value)

    @contextmanager
    def _open_vectors(self) -> Iterator[ColumnReader]:
        with self.environment.read() as txn:
            yield ColumnReader(self.environment, txn, self.vector_column)

    def close(self) -> None:
        """Closes the environment."""
        self.environment.close()
