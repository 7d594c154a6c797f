"""ImportService."""

from concurrent.futures import Future
from dataclasses import replace
from types import ModuleType
from typing import Final

import grpc

from visagedb.v1 import imports_pb2, imports_pb2_grpc
from visagedb_indexer import limits
from visagedb_indexer.clock import now_us
from visagedb_indexer.database import Database
from visagedb_indexer.errors import CancelledError, FailedPreconditionError, IndexerError
from visagedb_indexer.exchange.import_run import ImportRun
from visagedb_indexer.exchange.pace import Pace
from visagedb_indexer.exchange.paths import OpenFolders
from visagedb_indexer.exchange.sources import (
    ImportPlan,
    has_images,
    no_pyarrow,
    open_source,
)
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.store import GalleryRecord, ImportRecord
from visagedb_indexer.values import ExtractedFace, Extraction, ImportState
from visagedb_server import convert, convert_imports, names, paging
from visagedb_server.calls import unexpected
from visagedb_server.config import ServerConfig
from visagedb_server.extraction import ExtractOptions, Extractor, chosen_faces
from visagedb_server.operations import Job, Operations, Work

_IMPORT: Final = "import"
_EXPORT: Final = "export"


class ImportService(imports_pb2_grpc.ImportServiceServicer):
    """Files in and out, as operations."""

    def __init__(
        self,
        config: ServerConfig,
        database: Database,
        extractor: Extractor,
        operations: Operations,
    ) -> None:
        self._database = database
        self._extractor = extractor
        self._operations = operations
        self._sources = OpenFolders(config.import_roots, "--import-root")
        self._targets = OpenFolders(config.export_roots, "--export-root")
        self._paces: dict[str, Pace] = {}
        operations.register(
            _IMPORT,
            lambda data: self._importing(imports_pb2.ImportFacesRequest.FromString(data)),
            threads=limits.IMPORTS_RUNNING_MAX,
        )
        operations.register(
            _EXPORT, lambda data: self._exporting(imports_pb2.ExportFacesRequest.FromString(data))
        )
        _end_abandoned(database, operations.unfinished())

    def ImportFaces(  # noqa: N802
        self, request: imports_pb2.ImportFacesRequest, context: grpc.ServicerContext
    ) -> imports_pb2.ImportFacesResponse:
        """Starts an import."""
        gallery = self._database.gallery(names.parse_gallery(request.gallery))
        plan = convert_imports.plan(request)
        # What can be refused is refused now, and not by an operation that fails.
        kind, source = open_source(plan, self._sources, gallery.model)
        source.close()
        if has_images(kind):
            self._extractor.runnable(gallery.model)
        metadata = imports_pb2.ImportFacesMetadata(
            gallery=request.gallery, create_time=convert.timestamp(now_us()), stage="waiting"
        )
        operation = self._operations.start(_IMPORT, request, metadata, self._importing(request))
        return imports_pb2.ImportFacesResponse(operation=operation)

    def _importing(self, request: imports_pb2.ImportFacesRequest) -> Work:
        def work(job: Job) -> imports_pb2.Import:
            gallery = self._database.gallery(names.parse_gallery(request.gallery))
            try:
                self._import(gallery, convert_imports.plan(request), job)
                record = gallery.imports.end(job.id, ImportState.DONE)
            except Exception as error:
                if not job.interrupted and gallery.imports.find(job.id) is not None:
                    _end(gallery, job.id, error)
                raise
            finally:
                pace = self._paces.pop(job.id, Pace())
            return convert_imports.import_(gallery.record.id, record, pace)

        return work

    def _import(self, gallery: Gallery, plan: ImportPlan, job: Job) -> None:
        metadata = imports_pb2.ImportFacesMetadata()
        job.metadata.Unpack(metadata)

        def report(record: ImportRecord, pace: Pace, stage: str) -> None:
            self._paces[job.id] = pace
            metadata.progress, metadata.stage = pace.progress, stage
            message = convert_imports.import_(gallery.record.id, record, pace)
            getattr(metadata, "import").CopyFrom(message)
            job.report(metadata)

        kind, source = open_source(plan, self._sources, gallery.model, job.check)
        try:
            reader = _Reader(self._extractor, gallery.record, plan) if has_images(kind) else None
            run = ImportRun(gallery, job.id, plan, kind, source, reader, report, job.check)
            run.run()
        finally:
            source.close()

    def GetImport(  # noqa: N802
        self, request: imports_pb2.GetImportRequest, context: grpc.ServicerContext
    ) -> imports_pb2.GetImportResponse:
        """One import as it stands."""
        gallery_id, import_id = names.parse_import(request.name)
        record = self._database.gallery(gallery_id).imports.get(import_id)
        return imports_pb2.GetImportResponse(**{"import": self._message(gallery_id, record)})

    def ListImports(  # noqa: N802
        self, request: imports_pb2.ListImportsRequest, context: grpc.ServicerContext
    ) -> imports_pb2.ListImportsResponse:
        """The imports that a gallery keeps, oldest first."""
        gallery_id = names.parse_gallery(request.parent)
        gallery = self._database.gallery(gallery_id)
        listing = f"{gallery.record.uid} imports"
        size = paging.page_size(request.page_size)
        after = paging.read_token(request.page_token, listing)
        rest = [one for one in gallery.imports.all() if one.id > after]
        page, more = paging.cut_page([self._message(gallery_id, one) for one in rest], size)
        token = paging.token_after(rest[len(page) - 1].id, listing) if more else ""
        return imports_pb2.ListImportsResponse(imports=page, next_page_token=token)

    def ListImportFailures(  # noqa: N802
        self, request: imports_pb2.ListImportFailuresRequest, context: grpc.ServicerContext
    ) -> imports_pb2.ListImportFailuresResponse:
        """What an import could not enrol."""
        gallery_id, import_id = names.parse_import(request.parent)
        gallery = self._database.gallery(gallery_id)
        listing = f"{request.parent} {request.reason}"
        size = paging.page_size(request.page_size)
        start = paging.read_number(request.page_token, listing) + 1
        found = gallery.imports.failures(import_id, start, size + 1, request.reason)
        messages = [convert_imports.failure(one) for _, one in found]
        page, more = paging.cut_page(messages, size)
        token = paging.token_after(found[len(page) - 1][0], listing) if more else ""
        return imports_pb2.ListImportFailuresResponse(failures=page, next_page_token=token)

    def PauseImport(  # noqa: N802
        self, request: imports_pb2.PauseImportRequest, context: grpc.ServicerContext
    ) -> imports_pb2.PauseImportResponse:
        """Holds an import."""
        message = self._hold(request.name, paused=True)
        return imports_pb2.PauseImportResponse(**{"import": message})

    def ResumeImport(  # noqa: N802
        self, request: imports_pb2.ResumeImportRequest, context: grpc.ServicerContext
    ) -> imports_pb2.ResumeImportResponse:
        """Lets an import go on."""
        message = self._hold(request.name, paused=False)
        return imports_pb2.ResumeImportResponse(**{"import": message})

    def _hold(self, name: str, *, paused: bool) -> imports_pb2.Import:
        gallery_id, import_id = names.parse_import(name)

        def hold(record: ImportRecord) -> ImportRecord:
            if record.state is not ImportState.RUNNING:
                raise FailedPreconditionError(
                    "the import has ended", {"import": import_id, "state": str(record.state)}
                )
            return replace(record, paused=paused)

        record = self._database.gallery(gallery_id).imports.change(import_id, hold)
        return self._message(gallery_id, record)

    def _message(self, gallery_id: str, record: ImportRecord) -> imports_pb2.Import:
        known = Pace(record.done_count / record.entry_count if record.entry_count else 0.0)
        pace = self._paces.get(record.id, known)
        return convert_imports.import_(gallery_id, record, pace)

    def ExportFaces(  # noqa: N802
        self, request: imports_pb2.ExportFacesRequest, context: grpc.ServicerContext
    ) -> imports_pb2.ExportFacesResponse:
        """Starts an export."""
        self._database.gallery(names.parse_gallery(request.gallery))
        runs = _export_run()
        target = self._targets.target(request.path)
        runs.check_target(target, overwrite=request.overwrite)
        metadata = imports_pb2.ExportFacesMetadata(
            gallery=request.gallery, create_time=convert.timestamp(now_us()), stage="waiting"
        )
        operation = self._operations.start(_EXPORT, request, metadata, self._exporting(request))
        return imports_pb2.ExportFacesResponse(operation=operation)

    def _exporting(self, request: imports_pb2.ExportFacesRequest) -> Work:
        def work(job: Job) -> imports_pb2.Export:
            gallery = self._database.gallery(names.parse_gallery(request.gallery))
            metadata = imports_pb2.ExportFacesMetadata()
            job.metadata.Unpack(metadata)

            def progress(done: float, stage: str) -> None:
                metadata.progress, metadata.stage = done, stage
                job.report(metadata)

            target = self._targets.target(request.path)
            # By this name a restart finds what a crash has left, and replaces it.
            aside = target.with_name(f".{target.name}.{job.id}.partial")
            done = _export_run().export_gallery(
                gallery,
                target,
                aside,
                overwrite=request.overwrite,
                progress=progress,
                check=job.check,
            )
            return convert_imports.exported(gallery.record.id, str(target), done)

        return work


class _Reader:
    """Reads images for an import, after all interactive work."""

    def __init__(self, extractor: Extractor, record: GalleryRecord, plan: ImportPlan) -> None:
        self._extractor = extractor
        self._record = record
        self._options = ExtractOptions(choice=plan.choice, bulk=True)
        if plan.loose:
            self._options = ExtractOptions(bulk=True)

    def submit(self, image: bytes) -> "Future[Extraction]":
        return self._extractor.submit(image, self._record, self._options)

    def chosen(self, found: Extraction) -> tuple[ExtractedFace, ...]:
        return chosen_faces(found, self._options.choice)


def _end(gallery: Gallery, import_id: str, error: Exception) -> None:
    if isinstance(error, CancelledError):
        gallery.imports.end(import_id, ImportState.CANCELLED)
        return
    known = error if isinstance(error, IndexerError) else unexpected("an import")
    gallery.imports.end(import_id, ImportState.FAILED, known)


def _export_run() -> ModuleType:
    """The part that writes Parquet, which not every server has."""
    try:
        from visagedb_indexer.exchange import export_run
    except ModuleNotFoundError as error:
        raise no_pyarrow() from error
    return export_run


def _end_abandoned(database: Database, unfinished: set[str]) -> None:
    """Imports whose operation was cancelled before the server stopped do not go on."""
    for gallery in database.galleries():
        for record in gallery.imports.all():
            if record.state is ImportState.RUNNING and record.id not in unfinished:
                gallery.imports.end(record.id, ImportState.CANCELLED)
