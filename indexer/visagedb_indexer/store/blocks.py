"""Columns: dense arrays by ordinal, stored in blocks of contiguous rows.

A row is found by arithmetic, a block is read as one array without a copy, and a scan
costs one lookup per block instead of one per row. A commit rewrites the last block,
which is cheap beside the sync that the commit waits for.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from visagedb_indexer import limits
from visagedb_indexer.errors import StorageCorruptError
from visagedb_indexer.store.environment import Environment, LmdbTransaction
from visagedb_indexer.store.schema import SubDatabase, read_u32, u32


@dataclass(frozen=True, slots=True)
class Column:
    """The shape of a column.

    Attributes:
        database: Where its blocks are.
        dtype: Type of a value.
        width: Values in a row.
        rows_per_block: A power of two.
    """

    database: SubDatabase
    dtype: np.dtype[np.generic]
    width: int
    rows_per_block: int

    @classmethod
    def of(cls, database: SubDatabase, dtype: DTypeLike, width: int, block_bytes: int) -> "Column":
        """A column with blocks of at most `block_bytes`."""
        kind = np.dtype(dtype)
        rows = max(1, block_bytes // (kind.itemsize * width))
        return cls(database, kind, width, 1 << (rows.bit_length() - 1))

    def rows(self, data: memoryview) -> NDArray[np.generic]:
        """A block's bytes as an array of shape (rows, width), without a copy."""
        row_bytes = self.dtype.itemsize * self.width
        if len(data) % row_bytes or len(data) > row_bytes * self.rows_per_block:
            raise StorageCorruptError(f"a block of {self.database.name.decode()} has a wrong size")
        return np.frombuffer(data, dtype=self.dtype).reshape(-1, self.width)


class ColumnReader:
    """Reads a column in one read transaction."""

    def __init__(self, environment: Environment, txn: LmdbTransaction, column: Column) -> None:
        self._txn = txn
        self._column = column
        self._handle = environment.handle(column.database)

    def gather(self, ordinals: NDArray[np.int64]) -> NDArray[np.generic]:
        """Rows by ordinal, in the order asked for: shape (len(ordinals), width), a copy.

        Raises:
            StorageCorruptError: A row that should exist does not.
        """
        column = self._column
        shift = column.rows_per_block.bit_length() - 1
        result = np.empty((len(ordinals), column.width), dtype=column.dtype)
        order = np.argsort(ordinals, kind="stable")
        blocks = ordinals[order] >> shift
        edges = [*np.flatnonzero(np.diff(blocks, prepend=-1)), len(order)]
        for start, end in itertools.pairwise(edges):
            data = self._txn.get(u32(int(blocks[start])), db=self._handle)
            if data is None:
                raise StorageCorruptError(f"a block of {column.database.name.decode()} is missing")
            chosen = order[start:end]
            rows = column.rows(data)
            offsets = ordinals[chosen] & (column.rows_per_block - 1)
            if offsets[-1] >= len(rows):
                raise StorageCorruptError(f"a row of {column.database.name.decode()} is missing")
            result[chosen] = rows[offsets]
        return result

    def blocks(self, start: int = 0) -> Iterator[tuple[int, NDArray[np.generic]]]:
        """All blocks from the one that holds ordinal `start`: its first ordinal, its rows.

        The rows are views of the map, valid until the transaction ends.
        """
        size = self._column.rows_per_block
        with self._txn.cursor(db=self._handle) as cursor:
            found = cursor.set_range(u32(start // size))
            while found:
                key, data = cursor.item()
                yield read_u32(bytes(key)) * size, self._column.rows(data)
                found = cursor.next()


class ColumnWriter:
    """Collects changes of rows in one write transaction and writes each block once."""

    def __init__(self, environment: Environment, txn: LmdbTransaction, column: Column) -> None:
        self._txn = txn
        self._column = column
        self._handle = environment.handle(column.database)
        self._dirty: dict[int, NDArray[np.generic]] = {}
        self._filled: dict[int, int] = {}

    def put(self, ordinal: int, row: NDArray[np.generic] | int) -> None:
        """Sets one row; the column grows to hold it."""
        size = self._column.rows_per_block
        block, offset = divmod(ordinal, size)
        if block not in self._dirty:
            self._load(block)
        self._dirty[block][offset] = row
        self._filled[block] = max(self._filled[block], offset + 1)

    def _load(self, block: int) -> None:
        column = self._column
        rows = np.zeros((column.rows_per_block, column.width), dtype=column.dtype)
        data = self._txn.get(u32(block), db=self._handle)
        stored = column.rows(data) if data is not None else rows[:0]
        rows[: len(stored)] = stored
        self._dirty[block] = rows
        self._filled[block] = len(stored)

    def flush(self) -> None:
        """Writes the changed blocks into the transaction."""
        for block in sorted(self._dirty):
            rows = self._dirty[block][: self._filled[block]]
            self._txn.put(u32(block), rows.tobytes(), db=self._handle)
        self._dirty.clear()
        self._filled.clear()


OWNER_BLOCK_BYTES = 16 * limits.KIB
