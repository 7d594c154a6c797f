"""What a stream of enrolments has still to deliver, whatever becomes of its connection.

Pure state without waiting or threads; `_delivering` runs it for the two clients. An item is kept
until it has a status, so that after a broken connection it is sent again with the same
request_id. Nothing is lost, and nothing is enrolled twice.
"""

import heapq
import random
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from visagedb._errors import (
    OverloadedError,
    ResourceExhaustedError,
    UnavailableError,
    VisageError,
)

BACKOFF_SECONDS_MIN: Final = 0.05
BACKOFF_SECONDS_MAX: Final = 2.0


def is_transient(error: Exception) -> bool:
    """Whether the same request may succeed a little later."""
    if isinstance(error, (OverloadedError, UnavailableError)):
        return True
    # gRPC's own flow limits have no reason of ours. A message over the size limit has the
    # same status, and never gets smaller by waiting.
    return type(error) is ResourceExhaustedError and "larger than max" not in error.message


@dataclass(slots=True)
class Patience:
    """How long to go on trying, and how long to wait before the next time.

    Attributes:
        seconds: From the first failure on.
    """

    seconds: float
    _since: float | None = None
    _ceiling: float = BACKOFF_SECONDS_MIN

    def pause(self, now: float) -> float | None:
        """Seconds to wait after a failure at this moment; None when it is time to give up."""
        if self._since is None:
            self._since = now
        if now - self._since >= self.seconds:
            return None
        # Jitter keeps many clients from coming back all at the same moment.
        delay = self._ceiling * random.uniform(0.5, 1.0)  # noqa: S311
        self._ceiling = min(self._ceiling * 2, BACKOFF_SECONDS_MAX)
        return delay

    def renew(self) -> None:
        """All went well: the next failure is a first one."""
        self._since, self._ceiling = None, BACKOFF_SECONDS_MIN


@dataclass(slots=True, eq=False)
class Delivery:
    """An item without a status.

    Attributes:
        item: What the caller gave.
        request: What is sent for it; its `item_id` is its place.
        patience: For repeats when the server has no room for it.
    """

    item: Any
    request: Any
    patience: Patience = field(repr=False)


class Deliveries:
    """The items of one stream that have no status yet.

    Args:
        patience: Seconds for which an item is tried again.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._open: dict[str, Delivery] = {}
        self._to_send: deque[str] = deque()
        self._later: list[tuple[float, str]] = []
        """When and which, soonest first."""
        self._complete = False

    def add(self, item: Any, request: Any) -> None:
        """Takes an item, to be sent."""
        self._open[request.item_id] = Delivery(item, request, Patience(self._patience))
        self._to_send.append(request.item_id)

    def complete(self) -> None:
        """There will be no more items."""
        self._complete = True

    @property
    def done(self) -> bool:
        """Whether every item there will be has its status."""
        return self._complete and not self._open

    @property
    def waiting(self) -> bool:
        """Whether any item has no status."""
        return bool(self._open)

    def next(self, now: float) -> Any | float | None:
        """What to send now; or seconds until there is something, None when nothing is due."""
        while self._later and self._later[0][0] <= now:
            self._to_send.append(heapq.heappop(self._later)[1])
        while self._to_send:
            delivery = self._open.get(self._to_send.popleft())
            if delivery is not None:
                return delivery.request
        return self._later[0][0] - now if self._later else None

    def restart(self) -> None:
        """The connection is a new one: whatever has no status is sent again."""
        self._later.clear()
        self._to_send = deque(self._open)

    def settle(self, item_id: str, error: VisageError | None, now: float) -> Any | None:
        """A status has come: the item; None if it is tried again later, or has one already."""
        delivery = self._open.get(item_id)
        if delivery is None:
            return None
        if error is not None and is_transient(error):
            pause = delivery.patience.pause(now)
            if pause is not None:
                pause = max(pause, error.retry_after or 0.0)
                heapq.heappush(self._later, (now + pause, item_id))
                return None
        del self._open[item_id]
        return delivery.item
