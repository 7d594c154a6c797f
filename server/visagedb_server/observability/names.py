"""Every metric of the server, declared in one table: names, kinds, labels, meanings.

The guide to operating and the dashboard are checked against this table.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

PREFIX: Final = "visagedb_"
SECONDS_BUCKETS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
SIZE_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)


class Kind(StrEnum):
    """What a metric is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Declared:
    """One metric.

    Attributes:
        name: Without the prefix; of a counter without the ``_total`` that it ends with.
        kind: What it is to Prometheus.
        labels: Names of its labels.
        help: What it means.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str

    @property
    def full_name(self) -> str:
        """The name as it is scraped; of a histogram without its suffixes."""
        return f"{PREFIX}{self.name}{'_total' if self.kind is Kind.COUNTER else ''}"


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

DECLARED: Final = (
    # Calls
    Declared("calls", _C, ("method", "code"), "Calls that are over, by method and status."),
    Declared("call_seconds", _H, ("method",), "From arrival to end; refused calls not."),
    Declared("stage_seconds", _H, ("stage",), "Time spent in a stage of the work."),
    Declared("lane_threads", _G, ("lane",), "Calls of a kind that may run at once."),
    Declared("lane_running", _G, ("lane",), "Calls of a kind that run."),
    Declared("lane_waiting", _G, ("lane",), "Calls of a kind that wait for a thread."),
    Declared("searches_waiting", _G, (), "Searches that wait for a place to search in."),
    # Batches
    Declared("commit_commands", _H, (), "Writes that shared one sync."),
    Declared("searches_gathered", _H, (), "Probes that shared one scan."),
    # Embedding
    Declared("workers", _G, (), "Embedding processes that are meant to be there."),
    Declared("workers_ready", _G, (), "Embedding processes that are up."),
    Declared("worker_restarts", _C, (), "Embedding processes replaced after a crash or a hang."),
    Declared("worker_deaths", _C, ("reason",), "The same, by what ended them."),
    Declared("worker_images_retried", _C, (), "Images tried again after their process was gone."),
    Declared("worker_images_lost", _C, (), "Images refused as they ended two processes."),
    Declared("worker_start_failures", _C, (), "Embedding processes that did not come up."),
    Declared("worker_queue_images", _G, ("priority",), "Images that wait for a worker."),
    Declared("worker_queue_bytes", _G, (), "Bytes of the images that wait."),
    Declared("worker_images_in_flight", _G, (), "Images in the hands of workers."),
    Declared("worker_images", _C, (), "Images that workers have answered."),
    Declared("worker_stage_seconds", _C, ("stage",), "Time that workers spent, by stage."),
    Declared("worker_batches", _C, ("images",), "Batches that workers have answered, by size."),
    Declared("worker_memory_bytes", _G, (), "Resident memory of the embedding processes."),
    # Galleries
    Declared("galleries", _G, (), "Galleries."),
    Declared("gallery_identities", _G, ("gallery",), "Identities."),
    Declared("gallery_faces", _G, ("gallery",), "Faces."),
    Declared("gallery_quarantined_faces", _G, ("gallery",), "Faces that checks have set aside."),
    Declared("gallery_generation", _C, ("gallery",), "Committed changes."),
    Declared("gallery_indexed_faces", _G, ("gallery",), "Faces in the compact codes."),
    Declared("gallery_index_bytes", _G, ("gallery",), "Memory of the search structures."),
    Declared("gallery_segments", _G, ("gallery",), "Segments of the compact codes."),
    Declared("gallery_tombstones", _G, ("gallery",), "Deleted faces that are still in the codes."),
    Declared("gallery_rescored_candidates", _G, ("gallery",), "Rows rescored for a search."),
    Declared("gallery_store_used_bytes", _G, ("gallery",), "Bytes of the database in use."),
    Declared("gallery_store_file_bytes", _G, ("gallery",), "Bytes of the database's file."),
    Declared("gallery_snapshot_age_seconds", _G, ("gallery",), "Age of the snapshot of the codes."),
    Declared("gallery_mate_loss", _G, ("gallery",), "Fraction of mates lost, as last measured."),
    Declared("gallery_mate_loss_lower", _G, ("gallery",), "Lower end of its 95% interval."),
    Declared("gallery_mate_loss_upper", _G, ("gallery",), "Upper end of its 95% interval."),
    Declared("gallery_mate_loss_bound", _G, ("gallery",), "What it is to stay under."),
    Declared("gallery_writes_waiting", _G, ("gallery",), "Writes that wait for the writer."),
    Declared("gallery_readers", _G, ("gallery",), "Slots of readers of the database in use."),
    # The server
    Declared("operations_running", _G, (), "Long-running operations that are not done."),
    Declared("ready", _G, (), "1 while the server is ready for calls, else 0."),
    Declared("start_time_seconds", _G, (), "When the server started, seconds since 1970."),
    Declared("build_info", _G, ("version",), "Always 1; the release is in the label."),
)

PROCESS_METRICS: Final = (
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
    "process_start_time_seconds",
)
"""Of the server's own process, under the names that all Prometheus clients use."""

OTHER_GALLERIES: Final = "other"
"""Stands for the galleries beyond those with labels of their own."""
