"""Records: each can be read, lies under its own key, and speaks of what exists."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from visagedb_indexer.calibration.values import Calibration
from visagedb_indexer.errors import StorageCorruptError
from visagedb_indexer.integrity.facts import Facts
from visagedb_indexer.integrity.values import Finding
from visagedb_indexer.store import (
    AuditRecord,
    ClusterEdit,
    ClusteringRecord,
    ClusterRecord,
    ErasureRecord,
    FaceRecord,
    FindingRecord,
    IdentityRecord,
    LineageRecord,
    QuarantineRecord,
    schema,
)
from visagedb_indexer.store.imports import ImportFailure, ImportRecord
from visagedb_indexer.store.records import RequestRecord, decode
from visagedb_indexer.store.schema import SubDatabase


@dataclass(frozen=True, slots=True)
class RecordTable:
    """A sub-database of records.

    Attributes:
        database: Which.
        kind: Class of its records.
        holds: What one of them is, in words.
    """

    database: SubDatabase
    kind: type[Any]
    holds: str

    @property
    def statement(self) -> str:
        """What should be true of it."""
        return f"every {self.holds} can be read and is what was written"

    def check(self, facts: Facts) -> Iterator[Finding]:
        """The records that cannot be used."""
        for key, data in facts.items(self.database):
            problem = self.problem(facts, key, data)
            if problem:
                yield self._finding(facts, key, f"a {self.holds} {problem}")

    def problem(self, facts: Facts, key: bytes, data: bytes) -> str:
        """What is wrong with one record; empty if nothing."""
        try:
            record = decode(data, self.kind)
        except StorageCorruptError:
            return "cannot be read"
        if isinstance(record, IdentityRecord):
            return "" if key == schema.u32(record.number) else "lies under another number"
        if isinstance(record, FaceRecord):
            return _face_problem(facts, key, record)
        if isinstance(record, LineageRecord):
            return "" if key == schema.u64(record.number) else "lies under another number"
        if isinstance(record, Calibration):
            return "" if key == schema.u32(record.version) else "lies under another version"
        if isinstance(record, QuarantineRecord):
            return _quarantine_problem(facts, key, record)
        if self.database is schema.QUARANTINE_VECTORS:
            known = facts.tables.get(schema.QUARANTINE, key) is not None
            return "" if known else "belongs to no face"
        if isinstance(record, ClusterRecord):
            return _cluster_problem(facts, record)
        return ""

    def _finding(self, facts: Facts, key: bytes, message: str) -> Finding:
        if self.database is schema.IDENTITIES and len(key) == 4:
            return facts.about(message, schema.read_u32(key))
        if self.database is schema.FACES and len(key) == 12:
            number, ordinal = schema.read_face_key(key)
            return facts.about(message, number, ordinal)
        return Finding(f"{message} (key {key[:64]!r})")


def _face_problem(facts: Facts, key: bytes, face: FaceRecord) -> str:
    number = int.from_bytes(key[:4], "big")
    if key != schema.face_key(number, face.ordinal):
        return "lies under another ordinal"
    if face.ordinal >= facts.capacity:
        return "has no vector"
    if not facts.known(number):
        return "belongs to an identity that does not exist"
    if int(facts.owners[face.ordinal]) != number:
        return "belongs to two identities"
    return ""


def _quarantine_problem(facts: Facts, key: bytes, record: QuarantineRecord) -> str:
    if key != schema.u64(record.number):
        return "lies under another number"
    return "" if facts.tables.get(schema.QUARANTINE_VECTORS, key) is not None else "has no vector"


def _cluster_problem(facts: Facts, cluster: ClusterRecord) -> str:
    if len(cluster.ordinals) != 2 * len(cluster.centralities) or len(cluster.ordinals) % 8:
        return "has members without a centrality"
    ordinals = np.frombuffer(cluster.ordinals, "<i8")
    if len(ordinals) and not (ordinals.min() >= 0 and ordinals.max() < facts.capacity):
        return "has members that never existed"
    return ""


IDENTITIES: Final = RecordTable(schema.IDENTITIES, IdentityRecord, "identity")
FACES: Final = RecordTable(schema.FACES, FaceRecord, "face")
RESULTS: Final = (
    RecordTable(schema.REQUESTS, RequestRecord, "kept answer"),
    RecordTable(schema.CLUSTERINGS, ClusteringRecord, "clustering"),
    RecordTable(schema.CLUSTERS, ClusterRecord, "cluster"),
    RecordTable(schema.CLUSTER_EDITS, ClusterEdit, "edit of a clustering"),
    RecordTable(schema.LINEAGE, LineageRecord, "lineage entry"),
    RecordTable(schema.CALIBRATIONS, Calibration, "calibration"),
    RecordTable(schema.AUDITS, AuditRecord, "audit"),
    RecordTable(schema.FINDINGS, FindingRecord, "finding of an audit"),
    RecordTable(schema.IMPORTS, ImportRecord, "import"),
    RecordTable(schema.IMPORT_FAILURES, ImportFailure, "failure of an import"),
    RecordTable(schema.QUARANTINE, QuarantineRecord, "face in quarantine"),
    RecordTable(schema.ERASURES, ErasureRecord, "receipt of an erasure"),
    RecordTable(schema.QUARANTINE_VECTORS, bytes, "vector in quarantine"),
)
