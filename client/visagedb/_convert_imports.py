"""Imports and exports from protobuf to frozen values. Pure functions."""

from collections.abc import Mapping
from typing import Final

from visagedb._imports import Export, Import, ImportFailure, ImportMode, ImportState, SourceFormat
from visagedb._moments import moment
from visagedb._names import segment
from visagedb.v1 import imports_pb2 as pb

FORMAT_NUMBERS: Final[Mapping[SourceFormat | None, pb.SourceFormat.ValueType]] = {
    None: pb.SOURCE_FORMAT_UNSPECIFIED,
    SourceFormat.FOLDER: pb.SOURCE_FORMAT_FOLDER,
    SourceFormat.TAR: pb.SOURCE_FORMAT_TAR,
    SourceFormat.PARQUET: pb.SOURCE_FORMAT_PARQUET,
    SourceFormat.NPZ: pb.SOURCE_FORMAT_NPZ,
}
MODE_NUMBERS: Final = {
    ImportMode.INSERT: pb.IMPORT_MODE_INSERT,
    ImportMode.UPSERT: pb.IMPORT_MODE_UPSERT,
    ImportMode.SKIP_EXISTING: pb.IMPORT_MODE_SKIP_EXISTING,
}
_FORMATS: Final = {number: kind for kind, number in FORMAT_NUMBERS.items() if kind is not None}
_STATES: Final = {
    pb.IMPORT_STATE_RUNNING: ImportState.RUNNING,
    pb.IMPORT_STATE_PAUSED: ImportState.PAUSED,
    pb.IMPORT_STATE_DONE: ImportState.DONE,
    pb.IMPORT_STATE_FAILED: ImportState.FAILED,
    pb.IMPORT_STATE_CANCELLED: ImportState.CANCELLED,
}


def import_(message: pb.Import) -> Import:
    """One import."""
    remaining = message.remaining.seconds + message.remaining.nanos / 1e9
    return Import(
        name=message.name,
        create_time=moment(message.create_time),
        end_time=moment(message.end_time) if message.HasField("end_time") else None,
        path=message.path,
        format=_FORMATS.get(message.format, SourceFormat.UNKNOWN),
        state=_STATES.get(message.state, ImportState.UNKNOWN),
        entry_count=message.entry_count,
        done_count=message.done_count,
        enrolled_count=message.enrolled_count,
        already_enrolled_count=message.already_enrolled_count,
        replaced_count=message.replaced_count,
        skipped_count=message.skipped_count,
        quarantined_count=message.quarantined_count,
        failed_count=message.failed_count,
        identity_created_count=message.identity_created_count,
        ignored_count=message.ignored_count,
        failures_by_reason=dict(message.failures_by_reason),
        progress=message.progress,
        entries_per_second=message.entries_per_second,
        remaining_seconds=remaining if message.HasField("remaining") else None,
        error_reason=message.error_reason,
        error_message=message.error_message,
    )


def failure(message: pb.ImportFailure) -> ImportFailure:
    """An entry that could not be enrolled."""
    return ImportFailure(message.entry, message.identity_id, message.reason, message.message)


def export(message: pb.Export) -> Export:
    """A finished export."""
    return Export(
        gallery=segment(message.gallery, "galleries"),
        path=message.path,
        identity_count=message.identity_count,
        face_count=message.face_count,
        file_bytes=message.file_bytes,
        gallery_generation=message.gallery_generation,
    )


def inner(message: object) -> pb.Import:
    """The import in an answer; the field's name is a word of Python."""
    found: pb.Import = getattr(message, "import")
    return found
