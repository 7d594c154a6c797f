"""The lanes: threads and a queue for each kind of calls."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

from visagedb_indexer.errors import OverloadedError
from visagedb_server import limits
from visagedb_server.admission.shedding import QueueDelay, overloaded

_GALLERY: Final = "/visagedb.v1.GalleryService/"
_CONTROL_PREFIXES: Final = ("/grpc.health.", "/google.longrunning.Operations/")
_CONTROL_METHODS: Final = frozenset(
    _GALLERY + name for name in ("GetGallery", "ListGalleries", "GetGalleryStats")
)
_WAITING_METHOD: Final = "/google.longrunning.Operations/WaitOperation"
_REFLECTION_PREFIX: Final = "/grpc.reflection."
_GAP_WEIGHT: Final = 0.05
_GAP_SECONDS_MAX: Final = 1.0

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LaneState:
    """How a lane stands.

    Attributes:
        threads: The most calls that run at once.
        running: Calls that run.
        waiting: Calls that wait for a thread.
    """

    threads: int
    running: int
    waiting: int


class Lane:
    """Threads that serve one kind of calls, and the calls that wait for one.

    Args:
        name: For metrics and thread names.
        threads: Calls served at once.
        waiting_max: Calls that may wait for a thread; more are refused on arrival.
        delay: Judges how long a call has waited; None lets all wait as long as it takes.
        counted: Whether its calls count for the rates of their callers.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        waiting_max: int,
        delay: QueueDelay | None = None,
        *,
        counted: bool = False,
    ) -> None:
        self.name = name
        self.counted = counted
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix=f"call-{name}")
        self._threads = threads
        self._calls_max = threads + waiting_max
        self._delay = delay
        self._lock = threading.Lock()
        self._arrived = 0
        self._running = 0
        self._last_end = time.monotonic()
        self._gap = 0.0
        """Seconds between two calls that end, about: what one place in the queue costs."""

    def enter(self) -> "Ticket | None":
        """Takes a place, in a thread or in the queue; None when there is none."""
        with self._lock:
            if self._arrived >= self._calls_max:
                return None
            self._arrived += 1
        return Ticket(self, time.monotonic())

    def begin(self, arrived: float) -> None:
        """A call has its thread.

        Args:
            arrived: `time.monotonic()` seconds.

        Raises:
            OverloadedError: It has waited so long that it is better refused.
        """
        now = time.monotonic()
        with self._lock:
            self._running += 1
        if self._delay is not None and not self._delay.allows(now - arrived, now):
            raise self.refusal()

    def end(self) -> None:
        """A call is over."""
        now = time.monotonic()
        with self._lock:
            self._running -= 1
            self._arrived -= 1
            gap = min(now - self._last_end, _GAP_SECONDS_MAX)
            self._gap += _GAP_WEIGHT * (gap - self._gap)
            self._last_end = now

    def leave(self) -> None:
        """A call goes away that has not begun."""
        with self._lock:
            self._arrived -= 1

    def refusal(self) -> OverloadedError:
        """The answer to a call for which there is no room."""
        state = self.state()
        return overloaded(
            f"{state.running + state.waiting} calls are served or wait already; try again later",
            (state.waiting + 1) * self._gap,
            lane=self.name,
        )

    def state(self) -> LaneState:
        """How the lane stands."""
        with self._lock:
            return LaneState(self._threads, self._running, self._arrived - self._running)


class Ticket:
    """A call's place in a lane, from its arrival to its end.

    Args:
        lane: Where it waits.
        arrived: `time.monotonic()` seconds.
    """

    __slots__ = ("_arrived", "_lane")

    def __init__(self, lane: Lane, arrived: float) -> None:
        self._lane = lane
        self._arrived = arrived

    @property
    def pool(self) -> ThreadPoolExecutor:
        """The threads that serve it."""
        return self._lane.pool

    @property
    def counted(self) -> bool:
        """Whether it counts for the rate of its caller."""
        return self._lane.counted

    @property
    def waited(self) -> float:
        """Seconds since its arrival."""
        return time.monotonic() - self._arrived

    def begin(self) -> None:
        """It has its thread.

        Raises:
            OverloadedError: It has waited so long that it is better refused.
        """
        self._lane.begin(self._arrived)

    def end(self) -> None:
        """It is over, whether or not it was served."""
        self._lane.end()

    def leave(self) -> None:
        """It goes away before it had a thread."""
        self._lane.leave()


class _AtOnce(ThreadPoolExecutor):
    """Runs what it is given in the thread that gives it.

    A refusal waits for nothing, and costs less than handing it to a thread.
    """

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001
            future.set_exception(error)
        return future


class Lanes:
    """All lanes of a server.

    Args:
        threads: For calls that search, write and read images.
        requests_max: Such calls that are served or wait.
    """

    def __init__(self, threads: int, requests_max: int) -> None:
        self.work = Lane("work", threads, requests_max - threads, QueueDelay(), counted=True)
        self._control = Lane("control", limits.CONTROL_THREADS, limits.CONTROL_WAITING_MAX)
        self._streams = Lane(
            "streams", limits.STREAM_THREADS, limits.STREAM_WAITING_MAX, counted=True
        )
        self._waiters = Lane("waiters", limits.WAITER_THREADS, limits.WAITER_WAITING_MAX)
        self._reflection = Lane(
            "reflection", limits.REFLECTION_THREADS, limits.REFLECTION_WAITING_MAX
        )
        self.at_once: ThreadPoolExecutor = _AtOnce(1)

    @property
    def all(self) -> tuple[Lane, ...]:
        """Every lane."""
        return self.work, self._control, self._streams, self._waiters, self._reflection

    @property
    def control(self) -> ThreadPoolExecutor:
        """Threads for what is answered from memory."""
        return self._control.pool

    def of(self, method: str, *, streaming: bool) -> Lane:
        """The lane of a method.

        Args:
            method: ``/package.Service/Method``.
            streaming: Whether its calls are streams.
        """
        if method == _WAITING_METHOD:
            return self._waiters
        if method.startswith(_REFLECTION_PREFIX):
            return self._reflection
        if method in _CONTROL_METHODS or method.startswith(_CONTROL_PREFIXES):
            return self._control
        return self._streams if streaming else self.work

    def close(self) -> None:
        """Ends the threads, once no call is left."""
        for lane in self.all:
            lane.pool.shutdown(wait=False)
