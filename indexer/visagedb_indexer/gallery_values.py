"""What a gallery takes and gives."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from visagedb_indexer.gate_values import GateFinding, IdentityCheck, QualityCheck
from visagedb_indexer.search import EngineStats
from visagedb_indexer.store import Counters, FaceRecord, IdentityRecord
from visagedb_indexer.values import ExtractedFace, Fusion, Quotas, Vector


@dataclass(frozen=True, slots=True)
class GalleryPatch:
    """New values for some settings of a gallery; None leaves one as it is."""

    display_name: str | None = None
    threshold: float | None = None
    clear_threshold: bool = False
    fusion: Fusion | None = None
    mate_loss_bound: float | None = None
    quality_check: QualityCheck | None = None
    duplicate_check: IdentityCheck | None = None
    mismatch_check: IdentityCheck | None = None
    quotas: Quotas | None = None


@dataclass(frozen=True, slots=True)
class NewIdentity:
    """What a caller says of a new identity."""

    display_name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    expire_time_us: int | None = None
    create_time_us: int | None = None
    """Of a copy of an identity: when that was created; likewise `update_time_us`."""
    update_time_us: int | None = None


@dataclass(frozen=True, slots=True)
class IdentityPatch:
    """New values for some fields of an identity; None leaves a field as it is."""

    display_name: str | None = None
    labels: dict[str, str] | None = None
    metadata: dict[str, Any] | None = None
    expire_time_us: int | None = None
    clear_expire_time: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class NewFace:
    """A face to enrol.

    Attributes:
        identity_id: Whose it is.
        vector: Its template, shape (dimension,); brought to unit length here.
        content_sha256: Digest of what it was made from, 32 bytes.
        face_id: The caller's id; empty for a made one.
        source: The caller's own reference.
        extracted: Where it was found; None for a face that came as a vector.
        detected_count: Faces found in the image.
        new_identity: How to create the identity if there is none; None refuses.
        request_id: For safe repeats; empty for none.
        copied_from_us: Of a copy of a face, with its id: when that was enrolled, in
            microseconds. A copy is known by its id, since two faces of an identity may have
            been made from one image.
    """

    identity_id: str
    vector: Vector
    content_sha256: bytes
    face_id: str = ""
    source: str = ""
    extracted: ExtractedFace | None = None
    detected_count: int = 0
    new_identity: NewIdentity | None = None
    request_id: str = ""
    copied_from_us: int | None = None


class EnrollMode(StrEnum):
    """What an enrolment does with what is there already."""

    INSERT = "insert"
    """Adds the face; one of the same face id, made from something else, refuses it."""
    UPSERT = "upsert"
    """Adds the face, or puts it in the place of the one of the same face id. What is said of
    the identity replaces what was known of it; what is not said stays."""
    SKIP_EXISTING = "skip_existing"
    """Adds the face only if its identity is new; one that exists is left as it is."""


class EnrollOutcome(StrEnum):
    """What became of a face."""

    ENROLLED = "enrolled"
    ALREADY_ENROLLED = "already_enrolled"
    """The same content was enrolled for this identity before."""
    REPLACED = "replaced"
    """It has taken the place of the face of the same id."""
    SKIPPED = "skipped"
    """Its identity was there already."""
    QUARANTINED = "quarantined"
    """A check of the gallery has set it aside."""


@dataclass(frozen=True, slots=True)
class Enrollment:
    """The answer to an enrolment.

    Attributes:
        identity_id: Whose face it is.
        face: The face; None if it was skipped or is in quarantine.
        outcome: What became of it.
        identity_created: Whether the identity is new.
        detected_count: Faces found in the image; 0 for a vector, and where none was read.
        findings: What the gallery's checks object to.
        quarantine_number: Of a face in quarantine; -1 for any other.
    """

    identity_id: str
    face: FaceRecord | None
    outcome: EnrollOutcome
    identity_created: bool = False
    detected_count: int = 0
    findings: tuple[GateFinding, ...] = ()
    quarantine_number: int = -1


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How to search; see `visagedb_indexer.search.SearchRequest`.

    Attributes:
        top_k: Distinct identities to return.
        filter: Text of a label filter; empty for none.
        min_score: Leave out candidates below this cosine.
        exact: Compare with every stored vector.
        deadline: `time.monotonic()` seconds; None for none.
    """

    top_k: int = 10
    filter: str = ""
    min_score: float | None = None
    exact: bool = False
    deadline: float | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An identity that a probe may belong to, with its best face."""

    identity: IdentityRecord
    face: FaceRecord
    score: float


@dataclass(frozen=True, slots=True)
class SearchAnswer:
    """Candidates, best first, and what state of the gallery they come from."""

    candidates: tuple[Candidate, ...]
    generation: int
    index_generation: int
    exact: bool


@dataclass(frozen=True, slots=True)
class GalleryStats:
    """Counts and sizes; bytes."""

    counters: Counters
    engine: EngineStats
    used_bytes: int
    file_bytes: int
    quarantined_count: int = 0
    reader_count: int = 0
