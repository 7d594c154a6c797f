"""What a server stores: galleries, identities and faces, as frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from visagedb._calibration import Calibration
from visagedb._gate import GatedFace, GateFinding, IdentityCheck, QualityCheck
from visagedb._names import last_id, segment
from visagedb._values import (
    DetectedFace,
    EnrollOutcome,
    GalleryState,
    ModelIdentity,
    ScoreFusion,
    SearchState,
    Template,
)


@dataclass(frozen=True, slots=True)
class GalleryQuotas:
    """How large a gallery may become; 0 for no limit.

    Attributes:
        identities_max: Identities.
        faces_max: Faces, loose ones as well.
        bytes_max: Bytes of the database's pages in use.
    """

    identities_max: int = 0
    faces_max: int = 0
    bytes_max: int = 0


@dataclass(frozen=True, slots=True)
class Gallery:
    """A named set of identities that share one embedding model.

    Attributes:
        name: Resource name, ``galleries/{gallery}``.
        uid: Assigned by the server; never used twice, even for the same name.
        display_name: For people.
        model: Pinned at creation.
        flip_averaging: Whether the mirror image's embedding is added.
        score_fusion: How several faces of one identity make one score.
        threshold: The gallery's own decision threshold; None for the model card's.
        etag: Changes with every update.
        generation: Counts the committed changes of the gallery's content.
        loose_face_count: Those of the faces that belong to no identity.
        mate_loss_bound: Fraction of the mates that the compact scan may lose.
        quality_check: Whether a face is good enough to be enrolled.
        duplicate_check: Whether its person is enrolled under another id.
        mismatch_check: Whether it looks like the other faces of its identity.
        quotas: How large it may become.
        state: Whether it can be used; of a damaged one only the name is known.
        problem: Why it is damaged.
    """

    name: str
    uid: str
    display_name: str
    model: ModelIdentity
    flip_averaging: bool
    score_fusion: ScoreFusion
    threshold: float | None
    create_time: datetime | None
    update_time: datetime | None
    etag: str
    identity_count: int
    face_count: int
    generation: int
    loose_face_count: int = 0
    mate_loss_bound: float = 0.0
    quality_check: QualityCheck = field(default_factory=QualityCheck)
    duplicate_check: IdentityCheck = field(default_factory=IdentityCheck)
    mismatch_check: IdentityCheck = field(default_factory=IdentityCheck)
    quotas: GalleryQuotas = field(default_factory=GalleryQuotas)
    state: GalleryState = GalleryState.ACTIVE
    problem: str = ""

    @property
    def id(self) -> str:
        """The plain id, for example ``staff``."""
        return last_id(self.name)


@dataclass(frozen=True, slots=True)
class MateLoss:
    """A measured error of the compact search.

    Attributes:
        bound: The fraction of lost mates that the gallery promises not to pass.
        measured: The measured fraction.
        lower: Lower end of its 95% confidence interval.
        upper: Upper end of its 95% confidence interval.
        probe_count: How many probes were compared.
    """

    bound: float
    measured: float
    lower: float
    upper: float
    probe_count: int


@dataclass(frozen=True, slots=True)
class SearchStats:
    """The search structures of a gallery.

    Attributes:
        state: How it is searched at present.
        build_progress: Progress of a build, 0 to 1.
        rescored_candidates: Best rows of the compact scan that are rescored exactly.
        tombstone_count: Rows deleted but not yet removed from the compact codes.
        mate_loss: None until an audit has run.
    """

    state: SearchState
    build_progress: float
    segment_count: int
    indexed_face_count: int
    tombstone_count: int
    code_bytes_per_face: int
    rescored_candidates: int
    index_generation: int
    memory_bytes: int
    mate_loss: MateLoss | None


@dataclass(frozen=True, slots=True)
class GalleryStats:
    """Counts, sizes, and the state of the search structures.

    Attributes:
        storage_used_bytes: Bytes of the database in use.
        storage_file_bytes: Bytes of the database file.
        calibration: The latest; None until there is one.
        loose_face_count: Those of the faces that belong to no identity.
        quarantined_face_count: Faces in quarantine, none of the faces above.
    """

    identity_count: int
    face_count: int
    generation: int
    search: SearchStats
    storage_used_bytes: int
    storage_file_bytes: int
    calibration: Calibration | None = None
    loose_face_count: int = 0
    quarantined_face_count: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """A person in a gallery.

    Attributes:
        name: Resource name, ``galleries/{gallery}/identities/{identity}``.
        labels: Small key and value strings for filters.
        metadata: Anything else the caller keeps.
        expire_time: From this time on the identity is erased by the server; None for never.
        etag: Changes with every update.
    """

    name: str
    uid: str
    display_name: str
    labels: Mapping[str, str]
    metadata: Mapping[str, Any]
    create_time: datetime | None
    update_time: datetime | None
    expire_time: datetime | None
    etag: str
    face_count: int

    @property
    def id(self) -> str:
        """The plain id, for example ``alice``."""
        return last_id(self.name)

    @property
    def gallery(self) -> str:
        """Id of its gallery."""
        return segment(self.name, "galleries")


@dataclass(frozen=True, slots=True)
class Face:
    """One enrolled face, of an identity or loose.

    Attributes:
        name: ``galleries/{gallery}/identities/{identity}/faces/{face}``, or for a loose face
            ``galleries/{gallery}/faces/{face}``.
        detection: Where it was found; None for a face enrolled as a vector.
        content_sha256: Digest of the enrolled image or vector, hexadecimal.
        source: The caller's own reference, for example a file name.
        template: The vector, when it was asked for.
    """

    name: str
    detection: DetectedFace | None
    content_sha256: str
    source: str
    create_time: datetime | None
    template: Template | None

    @property
    def id(self) -> str:
        """The plain id of the face."""
        return last_id(self.name)

    @property
    def identity(self) -> str:
        """Id of its identity; empty for a loose face."""
        return segment(self.name, "identities")

    @property
    def gallery(self) -> str:
        """Id of its gallery."""
        return segment(self.name, "galleries")


@dataclass(frozen=True, slots=True)
class Enrollment:
    """The answer to an enrolment.

    Attributes:
        face: The enrolled face; None for one that was skipped or is in quarantine.
        outcome: Whether anything changed.
        identity_created: Whether the request made the identity.
        detected_face_count: Faces found in the image, the enrolled one included; 0 when
            the content was enrolled before and not looked at again.
        findings: What the gallery's checks object to.
        quarantined_face: Of a face in quarantine its resource name there; else empty.
    """

    face: Face | None
    outcome: EnrollOutcome
    identity_created: bool
    detected_face_count: int
    findings: tuple[GateFinding, ...] = ()
    quarantined_face: str = ""


@dataclass(frozen=True, slots=True)
class LooseEnrollment:
    """The answer to an enrolment without an identity.

    Attributes:
        faces: Largest first. Of content that was enrolled before, the faces that are left of
            it, also those that have an identity by now.
        outcome: Whether anything changed.
        gated_faces: Faces that the gallery's quality check objects to. A rejected one is left
            out, and the image's other faces are enrolled.
    """

    faces: tuple[Face, ...]
    outcome: EnrollOutcome
    gated_faces: tuple[GatedFace, ...] = ()
