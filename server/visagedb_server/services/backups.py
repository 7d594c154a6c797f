"""BackupService."""

import grpc

from visagedb.v1 import backups_pb2, backups_pb2_grpc
from visagedb_server import convert_backup, paging
from visagedb_server.services.upkeep import Upkeep


class BackupService(backups_pb2_grpc.BackupServiceServicer):
    """Backups of the whole server, and the return of galleries."""

    def __init__(self, upkeep: Upkeep) -> None:
        self._upkeep = upkeep

    def CreateBackup(  # noqa: N802
        self, request: backups_pb2.CreateBackupRequest, context: grpc.ServicerContext
    ) -> backups_pb2.CreateBackupResponse:
        """Starts a backup of all galleries and the catalogue."""
        return backups_pb2.CreateBackupResponse(operation=self._upkeep.back_up(request))

    def ListBackups(  # noqa: N802
        self, request: backups_pb2.ListBackupsRequest, context: grpc.ServicerContext
    ) -> backups_pb2.ListBackupsResponse:
        """The backups in the folder, oldest first."""
        size = paging.page_size(request.page_size)
        start = paging.read_number(request.page_token, "backups") + 1
        found = self._upkeep.backups.manifests()[start:]
        page, more = paging.cut_page(
            [convert_backup.backup(manifest) for manifest in found[: size + 1]], size
        )
        return backups_pb2.ListBackupsResponse(
            backups=page,
            next_page_token=(paging.token_after(start + len(page) - 1, "backups") if more else ""),
        )

    def RestoreGallery(  # noqa: N802
        self, request: backups_pb2.RestoreGalleryRequest, context: grpc.ServicerContext
    ) -> backups_pb2.RestoreGalleryResponse:
        """Starts the return of a gallery."""
        return backups_pb2.RestoreGalleryResponse(operation=self._upkeep.restore(request))
