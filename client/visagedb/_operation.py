"""Handles on long-running operations."""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from visagedb._answers import OperationStatus
from visagedb._errors import DeadlineExceededError, InternalError
from visagedb._names import last_id

if TYPE_CHECKING:
    from visagedb._async_client import AsyncClient
    from visagedb._client import Client

POLL_SECONDS_MIN: Final = 0.05
POLL_SECONDS_MAX: Final = 1.0

Result = TypeVar("Result")

ProgressCallback = Callable[[OperationStatus], None]


class _Handle:
    """What both handles know without asking the server."""

    def __init__(self, status: OperationStatus) -> None:
        self.status = status

    @property
    def name(self) -> str:
        """Resource name of the operation."""
        return self.status.name

    @property
    def id(self) -> str:
        """Plain id of the operation."""
        return last_id(self.status.name)

    @property
    def progress(self) -> float:
        """0 to 1, as last heard of; `refresh` asks again."""
        return self.status.progress

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} done={self.status.done}>"


class Operation(_Handle, Generic[Result]):
    """A handle on a long-running operation.

    Attributes:
        status: The operation as last heard of.
    """

    def __init__(self, client: "Client", status: OperationStatus) -> None:
        super().__init__(status)
        self._client = client

    def refresh(self) -> OperationStatus:
        """Asks the server how the operation stands."""
        if not self.status.done:
            self.status = self._client.get_operation(self.name)
        return self.status

    def done(self) -> bool:
        """Asks whether it has ended, well or not."""
        return self.refresh().done

    def cancel(self) -> None:
        """Asks it to stop; `result` then raises `RequestCancelledError`."""
        self._client.cancel_operation(self.name)

    def result(
        self, timeout: float | None = None, *, progress: ProgressCallback | None = None
    ) -> Result:
        """Waits for the end.

        Args:
            timeout: Seconds; None waits for ever.
            progress: Called with every status that is heard of on the way.

        Raises:
            DeadlineExceededError: The time ran out; the operation goes on.
            RequestCancelledError: It was cancelled.
            VisageError: It failed.
        """
        for pause in _pauses(self, timeout):
            if self.refresh().done:
                break
            _report(progress, self.status)
            time.sleep(pause)
        _report(progress, self.status)
        result: Result = _outcome(self.status)
        return result


class AsyncOperation(_Handle, Generic[Result]):
    """A handle on a long-running operation; see `Operation`."""

    def __init__(self, client: "AsyncClient", status: OperationStatus) -> None:
        super().__init__(status)
        self._client = client

    async def refresh(self) -> OperationStatus:
        """Asks the server how the operation stands."""
        if not self.status.done:
            self.status = await self._client.get_operation(self.name)
        return self.status

    async def done(self) -> bool:
        """Asks whether it has ended, well or not."""
        return (await self.refresh()).done

    async def cancel(self) -> None:
        """Asks it to stop; `result` then raises `RequestCancelledError`."""
        await self._client.cancel_operation(self.name)

    async def result(
        self, timeout: float | None = None, *, progress: ProgressCallback | None = None
    ) -> Result:
        """Waits for the end; see `Operation.result`."""
        for pause in _pauses(self, timeout):
            if (await self.refresh()).done:
                break
            _report(progress, self.status)
            await asyncio.sleep(pause)
        _report(progress, self.status)
        result: Result = _outcome(self.status)
        return result


def _pauses(handle: _Handle, timeout: float | None) -> Iterator[float]:
    """Growing pauses between looks, until the time is up."""
    deadline = None if timeout is None else time.monotonic() + timeout
    pause = POLL_SECONDS_MIN
    while True:
        left = pause if deadline is None else deadline - time.monotonic()
        yield max(0.0, min(pause, left))
        if deadline is not None and time.monotonic() >= deadline and not handle.status.done:
            raise DeadlineExceededError(
                f"operation {handle.name} has not ended after {timeout} s; it goes on",
                code="DEADLINE_EXCEEDED",
                reason="DEADLINE_EXCEEDED",
            )
        pause = min(pause * 1.5, POLL_SECONDS_MAX)


def _report(progress: ProgressCallback | None, status: OperationStatus) -> None:
    if progress is not None:
        progress(status)


def _outcome(status: OperationStatus) -> Any:
    if status.error is not None:
        raise status.error
    result = status.result
    if result is None:
        raise InternalError(
            f"operation {status.name} ended without a result this client knows",
            code="INTERNAL",
            reason="INTERNAL",
        )
    return result
