"""What the operating system refuses, as errors of ours: a full disk is no internal error."""

import errno
from typing import Final

from visagedb_indexer.errors import IndexerError, StorageFullError, UnavailableError

_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
_REFUSED: Final = {
    errno.EROFS: "the data directory is read-only",
    errno.EACCES: "the data directory may not be written",
    errno.EPERM: "the data directory may not be written",
    errno.EMFILE: "the server has too many files and connections open; raise its limit",
    errno.ENFILE: "the machine has too many files open",
    errno.EIO: "the disk cannot be read or written; see the system's log",
}


def of_system(error: BaseException | None) -> IndexerError | None:
    """The error that tells a caller what the system refused; None when it is none of those."""
    if not isinstance(error, OSError) or error.errno is None:
        return None
    if error.errno in _FULL:
        return StorageFullError("the disk is full; nothing was changed")
    if error.errno in _REFUSED:
        return UnavailableError(_REFUSED[error.errno])
    return None
