"""How the two clients run a stream: what is sent waits until results are taken."""

import asyncio
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Final, Generic, TypeVar

import grpc

from visagedb._call import Stream
from visagedb._errors import DeadlineExceededError, UnavailableError, VisageError
from visagedb._translate import error_from_rpc

T = TypeVar("T")

_END: Final = object()
_END_SECONDS: Final = 2.0
ITEM_ERRORS: Final = (VisageError, OSError, TypeError, ValueError)
"""What can be wrong with an item before it is sent."""


class _UnderWay(Generic[T]):
    """Items that have no result yet. On the wire their places are their ids."""

    def __init__(self, stream: Stream[T]) -> None:
        self._stream = stream
        self._items: dict[str, Any] = {}
        self._count = 0

    def begin(self, item: Any) -> tuple[str, Callable[[], Any]]:
        """The id of an item, and what makes its request."""
        wire_id = str(self._count)
        self._count += 1
        self._items[wire_id] = item
        return wire_id, lambda: self._stream.request(wire_id, item)

    def result(self, wire_id: str, answer: Any) -> T:
        """The result of an item, from its answer or what was wrong with it."""
        return self._stream.result(self._items.pop(wire_id), int(wire_id), answer)


class BlockingStream(Generic[T]):
    """One run of a stream by the blocking client.

    gRPC takes the requests in a thread of its own, and another thread takes the answers, so
    that results come while the caller's next item is still awaited.
    """

    def __init__(self, stream: Stream[T], address: str) -> None:
        if isinstance(stream.items, AsyncIterable):
            raise TypeError("only the asyncio client takes an asynchronous iterable")
        self._items = stream.items
        self._stream = stream
        self._address = address
        self._under_way = _UnderWay(stream)
        self._room = threading.Semaphore(stream.in_flight)
        self._stopped = False
        self._results: SimpleQueue[Any] = SimpleQueue()
        """Results, at last the error that ended the stream or `_END`."""
        self._failure: BaseException | None = None
        """What the caller's iterable raised."""

    def run(self, method: Callable[..., Any]) -> Iterator[T]:
        """The results, until there are no more."""
        call = method(self._requests(), timeout=self._stream.timeout)
        taking = threading.Thread(target=self._take, args=(call,), daemon=True)
        taking.start()
        try:
            while (result := self._results.get()) is not _END:
                if isinstance(result, Exception):
                    raise result
                self._room.release()
                yield result
            if self._failure is not None:
                raise self._failure
        finally:
            # Also reached when the caller stops iterating.
            self._stopped = True
            self._room.release()
            call.cancel()
            # An interpreter that exits while a thread is inside gRPC may hang.
            taking.join(_END_SECONDS)

    def _requests(self) -> Iterator[Any]:
        try:
            for item in self._items:
                self._room.acquire()
                if self._stopped:
                    return
                wire_id, make = self._under_way.begin(item)
                try:
                    request = make()
                except ITEM_ERRORS as error:
                    self._results.put(self._under_way.result(wire_id, error))
                else:
                    yield request
        except Exception as error:  # noqa: BLE001 (raised where the caller iterates)
            self._failure = error

    def _take(self, call: Any) -> None:
        try:
            for answer in call:
                self._results.put(self._under_way.result(answer.item_id, answer))
        except grpc.RpcError as error:
            self._results.put(error_from_rpc(error, self._address))
        except Exception as error:  # noqa: BLE001 (raised where the caller iterates)
            self._results.put(error)
        else:
            self._results.put(_END)


class AsyncStream(Generic[T]):
    """One run of a stream by the asyncio client."""

    def __init__(self, stream: Stream[T], address: str) -> None:
        self._stream = stream
        self._address = address
        self._under_way = _UnderWay(stream)
        self._room = asyncio.Semaphore(stream.in_flight)
        self._started = 0.0
        self._stopped = False
        self._results: asyncio.Queue[Any] = asyncio.Queue()
        self._failure: BaseException | None = None

    async def run(self, method: Callable[..., Any]) -> AsyncIterator[T]:
        """The results, until there are no more."""
        self._started = time.monotonic()
        call = method(self._requests(), timeout=self._stream.timeout)
        taking = asyncio.create_task(self._take(call))
        try:
            while (result := await self._results.get()) is not _END:
                if isinstance(result, Exception):
                    raise result
                self._room.release()
                yield result
            if self._failure is not None:
                raise self._failure
        finally:
            # gRPC goes on asking for requests until there are no more.
            self._stopped = True
            self._room.release()
            call.cancel()
            taking.cancel()
            with suppress(asyncio.CancelledError):
                await taking

    async def _requests(self) -> AsyncIterator[Any]:
        try:
            async for item in each(self._stream.items):
                await self._room.acquire()
                if self._stopped:
                    return
                wire_id, make = self._under_way.begin(item)
                try:
                    # In a thread, because a file may have to be read for it.
                    request = await asyncio.to_thread(make)
                except ITEM_ERRORS as error:
                    self._results.put_nowait(self._under_way.result(wire_id, error))
                else:
                    yield request
        except Exception as error:  # noqa: BLE001 (raised where the caller iterates)
            self._failure = error

    async def _take(self, call: Any) -> None:
        try:
            async for answer in call:
                self._results.put_nowait(self._under_way.result(answer.item_id, answer))
        except grpc.RpcError as error:
            self._results.put_nowait(self._typed(error))
        except Exception as error:  # noqa: BLE001 (raised where the caller iterates)
            self._results.put_nowait(error)
        else:
            self._results.put_nowait(_END)

    def _typed(self, error: grpc.RpcError) -> VisageError:
        """Why the stream ended.

        When a stream ends while a request is being written, grpc.aio loses the reason and
        reports an internal error; the clock tells a deadline from a lost connection.
        """
        typed = error_from_rpc(error, self._address)
        if not typed.message.startswith("Internal error from Core"):
            return typed
        timeout, elapsed = self._stream.timeout, time.monotonic() - self._started
        if timeout is not None and elapsed >= timeout:
            code = "DEADLINE_EXCEEDED"
            return DeadlineExceededError("the stream took too long", code=code, reason=code)
        code = "UNAVAILABLE"
        return UnavailableError("the server ended the stream", code=code, reason=code)


async def each(items: Any) -> AsyncIterator[Any]:
    """The items of an iterable of either kind."""
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
