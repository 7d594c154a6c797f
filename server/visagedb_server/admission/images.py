"""Who may wait for an image to be read.

Reading an image takes a hundred times as long as a search, and its caller's thread waits
meanwhile. So only a part of the threads may, and an image whose turn would come too late is
refused at once: how long it would wait follows from those before it and the workers' pace.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from visagedb_indexer.workers import PoolStats
from visagedb_server import limits
from visagedb_server.admission.shedding import overloaded


class Images:
    """Places to wait in.

    Args:
        threads: Of the calls; images may hold a part of them.
    """

    def __init__(self, threads: int) -> None:
        self._count = max(1, int(limits.IMAGE_SHARE_MAX * threads))
        self._places = threading.BoundedSemaphore(self._count)

    @contextmanager
    def place(self, stats: PoolStats, *, bulk: bool) -> Iterator[None]:
        """Holds a place for the block.

        Args:
            stats: Of the workers, at this moment.
            bulk: Whether the image may wait for others.

        Raises:
            OverloadedError: There is no place, or the wait would be too long.
        """
        expected = expected_wait(stats, bulk=bulk)
        allowed = limits.BULK_IMAGE_WAIT_SECONDS_MAX if bulk else limits.IMAGE_WAIT_SECONDS_MAX
        if expected > allowed:
            raise overloaded(
                f"{stats.queue_images + stats.images_in_flight} images are read or wait already, "
                f"for about {expected:.1f} seconds; try again later",
                expected - allowed / 2,
            )
        if not self._places.acquire(blocking=False):
            raise overloaded(
                f"{self._count} calls wait for images already; try again later", expected / 2
            )
        try:
            yield
        finally:
            self._places.release()


def expected_wait(stats: PoolStats, *, bulk: bool) -> float:
    """Seconds until a new image would have its turn; 0 as long as nothing is known.

    Args:
        stats: Of the workers, at this moment.
        bulk: Whether the image may wait for others.
    """
    if not stats.images_done or not stats.workers_ready:
        return 0.0
    ahead = stats.images_in_flight + stats.queue_images
    if not bulk:
        ahead -= stats.queue_bulk_images
    seconds_per_image = sum(stats.seconds_by_stage.values()) / stats.images_done
    return ahead * seconds_per_image / stats.workers_ready
