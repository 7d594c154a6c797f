"""Calls that an overloaded server has refused are repeated when it says so.

Such a refusal comes before anything has been done, so every call may be repeated. The server
names the time to wait (RetryInfo); the whole takes no longer than the call's own timeout.
"""

import random
import time
from typing import Final

from visagedb._errors import VisageError

ATTEMPTS_MAX: Final = 5
_SPREAD: Final = 0.5


class Retries:
    """The attempts of one call.

    Args:
        timeout: Seconds for all of them together; None for no limit.
    """

    def __init__(self, timeout: float | None) -> None:
        self._until = None if timeout is None else time.monotonic() + timeout
        self._attempts = 1

    @property
    def remaining(self) -> float | None:
        """Seconds that are left; None for no limit."""
        return None if self._until is None else max(0.0, self._until - time.monotonic())

    def pause(self, error: VisageError) -> float | None:
        """Seconds to wait before the next attempt; None to give up.

        Args:
            error: Of the last attempt.
        """
        if error.retry_after is None or self._attempts >= ATTEMPTS_MAX:
            return None
        self._attempts += 1
        # Those who were refused together must not come back together.
        pause = error.retry_after * random.uniform(1.0, 1.0 + _SPREAD)  # noqa: S311
        remaining = self.remaining
        return None if remaining is not None and pause >= remaining else pause
