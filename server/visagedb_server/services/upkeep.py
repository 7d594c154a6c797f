"""Checks, repairs and backups of galleries, as operations."""

from google.longrunning import operations_pb2

from visagedb.v1 import backups_pb2, galleries_pb2, integrity_pb2
from visagedb_indexer.backup import (
    BackupFolder,
    back_up_all,
    back_up_gallery,
    check_backup_id,
    new_backup_id,
    restore_gallery,
)
from visagedb_indexer.clock import now_us
from visagedb_indexer.database import Database
from visagedb_indexer.errors import FailedPreconditionError, InvalidArgumentError
from visagedb_indexer.validation import check_id
from visagedb_server import convert, convert_backup, names
from visagedb_server.operations import Job, Operations


class Upkeep:
    """Starts the operations that check, repair, back up and restore.

    Args:
        database: The server's.
        operations: Likewise.
        backups: The folder of backups; None if the operator has opened none.
    """

    def __init__(
        self, database: Database, operations: Operations, backups: BackupFolder | None
    ) -> None:
        self._database = database
        self._operations = operations
        self._backups = backups

    @property
    def backups(self) -> BackupFolder:
        """The folder of backups.

        Raises:
            FailedPreconditionError: The operator has opened none.
        """
        if self._backups is None:
            raise FailedPreconditionError(
                "this server has no folder for backups; start it with --backup-root FOLDER"
            )
        return self._backups

    def verify(
        self, request: galleries_pb2.VerifyGalleryIntegrityRequest
    ) -> operations_pb2.Operation:
        """Starts a check of a gallery, or a repair."""
        gallery_id = names.parse_gallery(request.name)
        if request.drop_damaged and not request.repair:
            raise InvalidArgumentError("drop_damaged goes with repair", {"field": "drop_damaged"})
        if gallery_id not in self._database.damaged():
            self._database.gallery(gallery_id)
        metadata = integrity_pb2.VerifyGalleryIntegrityMetadata(
            gallery=request.name, create_time=convert.timestamp(now_us()), stage="waiting"
        )

        def work(job: Job) -> integrity_pb2.IntegrityReport:
            def progress(done: float, stage: str) -> None:
                metadata.progress, metadata.stage = done, stage
                job.report(metadata)

            if request.repair:
                report = self._database.repair_gallery(
                    gallery_id, progress, drop_damaged=request.drop_damaged
                )
            else:
                report = self._database.gallery(gallery_id).upkeep.verify(progress)
            progress(1.0, "done")
            return convert_backup.report(gallery_id, report)

        return self._operations.start("verify", request, metadata, work)

    def snapshot(self, request: galleries_pb2.SnapshotGalleryRequest) -> operations_pb2.Operation:
        """Starts a backup of a gallery."""
        gallery_id = names.parse_gallery(request.name)
        self._database.gallery(gallery_id)
        backup_id = check_backup_id(request.snapshot_id or new_backup_id(gallery_id))
        folder = self.backups
        metadata = _metadata(request.name)

        def work(job: Job) -> backups_pb2.Backup:
            progress = _Progress(job, metadata)
            return convert_backup.backup(
                back_up_gallery(self._database, folder, gallery_id, backup_id, progress)
            )

        return self._operations.start("backup", request, metadata, work)

    def back_up(self, request: backups_pb2.CreateBackupRequest) -> operations_pb2.Operation:
        """Starts a backup of everything."""
        backup_id = check_backup_id(request.backup_id or new_backup_id())
        folder = self.backups
        metadata = _metadata("")

        def work(job: Job) -> backups_pb2.Backup:
            progress = _Progress(job, metadata)
            return convert_backup.backup(back_up_all(self._database, folder, backup_id, progress))

        return self._operations.start("backup_all", request, metadata, work)

    def restore(self, request: backups_pb2.RestoreGalleryRequest) -> operations_pb2.Operation:
        """Starts the return of a gallery."""
        folder = self.backups
        source = folder.gallery(request.backup_id, request.source_gallery_id)
        gallery_id = request.gallery_id or source.id
        check_id(gallery_id, "gallery")
        metadata = _metadata(names.gallery_name(gallery_id))

        def work(job: Job) -> backups_pb2.RestoreResult:
            gallery, replaced = restore_gallery(
                self._database,
                folder,
                request.backup_id,
                source.id,
                gallery_id,
                _Progress(job, metadata),
                replace_existing=request.replace_existing,
            )
            counters = gallery.counters
            return backups_pb2.RestoreResult(
                gallery=names.gallery_name(gallery_id),
                identity_count=counters.identity_count,
                face_count=counters.face_count,
                replaced=replaced,
            )

        return self._operations.start("restore", request, metadata, work)


def _metadata(gallery: str) -> backups_pb2.BackupMetadata:
    return backups_pb2.BackupMetadata(
        gallery=gallery, create_time=convert.timestamp(now_us()), stage="waiting"
    )


class _Progress:
    """Reports how far a backup or a restore is, and stops it when it is cancelled."""

    def __init__(self, job: Job, metadata: backups_pb2.BackupMetadata) -> None:
        self._job = job
        self._metadata = metadata

    def __call__(self, done: float, stage: str) -> None:
        self._metadata.progress, self._metadata.stage = done, stage
        self._job.report(self._metadata)
