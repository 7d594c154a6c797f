"""Columns: dense arrays by ordinal, stored in blocks of contiguous rows.

A row is found by arithmetic, a block is read as one array without a copy, and a scan
costs one lookup per block instead of one per row. A commit rewrites the last block,
which is cheap beside the sync that the commit waits for. Blocks have their full size from
the start, with zeros behind the last row. A block of nothing but zeros, as one is whose faces are
all deleted, is an empty value.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

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

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * self.width

    def rows(self, data: memoryview) -> NDArray[np.generic]:
        """A block's bytes as an array of shape (rows, width), without a copy."""
        if not len(data):
            zeros = _zeros(self.row_bytes * self.rows_per_block)
            return zeros.view(self.dtype).reshape(-1, self.width)
        if len(data) != self.row_bytes * self.rows_per_block:
            raise StorageCorruptError(f"a block of {self.database.name.decode()} has a wrong size")
        return np.frombuffer(data, dtype=self.dtype).reshape(-1, self.width)


class ColumnReader:
    """Reads a column in one read transaction."""

    def __init__(self, environment: Environment, txn: LmdbTransaction, column: Column) -> None:
        self._txn = txn
        self._column = column
        self._handle = environment.handle(column.database)

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

    def row(self, ordinal: int) -> NDArray[np.generic]:
        """One row, as a view that is valid until the transaction ends.

        Raises:
            StorageCorruptError: There is no such block.
        """
        block, offset = divmod(ordinal, self._column.rows_per_block)
        data = self._txn.get(u32(block), db=self._handle)
        if data is None:
            raise StorageCorruptError(
                f"a block of {self._column.database.name.decode()} is missing"
            )
        row: NDArray[np.generic] = self._column.rows(data)[offset]
        return row

    def address(self, block: int) -> int:
        """Where a block is in memory, while this transaction lives.

        Raises:
            StorageCorruptError: There is no such block.
        """
        data = self._txn.get(u32(block), db=self._handle)
        if data is None:
            raise StorageCorruptError(
                f"a block of {self._column.database.name.decode()} is missing"
            )
        return _address(self._column.rows(data))


class ColumnWriter:
    """Collects changes of rows in one write transaction and writes each block once."""

    def __init__(self, environment: Environment, txn: LmdbTransaction, column: Column) -> None:
        self._txn = txn
        self._column = column
        self._handle = environment.handle(column.database)
        self._dirty: dict[int, NDArray[np.generic]] = {}

    def put(self, ordinal: int, row: NDArray[np.generic] | int) -> None:
        """Sets one row; the column grows to hold it."""
        block, offset = divmod(ordinal, self._column.rows_per_block)
        if block not in self._dirty:
            self._dirty[block] = self._load(block)
        self._dirty[block][offset] = row

    def put_rows(self, ordinal: int, rows: NDArray[np.generic]) -> None:
        """Sets neighbouring rows from an ordinal on; shape (n, width)."""
        size, done = self._column.rows_per_block, 0
        while done < len(rows):
            block, offset = divmod(ordinal + done, size)
            some = rows[done : done + size - offset]
            if block not in self._dirty:
                self._dirty[block] = self._load(block)
            self._dirty[block][offset : offset + len(some)] = some
            done += len(some)

    def row(self, ordinal: int) -> NDArray[np.generic]:
        """One row as it stands, with the changes collected so far."""
        block, offset = divmod(ordinal, self._column.rows_per_block)
        rows = self._dirty[block] if block in self._dirty else self._load(block)
        row: NDArray[np.generic] = rows[offset]
        return row

    def _load(self, block: int) -> NDArray[np.generic]:
        column = self._column
        data = self._txn.get(u32(block), db=self._handle)
        if data is not None:
            return column.rows(data).copy()
        return np.zeros((column.rows_per_block, column.width), dtype=column.dtype)

    def flush(self) -> list[int]:
        """Writes the changed blocks into the transaction; returns which they are."""
        changed = sorted(self._dirty)
        for block in changed:
            rows = self._dirty[block]
            self._txn.put(u32(block), packed(rows), db=self._handle)
        self._dirty.clear()
        return changed


def packed(rows: NDArray[np.generic]) -> bytes:
    """A block as it is stored."""
    return rows.tobytes() if rows.any() else b""


def _address(rows: NDArray[np.generic]) -> int:
    return int(rows.__array_interface__["data"][0])


@lru_cache
def _zeros(count: int) -> NDArray[np.uint8]:
    """So many zero bytes, which lie as a block in the map does: behind a page's header."""
    memory = mmap.mmap(-1, PAGE_HEADER_BYTES + count)
    zeros: NDArray[np.uint8] = np.frombuffer(memory, np.uint8)[PAGE_HEADER_BYTES:]
    zeros.flags.writeable = False
    return zeros


PAGE_HEADER_BYTES = 16
"""A block is larger than a page, so LMDB keeps it on pages of its own, after this header."""
OWNER_BLOCK_BYTES = 16 * limits.KIB
CHECKSUM_BLOCK_BYTES = 16 * limits.KIB
