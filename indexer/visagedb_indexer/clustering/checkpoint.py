"""Arrays in a file with a checksum, for work that goes on after a crash."""

import contextlib
import io
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.failpoints import reached

_MAGIC: Final = b"VDBCKPT1"


def write(path: Path, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays: aside, synced, then renamed, so that the file is whole or absent."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: np.asarray(a) for name, a in arrays.items()})
    content = buffer.getbuffer()
    aside = path.with_name(path.name + ".new")
    reached("checkpoint.before_write")
    with aside.open("wb") as file:
        file.write(_MAGIC)
        file.write(zlib.crc32(content).to_bytes(4, "little"))
        file.write(content)
        file.flush()
        reached("checkpoint.before_sync")
        os.fsync(file.fileno())
    reached("checkpoint.before_rename")
    aside.replace(path)
    reached("checkpoint.after_rename")
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path) -> dict[str, NDArray[Any]] | None:
    """The arrays of a file; None when it is absent or its checksum is wrong."""
    with contextlib.suppress(OSError, ValueError):
        content = path.read_bytes()
        head, body = content[:12], content[12:]
        if head == _MAGIC + zlib.crc32(body).to_bytes(4, "little"):
            with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
    return None
