"""A Parquet file of vectors as the source of an import: any table with such columns, or an export.

The file is read in batches of rows, whatever the size of its row groups.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from visagedb_indexer import limits
from visagedb_indexer.errors import InvalidSourceError, ModelMismatchError
from visagedb_indexer.exchange.entries import Entry
from visagedb_indexer.exchange.rows import Columns, RowEntries, as_float32
from visagedb_indexer.exchange.table import METADATA_KEY, VERSION
from visagedb_indexer.values import ModelIdentity, Vector

_ROWS: Final = 2048
_READ_BYTES: Final = limits.MIB
_THRIFT_BYTES_MAX: Final = 256 * limits.MIB
"""Of the description of the row groups: ten million of them."""
_DAMAGE: Final = (pa.ArrowException, OSError, ValueError, MemoryError)


class ParquetSource:
    """The rows of a table.

    Args:
        path: For messages.
        file: The table; closed with the source.
        renamed: Names of columns by what they are for, where they differ.
        rows: Makes entries of rows.
        model: Of the gallery.
        check: Called now and then; raises to stop.
        loose: Whether a column of identities may be missing.

    Raises:
        InvalidSourceError: It is no such file, or a column is missing or unfit.
        ModelMismatchError: It is the export of a gallery with another model.
    """

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        renamed: Mapping[str, str],
        rows: RowEntries,
        model: ModelIdentity,
        check: Callable[[], None],
        *,
        loose: bool,
    ) -> None:
        status = os.fstat(file.fileno())
        self.mark = f"{status.st_size} {status.st_mtime_ns}"
        self._path, self._raw, self._rows, self._check = path, file, rows, check
        try:
            self._file = pq.ParquetFile(
                file,
                pre_buffer=False,
                page_checksum_verification=True,
                buffer_size=_READ_BYTES,
                thrift_string_size_limit=_THRIFT_BYTES_MAX,
                thrift_container_size_limit=_THRIFT_BYTES_MAX,
            )
            schema = self._file.schema_arrow
        except _DAMAGE as error:
            raise self._damaged(error) from error
        _check_model(schema.metadata or {}, model)
        names = list(schema.names)
        self._columns = Columns.of(names, renamed, loose=loose).names
        doubled = {there for there in self._columns.values() if names.count(there) > 1}
        if doubled:
            raise InvalidSourceError(f"there are two columns {min(doubled)!r}")
        _check_vectors(schema.field(self._columns["vector"]).type)

    def count(self) -> int:
        """The number of rows."""
        return int(self._file.metadata.num_rows)

    def progress(self, position: str) -> float | None:
        """See `Source.progress`."""
        return None

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        self._raw.close()

    def entries(self, position: str) -> Iterator[Entry]:
        """See `Source.entries`."""
        start = int(position or 0)
        first = 0
        for group in range(self._file.num_row_groups):
            count = self._file.metadata.row_group(group).num_rows
            if first + count > start:
                yield from self._group(group, first, start)
            first += count

    def _group(self, group: int, first: int, start: int) -> Iterator[Entry]:
        batches = self._file.iter_batches(
            batch_size=_ROWS, row_groups=[group], columns=sorted(self._columns.values())
        )
        while True:
            self._check()
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                count = batch.num_rows
                if first + count <= start:
                    first += count
                    continue
                wanted = batch.slice(max(0, start - first))
                vectors = _vectors(wanted.column(self._columns["vector"]))
                columns = {
                    name: _values(wanted.column(there))
                    for name, there in self._columns.items()
                    if name != "vector"
                }
            except _DAMAGE as error:
                raise self._damaged(error) from error
            yield from self._rows.of(max(first, start), columns, vectors)
            first += count

    def _damaged(self, error: BaseException) -> InvalidSourceError:
        return InvalidSourceError(f"{self._path.name} is no Parquet file, or damaged: {error}")


def _check_model(metadata: Mapping[bytes, bytes], model: ModelIdentity) -> None:
    """Refuses an export of vectors that another model made, or that a newer release wrote."""
    if METADATA_KEY not in metadata:
        return
    try:
        said = msgspec.json.decode(metadata[METADATA_KEY], type=dict[str, Any])
        made_by = msgspec.convert(said["model"], ModelIdentity)
        version = int(said["version"])
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise InvalidSourceError(f"the file's own metadata cannot be read: {error}") from error
    if version > VERSION:
        raise InvalidSourceError(
            f"the export has version {version}, this release reads up to {VERSION}; use a newer "
            "VisageDB"
        )
    if made_by != model:
        raise ModelMismatchError(
            f"the vectors were made by {made_by.name}@{made_by.version} ({made_by.dimension} "
            f"values), the gallery's model is {model.name}@{model.version} ({model.dimension})",
            {"gallery_model": f"{model.name}@{model.version}"},
        )


def _check_vectors(kind: Any) -> None:
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    lists = lists or pa.types.is_fixed_size_list(kind)
    if lists and (pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)):
        return
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return
    if pa.types.is_fixed_size_binary(kind):
        return
    raise InvalidSourceError(
        f"the column of vectors has type {kind}; it must be a list of numbers, or bytes of "
        "little-endian float32"
    )


def _values(column: Any) -> list[Any]:
    kind = column.type
    if pa.types.is_timestamp(kind):
        # To the microsecond, as everything here.
        column = column.cast(pa.timestamp("us", tz=kind.tz), safe=False)
    return list(column.to_pylist())


def _vectors(column: Any) -> Sequence[Vector | None]:
    """The vectors of a column, each of its own length; None where there is none."""
    if not len(column):
        return []
    if not pa.types.is_nested(column.type):
        return [None if value is None else _from_bytes(value) for value in column.to_pylist()]
    if column.null_count:
        return [None if one is None else _from_list(one) for one in column.to_pylist()]
    values = column.flatten()
    if values.null_count:
        values = values.fill_null(float("nan"))
    flat = as_float32(values.to_numpy(zero_copy_only=False))
    if pa.types.is_fixed_size_list(column.type):
        return list(flat.reshape(len(column), column.type.list_size))
    offsets = column.offsets.to_numpy()
    return np.split(flat, (offsets - offsets[0])[1:-1])


def _from_bytes(value: bytes) -> Vector:
    # A length that is no multiple of four is the wrong length for every gallery.
    return np.frombuffer(value[: len(value) // 4 * 4], "<f4").astype(np.float32)


def _from_list(values: list[float | None]) -> Vector:
    return as_float32([np.nan if value is None else value for value in values] or [np.nan])
