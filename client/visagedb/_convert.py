"""What the server answers, from protobuf to frozen values. Pure functions."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from google.longrunning import operations_pb2
from google.protobuf import any_pb2
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from visagedb import _answers as answers
from visagedb import _convert_audits as audits
from visagedb import _convert_backups as backups
from visagedb import _convert_calibration as calibrations
from visagedb import _convert_erasures as erasures
from visagedb import _convert_gate as gates
from visagedb import _convert_imports as imports
from visagedb import _resources as resources
from visagedb import _values as values
from visagedb._convert_faces import detected_face as detected_face
from visagedb._convert_faces import model_identity as model_identity
from visagedb._convert_faces import template as template
from visagedb._moments import moment
from visagedb._names import segment
from visagedb._translate import error_from_operation
from visagedb.v1 import (
    backups_pb2,
    clusters_pb2,
    erasures_pb2,
    galleries_pb2,
    gallery_audits_pb2,
    identities_pb2,
    imports_pb2,
    integrity_pb2,
    search_pb2,
    types_pb2,
)

# A value that this version does not know becomes UNKNOWN, so that a newer server is
# never an error.
_DECISIONS: Final = {
    types_pb2.DECISION_MATCH: values.Decision.MATCH,
    types_pb2.DECISION_NO_MATCH: values.Decision.NO_MATCH,
}
_THRESHOLD_SOURCES: Final = {
    types_pb2.THRESHOLD_SOURCE_REQUEST: values.ThresholdSource.REQUEST,
    types_pb2.THRESHOLD_SOURCE_GALLERY: values.ThresholdSource.GALLERY,
    types_pb2.THRESHOLD_SOURCE_MODEL: values.ThresholdSource.MODEL,
    types_pb2.THRESHOLD_SOURCE_CALIBRATION: values.ThresholdSource.CALIBRATION,
}
_SCORE_FUSIONS: Final = {
    galleries_pb2.SCORE_FUSION_MAXIMUM: values.ScoreFusion.MAXIMUM,
    galleries_pb2.SCORE_FUSION_MEAN_OF_BEST: values.ScoreFusion.MEAN_OF_BEST,
    galleries_pb2.SCORE_FUSION_MEAN_VECTOR: values.ScoreFusion.MEAN_VECTOR,
    galleries_pb2.SCORE_FUSION_QUALITY_WEIGHTED: values.ScoreFusion.QUALITY_WEIGHTED,
    galleries_pb2.SCORE_FUSION_ADAPTIVE_MEAN: values.ScoreFusion.ADAPTIVE_MEAN,
}
_METADATA: Final = (
    clusters_pb2.ClusterMetadata,
    galleries_pb2.CalibrateGalleryMetadata,
    gallery_audits_pb2.AuditGalleryMetadata,
    erasures_pb2.CompactGalleryMetadata,
    backups_pb2.BackupMetadata,
    integrity_pb2.VerifyGalleryIntegrityMetadata,
    imports_pb2.ImportFacesMetadata,
    imports_pb2.ExportFacesMetadata,
)
_GALLERY_STATES: Final = {
    galleries_pb2.GALLERY_STATE_UNSPECIFIED: values.GalleryState.ACTIVE,
    galleries_pb2.GALLERY_STATE_ACTIVE: values.GalleryState.ACTIVE,
    galleries_pb2.GALLERY_STATE_DAMAGED: values.GalleryState.DAMAGED,
}
_SEARCH_STATES: Final = {
    galleries_pb2.SEARCH_STATE_EXACT: values.SearchState.EXACT,
    galleries_pb2.SEARCH_STATE_BUILDING: values.SearchState.BUILDING,
    galleries_pb2.SEARCH_STATE_COMPACT: values.SearchState.COMPACT,
}
_SCOPES: Final = {
    types_pb2.FACE_SCOPE_IDENTITIES: values.FaceScope.IDENTITIES,
    types_pb2.FACE_SCOPE_LOOSE: values.FaceScope.LOOSE,
    types_pb2.FACE_SCOPE_ALL: values.FaceScope.ALL,
}
ENROLL_OUTCOMES: Final = {
    identities_pb2.ENROLL_OUTCOME_ENROLLED: values.EnrollOutcome.ENROLLED,
    identities_pb2.ENROLL_OUTCOME_ALREADY_ENROLLED: values.EnrollOutcome.ALREADY_ENROLLED,
    identities_pb2.ENROLL_OUTCOME_REPLACED: values.EnrollOutcome.REPLACED,
    identities_pb2.ENROLL_OUTCOME_SKIPPED: values.EnrollOutcome.SKIPPED,
    identities_pb2.ENROLL_OUTCOME_QUARANTINED: values.EnrollOutcome.QUARANTINED,
}


def gallery(message: galleries_pb2.Gallery) -> resources.Gallery:
    """A gallery."""
    return resources.Gallery(
        name=message.name,
        uid=message.uid,
        display_name=message.display_name,
        model=model_identity(message.model),
        flip_averaging=message.embedding.flip_averaging,
        score_fusion=_SCORE_FUSIONS.get(message.score_fusion, values.ScoreFusion.UNKNOWN),
        threshold=message.threshold if message.HasField("threshold") else None,
        create_time=moment(message.create_time),
        update_time=moment(message.update_time),
        etag=message.etag,
        identity_count=message.identity_count,
        face_count=message.face_count,
        generation=message.generation,
        loose_face_count=message.loose_face_count,
        mate_loss_bound=message.mate_loss_bound,
        quality_check=gates.quality_check(message.enrolment_gate.quality),
        duplicate_check=gates.identity_check(message.enrolment_gate.duplicate),
        mismatch_check=gates.identity_check(message.enrolment_gate.mismatch),
        quotas=resources.GalleryQuotas(
            message.quotas.identities_max, message.quotas.faces_max, message.quotas.bytes_max
        ),
        state=_GALLERY_STATES.get(message.state, values.GalleryState.UNKNOWN),
        problem=message.problem,
    )


def _search_stats(message: galleries_pb2.SearchStats) -> resources.SearchStats:
    loss = message.mate_loss
    return resources.SearchStats(
        state=_SEARCH_STATES.get(message.state, values.SearchState.UNKNOWN),
        build_progress=message.build_progress,
        segment_count=message.segment_count,
        indexed_face_count=message.indexed_face_count,
        tombstone_count=message.tombstone_count,
        code_bytes_per_face=message.code_bytes_per_face,
        rescored_candidates=message.rescored_candidates,
        index_generation=message.index_generation,
        memory_bytes=message.memory_bytes,
        mate_loss=resources.MateLoss(
            loss.bound, loss.measured, loss.lower, loss.upper, loss.probe_count
        )
        if message.HasField("mate_loss")
        else None,
    )


def gallery_stats(message: galleries_pb2.GalleryStats) -> resources.GalleryStats:
    """A gallery's statistics."""
    return resources.GalleryStats(
        identity_count=message.identity_count,
        face_count=message.face_count,
        generation=message.generation,
        search=_search_stats(message.search),
        storage_used_bytes=message.storage.used_bytes,
        storage_file_bytes=message.storage.file_bytes,
        loose_face_count=message.loose_face_count,
        quarantined_face_count=message.quarantined_face_count,
        calibration=calibrations.calibration(message.calibration)
        if message.HasField("calibration")
        else None,
    )


def identity(message: identities_pb2.Identity) -> resources.Identity:
    """A person in a gallery."""
    return resources.Identity(
        name=message.name,
        uid=message.uid,
        display_name=message.display_name,
        labels=dict(message.labels),
        metadata=MessageToDict(message.metadata),
        create_time=moment(message.create_time),
        update_time=moment(message.update_time),
        expire_time=moment(message.expire_time),
        etag=message.etag,
        face_count=message.face_count,
    )


def face(message: identities_pb2.Face) -> resources.Face:
    """An enrolled face."""
    return resources.Face(
        name=message.name,
        detection=detected_face(message.detection) if message.HasField("detection") else None,
        content_sha256=message.content_sha256.hex(),
        source=message.source,
        create_time=moment(message.create_time),
        template=template(message.template) if message.HasField("template") else None,
    )


def enrollment(message: identities_pb2.EnrollFaceResponse) -> resources.Enrollment:
    """The answer to an enrolment."""
    return resources.Enrollment(
        face=face(message.face) if message.HasField("face") else None,
        outcome=ENROLL_OUTCOMES.get(message.outcome, values.EnrollOutcome.UNKNOWN),
        identity_created=message.identity_created,
        detected_face_count=message.detected_face_count,
        findings=gates.findings(message.findings),
        quarantined_face=message.quarantined_face,
    )


def loose_enrollment(message: identities_pb2.EnrollLooseFacesResponse) -> resources.LooseEnrollment:
    """The answer to an enrolment without an identity."""
    return resources.LooseEnrollment(
        faces=tuple(face(one) for one in message.faces),
        outcome=ENROLL_OUTCOMES.get(message.outcome, values.EnrollOutcome.UNKNOWN),
        gated_faces=tuple(gates.gated_face(one) for one in message.gated_faces),
    )


def found_face(message: search_pb2.FoundFace) -> answers.FoundFace:
    """A stored face that is like a probe."""
    return answers.FoundFace(name=message.face, score=message.score, source=message.source)


def _basis(message: types_pb2.DecisionBasis) -> answers.DecisionBasis:
    return answers.DecisionBasis(
        threshold=message.threshold,
        source=_THRESHOLD_SOURCES.get(message.source, values.ThresholdSource.UNKNOWN),
        calibration_version=message.calibration_version,
        max_false_positive_rate=message.max_false_positive_rate or None,
        extrapolated=message.extrapolated,
    )


def _candidate(message: search_pb2.Candidate) -> answers.Candidate:
    return answers.Candidate(
        name=message.identity,
        face=message.face,
        score=message.score,
        display_name=message.display_name,
        labels=dict(message.labels),
    )


def _identification(message: search_pb2.Identification) -> answers.Identification:
    return answers.Identification(
        face=detected_face(message.face) if message.HasField("face") else None,
        decision=_DECISIONS.get(message.decision, values.Decision.UNKNOWN),
        basis=_basis(message.basis),
        candidates=tuple(_candidate(c) for c in message.candidates),
        false_positive_probability=message.false_positive_probability
        if message.HasField("false_positive_probability")
        else None,
    )


def identify_result(message: search_pb2.IdentifyResponse) -> answers.IdentifyResult:
    """The answer to a search."""
    return answers.IdentifyResult(
        identifications=tuple(_identification(i) for i in message.identifications),
        image_width=message.image_width,
        image_height=message.image_height,
        gallery_generation=message.gallery_generation,
        index_generation=message.index_generation,
        exact=message.exact,
    )


def verification(message: search_pb2.VerifyResponse) -> answers.Verification:
    """The answer to a comparison."""
    return answers.Verification(
        decision=_DECISIONS.get(message.decision, values.Decision.UNKNOWN),
        basis=_basis(message.basis),
        score=message.score,
        probe_face=detected_face(message.probe_face) if message.HasField("probe_face") else None,
        other_face=detected_face(message.other_face) if message.HasField("other_face") else None,
        face=message.face,
        false_match_probability=message.false_match_probability
        if message.HasField("false_match_probability")
        else None,
        gallery_generation=message.gallery_generation,
    )


def detect_result(message: search_pb2.DetectFacesResponse) -> answers.DetectResult:
    """The faces of an image."""
    return answers.DetectResult(
        faces=tuple(detected_face(f) for f in message.faces),
        image_width=message.image_width,
        image_height=message.image_height,
    )


def embed_result(message: search_pb2.EmbedFacesResponse) -> answers.EmbedResult:
    """The faces of an image with their vectors."""
    return answers.EmbedResult(
        faces=tuple(
            answers.EmbeddedFace(detected_face(f.face), template(f.template)) for f in message.faces
        ),
        image_width=message.image_width,
        image_height=message.image_height,
        model=model_identity(message.model),
    )


def clustering(message: clusters_pb2.Clustering) -> answers.Clustering:
    """The result of a clustering run."""
    return answers.Clustering(
        name=message.name,
        create_time=moment(message.create_time),
        face_count=message.face_count,
        cluster_count=message.cluster_count,
        single_count=message.single_count,
        threshold=message.threshold,
        method=message.method,
        gallery_generation=message.gallery_generation,
        scope=_SCOPES.get(message.scope),
        filter=message.filter,
        base=message.base,
        edit_count=message.edit_count,
    )


def cluster(message: clusters_pb2.Cluster) -> answers.Cluster:
    """Faces that are taken for one person."""
    return answers.Cluster(
        name=message.name,
        size=message.size,
        cohesion=message.cohesion,
        cover_face=message.cover_face,
        nearest_cluster=message.nearest_cluster,
        nearest_score=message.nearest_score,
    )


def cluster_member(message: clusters_pb2.ClusterMember) -> answers.ClusterMember:
    """A face in a cluster."""
    return answers.ClusterMember(
        face=message.face,
        centrality=message.centrality,
        source=message.source,
        detection=detected_face(message.detection) if message.HasField("detection") else None,
    )


def operation_status(message: operations_pb2.Operation) -> answers.OperationStatus:
    """A long-running operation at this moment."""
    metadata: Any = None
    for kind in _METADATA:
        metadata = kind()
        if message.metadata.Unpack(metadata):
            break
    response = message.response if message.HasField("response") else any_pb2.Any()
    found: dict[str, Any] = {}
    for field, (response_kind, converted) in _RESPONSES.items():
        answer = response_kind()
        if response.Unpack(answer):
            found[field] = converted(answer)
    finished = bool(found)
    if isinstance(metadata, imports_pb2.ImportFacesMetadata) and metadata.HasField("import"):
        found.setdefault("imported", imports.import_(imports.inner(metadata)))
    return answers.OperationStatus(
        name=message.name,
        done=message.done,
        progress=1.0 if finished else metadata.progress,
        stage=metadata.stage,
        gallery=segment(metadata.gallery, "galleries"),
        create_time=moment(metadata.create_time),
        error=error_from_operation(message),
        **found,
    )


_RESPONSES: Final[Mapping[str, tuple[type[Message], Callable[[Any], Any]]]] = {
    "clustering": (clusters_pb2.Clustering, clustering),
    "calibration": (galleries_pb2.Calibration, calibrations.calibration),
    "audit": (gallery_audits_pb2.GalleryAudit, audits.audit),
    "compaction": (erasures_pb2.Compaction, erasures.compaction),
    "backup": (backups_pb2.Backup, backups.backup),
    "restored": (backups_pb2.RestoreResult, backups.restored),
    "integrity": (integrity_pb2.IntegrityReport, backups.report),
    "imported": (imports_pb2.Import, imports.import_),
    "exported": (imports_pb2.Export, imports.export),
}
"""What an operation may end with, by the field of its status."""
