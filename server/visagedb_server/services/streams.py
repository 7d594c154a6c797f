"""Streams of requests that are answered each on its own, several at a time, in any order."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import grpc

from visagedb_indexer import limits
from visagedb_indexer.errors import (
    CancelledError,
    IndexerError,
    InvalidArgumentError,
    OverloadedError,
)
from visagedb_server.calls import deadline_of, unexpected
from visagedb_server.errors import status_of


class Item(Protocol):
    """A message of a stream of requests."""

    @property
    def item_id(self) -> str:
        """The caller's key, which the answer carries."""
        ...

    def ByteSize(self) -> int:  # noqa: N802 (protobuf's name)
        """Bytes of the message."""
        ...


ItemT = TypeVar("ItemT", bound=Item)
AnswerT = TypeVar("AnswerT")
Fields: TypeAlias = dict[str, Any]
"""The fields of an answer beside the item's id."""


@dataclass(frozen=True, slots=True)
class Pending:
    """Work that is under way.

    Attributes:
        result: What it comes to.
        fields: Makes the answer of that.
    """

    result: Future[Any]
    fields: Callable[[Any], Fields]


def _begin_nothing(_item: Any) -> Pending | None:
    return None


@dataclass(frozen=True, slots=True)
class Method(Generic[ItemT, AnswerT]):
    """How the items of one method are answered.

    Attributes:
        answer_type: The message that carries an answer, with the fields `item_id` and `error`.
        work: Answers an item in a thread of its own, given the stream's deadline in
            `time.monotonic()` seconds; returns the other fields of its answer.
        begin: Begins an item that needs no thread, without waiting for it; None for one that
            does. The stream reads no further meanwhile.
        items_max: How many items of a stream are under way.
        size: Bytes that an item takes while it is under way.
    """

    answer_type: Callable[..., AnswerT]
    work: Callable[[ItemT, float | None], Fields]
    begin: Callable[[ItemT], Pending | None] = _begin_nothing
    items_max: int = limits.STREAM_IN_FLIGHT_MAX
    size: Callable[[ItemT], int] = lambda item: item.ByteSize()


class Streams(Generic[ItemT, AnswerT]):
    """The streams of one method.

    A stream holds the thread of its call, a thread that reads, and a thread for each item under
    way that needs one. So few are served at a time, and one more is refused at once.

    Args:
        method: How items are answered.
        streams_max: How many streams are served at a time.
    """

    def __init__(self, method: Method[ItemT, AnswerT], streams_max: int) -> None:
        self._method = method
        self._streams_max = streams_max
        self._slots = threading.BoundedSemaphore(streams_max)

    def run(self, items: Iterator[ItemT], context: grpc.ServicerContext) -> Iterator[AnswerT]:
        """Answers the items of one stream until it ends, or its caller has gone.

        Raises:
            OverloadedError: As many streams as may be are served already.
            InvalidArgumentError: An item has no usable id.
        """
        if not self._slots.acquire(blocking=False):
            raise OverloadedError(
                f"{self._streams_max} streams are served already; try again, or send single calls",
                {"limit": str(self._streams_max)},
            )
        try:
            stream = _Stream[ItemT, AnswerT](self._method, deadline_of(context))
            if context.add_callback(stream.stop):
                yield from stream.run(items)
        finally:
            self._slots.release()


class _Stream(Generic[ItemT, AnswerT]):
    """One stream; items count as under way from their arrival until their answer is taken."""

    def __init__(self, method: Method[ItemT, AnswerT], deadline: float | None) -> None:
        self._method = method
        self._deadline = deadline
        self._done: SimpleQueue[tuple[str, Pending] | IndexerError | None] = SimpleQueue()
        """Items whose work is done; at last the error that ends the stream, or None."""
        self._changed = threading.Condition()
        self._under_way: dict[str, int] = {}
        """Bytes by item id."""
        self._bytes = 0
        self._working = 0
        """Items whose work is not done."""
        self._stopped = False

    def stop(self) -> None:
        """Begins no further item, and ends the answers."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._done.put(None)

    def run(self, items: Iterator[ItemT]) -> Iterator[AnswerT]:
        """The answers, as they come; when it is over no thread works for the stream."""
        reader = threading.Thread(target=self._read, args=(items,), name="stream", daemon=True)
        reader.start()
        try:
            while (done := self._done.get()) is not None:
                if isinstance(done, IndexerError):
                    raise done
                item_id, pending = done
                answer = self._method.answer_type(item_id=item_id, **_fields(pending))
                # What it was made of may be large.
                del done, pending
                with self._changed:
                    # Before it is sent: who has an answer may use its id again.
                    self._bytes -= self._under_way.pop(item_id)
                    self._changed.notify_all()
                yield answer
        finally:
            self.stop()
            reader.join()

    def _read(self, items: Iterator[ItemT]) -> None:
        end: IndexerError | None = None
        with ThreadPoolExecutor(limits.STREAM_IN_FLIGHT_MAX, "stream-item") as pool:
            try:
                for item in items:
                    if not self._admit(item):
                        break
                    self._begin(item, pool)
            except IndexerError as error:
                end = error
            except grpc.RpcError:
                self.stop()  # The caller has gone.
            except Exception:  # noqa: BLE001
                end = unexpected("reading a stream")
            with self._changed:
                self._changed.wait_for(lambda: not self._working)
        self._done.put(end)

    def _admit(self, item: ItemT) -> bool:
        """Waits until there is room for the item; False when the stream has stopped."""
        if not 1 <= len(item.item_id) <= limits.STREAM_ITEM_ID_LENGTH_MAX:
            raise InvalidArgumentError(
                f"an item id has 1 to {limits.STREAM_ITEM_ID_LENGTH_MAX} characters, "
                f"not {len(item.item_id)}",
                {"field": "item_id"},
            )
        size = self._method.size(item)
        with self._changed:
            if item.item_id in self._under_way:
                raise InvalidArgumentError(
                    f"the item id {item.item_id!r} belongs to an item that is not answered yet",
                    {"field": "item_id"},
                )
            self._changed.wait_for(lambda: self._stopped or self._has_room(size))
            if self._stopped:
                return False
            self._under_way[item.item_id] = size
            self._bytes += size
            self._working += 1
            return True

    def _has_room(self, size: int) -> bool:
        if len(self._under_way) >= self._method.items_max:
            return False
        # The largest item must pass, if alone.
        return not self._under_way or self._bytes + size <= limits.STREAM_IN_FLIGHT_BYTES_MAX

    def _begin(self, item: ItemT, pool: ThreadPoolExecutor) -> None:
        try:
            pending = self._method.begin(item)
            if pending is None:
                pending = Pending(pool.submit(self._work, item), dict)
        except Exception as error:  # noqa: BLE001 (it is the item's answer)
            failed: Future[Any] = Future()
            failed.set_exception(error)
            pending = Pending(failed, dict)
        pending.result.add_done_callback(partial(self._finish, item.item_id, pending))

    def _work(self, item: ItemT) -> Fields:
        if self._stopped:
            raise CancelledError("the stream has ended")
        return self._method.work(item, self._deadline)

    def _finish(self, item_id: str, pending: Pending, _result: Future[Any]) -> None:
        self._done.put((item_id, pending))
        with self._changed:
            self._working -= 1
            if not self._working:
                self._changed.notify_all()


def _fields(pending: Pending) -> Fields:
    """The answer's fields: of what came of the work, or of its error."""
    try:
        return pending.fields(pending.result.result())
    except IndexerError as error:
        return {"error": status_of(error)}
    except Exception:  # noqa: BLE001
        return {"error": status_of(unexpected("an item of a stream"))}
