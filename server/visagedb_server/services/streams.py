"""Streams of requests that are answered each on its own, several at a time, in any order."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Generic, Protocol, TypeVar

import grpc

from visagedb_indexer import limits
from visagedb_indexer.errors import IndexerError, InvalidArgumentError, OverloadedError
from visagedb_server.calls import deadline_of, unexpected
from visagedb_server.errors import status_of


class Item(Protocol):
    """A message of a stream of requests."""

    @property
    def item_id(self) -> str:
        """The caller's key, which the answer carries."""
        ...

    @property
    def request(self) -> Any:
        """What is asked for."""
        ...

    def ByteSize(self) -> int:  # noqa: N802 (protobuf's name)
        """Bytes of the message."""
        ...


ItemT = TypeVar("ItemT", bound=Item)
AnswerT = TypeVar("AnswerT")
Work = Callable[[Any, float | None], Any]


class Streams(Generic[ItemT, AnswerT]):
    """The streams of one method.

    A stream holds the thread of its call, a thread that reads, and a thread for each item under
    way. So few are served at a time, and one more is refused at once.

    Args:
        work: Answers the request of an item, given the stream's deadline in `time.monotonic()`
            seconds.
        answer_type: The message that carries an answer, with the fields `item_id`, `response`
            and `error`.
        streams_max: How many streams are served at a time.
    """

    def __init__(self, work: Work, answer_type: Callable[..., AnswerT], streams_max: int) -> None:
        self._work = work
        self._answer_type = answer_type
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
            stream = _Stream[ItemT, AnswerT](self._work, self._answer_type, deadline_of(context))
            if context.add_callback(stream.stop):
                yield from stream.run(items)
        finally:
            self._slots.release()


class _Stream(Generic[ItemT, AnswerT]):
    """One stream; items count as under way from their arrival until their answer is taken."""

    def __init__(
        self, work: Work, answer_type: Callable[..., AnswerT], deadline: float | None
    ) -> None:
        self._work = work
        self._answer_type = answer_type
        self._deadline = deadline
        self._answers: SimpleQueue[tuple[str, AnswerT] | IndexerError | None] = SimpleQueue()
        """At last the error that ends the stream, or None."""
        self._changed = threading.Condition()
        self._under_way: dict[str, int] = {}
        """Bytes by item id."""
        self._stopped = False

    def stop(self) -> None:
        """Begins no further item, and ends the answers."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._answers.put(None)

    def run(self, items: Iterator[ItemT]) -> Iterator[AnswerT]:
        """The answers, as they come; when it is over no thread works for the stream."""
        reader = threading.Thread(target=self._read, args=(items,), name="stream", daemon=True)
        reader.start()
        try:
            while (answer := self._answers.get()) is not None:
                if isinstance(answer, IndexerError):
                    raise answer
                item_id, message = answer
                with self._changed:
                    # Before it is sent: who has an answer may use its id again.
                    del self._under_way[item_id]
                    self._changed.notify_all()
                yield message
        finally:
            self.stop()
            reader.join()

    def _read(self, items: Iterator[ItemT]) -> None:
        end: IndexerError | None = None
        # Leaving the block waits for the items under way.
        with ThreadPoolExecutor(limits.STREAM_IN_FLIGHT_MAX, "stream-item") as pool:
            try:
                for item in items:
                    if not self._admit(item):
                        break
                    pool.submit(self._answer, item)
            except IndexerError as error:
                end = error
            except grpc.RpcError:
                self.stop()  # The caller has gone.
            except Exception:  # noqa: BLE001
                end = unexpected("reading a stream")
        self._answers.put(end)

    def _admit(self, item: ItemT) -> bool:
        """Waits until there is room for the item; False when the stream has stopped."""
        if not 1 <= len(item.item_id) <= limits.STREAM_ITEM_ID_LENGTH_MAX:
            raise InvalidArgumentError(
                f"an item id has 1 to {limits.STREAM_ITEM_ID_LENGTH_MAX} characters, "
                f"not {len(item.item_id)}",
                {"field": "item_id"},
            )
        size = item.ByteSize()
        with self._changed:
            if item.item_id in self._under_way:
                raise InvalidArgumentError(
                    f"the item id {item.item_id!r} belongs to an item that is not answered yet",
                    {"field": "item_id"},
                )
            self._changed.wait_for(lambda: self._stopped or self._has_room(size))
            self._under_way[item.item_id] = size
            return not self._stopped

    def _has_room(self, size: int) -> bool:
        if len(self._under_way) >= limits.STREAM_IN_FLIGHT_MAX:
            return False
        # The largest item must pass, if alone.
        total = sum(self._under_way.values()) + size
        return not self._under_way or total <= limits.STREAM_IN_FLIGHT_BYTES_MAX

    def _answer(self, item: ItemT) -> None:
        if self._stopped:
            return
        try:
            response = self._work(item.request, self._deadline)
            answer = self._answer_type(item_id=item.item_id, response=response)
        except IndexerError as error:
            answer = self._answer_type(item_id=item.item_id, error=status_of(error))
        except Exception:  # noqa: BLE001
            status = status_of(unexpected("an item of a stream"))
            answer = self._answer_type(item_id=item.item_id, error=status)
        self._answers.put((item.item_id, answer))
