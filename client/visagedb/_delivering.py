"""How the two clients run a stream of enrolments: until every item has its status."""

import asyncio
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, Generic, TypeVar

import grpc

from visagedb._delivery import Deliveries, Patience, is_transient
from visagedb._errors import UnavailableError, VisageError
from visagedb._streaming import ITEM_ERRORS, each
from visagedb._translate import error_from_rpc, error_from_status
from visagedb.v1 import identities_pb2 as pb

T = TypeVar("T")

PATH: Final = "/visagedb.v1.IdentityService/StreamEnrollFaces"
STALL_SECONDS: Final = 120.0
"""An item may wait behind interactive requests, so silence is taken for an end only then."""
_END_SECONDS: Final = 2.0
"""A complete stream ends by itself within this time, or is cancelled."""


@dataclass(frozen=True, slots=True)
class Shipment(Generic[T]):
    """What is to be enrolled over one stream.

    Attributes:
        items: What the caller gave.
        request: Makes what is sent for an item; called once for each.
        result: Makes the client's value of an item and its answer, or the error instead of one.
        in_flight: How many items may be without a result that was taken.
        patience: Seconds for which is tried again what may succeed later.
        stall: Seconds without a sign of the server after which the connection counts as broken.
        waiting: Called with the reason when the connection is gone and is tried again.
    """

    items: Iterable[Any] | AsyncIterable[Any]
    request: Callable[[Any], pb.StreamEnrollFacesRequest]
    result: Callable[[Any, pb.StreamEnrollFacesResponse | Exception], T]
    in_flight: int
    patience: float
    stall: float = STALL_SECONDS
    waiting: Callable[[VisageError], None] | None = None


@dataclass(frozen=True, slots=True)
class _Ended:
    """One connection has ended, or could not be made."""

    attempt: int
    error: VisageError | None


def _answer_error(answer: pb.StreamEnrollFacesResponse) -> VisageError | None:
    return error_from_status(answer.error) if answer.WhichOneof("result") == "error" else None


def _cut_short() -> VisageError:
    code = "UNAVAILABLE"
    return UnavailableError("the server ended the stream", code=code, reason=code)


def _silent() -> VisageError:
    code = "UNAVAILABLE"
    return UnavailableError("the server does not answer any more", code=code, reason=code)


class BlockingDelivery(Generic[T]):
    """One stream of enrolments by the blocking client.

    One thread takes the caller's items and makes the requests, gRPC's own thread sends them,
    and another takes the answers.
    """

    def __init__(self, shipment: Shipment[T], address: str) -> None:
        if isinstance(shipment.items, AsyncIterable):
            raise TypeError("only the asyncio client takes an asynchronous iterable")
        self._items = shipment.items
        self._shipment = shipment
        self._address = address
        self._deliveries = Deliveries(shipment.patience)
        self._changed = threading.Condition()
        self._attempt = 0
        self._taking = threading.Thread()
        self._stopped = False
        self._room = threading.Semaphore(shipment.in_flight)
        self._events: SimpleQueue[Any] = SimpleQueue()
        """Pairs of an item and its answer or error; and what becomes of connections."""
        self._failure: BaseException | None = None
        """What the caller's iterable raised."""

    def run(self, method: Callable[..., Any]) -> Iterator[T]:
        """The results, until there are no more."""
        threading.Thread(target=self._feed, daemon=True).start()
        patience = Patience(self._shipment.patience)
        call = self._connect(method)
        try:
            while not self._is_done():
                event = self._next_event()
                if not isinstance(event, _Ended):
                    patience.renew()
                    self._room.release()
                    yield self._shipment.result(*event)
                elif event.attempt == self._attempt:
                    call.cancel()
                    self._pause(patience, event.error)
                    call = self._connect(method)
            while not self._events.empty():
                event = self._events.get()
                if not isinstance(event, _Ended):
                    yield self._shipment.result(*event)
            self._taking.join(_END_SECONDS)
            if self._failure is not None:
                raise self._failure
        finally:
            # Also reached when the caller stops iterating.
            with self._changed:
                self._stopped = True
                self._changed.notify_all()
            self._room.release()
            call.cancel()
            # An interpreter that exits while a thread is inside gRPC may hang.
            self._taking.join(_END_SECONDS)

    def _is_done(self) -> bool:
        # Under the lock an item that has its status has its event too.
        with self._changed:
            return self._deliveries.done

    def _next_event(self) -> Any:
        while True:
            try:
                return self._events.get(timeout=self._shipment.stall)
            except Empty:
                # The caller's own items may be slow to come.
                if self._deliveries.waiting:
                    return _Ended(self._attempt, _silent())

    def _pause(self, patience: Patience, error: VisageError | None) -> None:
        error = error or _cut_short()
        pause = patience.pause(time.monotonic()) if is_transient(error) else None
        if pause is None:
            raise error
        if self._shipment.waiting is not None:
            self._shipment.waiting(error)
        time.sleep(pause)

    def _connect(self, method: Callable[..., Any]) -> Any:
        with self._changed:
            self._attempt += 1
            self._deliveries.restart()
            self._changed.notify_all()
        call = method(self._requests(self._attempt))
        self._taking = threading.Thread(target=self._take, args=(call, self._attempt), daemon=True)
        self._taking.start()
        return call

    def _feed(self) -> None:
        try:
            for place, item in enumerate(self._items):
                self._room.acquire()
                if self._stopped:
                    return
                try:
                    request = self._shipment.request(item)
                    request.item_id = str(place)
                except ITEM_ERRORS as error:
                    self._events.put((item, error))
                else:
                    with self._changed:
                        self._deliveries.add(item, request)
                        self._changed.notify_all()
        except Exception as error:  # noqa: BLE001 (raised where the caller iterates)
            self._failure = error
        finally:
            with self._changed:
                self._deliveries.complete()
                self._changed.notify_all()
            # Wakes the caller's thread, should it wait for the last item.
            self._events.put(_Ended(0, None))

    def _requests(self, attempt: int) -> Iterator[pb.StreamEnrollFacesRequest]:
        while True:
            with self._changed:
                while True:
                    if self._stopped or attempt != self._attempt or self._deliveries.done:
                        return
                    due = self._deliveries.next(time.monotonic())
                    if due is not None and not isinstance(due, float):
                        break
                    self._changed.wait(due)
            yield due

    def _take(self, call: Any, attempt: int) -> None:
        error: VisageError | None = None
        try:
            for answer in call:
                with self._changed:
                    item = self._deliveries.settle(
                        answer.item_id, _answer_error(answer), time.monotonic()
                    )
                    if item is not None:
                        self._events.put((item, answer))
                    self._changed.notify_all()
        except grpc.RpcError as raised:
            error = error_from_rpc(raised, self._address)
        self._events.put(_Ended(attempt, error))


class AsyncDelivery(Generic[T]):
    """One stream of enrolments by the asyncio client."""

    def __init__(self, shipment: Shipment[T], address: str) -> None:
        self._shipment = shipment
        self._address = address
        self._deliveries = Deliveries(shipment.patience)
        self._changed = asyncio.Event()
        self._attempt = 0
        self._stopped = False
        self._room = asyncio.Semaphore(shipment.in_flight)
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self._failure: BaseException | None = None

    async def run(self, method: Callable[..., Any]) -> AsyncIterator[T]:
        """The results, until there are no more."""
        feeding = asyncio.create_task(self._feed())
        patience = Patience(self._shipment.patience)
        call, taking = self._connect(method)
        try:
            while not self._deliveries.done:
                event = await self._next_event()
                if not isinstance(event, _Ended):
                    patience.renew()
                    self._room.release()
                    yield self._shipment.result(*event)
                elif event.attempt == self._attempt:
                    call.cancel()
                    await taking
                    await self._pause(patience, event.error)
                    call, taking = self._connect(method)
            while not self._events.empty():
                event = self._events.get_nowait()
                if not isinstance(event, _Ended):
                    yield self._shipment.result(*event)
            await asyncio.wait((taking,), timeout=_END_SECONDS)
            if self._failure is not None:
                raise self._failure
        finally:
            # gRPC goes on asking for requests until there are no more.
            self._stopped = True
            self._changed.set()
            call.cancel()
            for task in (feeding, taking):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _next_event(self) -> Any:
        while True:
            try:
                return await asyncio.wait_for(self._events.get(), self._shipment.stall)
            except TimeoutError:
                if self._deliveries.waiting:
                    return _Ended(self._attempt, _silent())

    async def _pause(self, patience: Patience, error: VisageError | None) -> None:
        error = error or _cut_short()
        pause = patience.pause(time.monotonic()) if is_transient(error) else None
        if pause is None:
            raise error
        if self._shipment.waiting is not None:
            self._shipment.waiting(error)
        await asyncio.sleep(pause)

    def _connect(self, method: Callable[..., Any]) -> tuple[Any, "asyncio.Task[None]"]:
        self._attempt += 1
        self._deliveries.restart()
        self._changed.set()
        call = method(self._requests(self._attempt))
        return call, asyncio.create_task(self._take(call, self._attempt))

    async def _feed(self) -> None:
        place = 0
        try:
            async for item in each(self._shipment.items):
                await self._room.acquire()
                try:
                    # In a thread, because a file may have to be read for it.
                    request = await asyncio.to_thread(self._shipment.request, item)
                    request.item_id = str(place)
                except ITEM_ERRORS as error:
                    self._events.put_nowait((item, error))
                else:
                    self._deliveries.add(item, request)
                    self._changed.set()
                place += 1
        except Exception as error:  # noqa: BLE001 (raised where the caller iterates)
            self._failure = error
        finally:
            self._deliveries.complete()
            self._changed.set()
            self._events.put_nowait(_Ended(0, None))

    async def _requests(self, attempt: int) -> AsyncIterator[pb.StreamEnrollFacesRequest]:
        while not (self._stopped or attempt != self._attempt or self._deliveries.done):
            due = self._deliveries.next(time.monotonic())
            if due is not None and not isinstance(due, float):
                yield due
                continue
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), due)

    async def _take(self, call: Any, attempt: int) -> None:
        error: VisageError | None = None
        try:
            async for answer in call:
                item = self._deliveries.settle(
                    answer.item_id, _answer_error(answer), time.monotonic()
                )
                self._changed.set()
                if item is not None:
                    self._events.put_nowait((item, answer))
        except grpc.RpcError as raised:
            error = error_from_rpc(raised, self._address)
            if error.message.startswith("Internal error from Core"):
                # When a stream ends while a request is being written, grpc.aio loses the reason.
                error = _cut_short()
        except asyncio.CancelledError:
            if not self._stopped:
                # The call was cancelled, not this task.
                self._events.put_nowait(_Ended(attempt, _cut_short()))
            return
        self._events.put_nowait(_Ended(attempt, error))
