"""Work for a caller who has gone is not done: a token that the caller's thread carries.

Whoever serves a call puts a token in place (`serving`); what waits on the caller's behalf asks
`current()` for it. Nothing in between has to pass it on. Work that is not for a caller has a
token that is never cancelled.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from visagedb_indexer.errors import CancelledError


class Cancellation:
    """Whether the caller has gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], object]] = []
        self.cancelled = False

    def cancel(self) -> None:
        """Says that the caller has gone, to everybody who waits; again it does nothing."""
        with self._lock:
            self.cancelled = True
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    @contextmanager
    def calling(self, callback: Callable[[], object]) -> Iterator[None]:
        """Has a function called if the caller goes within the block; at once if it has gone."""
        with self._lock:
            gone = self.cancelled
            if not gone:
                self._callbacks.append(callback)
        if gone:
            callback()
        try:
            yield
        finally:
            with self._lock:
                if callback in self._callbacks:
                    self._callbacks.remove(callback)

    def check(self) -> None:
        """Gives up work that nobody waits for.

        Raises:
            CancelledError: The caller has gone.
        """
        if self.cancelled:
            raise CancelledError("the caller has gone")


_current: ContextVar[Cancellation | None] = ContextVar("cancellation", default=None)


def current() -> Cancellation:
    """The token of the call that this thread serves."""
    return _current.get() or Cancellation()


@contextmanager
def serving(token: Cancellation) -> Iterator[None]:
    """Puts a token in place for the block."""
    before = _current.set(token)
    try:
        yield
    finally:
        _current.reset(before)
