"""The data directory: who owns it, and where things are in it.

DIR/LOCK                    held by the one process that owns the directory
DIR/catalogue/              the catalogue's database
DIR/galleries/{uid}/        a gallery's database
"""

import fcntl
import os
import shutil
from pathlib import Path

from visagedb_indexer.errors import DataDirectoryLockedError, UnavailableError


class DataDirectory:
    """An owned data directory.

    Args:
        path: The folder; made, with access for the owner only, if missing.

    Raises:
        DataDirectoryLockedError: Another process owns it.
        UnavailableError: It cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (path / "galleries").mkdir(exist_ok=True, mode=0o700)
            self._lock = os.open(path / "LOCK", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UnavailableError(f"cannot use the data directory {path}: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise DataDirectoryLockedError(
                f"the data directory {path} belongs to a running server (process {owner}); "
                "stop it first, or give another directory",
                {"path": str(path), "process": owner},
            ) from error
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    @property
    def catalogue(self) -> Path:
        """Folder of the catalogue."""
        return self.path / "catalogue"

    def gallery(self, uid: str) -> Path:
        """Folder of a gallery."""
        return self.path / "galleries" / uid

    def remove_orphans(self, known: set[str]) -> list[str]:
        """Removes the folders of galleries whose creation or deletion was cut short."""
        orphans = [
            entry for entry in (self.path / "galleries").iterdir() if entry.name not in known
        ]
        for entry in orphans:
            shutil.rmtree(entry)
        return [entry.name for entry in orphans]

    def remove_gallery(self, uid: str) -> None:
        """Removes a gallery's folder."""
        shutil.rmtree(self.gallery(uid))

    def close(self) -> None:
        """Gives the directory up."""
        os.close(self._lock)
