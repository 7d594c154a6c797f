"""The metrics of one server, in a registry of its own."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import generate_latest

from visagedb_indexer import telemetry
from visagedb_indexer.telemetry import Measure
from visagedb_server.observability.collector import StateCollector
from visagedb_server.observability.names import DECLARED, PREFIX, SECONDS_BUCKETS, SIZE_BUCKETS
from visagedb_server.observability.state import ServerState
from visagedb_server.observability.tracing import Tracer

_HELP: Final = {declared.name: declared for declared in DECLARED}
_REFUSED: Final = "RESOURCE_EXHAUSTED"


def _histogram(name: str, registry: CollectorRegistry, buckets: tuple[float, ...]) -> Histogram:
    declared = _HELP[name]
    return Histogram(
        PREFIX + name, declared.help, declared.labels, registry=registry, buckets=buckets
    )


class Metrics:
    """Counts calls and stages, and answers scrapes. Told of every call as its `Observer`.

    Args:
        tracer: Makes spans of calls; None for none.
    """

    def __init__(self, tracer: Tracer | None = None) -> None:
        # When a series began is of no use to anybody, and doubles their number.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._tracer = tracer
        calls = _HELP["calls"]
        self._calls = Counter(PREFIX + "calls", calls.help, calls.labels, registry=self._registry)
        self._call_seconds = _histogram("call_seconds", self._registry, SECONDS_BUCKETS)
        self._stage_seconds = _histogram("stage_seconds", self._registry, SECONDS_BUCKETS)
        self._stages: dict[Measure, Histogram] = {
            measure: self._stage_seconds.labels(measure.value)
            for measure in Measure
            if measure not in (Measure.COMMIT_COMMANDS, Measure.SEARCHES_GATHERED)
        }
        self._admission = self._stage_seconds.labels("admission_wait")
        self._sizes = {
            measure: _histogram(measure.value, self._registry, SIZE_BUCKETS)
            for measure in (Measure.COMMIT_COMMANDS, Measure.SEARCHES_GATHERED)
        }
        ProcessCollector(registry=self._registry)
        self._stop_listening = telemetry.listen(self._observe)

    def watch(self, state: ServerState, ready: Any) -> None:
        """Also reports the state of a server from now on.

        Args:
            state: Its parts.
            ready: Answers whether it is ready for calls.
        """
        self._registry.register(StateCollector(state, ready))

    def tracing(
        self, method: str, metadata: Iterable[tuple[str, str | bytes]]
    ) -> AbstractContextManager[Any]:
        """See `Observer`."""
        if self._tracer is None:
            return nullcontext()
        return self._tracer.call(method, metadata)

    def finished(self, method: str, code: str, seconds: float, waited: float) -> None:
        """See `Observer`."""
        self._calls.labels(method, code).inc()
        if code != _REFUSED:
            self._call_seconds.labels(method).observe(seconds)
            self._admission.observe(waited)

    def _observe(self, measure: Measure, value: float) -> None:
        stage = self._stages.get(measure)
        if stage is None:
            self._sizes[measure].observe(value)
            return
        stage.observe(value)
        if self._tracer is not None:
            self._tracer.stage(measure.value, value)

    def exposition(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self._registry)

    def close(self) -> None:
        """Listens no longer."""
        self._stop_listening()
        if self._tracer is not None:
            self._tracer.close()
