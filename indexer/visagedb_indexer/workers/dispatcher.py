"""The thread that keeps one worker process alive and busy."""

import contextlib
import os
import threading
import time
from collections import deque
from multiprocessing.connection import wait
from typing import Final, Protocol

from visagedb_indexer.errors import IndexerError
from visagedb_indexer.workers.messages import Answer, Batch, WorkerSettings
from visagedb_indexer.workers.process import WorkerProcess, as_start_error
from visagedb_indexer.workers.work import Item

DEPTH: Final = 2
"""Batches in a worker's hands: while it works on one, the next is on its way."""
_BACK_OFF_SECONDS_FIRST: Final = 0.25
_BACK_OFF_SECONDS_MAX: Final = 30.0
_WAIT_SECONDS: Final = 1.0
_END_SECONDS: Final = 5.0


class Owner(Protocol):
    """What a dispatcher needs of its pool; every method may be called from any thread."""

    def next_batch(self, dispatcher: "Dispatcher") -> list[Item]:
        """Images for this worker now; empty if there are none, or others should have them."""
        ...

    def answered(self, items: list[Item], answer: Answer) -> None:
        """A batch came back."""
        ...

    def died(self, started: list[Item], waiting: list[Item]) -> None:
        """The process is gone; it was working on one batch, and had not begun the others."""
        ...

    def start_failed(self, dispatcher: "Dispatcher", error: IndexerError) -> None:
        """The process did not come up."""
        ...

    def became_ready(self, dispatcher: "Dispatcher") -> None:
        """The process is up."""
        ...

    def finished(self) -> bool:
        """Whether the pool is closing and has no work left for anybody."""
        ...


class Dispatcher(threading.Thread):
    """Starts a process, feeds it, and replaces it when it dies."""

    def __init__(self, owner: Owner, settings: WorkerSettings, number: int) -> None:
        super().__init__(name=f"embedding-worker-{number}", daemon=True)
        self._owner = owner
        self._settings = settings
        self._in_flight: deque[list[Item]] = deque()
        self._failures = 0
        self._stop_now = threading.Event()
        self._wake_reader, self._wake_writer = os.pipe()
        os.set_blocking(self._wake_writer, False)
        os.set_blocking(self._wake_reader, False)
        self._process: WorkerProcess | None = None
        self.ready = False
        self.busy_since: float | None = None
        """When the process began what it is doing now; None while it is idle."""

    @property
    def pid(self) -> int | None:
        """Of the present process."""
        process = self._process
        return None if process is None else process.pid

    @property
    def batches_in_flight(self) -> int:
        """Batches handed over and not yet answered."""
        return len(self._in_flight)

    @property
    def images_in_flight(self) -> int:
        """Images handed over and not yet answered."""
        return sum(len(items) for items in tuple(self._in_flight))

    def wake(self) -> None:
        """Makes the thread look at the queue."""
        # A full pipe wakes it as well, and a closed one has nobody to wake.
        with contextlib.suppress(OSError):
            os.write(self._wake_writer, b"w")

    def stop_now(self) -> None:
        """Ends the thread without finishing what is in flight."""
        self._stop_now.set()
        self.kill()
        self.wake()

    def kill(self) -> None:
        """Kills the process; the thread notices and replaces it."""
        process = self._process
        if process is not None:
            process.kill()

    def run(self) -> None:
        """Until the pool is finished."""
        try:
            while not self._stop_now.is_set() and not self._owner.finished():
                if self._start():
                    self._serve()
                    self._bury()
                self._back_off()
        finally:
            os.close(self._wake_reader)
            os.close(self._wake_writer)

    def _start(self) -> bool:
        self.busy_since = time.monotonic()
        try:
            self._process = WorkerProcess(self._settings)
            self._process.wait_ready()
        except Exception as error:  # noqa: BLE001 - a dead thread would leave requests waiting
            self._process = None
            self._failures += 1
            self.busy_since = None
            self._owner.start_failed(self, as_start_error(error))
            return False
        self.busy_since = None
        self.ready = True
        self._owner.became_ready(self)
        return True

    def _serve(self) -> None:
        """Feeds the process until it dies or the pool has no more work."""
        process = self._process
        assert process is not None
        try:
            while not self._stop_now.is_set():
                while len(self._in_flight) < DEPTH and (items := self._owner.next_batch(self)):
                    self._send(process, items)
                if not self._in_flight and self._owner.finished():
                    return
                ready = wait([process.connection, self._wake_reader], _WAIT_SECONDS)
                if self._wake_reader in ready:
                    os.read(self._wake_reader, 4096)
                if process.connection in ready:
                    self._receive(process)
        except (EOFError, OSError):
            return

    def _send(self, process: WorkerProcess, items: list[Item]) -> None:
        if not self._in_flight:
            self.busy_since = time.monotonic()
        self._in_flight.append(items)
        recipe = items[0].recipe
        images = tuple(item.image for item in items)
        batch = Batch(recipe.model, recipe.flip, recipe.embed, recipe.choice, images)
        process.connection.send(batch)

    def _receive(self, process: WorkerProcess) -> None:
        answer: Answer = process.connection.recv()
        items = self._in_flight.popleft()
        self.busy_since = time.monotonic() if self._in_flight else None
        self._failures = 0
        self._owner.answered(items, answer)

    def _bury(self) -> None:
        """After the process died, or was told to end."""
        process = self._process
        assert process is not None
        self.ready = False
        self.busy_since = None
        idle = not self._in_flight
        process.end(_END_SECONDS if idle and self._owner.finished() else 0.0)
        self._process = None
        batches, self._in_flight = list(self._in_flight), deque()
        if self._owner.finished() and idle:
            return
        self._failures += 1
        waiting = [item for items in batches[1:] for item in items]
        self._owner.died(batches[0] if batches else [], waiting)

    def _back_off(self) -> None:
        """The first replacement comes at once; one that keeps dying waits longer each time."""
        if self._failures > 1:
            seconds = _BACK_OFF_SECONDS_FIRST * 2.0 ** min(self._failures - 2, 10)
            until = time.monotonic() + min(seconds, _BACK_OFF_SECONDS_MAX)
            while time.monotonic() < until and not self._owner.finished():
                if self._stop_now.wait(min(0.1, seconds)):
                    return
