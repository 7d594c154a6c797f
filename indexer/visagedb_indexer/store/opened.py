"""An open database of a gallery, as its readers and its writer see it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from visagedb_indexer import limits
from visagedb_indexer.store import migrations, schema
from visagedb_indexer.store.blocks import (
    CHECKSUM_BLOCK_BYTES,
    OWNER_BLOCK_BYTES,
    Column,
    ColumnReader,
)
from visagedb_indexer.store.environment import Environment
from visagedb_indexer.store.row_map import RowMap


class Opened:
    """An environment, its columns, and where the vectors lie in its map.

    What belongs to one map stays together: a compaction puts another one in its place.

    Args:
        environment: The open environment.
        dimension: Length of the vectors.
    """

    def __init__(self, environment: Environment, dimension: int) -> None:
        self.environment = environment
        self.vector_column = Column.of(schema.VECTORS, "<f4", dimension, limits.BLOCK_BYTES)
        self.owner_column = Column.of(schema.OWNERS, "<i4", 1, OWNER_BLOCK_BYTES)
        self.checksum_column = Column.of(schema.VECTOR_CHECKSUMS, "<u4", 1, CHECKSUM_BLOCK_BYTES)
        self.vector_rows = RowMap(self.vector_column, self._open_vectors)

    @contextmanager
    def _open_vectors(self) -> Iterator[ColumnReader]:
        with self.environment.read() as txn:
            yield ColumnReader(self.environment, txn, self.vector_column)


def open_environment(path: Path) -> Environment:
    """Opens the database of a gallery in a folder.

    Raises:
        StorageCorruptError: It cannot be read.
        FormatTooNewError: A newer release has written it.
    """
    return Environment(
        path,
        schema.GALLERY_DATABASES,
        map_bytes=limits.MAP_BYTES_GALLERY,
        steps=migrations.GALLERY_STEPS,
    )
