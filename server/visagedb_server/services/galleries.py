"""GalleryService."""

import grpc

from visagedb.v1 import galleries_pb2, galleries_pb2_grpc
from visagedb_indexer import defaults, limits
from visagedb_indexer.clock import now_us
from visagedb_indexer.database import Database
from visagedb_indexer.errors import CalibrationNotFoundError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import GalleryPatch
from visagedb_indexer.store import GalleryRecord
from visagedb_indexer.validation import check_label_key
from visagedb_indexer.values import ModelIdentity
from visagedb_server import (
    convert,
    convert_calibration,
    convert_erasures,
    convert_gate,
    convert_quotas,
    names,
    paging,
)
from visagedb_server.access import current_caller
from visagedb_server.extraction import Extractor
from visagedb_server.operations import Job, Operations
from visagedb_server.services.upkeep import Upkeep

_CHANGEABLE = (
    *("display_name", "threshold", "score_fusion", "mate_loss_bound", "quotas"),
    *convert_gate.FIELDS,
)


class GalleryService(galleries_pb2_grpc.GalleryServiceServicer):
    """Galleries: create, read, change, delete."""

    def __init__(
        self,
        database: Database,
        extractor: Extractor,
        operations: Operations,
        upkeep: Upkeep,
    ) -> None:
        self._upkeep = upkeep
        self._database = database
        self._extractor = extractor
        self._operations = operations

    def CreateGallery(  # noqa: N802
        self, request: galleries_pb2.CreateGalleryRequest, context: grpc.ServicerContext
    ) -> galleries_pb2.CreateGalleryResponse:
        """Creates a gallery."""
        asked = request.gallery
        fusion = convert.fusion(asked.score_fusion)
        model = self._extractor.identity(
            ModelIdentity(
                name=asked.model.name,
                version=asked.model.version,
                dimension=asked.model.dimension,
                sha256=asked.model.sha256,
                precision=asked.model.precision,
            )
        )
        new = GalleryRecord(
            id=request.gallery_id,
            uid="",
            model=model,
            create_time_us=0,
            update_time_us=0,
            flip_averaging=self._flip_averaging(asked, model),
            display_name=asked.display_name,
            threshold=asked.threshold if asked.HasField("threshold") else None,
            fusion=fusion,
            mate_loss_bound=asked.mate_loss_bound or limits.MATE_LOSS_BOUND_DEFAULT,
            gate=convert_gate.settings(asked.enrolment_gate),
            quotas=convert_quotas.quotas(asked.quotas),
        )
        gallery = self._database.create_gallery(new, request.request_id)
        return galleries_pb2.CreateGalleryResponse(gallery=_gallery(gallery))

    def _flip_averaging(self, asked: galleries_pb2.Gallery, model: ModelIdentity) -> bool:
        """What was asked for; else what identifies best, where this server makes the vectors."""
        if asked.HasField("embedding"):
            return asked.embedding.flip_averaging
        return defaults.FLIP_AVERAGING and self._extractor.card(model.name) is not None

    def GetGallery(  # noqa: N802
        self, request: galleries_pb2.GetGalleryRequest, context: grpc.ServicerContext
    ) -> galleries_pb2.GetGalleryResponse:
        """One gallery."""
        gallery = self._database.gallery(names.parse_gallery(request.name))
        return galleries_pb2.GetGalleryResponse(gallery=_gallery(gallery))

    def ListGalleries(  # noqa: N802
        self, request: galleries_pb2.ListGalleriesRequest, context: grpc.ServicerContext
    ) -> galleries_pb2.ListGalleriesResponse:
        """The caller's galleries by id."""
        sees = current_caller().sees
        size = paging.page_size(request.page_size)
        after = paging.read_token(request.page_token, "galleries")
        found = {one.record.id: one for one in self._database.galleries()}
        damaged = self._database.damaged()
        rest = sorted(one for one in {*found, *damaged} if one > after and sees(one))
        page, more = paging.cut_page(
            [
                _gallery(found[one]) if one in found else convert.damaged_gallery(one, damaged[one])
                for one in rest[: size + 1]
            ],
            size,
        )
        return galleries_pb2.ListGalleriesResponse(
            galleries=page,
            next_page_token=paging.token_after(rest[len(page) - 1], "galleries") if more else "",
        )

    def UpdateGallery(  # noqa: N802
        self, request: galleries_pb2.UpdateGalleryRequest, context: grpc.ServicerContext
    ) -> galleries_pb2.UpdateGalleryResponse:
        """Changes settings."""
        asked = request.gallery
        fields = convert.masked(request.update_mask.paths, _CHANGEABLE)
        fusion = convert.fusion(asked.score_fusion) if "score_fusion" in fields else None
        with_threshold = "threshold" in fields
        checks = convert_gate.settings(asked.enrolment_gate)
        quality, duplicate, mismatch = (field in fields for field in convert_gate.FIELDS)
        gallery = self._database.gallery(names.parse_gallery(asked.name))
        gallery.update(
            GalleryPatch(
                display_name=asked.display_name if "display_name" in fields else None,
                threshold=(
                    asked.threshold if with_threshold and asked.HasField("threshold") else None
                ),
                clear_threshold=with_threshold and not asked.HasField("threshold"),
                fusion=fusion,
                mate_loss_bound=(
                    asked.mate_loss_bound or limits.MATE_LOSS_BOUND_DEFAULT
                    if "mate_loss_bound" in fields
                    else None
                ),
                quality_check=checks.quality if quality else None,
                duplicate_check=checks.duplicate if duplicate else None,
                mismatch_check=checks.mismatch if mismatch else None,
                quotas=convert_quotas.quotas(asked.quotas) if "quotas" in fields else None,
            ),
            asked.etag,
        )
        return galleries_pb2.UpdateGalleryResponse(gallery=_gallery(gallery))

    def DeleteGallery(  # noqa: N802
        self, request: galleries_pb2.DeleteGalleryRequest, context: grpc.ServicerContext
    ) -> galleries_pb2.DeleteGalleryResponse:
        """Deletes a gallery and all that is in it."""
        receipt = self._database.delete_gallery(
            names.parse_gallery(request.name), request.etag, allow_missing=request.allow_missing
        )
        return galleries_pb2.DeleteGalleryResponse(
            erasure=None if receipt is None else convert_erasures.erasure(receipt)
        )

    def GetGalleryStats(  # noqa: N802
        self, request: galleries_pb2.GetGalleryStatsRequest, context: grpc.ServicerContext
    ) -> galleries_pb2.GetGalleryStatsResponse:
        """Counts and sizes."""
        gallery = self._database.gallery(names.parse_gallery(request.name))
        stats = convert.stats(gallery.stats())
        if (calibration := gallery.calibrations.latest) is not None:
            stats.calibration.CopyFrom(
                convert_calibration.calibration(gallery.record.id, calibration)
            )
        return galleries_pb2.GetGalleryStatsResponse(stats=stats)

    def CalibrateGallery(  # noqa: N802
        self, request: galleries_pb2.CalibrateGalleryRequest, context: grpc.ServicerContext
    ) -> galleries_pb2.CalibrateGalleryResponse:
        """Starts a calibration."""
        gallery = self._database.gallery(names.parse_gallery(request.name))
        if request.label_key:
            check_label_key(request.label_key, "label_key")
        metadata = galleries_pb2.CalibrateGalleryMetadata(
            gallery=request.name, create_time=convert.timestamp(now_us()), stage="waiting"
        )

        def work(job: Job) -> galleries_pb2.Calibration:
            def progress(done: float, stage: str) -> None:
                if metadata.stage == stage:
                    job.check()
                    return
                metadata.progress, metadata.stage = done, stage
                job.report(metadata)

            made = gallery.calibrations.calibrate(progress, request.label_key)
            metadata.progress, metadata.stage = 1.0, "done"
            job.report(metadata)
            return convert_calibration.calibration(gallery.record.id, made)

        operation = self._operations.start("calibrate", request, metadata, work)
        return galleries_pb2.CalibrateGalleryResponse(operation=operation)

    def GetCalibration(  # noqa: N802
        self, request: galleries_pb2.GetCalibrationRequest, context: grpc.ServicerContext
    ) -> galleries_pb2.GetCalibrationResponse:
        """A calibration by version, or the latest."""
        gallery_id, version = names.parse_calibration(request.name)
        calibrations = self._database.gallery(gallery_id).calibrations
        found = calibrations.latest if version is None else calibrations.find(version)
        if found is None:
            raise CalibrationNotFoundError(
                f"there is no {request.name}; it was forgotten, or never made",
                {"calibration": request.name},
            )
        return galleries_pb2.GetCalibrationResponse(
            calibration=convert_calibration.calibration(gallery_id, found)
        )

    def VerifyGalleryIntegrity(  # noqa: N802
        self, request: galleries_pb2.VerifyGalleryIntegrityRequest, context: grpc.ServicerContext
    ) -> galleries_pb2.VerifyGalleryIntegrityResponse:
        """Starts a check of a gallery, or a repair."""
        operation = self._upkeep.verify(request)
        return galleries_pb2.VerifyGalleryIntegrityResponse(operation=operation)

    def SnapshotGallery(  # noqa: N802
        self, request: galleries_pb2.SnapshotGalleryRequest, context: grpc.ServicerContext
    ) -> galleries_pb2.SnapshotGalleryResponse:
        """Starts a backup of a gallery."""
        operation = self._upkeep.snapshot(request)
        return galleries_pb2.SnapshotGalleryResponse(operation=operation)


def _gallery(gallery: Gallery) -> galleries_pb2.Gallery:
    message = convert.gallery(gallery)
    message.enrolment_gate.CopyFrom(convert_gate.gate(gallery.record.gate))
    return message
