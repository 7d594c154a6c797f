"""Methods about clusterings and the operations that make them."""

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from visagedb import _convert as convert
from visagedb._answers import Cluster, Clustering, ClusterMember, OperationStatus
from visagedb._call import Call, Page, Pages, Started, call
from visagedb._inputs import new_request_id, resource
from visagedb._names import check_id, gallery_name
from visagedb.v1 import clusters_pb2 as pb

_OPERATIONS = "/google.longrunning.Operations"


def cluster(
    gallery: str,
    *,
    threshold: float | None = None,
    filter: str = "",  # noqa: A002 (the API's own word)
    timeout: float | None = None,
) -> Started[Clustering]:
    """Starts to group the faces of a gallery by person, whatever they are enrolled as.

    Args:
        gallery: Id of the gallery.
        threshold: Mean cosine above which two clusters are one; None for the model's.
        filter: Only the faces of identities whose labels pass; see `identify`.
        timeout: Seconds to start it; None means the client's default.

    Returns:
        A handle on the operation, whose result is a `Clustering`.

    Raises:
        GalleryTooLargeError: The gallery has more faces than the server clusters.
    """
    request = pb.ClusterRequest(
        gallery=gallery_name(gallery),
        filter=filter,
        threshold=threshold,
        request_id=new_request_id(),
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
