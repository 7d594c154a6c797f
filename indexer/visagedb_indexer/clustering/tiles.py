"""Which rows are compared with which, cut into tiles."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.values import Vector

Rows: TypeAlias = NDArray[np.int64] | slice

_TILE_ROWS: Final = 1024


class VectorSource(Protocol):
    """Unit vectors of shape (n, dimension), float32: an array or a memory map."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and dimension."""
        ...

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> Vector:
        """Rows by place."""
        ...


class Tiles(Protocol):
    """Pieces of the work. No pair of rows is in doubt, but a pair may be met twice."""

    def __len__(self) -> int: ...

    def parts(self, tile: int) -> Iterator[tuple[Rows, Rows]]:
        """What a tile compares: a few rows, each with many others."""
        ...

    def state(self) -> Mapping[str, NDArray[Any]]:
        """What has to be kept so that another process makes the same tiles."""
        ...


@dataclass(frozen=True, slots=True)
class AllPairs:
    """Every pair once: a block of rows against itself and all later rows.

    Attributes:
        count: Rows in all.
    """

    count: int

    def __len__(self) -> int:
        return -(-self.count // _TILE_ROWS)

    def parts(self, tile: int) -> Iterator[tuple[Rows, Rows]]:
        """A block, and itself with all that follows."""
        start = tile * _TILE_ROWS
        yield slice(start, min(start + _TILE_ROWS, self.count)), slice(start, self.count)

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Nothing: the number of rows says it all."""
        return {}


def places(rows: Rows) -> NDArray[np.int64]:
    """Rows as numbers."""
    return np.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows


def in_blocks(rows: Rows, size: int) -> Iterator[Rows]:
    """The same rows, no more than `size` at a time."""
    if isinstance(rows, slice):
        for start in range(rows.start, rows.stop, size):
            yield slice(start, min(start + size, rows.stop))
    else:
        for start in range(0, len(rows), size):
            yield rows[start : start + size]
