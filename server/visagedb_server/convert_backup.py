"""Backups and reports of integrity as messages. Pure functions."""

from typing import Final

from visagedb.v1 import backups_pb2, integrity_pb2
from visagedb_indexer.backup import BackedUpGallery, Manifest
from visagedb_indexer.integrity import Finding, Kind, Report, Result
from visagedb_server import convert, names

_KINDS: Final = {
    Kind.DERIVED: integrity_pb2.INVARIANT_KIND_DERIVED,
    Kind.PRIMARY: integrity_pb2.INVARIANT_KIND_PRIMARY,
}


def backup(manifest: Manifest) -> backups_pb2.Backup:
    """What a backup consists of."""
    return backups_pb2.Backup(
        backup_id=manifest.id,
        create_time=convert.timestamp(manifest.create_time_us),
        complete=manifest.catalogue is not None,
        galleries=[_gallery(gallery) for gallery in manifest.galleries],
        size_bytes=manifest.size_bytes,
    )


def _gallery(gallery: BackedUpGallery) -> backups_pb2.BackedUpGallery:
    return backups_pb2.BackedUpGallery(
        gallery_id=gallery.id,
        model=convert.model(gallery.model),
        identity_count=gallery.identity_count,
        face_count=gallery.face_count,
        generation=gallery.generation,
        size_bytes=gallery.file.size_bytes,
        broken_invariants=gallery.broken_invariants,
    )


def report(gallery_id: str, found: Report) -> integrity_pb2.IntegrityReport:
    """The outcome of a check."""
    return integrity_pb2.IntegrityReport(
        gallery=names.gallery_name(gallery_id),
        ok=found.ok,
        results=[_result(gallery_id, result) for result in found.results],
        duration_seconds=found.seconds,
        repairs=found.repairs,
        dropped=[_finding(gallery_id, finding) for finding in found.dropped],
    )


def _result(gallery_id: str, result: Result) -> integrity_pb2.IntegrityResult:
    return integrity_pb2.IntegrityResult(
        invariant=result.invariant,
        statement=result.statement,
        kind=_KINDS[result.kind],
        broken_count=result.broken_count,
        findings=[_finding(gallery_id, finding) for finding in result.findings],
    )


def _finding(gallery_id: str, finding: Finding) -> integrity_pb2.IntegrityFinding:
    identity, face = finding.identity, finding.face
    return integrity_pb2.IntegrityFinding(
        message=finding.message,
        identity=names.identity_name(gallery_id, identity) if identity else "",
        face=names.face_name(gallery_id, identity, face) if face else "",
    )
