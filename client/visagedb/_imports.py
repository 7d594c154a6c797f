"""What imports and exports say."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from visagedb._names import last_id


class SourceFormat(StrEnum):
    """What an import reads."""

    FOLDER = "folder"
    """A folder of images."""
    TAR = "tar"
    """A tar of images, with what is said of each beside it."""
    PARQUET = "parquet"
    """Vectors with what belongs to them; also what an export writes."""
    NPZ = "npz"
    """NumPy arrays of vectors and of what belongs to them."""
    UNKNOWN = "unknown"
    """Something that a newer server knows."""


class ImportMode(StrEnum):
    """What an import does with what is there already."""

    INSERT = "insert"
    """Adds faces; one whose face id belongs to a face made from something else fails."""
    UPSERT = "upsert"
    """Adds faces, or puts them in the place of those of the same face id. What is said of an
    identity replaces what was known of it."""
    SKIP_EXISTING = "skip_existing"
    """Adds faces of identities only that were not there when the import began."""


class ImportState(StrEnum):
    """How an import stands."""

    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"
    """Something that a newer server knows."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import, finished or not.

    Attributes:
        name: ``galleries/{gallery}/imports/{import}``; the id is that of its operation.
        end_time: None while it runs.
        path: Of the source, on the server.
        entry_count: Images or rows of the source; 0 while unknown, and for a tar.
        done_count: Those that are done with, failed ones included.
        already_enrolled_count: Whose content was enrolled for the same identity before.
        skipped_count: Left alone by `ImportMode.SKIP_EXISTING`.
        quarantined_count: Set aside by the gallery's checks on enrolment.
        ignored_count: Files that are no entries: hidden, not images, links.
        failures_by_reason: Failed entries by reason, such as ``NO_FACE``.
        progress: 0 to 1.
        entries_per_second: Lately; 0 when it does not run.
        remaining_seconds: At that rate; None when unknown.
        error_reason: Why it failed; empty otherwise.
        error_message: The same for a person.
    """

    name: str
    create_time: datetime | None
    end_time: datetime | None
    path: str
    format: SourceFormat
    state: ImportState
    entry_count: int
    done_count: int
    enrolled_count: int
    already_enrolled_count: int
    replaced_count: int
    skipped_count: int
    quarantined_count: int
    failed_count: int
    identity_created_count: int
    ignored_count: int
    failures_by_reason: Mapping[str, int]
    progress: float
    entries_per_second: float
    remaining_seconds: float | None
    error_reason: str
    error_message: str

    @property
    def id(self) -> str:
        """The plain id of the import, and of its operation."""
        return last_id(self.name)


@dataclass(frozen=True, slots=True)
class ImportFailure:
    """An entry of a source that could not be enrolled.

    Attributes:
        entry: Where it is in the source: a path, a member of a tar, or ``row 17``.
        identity: Id of the identity it was meant for; empty when unknown.
        reason: A stable word, such as ``NO_FACE``.
        message: The same for a person.
    """

    entry: str
    identity: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Export:
    """A finished export.

    Attributes:
        gallery: Id of the gallery.
        path: The file, on the server.
        gallery_generation: The gallery's content at that moment.
    """

    gallery: str
    path: str
    identity_count: int
    face_count: int
    file_bytes: int
    gallery_generation: int
