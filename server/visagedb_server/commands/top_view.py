"""Two scrapes of a server's metrics, and what happened between them."""

import math
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_SECONDS: Final = 10.0
_BYTES_MAX: Final = 16 * 1024 * 1024


class ScrapeError(Exception):
    """The metrics of a server cannot be read."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """The metrics at a moment.

    Attributes:
        time: `time.monotonic()` seconds.
        samples: Values by name of the sample and its labels.
    """

    time: float
    samples: Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]

    def one(self, name: str, **labels: str) -> float:
        """A value; 0 if there is none."""
        return self.samples.get(name, {}).get(tuple(sorted(labels.items())), 0.0)

    def by(self, name: str, label: str) -> dict[str, float]:
        """Values by one label, summed over the others."""
        found: dict[str, float] = defaultdict(float)
        for labels, value in self.samples.get(name, {}).items():
            found[dict(labels).get(label, "")] += value
        return dict(found)

    def total(self, name: str) -> float:
        """The sum over all labels."""
        return sum(self.samples.get(name, {}).values())


def scrape(address: str) -> Scrape:
    """Reads the metrics of a server.

    Args:
        address: host:port.

    Raises:
        ScrapeError: Nobody answers there, or not with metrics.
    """
    url = f"http://{address}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as answer:
            text = answer.read(_BYTES_MAX).decode()
        samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = defaultdict(dict)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    except (OSError, ValueError, urllib.error.URLError) as error:
        reason = getattr(error, "reason", error)
        raise ScrapeError(
            f"no metrics at {url}: {reason}. `visagedb serve` serves them on its port plus 1000"
        ) from error
    return Scrape(time.monotonic(), samples)


@dataclass(frozen=True, slots=True)
class LaneView:
    """Calls of one kind at this moment."""

    name: str
    threads: int
    running: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Timing:
    """How often something was done and how long it took; times in milliseconds.

    `p99_ms` is the bound of the histogram's bucket that 99 of 100 stay under; None beyond the
    last.
    """

    name: str
    per_second: float
    mean_ms: float
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class CallView:
    """The calls of one method; like `Timing`."""

    method: str
    per_second: float
    mean_ms: float
    p99_ms: float | None
    failed_per_second: float


@dataclass(frozen=True, slots=True)
class WorkersView:
    """The embedding processes."""

    count: int
    ready: int
    restarts: int
    images_per_second: float
    images_waiting: int
    memory_bytes: float


@dataclass(frozen=True, slots=True)
class GalleryView:
    """One gallery."""

    name: str
    identities: float
    faces: float
    index_bytes: float
    store_bytes: float
    mate_loss: float | None
    tombstones: float
    writes_waiting: float


@dataclass(frozen=True, slots=True)
class View:
    """What a server did between two scrapes, and how it stands at the second."""

    version: str
    ready: bool
    seconds: float
    uptime_seconds: float
    memory_bytes: float
    cpu_share: float
    open_files: int
    calls_per_second: float
    refused_per_second: float
    operations_running: int
    workers: WorkersView
    lanes: list[LaneView] = field(default_factory=list)
    calls: list[CallView] = field(default_factory=list)
    stages: list[Timing] = field(default_factory=list)
    galleries: list[GalleryView] = field(default_factory=list)


def view(before: Scrape, after: Scrape) -> View:
    """What happened between two scrapes."""
    seconds = max(1e-6, after.time - before.time)

    def rate(name: str) -> float:
        return (after.total(name) - before.total(name)) / seconds

    codes = _differences(before, after, "visagedb_calls_total", "code")
    [version] = after.by("visagedb_build_info", "version") or [""]
    return View(
        version=version,
        ready=bool(after.one("visagedb_ready")),
        seconds=seconds,
        uptime_seconds=time.time() - after.one("visagedb_start_time_seconds"),
        memory_bytes=after.one("process_resident_memory_bytes"),
        cpu_share=rate("process_cpu_seconds_total"),
        open_files=int(after.one("process_open_fds")),
        calls_per_second=sum(codes.values()) / seconds,
        refused_per_second=codes.get("RESOURCE_EXHAUSTED", 0.0) / seconds,
        operations_running=int(after.one("visagedb_operations_running")),
        workers=WorkersView(
            count=int(after.one("visagedb_workers")),
            ready=int(after.one("visagedb_workers_ready")),
            restarts=int(after.one("visagedb_worker_restarts_total")),
            images_per_second=rate("visagedb_worker_images_total"),
            images_waiting=int(after.total("visagedb_worker_queue_images")),
            memory_bytes=after.one("visagedb_worker_memory_bytes"),
        ),
        lanes=_lanes(after),
        calls=_calls(before, after, seconds),
        stages=_timings(before, after, "visagedb_stage_seconds", "stage", seconds),
        galleries=_galleries(after),
    )


def _differences(before: Scrape, after: Scrape, name: str, label: str) -> dict[str, float]:
    old = before.by(name, label)
    return {key: value - old.get(key, 0.0) for key, value in after.by(name, label).items()}


def _lanes(after: Scrape) -> list[LaneView]:
    threads = after.by("visagedb_lane_threads", "lane")
    running = after.by("visagedb_lane_running", "lane")
    waiting = after.by("visagedb_lane_waiting", "lane")
    return [
        LaneView(name, int(count), int(running.get(name, 0)), int(waiting.get(name, 0)))
        for name, count in threads.items()
    ]


def _calls(before: Scrape, after: Scrape, seconds: float) -> list[CallView]:
    timings = {
        one.name: one for one in _timings(before, after, "visagedb_call_seconds", "method", seconds)
    }
    done = _differences(before, after, "visagedb_calls_total", "method")
    fine_before = _fine(before)
    fine = {method: count - fine_before.get(method, 0.0) for method, count in _fine(after).items()}
    found = []
    for method, count in sorted(done.items(), key=lambda item: -item[1]):
        if count <= 0:
            continue
        timing = timings.get(method, Timing(method, 0.0, 0.0, None))
        failed = count - fine.get(method, 0.0)
        found.append(
            CallView(method, count / seconds, timing.mean_ms, timing.p99_ms, failed / seconds)
        )
    return found


def _fine(one: Scrape) -> dict[str, float]:
    return {
        dict(labels)["method"]: value
        for labels, value in one.samples.get("visagedb_calls_total", {}).items()
        if dict(labels)["code"] == "OK"
    }


def _timings(before: Scrape, after: Scrape, name: str, label: str, seconds: float) -> list[Timing]:
    counts = _differences(before, after, f"{name}_count", label)
    sums = _differences(before, after, f"{name}_sum", label)
    found = []
    for key, count in counts.items():
        if count > 0:
            mean = 1000 * sums[key] / count
            worst = _percentile(before, after, f"{name}_bucket", label, key, 0.99)
            found.append(Timing(key, count / seconds, mean, worst))
    return sorted(found, key=lambda timing: -timing.per_second)


def _percentile(
    before: Scrape, after: Scrape, name: str, label: str, key: str, share: float
) -> float | None:
    """Milliseconds that a share of the values stays under, by the buckets' bounds."""

    def cumulative(one: Scrape) -> dict[float, float]:
        return {
            float(dict(labels)["le"]): value
            for labels, value in one.samples.get(name, {}).items()
            if dict(labels).get(label) == key
        }

    old = cumulative(before)
    new = sorted((bound, value - old.get(bound, 0.0)) for bound, value in cumulative(after).items())
    if not new:
        return None
    wanted = share * new[-1][1]
    bound = next(bound for bound, count in new if count >= wanted)
    return None if math.isinf(bound) else 1000 * bound


def _galleries(after: Scrape) -> list[GalleryView]:
    def values(name: str) -> dict[str, float]:
        return after.by(f"visagedb_gallery_{name}", "gallery")

    identities, index, store = (
        values("identities"),
        values("index_bytes"),
        values("store_used_bytes"),
    )
    loss, tombstones, waiting = values("mate_loss"), values("tombstones"), values("writes_waiting")
    faces: Iterable[tuple[str, float]] = values("faces").items()
    return [
        GalleryView(
            name=name,
            identities=identities.get(name, 0.0),
            faces=count,
            index_bytes=index.get(name, 0.0),
            store_bytes=store.get(name, 0.0),
            mate_loss=loss.get(name),
            tombstones=tombstones.get(name, 0.0),
            writes_waiting=waiting.get(name, 0.0),
        )
        for name, count in sorted(faces, key=lambda item: -item[1])
    ]
