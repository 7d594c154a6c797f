"""What every call has in common: the interceptor around it, and its deadline."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, Final, NoReturn, Protocol, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc import code_pb2

from visagedb_indexer import cancellation
from visagedb_indexer.cancellation import Cancellation
from visagedb_indexer.errors import (
    CancelledError,
    IndexerError,
    InvalidArgumentError,
    OverloadedError,
)
from visagedb_indexer.system_errors import of_system
from visagedb_server.access import Admission, Gate
from visagedb_server.access.caller import set_caller
from visagedb_server.access.errors import NoAccessRuleError
from visagedb_server.admission import Lanes, Rates, Ticket
from visagedb_server.admission.rates import address_of
from visagedb_server.audit_log.recorder import Recorder, StreamRecorder
from visagedb_server.errors import abort, code_of, status_of

_LOG = structlog.get_logger("visagedb.calls")
_FOREVER_SECONDS: Final = 10 * 365 * 86_400.0

Handler: TypeAlias = Any
Context: TypeAlias = grpc.ServicerContext
_OVERLOAD_LOG_SECONDS: Final = 10.0
_UNREADABLE: Final = object()


def deadline_of(context: grpc.ServicerContext) -> float | None:
    """The caller's deadline in `time.monotonic()` seconds; None when there is none."""
    remaining = context.time_remaining()
    # Without a deadline gRPC reports the end of time.
    if remaining is None or remaining > _FOREVER_SECONDS:
        return None
    return time.monotonic() + remaining


class Observer(Protocol):
    """What is told of every call."""

    def tracing(
        self, method: str, metadata: Iterable[tuple[str, str | bytes]]
    ) -> AbstractContextManager[Any]:
        """Around the work of a call, in its thread."""
        ...

    def finished(self, method: str, code: str, seconds: float, waited: float) -> None:
        """A call is over.

        Args:
            method: ``/package.Service/Method``.
            code: Name of its status.
            seconds: From its arrival to its end.
            waited: Seconds of these until it had its thread.
        """
        ...


class CallInterceptor(grpc.ServerInterceptor):
    """Around every call: a place in a lane, the gate, errors as statuses, the log, measurements.

    Args:
        gate: Decides who may call what.
        recorder: Tells the audit log.
        lanes: Who is served by which threads.
        rates: How often a caller may call.
        observer: Told of every call.
    """

    def __init__(
        self, gate: Gate, recorder: Recorder, lanes: Lanes, rates: Rates, observer: Observer
    ) -> None:
        self._gate = gate
        self._recorder = recorder
        self._lanes = lanes
        self._rates = rates
        self._observer = observer

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler],
        details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Finds a place for a call and wraps its handler, or refuses it before it is read."""
        handler = continuation(details)
        method = details.method
        if handler is None or (handler.unary_stream is not None and self._gate.is_public(method)):
            # The latter is the watching of health, which holds no thread.
            return handler
        lane = self._lanes.of(method, streaming=handler.stream_stream is not None)
        ticket = lane.enter()
        if ticket is None:
            return self._no_room(method, lane.refusal())
        try:
            admission = self._gate.admit(method, details.invocation_metadata)
        except IndexerError as error:
            refuse = partial(self._shut_out, method, error, ticket)
            return grpc.stream_unary_rpc_method_handler(_served_by(ticket.pool, refuse))
        if handler.unary_unary is None and handler.stream_stream is None:
            # Nothing here looks at the requests of the other kinds, so nobody is let in.
            closed = NoAccessRuleError(f"{method} is of a kind that is not served")
            refuse = partial(self._shut_out, method, closed, ticket)
            return grpc.stream_unary_rpc_method_handler(_served_by(ticket.pool, refuse))
        set_caller(admission.caller)
        if handler.stream_stream is not None:
            stream = partial(self._stream, handler.stream_stream, admission, ticket)
            return grpc.stream_stream_rpc_method_handler(
                _served_by(ticket.pool, stream),
                request_deserializer=_lenient(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        unary = partial(self._unary, handler, admission, ticket)
        # As a stream of one message: it is read when the call is admitted, and not before.
        return grpc.stream_unary_rpc_method_handler(
            _served_by(ticket.pool, unary), response_serializer=handler.response_serializer
        )

    def _no_room(self, method: str, error: IndexerError) -> Handler:
        """Answers a call that comes when everything is full, and reads nothing of it."""

        def refuse(messages: object, context: Context) -> NoReturn:
            self._finished(method, error, 0.0, 0.0)
            abort(context, error)

        return grpc.stream_unary_rpc_method_handler(_served_by(self._lanes.at_once, refuse))

    def _shut_out(
        self, method: str, error: IndexerError, ticket: Ticket, messages: object, context: Context
    ) -> NoReturn:
        """Answers a call that the gate does not let in, and reads nothing of it."""
        waited = ticket.waited
        try:
            ticket.begin()
            answer = self._gate.damped(error, context.peer())
            if answer is error:
                self._recorder.shut_out(method, context, error)
        except IndexerError as raised:
            answer = raised
        finally:
            ticket.end()
        self._finished(method, answer, ticket.waited, waited)
        abort(context, answer)

    def _unary(
        self,
        handler: Handler,
        admission: Admission,
        ticket: Ticket,
        messages: Iterator[bytes],
        context: Context,
    ) -> Any:
        with self._around(admission, ticket, context):
            request = _only(messages, handler.request_deserializer)
            if admission.rule.public:
                # Health sees nothing that is stored.
                return handler.unary_unary(request, context)
            try:
                admission.check(request)
                audit = self._recorder.before(admission, request)
                response = handler.unary_unary(request, context)
                self._recorder.after(audit, admission, context, request, response)
            except IndexerError as error:
                self._recorder.refused(admission, context, request, error)
                raise
            except Exception as fault:
                failure = unexpected(admission.method)
                self._recorder.refused(admission, context, request, failure)
                raise failure from fault
            return response

    def _stream(
        self,
        behaviour: Callable[..., Any],
        admission: Admission,
        ticket: Ticket,
        messages: Iterator[Any],
        context: Context,
    ) -> Iterator[Any]:
        """A stream's errors come, and its time is over, when its answers are read."""
        with self._around(admission, ticket, context):
            if not admission.method.startswith("/visagedb."):
                # Reflection sees nothing that is stored.
                yield from behaviour(_readable(messages), context)
                return
            record = self._recorder.stream(admission, context)
            items = _admitted(_readable(messages), admission, record)
            try:
                for answer in behaviour(items, context):
                    record.answer(answer)
                    yield answer
            except IndexerError as error:
                self._recorder.stream_refused(admission, context, error)
                raise
            finally:
                record.end()

    @contextmanager
    def _around(self, admission: Admission, ticket: Ticket, context: Context) -> Iterator[None]:
        """What every call has in common; what it raises becomes its status."""
        method, waited = admission.method, ticket.waited
        error: IndexerError | None = None
        caller = Cancellation()
        try:
            ticket.begin()
            if ticket.counted:
                self._rates.take(admission.caller.key_id or address_of(context.peer()))
            if not context.add_callback(caller.cancel):
                caller.cancel()
            caller.check()
            metadata = context.invocation_metadata()
            with self._observer.tracing(method, metadata), cancellation.serving(caller):
                yield
        except IndexerError as raised:
            error = raised
        except grpc.RpcError:
            error = CancelledError("the caller has gone")
            raise
        except Exception:
            if not context.is_active():
                # The method has ended the call with a status of its own.
                raise
            error = unexpected(method)
        except GeneratorExit:
            error = CancelledError("the caller has gone")
            raise
        finally:
            self._finished(method, error, ticket.waited, waited)
            ticket.end()
        if error is not None:
            abort(context, error)

    def _finished(
        self, method: str, error: IndexerError | None, seconds: float, waited: float
    ) -> None:
        code = "OK" if error is None else code_pb2.Code.Name(code_of(error))
        self._observer.finished(method, code, seconds, waited)
        _log(method, seconds, error)


def _served_by(pool: ThreadPoolExecutor, behaviour: Callable[..., Any]) -> Callable[..., Any]:
    """Marks a behaviour with the threads that are to run it; gRPC looks for the mark."""
    behaviour.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return behaviour


def unexpected(method: str) -> IndexerError:
    """Logs the exception that is being handled, and stands for it in the answer.

    A bare exception would travel to the caller as text; it belongs in the log.
    """
    _LOG.exception("call failed", method=method)
    return of_system(sys.exception()) or IndexerError(
        "an internal error; the server's log has the details"
    )


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


def _readable(messages: Iterator[Any]) -> Iterator[Any]:
    for message in messages:
        if message is _UNREADABLE:
            raise InvalidArgumentError("a message of the stream is not of the method's type")
        yield message


def _admitted(
    requests: Iterator[Any], admission: Admission, record: StreamRecorder
) -> Iterator[Any]:
    for request in requests:
        admission.check_item(request)
        record.request(request)
        yield request


def _only(messages: Iterator[bytes], deserializer: Callable[[bytes], Any]) -> Any:
    """The request of a call that has exactly one."""
    message = next(messages, None)
    if message is None:
        raise InvalidArgumentError("the call has no request")
    try:
        return deserializer(message)
    except DecodeError as error:
        raise InvalidArgumentError("the request is not of the method's type") from error


def _log(method: str, seconds: float, error: IndexerError | None) -> None:
    if error is None:
        _LOG.debug("call", method=method, ms=round(1000 * seconds, 2))
    elif isinstance(error, OverloadedError):
        # There is no time for a line for each of them.
        _OVERLOAD.count()
    else:
        _LOG.info(
            "call refused",
            method=method,
            ms=round(1000 * seconds, 2),
            code=code_pb2.Code.Name(code_of(error)),
            reason=error.reason,
            message=status_of(error).message,
        )


class _OverloadLog:
    """One line now and then for all calls that were refused for want of room."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._refused = 0
        self._last = -_OVERLOAD_LOG_SECONDS

    def count(self) -> None:
        now = time.monotonic()
        with self._lock:
            self._refused += 1
            if now - self._last < _OVERLOAD_LOG_SECONDS:
                return
            refused, self._refused, self._last = self._refused, 0, now
        _LOG.warning("overloaded", calls_refused_since_the_last_line=refused)


_OVERLOAD: Final = _OverloadLog()
