"""The best neighbours of every row, found in any order."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

_WAITING_MAX: Final = 1 << 22
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
        """Rows, their neighbours, and the scores; ordered by row, then best first."""
        if self._waiting:
            self._sort_in()
        return self._rows, self._others, self._scores

    def _sort_in(self) -> None:
        parts = [(self._rows, self._others, self._scores), *self._waiting]
        rows, others, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
        self._waiting, self._waiting_count = [], 0
        order = np.lexsort((others, -scores, rows))
        rows, others, scores = rows[order], others[order], scores[order]
        # The same pair may be found twice; its copies are neighbours now.
        new = np.ones(len(rows), np.bool_)
        new[1:] = (rows[1:] != rows[:-1]) | (others[1:] != others[:-1])
        rows, others, scores = rows[new], others[new], scores[new]
        starts = np.searchsorted(rows, np.arange(len(self._least)))
        place = np.arange(len(rows)) - starts[rows]
        best = place < self.kept
        full = place == self.kept - 1
        self._least[rows[full]] = scores[full]
        self._rows, self._others, self._scores = rows[best], others[best], scores[best]
