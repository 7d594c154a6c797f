"""Checksums of what is stored, so that a flipped bit or a lost page is noticed.

A record carries its own in its last four bytes and is checked whenever it is read. That of a
vector stands in a column of its own beside the vectors: it is compared by `verify`, not by
every search, which reads some hundred rows from all over the file.
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from visagedb_indexer.errors import StorageCorruptError

RECORD_BYTES: Final = 4


def sealed(body: bytes) -> bytes:
    """Bytes with their checksum behind them."""
    return body + xxhash.xxh32_digest(body)


def sealed_all(bodies: Iterable[bytes]) -> list[bytes]:
    """Many bytes, each with its checksum behind it."""
    digest = xxhash.xxh32_digest
    return [body + digest(body) for body in bodies]


def unsealed(data: bytes | memoryview) -> memoryview:
    """Inverse of `sealed`.

    Raises:
        StorageCorruptError: They are not what was written.
    """
    view = memoryview(data)
    body = view[:-RECORD_BYTES]
    if xxhash.xxh32_digest(body) != view[-RECORD_BYTES:]:
        raise StorageCorruptError("a stored record is not what was written: its checksum differs")
    return body


def of_vector(vector: NDArray[np.generic]) -> int:
    """The checksum of one vector, as it is stored: little-endian float32; never zero."""
    return _of_bytes(np.ascontiguousarray(vector, dtype="<f4").data)


def of_vectors(vectors: NDArray[np.generic]) -> NDArray[np.uint32]:
    """The checksums of vectors, shape (n, dimension), as an array of shape (n,)."""
    rows: Iterable[NDArray[np.generic]] = np.ascontiguousarray(vectors, dtype="<f4")
    digests = (xxhash.xxh3_64_intdigest(row.data) for row in rows)
    low = np.fromiter(digests, dtype=np.uint64, count=len(vectors)).astype(np.uint32)
    # As for a single one.
    return np.where(low == 0, np.uint32(1), low)


def _of_bytes(data: memoryview) -> int:
    # Zero is what a deleted face has.
    return (xxhash.xxh3_64_intdigest(data) & 0xFFFFFFFF) or 1
