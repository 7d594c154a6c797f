"""Which files of this machine an import may read and an export may write.

The operator opens folders; everything else is refused before the file system is asked about it.
Links are followed only as far as they stay inside.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from visagedb_indexer import limits
from visagedb_indexer.errors import (
    InvalidArgumentError,
    InvalidSourceError,
    PathNotAllowedError,
)

# Without waiting: a pipe in the place of a file would hold the import for ever.
_READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW


class OpenFolders:
    """The folders that the operator has opened for imports, or for exports.

    Args:
        folders: They, and all that is below them.
        option: The server's option that opens one, for messages.
    """

    def __init__(self, folders: Sequence[Path], option: str) -> None:
        self._folders = [(folder.absolute(), folder.resolve()) for folder in folders]
        self._option = option

    def source(self, path: str) -> Path:
        """The real path of a file or folder to read.

        Raises:
            PathNotAllowedError: It is not below one of the folders, or a link leads out of them.
            InvalidArgumentError: It is not an absolute path of sensible characters.
            InvalidSourceError: There is nothing.
        """
        self._check(path)
        try:
            real = Path(path).resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise InvalidSourceError(f"the server cannot read {path}: {_why(error)}") from error
        self._check_inside(real)
        return real

    def target(self, path: str) -> Path:
        """The real path of a file to write; its folder is there.

        Raises:
            PathNotAllowedError: It is not below one of the folders, or a link leads out of them.
            InvalidArgumentError: It is not an absolute path of sensible characters, or there is
                no such folder.
        """
        self._check(path)
        given = Path(path)
        try:
            parent = given.parent.resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise InvalidArgumentError(
                f"the server cannot write into {given.parent}: {_why(error)}", {"field": "path"}
            ) from error
        real = parent / given.name
        self._check_inside(real)
        if real.is_symlink() or real.is_dir():
            raise PathNotAllowedError(f"{path} is a link or a folder", {"path": path})
        return real

    def open(self, path: Path) -> BinaryIO:
        """Opens a regular file for reading, wherever its path leads by now.

        Raises:
            PathNotAllowedError: It is not inside the folders.
            InvalidSourceError: It is no regular file, or cannot be opened.
        """
        try:
            descriptor = os.open(path, _READ_FLAGS)
        except OSError as error:
            raise InvalidSourceError(f"the server cannot read {path}: {_why(error)}") from error
        file = os.fdopen(descriptor, "rb")
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InvalidSourceError(f"{path} is not a regular file")
            # What was opened counts, not what the path was a moment ago.
            self._check_inside(Path(f"/proc/self/fd/{descriptor}").readlink())
        except BaseException:
            file.close()
            raise
        return file

    def _check(self, path: str) -> None:
        if not self._folders:
            raise PathNotAllowedError(
                f"this server opens no folder for that; start it with {self._option} FOLDER",
                {"option": self._option},
            )
        if (
            len(os.fsencode(path)) > limits.PATH_BYTES_MAX
            or not path.isprintable()
            or not Path(path).is_absolute()
        ):
            raise InvalidArgumentError(
                "path is an absolute path on the server, of printable characters",
                {"field": "path"},
            )
        inside = any(Path(path).is_relative_to(given) for given, _ in self._folders)
        if not inside or ".." in Path(path).parts:
            raise self._outside()

    def _check_inside(self, real: Path) -> None:
        if not any(real.is_relative_to(folder) for _, folder in self._folders):
            raise self._outside()

    def _outside(self) -> PathNotAllowedError:
        return PathNotAllowedError(
            f"the path is not inside a folder that the server opens with {self._option}, or a "
            "link leads out of it",
            {"option": self._option},
        )


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or "there are too many links"
