"""ClusterService."""

from dataclasses import replace
from typing import Final

import grpc
import numpy as np

from visagedb.v1 import clusters_pb2, clusters_pb2_grpc
from visagedb_indexer.clock import now_us
from visagedb_indexer.cluster_run import ClusterPlan, cluster_gallery
from visagedb_indexer.database import Database
from visagedb_indexer.errors import IndexerError, InvalidArgumentError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.moves import Destination
from visagedb_indexer.store import ClusterRecord
from visagedb_indexer.values import FaceScope, FindingKind
from visagedb_server import convert, names, paging
from visagedb_server.extraction import Extractor
from visagedb_server.operations import Job, Operations, Work
from visagedb_server.services.changes import entry, faces_of
from visagedb_server.services.gallery_audits import start_audit

_KIND: Final = "cluster"


class ClusterService(clusters_pb2_grpc.ClusterServiceServicer):
    """Groups faces by person."""

    def __init__(self, database: Database, extractor: Extractor, operations: Operations) -> None:
        self._database = database
        self._extractor = extractor
        self._operations = operations
        operations.register(
            _KIND, lambda data: self._work(clusters_pb2.ClusterRequest.FromString(data))
        )
        unfinished = operations.unfinished()
        for gallery in database.galleries():
            gallery.clusterings.tidy(unfinished)

    def Cluster(  # noqa: N802
        self, request: clusters_pb2.ClusterRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.ClusterResponse:
        """Starts a clustering run."""
        gallery = self._database.gallery(names.parse_gallery(request.gallery))
        plan = self._plan(request, gallery)
        if plan.base:
            gallery.clusterings.get(plan.base)
        metadata = clusters_pb2.ClusterMetadata(
            gallery=request.gallery, create_time=convert.timestamp(now_us()), stage="waiting"
        )
        operation = self._operations.start(_KIND, request, metadata, self._work(request))
        return clusters_pb2.ClusterResponse(operation=operation)

    def _work(self, request: clusters_pb2.ClusterRequest) -> Work:
        def work(job: Job) -> clusters_pb2.Clustering:
            gallery = self._database.gallery(names.parse_gallery(request.gallery))
            metadata = clusters_pb2.ClusterMetadata()
            job.metadata.Unpack(metadata)

            def progress(done: float, stage: str) -> None:
                # After a restart the work done before is not counted twice.
                metadata.progress, metadata.stage = done, stage
                job.report(metadata)

            try:
                record = cluster_gallery(
                    gallery,
                    job.id,
                    self._plan(request, gallery),
                    progress=progress,
                )
            except IndexerError:
                if not job.stopped.is_set():
                    gallery.clusterings.remove_work(job.id)
                raise
            metadata.progress, metadata.stage = 1.0, "done"
            job.report(metadata)
            return convert.clustering(gallery.record.id, record)

        return work

    def _plan(self, request: clusters_pb2.ClusterRequest, gallery: Gallery) -> ClusterPlan:
        base = ""
        if request.base:
            base_gallery, base = names.parse_clustering(request.base)
            if base_gallery != gallery.record.id or request.scope:
                raise InvalidArgumentError(
                    "a base is a clustering of the same gallery, and brings its scope",
                    {"field": "base"},
                )
        default = FaceScope.IDENTITIES if request.filter else FaceScope.ALL
        plan = ClusterPlan(
            scope=convert.scope(request.scope, default),
            filter=request.filter,
            method=request.method,
            threshold=request.threshold if request.HasField("threshold") else None,
            base=base,
        )
        plan.check()
        if plan.needs_threshold and plan.threshold is None:
            plan = replace(plan, threshold=self._threshold(gallery))
        return plan

    def _threshold(self, gallery: Gallery) -> float:
        default = self._extractor.threshold(gallery.model, "identify")
        if default is None:
            raise InvalidArgumentError(
                "the gallery's model has no default threshold; give one", {"field": "threshold"}
            )
        return default

    def GetClustering(  # noqa: N802
        self, request: clusters_pb2.GetClusteringRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.GetClusteringResponse:
        """The result of a run."""
        gallery_id, clustering_id = names.parse_clustering(request.name)
        record = self._database.gallery(gallery_id).clusterings.get(clustering_id)
        return clusters_pb2.GetClusteringResponse(clustering=convert.clustering(gallery_id, record))

    def ListClusterings(  # noqa: N802
        self, request: clusters_pb2.ListClusteringsRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.ListClusteringsResponse:
        """The results that a gallery keeps, oldest first."""
        gallery_id = names.parse_gallery(request.parent)
        gallery = self._database.gallery(gallery_id)
        listing = f"{gallery.record.uid} clusterings"
        size = paging.page_size(request.page_size)
        after = paging.read_token(request.page_token, listing)
        rest = [one for one in gallery.clusterings.all() if one.id > after]
        page, more = paging.cut_page([convert.clustering(gallery_id, one) for one in rest], size)
        token = paging.token_after(rest[len(page) - 1].id, listing) if more else ""
        return clusters_pb2.ListClusteringsResponse(clusterings=page, next_page_token=token)

    def DeleteClustering(  # noqa: N802
        self, request: clusters_pb2.DeleteClusteringRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.DeleteClusteringResponse:
        """Forgets a result; faces and identities stay."""
        gallery_id, clustering_id = names.parse_clustering(request.name)
        clusterings = self._database.gallery(gallery_id).clusterings
        if not request.allow_missing:
            clusterings.get(clustering_id)
        clusterings.delete(clustering_id)
        return clusters_pb2.DeleteClusteringResponse()

    def ListClusters(  # noqa: N802
        self, request: clusters_pb2.ListClustersRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.ListClustersResponse:
        """The clusters of a run, largest first."""
        gallery_id, clustering_id = names.parse_clustering(request.parent)
        gallery = self._database.gallery(gallery_id)
        size = paging.page_size(request.page_size)
        start = paging.read_number(request.page_token, request.parent) + 1
        found = gallery.clusterings.clusters(clustering_id, start, size + 1)
        response = clusters_pb2.ListClustersResponse()
        for rank, cluster in found[:size]:
            if len(cluster.ordinals) // 8 >= request.min_size:
                response.clusters.append(_cluster(gallery, clustering_id, rank, cluster))
        record = gallery.clusterings.get(clustering_id)
        smaller = len(response.clusters) < len(found[:size]) and not record.edit_count
        if len(found) > size and not smaller:
            response.next_page_token = paging.token_after(found[size - 1][0], request.parent)
        return response

    def ListClusterMembers(  # noqa: N802
        self, request: clusters_pb2.ListClusterMembersRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.ListClusterMembersResponse:
        """The faces of a cluster, most central first; deleted ones are left out."""
        gallery_id, clustering_id, rank = names.parse_cluster(request.parent)
        gallery = self._database.gallery(gallery_id)
        cluster = gallery.clusterings.cluster(clustering_id, rank)
        size = paging.page_size(request.page_size)
        start = paging.read_number(request.page_token, request.parent) + 1
        members = ordinals_of(cluster)
        centralities = dict(
            zip(members, np.frombuffer(cluster.centralities, "<f4").tolist(), strict=True)
        )
        response = clusters_pb2.ListClusterMembersResponse()
        for ordinal, identity_id, face in gallery.locate(members[start : start + size]):
            response.members.add(
                face=names.face_name(gallery_id, identity_id, face.id),
                centrality=centralities[ordinal],
                source=face.source,
                detection=convert.detection(face),
            )
        if start + size < len(members):
            response.next_page_token = paging.token_after(start + size - 1, request.parent)
        return response

    def AssignCluster(  # noqa: N802
        self, request: clusters_pb2.AssignClusterRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.AssignClusterResponse:
        """Makes a cluster an identity, or part of one."""
        gallery_id, clustering_id, rank = names.parse_cluster(request.cluster)
        gallery = self._database.gallery(gallery_id)
        members = ordinals_of(gallery.clusterings.cluster(clustering_id, rank))
        excluded = {
            gallery.face(identity_id, face_id)[0].ordinal
            for identity_id, face_id in faces_of(request.excluded_faces, gallery_id)
        }
        moved = gallery.moves.assign(
            [ordinal for ordinal in members if ordinal not in excluded],
            Destination(
                request.identity_id, convert.new_identity(request.new_identity), request.etag
            ),
            scope=convert.scope(request.scope, FaceScope.LOOSE),
            request_id=request.request_id,
        )
        assert moved.identity is not None
        return clusters_pb2.AssignClusterResponse(
            identity=convert.identity(gallery_id, moved.identity),
            moved_face_count=len(moved.faces),
            lineage=entry(gallery, moved.lineage),
        )

    def JoinClusters(  # noqa: N802
        self, request: clusters_pb2.JoinClustersRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.JoinClustersResponse:
        """Makes one cluster of several."""
        parsed = {names.parse_cluster(name) for name in request.clusters}
        if len({one[:2] for one in parsed}) != 1 or len(parsed) < 2:
            raise InvalidArgumentError(
                "name two or more clusters of one clustering", {"field": "clusters"}
            )
        gallery_id, clustering_id, _ = next(iter(parsed))
        gallery = self._database.gallery(gallery_id)
        rank, cluster = gallery.clusterings.join(clustering_id, sorted(one[2] for one in parsed))
        return clusters_pb2.JoinClustersResponse(
            cluster=_cluster(gallery, clustering_id, rank, cluster)
        )

    def SplitCluster(  # noqa: N802
        self, request: clusters_pb2.SplitClusterRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.SplitClusterResponse:
        """Makes a cluster of its own of some faces of one."""
        gallery_id, clustering_id, rank = names.parse_cluster(request.cluster)
        gallery = self._database.gallery(gallery_id)
        leaving = {
            gallery.face(identity_id, face_id)[0].ordinal
            for identity_id, face_id in faces_of(request.faces, gallery_id)
        }
        (new, left), remaining = gallery.clusterings.split(clustering_id, rank, leaving)
        return clusters_pb2.SplitClusterResponse(
            cluster=_cluster(gallery, clustering_id, new, left),
            remaining=_cluster(gallery, clustering_id, rank, remaining),
        )

    def UndoClusterEdit(  # noqa: N802
        self, request: clusters_pb2.UndoClusterEditRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.UndoClusterEditResponse:
        """Undoes the last join or split."""
        gallery_id, clustering_id = names.parse_clustering(request.clustering)
        record = self._database.gallery(gallery_id).clusterings.undo(clustering_id)
        return clusters_pb2.UndoClusterEditResponse(
            clustering=convert.clustering(gallery_id, record)
        )

    def FindDuplicates(  # noqa: N802
        self, request: clusters_pb2.FindDuplicatesRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.FindDuplicatesResponse:
        """Starts an audit that looks for duplicate identities only."""
        gallery = self._database.gallery(names.parse_gallery(request.gallery))
        kinds = [FindingKind.DUPLICATE_IDENTITIES]
        operation = start_audit(self._operations, gallery, request, request.filter, kinds)
        return clusters_pb2.FindDuplicatesResponse(operation=operation)


def ordinals_of(cluster: ClusterRecord) -> list[int]:
    """The faces of a cluster, most central first."""
    return [int(ordinal) for ordinal in np.frombuffer(cluster.ordinals, "<i8")]


def _cluster(
    gallery: Gallery, clustering_id: str, rank: int, record: ClusterRecord
) -> clusters_pb2.Cluster:
    gallery_id = gallery.record.id
    members = ordinals_of(record)
    message = clusters_pb2.Cluster(
        name=names.cluster_name(gallery_id, clustering_id, rank),
        size=len(members),
        cohesion=record.cohesion,
        cover_face=_cover(gallery, members),
    )
    if record.nearest >= 0:
        message.nearest_cluster = names.cluster_name(gallery_id, clustering_id, record.nearest)
        message.nearest_score = record.nearest_score
    return message


def _cover(gallery: Gallery, members: list[int]) -> str:
    for _, identity_id, face in gallery.locate(members):
        return names.face_name(gallery.record.id, identity_id, face.id)
    return ""
