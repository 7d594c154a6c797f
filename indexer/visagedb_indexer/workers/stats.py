"""What a pool reports about itself."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Death(StrEnum):
    """Why a process is gone."""

    CRASHED = "crashed"
    """It ended, or was killed by somebody else."""
    HUNG = "hung"
    """It held a batch beyond the time limit."""
    OUT_OF_MEMORY = "out_of_memory"
    """It reached its memory limit."""
    BAD_MESSAGE = "bad_message"
    """It said something that no worker says, as one that an image has taken over might."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A snapshot.

    Attributes:
        workers: Processes the pool is meant to have.
        workers_ready: Processes that are up and have reported.
        queue_images: Images waiting, all priorities.
        queue_bulk_images: Of these, bulk ones.
        queue_bytes: Bytes of the waiting images.
        images_in_flight: Images handed to a worker and not yet answered.
        images_done: Images answered with faces or an error of their own.
        restarts: Processes that were replaced, whatever the reason.
        start_failures: Processes that did not come up.
        seconds_by_stage: Time the workers spent, summed; keyed by `STAGES`.
        batch_sizes: Number of batches by their size.
        last_start_error: Why the last process that failed to start did; empty if none did.
        deaths: Processes that were replaced, by reason; all `Death` values are there.
        images_retried: Images tried again after their process was gone.
        images_lost: Images refused as they ended two processes.
    """

    workers: int
    workers_ready: int
    queue_images: int
    queue_bulk_images: int
    queue_bytes: int
    images_in_flight: int
    images_done: int
    restarts: int
    start_failures: int
    seconds_by_stage: Mapping[str, float]
    batch_sizes: Mapping[int, int]
    last_start_error: str
    deaths: Mapping[Death, int] = field(default_factory=dict)
    images_retried: int = 0
    images_lost: int = 0


@dataclass(slots=True)
class Counters:
    """The counting side of `PoolStats`; the pool's lock guards it."""

    images_done: int = 0
    images_retried: int = 0
    images_lost: int = 0
    start_failures: int = 0
    deaths: dict[Death, int] = field(default_factory=lambda: dict.fromkeys(Death, 0))
    seconds: dict[str, float] = field(default_factory=dict)
    batch_sizes: Counter[int] = field(default_factory=Counter)

    @property
    def restarts(self) -> int:
        """Processes that were replaced."""
        return sum(self.deaths.values())

    def add_batch(self, size: int, seconds: Mapping[str, float]) -> None:
        """Counts an answered batch."""
        self.images_done += size
        self.batch_sizes[size] += 1
        for stage, spent in seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + spent
