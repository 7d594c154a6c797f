"""When a waiting call is refused rather than served late.

A queue that empties now and then absorbs bursts. One that does not empty, a standing queue,
only makes every call late. So the wait is controlled: as long as somebody was served without
much of a wait a moment ago, everybody may wait; otherwise only a short time. The idea is that
of Nichols and Jacobson (2012), "Controlling Queue Delay", as it is applied to requests by
Maurer (2015), "Fail at Scale".
"""

import threading

from visagedb_indexer.errors import OverloadedError
from visagedb_server import limits
from visagedb_server.errors import RETRY_KEY


def overloaded(message: str, delay_seconds: float, **metadata: str) -> OverloadedError:
    """A refusal that says after which time another attempt may succeed."""
    delay = min(max(delay_seconds, limits.RETRY_SECONDS_MIN), limits.RETRY_SECONDS_MAX)
    return OverloadedError(message, {RETRY_KEY: str(round(1000 * delay)), **metadata})


class QueueDelay:
    """Judges the waits of one queue.

    Args:
        target: Seconds that a call may wait in a standing queue.
        interval: Seconds without a shorter wait that make a queue a standing one.
    """

    def __init__(
        self,
        target: float = limits.QUEUE_SECONDS_TARGET,
        interval: float = limits.QUEUE_SECONDS_INTERVAL,
    ) -> None:
        self._target = target
        self._interval = interval
        self._last_short: float | None = None
        self._lock = threading.Lock()

    def allows(self, waited: float, now: float) -> bool:
        """Whether a call that has waited so long (seconds) is still to be served.

        Args:
            waited: Seconds since its arrival.
            now: `time.monotonic()` seconds.
        """
        with self._lock:
            if waited <= self._target or self._last_short is None:
                self._last_short = now
                return True
            return now - self._last_short <= self._interval
