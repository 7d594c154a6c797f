"""What every call has in common: the interceptor around it, and its deadline."""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc import code_pb2

from visagedb_indexer.errors import IndexerError, InvalidArgumentError, NotSupportedError
from visagedb_server.errors import abort, code_of, status_of

_LOG = structlog.get_logger("visagedb.calls")
_FOREVER_SECONDS: Final = 10 * 365 * 86_400.0

Handler: TypeAlias = Any
_UNREADABLE: Final = object()


def deadline_of(context: grpc.ServicerContext) -> float | None:
    """The caller's deadline in `time.monotonic()` seconds; None when there is none."""
    remaining = context.time_remaining()
    # Without a deadline gRPC reports the end of time.
    if remaining is None or remaining > _FOREVER_SECONDS:
        return None
    return time.monotonic() + remaining


def not_supported(what: str) -> NotSupportedError:
    """The answer of a method that this release does not have."""
    return NotSupportedError(f"{what} is not implemented in this release")


class CallInterceptor(grpc.ServerInterceptor):
    """Turns errors into statuses and logs each call with its time."""

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler],
        details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wraps the handler of a call."""
        handler = continuation(details)
        if handler is None or not details.method.startswith(("/visagedb.", "/google.longrunning")):
            return handler
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(
                _guarded(handler.unary_unary, details.method),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(
                _guarded_stream(handler.stream_stream, details.method),
                request_deserializer=_lenient(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        return handler


def unexpected(method: str) -> IndexerError:
    """Logs the exception that is being handled, and stands for it in the answer.

    A bare exception would travel to the caller as text; it belongs in the log.
    """
    _LOG.exception("call failed", method=method)
    return IndexerError("an internal error; the server's log has the details")


def _guarded(behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
    def call(request: Any, context: grpc.ServicerContext) -> Any:
        started = time.perf_counter()
        error: IndexerError | None = None
        try:
            return behaviour(request, context)
        except IndexerError as raised:
            error = raised
        except Exception:  # noqa: BLE001
            error = unexpected(method)
        finally:
            _log(method, time.perf_counter() - started, error)
        return abort(context, error)

    return call


def _guarded_stream(behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
    """Like `_guarded`; a stream's errors come, and its time is over, when its answers are read."""

    def call(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        started = time.perf_counter()
        error: IndexerError | None = None
        try:
            yield from behaviour(_readable(requests), context)
        except IndexerError as raised:
            error = raised
        except Exception:  # noqa: BLE001
            error = unexpected(method)
        finally:
            _log(method, time.perf_counter() - started, error)
        if error is not None:
            abort(context, error)

    return call


def _lenient(deserializer: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A deserializer that answers what it cannot read with a mark.

    gRPC ends a stream on an exception here, but does not notice that it has: the call is never
    over for it, and the server cannot stop.
    """

    def deserialize(message: bytes) -> Any:
        try:
            return deserializer(message)
        except DecodeError:
            return _UNREADABLE

    return deserialize


def _readable(requests: Iterator[Any]) -> Iterator[Any]:
    for request in requests:
        if request is _UNREADABLE:
            raise InvalidArgumentError("a message of the stream is not of the method's type")
        yield request


def _log(method: str, seconds: float, error: IndexerError | None) -> None:
    if error is None:
        _LOG.debug("call", method=method, ms=round(1000 * seconds, 2))
    else:
        _LOG.info(
            "call refused",
            method=method,
            ms=round(1000 * seconds, 2),
            code=code_pb2.Code.Name(code_of(error)),
            reason=error.reason,
            message=status_of(error).message,
        )
