"""What the database's values hold. Encoded as MessagePack maps with a checksum behind them.

A field may be added with a default in any release; old bytes then decode with the
default. Removing or changing a field takes a new format version and a migration.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from visagedb_indexer import limits
from visagedb_indexer.errors import StorageCorruptError
from visagedb_indexer.gate_values import GateFinding, GateSettings
from visagedb_indexer.store import checksums
from visagedb_indexer.values import (
    Box,
    ErasureCause,
    ErasureKind,
    FaceScope,
    FindingKind,
    Fusion,
    Landmarks,
    ModelIdentity,
    Quality,
    Quotas,
)

Record = TypeVar("Record")


@dataclass(frozen=True, slots=True)
class Counters:
    """Where a gallery stands.

    Attributes:
        next_ordinal: The ordinal of the next face.
        next_number: The number of the next identity.
        identity_count: Identities that exist.
        face_count: Faces that exist.
        generation: Committed changes of the content.
        loose_face_count: Those of the faces that belong to no identity.
        next_lineage: The number of the next entry of the lineage.
        next_quarantine: The number of the next face in quarantine.
    """

    next_ordinal: int = 0
    next_number: int = 0
    identity_count: int = 0
    face_count: int = 0
    generation: int = 0
    loose_face_count: int = 0
    next_lineage: int = 0
    next_quarantine: int = 0


@dataclass(frozen=True, slots=True)
class GalleryRecord:
    """The settings of a gallery. Times are microseconds since 1970."""

    id: str
    uid: str
    model: ModelIdentity
    create_time_us: int
    update_time_us: int
    flip_averaging: bool = False
    display_name: str = ""
    threshold: float | None = None
    revision: int = 1
    fusion: Fusion = Fusion.MAXIMUM
    mate_loss_bound: float = limits.MATE_LOSS_BOUND_DEFAULT
    gate: GateSettings = field(default_factory=GateSettings)
    quotas: Quotas = field(default_factory=Quotas)


@dataclass(frozen=True, slots=True)
class IdentityRecord:
    """A person."""

    id: str
    uid: str
    number: int
    create_time_us: int
    update_time_us: int
    display_name: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    expire_time_us: int | None = None
    face_count: int = 0
    revision: int = 1


@dataclass(frozen=True, slots=True)
class FaceRecord:
    """A face. Box and landmarks are None for a face that came as a vector."""

    id: str
    ordinal: int
    content_sha256: bytes
    create_time_us: int
    source: str = ""
    box: Box | None = None
    landmarks: Landmarks | None = None
    detection_score: float = 0.0
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class QuarantineRecord:
    """A face that the gallery's checks have set aside.

    Attributes:
        number: Of this entry, never used twice.
        identity_id: Whose it was to be; empty for a loose face.
        face: The face as it will be; its ordinal is -1.
        findings: Why it is here.
        founding: The identity that accepting it creates; None if it has to be there.
        mode: The enrolment's mode.
    """

    number: int
    identity_id: str
    face: FaceRecord
    findings: tuple[GateFinding, ...]
    founding: IdentityRecord | None = None
    mode: str = ""


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """The answer to a write that carried a request id."""

    time_us: int
    fingerprint: bytes
    answer: bytes


@dataclass(frozen=True, slots=True)
class OperationRecord:
    """A long-running operation.

    Attributes:
        metadata: A packed protobuf message; likewise `response` and `error`.
        request: What started it, for operations that go on after a restart.
        cancelled: Whether it was asked to stop.
        end_time_us: When it was done; 0 before.
        gallery: Id of the gallery that it is about; empty for the whole server.
    """

    id: str
    kind: str
    create_time_us: int
    done: bool = False
    metadata: bytes = b""
    response: bytes = b""
    error: bytes = b""
    request: bytes = b""
    cancelled: bool = False
    end_time_us: int = 0
    gallery: str = ""


@dataclass(frozen=True, slots=True)
class ClusteringRecord:
    """The result of one clustering run.

    Attributes:
        scope: Which faces were clustered.
        filter: Text of the label filter that they passed.
        base: Id of the clustering that this one went on from; empty for a full run.
        rank_count: Ranks given to clusters so far.
        edit_count: Joins and splits by hand that can be undone.
    """

    id: str
    create_time_us: int
    face_count: int
    cluster_count: int
    single_count: int
    threshold: float
    method: str
    generation: int
    scope: FaceScope = FaceScope.ALL
    filter: str = ""
    base: str = ""
    rank_count: int = 0
    edit_count: int = 0


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One audit of a gallery's labels.

    Attributes:
        finding_counts: By kind, the number of findings.
        floor: The cosine from which on two faces were near.
        filter: Text of the label filter.
        generation: Of the gallery's content.
    """

    id: str
    create_time_us: int
    face_count: int
    identity_count: int
    finding_counts: dict[FindingKind, int]
    floor: float
    filter: str
    generation: int


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """One finding; see `visagedb_indexer.gallery_audit.Finding`.

    Attributes:
        ordinal: Of the face.
        owner: Its identity number at that time.
        other_ordinal: Of the other face; -1 for none.
        other_owner: Its identity number at that time; -1 for none.
    """

    kind: FindingKind
    ordinal: int
    owner: int
    other_ordinal: int
    other_owner: int
    evidence: float
    probability: float
    score: float
    template_score: float
    support: int
    compared: int


@dataclass(frozen=True, slots=True)
class ClusterRecord:
    """One cluster, most central member first.

    Attributes:
        ordinals: Of the members, as packed little-endian int64.
        centralities: Cosine of each member to the centre, as packed float32.
        cohesion: Their mean.
        nearest: Rank of the nearest other cluster; -1 for none within sight.
        nearest_score: Cosine between the two centres.
    """

    ordinals: bytes
    centralities: bytes
    cohesion: float
    nearest: int = -1
    nearest_score: float = 0.0


@dataclass(frozen=True, slots=True)
class ClusterEdit:
    """What a join or split by hand has changed.

    Attributes:
        before: Rank and earlier record of each cluster; None for one that was not there.
        rank_count: The clustering's at that time.
    """

    before: tuple[tuple[int, ClusterRecord | None], ...]
    rank_count: int


@dataclass(frozen=True, slots=True)
class LineageSource:
    """Where some faces of a change came from.

    Attributes:
        number: The identity; `schema.LOOSE_NUMBER` for loose faces.
        id: Its id; empty for loose faces.
        ordinals: Of the faces, as packed little-endian int64.
        ended: The identity as it was, where the change ended it; else None.
    """

    number: int
    id: str
    ordinals: bytes
    ended: IdentityRecord | None = None


@dataclass(frozen=True, slots=True)
class LineageRecord:
    """One change of who some faces belong to, with what it takes to undo it.

    Attributes:
        number: Of this entry; -1 before it is stored.
        kind: ``move``, ``merge``, ``split`` or ``undo``.
        time_us: When.
        to_number: The identity that received the faces; `schema.LOOSE_NUMBER` for none.
        to_id: Its id; empty for none.
        founded: Whether the change created that identity.
        sources: Where the faces came from.
        face_count: How many there were.
        to_created: That identity as the change created it; None for one that was there.
        undone: Whether it has been undone.
        undoes: The entry that this one undid; -1 for none.
    """

    number: int
    kind: str
    time_us: int
    to_number: int
    to_id: str
    founded: bool
    sources: tuple[LineageSource, ...]
    face_count: int
    to_created: IdentityRecord | None = None
    undone: bool = False
    undoes: int = -1


@dataclass(frozen=True, slots=True)
class ErasureRecord:
    """The receipt of an erasure. Holds no template.

    Attributes:
        id: Begins with the time, so that ids are in its order.
        gallery_id: Of the gallery it happened in, or that it was.
        identity_id: Empty for a gallery and for a loose face.
        identity_uid: Of the identity or the gallery; empty for a loose face.
        face_id: Of a face that was erased alone.
        identity_count: Identities erased.
        face_count: Faces erased.
        content_digest: SHA-256 over the ascending digests of what the faces were made from.
        time_us: When it was deleted: from then on nothing returns it.
        generation: Of the gallery's content after it.
        expire_time_us: When it expired, if that was the cause.
        complete_time_us: When the compaction ended that left no byte of it; 0 before.
        overwritten: Whether that compaction has overwritten the old file.
    """

    id: str
    kind: ErasureKind
    cause: ErasureCause
    gallery_id: str
    time_us: int
    generation: int
    identity_id: str = ""
    identity_uid: str = ""
    face_id: str = ""
    identity_count: int = 0
    face_count: int = 0
    content_digest: bytes = b""
    expire_time_us: int | None = None
    complete_time_us: int = 0
    overwritten: bool = False


_DECODERS: dict[type, msgspec.msgpack.Decoder[Any]] = {}
_ENCODER = msgspec.msgpack.Encoder()


def encode(record: object) -> bytes:
    """A record as bytes."""
    return checksums.sealed(_ENCODER.encode(record))


def encode_all(records: Iterable[object]) -> list[bytes]:
    """Many records as bytes."""
    return checksums.sealed_all(map(_ENCODER.encode, records))


def decode(data: bytes | memoryview, kind: type[Record]) -> Record:
    """A record from its bytes.

    Raises:
        StorageCorruptError: They are not such a record, or not what was written.
    """
    body = checksums.unsealed(data)
    decoder = _DECODERS.get(kind)
    if decoder is None:
        decoder = _DECODERS[kind] = msgspec.msgpack.Decoder(kind)
    try:
        result: Record = decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise StorageCorruptError(f"a stored {kind.__name__} cannot be read: {error}") from error
    return result


def plain(data: bytes | memoryview) -> Any:
    """A record of any kind from its bytes, as maps and lists."""
    return msgspec.msgpack.decode(checksums.unsealed(data))
