"""Between the indexer's values and the wire."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from google.protobuf import json_format, struct_pb2, timestamp_pb2

from visagedb.v1 import clusters_pb2, galleries_pb2, identities_pb2, search_pb2, types_pb2
from visagedb_indexer import defaults
from visagedb_indexer.errors import IndexerError, InvalidArgumentError, InvalidVectorError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import Candidate, GalleryStats, NewIdentity
from visagedb_indexer.search import EngineState
from visagedb_indexer.store import (
    ClusteringRecord,
    FaceRecord,
    IdentityRecord,
    LineageRecord,
)
from visagedb_indexer.validation import check_same_model
from visagedb_indexer.values import (
    Box,
    ExtractedFace,
    FaceScope,
    Fusion,
    Landmarks,
    ModelIdentity,
    Point,
    Quality,
    Vector,
)
from visagedb_server import convert_quotas, names

_STATES = {
    EngineState.EXACT: galleries_pb2.SEARCH_STATE_EXACT,
    EngineState.BUILDING: galleries_pb2.SEARCH_STATE_BUILDING,
    EngineState.COMPACT: galleries_pb2.SEARCH_STATE_COMPACT,
}

_FUSIONS = {
    galleries_pb2.SCORE_FUSION_MAXIMUM: Fusion.MAXIMUM,
    galleries_pb2.SCORE_FUSION_MEAN_OF_BEST: Fusion.MEAN_OF_BEST,
    galleries_pb2.SCORE_FUSION_MEAN_VECTOR: Fusion.MEAN_VECTOR,
    galleries_pb2.SCORE_FUSION_QUALITY_WEIGHTED: Fusion.QUALITY_WEIGHTED,
    galleries_pb2.SCORE_FUSION_ADAPTIVE_MEAN: Fusion.ADAPTIVE_MEAN,
}
_FUSION_NUMBERS = {fusion: number for number, fusion in _FUSIONS.items()}

# What a Timestamp may hold, by its own definition.
_SECONDS_MIN, _SECONDS_MAX = -62_135_596_800, 253_402_300_799


def timestamp(time_us: int) -> timestamp_pb2.Timestamp:
    """Microseconds since 1970 as a Timestamp."""
    return timestamp_pb2.Timestamp(seconds=time_us // 1_000_000, nanos=time_us % 1_000_000 * 1000)


def microseconds(time: timestamp_pb2.Timestamp) -> int:
    """Inverse of `timestamp`.

    Raises:
        InvalidArgumentError: It is not a time of the years 1 to 9999.
    """
    if not (_SECONDS_MIN <= time.seconds <= _SECONDS_MAX and 0 <= time.nanos < 1_000_000_000):
        raise InvalidArgumentError(
            "a time must be in the years 1 to 9999, with nanoseconds below a billion",
            {"field": "expire_time"},
        )
    return time.seconds * 1_000_000 + time.nanos // 1000


def model(identity: ModelIdentity) -> types_pb2.ModelIdentity:
    """A model's identity."""
    return types_pb2.ModelIdentity(
        name=identity.name,
        version=identity.version,
        dimension=identity.dimension,
        sha256=identity.sha256,
        precision=identity.precision,
    )


def fusion(number: galleries_pb2.ScoreFusion.ValueType) -> Fusion:
    """How faces are fused; the default for one that is not said.

    Raises:
        InvalidArgumentError: It is not known.
    """
    if number == galleries_pb2.SCORE_FUSION_UNSPECIFIED:
        return defaults.FUSION
    if number not in _FUSIONS:
        raise InvalidArgumentError("unknown score fusion", {"field": "score_fusion"})
    return _FUSIONS[number]


def gallery(source: Gallery) -> galleries_pb2.Gallery:
    """A gallery with its counts."""
    record, counters = source.record, source.counters
    return galleries_pb2.Gallery(
        name=names.gallery_name(record.id),
        uid=record.uid,
        display_name=record.display_name,
        model=model(record.model),
        embedding=galleries_pb2.EmbeddingOptions(flip_averaging=record.flip_averaging),
        score_fusion=_FUSION_NUMBERS[record.fusion],
        threshold=record.threshold,
        mate_loss_bound=record.mate_loss_bound,
        create_time=timestamp(record.create_time_us),
        update_time=timestamp(record.update_time_us),
        etag=str(record.revision),
        identity_count=counters.identity_count,
        face_count=counters.face_count,
        generation=counters.generation,
        loose_face_count=counters.loose_face_count,
        state=galleries_pb2.GALLERY_STATE_ACTIVE,
        quotas=convert_quotas.message(record.quotas),
    )


def damaged_gallery(gallery_id: str, problem: IndexerError) -> galleries_pb2.Gallery:
    """A gallery that cannot be opened."""
    return galleries_pb2.Gallery(
        name=names.gallery_name(gallery_id),
        state=galleries_pb2.GALLERY_STATE_DAMAGED,
        problem=problem.message,
    )


def stats(source: GalleryStats) -> galleries_pb2.GalleryStats:
    """Counts and sizes."""
    engine = source.engine
    message = galleries_pb2.GalleryStats(
        identity_count=source.counters.identity_count,
        face_count=source.counters.face_count,
        generation=source.counters.generation,
        loose_face_count=source.counters.loose_face_count,
        quarantined_face_count=source.quarantined_count,
        search=galleries_pb2.SearchStats(
            state=_STATES[engine.state],
            build_progress=engine.build_progress,
            segment_count=engine.segment_count,
            indexed_face_count=engine.indexed_face_count,
            tombstone_count=engine.tombstone_count,
            code_bytes_per_face=engine.code_bytes_per_face,
            rescored_candidates=engine.rescored_candidates,
            index_generation=engine.index_generation,
            memory_bytes=engine.memory_bytes,
        ),
        storage=galleries_pb2.StorageStats(
            used_bytes=source.used_bytes, file_bytes=source.file_bytes
        ),
    )
    if engine.audit is not None:
        lower, upper = engine.audit.interval
        message.search.mate_loss.CopyFrom(
            galleries_pb2.MateLoss(
                bound=engine.loss_bound,
                measured=engine.audit.measured,
                lower=lower,
                upper=upper,
                probe_count=engine.audit.probe_count,
            )
        )
    return message


def identity(gallery_id: str, record: IdentityRecord) -> identities_pb2.Identity:
    """An identity."""
    message = identities_pb2.Identity(
        name=names.identity_name(gallery_id, record.id),
        uid=record.uid,
        display_name=record.display_name,
        labels=record.labels,
        create_time=timestamp(record.create_time_us),
        update_time=timestamp(record.update_time_us),
        etag=str(record.revision),
        face_count=record.face_count,
    )
    if record.metadata:
        message.metadata.update(record.metadata)
    if record.expire_time_us is not None:
        message.expire_time.CopyFrom(timestamp(record.expire_time_us))
    return message


def new_identity(message: identities_pb2.Identity) -> NewIdentity:
    """What a caller says of a new identity."""
    return NewIdentity(
        display_name=message.display_name,
        labels=dict(message.labels),
        metadata=metadata(message.metadata),
        expire_time_us=(
            microseconds(message.expire_time) if message.HasField("expire_time") else None
        ),
    )


def metadata(message: struct_pb2.Struct) -> dict[str, Any]:
    """Free JSON.

    Raises:
        InvalidArgumentError: It holds NaN or infinity, or is nested too deeply.
    """
    try:
        return json_format.MessageToDict(message)
    except (json_format.SerializeToJsonError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(
            f"the metadata is not JSON: {error}", {"field": "metadata"}
        ) from error


def face(
    gallery_id: str, identity_id: str, record: FaceRecord, template: types_pb2.Template | None
) -> identities_pb2.Face:
    """An enrolled face."""
    return identities_pb2.Face(
        name=names.face_name(gallery_id, identity_id, record.id),
        content_sha256=record.content_sha256,
        source=record.source,
        create_time=timestamp(record.create_time_us),
        template=template,
        detection=detection(record),
    )


def detection(record: FaceRecord) -> types_pb2.DetectedFace | None:
    """Where a stored face was found; None for one that came as a vector."""
    if record.box is None:
        return None
    return _detection(record.box, record.landmarks, record.detection_score, record.quality)


def detected(found: ExtractedFace) -> types_pb2.DetectedFace:
    """A face found in an image."""
    return _detection(found.box, found.landmarks, found.detection_score, found.quality)


def _detection(
    where: Box, points: Landmarks | None, score: float, grade: Quality | None
) -> types_pb2.DetectedFace:
    message = types_pb2.DetectedFace(
        box=types_pb2.BoundingBox(x=where.x, y=where.y, width=where.width, height=where.height),
        detection_score=score,
    )
    if points is not None:
        message.landmarks.CopyFrom(
            types_pb2.Landmarks(
                left_eye=_point(points.left_eye),
                right_eye=_point(points.right_eye),
                nose=_point(points.nose),
                left_mouth=_point(points.left_mouth),
                right_mouth=_point(points.right_mouth),
            )
        )
    if grade is not None:
        message.quality.CopyFrom(
            types_pb2.Quality(
                score=grade.score,
                size=grade.size,
                sharpness=grade.sharpness,
                pose=grade.pose,
                exposure=grade.exposure,
                detection=grade.detection,
                reasons=grade.reasons,
            )
        )
    return message


def _point(point: Point) -> types_pb2.Point:
    return types_pb2.Point(x=point.x, y=point.y)


def template(vector: Vector, made_by: ModelIdentity) -> types_pb2.Template:
    """A vector with the name of its model."""
    return types_pb2.Template(
        vector=vector.astype("<f4").tobytes(), model=f"{made_by.name}@{made_by.version}"
    )


def vector(message: types_pb2.Template, wanted: ModelIdentity) -> Vector:
    """A vector from the wire.

    Raises:
        InvalidVectorError: Its bytes are not the model's number of float32 values.
        ModelMismatchError: It was made by another model.
    """
    check_same_model(message.model, wanted)
    if len(message.vector) != 4 * wanted.dimension:
        raise InvalidVectorError(
            f"the vector has {len(message.vector) / 4:g} float32 values, "
            f"the gallery's model has {wanted.dimension}",
            {"field": "vector", "expected_bytes": str(4 * wanted.dimension)},
        )
    return np.frombuffer(message.vector, dtype="<f4")


def candidate(gallery_id: str, found: Candidate) -> search_pb2.Candidate:
    """A candidate of a search."""
    return search_pb2.Candidate(
        identity=names.identity_name(gallery_id, found.identity.id),
        face=names.face_name(gallery_id, found.identity.id, found.face.id),
        score=found.score,
        display_name=found.identity.display_name,
        labels=found.identity.labels,
    )


_KINDS = {
    "move": identities_pb2.CHANGE_KIND_MOVE,
    "merge": identities_pb2.CHANGE_KIND_MERGE,
    "split": identities_pb2.CHANGE_KIND_SPLIT,
    "undo": identities_pb2.CHANGE_KIND_UNDO,
}
_SCOPES = {
    types_pb2.FACE_SCOPE_IDENTITIES: FaceScope.IDENTITIES,
    types_pb2.FACE_SCOPE_LOOSE: FaceScope.LOOSE,
    types_pb2.FACE_SCOPE_ALL: FaceScope.ALL,
}


def scope(asked: int, default: FaceScope) -> FaceScope:
    """Which faces a request means.

    Raises:
        InvalidArgumentError: The scope is unknown.
    """
    if not asked:
        return default
    found = [known for wire, known in _SCOPES.items() if wire == asked]
    if not found:
        raise InvalidArgumentError("unknown scope of faces", {"field": "scope"})
    return found[0]


def lineage(gallery_id: str, record: LineageRecord) -> identities_pb2.LineageEntry:
    """One change of who some faces belong to."""
    return identities_pb2.LineageEntry(
        name=names.lineage_name(gallery_id, record.number),
        kind=_KINDS[record.kind],
        create_time=timestamp(record.time_us),
        destination=names.identity_name(gallery_id, record.to_id) if record.to_id else "",
        founded=record.founded,
        sources=[
            identities_pb2.LineageSource(
                identity=names.identity_name(gallery_id, source.id) if source.id else "",
                face_count=len(source.ordinals) // 8,
                ended=source.ended is not None,
            )
            for source in record.sources
        ],
        face_count=record.face_count,
        undone=record.undone,
        undoes=names.lineage_name(gallery_id, record.undoes) if record.undoes >= 0 else "",
    )


def clustering(gallery_id: str, record: ClusteringRecord) -> clusters_pb2.Clustering:
    """The result of a clustering run."""
    return clusters_pb2.Clustering(
        name=names.clustering_name(gallery_id, record.id),
        create_time=timestamp(record.create_time_us),
        face_count=record.face_count,
        cluster_count=record.cluster_count,
        single_count=record.single_count,
        threshold=record.threshold,
        method=record.method,
        gallery_generation=record.generation,
        scope=next(wire for wire, known in _SCOPES.items() if known == record.scope),
        filter=record.filter,
        base=names.clustering_name(gallery_id, record.base) if record.base else "",
        edit_count=record.edit_count,
    )


def masked(paths: Iterable[str], known: tuple[str, ...]) -> set[str]:
    """The fields an update mask names.

    Raises:
        InvalidArgumentError: It is empty or names a field that cannot be changed.
    """
    chosen = set(paths)
    if not chosen:
        raise InvalidArgumentError("update_mask is empty", {"field": "update_mask"})
    if chosen == {"*"}:
        return set(known)
    if unknown := chosen - set(known):
        raise InvalidArgumentError(
            f"update_mask names {', '.join(sorted(unknown))[:200]}; "
            f"what can be changed is {', '.join(known)}",
            {"field": "update_mask"},
        )
    return chosen
