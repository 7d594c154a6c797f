"""ErasureService."""

from typing import Final

import grpc

from visagedb.v1 import erasures_pb2, erasures_pb2_grpc
from visagedb_indexer.clock import now_us
from visagedb_indexer.compactions import CompactionPolicy
from visagedb_indexer.database import Database
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.store import ErasureRecord
from visagedb_server import convert, convert_erasures, names, paging
from visagedb_server.operations import Job, Operations, Work
from visagedb_server.retention import Retention

_KIND: Final = "compact"


class ErasureService(erasures_pb2_grpc.ErasureServiceServicer):
    """Receipts of erasures, and the compactions that complete them.

    Args:
        database: All galleries.
        operations: Compactions are among them.
        policy: When to compact by itself.
        overwrite: Whether a compaction that begins by itself overwrites the old file.
    """

    def __init__(
        self,
        database: Database,
        operations: Operations,
        policy: CompactionPolicy,
        *,
        overwrite: bool = False,
    ) -> None:
        self._database = database
        self._operations = operations
        self._overwrite = overwrite
        self.retention = Retention(database, policy, self._compact_by_itself)
        operations.register(
            _KIND,
            lambda data: self._work(
                erasures_pb2.CompactGalleryRequest.FromString(data), gently=True
            ),
        )

    def CompactGallery(  # noqa: N802
        self, request: erasures_pb2.CompactGalleryRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.CompactGalleryResponse:
        """Starts a compaction."""
        self._database.gallery(names.parse_gallery(request.name))
        operation = self._operations.start(
            _KIND, request, _metadata(request), self._work(request, gently=False)
        )
        return erasures_pb2.CompactGalleryResponse(operation=operation)

    def _compact_by_itself(self, gallery: Gallery) -> None:
        request = erasures_pb2.CompactGalleryRequest(
            name=names.gallery_name(gallery.record.id), overwrite=self._overwrite
        )
        self._operations.start(_KIND, request, _metadata(request), self._work(request, gently=True))

    def _work(self, request: erasures_pb2.CompactGalleryRequest, *, gently: bool) -> Work:
        def work(job: Job) -> erasures_pb2.Compaction:
            gallery = self._database.gallery(names.parse_gallery(request.name))
            metadata = _metadata(request)
            job.metadata.Unpack(metadata)

            def progress(done: float, stage: str) -> None:
                metadata.progress, metadata.stage = done, stage
                job.report(metadata)

            outcome = gallery.compactions.compact(
                progress, overwrite=request.overwrite, gently=gently
            )
            metadata.progress, metadata.stage = 1.0, "done"
            job.report(metadata)
            return erasures_pb2.Compaction(
                gallery=request.name,
                bytes_before=outcome.database.bytes_before,
                bytes_after=outcome.database.bytes_after,
                completed_erasure_count=outcome.completed,
                held_up_seconds=outcome.database.held_up_seconds,
            )

        return work

    def GetErasure(  # noqa: N802
        self, request: erasures_pb2.GetErasureRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.GetErasureResponse:
        """One receipt."""
        found = self._database.erasure(*names.parse_erasure(request.name))
        return erasures_pb2.GetErasureResponse(erasure=convert_erasures.erasure(found))

    def ListErasures(  # noqa: N802
        self, request: erasures_pb2.ListErasuresRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.ListErasuresResponse:
        """Receipts, newest first."""
        gallery_id = names.parse_gallery(request.parent)
        listing = f"{request.parent} erasures {request.state}"
        size = paging.page_size(request.page_size)
        before = paging.read_token(request.page_token, listing)
        found = self._database.erasures(gallery_id, before, size + 1)
        page, more = found[:size], len(found) > size
        return erasures_pb2.ListErasuresResponse(
            erasures=[
                convert_erasures.erasure(one) for one in page if _in_state(one, request.state)
            ],
            next_page_token=paging.token_after(page[-1].id, listing) if more else "",
        )

    def GetRetention(  # noqa: N802
        self, request: erasures_pb2.GetRetentionRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.GetRetentionResponse:
        """How far the erasing of a gallery is."""
        pending = self._database.gallery(names.parse_gallery(request.name)).erasures.pending()
        retention = erasures_pb2.Retention(
            pending_erasure_count=pending.count,
            clock=convert_erasures.clock(self.retention.clock.read()),
        )
        if pending.oldest_us is not None:
            due_us = pending.oldest_us + int(self.retention.policy.erasure_seconds_max * 1e6)
            retention.oldest_pending_time.CopyFrom(convert.timestamp(pending.oldest_us))
            retention.compaction_due_time.CopyFrom(convert.timestamp(due_us))
        if pending.next_expiry_us is not None:
            retention.next_expire_time.CopyFrom(convert.timestamp(pending.next_expiry_us))
        return erasures_pb2.GetRetentionResponse(retention=retention)

    def ConfirmClock(  # noqa: N802
        self, request: erasures_pb2.ConfirmClockRequest, context: grpc.ServicerContext
    ) -> erasures_pb2.ConfirmClockResponse:
        """Believes the clock again."""
        reading = self.retention.clock.confirm(convert.microseconds(request.time))
        return erasures_pb2.ConfirmClockResponse(clock=convert_erasures.clock(reading))


def _metadata(
    request: erasures_pb2.CompactGalleryRequest,
) -> erasures_pb2.CompactGalleryMetadata:
    return erasures_pb2.CompactGalleryMetadata(
        gallery=request.name, create_time=convert.timestamp(now_us()), stage="waiting"
    )


def _in_state(record: ErasureRecord, state: int) -> bool:
    if not state:
        return True
    return bool(record.complete_time_us) == (state == erasures_pb2.ERASURE_STATE_COMPLETE)
