"""How fast an import goes, and how long it will take."""

import time
from collections import deque
from dataclasses import dataclass
from typing import Final

_SECONDS: Final = 20.0
"""What counts as lately."""


@dataclass(frozen=True, slots=True)
class Pace:
    """The pace of an import at one moment.

    Attributes:
        progress: How much of the source is done with, 0 to 1.
        entries_per_second: Lately; 0 when that is not known.
        remaining_seconds: At that rate; None when that is not known.
    """

    progress: float = 0.0
    entries_per_second: float = 0.0
    remaining_seconds: float | None = None


class PaceMeter:
    """Measures a pace over the last seconds."""

    def __init__(self) -> None:
        self._points: deque[tuple[float, int, float]] = deque()

    def pause(self) -> None:
        """Forgets what was measured: time that was spent waiting does not count."""
        self._points.clear()

    def measure(self, done: int, progress: float) -> Pace:
        """The pace, now that so many entries and so much of the source are done with."""
        now = time.monotonic()
        self._points.append((now, done, progress))
        while len(self._points) > 2 and self._points[1][0] < now - _SECONDS:
            self._points.popleft()
        since, done_then, progress_then = self._points[0]
        seconds, gained = now - since, progress - progress_then
        if seconds <= 0 or done == done_then:
            return Pace(progress)
        remaining = None if gained <= 0 else (1.0 - progress) * seconds / gained
        return Pace(progress, (done - done_then) / seconds, remaining)
