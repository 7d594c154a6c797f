"""Backups: checked copies of galleries, written while they are in use, and their return."""

from visagedb_indexer.backup.directories import back_up_directory, restore_directory
from visagedb_indexer.backup.folder import BackupFolder
from visagedb_indexer.backup.manifest import BackedUpGallery, Manifest, check_backup_id
from visagedb_indexer.backup.operations import (
    back_up_all,
    back_up_gallery,
    new_backup_id,
    restore_gallery,
)

__all__ = [
    "BackedUpGallery",
    "BackupFolder",
    "Manifest",
    "back_up_all",
    "back_up_directory",
    "back_up_gallery",
    "check_backup_id",
    "new_backup_id",
    "restore_directory",
    "restore_gallery",
]
