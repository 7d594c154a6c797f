"""One remote call as a value: what to send, where, and how to read the answer.

Every method of the API is written once, as a function in `visagedb._api` that returns a
`Call` (or `Pages`, `Started` or `Stream`). The two clients differ only in how they run it.
"""

from collections.abc import AsyncIterable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

T_co = TypeVar("T_co", covariant=True)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Call(Generic[T_co]):
    """One request and how its answer is read.

    Attributes:
        path: ``/package.Service/Method``.
        request: What is sent.
        response_type: The protobuf class of the answer.
        convert: Makes the client's value of the answer.
        timeout: Seconds; None means the client's default.
    """

    path: str
    request: Message
    response_type: type[Message]
    convert: Callable[[Any], T_co]
    timeout: float | None = None


def call(
    method: str,
    request: Message,
    response_type: type[Response],
    convert: Callable[[Response], T_co],
    timeout: float | None,
) -> Call[T_co]:
    """A call whose converter is checked against the type of the answer.

    Args:
        method: ``Service/Method`` of the package visagedb.v1, or a full path.
        request: What is sent.
        response_type: The protobuf class of the answer.
        convert: Makes the client's value of the answer.
        timeout: Seconds; None means the client's default.
    """
    path = method if method.startswith("/") else f"/visagedb.v1.{method}"
    return Call(path, request, response_type, convert, timeout)


@dataclass(frozen=True, slots=True)
class Page(Generic[T_co]):
    """One page of a listing."""

    items: tuple[T_co, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class Pages(Generic[T_co]):
    """A listing that is read page by page.

    Attributes:
        page: Makes the call for the page of a token; the first token is empty.
    """

    page: Callable[[str], Call[Page[T_co]]]


@dataclass(frozen=True, slots=True)
class Started(Generic[T_co]):
    """A call that starts a long-running operation with a result of type `T_co`.

    Attributes:
        call: Its answer is the operation's first status.
    """

    call: Call[Any]


@dataclass(frozen=True, slots=True)
class Stream(Generic[T_co]):
    """Many requests over one connection, with a result of type `T_co` for each, in any order.

    Attributes:
        path: ``/package.Service/Method``.
        items: What the caller gave.
        request: Makes what is sent, of the item id on the wire and an item.
        response_type: The protobuf class of an answer, which has the item id.
        result: Makes the client's value of an item, its place from 0, and its answer or the
            error that kept it from being sent.
        in_flight: How many items may be without a result.
        timeout: Seconds for the whole stream; None for no limit.
    """

    path: str
    items: Iterable[Any] | AsyncIterable[Any]
    request: Callable[[str, Any], Message]
    response_type: type[Message]
    result: Callable[[Any, int, Any], T_co]
    in_flight: int
    timeout: float | None
