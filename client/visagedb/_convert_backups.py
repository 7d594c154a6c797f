"""Backups and integrity reports from protobuf to frozen values. Pure functions."""

from typing import Final

from visagedb import _backups as backups
from visagedb._convert_faces import model_identity
from visagedb._moments import moment
from visagedb._names import segment
from visagedb._values import InvariantKind
from visagedb.v1 import backups_pb2, integrity_pb2

_KINDS: Final = {
    integrity_pb2.INVARIANT_KIND_DERIVED: InvariantKind.DERIVED,
    integrity_pb2.INVARIANT_KIND_PRIMARY: InvariantKind.PRIMARY,
}


def backup(message: backups_pb2.Backup) -> backups.Backup:
    """What was written at one moment."""
    return backups.Backup(
        id=message.backup_id,
        create_time=moment(message.create_time),
        complete=message.complete,
        galleries=tuple(_gallery(gallery) for gallery in message.galleries),
        size_bytes=message.size_bytes,
    )


def _gallery(message: backups_pb2.BackedUpGallery) -> backups.BackedUpGallery:
    return backups.BackedUpGallery(
        gallery=message.gallery_id,
        model=model_identity(message.model),
        identity_count=message.identity_count,
        face_count=message.face_count,
        generation=message.generation,
        size_bytes=message.size_bytes,
        broken_invariants=tuple(message.broken_invariants),
    )


def restored(message: backups_pb2.RestoreResult) -> backups.RestoredGallery:
    """A gallery made of one in a backup."""
    return backups.RestoredGallery(
        name=message.gallery,
        identity_count=message.identity_count,
        face_count=message.face_count,
        replaced=message.replaced,
    )


def report(message: integrity_pb2.IntegrityReport) -> backups.IntegrityReport:
    """The outcome of a check."""
    return backups.IntegrityReport(
        gallery=segment(message.gallery, "galleries"),
        ok=message.ok,
        results=tuple(_result(result) for result in message.results),
        duration_seconds=message.duration_seconds,
        repairs=tuple(message.repairs),
        dropped=tuple(_finding(finding) for finding in message.dropped),
    )


def _result(message: integrity_pb2.IntegrityResult) -> backups.IntegrityResult:
    return backups.IntegrityResult(
        invariant=message.invariant,
        statement=message.statement,
        kind=_KINDS.get(message.kind, InvariantKind.UNKNOWN),
        broken_count=message.broken_count,
        findings=tuple(_finding(finding) for finding in message.findings),
    )


def _finding(message: integrity_pb2.IntegrityFinding) -> backups.IntegrityFinding:
    return backups.IntegrityFinding(message.message, message.identity, message.face)
