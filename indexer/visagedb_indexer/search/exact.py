"""Brute force: the answer for small galleries and small filters, and the oracle for the rest."""

import time

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.errors import DeadlineExceededError
from visagedb_indexer.search.protocol import VectorView
from visagedb_indexer.values import Vector


def check_deadline(deadline: float | None) -> None:
    """Gives up work that nobody waits for any more.

    Raises:
        DeadlineExceededError: The deadline has passed.
    """
    if deadline is not None and time.monotonic() > deadline:
        raise DeadlineExceededError("the deadline passed during the search")


def scan(
    view: VectorView, probe: Vector, start: int, stop: int, deadline: float | None = None
) -> NDArray[np.float32]:
    """Scores of all ordinals from `start` to `stop`: shape (stop - start,), float32.

    Raises:
        DeadlineExceededError: The deadline passed on the way.
    """
    scores = np.empty(stop - start, dtype=np.float32)
    for first, rows in view.vector_blocks(start):
        if first >= stop:
            break
        check_deadline(deadline)
        low, high = max(first, start), min(first + len(rows), stop)
        np.matmul(rows[low - first : high - first], probe, out=scores[low - start : high - start])
    return scores


def top(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Positions of the `count` highest scores, highest first, ties by position."""
    if count < len(scores):
        edge = np.partition(scores, len(scores) - count)[len(scores) - count]
        # Everything level with the edge takes part, so that ties fall by position.
        chosen = np.flatnonzero(scores >= edge)
    else:
        chosen = np.arange(len(scores))
    order = np.lexsort((chosen, -scores[chosen]))
    result: NDArray[np.int64] = chosen[order][:count]
    return result
