"""A clock that is believed only while it goes on as clocks do.

Whoever erases by the clock must not erase everybody because somebody set it to 2099. So the last
time that was believed is kept, also over a stop, and a reading is believed when it lies where it
should: near to what a clock that nobody can set says, or after a stop, not before the last one and
not long after it. A clock that is not believed may come back by itself, or be confirmed.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from visagedb_indexer import limits
from visagedb_indexer.clock import now_us
from visagedb_indexer.errors import InvalidArgumentError

_REMEMBER_US: Final = 60 * 1_000_000
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clock shows. Times are microseconds since 1970.

    Attributes:
        time_us: The time it shows.
        trusted: Whether it is believed.
        last_trusted_us: The last time that was believed.
        reason: Why it is not; empty if it is.
    """

    time_us: int
    trusted: bool
    last_trusted_us: int
    reason: str = ""


class TrustedClock:
    """The clock of the system, with a memory.

    Args:
        last_us: The last time that was believed, before the stop; None for none.
        remember: Keeps a time that is believed, for the next start.
        wall: What the system says the time is, in microseconds since 1970.
        elapsed: Seconds of a clock that nobody can set; it goes on while the machine sleeps.
    """

    def __init__(
        self,
        last_us: int | None,
        remember: Callable[[int], None],
        wall: Callable[[], int] = now_us,
        elapsed: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        self._remember = remember
        self._wall = wall
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._last_us = wall() if last_us is None else last_us
        self._last_elapsed = elapsed()
        # Nobody knows how long the server was stopped.
        self._later_most = limits.CLOCK_STOP_SECONDS_MAX
        self._remembered_us = last_us

    def read(self) -> Reading:
        """The time, and whether it is believed."""
        with self._lock:
            now, elapsed = self._wall(), self._elapsed()
            expected = self._last_us + int((elapsed - self._last_elapsed) * _US)
            ahead = (now - expected) / _US
            if -limits.CLOCK_JUMP_SECONDS_MAX <= ahead <= self._later_most:
                self._believe(now, elapsed)
                return Reading(now, trusted=True, last_trusted_us=now)
            way = "ahead of" if ahead > 0 else "behind"
            reason = (
                f"it is {abs(ahead) / 3600:.1f} hours {way} where it should be by the last time "
                "that was believed"
            )
            return Reading(now, trusted=False, last_trusted_us=self._last_us, reason=reason)

    def confirm(self, time_us: int) -> Reading:
        """Believes the clock from now on, whatever it was before.

        Args:
            time_us: What the clock shows, as read by whoever confirms it.

        Raises:
            InvalidArgumentError: The clock shows something else.
        """
        with self._lock:
            now, elapsed = self._wall(), self._elapsed()
            if abs(now - time_us) > limits.CLOCK_JUMP_SECONDS_MAX * _US:
                raise InvalidArgumentError(
                    "the clock does not show the time that is confirmed; read it again",
                    {"field": "time"},
                )
            self._remembered_us = None
            self._believe(now, elapsed)
            return Reading(now, trusted=True, last_trusted_us=now)

    def _believe(self, now: int, elapsed: float) -> None:
        self._last_us, self._last_elapsed = now, elapsed
        self._later_most = limits.CLOCK_JUMP_SECONDS_MAX
        known = self._remembered_us
        if known is None or abs(now - known) >= _REMEMBER_US:
            self._remember(now)
            self._remembered_us = now
