"""Backups of an open database, and the return of galleries into it."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from visagedb_indexer.backup.folder import BackupFolder, Progress
from visagedb_indexer.backup.manifest import Manifest
from visagedb_indexer.database import Database
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.values import ModelIdentity


def new_backup_id(gallery_id: str = "") -> str:
    """A name for a backup: what it is of, and the time (UTC)."""
    return f"{gallery_id or 'all'}-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"[-128:]


def back_up_gallery(
    database: Database, folder: BackupFolder, gallery_id: str, backup_id: str, progress: Progress
) -> Manifest:
    """Writes a backup of one gallery while it is in use; see `BackupFolder.write`.

    Raises:
        GalleryNotFoundError: There is none of this id.
        StorageCorruptError: It is damaged.
    """
    gallery = database.gallery(gallery_id)
    environments = {gallery.record.uid: gallery.upkeep.environment}
    return folder.write(backup_id, environments, None, progress)


def back_up_all(
    database: Database, folder: BackupFolder, backup_id: str, progress: Progress
) -> Manifest:
    """Writes a backup of all galleries and of the catalogue while they are in use.

    Raises:
        StorageCorruptError: A gallery is damaged; nothing is written.
    """
    for problem in database.damaged().values():
        raise problem
    environments = {one.record.uid: one.upkeep.environment for one in database.galleries()}
    return folder.write(
        backup_id, environments, database.catalogue.environment, progress, database.other_files()
    )


def restore_gallery(
    database: Database,
    folder: BackupFolder,
    backup_id: str,
    source_id: str,
    gallery_id: str,
    progress: Progress,
    *,
    replace_existing: bool = False,
) -> tuple[Gallery, bool]:
    """Makes a gallery of one in a backup.

    Args:
        database: Where it is to be.
        folder: Where the backups are.
        backup_id: The backup.
        source_id: The gallery in it; may be empty where it has one only.
        gallery_id: The new one's id; empty for the one that it had.
        progress: Told how far it is.
        replace_existing: Let it take the place of a gallery of this id.

    Returns:
        The gallery, and whether it took the place of another one.

    Raises:
        BackupNotFoundError: There is no such backup.
        GalleryExistsError: There is a gallery of this id, and it may not be replaced.
        ModelMismatchError: It has another model.
        StorageCorruptError: The backup is damaged.
        FormatTooNewError: A newer release has written it.
        StorageFullError: There is no room. Then, as always, nothing has changed.
    """
    found = folder.gallery(backup_id, source_id)
    return database.adopt(
        gallery_id or found.id,
        _filler(folder, backup_id, found.id, progress),
        replace_existing=replace_existing,
    )


def _filler(
    folder: BackupFolder, backup_id: str, source_id: str, progress: Progress
) -> Callable[[Path], ModelIdentity]:
    return lambda path: folder.fetch_gallery(backup_id, source_id, path, progress).model
