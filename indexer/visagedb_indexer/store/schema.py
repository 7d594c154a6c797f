"""The storage format: every sub-database, its keys, and the version it exists since.

Numbers in keys are big-endian, so that LMDB's order of bytes is the order of numbers.
A face has an *ordinal*, counted up from zero and never used twice; an identity has a
*number*, likewise. They are internal; callers see ids.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from visagedb_indexer.errors import StorageCorruptError

FORMAT_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class SubDatabase:
    """One LMDB sub-database."""

    name: bytes
    since: int
    holds: str


META: Final = SubDatabase(b"meta", 1, "b'format' -> u32; b'counters', b'gallery' -> records")
IDENTITIES: Final = SubDatabase(b"identities", 1, "identity number -> IdentityRecord")
IDENTITY_IDS: Final = SubDatabase(b"identity_ids", 1, "identity id -> identity number")
FACES: Final = SubDatabase(b"faces", 1, "identity number, ordinal -> FaceRecord")
FACE_IDS: Final = SubDatabase(b"face_ids", 1, "identity number, face id -> ordinal")
CONTENTS: Final = SubDatabase(b"contents", 1, "identity number, sha256 -> ordinals")
LABELS: Final = SubDatabase(b"labels", 1, "label key, 0, value, 0, identity number -> empty")
REQUESTS: Final = SubDatabase(b"requests", 1, "request id -> RequestRecord")
REQUEST_TIMES: Final = SubDatabase(b"request_times", 1, "microseconds, request id -> empty")
VECTORS: Final = SubDatabase(b"vectors", 1, "block -> rows of little-endian float32 by ordinal")
OWNERS: Final = SubDatabase(b"owners", 1, "block -> identity numbers (int32) by ordinal, or -1")
VECTOR_CHECKSUMS: Final = SubDatabase(
    b"vector_checksums", 1, "block -> checksums of the vectors (u32) by ordinal, or 0"
)
CLUSTERINGS: Final = SubDatabase(b"clusterings", 1, "clustering id -> ClusteringRecord")
CLUSTERS: Final = SubDatabase(b"clusters", 1, "clustering id, 0, rank -> ClusterRecord")
AUDITS: Final = SubDatabase(b"audits", 1, "audit id -> AuditRecord")
FINDINGS: Final = SubDatabase(b"findings", 1, "audit id, 0, rank -> FindingRecord")
CALIBRATIONS: Final = SubDatabase(b"calibrations", 1, "calibration version -> Calibration")
CLUSTER_EDITS: Final = SubDatabase(b"cluster_edits", 1, "clustering id, 0, edit -> ClusterEdit")
LOOSE_CONTENTS: Final = SubDatabase(b"loose_contents", 1, "sha256, ordinal -> empty")
LINEAGE: Final = SubDatabase(b"lineage", 1, "lineage number -> LineageRecord")
LINEAGE_OF: Final = SubDatabase(b"lineage_of", 1, "identity number, lineage number -> empty")
QUARANTINE: Final = SubDatabase(b"quarantine", 1, "quarantine number -> QuarantineRecord")
QUARANTINE_VECTORS: Final = SubDatabase(
    b"quarantine_vectors", 1, "quarantine number -> the vector, little-endian float32"
)
QUARANTINE_CONTENTS: Final = SubDatabase(
    b"quarantine_contents", 1, "identity id, 0, sha256, quarantine number -> empty"
)
IMPORTS: Final = SubDatabase(b"imports", 1, "import id -> ImportRecord")
IMPORT_FAILURES: Final = SubDatabase(b"import_failures", 1, "import id, 0, number -> ImportFailure")
ERASURES: Final = SubDatabase(b"erasures", 1, "erasure id -> ErasureRecord")
ERASURES_PENDING: Final = SubDatabase(b"erasures_pending", 1, "erasure id -> empty")
EXPIRIES: Final = SubDatabase(b"expiries", 1, "microseconds, identity number -> empty")

GALLERY_DATABASES: Final = (
    META, IDENTITIES, IDENTITY_IDS, FACES, FACE_IDS, CONTENTS, LABELS, REQUESTS, REQUEST_TIMES,
    VECTORS, VECTOR_CHECKSUMS, OWNERS,
    CLUSTERINGS, CLUSTERS, CLUSTER_EDITS, LOOSE_CONTENTS, LINEAGE, LINEAGE_OF,
    CALIBRATIONS,
    AUDITS, FINDINGS, IMPORTS, IMPORT_FAILURES,
    QUARANTINE, QUARANTINE_VECTORS, QUARANTINE_CONTENTS,
    ERASURES, ERASURES_PENDING, EXPIRIES,
)  # fmt: skip

GALLERIES: Final = SubDatabase(b"galleries", 1, "gallery id -> uid, the name of its folder")
OPERATIONS: Final = SubDatabase(b"operations", 1, "operation id -> OperationRecord")
API_KEYS: Final = SubDatabase(b"api_keys", 1, "API key id -> ApiKeyRecord")

CATALOGUE_DATABASES: Final = (
    META, GALLERIES, OPERATIONS, API_KEYS, REQUESTS, REQUEST_TIMES, ERASURES,
)  # fmt: skip

FORMAT_KEY: Final = b"format"
COUNTERS_KEY: Final = b"counters"
GALLERY_KEY: Final = b"gallery"
CLOCK_KEY: Final = b"clock"

LOOSE_NUMBER: Final = 2**31 - 1
"""Stands for no identity: the number under which loose faces are kept. No identity has it."""

_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_U32_U64 = struct.Struct(">IQ")


def u32(value: int) -> bytes:
    """Four bytes, big-endian."""
    return _U32.pack(value)


def u64(value: int) -> bytes:
    """Eight bytes, big-endian."""
    return _U64.pack(value)


def read_u32(data: bytes) -> int:
    """Inverse of `u32`."""
    return _unpacked(_U32, data)[0]


def read_u64(data: bytes) -> int:
    """Inverse of `u64`."""
    return _unpacked(_U64, data)[0]


def u64s(values: Iterable[int]) -> bytes:
    """Numbers of eight bytes each, one behind the other."""
    return b"".join(map(u64, values))


def read_u64s(data: bytes) -> list[int]:
    """Inverse of `u64s`."""
    return [read_u64(data[place : place + 8]) for place in range(0, len(data), 8)]


def face_key(number: int, ordinal: int) -> bytes:
    """Key of a face; the faces of one identity are neighbours, oldest first."""
    return _U32_U64.pack(number, ordinal)


def read_face_key(key: bytes) -> tuple[int, int]:
    """Inverse of `face_key`."""
    number, ordinal = _unpacked(_U32_U64, key)
    return number, ordinal


def _unpacked(form: struct.Struct, data: bytes) -> tuple[int, ...]:
    try:
        return form.unpack(data)
    except struct.error as error:
        raise StorageCorruptError(f"a stored number cannot be read: {error}") from error


def label_key(key: str, value: str, number: int) -> bytes:
    """Key of one label of one identity; keys and values hold no zero byte."""
    return label_prefix(key, value) + u32(number)


def label_prefix(key: str, value: str | None = None) -> bytes:
    """What the keys of all identities with this label (and value) begin with."""
    prefix = key.encode() + b"\0"
    return prefix if value is None else prefix + value.encode() + b"\0"


def expiry_key(time_us: int, number: int) -> bytes:
    """Key by which identities are found that expire; times before 1970 count as 1970."""
    return u64(max(0, time_us)) + u32(number)


def request_time_key(time_us: int, request_id: str) -> bytes:
    """Key by which old request ids are found."""
    return u64(time_us) + request_id.encode()


def cluster_key(clustering_id: str, rank: int) -> bytes:
    """Key of one cluster of a clustering, largest first."""
    return clustering_id.encode() + b"\0" + u32(rank)


def quarantine_content_prefix(identity_id: str, sha256: bytes = b"") -> bytes:
    """What the keys of quarantined faces meant for an identity begin with."""
    return identity_id.encode() + b"\0" + sha256


def quarantine_content_key(identity_id: str, sha256: bytes, number: int) -> bytes:
    """Key by which a face in quarantine is found."""
    return quarantine_content_prefix(identity_id, sha256) + u64(number)
