"""The thread that keeps one worker process alive and busy."""

import contextlib
import os
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import wait
from typing import Final, Protocol

from visagedb_indexer.errors import IndexerError
from visagedb_indexer.values import Extraction
from visagedb_indexer.workers.messages import (
    MEMORY_STATUS,
    Answered,
    BadMessageError,
    Batch,
    Began,
    WorkerSettings,
    received,
    received_seconds,
)
from visagedb_indexer.workers.process import WorkerProcess, as_start_error
from visagedb_indexer.workers.stats import Death
from visagedb_indexer.workers.work import Item, Priority

DEPTH: Final = 2
"""Batches in a worker's hands: while it works on one, the next is on its way. One of interactive
images comes on top of bulk ones, and is begun before those that wait."""
_BACK_OFF_SECONDS_FIRST: Final = 0.25
_BACK_OFF_SECONDS_MAX: Final = 30.0
_WAIT_SECONDS: Final = 1.0
_END_SECONDS: Final = 5.0


class Owner(Protocol):
    """What a dispatcher needs of its pool; every method may be called from any thread."""

    def next_batch(self, dispatcher: "Dispatcher", *, urgent: bool = False) -> list[Item]:
        """Images for this worker now; empty if there are none, or others should have them.

        With `urgent` only interactive ones.
        """
        ...

    def answered(
        self,
        items: list[Item],
        outcomes: list[Extraction | IndexerError],
        seconds: Mapping[str, float],
    ) -> None:
        """A batch came back: an outcome for each of its images, and the seconds by stage."""
        ...

    def died(self, started: list[Item], waiting: list[Item], death: Death) -> None:
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
        self._in_flight: dict[int, list[Item]] = {}
        self._begun: int | None = None
        self._has_answered = False
        self._sent = 0
        self._death = Death.CRASHED
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
        return sum(len(items) for items in list(self._in_flight.values()))

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

    def kill_hung(self) -> None:
        """Kills a process that takes too long."""
        self._death = Death.HUNG
        self.kill()

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
        self._has_answered = False
        self._death = Death.CRASHED
        self.ready = True
        self._owner.became_ready(self)
        return True

    def _serve(self) -> None:
        """Feeds the process until it dies or the pool has no more work."""
        process = self._process
        assert process is not None
        try:
            while not self._stop_now.is_set():
                while items := self._more():
                    self._send(process, items)
                if not self._in_flight and self._owner.finished():
                    return
                ready = wait([process.connection, self._wake_reader], _WAIT_SECONDS)
                if self._wake_reader in ready:
                    os.read(self._wake_reader, 4096)
                if process.connection in ready:
                    self._receive(process)
        except BadMessageError:
            self._death = Death.BAD_MESSAGE
        except (EOFError, OSError):
            return

    def _more(self) -> list[Item]:
        """Images that the process should have now."""
        if len(self._in_flight) < DEPTH:
            return self._owner.next_batch(self)
        bulk = all(items[0].priority is Priority.BULK for items in self._in_flight.values())
        if bulk and len(self._in_flight) == DEPTH:
            return self._owner.next_batch(self, urgent=True)
        return []

    def _send(self, process: WorkerProcess, items: list[Item]) -> None:
        if not self._in_flight:
            self.busy_since = time.monotonic()
        self._sent += 1
        self._in_flight[self._sent] = items
        recipe = items[0].recipe
        process.send(
            Batch(
                number=self._sent,
                urgent=items[0].priority is Priority.INTERACTIVE,
                model=recipe.model,
                flip=recipe.flip,
                embed=recipe.embed,
                choice=recipe.choice,
                images=tuple(item.image for item in items),
            )
        )

    def _receive(self, process: WorkerProcess) -> None:
        message = process.receive()
        if isinstance(message, Began):
            if self._begun is not None or message.number not in self._in_flight:
                raise BadMessageError("a batch was begun that is none")
            self._begun = message.number
            self.busy_since = time.monotonic()
            return
        if not isinstance(message, Answered) or message.number != self._begun:
            raise BadMessageError("an answer to nothing")
        items = self._in_flight[message.number]
        outcomes = received(message.outcomes, len(items))
        del self._in_flight[message.number]
        self._begun, self._has_answered = None, True
        self.busy_since = time.monotonic() if self._in_flight else None
        self._failures = 0
        self._owner.answered(items, outcomes, received_seconds(message.seconds))

    def _bury(self) -> None:
        """After the process died, or was told to end."""
        process = self._process
        assert process is not None
        self.ready = False
        self.busy_since = None
        idle = not self._in_flight
        done = idle and self._owner.finished()
        status = process.end(_END_SECONDS if done else 0.0)
        self._process = None
        if done:
            return
        if self._death is Death.CRASHED and status == MEMORY_STATUS:
            self._death = Death.OUT_OF_MEMORY
        self._failures += 1
        started, waiting = self._interrupted()
        self._owner.died(started, waiting, self._death)

    def _interrupted(self) -> tuple[list[Item], list[Item]]:
        """What the process was working on, and what it had not begun."""
        batches, self._in_flight = self._in_flight, {}
        begun, self._begun = self._begun, None
        ended_itself = self._death is Death.OUT_OF_MEMORY and self._has_answered
        if begun is None and batches and not ended_itself:
            # It died before its first word about the batch that it was about to begin.
            begun = min(batches)
        waiting = [item for number, items in batches.items() if number != begun for item in items]
        return ([] if begun is None else batches[begun]), waiting

    def _back_off(self) -> None:
        """The first replacement comes at once; one that keeps dying waits longer each time."""
        if self._failures > 1:
            seconds = _BACK_OFF_SECONDS_FIRST * 2.0 ** min(self._failures - 2, 10)
            until = time.monotonic() + min(seconds, _BACK_OFF_SECONDS_MAX)
            while time.monotonic() < until and not self._owner.finished():
                if self._stop_now.wait(min(0.1, seconds)):
                    return
