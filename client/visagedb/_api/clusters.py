"""Methods about clusterings and the operations that make them."""

from collections.abc import Mapping, Sequence

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from visagedb import _convert as convert
from visagedb import _convert_lineage as convert_lineage
from visagedb._answers import Cluster, Clustering, ClusterMember, OperationStatus
from visagedb._call import Call, Page, Pages, Started, call
from visagedb._inputs import new_request_id, resource, scope_value
from visagedb._lineage import Change
from visagedb._names import check_id, gallery_name
from visagedb._resources import Face
from visagedb._values import FaceScope
from visagedb.v1 import clusters_pb2 as pb
from visagedb.v1.identities_pb2 import Identity

_OPERATIONS = "/google.longrunning.Operations"


def cluster(
    gallery: str,
    *,
    scope: FaceScope | str | None = None,
    filter: str = "",  # noqa: A002 (the API's own word)
    method: str = "",
    threshold: float | None = None,
    base: Clustering | str = "",
    timeout: float | None = None,
) -> Started[Clustering]:
    """Starts to group the faces of a gallery by person, whatever they are enrolled as.

    The run goes on after a restart of the server. It needs no number of people and, with the
    default method, no threshold.

    Args:
        gallery: Id of the gallery.
        scope: Which faces; None for all, or with a filter for those of identities.
        filter: Only the faces of identities whose labels pass; see `identify`.
        method: ``plda`` (the default), ``average-linkage``, ``infomap``, ``leiden``,
            ``chinese-whispers`` or ``components``.
        threshold: For the methods that need one, least cosine of an edge; None for the
            model's. Given without a method, it is the least mean cosine of average-linkage.
        base: An earlier clustering to go on from: faces that it does not have join its
            clusters or found new ones, which takes far less time than a full run.
        timeout: Seconds to start it; None means the client's default.

    Returns:
        A handle on the operation, whose result is a `Clustering`.

    Raises:
        GalleryTooLargeError: The gallery has more faces than the server clusters.
        ClusteringNotFoundError: There is no such base.
    """
    request = pb.ClusterRequest(
        gallery=gallery_name(gallery),
        filter=filter,
        threshold=threshold,
        request_id=new_request_id(),
        scope=scope_value(scope),
        method=method,
        base=resource(base, [Clustering]),
    )
    return Started(
        call(
            "ClusterService/Cluster",
            request,
            pb.ClusterResponse,
            lambda answer: convert.operation_status(answer.operation),
            timeout,
        )
    )


def list_clusterings(
    gallery: str, *, page_size: int = 0, timeout: float | None = None
) -> Pages[Clustering]:
    """The results that a gallery keeps, oldest first, read page by page."""
    parent = gallery_name(gallery)

    def page(token: str) -> Call[Page[Clustering]]:
        return call(
            "ClusterService/ListClusterings",
            pb.ListClusteringsRequest(parent=parent, page_size=page_size, page_token=token),
            pb.ListClusteringsResponse,
            lambda answer: Page(
                tuple(convert.clustering(c) for c in answer.clusterings), answer.next_page_token
            ),
            timeout,
        )

    return Pages(page)


def delete_clustering(
    clustering: Clustering | str, *, missing_ok: bool = False, timeout: float | None = None
) -> Call[None]:
    """Forgets a result; faces and identities stay.

    Raises:
        ClusteringNotFoundError: There is none of this name and `missing_ok` is off.
    """
    request = pb.DeleteClusteringRequest(
        name=resource(clustering, [Clustering]), allow_missing=missing_ok
    )
    return call(
        "ClusterService/DeleteClustering",
        request,
        pb.DeleteClusteringResponse,
        lambda _: None,
        timeout,
    )


def get_clustering(
    clustering: Clustering | str, *, timeout: float | None = None
) -> Call[Clustering]:
    """The result of an earlier run.

    Raises:
        ClusteringNotFoundError: There is none of this name.
    """
    return call(
        "ClusterService/GetClustering",
        pb.GetClusteringRequest(name=resource(clustering, [Clustering])),
        pb.GetClusteringResponse,
        lambda answer: convert.clustering(answer.clustering),
        timeout,
    )


def clusters(
    clustering: Clustering | str,
    *,
    min_size: int = 0,
    page_size: int = 0,
    timeout: float | None = None,
) -> Pages[Cluster]:
    """The clusters of a run, largest first, read page by page.

    Args:
        clustering: The clustering, or its resource name.
        min_size: Leave out smaller clusters.
        page_size: Clusters per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.
    """
    parent = resource(clustering, [Clustering])

    def page(token: str) -> Call[Page[Cluster]]:
        return call(
            "ClusterService/ListClusters",
            pb.ListClustersRequest(
                parent=parent, page_size=page_size, page_token=token, min_size=min_size
            ),
            pb.ListClustersResponse,
            lambda answer: Page(
                tuple(convert.cluster(c) for c in answer.clusters), answer.next_page_token
            ),
            timeout,
        )

    return Pages(page)


def cluster_members(
    cluster: Cluster | str, *, page_size: int = 0, timeout: float | None = None
) -> Pages[ClusterMember]:
    """The faces of a cluster, most central first, read page by page.

    Args:
        cluster: The cluster, or its resource name.
        page_size: Members per request, at most 1,000; 0 for the server's choice.
        timeout: Seconds for each page; None means the client's default.
    """
    parent = resource(cluster, [Cluster])

    def page(token: str) -> Call[Page[ClusterMember]]:
        return call(
            "ClusterService/ListClusterMembers",
            pb.ListClusterMembersRequest(parent=parent, page_size=page_size, page_token=token),
            pb.ListClusterMembersResponse,
            lambda answer: Page(
                tuple(convert.cluster_member(m) for m in answer.members), answer.next_page_token
            ),
            timeout,
        )

    return Pages(page)


def assign_cluster(
    cluster: Cluster | str,
    identity: str = "",
    *,
    display_name: str = "",
    labels: Mapping[str, str] | None = None,
    scope: FaceScope | str | None = None,
    excluded: Sequence[Face | ClusterMember | str] = (),
    etag: str = "",
    timeout: float | None = None,
) -> Call[Change]:
    """Makes a cluster an identity, or part of one that exists; `undo_change` takes it back.

    Args:
        cluster: The cluster, or its resource name.
        identity: Id of the identity, created if there is none; empty, and the server makes
            one.
        display_name: Of an identity that this call creates.
        labels: Of an identity that this call creates.
        scope: Which faces of the cluster; None for the loose ones.
        excluded: Faces of the cluster that are left out.
        etag: If set, must be the identity's present one.
        timeout: Seconds; None means the client's default.

    Raises:
        ClusteringNotFoundError: There is no such cluster.
        EtagMismatchError: The identity changed since it was read.
        LimitExceededError: The identity would have too many faces.
    """
    request = pb.AssignClusterRequest(
        cluster=resource(cluster, [Cluster]),
        identity_id=check_id(identity, "identity") if identity else "",
        new_identity=Identity(display_name=display_name, labels=labels or {}),
        scope=scope_value(scope),
        excluded_faces=[_face_name(face) for face in excluded],
        etag=etag,
        request_id=new_request_id(),
    )
    return call(
        "ClusterService/AssignCluster",
        request,
        pb.AssignClusterResponse,
        convert_lineage.assigned,
        timeout,
    )


def join_clusters(
    clusters: Sequence[Cluster | str], *, timeout: float | None = None
) -> Call[Cluster]:
    """Makes one cluster of several of one clustering; identities are not touched.

    Raises:
        ClusteringNotFoundError: One of the clusters is not there.
    """
    return call(
        "ClusterService/JoinClusters",
        pb.JoinClustersRequest(clusters=[resource(one, [Cluster]) for one in clusters]),
        pb.JoinClustersResponse,
        lambda answer: convert.cluster(answer.cluster),
        timeout,
    )


def split_cluster(
    cluster: Cluster | str,
    faces: Sequence[Face | ClusterMember | str],
    *,
    timeout: float | None = None,
) -> Call[Cluster]:
    """Makes a cluster of its own of some faces of one; identities are not touched.

    Args:
        cluster: The cluster, or its resource name.
        faces: Some, not all, of its faces.
        timeout: Seconds; None means the client's default.

    Returns:
        The new cluster.

    Raises:
        ClusteringNotFoundError: There is no such cluster.
        FaceNotFoundError: One of the faces is not there.
    """
    request = pb.SplitClusterRequest(
        cluster=resource(cluster, [Cluster]), faces=[_face_name(face) for face in faces]
    )
    return call(
        "ClusterService/SplitCluster",
        request,
        pb.SplitClusterResponse,
        lambda answer: convert.cluster(answer.cluster),
        timeout,
    )


def undo_cluster_edit(
    clustering: Clustering | str, *, timeout: float | None = None
) -> Call[Clustering]:
    """Undoes the last join or split of a clustering; again, and the one before.

    Raises:
        NotUndoableError: There is nothing left to undo.
        ClusteringNotFoundError: There is none of this name.
    """
    return call(
        "ClusterService/UndoClusterEdit",
        pb.UndoClusterEditRequest(clustering=resource(clustering, [Clustering])),
        pb.UndoClusterEditResponse,
        lambda answer: convert.clustering(answer.clustering),
        timeout,
    )


def get_operation(
    operation: OperationStatus | str, *, timeout: float | None = None
) -> Call[OperationStatus]:
    """How a long-running operation stands.

    Raises:
        OperationNotFoundError: There is none of this name.
    """
    return call(
        f"{_OPERATIONS}/GetOperation",
        operations_pb2.GetOperationRequest(name=_operation_name(operation)),
        operations_pb2.Operation,
        convert.operation_status,
        timeout,
    )


def list_operations(*, page_size: int = 0, timeout: float | None = None) -> Pages[OperationStatus]:
    """The operations that the server knows of, read page by page."""

    def page(token: str) -> Call[Page[OperationStatus]]:
        return call(
            f"{_OPERATIONS}/ListOperations",
            operations_pb2.ListOperationsRequest(
                name="operations", page_size=page_size, page_token=token
            ),
            operations_pb2.ListOperationsResponse,
            lambda answer: Page(
                tuple(convert.operation_status(o) for o in answer.operations),
                answer.next_page_token,
            ),
            timeout,
        )

    return Pages(page)


def cancel_operation(
    operation: OperationStatus | str, *, timeout: float | None = None
) -> Call[None]:
    """Asks an operation to stop; its status tells when it has.

    Raises:
        OperationNotFoundError: There is none of this name.
    """
    return call(
        f"{_OPERATIONS}/CancelOperation",
        operations_pb2.CancelOperationRequest(name=_operation_name(operation)),
        empty_pb2.Empty,
        lambda _: None,
        timeout,
    )


def _operation_name(operation: OperationStatus | str) -> str:
    """The resource name of an operation, given as a status, a name, or a plain id."""
    name = resource(operation, [OperationStatus])
    return name if "/" in name else f"operations/{check_id(name, 'operation')}"


def _face_name(face: Face | ClusterMember | str) -> str:
    return face.face if isinstance(face, ClusterMember) else resource(face, [Face])
