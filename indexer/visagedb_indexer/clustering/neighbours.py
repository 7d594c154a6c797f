"""The best neighbours of every row, found in any order."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_WAITING_MAX: Final = 1 << 23
"""Found neighbours that wait before they are sorted in."""


class Neighbours:
    """Of every row the neighbours with the highest scores.

    What is kept depends only on what was added, not on the order: of equal scores the lower
    row is kept.

    Args:
        count: Rows.
        kept: Neighbours of one row, at most.
    """

    def __init__(self, count: int, kept: int) -> None:
        self.kept = kept
        self._least = np.full(count, -np.inf, np.float32)
        self._rows = np.empty(0, np.int32)
        self._others = np.empty(0, np.int32)
        self._scores = np.empty(0, np.float32)
        self._waiting: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]] = []
        self._waiting_count = 0

    def add(
        self,
        rows: NDArray[np.integer],
        others: NDArray[np.integer],
        scores: NDArray[np.float32],
    ) -> None:
        """Takes in that `others` are neighbours of `rows`, each shape (m,)."""
        good = scores >= self._least[rows]
        piece = (rows[good].astype(np.int32), others[good].astype(np.int32), scores[good])
        self._waiting.append(piece)
        self._waiting_count += len(piece[0])
        if self._waiting_count > _WAITING_MAX:
            self._sort_in()

    def pairs(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        """Rows, their neighbours, and the scores; ordered by row and neighbour."""
        if self._waiting:
            self._sort_in()
        return self._rows, self._others, self._scores

    def _sort_in(self) -> None:
        parts = [(self._rows, self._others, self._scores), *self._waiting]
        rows, others, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
        self._waiting, self._waiting_count = [], 0
        rows, others, scores = _unique(rows, others, scores)
        counts = np.bincount(rows, minlength=len(self._least))
        crowded = np.flatnonzero((counts > self.kept)[rows])
        order = crowded[np.lexsort((others[crowded], -scores[crowded], rows[crowded]))]
        place = _places_in_runs(rows[order])
        kept = np.ones(len(rows), np.bool_)
        kept[order[place >= self.kept]] = False
        last = order[place == self.kept - 1]
        self._least[rows[last]] = scores[last]
        self._rows, self._others, self._scores = rows[kept], others[kept], scores[kept]


def _unique(
    rows: NDArray[np.int32], others: NDArray[np.int32], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
    """Each pair once, ordered; of scores that differ in rounding the highest."""
    if not len(rows):
        return rows, others, scores
    keys = (rows.astype(np.int64) << 32) | others
    order = np.argsort(keys)
    keys = keys[order]
    starts = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    best = np.maximum.reduceat(scores[order], starts)
    first = order[starts]
    return rows[first], others[first], best


def _places_in_runs(values: NDArray[np.int32]) -> NDArray[np.int64]:
    """Of ordered values: 0, 1, ... within every run of equal ones."""
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]])[: len(values)])
    lengths = np.diff(np.append(starts, len(values)))
    return np.arange(len(values)) - np.repeat(starts, lengths)
