"""The bounds of a stream, counted."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from visagedb.v1 import search_pb2
from visagedb_indexer import limits
from visagedb_server.services.streams import Method, _Stream

WAIT_SECONDS = 30.0


class Caller:
    """Sends without end; how many items were taken from it."""

    def __init__(self, item_bytes: int) -> None:
        self.taken = 0
        self._padding = "x" * item_bytes

    def __iter__(self) -> Iterator[search_pb2.StreamIdentifyRequest]:
        while True:
            self.taken += 1
            request = search_pb2.IdentifyRequest(filter=self._padding)
            yield search_pb2.StreamIdentifyRequest(item_id=str(self.taken), request=request)


@pytest.mark.parametrize(
    ("item_bytes", "most"),
    [
        (0, limits.STREAM_IN_FLIGHT_MAX),
        (limits.STREAM_IN_FLIGHT_BYTES_MAX // 4 - limits.KIB, 4),
        (limits.STREAM_IN_FLIGHT_BYTES_MAX + limits.KIB, 1),
    ],
)
def test_answers_that_are_not_taken_stop_the_reading(item_bytes: int, most: int) -> None:
    done = threading.Semaphore(0)

    def work(item: search_pb2.StreamIdentifyRequest, deadline: float | None) -> dict[str, Any]:
        done.release()
        return {"response": search_pb2.IdentifyResponse()}

    caller = Caller(item_bytes)
    stream = _Stream(Method(search_pb2.StreamIdentifyResponse, work), None)
    answers = stream.run(iter(caller))
    next(answers)
    for _ in range(1 + most):
        assert done.acquire(timeout=WAIT_SECONDS)
    # All that may be under way is answered, and one was taken; one more has been read.
    assert not done.acquire(timeout=0.2)
    assert caller.taken == most + 2
    next(answers)
    assert done.acquire(timeout=WAIT_SECONDS)
    answers.close()
    end = time.monotonic() + WAIT_SECONDS
    while any(one.name.startswith("stream") for one in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.01)
