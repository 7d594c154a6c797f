"""What every call has in common: the interceptor around it, and its deadline."""

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc import code_pb2

from visagedb_indexer.errors import IndexerError, InvalidArgumentError, NotSupportedError
from visagedb_indexer.system_errors import of_system
from visagedb_server.access import Admission, Gate
from visagedb_server.access.caller import set_caller
from visagedb_server.audit_log.recorder import Recorder, StreamRecorder
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
    """Lets calls in, turns errors into statuses, and logs each call with its time.

    Args:
        gate: Decides who may call what.
        recorder: Tells the audit log.
    """

    def __init__(self, gate: Gate, recorder: Recorder) -> None:
        self._gate = gate
        self._recorder = recorder

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler],
        details: grpc.HandlerCallDetails,
    ) -> Handler:
        """Wraps the handler of a call, in the call's own context."""
        handler = continuation(details)
        if handler is None:
            return None
        try:
            admission = self._gate.admit(details.method, details.invocation_metadata)
        except IndexerError as error:
            return self._refusal(details.method, error)
        set_caller(admission.caller)
        if handler.unary_unary is not None and not admission.rule.public:
            return grpc.unary_unary_rpc_method_handler(
                _guarded(handler.unary_unary, admission, self._recorder),
                request_deserializer=handler.request_deserializer,
                response_serializer=handler.response_serializer,
            )
        if handler.stream_stream is not None and details.method.startswith("/visagedb."):
            return grpc.stream_stream_rpc_method_handler(
                _guarded_stream(handler.stream_stream, admission, self._recorder),
                request_deserializer=_lenient(handler.request_deserializer),
                response_serializer=handler.response_serializer,
            )
        # Health and reflection have errors of their own, and see nothing that is stored.
        return handler

    def _refusal(self, method: str, error: IndexerError) -> Handler:
        """Answers a call that is not let in, of whatever kind, and reads nothing of it."""

        def refuse(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            answer = self._gate.damped(error, context.peer())
            if answer is error:
                _log(method, 0.0, error)
                self._recorder.shut_out(method, context, error)
            abort(context, answer)
            yield

        return grpc.stream_stream_rpc_method_handler(refuse)


def unexpected(method: str) -> IndexerError:
    """Logs the exception that is being handled, and stands for it in the answer.

    A bare exception would travel to the caller as text; it belongs in the log.
    """
    _LOG.exception("call failed", method=method)
    return of_system(sys.exception()) or IndexerError(
        "an internal error; the server's log has the details"
    )


def _guarded(
    behaviour: Callable[..., Any], admission: Admission, recorder: Recorder
) -> Callable[..., Any]:
    method = admission.method

    def call(request: Any, context: grpc.ServicerContext) -> Any:
        started = time.perf_counter()
        error: IndexerError | None = None
        try:
            admission.check(request)
            audit = recorder.before(admission, request)
            response = behaviour(request, context)
            recorder.after(audit, admission, context, request, response)
            return response
        except IndexerError as raised:
            error = raised
        except Exception:  # noqa: BLE001
            error = unexpected(method)
        finally:
            _log(method, time.perf_counter() - started, error)
        recorder.refused(admission, context, request, error)
        return abort(context, error)

    return call


def _guarded_stream(
    behaviour: Callable[..., Any], admission: Admission, recorder: Recorder
) -> Callable[..., Any]:
    """Like `_guarded`; a stream's errors come, and its time is over, when its answers are read."""
    method = admission.method

    def call(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        started = time.perf_counter()
        error: IndexerError | None = None
        record = recorder.stream(admission, context)
        try:
            for answer in behaviour(_readable(requests, admission, record), context):
                record.answer(answer)
                yield answer
        except IndexerError as raised:
            error = raised
        except Exception:  # noqa: BLE001
            error = unexpected(method)
        finally:
            record.end()
            _log(method, time.perf_counter() - started, error)
        if error is not None:
            recorder.stream_refused(admission, context, error)
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


def _readable(
    requests: Iterator[Any], admission: Admission, record: StreamRecorder
) -> Iterator[Any]:
    for request in requests:
        if request is _UNREADABLE:
            raise InvalidArgumentError("a message of the stream is not of the method's type")
        admission.check_item(request)
        record.request(request)
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
