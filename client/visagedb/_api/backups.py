"""Methods about checks of what is stored, backups, and their return."""

from visagedb import _convert as convert
from visagedb import _convert_backups as convert_backups
from visagedb._backups import Backup, IntegrityReport, RestoredGallery
from visagedb._call import Call, Page, Pages, Started, call
from visagedb._inputs import new_request_id
from visagedb._names import gallery_name
from visagedb.v1 import backups_pb2, galleries_pb2


def verify_integrity(
    gallery: str,
    *,
    repair: bool = False,
    drop_damaged: bool = False,
    timeout: float | None = None,
) -> Started[IntegrityReport]:
    """Starts to prove that what is stored of a gallery is what it should be.

    Args:
        gallery: Id of the gallery.
        repair: Make anew what is derived, where something is wrong. The gallery is not
            available meanwhile.
        drop_damaged: With `repair`: also drop the identities and faces that are damaged.
        timeout: Seconds to start it; None means the client's default.

    Returns:
        A handle on the operation, whose result is an `IntegrityReport`.

    Raises:
        GalleryNotFoundError: There is none of this id.
        StorageCorruptError: By the result: the gallery cannot be read; restore a backup.
    """
    request = galleries_pb2.VerifyGalleryIntegrityRequest(
        name=gallery_name(gallery),
        repair=repair,
        drop_damaged=drop_damaged,
        request_id=new_request_id(),
    )
    return Started(
        call(
            "GalleryService/VerifyGalleryIntegrity",
            request,
            galleries_pb2.VerifyGalleryIntegrityResponse,
            lambda answer: convert.operation_status(answer.operation),
            timeout,
        )
    )


def snapshot_gallery(
    gallery: str, *, backup: str = "", timeout: float | None = None
) -> Started[Backup]:
    """Starts to write a backup of a gallery on the server, while it is in use.

    Args:
        gallery: Id of the gallery.
        backup: Name of the backup; empty for one made of the gallery and the time.
        timeout: Seconds to start it; None means the client's default.

    Returns:
        A handle on the operation, whose result is a `Backup`.

    Raises:
        FailedPreconditionError: The server has no folder for backups.
        BackupExistsError: By the result: there is one of this name.
        StorageFullError: By the result: there is no room; nothing is left.
    """
    request = galleries_pb2.SnapshotGalleryRequest(
        name=gallery_name(gallery), snapshot_id=backup, request_id=new_request_id()
    )
    return Started(
        call(
            "GalleryService/SnapshotGallery",
            request,
            galleries_pb2.SnapshotGalleryResponse,
            lambda answer: convert.operation_status(answer.operation),
            timeout,
        )
    )


def create_backup(backup: str = "", *, timeout: float | None = None) -> Started[Backup]:
    """Starts to write a backup of the whole server, while it is in use.

    Args:
        backup: Its name; empty for one made of the time.
        timeout: Seconds to start it; None means the client's default.

    Returns:
        A handle on the operation, whose result is a `Backup`.

    Raises:
        FailedPreconditionError: The server has no folder for backups.
        BackupExistsError: By the result: there is one of this name.
        StorageFullError: By the result: there is no room; nothing is left.
    """
    return Started(
        call(
            "BackupService/CreateBackup",
            backups_pb2.CreateBackupRequest(backup_id=backup, request_id=new_request_id()),
            backups_pb2.CreateBackupResponse,
            lambda answer: convert.operation_status(answer.operation),
            timeout,
        )
    )


def list_backups(*, page_size: int = 0, timeout: float | None = None) -> Pages[Backup]:
    """The backups in the server's folder, oldest first, read page by page.

    Args:
        page_size: Backups per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.

    Raises:
        FailedPreconditionError: The server has no folder for backups.
    """

    def page(token: str) -> Call[Page[Backup]]:
        return call(
            "BackupService/ListBackups",
            backups_pb2.ListBackupsRequest(page_size=page_size, page_token=token),
            backups_pb2.ListBackupsResponse,
            lambda answer: Page(
                tuple(convert_backups.backup(one) for one in answer.backups),
                answer.next_page_token,
            ),
            timeout,
        )

    return Pages(page)


def restore_gallery(
    backup: Backup | str,
    *,
    source: str = "",
    gallery: str = "",
    replace_existing: bool = False,
    timeout: float | None = None,
) -> Started[RestoredGallery]:
    """Starts to make a gallery of one in a backup.

    Args:
        backup: The backup, or its name.
        source: Id of the gallery in it; may be left out where it has one only.
        gallery: Id of the gallery to make; empty for the id that it had.
        replace_existing: Let it take the place of a gallery of this id, which is then deleted.
        timeout: Seconds to start it; None means the client's default.

    Returns:
        A handle on the operation, whose result is a `RestoredGallery`.

    Raises:
        BackupNotFoundError: There is none of this name.
        GalleryExistsError: By the result: there is a gallery of this id.
        ModelMismatchError: By the result: the gallery to be replaced has another model.
        StorageCorruptError: The backup is damaged.
        FormatTooNewError: A newer release has written it.
    """
    request = backups_pb2.RestoreGalleryRequest(
        backup_id=backup.id if isinstance(backup, Backup) else backup,
        source_gallery_id=source,
        gallery_id=gallery,
        replace_existing=replace_existing,
        request_id=new_request_id(),
    )
    return Started(
        call(
            "BackupService/RestoreGallery",
            request,
            backups_pb2.RestoreGalleryResponse,
            lambda answer: convert.operation_status(answer.operation),
            timeout,
        )
    )
