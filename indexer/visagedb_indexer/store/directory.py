"""The data directory: who owns it, and where things are in it.

DIR/LOCK                    held by the one process that owns the directory
DIR/catalogue/              the catalogue's database
DIR/galleries/{uid}/        a gallery's database
"""

import fcntl
import os
import shutil
from pathlib import Path

from visagedb_indexer.errors import (
    DataDirectoryLockedError,
    StorageCorruptError,
    UnavailableError,
)
from visagedb_indexer.failpoints import reached


class DataDirectory:
    """An owned data directory.

    Args:
        path: The folder; made, with access for the owner only, if missing.
        create: False refuses a folder that is no data directory.

    Raises:
        DataDirectoryLockedError: Another process owns it.
        StorageCorruptError: There are galleries, but no catalogue of them.
        UnavailableError: It cannot be made or written.
    """

    def __init__(self, path: Path, *, create: bool = True) -> None:
        self.path = path
        if not create and not (path / "catalogue").is_dir():
            raise UnavailableError(f"{path} is no data directory of VisageDB")
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (path / "galleries").mkdir(exist_ok=True, mode=0o700)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._lock = os.fdopen(os.open(path / "LOCK", flags, 0o600), "r+b", buffering=0)
        except OSError as error:
            raise UnavailableError(f"cannot use the data directory {path}: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = self._lock.read(32).decode(errors="replace").strip() or "unknown"
            self._lock.close()
            raise DataDirectoryLockedError(
                f"the data directory {path} belongs to a running server (process {owner}); "
                "stop it first, or give another directory",
                {"path": str(path), "process": owner},
            ) from error
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()}\n".encode())
        self._check_catalogue()

    def _check_catalogue(self) -> None:
        data = self.catalogue / "data.mdb"
        if data.exists() and data.stat().st_size:
            return
        # To a new catalogue every gallery would be an orphan, to be removed.
        if any((self.path / "galleries").iterdir()):
            self.close()
            raise StorageCorruptError(
                f"{self.path} has galleries but no catalogue; restore {data} from a backup"
            )

    @property
    def catalogue(self) -> Path:
        """Folder of the catalogue."""
        return self.path / "catalogue"

    def gallery(self, uid: str) -> Path:
        """Folder of a gallery."""
        return self.path / "galleries" / uid

    def other_files(self) -> list[tuple[Path, str]]:
        """Files beside the databases, each with its path from here: what a backup takes along."""
        rooms = {self.catalogue, self.path / "galleries", self.path / "LOCK"}
        return [
            (path, path.relative_to(self.path).as_posix())
            for room in sorted(self.path.iterdir())
            if room not in rooms
            for path in ([room] if room.is_file() else sorted(room.rglob("*")))
            if path.is_file()
        ]

    def remove_orphans(self, known: set[str]) -> list[str]:
        """Removes the folders of galleries whose creation or deletion was cut short."""
        orphans = [
            entry
            for entry in (self.path / "galleries").iterdir()
            if entry.is_dir() and entry.name not in known
        ]
        for entry in orphans:
            reached("orphans.before_removal")
            shutil.rmtree(entry)
            reached("orphans.after_removal")
        return [entry.name for entry in orphans]

    def remove_gallery(self, uid: str) -> None:
        """Removes a gallery's folder."""
        shutil.rmtree(self.gallery(uid))

    def close(self) -> None:
        """Gives the directory up."""
        self._lock.close()
