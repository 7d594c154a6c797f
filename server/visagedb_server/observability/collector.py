"""Metrics that are asked for at each scrape: queues, workers, galleries, operations."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final, TypeAlias

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from visagedb_indexer.errors import IndexerError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.identification import searches_waiting
from visagedb_server import limits
from visagedb_server.observability.names import DECLARED, OTHER_GALLERIES, PREFIX, Kind
from visagedb_server.observability.state import ServerState

Samples: TypeAlias = list[tuple[tuple[str, ...], float]]
_DECLARED: Final = {declared.name: declared for declared in DECLARED}
_WORST: Final = frozenset(
    {
        "gallery_mate_loss",
        "gallery_mate_loss_lower",
        "gallery_mate_loss_upper",
        "gallery_mate_loss_bound",
        "gallery_rescored_candidates",
        "gallery_snapshot_age_seconds",
    }
)
"""Of galleries without labels of their own the highest value counts, not the sum."""


class StateCollector(Collector):
    """Reads the state of a server when it is scraped.

    Args:
        state: Its parts.
        ready: Answers whether it is ready for calls.
    """

    def __init__(self, state: ServerState, ready: Callable[[], bool]) -> None:
        self._state = state
        self._ready = ready
        self._started = time.time()

    def collect(self) -> Iterable[GaugeMetricFamily | CounterMetricFamily]:
        """One family for each metric that has samples."""
        samples: dict[str, Samples] = {}
        for name, labels, value in self._samples():
            samples.setdefault(name, []).append((labels, value))
        for name, found in samples.items():
            declared = _DECLARED[name]
            family_type = (
                CounterMetricFamily if declared.kind is Kind.COUNTER else GaugeMetricFamily
            )
            family = family_type(PREFIX + name, declared.help, labels=declared.labels)
            for labels, value in found:
                family.add_metric(labels, value)
            yield family

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: so that the registry does not collect at registration."""
        return []

    def _samples(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        yield "build_info", (_version(),), 1
        yield "start_time_seconds", (), self._started
        yield "ready", (), float(self._ready())
        yield "operations_running", (), self._state.operations.running_count
        yield "searches_waiting", (), searches_waiting()
        for lane in self._state.lanes.all:
            state = lane.state()
            yield "lane_threads", (lane.name,), state.threads
            yield "lane_running", (lane.name,), state.running
            yield "lane_waiting", (lane.name,), state.waiting
        yield from self._worker_samples()
        yield from self._gallery_samples()

    def _worker_samples(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        pool = self._state.extractor.pool
        if pool is None:
            return
        stats = pool.stats()
        yield "workers", (), stats.workers
        yield "workers_ready", (), stats.workers_ready
        yield "worker_restarts", (), stats.restarts
        for death, count in stats.deaths.items():
            yield "worker_deaths", (str(death),), count
        yield "worker_images_retried", (), stats.images_retried
        yield "worker_images_lost", (), stats.images_lost
        yield "worker_start_failures", (), stats.start_failures
        interactive = stats.queue_images - stats.queue_bulk_images
        yield "worker_queue_images", ("interactive",), interactive
        yield "worker_queue_images", ("bulk",), stats.queue_bulk_images
        yield "worker_queue_bytes", (), stats.queue_bytes
        yield "worker_images_in_flight", (), stats.images_in_flight
        yield "worker_images", (), stats.images_done
        yield "worker_memory_bytes", (), sum(map(_resident_bytes, pool.worker_pids()))
        for stage, seconds in stats.seconds_by_stage.items():
            yield "worker_stage_seconds", (stage,), seconds
        for size, count in stats.batch_sizes.items():
            yield "worker_batches", (str(size),), count

    def _gallery_samples(self) -> Iterator[tuple[str, tuple[str, ...], float]]:
        galleries = self._state.database.galleries()
        yield "galleries", (), len(galleries)
        galleries.sort(key=lambda gallery: -gallery.counters.face_count)
        for gallery in galleries[: limits.GALLERIES_LABELLED_MAX]:
            for name, value in _of_gallery(gallery).items():
                yield name, (gallery.record.id,), value
        others: dict[str, float] = {}
        for gallery in galleries[limits.GALLERIES_LABELLED_MAX :]:
            for name, value in _of_gallery(gallery).items():
                before = others.get(name, 0.0)
                others[name] = max(before, value) if name in _WORST else before + value
        for name, value in others.items():
            yield name, (OTHER_GALLERIES,), value


def _of_gallery(gallery: Gallery) -> Mapping[str, float]:
    """Values by metric; none for a gallery that is being deleted at this moment."""
    try:
        stats = gallery.stats()
    except IndexerError:
        return {}
    search, loss = stats.engine, stats.engine.audit
    found: dict[str, float] = {
        "gallery_identities": stats.counters.identity_count,
        "gallery_faces": stats.counters.face_count,
        "gallery_quarantined_faces": stats.quarantined_count,
        "gallery_generation": stats.counters.generation,
        "gallery_indexed_faces": search.indexed_face_count,
        "gallery_index_bytes": search.memory_bytes,
        "gallery_segments": search.segment_count,
        "gallery_tombstones": search.tombstone_count,
        "gallery_rescored_candidates": search.rescored_candidates,
        "gallery_store_used_bytes": stats.used_bytes,
        "gallery_store_file_bytes": stats.file_bytes,
        "gallery_mate_loss_bound": search.loss_bound,
        "gallery_writes_waiting": gallery.writer.waiting,
        "gallery_readers": stats.reader_count,
    }
    if loss is not None:
        found["gallery_mate_loss"] = loss.measured
        found["gallery_mate_loss_lower"], found["gallery_mate_loss_upper"] = loss.interval
    if search.snapshot_time is not None:
        found["gallery_snapshot_age_seconds"] = max(0.0, time.time() - search.snapshot_time)
    return found


def _version() -> str:
    try:
        return metadata.version("visagedb")
    except metadata.PackageNotFoundError:
        return ""


def _resident_bytes(pid: int) -> int:
    """Resident memory of a process; 0 if it has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return 1024 * int(line.split()[1])
    return 0
