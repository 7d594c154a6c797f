"""Imports and exports between the indexer's values and the wire."""

from typing import Final

from google.protobuf import duration_pb2

from visagedb.v1 import imports_pb2
from visagedb_indexer.errors import InvalidArgumentError
from visagedb_indexer.exchange.pace import Pace
from visagedb_indexer.exchange.sources import ImportPlan
from visagedb_indexer.exports import Exported
from visagedb_indexer.gallery_values import EnrollMode, EnrollOutcome
from visagedb_indexer.store import ImportFailure, ImportRecord
from visagedb_indexer.values import ImportState, SourceFormat
from visagedb_server import convert, names
from visagedb_server.extraction import choice_of_one

_FORMATS: Final = {
    imports_pb2.SOURCE_FORMAT_FOLDER: SourceFormat.FOLDER,
    imports_pb2.SOURCE_FORMAT_TAR: SourceFormat.TAR,
    imports_pb2.SOURCE_FORMAT_PARQUET: SourceFormat.PARQUET,
    imports_pb2.SOURCE_FORMAT_NPZ: SourceFormat.NPZ,
}
_FORMAT_NUMBERS: Final = {kind: number for number, kind in _FORMATS.items()}
_MODES: Final = {
    imports_pb2.IMPORT_MODE_UNSPECIFIED: EnrollMode.INSERT,
    imports_pb2.IMPORT_MODE_INSERT: EnrollMode.INSERT,
    imports_pb2.IMPORT_MODE_UPSERT: EnrollMode.UPSERT,
    imports_pb2.IMPORT_MODE_SKIP_EXISTING: EnrollMode.SKIP_EXISTING,
}
_STATES: Final = {
    ImportState.RUNNING: imports_pb2.IMPORT_STATE_RUNNING,
    ImportState.PAUSED: imports_pb2.IMPORT_STATE_PAUSED,
    ImportState.DONE: imports_pb2.IMPORT_STATE_DONE,
    ImportState.FAILED: imports_pb2.IMPORT_STATE_FAILED,
    ImportState.CANCELLED: imports_pb2.IMPORT_STATE_CANCELLED,
}


def plan(request: imports_pb2.ImportFacesRequest) -> ImportPlan:
    """What an import is asked to do.

    Raises:
        InvalidArgumentError: A choice is not known.
    """
    if request.format and request.format not in _FORMATS:
        raise InvalidArgumentError("unknown format of the source", {"field": "format"})
    if request.mode not in _MODES:
        raise InvalidArgumentError("unknown mode", {"field": "mode"})
    choice = choice_of_one(request.face_selection)
    return ImportPlan(
        path=request.path,
        format=_FORMATS[request.format] if request.format else None,
        mode=_MODES[request.mode],
        naming=request.naming,
        choice=choice,
        loose=request.loose,
        labels=dict(request.labels),
        columns=dict(request.columns),
        model=request.model,
    )


def import_(gallery_id: str, record: ImportRecord, pace: Pace) -> imports_pb2.Import:
    """An import as it stands."""
    outcomes = record.outcomes
    state = record.state
    if state is ImportState.RUNNING and record.paused:
        state = ImportState.PAUSED
    message = imports_pb2.Import(
        name=names.import_name(gallery_id, record.id),
        create_time=convert.timestamp(record.create_time_us),
        path=record.path,
        format=_FORMAT_NUMBERS[record.format],
        state=_STATES[state],
        entry_count=record.entry_count,
        done_count=record.done_count,
        enrolled_count=outcomes.get(EnrollOutcome.ENROLLED, 0),
        already_enrolled_count=outcomes.get(EnrollOutcome.ALREADY_ENROLLED, 0),
        replaced_count=outcomes.get(EnrollOutcome.REPLACED, 0),
        skipped_count=outcomes.get(EnrollOutcome.SKIPPED, 0),
        quarantined_count=outcomes.get(EnrollOutcome.QUARANTINED, 0),
        failed_count=record.failed_count,
        identity_created_count=record.identity_created_count,
        ignored_count=record.ignored_count,
        failures_by_reason=record.failures,
        progress=1.0 if state is ImportState.DONE else pace.progress,
        error_reason=record.error_reason,
        error_message=record.error_message,
    )
    if record.end_time_us:
        message.end_time.CopyFrom(convert.timestamp(record.end_time_us))
    elif state is ImportState.RUNNING:
        message.entries_per_second = pace.entries_per_second
        if pace.remaining_seconds is not None:
            micros = int(min(pace.remaining_seconds, 1e9) * 1e6)
            message.remaining.CopyFrom(
                duration_pb2.Duration(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)
            )
    return message


def failure(source: ImportFailure) -> imports_pb2.ImportFailure:
    """An entry that could not be enrolled."""
    return imports_pb2.ImportFailure(
        entry=source.entry,
        identity_id=source.identity_id,
        reason=source.reason,
        message=source.message,
    )


def exported(gallery_id: str, path: str, done: Exported) -> imports_pb2.Export:
    """A finished export."""
    return imports_pb2.Export(
        gallery=names.gallery_name(gallery_id),
        path=path,
        identity_count=done.identity_count,
        face_count=done.face_count,
        file_bytes=done.file_bytes,
        gallery_generation=done.generation,
    )
