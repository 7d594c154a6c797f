"""What the engine tells of its own work, to whoever listens; by default nobody does.

The engine knows nothing of metrics systems. It names a measure and a value, and listeners make
of it what they like. A listener is called in the thread that did the work, so it has to be
quick, and it must not raise.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeAlias


class Measure(StrEnum):
    """What is measured: seconds of a stage, unless the comment says otherwise."""

    EXTRACT = "extract"  # An image, from its arrival in the queue to its faces.
    SEARCH = "search"  # A search, from its arrival to its answer.
    SEARCH_WAIT = "search_wait"  # Waiting for a place to search in.
    SEARCH_SCAN = "search_scan"  # One scan, of the codes or of the vectors.
    SEARCH_RESCORE = "search_rescore"  # Comparing what a scan of the codes found.
    SEARCH_RECORDS = "search_records"  # Fusing scores and reading records.
    COMMIT = "commit"  # A write, from its arrival to its acknowledgement.
    COMMIT_GATHER = "commit_gather"  # A writer that lets more writes arrive.
    COMMIT_WRITE = "commit_write"  # Running the commands of one commit.
    COMMIT_SYNC = "commit_sync"  # Making them durable.
    COMMIT_COMMANDS = "commit_commands"  # A number: the commands of one commit.
    SEARCHES_GATHERED = "searches_gathered"  # A number: the probes of one scan.


Listener: TypeAlias = Callable[[Measure, float], None]

_listeners: tuple[Listener, ...] = ()
_lock = threading.Lock()


def listen(listener: Listener) -> Callable[[], None]:
    """Adds a listener; returns what removes it again."""
    global _listeners
    with _lock:
        _listeners = (*_listeners, listener)
    return lambda: _forget(listener)


def _forget(listener: Listener) -> None:
    global _listeners
    with _lock:
        _listeners = tuple(one for one in _listeners if one is not listener)


def observe(measure: Measure, value: float) -> None:
    """Tells the listeners of a value."""
    for listener in _listeners:
        listener(measure, value)


@contextmanager
def timed(measure: Measure) -> Iterator[None]:
    """Tells the listeners how long the block took, also when it raises."""
    if not _listeners:
        yield
        return
    started = time.perf_counter()
    try:
        yield
    finally:
        observe(measure, time.perf_counter() - started)
