"""Which rows are compared with which: all pairs, cut into tiles."""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]

_TILE_ROWS: Final = 4096


class Tiles(Protocol):
    """Pieces of the work; the same for the same vectors."""

    def __len__(self) -> int: ...

    def rows(self, tile: int) -> tuple[Rows, Rows]:
        """The two sets of rows that a tile compares."""
        ...


@dataclass(frozen=True, slots=True)
class AllPairs:
    """Every pair once: a block of rows against itself and all later rows."""

    count: int

    def __len__(self) -> int:
        return -(-self.count // _TILE_ROWS)

    def rows(self, tile: int) -> tuple[Rows, Rows]:
        """A block, and itself with all that follows."""
        start = tile * _TILE_ROWS
        return np.arange(start, min(start + _TILE_ROWS, self.count)), np.arange(start, self.count)


def plan_tiles(vectors: object) -> Tiles:
    """The tiles for a set of vectors."""
    return AllPairs(vectors.shape[0])  # type: ignore[attr-defined]
