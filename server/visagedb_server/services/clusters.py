"""ClusterService."""

import uuid

import grpc
import numpy as np

from visagedb.v1 import clusters_pb2, clusters_pb2_grpc
from visagedb_indexer.clock import now_us
from visagedb_indexer.cluster_run import cluster_gallery
from visagedb_indexer.database import Database
from visagedb_indexer.errors import InvalidArgumentError
from visagedb_indexer.filters import parse_filter
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.store import ClusterRecord
from visagedb_indexer.validation import check_cosine
from visagedb_server import convert, names, paging
from visagedb_server.calls import not_supported
from visagedb_server.extraction import Extractor
from visagedb_server.operations import Job, Operations


class ClusterService(clusters_pb2_grpc.ClusterServiceServicer):
    """Groups faces by person."""

    def __init__(self, database: Database, extractor: Extractor, operations: Operations) -> None:
        self._database = database
        self._extractor = extractor
        self._operations = operations

    def Cluster(  # noqa: N802
        self, request: clusters_pb2.ClusterRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.ClusterResponse:
        """Starts a clustering run."""
        gallery = self._database.gallery(names.parse_gallery(request.gallery))
        parse_filter(request.filter)
        threshold = self._threshold(request, gallery)
        metadata = clusters_pb2.ClusterMetadata(
            gallery=request.gallery, create_time=convert.timestamp(now_us()), stage="waiting"
        )

        def work(job: Job) -> clusters_pb2.Clustering:
            def progress(done: float, stage: str) -> None:
                metadata.progress, metadata.stage = done, stage
                job.report(metadata)

            record = cluster_gallery(
                gallery,
                uuid.uuid4().hex,
                filter_text=request.filter,
                threshold=threshold,
                progress=progress,
            )
            metadata.progress, metadata.stage = 1.0, "done"
            job.report(metadata)
            return convert.clustering(gallery.record.id, record)

        operation = self._operations.start("cluster", request, metadata, work)
        return clusters_pb2.ClusterResponse(operation=operation)

    def _threshold(self, request: clusters_pb2.ClusterRequest, gallery: Gallery) -> float:
        if request.HasField("threshold"):
            check_cosine(request.threshold, "threshold")
            return request.threshold
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

    def ListClusters(  # noqa: N802
        self, request: clusters_pb2.ListClustersRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.ListClustersResponse:
        """The clusters of a run, largest first."""
        gallery_id, clustering_id = names.parse_clustering(request.parent)
        gallery = self._database.gallery(gallery_id)
        clustering = gallery.clusterings.get(clustering_id)
        size = paging.page_size(request.page_size)
        start = paging.read_number(request.page_token, request.parent) + 1
        total = clustering.cluster_count + clustering.single_count
        response = clusters_pb2.ListClustersResponse()
        for rank in range(start, total):
            cluster = gallery.clusterings.cluster(clustering_id, rank)
            members = _ordinals(cluster)
            if len(members) < request.min_size:
                break
            if rank == start + size:
                response.next_page_token = paging.token_after(rank - 1, request.parent)
                break
            response.clusters.add(
                name=names.cluster_name(gallery_id, clustering_id, rank),
                size=len(members),
                cohesion=cluster.cohesion,
                cover_face=_cover(gallery, members),
            )
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
        members = _ordinals(cluster)
        centralities = dict(
            zip(members, np.frombuffer(cluster.centralities, "<f4").tolist(), strict=True)
        )
        response = clusters_pb2.ListClusterMembersResponse()
        for ordinal, identity_id, face in gallery.locate(members[start : start + size]):
            response.members.add(
                face=names.face_name(gallery_id, identity_id, face.id),
                centrality=centralities[ordinal],
                source=face.source,
            )
        if start + size < len(members):
            response.next_page_token = paging.token_after(start + size - 1, request.parent)
        return response

    def FindDuplicates(  # noqa: N802
        self, request: clusters_pb2.FindDuplicatesRequest, context: grpc.ServicerContext
    ) -> clusters_pb2.FindDuplicatesResponse:
        """Not implemented yet."""
        raise not_supported("finding duplicate identities")


def _ordinals(cluster: ClusterRecord) -> list[int]:
    return [int(ordinal) for ordinal in np.frombuffer(cluster.ordinals, "<i8")]


def _cover(gallery: Gallery, members: list[int]) -> str:
    for _, identity_id, face in gallery.locate(members):
        return names.face_name(gallery.record.id, identity_id, face.id)
    return ""
