"""Traces: a span for each call, and one for each stage of its work.

OpenTelemetry is imported only when tracing is switched on. The caller's context comes in the
W3C header ``traceparent``; where the spans go is told by OpenTelemetry's own environment
variables (``OTEL_EXPORTER_OTLP_ENDPOINT``, ...).
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from visagedb_indexer.errors import FailedPreconditionError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_INSTALL = "tracing needs OpenTelemetry: pip install 'visagedb[otel]'"


class Tracer:
    """Makes spans.

    Args:
        exporter: Where they go; None for OTLP over HTTP.

    Raises:
        FailedPreconditionError: OpenTelemetry is not installed.
    """

    def __init__(self, exporter: "SpanExporter | None" = None) -> None:
        try:
            from opentelemetry import context, trace
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

            exporter = exporter or _otlp()
        except ImportError as error:
            raise FailedPreconditionError(_INSTALL) from error
        self._trace, self._context = trace, context
        self._propagator = TraceContextTextMapPropagator()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": "visagedb"}), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("visagedb")

    @contextmanager
    def call(self, method: str, metadata: Iterable[tuple[str, str | bytes]]) -> Iterator[None]:
        """A span around the work of a call, in its thread; an error marks it as failed.

        Args:
            method: ``/package.Service/Method``.
            metadata: Of the call, with the caller's trace context.
        """
        carrier = {key: value for key, value in metadata if isinstance(value, str)}
        service, _, name = method.lstrip("/").partition("/")
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}
        with self._tracer.start_as_current_span(
            method.lstrip("/"),
            context=self._propagator.extract(carrier, context=self._context.Context()),
            kind=self._trace.SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
        ):
            yield

    def stage(self, name: str, seconds: float) -> None:
        """A span for a stage that has just ended, if this thread works for a traced call."""
        if not self._trace.get_current_span().is_recording():
            return
        now = time.time_ns()
        span = self._tracer.start_span(name, start_time=now - int(seconds * 1e9))
        span.end(now)

    def close(self) -> None:
        """Sends what is left."""
        self._provider.shutdown()


def _otlp() -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter()
