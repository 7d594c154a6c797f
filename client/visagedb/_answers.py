"""What a server finds out: identifications, comparisons, detections, clusters."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from visagedb._audits import GalleryAudit
from visagedb._backups import Backup, IntegrityReport, RestoredGallery
from visagedb._calibration import Calibration
from visagedb._erasures import Compaction
from visagedb._imports import Export, Import
from visagedb._names import last_id, segment
from visagedb._values import (
    Decision,
    DetectedFace,
    FaceScope,
    ModelIdentity,
    Template,
    ThresholdSource,
)


@dataclass(frozen=True, slots=True)
class DecisionBasis:
    """What a decision was based on.

    Attributes:
        threshold: The cosine that divides MATCH from NO_MATCH.
        source: Where it comes from.
        calibration_version: The calibration used; empty without one.
        max_false_positive_rate: The error rate asked for; None when none was.
        extrapolated: Nothing that was measured reaches that rate: the threshold rests on the
            form of the tail.
    """

    threshold: float
    source: ThresholdSource
    calibration_version: str = ""
    max_false_positive_rate: float | None = None
    extrapolated: bool = False


@dataclass(frozen=True, slots=True)
class Candidate:
    """One identity that a probe may be.

    Attributes:
        name: Resource name of the identity.
        face: Resource name of the identity's best face.
        score: Cosine similarity, -1 to 1.
    """

    name: str
    face: str
    score: float
    display_name: str
    labels: Mapping[str, str]

    @property
    def id(self) -> str:
        """The identity's plain id, for example ``alice``."""
        return last_id(self.name)


@dataclass(frozen=True, slots=True)
class Identification:
    """The answer for one face of the probe.

    Attributes:
        face: Where it was found; None for a vector or an enrolled face.
        decision: About the best candidate.
        basis: The threshold behind the decision.
        candidates: Distinct identities, best first.
        false_positive_probability: How often a stranger's best score among the identities
            searched is at least as high as the best candidate's; None when nothing tells.
    """

    face: DetectedFace | None
    decision: Decision
    basis: DecisionBasis
    candidates: tuple[Candidate, ...]
    false_positive_probability: float | None = None

    @property
    def is_match(self) -> bool:
        """Whether the best candidate reaches the threshold."""
        return self.decision is Decision.MATCH

    @property
    def best(self) -> Candidate | None:
        """The best candidate, matching or not; None when there is none."""
        return self.candidates[0] if self.candidates else None

    @property
    def match(self) -> Candidate | None:
        """The best candidate if it is a match, otherwise None."""
        return self.best if self.is_match else None


@dataclass(frozen=True, slots=True)
class IdentifyResult:
    """The answer to a search: iterate over it for one `Identification` per face.

    Attributes:
        identifications: One for each face searched for, largest first.
        image_width: Of the upright image in pixels; 0 without one.
        image_height: Of the upright image in pixels; 0 without one.
        gallery_generation: The gallery's content that gave this answer.
        index_generation: The search structures that gave it.
        exact: Whether every stored vector was compared.
    """

    identifications: tuple[Identification, ...]
    image_width: int
    image_height: int
    gallery_generation: int
    index_generation: int
    exact: bool

    def __iter__(self) -> Iterator[Identification]:
        return iter(self.identifications)

    def __len__(self) -> int:
        return len(self.identifications)

    @property
    def best(self) -> Candidate | None:
        """Best candidate of the first (largest) face; None when there is none."""
        return self.identifications[0].best if self.identifications else None

    @property
    def match(self) -> Candidate | None:
        """Best candidate of the first (largest) face if it is a match, otherwise None."""
        return self.identifications[0].match if self.identifications else None


@dataclass(frozen=True, slots=True, eq=False)
class ProbeResult:
    """What became of one of many probes: a result or an error, never both.

    Attributes:
        item_id: The caller's id of the probe; its place if none was given.
        place: Where the probe was in the order in which probes were given, from 0.
        result: The answer; None if it failed.
        error: Why it failed: a `VisageError`, an `OSError` for an unreadable file, or a
            `TypeError` for what is no probe.
    """

    item_id: str
    place: int
    result: IdentifyResult | None
    error: Exception | None

    @property
    def ok(self) -> bool:
        """Whether there is a result."""
        return self.error is None


@dataclass(frozen=True, slots=True)
class FoundFace:
    """A stored face that is like a probe.

    Attributes:
        name: Resource name of the face.
        score: Cosine similarity, -1 to 1.
        source: The caller's own reference of the face.
    """

    name: str
    score: float
    source: str

    @property
    def identity(self) -> str:
        """Id of the identity it belongs to; empty for a loose face."""
        return segment(self.name, "identities")


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer to "are these two the same person?".

    Attributes:
        score: Cosine similarity, -1 to 1.
        probe_face: Where the probe was found; None unless it was an image.
        other_face: Where the other was found; None unless it was an image.
        face: The identity's best face, when an identity was the reference.
        false_match_probability: How often a stranger's score is at least as high; None when
            nothing tells.
        gallery_generation: The gallery's content at that time; 0 without a gallery.
    """

    decision: Decision
    basis: DecisionBasis
    score: float
    probe_face: DetectedFace | None
    other_face: DetectedFace | None
    face: str
    false_match_probability: float | None = None
    gallery_generation: int = 0

    @property
    def is_match(self) -> bool:
        """Whether the score reaches the threshold."""
        return self.decision is Decision.MATCH


@dataclass(frozen=True, slots=True)
class DetectResult:
    """The faces of an image, largest first; sizes in pixels of the upright image."""

    faces: tuple[DetectedFace, ...]
    image_width: int
    image_height: int

    def __iter__(self) -> Iterator[DetectedFace]:
        return iter(self.faces)

    def __len__(self) -> int:
        return len(self.faces)


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedFace:
    """A face of an image with its vector."""

    face: DetectedFace
    template: Template


@dataclass(frozen=True, slots=True, eq=False)
class EmbedResult:
    """The faces of an image with their vectors, largest first."""

    faces: tuple[EmbeddedFace, ...]
    image_width: int
    image_height: int
    model: ModelIdentity

    def __iter__(self) -> Iterator[EmbeddedFace]:
        return iter(self.faces)

    def __len__(self) -> int:
        return len(self.faces)


@dataclass(frozen=True, slots=True)
class Clustering:
    """The result of one run over a gallery.

    Attributes:
        name: ``galleries/{gallery}/clusterings/{clustering}``.
        cluster_count: Clusters of two faces or more.
        single_count: Faces on their own.
        threshold: Least cosine of an edge; for average-linkage least mean cosine of a cluster.
        method: The method that was used.
        gallery_generation: The gallery's content at that time.
        scope: Which faces were clustered; None when this client does not know it.
        filter: The label filter that they passed.
        base: Resource name of the clustering that this one goes on from; empty for none.
        edit_count: Joins and splits by hand that can be undone.
    """

    name: str
    create_time: datetime | None
    face_count: int
    cluster_count: int
    single_count: int
    threshold: float
    method: str
    gallery_generation: int
    scope: FaceScope | None = None
    filter: str = ""
    base: str = ""
    edit_count: int = 0

    @property
    def id(self) -> str:
        """The plain id of the clustering."""
        return last_id(self.name)


@dataclass(frozen=True, slots=True)
class Cluster:
    """Faces that are taken for one person.

    Attributes:
        name: ``galleries/{gallery}/clusterings/{clustering}/clusters/{cluster}``.
        size: How many faces.
        cohesion: Mean cosine of the members to their centre.
        cover_face: Resource name of the most central face.
        nearest_cluster: Resource name of the cluster whose centre is nearest; empty when none
            is within sight.
        nearest_score: Cosine between the two centres.
    """

    name: str
    size: int
    cohesion: float
    cover_face: str
    nearest_cluster: str = ""
    nearest_score: float = 0.0

    @property
    def id(self) -> str:
        """The plain id of the cluster."""
        return last_id(self.name)


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """A face in a cluster.

    Attributes:
        face: Resource name of the face.
        centrality: Cosine to the cluster's centre.
        source: The caller's own reference of the face.
        detection: Where it was found; None for a face enrolled as a vector.
    """

    face: str
    centrality: float
    source: str
    detection: DetectedFace | None = None

    @property
    def identity(self) -> str:
        """Id of the identity under which the face is enrolled; empty for a loose face."""
        return segment(self.face, "identities")


@dataclass(frozen=True, slots=True)
class OperationStatus:
    """A long-running operation at one moment.

    Attributes:
        name: Resource name of the operation.
        done: Whether it has ended, well or not.
        progress: 0 to 1.
        stage: What is being done.
        gallery: Id of the gallery it works on; empty when unknown.
        error: Why it failed; None while it runs and when it went well.
        clustering: What a clustering found; None until it went well.
        calibration: What a calibration found; None until it went well.
        audit: What an audit of labels found; None until it went well.
        compaction: What a compaction has done; None until it went well.
        backup: What a backup has written; None until it went well.
        restored: What has come back from a backup; None until it went well.
        integrity: What a check or a repair found; None until it went well.
        imported: How an import stands, also while it runs.
        exported: What an export wrote; None until it went well.
    """

    name: str
    done: bool
    progress: float
    stage: str
    gallery: str
    create_time: datetime | None
    error: Exception | None
    clustering: Clustering | None = None
    calibration: Calibration | None = None
    audit: GalleryAudit | None = None
    compaction: Compaction | None = None
    backup: Backup | None = None
    restored: RestoredGallery | None = None
    integrity: IntegrityReport | None = None
    imported: Import | None = None
    exported: Export | None = None

    @property
    def result(self) -> object | None:
        """Whichever of the results it has; None until it went well."""
        results = (self.clustering, self.calibration, self.audit, self.compaction)
        imported = self.imported if self.done else None
        more = (self.backup, self.restored, self.integrity, imported, self.exported)
        return next((one for one in (*results, *more) if one is not None), None)

    @property
    def id(self) -> str:
        """The plain id of the operation."""
        return last_id(self.name)
