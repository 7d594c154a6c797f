"""A pool of embedding processes with one queue."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from visagedb_indexer import limits
from visagedb_indexer.choice import Choice
from visagedb_indexer.cores import CORES
from visagedb_indexer.errors import (
    EmptyImageError,
    ImageCrashedWorkerError,
    ImageTooLargeError,
    IndexerError,
    InvalidArgumentError,
    WorkersUnavailableError,
)
from visagedb_indexer.values import Extraction
from visagedb_indexer.workers.dispatcher import Dispatcher
from visagedb_indexer.workers.messages import WorkerSettings
from visagedb_indexer.workers.stats import Counters, Death, PoolStats
from visagedb_indexer.workers.work import (
    Item,
    Priority,
    Recipe,
    WorkQueue,
    deadline_error,
    finish,
)

_LOG = logging.getLogger(__name__)
_MONITOR_SECONDS: Final = 0.25
_JOIN_SECONDS: Final = 10.0


class WorkerPool:
    """Extracts faces in processes; usable from any number of threads.

    A process that dies or hangs is replaced. The images it was working on are tried again one
    at a time, and the one that ends a second process fails alone.

    Args:
        count: Processes.
        card_paths: Model cards, or folders of them, beside the built-in ones.
        precision: ``float32`` or ``bfloat16``, for the embedders.
        device: A torch device.
        threads_per_worker: Threads per process; None shares the cores of this process among
            them, one at least. One process per core beats more threads.
        memory_bytes_max: That a process may have; None for no limit. Ignored on a GPU, whose
            driver reserves much more than it uses.
        start: Start the processes now rather than with the first image.
        niceness: Added to the processes' nice value.
        batch_images_max: Images per micro-batch.
        batch_seconds_max: A process that holds a batch longer is replaced.
        start_seconds_max: The same for starting.
        queue_images_max: Images that may wait.
        queue_bytes_max: Bytes that the waiting images may have.
    """

    def __init__(
        self,
        *,
        count: int,
        card_paths: Sequence[Path] = (),
        precision: str = "float32",
        device: str = "cpu",
        threads_per_worker: int | None = None,
        memory_bytes_max: int | None = None,
        start: bool = False,
        niceness: int = 0,
        batch_images_max: int = limits.WORKER_BATCH_IMAGES_MAX,
        batch_seconds_max: float = limits.WORKER_BATCH_SECONDS_MAX,
        start_seconds_max: float = limits.WORKER_START_SECONDS_MAX,
        queue_images_max: int = limits.WORKER_QUEUE_IMAGES_MAX,
        queue_bytes_max: int = limits.WORKER_QUEUE_BYTES_MAX,
    ) -> None:
        if not 1 <= count <= limits.WORKERS_MAX:
            raise InvalidArgumentError(f"{count} workers; 1 to {limits.WORKERS_MAX} are possible")
        settings = WorkerSettings(
            tuple(str(Path(path).absolute()) for path in card_paths),
            precision,
            device,
            threads_per_worker or max(1, CORES // count),
            niceness,
            (memory_bytes_max or 0) if device == "cpu" else 0,
        )
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._queue = WorkQueue(queue_images_max, queue_bytes_max)
        self._counters = Counters()
        self._batch_images_max = batch_images_max
        self._batch_seconds_max = batch_seconds_max
        self._start_seconds_max = start_seconds_max
        self._start_errors: dict[Dispatcher, IndexerError] = {}
        self._last_start_error = ""
        self._started = False
        self._closing = False
        self._closed = threading.Event()
        self._dispatchers = [Dispatcher(self, settings, number) for number in range(count)]
        self._monitor = threading.Thread(target=self._watch, name="embedding-monitor", daemon=True)
        if start:
            self.start()

    def start(self) -> None:
        """Starts the processes, if they are not; does not wait for them."""
        with self._lock:
            if self._started or self._closing:
                return
            self._started = True
        for dispatcher in self._dispatchers:
            dispatcher.start()
        self._monitor.start()

    def submit(
        self,
        image: bytes,
        *,
        model: str,
        flip: bool = False,
        embed: bool = True,
        choice: Choice = Choice.ALL,
        priority: Priority = Priority.INTERACTIVE,
        deadline: float | None = None,
    ) -> "Future[Extraction]":
        """Asks for the faces of an image.

        Args:
            image: The encoded file.
            model: Name of the embedder; ignored when `embed` is off.
            flip: Average with the mirror image.
            embed: Make vectors, or only detect.
            choice: Which faces get a vector.
            priority: Interactive images are taken before bulk ones.
            deadline: On the clock of `time.monotonic`; an image not started by then fails.

        Returns:
            A future. Cancelling it takes effect until the image is handed to a worker. It
            fails with an `ImageError`; with `ModelNotAvailableError`; with `OverloadedError`
            when too much is waiting; with `WorkersUnavailableError` when the pool is closed
            or cannot start processes; with `DeadlineExceededError`.
        """
        recipe = Recipe(
            model if embed else "", flip and embed, embed, choice if embed else Choice.ALL
        )
        item = Item(image, recipe, priority, deadline)
        refusal = _refusal(image)
        if refusal is None:
            self.start()
            refusal = self._enqueue(item)
        if refusal is not None:
            finish(item, refusal)
        return item.future

    def stats(self) -> PoolStats:
        """A snapshot of the counters."""
        with self._lock:
            return PoolStats(
                workers=len(self._dispatchers),
                workers_ready=sum(d.ready for d in self._dispatchers),
                queue_images=len(self._queue),
                queue_bulk_images=self._queue.depth(Priority.BULK),
                queue_bytes=self._queue.waiting_bytes,
                images_in_flight=sum(d.images_in_flight for d in self._dispatchers),
                images_done=self._counters.images_done,
                restarts=self._counters.restarts,
                start_failures=self._counters.start_failures,
                seconds_by_stage=dict(self._counters.seconds),
                batch_sizes=dict(self._counters.batch_sizes),
                last_start_error=self._last_start_error,
                deaths=dict(self._counters.deaths),
                images_retried=self._counters.images_retried,
                images_lost=self._counters.images_lost,
            )

    def worker_pids(self) -> tuple[int, ...]:
        """Process ids of the workers that exist now."""
        return tuple(pid for d in self._dispatchers if (pid := d.pid) is not None)

    def wait_ready(self, timeout_seconds: float = limits.WORKER_START_SECONDS_MAX) -> None:
        """Starts the pool and blocks until a process is ready.

        Raises:
            IndexerError: The reason why no process can start, or that it takes too long.
        """
        self.start()
        until = time.monotonic() + timeout_seconds
        with self._idle:
            while not any(d.ready for d in self._dispatchers):
                error = self._unavailable()
                if error is not None:
                    raise error
                if not self._idle.wait(max(0.0, until - time.monotonic())):
                    raise WorkersUnavailableError(
                        f"no embedding process was ready within {timeout_seconds} seconds"
                    )

    def close(self, drain: bool = True) -> None:
        """Ends the pool; may be called again.

        Args:
            drain: Finish what is waiting first; otherwise it fails with
                `WorkersUnavailableError`.
        """
        with self._lock:
            self._closing = True
            abandoned = [] if drain and self._started else list(self._queue.drain())
            started = self._started
        self._fail(abandoned, WorkersUnavailableError("the embedding workers are stopping"))
        for dispatcher in self._dispatchers if started else ():
            dispatcher.wake() if drain else dispatcher.stop_now()
        for dispatcher in self._dispatchers if started else ():
            dispatcher.join(None if drain else _JOIN_SECONDS)
        self._closed.set()
        with self._lock:
            left = list(self._queue.drain())
        self._fail(left, WorkersUnavailableError("the embedding workers have stopped"))
        if started:
            self._monitor.join(_JOIN_SECONDS)

    # What the dispatchers call.

    def next_batch(self, dispatcher: Dispatcher, *, urgent: bool = False) -> list[Item]:
        """See `Owner`: idle workers come first, and share what there is."""
        if urgent:
            with self._lock:
                return self._queue.take(self._batch_images_max, urgent=True)
        with self._lock:
            expired = self._queue.remove_dead()
            idle = [d for d in self._dispatchers if d.ready and not d.batches_in_flight]
            items: list[Item] = []
            if dispatcher in idle or not idle:
                share = -(-len(self._queue) // max(1, len(idle)))
                items = self._queue.take(min(self._batch_images_max, share))
            others = [d for d in idle if d is not dispatcher] if len(self._queue) else []
        self._fail(expired, deadline_error())
        if others:
            others[0].wake()
        return items

    def answered(
        self,
        items: list[Item],
        outcomes: list[Extraction | IndexerError],
        seconds: Mapping[str, float],
    ) -> None:
        """See `Owner`."""
        with self._idle:
            self._counters.add_batch(len(items), seconds)
            self._idle.notify_all()
            closing = self._closing
        for item, outcome in zip(items, outcomes, strict=True):
            finish(item, outcome)
        for dispatcher in self._dispatchers if closing else ():
            dispatcher.wake()

    def died(self, started: list[Item], waiting: list[Item], death: Death) -> None:
        """See `Owner`: what was started is tried again alone, what was not just goes back."""
        for item in started:
            item.attempts += 1
        lost = [i for i in started if i.attempts >= limits.WORKER_ATTEMPTS_PER_IMAGE_MAX]
        again = [i for i in started if i.attempts < limits.WORKER_ATTEMPTS_PER_IMAGE_MAX]
        if not self._closing:
            _LOG.warning(
                "an embedding process is gone (%s) and is replaced; "
                "%d images are tried again, %d are refused",
                death,
                len(again) + len(waiting),
                len(lost),
            )
        with self._lock:
            self._counters.deaths[death] += 1
            self._counters.images_retried += len(again)
            self._counters.images_lost += len(lost)
            if not self._closing or self._started:
                self._queue.put_back(waiting, alone=False)
                self._queue.put_back(again, alone=True)
        self._fail(
            lost,
            ImageCrashedWorkerError(
                "the image ended its embedding process, or held it beyond the time limit, twice",
                {"cause": str(death)},
            ),
        )
        self._wake_one()

    def start_failed(self, dispatcher: Dispatcher, error: IndexerError) -> None:
        """See `Owner`: when no worker is left, what waits fails with the reason."""
        _LOG.warning("an embedding process did not start: %s", error.message)
        with self._idle:
            self._counters.start_failures += 1
            self._start_errors[dispatcher] = error
            self._last_start_error = error.message
            unavailable = self._unavailable()
            lost = list(self._queue.drain()) if unavailable is not None else []
            self._idle.notify_all()
        self._fail(lost, error)

    def became_ready(self, dispatcher: Dispatcher) -> None:
        """See `Owner`."""
        with self._idle:
            self._start_errors.pop(dispatcher, None)
            self._idle.notify_all()

    def finished(self) -> bool:
        """See `Owner`."""
        with self._lock:
            return (
                self._closing
                and not len(self._queue)
                and not any(d.batches_in_flight for d in self._dispatchers)
            )

    # The rest is private.

    def _enqueue(self, item: Item) -> IndexerError | None:
        """Puts the image into the queue, or returns why not."""
        with self._lock:
            if self._closing:
                return WorkersUnavailableError("the embedding workers are stopping")
            unavailable = self._unavailable()
            if unavailable is not None:
                return unavailable
            expired = self._queue.remove_dead()
            try:
                self._queue.put(item)
            except IndexerError as error:
                refusal: IndexerError | None = error
            else:
                refusal = None
        self._fail(expired, deadline_error())
        self._wake_one()
        return refusal

    def _unavailable(self) -> IndexerError | None:
        """Why no worker can take anything, if every one of them failed to start."""
        if len(self._start_errors) < len(self._dispatchers):
            return None
        error = next(iter(self._start_errors.values()))
        return type(error)(error.message, error.metadata)

    def _wake_one(self) -> None:
        """Wakes the worker that has the least to do."""
        ready = [d for d in self._dispatchers if d.ready]
        if ready:
            min(ready, key=lambda d: d.batches_in_flight).wake()

    def _fail(self, items: Sequence[Item], error: IndexerError) -> None:
        for item in items:
            if item.claimed or item.future.set_running_or_notify_cancel():
                finish(item, type(error)(error.message, error.metadata))

    def _watch(self) -> None:
        """Kills processes that hang, and ends the waiting of images whose time is up."""
        while not self._closed.wait(_MONITOR_SECONDS):
            now = time.monotonic()
            for dispatcher in self._dispatchers:
                since = dispatcher.busy_since
                allowed = self._batch_seconds_max if dispatcher.ready else self._start_seconds_max
                if since is not None and now - since > allowed:
                    dispatcher.kill_hung()
            with self._lock:
                expired = self._queue.remove_dead()
            self._fail(expired, deadline_error())


def _refusal(image: bytes) -> IndexerError | None:
    """What can be said about an image without any worker."""
    if not image:
        return EmptyImageError("the image has no bytes")
    if len(image) > limits.IMAGE_BYTES_MAX:
        return ImageTooLargeError(
            f"the image has {len(image)} bytes; {limits.IMAGE_BYTES_MAX} are allowed"
        )
    return None
