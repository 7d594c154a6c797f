"""Writing a gallery into a Parquet file: aside, synced, and then put into its place."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from visagedb_indexer import limits
from visagedb_indexer.errors import AlreadyExistsError, StorageFullError, UnavailableError
from visagedb_indexer.exchange.table import schema_of
from visagedb_indexer.exports import Exported, ExportRow
from visagedb_indexer.failpoints import reached
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.store import FaceRecord, IdentityRecord

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def export_gallery(
    gallery: Gallery,
    target: Path,
    aside: Path,
    *,
    overwrite: bool,
    progress: Callable[[float, str], None],
    check: Callable[[], None],
) -> Exported:
    """Writes a gallery as it is at this moment.

    Args:
        gallery: Which.
        target: The file.
        aside: Where it is written until it is complete, in the same folder.
        overwrite: Replace a file that is there.
        progress: Called with a part from 0 to 1 and a stage.
        check: Raises to stop.

    Raises:
        AlreadyExistsError: There is such a file, and it may not be replaced.
        StorageFullError: The disk is full.
        UnavailableError: The file cannot be written.
    """
    check_target(target, overwrite=overwrite)
    try:
        return _export(gallery, target, aside, overwrite=overwrite, progress=progress, check=check)
    except OSError as error:
        if error.errno in {28, 122}:
            raise StorageFullError("the disk is full; there is no export") from error
        raise UnavailableError(f"{target.name} cannot be written: {error.strerror}") from error
    finally:
        aside.unlink(missing_ok=True)


def check_target(target: Path, *, overwrite: bool) -> None:
    """Refuses a file that is there.

    Raises:
        AlreadyExistsError: It is, and may not be replaced.
    """
    if target.exists() and not overwrite:
        raise AlreadyExistsError(f"there is a file {target.name} already", {"path": str(target)})


def _export(
    gallery: Gallery,
    target: Path,
    aside: Path,
    *,
    overwrite: bool,
    progress: Callable[[float, str], None],
    check: Callable[[], None],
) -> Exported:
    for settings, counters, rows in gallery.exports.view():
        counts = {"identities": counters.identity_count, "faces": counters.face_count}
        schema = schema_of(settings, counts)
        total, done = max(1, counters.face_count), 0
        reached("export.before_write")
        # Templates are biometric data.
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            with pq.ParquetWriter(
                file,
                schema,
                compression="zstd",
                write_page_checksum=True,
                use_dictionary=[name for name in schema.names if name != "vector"],
            ) as writer:
                for group in _groups(rows):
                    check()
                    gallery.exports.give_way(check)
                    writer.write_table(_table(group, schema))
                    done += len(group)
                    progress(min(1.0, done / total), "writing")
            file.flush()
            os.fsync(file.fileno())
    reached("export.before_rename")
    check_target(target, overwrite=overwrite)
    aside.rename(target)
    _sync_folder(target.parent)
    reached("export.after_rename")
    return Exported(
        counters.identity_count,
        counters.face_count,
        target.stat().st_size,
        counters.generation,
    )


def _groups(rows: Iterator[ExportRow]) -> Iterator[list[ExportRow]]:
    while group := list(islice(rows, limits.EXPORT_ROWS_PER_GROUP)):
        yield group


def _table(rows: Sequence[ExportRow], schema: Any) -> Any:
    arrays = []
    for field in schema:
        if field.name == "vector":
            arrays.append(_vectors(rows, field.type))
        else:
            value = _FIELDS[field.name]
            arrays.append(pa.array([value(row.identity, row.face) for row in rows], field.type))
    return pa.Table.from_arrays(arrays, schema=schema)


def _vectors(rows: Sequence[ExportRow], kind: Any) -> Any:
    width = kind.list_size
    flat = np.zeros((len(rows), width), dtype=np.float32)
    for place, row in enumerate(rows):
        if row.vector is not None:
            flat[place] = row.vector
    missing = pa.array([row.vector is None for row in rows])
    return pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), type=kind, mask=missing)


def _time(time_us: int | None) -> datetime | None:
    return None if time_us is None else _EPOCH + timedelta(microseconds=time_us)


def _plain(value: Any) -> Any:
    return None if value is None else asdict(value)


def _quality(face: FaceRecord) -> Any:
    if face.quality is None:
        return None
    return {**asdict(face.quality), "reasons": list(face.quality.reasons)}


_Value = Callable[[IdentityRecord | None, FaceRecord | None], Any]


def _of_identity(value: Callable[[IdentityRecord], Any]) -> _Value:
    return lambda identity, _: None if identity is None else value(identity)


def _of_face(value: Callable[[FaceRecord], Any]) -> _Value:
    return lambda _, face: None if face is None else value(face)


_FIELDS: Final[dict[str, _Value]] = {
    "identity_id": _of_identity(lambda one: one.id),
    "face_id": _of_face(lambda one: one.id),
    "display_name": _of_identity(lambda one: one.display_name or None),
    "labels": _of_identity(lambda one: sorted(one.labels.items()) or None),
    "metadata": _of_identity(
        lambda one: msgspec.json.encode(one.metadata).decode() if one.metadata else None
    ),
    "expire_time": _of_identity(lambda one: _time(one.expire_time_us)),
    "source": _of_face(lambda one: one.source or None),
    "content_sha256": _of_face(lambda one: one.content_sha256),
    "box": _of_face(lambda one: _plain(one.box)),
    "landmarks": _of_face(lambda one: _plain(one.landmarks)),
    "detection_score": _of_face(lambda one: one.detection_score if one.box else None),
    "quality": _of_face(_quality),
    "face_create_time": _of_face(lambda one: _time(one.create_time_us)),
    "identity_create_time": _of_identity(lambda one: _time(one.create_time_us)),
    "identity_update_time": _of_identity(lambda one: _time(one.update_time_us)),
}


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
