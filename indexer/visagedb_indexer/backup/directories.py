"""Backups of data directories that no server uses, and their return."""

import shutil
from contextlib import ExitStack
from pathlib import Path

from visagedb_indexer.backup.copying import disk_errors, fetch, sync_folder
from visagedb_indexer.backup.folder import BackupFolder, Meter, Progress
from visagedb_indexer.backup.manifest import Manifest
from visagedb_indexer.errors import FailedPreconditionError, InvalidArgumentError
from visagedb_indexer.failpoints import reached
from visagedb_indexer.store import Catalogue, DataDirectory, GalleryStore


def back_up_directory(
    data: Path, folder: BackupFolder, backup_id: str, progress: Progress
) -> Manifest:
    """Writes a backup of a data directory that no server uses; see `BackupFolder.write`.

    Raises:
        DataDirectoryLockedError: A server is running on it; ask that server.
        StorageCorruptError: It is damaged; nothing is written.
    """
    with ExitStack() as stack:
        directory = DataDirectory(data, create=False)
        stack.callback(directory.close)
        catalogue = Catalogue(directory.catalogue)
        stack.callback(catalogue.close)
        environments = {}
        for uid in catalogue.galleries().values():
            store = GalleryStore(directory.gallery(uid))
            stack.callback(store.close)
            environments[uid] = store.environment
        return folder.write(
            backup_id, environments, catalogue.environment, progress, directory.other_files()
        )


def restore_directory(
    folder: BackupFolder, backup_id: str, data: Path, progress: Progress
) -> Manifest:
    """Makes a data directory of a backup of one.

    Args:
        folder: Where the backups are.
        backup_id: The backup.
        data: The data directory to make; must not be there, or be empty.
        progress: Told how far it is.

    Raises:
        BackupNotFoundError: There is no such backup.
        InvalidArgumentError: It is of single galleries only.
        FailedPreconditionError: There is something in the data directory.
        StorageCorruptError: The backup is damaged.
        FormatTooNewError: A newer release has written it.
        StorageFullError: There is no room. Then, as always, nothing is left.
    """
    manifest = folder.manifest(backup_id)
    if manifest.catalogue is None:
        raise InvalidArgumentError(
            f"the backup {backup_id!r} is of a single gallery; restore that into a server",
            {"field": "backup_id"},
        )
    with disk_errors("the data directory cannot be restored"):
        if data.exists() and any(data.iterdir()):
            raise FailedPreconditionError(f"{data} is not empty; give another directory")
        data.parent.mkdir(parents=True, exist_ok=True)
        aside = data.parent / f".{data.name}.new"
        if aside.exists():
            shutil.rmtree(aside)
        aside.mkdir(mode=0o700)
        try:
            _fill(folder.root / backup_id, manifest, aside, progress)
            reached("restore.before_directory_rename")
            aside.rename(data)
            reached("restore.after_directory_rename")
            sync_folder(data.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return manifest


def _fill(root: Path, manifest: Manifest, aside: Path, progress: Progress) -> None:
    meter = Meter(manifest.size_bytes, progress, "copying")
    assert manifest.catalogue is not None
    (aside / "galleries").mkdir(mode=0o700)
    for file in (
        manifest.catalogue,
        *manifest.files,
        *(gallery.file for gallery in manifest.galleries),
    ):
        target = aside / file.path
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        reached("restore.before_file")
        fetch(root, file, target, meter.watch)
    catalogue = Catalogue(aside / "catalogue")
    try:
        # Galleries that were made or deleted while the backup was written.
        for gallery_id in set(catalogue.galleries()) - {one.id for one in manifest.galleries}:
            catalogue.remove_gallery(gallery_id)
    finally:
        catalogue.close()
