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

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Generic, TypeVar

from visagedb_indexer import cancellation, telemetry
from visagedb_indexer.cores import CORES
from visagedb_indexer.errors import CancelledError, DeadlineExceededError
from visagedb_indexer.telemetry import Measure

Request = TypeVar("Request")
Answer = TypeVar("Answer")


class _Waiting(Generic[Request, Answer]):
    """The searches of one caller that wait together: for their turn, or for their answers."""

    __slots__ = ("answers", "requests", "signal")

    def __init__(self, requests: Sequence[Request]) -> None:
        self.requests = requests
        self.answers: Sequence[Answer | BaseException] | None = None
        self.signal: SimpleQueue[None] = SimpleQueue()


class Lane(Generic[Request, Answer]):
    """Where the searches of one gallery wait.

    Args:
        scheduler: Gives the places.
        work: Answers some requests at once, with an answer or an error for each.
        batch_max: How many requests may be answered at once.
    """

    def __init__(
        self,
        scheduler: "Scheduler",
        work: Callable[[list[Request]], Sequence[Answer | BaseException]],
        batch_max: int,
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
            CancelledError: The caller has gone.
        """
        [answer] = self._together([request], deadline)
        return answer

    def run_many(self, requests: Sequence[Request], deadline: float | None = None) -> list[Answer]:
        """Answers the requests of one caller, as many by one scan as may be.

        Args:
            requests: What to search for.
            deadline: `time.monotonic()` seconds until which to wait for a place; None for as
                long as it takes.

        Raises:
            DeadlineExceededError: The deadline passed first.
            CancelledError: The caller has gone.
        """
        answers: list[Answer] = []
        while len(answers) < len(requests):
            some = requests[len(answers) : len(answers) + self._batch_max]
            answers += self._together(some, deadline)
        return answers

    def _together(self, requests: Sequence[Request], deadline: float | None) -> list[Answer]:
        """Answers no more requests than one scan may."""
        mine = _Waiting[Request, Answer](requests)
        if not self._scheduler.enter(self, mine):
            with telemetry.timed(Measure.SEARCH_WAIT):
                self._wait(mine, deadline)
        if mine.answers is None:
            self._lead(mine)
        assert mine.answers is not None
        answers: list[Answer] = []
        for answer in mine.answers:
            if isinstance(answer, BaseException):
                raise answer
            answers.append(answer)
        return answers

    def _wait(self, mine: _Waiting[Request, Answer], deadline: float | None) -> None:
        patience = None if deadline is None else max(0.0, deadline - time.monotonic())
        with cancellation.current().calling(lambda: self._give_up(mine)):
            try:
                mine.signal.get(timeout=patience)
            except Empty:
                if self._scheduler.withdraw(self, mine):
                    raise DeadlineExceededError(
                        "the deadline passed before the search began"
                    ) from None
                # Its turn or its answer has come in this moment, and must not be left behind.
                mine.signal.get()

    def _give_up(self, mine: _Waiting[Request, Answer]) -> None:
        """Takes a search out of the lane whose caller has gone, unless its turn has come."""
        if self._scheduler.withdraw(self, mine):
            mine.answers = [CancelledError("the caller has gone")] * len(mine.requests)
            mine.signal.put(None)

    def _lead(self, mine: _Waiting[Request, Answer]) -> None:
        room = self._batch_max - len(mine.requests)
        batch = [mine, *self._scheduler.companions(self, room)]
        requests = [request for waiting in batch for request in waiting.requests]
        telemetry.observe(Measure.SEARCHES_GATHERED, len(requests))
        try:
            answers = self._work(requests)
        except BaseException as error:
            answers = [error] * len(requests)
            raise
        finally:
            rest = iter(answers)
            for waiting in batch:
                waiting.answers = list(islice(rest, len(waiting.requests)))
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
    def waiting(self) -> int:
        """Callers that wait for a place, in all lanes."""
        with self._lock:
            return sum(len(lane.queue) for lane in self._ring)

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

    def companions(self, lane: Lane[Request, Answer], room: int) -> list[_Waiting[Request, Answer]]:
        """Takes up to `room` searches out of a lane, to be answered along with others."""
        taken: list[_Waiting[Request, Answer]] = []
        with self._lock:
            while lane.queue and len(lane.queue[0].requests) <= room:
                room -= len(lane.queue[0].requests)
                taken.append(lane.queue.popleft())
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
