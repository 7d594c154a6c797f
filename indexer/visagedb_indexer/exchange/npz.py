"""A NumPy file of arrays (``.npz``) as the source of an import.

The arrays have the names of a table's columns, and a row each: ``vector`` of shape
(n, dimension), ``identity_id`` of shape (n,), and so on. They are read piece by piece, without
trusting the sizes that the archive states, and never as pickles.
"""

import os
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Final

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from visagedb_indexer import limits
from visagedb_indexer.errors import InvalidSourceError
from visagedb_indexer.exchange.entries import Entry
from visagedb_indexer.exchange.rows import Columns, RowEntries, as_float32

_ROWS: Final = 2048
_ROW_BYTES_MAX: Final = 4 * limits.METADATA_BYTES_MAX + 256
"""Of one array; text has four bytes for each character."""
_MEMBERS_MAX: Final = 1000
_NOT_HERE: Final = frozenset({"box", "landmarks", "quality", "detection_score"})
"""What a table has that is no row of texts."""
_DAMAGE: Final = (
    ValueError,
    OSError,
    EOFError,
    SyntaxError,
    NotImplementedError,
    RuntimeError,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class NpzSource:
    """The rows of some arrays.

    Args:
        path: For messages.
        file: The archive; closed with the source.
        renamed: Names of arrays by what they are for, where they differ.
        rows: Makes entries of rows.
        loose: Whether an array of identities may be missing.
        check: Called now and then; raises to stop.

    Raises:
        InvalidSourceError: It is no such archive, or an array is missing or unfit.
    """

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        renamed: Mapping[str, str],
        rows: RowEntries,
        check: Callable[[], None],
        *,
        loose: bool,
    ) -> None:
        status = os.fstat(file.fileno())
        self.mark = f"{status.st_size} {status.st_mtime_ns}"
        self._path, self._file, self._rows, self._check = path, file, rows, check
        try:
            self._archive = zipfile.ZipFile(file)
        except _DAMAGE as error:
            raise self._damaged(error) from error
        members = self._archive.namelist()
        if len(members) > _MEMBERS_MAX:
            raise InvalidSourceError(f"{path.name} has {len(members)} members")
        present = [name.removesuffix(".npy") for name in members if name.endswith(".npy")]
        columns = Columns.of(present, renamed, loose=loose)
        self._arrays: dict[str, _Array] = {
            name: self._open(there, vector=name == "vector")
            for name, there in columns.names.items()
            if name not in _NOT_HERE
        }
        lengths = {array.shape[0] for array in self._arrays.values()}
        if len(lengths) != 1:
            raise InvalidSourceError("the arrays have different numbers of rows")
        (self._count,) = lengths

    def count(self) -> int:
        """The number of rows."""
        return self._count

    def progress(self, position: str) -> float | None:
        """See `Source.progress`."""
        return None

    def close(self) -> None:
        """Closes the file."""
        self._archive.close()
        self._file.close()

    def entries(self, position: str) -> Iterator[Entry]:
        """See `Source.entries`."""
        start = int(position or 0)
        for array in self._arrays.values():
            self._skip(array, start)
        for first in range(start, self._count, _ROWS):
            self._check()
            count = min(_ROWS, self._count - first)
            read = {name: self._read(array, count) for name, array in self._arrays.items()}
            vectors = as_float32(read.pop("vector"))
            columns = {name: _values(rows) for name, rows in read.items()}
            yield from self._rows.of(first, columns, list(vectors))

    def _open(self, name: str, *, vector: bool) -> "_Array":
        try:
            stream = self._archive.open(f"{name}.npy")
            array = _Array.read(name, stream)
        except _DAMAGE as error:
            raise self._damaged(error) from error
        if array.dtype.hasobject:
            raise InvalidSourceError(
                f"the array {name!r} holds pickled objects, which are never read; save texts as "
                "an array of strings"
            )
        if vector:
            array.check_vectors()
        elif len(array.shape) != 1 or array.dtype.kind not in "USiu":
            raise InvalidSourceError(f"the array {name!r} is not one row of texts")
        if not 0 < array.row_bytes <= _ROW_BYTES_MAX:
            raise InvalidSourceError(f"a row of the array {name!r} has {array.row_bytes} bytes")
        return array

    def _skip(self, array: "_Array", rows: int) -> None:
        left = rows * array.row_bytes
        while left:
            self._check()
            left -= len(self._bytes(array, min(left, limits.MIB)))

    def _read(self, array: "_Array", rows: int) -> NDArray[Any]:
        data = b"".join(
            self._bytes(array, min(limits.MIB, rows * array.row_bytes - start))
            for start in range(0, rows * array.row_bytes, limits.MIB)
        )
        return np.frombuffer(data, array.dtype).reshape(rows, *array.shape[1:])

    def _bytes(self, array: "_Array", size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            try:
                part = array.stream.read(size)
            except _DAMAGE as error:
                raise self._damaged(error) from error
            if not part:
                raise InvalidSourceError(f"the array {array.name!r} is cut short")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _damaged(self, error: Exception) -> InvalidSourceError:
        return InvalidSourceError(f"{self._path.name} is no NumPy archive, or damaged: {error}")


@dataclass(frozen=True, slots=True)
class _Array:
    """An array that is read from its beginning to its end."""

    name: str
    stream: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool

    @classmethod
    def read(cls, name: str, stream: IO[bytes]) -> "_Array":
        version = npy.read_magic(stream)
        if version == (1, 0):
            shape, fortran_order, dtype = npy.read_array_header_1_0(stream)
        elif version == (2, 0):
            shape, fortran_order, dtype = npy.read_array_header_2_0(stream)
        else:
            raise ValueError(f"the array {name!r} has format {version}")
        if not shape or min(shape) < 0:
            raise ValueError(f"the array {name!r} has shape {shape}")
        return cls(name, stream, shape, dtype, fortran_order)

    @property
    def row_bytes(self) -> int:
        return int(self.dtype.itemsize * np.prod(self.shape[1:], dtype=object))

    def check_vectors(self) -> None:
        if len(self.shape) != 2 or self.dtype.kind not in "fiu" or self.fortran_order:
            raise InvalidSourceError(
                f"the array {self.name!r} of type {self.dtype} and shape {self.shape} is not of "
                "numbers, shape (rows, dimension), row by row in memory"
            )
        if not 1 <= self.shape[1] <= limits.VECTOR_DIMENSION_MAX:
            raise InvalidSourceError(f"the vectors have {self.shape[1]} values")


def _values(rows: NDArray[Any]) -> list[Any]:
    """Texts, empty ones as None; what is no UTF-8 stays bytes and is refused later."""
    if rows.dtype.kind != "S":
        return [None if value == "" else value for value in rows.tolist()]
    return [_text(value) for value in rows.tolist()]


def _text(value: bytes) -> object:
    try:
        return value.decode() or None
    except UnicodeError:
        return value
