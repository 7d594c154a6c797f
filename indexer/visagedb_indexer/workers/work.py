"""What waits for a worker: images, their futures, and the order in which they are taken."""

import math
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from visagedb_indexer import limits
from visagedb_indexer.choice import Choice
from visagedb_indexer.errors import DeadlineExceededError, IndexerError, OverloadedError
from visagedb_indexer.values import Extraction

_BULK_SHARE: Final = 0.75
"""Bulk work may fill this part of the queue; the rest stays free for interactive work."""


class Priority(IntEnum):
    """Who goes first."""

    INTERACTIVE = 0
    BULK = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is to be done; only images of the same recipe share a batch."""

    model: str
    flip: bool
    embed: bool
    choice: Choice = Choice.ALL


@dataclass(slots=True, eq=False)
class Item:
    """One image that waits or is worked on."""

    image: bytes
    recipe: Recipe
    priority: Priority
    deadline: float | None
    future: "Future[Extraction]" = field(default_factory=Future)
    attempts: int = 0
    """How many workers died while this image was in their hands."""
    claimed: bool = False
    """Whether the future is marked as running, which rules out cancelling it."""


def finish(item: Item, outcome: Extraction | IndexerError) -> None:
    """Completes the future; one that somebody else completed is left alone."""
    try:
        if isinstance(outcome, Extraction):
            item.future.set_result(outcome)
        else:
            item.future.set_exception(outcome)
    except InvalidStateError:
        pass


class WorkQueue:
    """The bounded queue; the caller holds a lock around every call.

    Images whose worker died come first and alone, then interactive ones, then bulk. A batch
    holds images of one priority: it is answered as a whole, and nobody who waits at a screen
    should wait for the images of a job.
    """

    def __init__(self, images_max: int, bytes_max: int) -> None:
        self._images_max = images_max
        self._bytes_max = bytes_max
        self._retries: deque[Item] = deque()
        self._lanes: dict[Priority, deque[Item]] = {priority: deque() for priority in Priority}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._retries) + sum(len(lane) for lane in self._lanes.values())

    @property
    def waiting_bytes(self) -> int:
        """Bytes of all waiting images."""
        return self._bytes

    def depth(self, priority: Priority) -> int:
        """Images waiting at this priority, retries not counted."""
        return len(self._lanes[priority])

    def put(self, item: Item) -> None:
        """Adds an image.

        Raises:
            OverloadedError: The queue is full.
        """
        share = _BULK_SHARE if item.priority is Priority.BULK else 1.0
        images_max = max(1, math.floor(self._images_max * share))
        bytes_max = self._bytes_max * share
        too_many = len(self) >= images_max
        if too_many or (self._bytes and self._bytes + len(item.image) > bytes_max):
            raise OverloadedError(
                f"{len(self)} images ({self._bytes} bytes) are waiting to be embedded already",
                {"waiting_images": str(len(self)), "waiting_bytes": str(self._bytes)},
            )
        self._bytes += len(item.image)
        self._lanes[item.priority].append(item)

    def put_back(self, items: Iterable[Item], *, alone: bool) -> None:
        """Returns images whose worker died, ahead of all others and past all limits."""
        for item in reversed(list(items)):
            self._bytes += len(item.image)
            (self._retries if alone else self._lanes[item.priority]).appendleft(item)

    def take(self, count: int, *, urgent: bool = False) -> list[Item]:
        """Up to so many images of one recipe and priority; cancelled ones are dropped on the way.

        Args:
            count: The most.
            urgent: Only interactive ones.
        """
        while self._retries and not urgent:
            item = self._retries.popleft()
            self._bytes -= len(item.image)
            if _claim(item):
                return [item]
        batch: list[Item] = []
        for priority, lane in self._lanes.items():
            if not batch and (priority is Priority.INTERACTIVE or not urgent):
                self._fill(batch, lane, count)
        return batch

    def _fill(self, batch: list[Item], lane: deque[Item], count: int) -> None:
        """Takes from one lane; images of other recipes keep their places."""
        passed: list[Item] = []
        while lane and len(batch) < count:
            item = lane.popleft()
            if batch and item.recipe != batch[0].recipe:
                passed.append(item)
                continue
            self._bytes -= len(item.image)
            if _claim(item):
                batch.append(item)
        lane.extendleft(reversed(passed))

    def remove_dead(self) -> list[Item]:
        """Drops cancelled images; removes and returns those whose deadline has passed."""
        now = time.monotonic()
        expired: list[Item] = []
        for lane in (self._retries, *self._lanes.values()):
            for _ in range(len(lane)):
                item = lane.popleft()
                late = item.deadline is not None and item.deadline <= now
                if late or item.future.cancelled():
                    self._bytes -= len(item.image)
                    if late and not item.future.cancelled():
                        expired.append(item)
                else:
                    lane.append(item)
        return expired

    def drain(self) -> Iterator[Item]:
        """Removes everything."""
        for lane in (self._retries, *self._lanes.values()):
            while lane:
                yield lane.popleft()
        self._bytes = 0


def _claim(item: Item) -> bool:
    """Marks the image as started, unless its caller cancelled it."""
    if not item.claimed:
        item.claimed = item.future.set_running_or_notify_cancel()
    return item.claimed


def deadline_error() -> DeadlineExceededError:
    """The error of an image that waited too long."""
    return DeadlineExceededError("the deadline passed before a worker was free")


assert math.floor(limits.WORKER_QUEUE_IMAGES_MAX * _BULK_SHARE) > 0
