"""As many scans at once as cores, fair between galleries, gathered into batches.

A scan is arithmetic from end to end. More of them at once than cores finish no sooner, but
take the interpreter's lock from each other at every step. So a search that finds all places
taken waits in its gallery's lane. Whoever has ended a scan gives the place to the first in the
next lane in turn, so that a busy gallery cannot starve a quiet one; and whoever begins a scan
takes along what waits in the same lane. One scan answers all of these: they share the reading
of the codes, which is most of its cost.

There is no thread of its own here. The callers' threads do the work, each for some others
beside itself.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Final, Generic, TypeVar

from visagedb_indexer.errors import DeadlineExceededError

CORES: Final = len(os.sched_getaffinity(0))

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class _Waiting(Generic[Request, Answer]):
    """A search that waits: for its turn, or for its answer."""

    __slots__ = ("answer", "request", "signal")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.answer: Answer | BaseException | None = None
        self.signal: SimpleQueue[None] = SimpleQueue()


class Lane(Generic[Request, Answer]):
    """Where the searches of one gallery wait.

    Args:
        scheduler: Gives the places.
        work: Answers some requests at once, with an answer or an error for each.
        batch_max: How many requests may be answered at once at this moment.
    """

    def __init__(
        self,
        scheduler: "Scheduler",
        work: Callable[[list[Request]], Sequence[Answer | BaseException]],
        batch_max: Callable[[], int],
    ) -> None:
        self._scheduler = scheduler
        self._work = work
        self._batch_max = batch_max
        self.queue: deque[_Waiting[Request, Answer]] = deque()

    def run(self, request: Request, deadline: float | None = None) -> Answer:
        """Answers a request, alone or with others.

        Args:
            request: What to search for.
            deadline: `time.monotonic()` seconds until which to wait for a place; None for as
                long as it takes.

        Raises:
            DeadlineExceededError: The deadline passed first.
        """
        mine = _Waiting[Request, Answer](request)
        if not self._scheduler.enter(self, mine):
            self._wait(mine, deadline)
        if mine.answer is None:
            self._lead(mine)
        assert mine.answer is not None
        if isinstance(mine.answer, BaseException):
            raise mine.answer
        return mine.answer

    def _wait(self, mine: _Waiting[Request, Answer], deadline: float | None) -> None:
        if deadline is None:
            mine.signal.get()
            return
        try:
            mine.signal.get(timeout=max(0.0, deadline - time.monotonic()))
        except Empty:
            if self._scheduler.withdraw(self, mine):
                raise DeadlineExceededError("the deadline passed before the search began") from None
            # Its turn or its answer has come in this moment, and must not be left behind.
            mine.signal.get()

    def _lead(self, mine: _Waiting[Request, Answer]) -> None:
        batch = [mine, *self._scheduler.companions(self, self._batch_max() - 1)]
        try:
            answers = self._work([waiting.request for waiting in batch])
        except BaseException as error:
            answers = [error] * len(batch)
            raise
        finally:
            for waiting, answer in zip(batch, answers, strict=True):
                waiting.answer = answer
                waiting.signal.put(None)
            self._scheduler.give_back()


class Scheduler:
    """Places to search in, shared by all galleries of a process.

    Args:
        places: How many scans may run at once.
    """

    def __init__(self, places: int = CORES) -> None:
        self._lock = threading.Lock()
        self._free = places
        self._ring: deque[Lane[object, object]] = deque()
        """Lanes in which somebody waits, in the order of their turns."""

    @property
    def full(self) -> bool:
        """Whether no place is free."""
        return self._free == 0

    def enter(self, lane: Lane[Request, Answer], waiting: _Waiting[Request, Answer]) -> bool:
        """Takes a place; without a free one the search is queued, and the answer is False."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            lane.queue.append(waiting)
            if len(lane.queue) == 1:
                self._ring.append(lane)  # type: ignore[arg-type]
            return False

    def companions(self, lane: Lane[Request, Answer], most: int) -> list[_Waiting[Request, Answer]]:
        """Takes searches out of a lane, to be answered along with another."""
        with self._lock:
            taken = [lane.queue.popleft() for _ in range(min(most, len(lane.queue)))]
            if taken and not lane.queue:
                self._ring.remove(lane)  # type: ignore[arg-type]
            return taken

    def withdraw(self, lane: Lane[Request, Answer], waiting: _Waiting[Request, Answer]) -> bool:
        """Takes back a search; False if its turn has come already."""
        with self._lock:
            if waiting not in lane.queue:
                return False
            lane.queue.remove(waiting)
            if not lane.queue:
                self._ring.remove(lane)  # type: ignore[arg-type]
            return True

    def give_back(self) -> None:
        """Gives a place to the first of the next lane; if nobody waits it is free."""
        with self._lock:
            if not self._ring:
                self._free += 1
                return
            lane = self._ring.popleft()
            successor = lane.queue.popleft()
            if lane.queue:
                self._ring.append(lane)
        successor.signal.put(None)

    @contextmanager
    def spare(self, wanted: int) -> Iterator[int]:
        """Takes up to `wanted` places that nobody needs at this moment, for a while."""
        with self._lock:
            taken = min(wanted, self._free)
            self._free -= taken
        try:
            yield taken
        finally:
            for _ in range(taken):
                self.give_back()
