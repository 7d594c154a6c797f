"""Work that is cut into pieces, on all cores."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

import numpy as np

from visagedb_indexer.cores import CORES
from visagedb_indexer.values import Vector

Piece = TypeVar("Piece")
Result = TypeVar("Result")

_AHEAD: Final = 2
"""Pieces under way for each thread, so that none of them waits while results are taken."""


class Threads:
    """Threads that do pieces of work; a context.

    NumPy lets go of Python's lock while it multiplies and compares, so threads are enough. Its
    matrix library is expected to use one thread for each of them.

    Args:
        count: Of the threads; by default as many as there are cores.
    """

    def __init__(self, count: int = CORES) -> None:
        self._count = count
        self._pool = ThreadPoolExecutor(count, "clustering")

    def __enter__(self) -> "Threads":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def map(self, work: Callable[[Piece], Result], pieces: Iterable[Piece]) -> Iterator[Result]:
        """The results in the order of the pieces, of which few are under way at a time."""
        under_way: deque[Future[Result]] = deque()
        for piece in pieces:
            under_way.append(self._pool.submit(work, piece))
            if len(under_way) > _AHEAD * self._count:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


class Scratch:
    """Memory that each thread writes its scores to again and again.

    Fresh memory for each piece would be mapped and cleared by the system, one thread at a time.

    Args:
        size: Numbers that a matrix usually has, at most.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._threads = threading.local()

    def matrix(self, rows: int, columns: int) -> Vector:
        """A matrix of this shape, float32, with anything in it; the thread's last one is gone."""
        wanted = rows * columns
        kept: Vector | None = getattr(self._threads, "kept", None)
        if kept is None or len(kept) < wanted:
            kept = self._threads.kept = np.empty(max(wanted, self._size), np.float32)
        return kept[:wanted].reshape(rows, columns)
