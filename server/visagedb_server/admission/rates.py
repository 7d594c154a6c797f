"""How often a caller may call: a token bucket for each, in a table that cannot grow."""

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from visagedb_server import limits
from visagedb_server.admission.shedding import overloaded


@dataclass(slots=True)
class _Bucket:
    tokens: float
    seen: float


class Rates:
    """The rates of all callers.

    Args:
        per_second: Calls per second of one caller; 0 for no limit.
    """

    def __init__(self, per_second: float) -> None:
        self._rate = per_second
        self._burst = max(1.0, per_second * limits.RATE_BURST_SECONDS)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, caller: str, now: float | None = None) -> None:
        """Counts a call.

        Args:
            caller: Who calls: the id of a key, or an address.
            now: `time.monotonic()` seconds; None for this moment.

        Raises:
            OverloadedError: The caller calls too often.
        """
        if not self._rate:
            return
        now = time.monotonic() if now is None else now
        with self._lock:
            bucket = self._buckets.setdefault(caller, _Bucket(self._burst, now))
            self._buckets.move_to_end(caller)
            if len(self._buckets) > limits.CALLERS_COUNTED_MAX:
                self._buckets.popitem(last=False)
            bucket.tokens = min(self._burst, bucket.tokens + (now - bucket.seen) * self._rate)
            bucket.seen = now
            missing = 1.0 - bucket.tokens
            if missing <= 0.0:
                bucket.tokens -= 1.0
                return
        raise overloaded(
            f"more than {self._rate:g} calls per second; slow down",
            missing / self._rate,
            limit=f"{self._rate:g}",
        )


def address_of(peer: str) -> str:
    """The caller's address from gRPC's name of a peer, without the port of the connection."""
    return peer.rpartition(":")[0] or peer
