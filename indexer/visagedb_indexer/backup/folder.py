"""The folder of backups: writing them aside, checking them, and reading them."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeAlias

from visagedb_indexer.backup.copying import (
    check,
    copy_environment,
    copy_file,
    disk_errors,
    fetch,
    sync_folder,
    write_file,
)
from visagedb_indexer.backup.manifest import (
    MANIFEST,
    BackedUpFile,
    BackedUpGallery,
    Manifest,
    check_backup_id,
    encoded,
    read_manifest,
)
from visagedb_indexer.clock import now_us
from visagedb_indexer.errors import (
    BackupExistsError,
    GalleryNotFoundError,
    IndexerError,
    InvalidArgumentError,
)
from visagedb_indexer.failpoints import reached
from visagedb_indexer.integrity import verify_store
from visagedb_indexer.store import GalleryStore
from visagedb_indexer.store.environment import Environment

Progress: TypeAlias = Callable[[float, str], None]
"""Takes what is done, 0 to 1, and what is being done; raises to give the work up."""

_ASIDE: Final = ".new"
_LOCK: Final = "lock.mdb"


class BackupFolder:
    """A folder of backups, each in a folder of its own.

    Args:
        root: The folder; made, with access for the owner only, when it is needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def manifests(self) -> list[Manifest]:
        """The backups that can be read, oldest first."""
        found = []
        for folder in sorted(self.root.iterdir()) if self.root.is_dir() else ():
            if folder.is_dir() and not folder.name.startswith("."):
                try:
                    found.append(read_manifest(folder))
                except IndexerError:
                    continue
        return sorted(found, key=lambda one: (one.create_time_us, one.id))

    def manifest(self, backup_id: str) -> Manifest:
        """What a backup consists of.

        Raises:
            BackupNotFoundError: There is none of this name.
            StorageCorruptError: It is damaged.
            FormatTooNewError: A newer release has written it.
        """
        return read_manifest(self.root / check_backup_id(backup_id))

    def write(
        self,
        backup_id: str,
        galleries: Mapping[str, Environment],
        catalogue: Environment | None,
        progress: Progress,
        others: Sequence[tuple[Path, str]] = (),
    ) -> Manifest:
        """Writes a backup of open databases, checks it, and puts it in its place at the end.

        Args:
            backup_id: Its name.
            galleries: The databases of the galleries by uid.
            catalogue: That of the catalogue, for a backup of the whole server.
            progress: Told how far it is.
            others: More files, and their places in the backup.

        Raises:
            BackupExistsError: There is one of this name.
            StorageFullError: There is no room; nothing is left.
            UnavailableError: The folder cannot be written.
        """
        with disk_errors("the backup cannot be written"), self._aside(backup_id) as aside:
            total = sum(one.used_bytes() for one in galleries.values())
            meter = Meter(2 * total, progress)
            reached("backup.before_copy")
            # First: what an operation notes there must not be ahead of what it has done.
            meter.stage = "catalogue"
            main = catalogue and copy_environment(
                catalogue, aside, "catalogue/data.mdb", meter.watch
            )
            files = [copy_file(source, aside, path, meter.watch) for source, path in others]
            copies = []
            for uid, environment in galleries.items():
                meter.stage = "copying"
                path = f"galleries/{uid}/data.mdb"
                file = copy_environment(environment, aside, path, meter.watch)
                reached("backup.after_copy")
                meter.stage = "verifying"
                copies.append(_verified(aside, file, lambda: meter.watch(0)))
                check(aside, file, meter.watch)
            manifest = Manifest(backup_id, now_us(), tuple(copies), main or None, tuple(files))
            reached("backup.before_manifest")
            write_file(aside / MANIFEST, [encoded(manifest)])
            reached("backup.before_rename")
            aside.rename(self.root / backup_id)
            reached("backup.after_rename")
            sync_folder(self.root)
        return manifest

    def fetch_gallery(
        self, backup_id: str, gallery_id: str, folder: Path, progress: Progress
    ) -> BackedUpGallery:
        """Copies the database of a gallery out of a backup into a new folder, and checks it.

        Args:
            backup_id: The backup.
            gallery_id: The gallery; may be empty where the backup has one only.
            folder: Where to; must not be there yet.
            progress: Told how far it is.

        Raises:
            GalleryNotFoundError: It is not in the backup.
            StorageCorruptError: The backup is damaged; nothing is left in the folder.
            StorageFullError: There is no room; nothing is left.
        """
        gallery = self.gallery(backup_id, gallery_id)
        meter = Meter(gallery.file.size_bytes, progress, "copying")
        try:
            with disk_errors("the gallery cannot be restored"):
                folder.mkdir(mode=0o700)
                reached("restore.before_copy")
                fetch(self.root / backup_id, gallery.file, folder / "data.mdb", meter.watch)
                reached("restore.after_copy")
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return gallery

    def gallery(self, backup_id: str, gallery_id: str = "") -> BackedUpGallery:
        """What a backup says of a gallery; the id may be empty where it has one only.

        Raises:
            BackupNotFoundError: There is no such backup.
            GalleryNotFoundError: The gallery is not in it.
            InvalidArgumentError: It has several, and none is named.
        """
        galleries = self.manifest(backup_id).galleries
        if not gallery_id and len(galleries) > 1:
            raise InvalidArgumentError(
                f"the backup {backup_id!r} has {len(galleries)} galleries; name one",
                {"field": "source_gallery_id"},
            )
        for gallery in galleries:
            if gallery_id in ("", gallery.id):
                return gallery
        raise GalleryNotFoundError(
            f"the backup {backup_id!r} has no gallery {gallery_id!r}", {"gallery": gallery_id}
        )

    @contextmanager
    def _aside(self, backup_id: str) -> Iterator[Path]:
        """A new folder to write into, for one writer at a time; removed if it is still there."""
        check_backup_id(backup_id)
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(self.root, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (self.root / backup_id).exists():
                raise BackupExistsError(
                    f"there is a backup {backup_id!r} already", {"backup": backup_id}
                )
            # What is there now was cut short: nobody else writes while the lock is held.
            for left in self.root.glob(f".*{_ASIDE}"):
                shutil.rmtree(left)
            aside = self.root / f".{backup_id}{_ASIDE}"
            aside.mkdir(mode=0o700)
            try:
                yield aside
            finally:
                shutil.rmtree(aside, ignore_errors=True)
        finally:
            os.close(lock)


class Meter:
    """Counts bytes into a progress from 0 to 1."""

    def __init__(self, total_bytes: int, progress: Progress, stage: str = "") -> None:
        self._total = max(1, total_bytes)
        self._progress = progress
        self._done = 0
        self.stage = stage

    def watch(self, count: int) -> None:
        """So many bytes more are done."""
        self._done += count
        self._progress(min(1.0, self._done / self._total), self.stage)


def _verified(root: Path, file: BackedUpFile, tick: Callable[[], None]) -> BackedUpGallery:
    """What a copied database holds, and whether it is sound."""
    folder = (root / file.path).parent
    store = GalleryStore(folder)
    try:
        report = verify_store(store, lambda done, stage: tick())
        with store.read() as view:
            record, counters = view.gallery(), view.counters()
    finally:
        store.close()
        (folder / _LOCK).unlink(missing_ok=True)
    return BackedUpGallery(
        id=record.id,
        uid=record.uid,
        model=record.model,
        identity_count=counters.identity_count,
        face_count=counters.face_count,
        generation=counters.generation,
        file=file,
        broken_invariants=tuple(result.invariant for result in report.broken),
    )
