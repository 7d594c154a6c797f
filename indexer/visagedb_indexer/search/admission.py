"""As many searches at once as there are cores.

A search is arithmetic from end to end. More of them at once than cores finish no sooner, but
take the interpreter's lock from each other at every step.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from visagedb_indexer.errors import DeadlineExceededError

_CORES: Final = len(os.sched_getaffinity(0))
_PLACES: Final = threading.Semaphore(_CORES)
_searching: set[int] = set()


@contextmanager
def admitted(deadline: float | None) -> Iterator[None]:
    """Waits for a place to search in.

    Args:
        deadline: `time.monotonic()` seconds until which to wait; None for as long as it takes.

    Raises:
        DeadlineExceededError: The deadline passed first.
    """
    patience = None if deadline is None else max(0.0, deadline - time.monotonic())
    if not _PLACES.acquire(timeout=patience):
        raise DeadlineExceededError("the deadline passed before the search began")
    _searching.add(threading.get_ident())
    try:
        yield
    finally:
        _searching.discard(threading.get_ident())
        _PLACES.release()


def all_cores_search() -> bool:
    """Whether as many searches run as there are cores, so that other work had better wait."""
    return len(_searching) >= _CORES
