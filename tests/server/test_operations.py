import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.longrunning import operations_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2
from servers import make_config
from support import mates, random_vectors
from wire import DIMENSION, Api, read_pages, refused

from visagedb.v1 import clusters_pb2, galleries_pb2, identities_pb2, types_pb2
from visagedb_indexer import limits
from visagedb_indexer.store import Catalogue, OperationRecord
from visagedb_server.server import Server
from visagedb_server.services import clusters

CENTRES = random_vectors(4, DIMENSION)


@pytest.fixture
def crowd(api: Api) -> Api:
    """Four people of 5, 4, 3 and 1 faces, each face enrolled as an identity of its own."""
    for person, count in enumerate((5, 4, 3, 1)):
        for i in range(count):
            vector = mates(CENTRES[person : person + 1], 0.97, seed=i)[0]
            api.enroll(f"p{person}-{i}", vector, face_id="f", source=f"{person}/{i}.jpg")
    return api


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Clustering stops half-way until the event is set."""
    go_on = threading.Event()

    def held_back(*args: object, progress: object, **options: object) -> object:
        progress(0.5, "held back")
        while not go_on.wait(0.01):
            progress(0.5, "held back")
        return cluster_gallery(*args, progress=progress, **options)

    cluster_gallery = clusters.cluster_gallery
    monkeypatch.setattr(clusters, "cluster_gallery", held_back)
    yield go_on
    go_on.set()


def start(api: Api, **fields: object) -> operations_pb2.Operation:
    request = clusters_pb2.ClusterRequest(
        **{"gallery": "galleries/people", "threshold": 0.5, **fields}
    )
    return api.clusters.Cluster(request).operation


def wait(api: Api, name: str, seconds: float = 60) -> operations_pb2.Operation:
    timeout = Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9))
    request = operations_pb2.WaitOperationRequest(name=name, timeout=timeout)
    return api.operations.WaitOperation(request)


def result(operation: operations_pb2.Operation) -> clusters_pb2.Clustering:
    assert operation.done
    clustering = clusters_pb2.Clustering()
    assert operation.response.Unpack(clustering), operation
    return clustering


def listed(api: Api) -> list[str]:
    request = operations_pb2.ListOperationsRequest()
    return [operation.name for operation in api.operations.ListOperations(request).operations]


def test_clusters_are_listed_by_size_and_their_members_by_closeness(crowd: Api) -> None:
    clustering = result(crowd.cluster())
    assert (clustering.face_count, clustering.cluster_count, clustering.single_count) == (13, 3, 1)
    assert clustering.gallery_generation == crowd.gallery().generation
    found = crowd.clusters.GetClustering(clusters_pb2.GetClusteringRequest(name=clustering.name))
    assert found.clustering == clustering
    request = clusters_pb2.ListClustersRequest(parent=clustering.name, page_size=3)
    pages = list(read_pages(crowd.clusters.ListClusters, request))
    groups = [cluster for page in pages for cluster in page.clusters]
    assert [cluster.size for cluster in groups] == [5, 4, 3, 1]
    assert [len(page.clusters) for page in pages] == [3, 1]
    for person, cluster in enumerate(groups):
        listing = clusters_pb2.ListClusterMembersRequest(parent=cluster.name, page_size=2)
        member_pages = list(read_pages(crowd.clusters.ListClusterMembers, listing))
        members = [member for page in member_pages for member in page.members]
        assert {member.source.split("/")[0] for member in members} == {str(person)}
        assert len({member.face for member in members}) == cluster.size
        assert members[0].face == cluster.cover_face
        scores = [member.centrality for member in members]
        assert scores == sorted(scores, reverse=True)


def test_small_clusters_can_be_left_out(crowd: Api) -> None:
    clustering = result(crowd.cluster())
    request = clusters_pb2.ListClustersRequest(parent=clustering.name, min_size=4, page_size=1)
    pages = list(read_pages(crowd.clusters.ListClusters, request))
    assert [cluster.size for page in pages for cluster in page.clusters] == [5, 4]


def test_deleted_faces_leave_the_listing(crowd: Api) -> None:
    clustering = result(crowd.cluster())
    for i in range(4):
        crowd.identities.DeleteIdentity(
            identities_pb2.DeleteIdentityRequest(name=f"galleries/people/identities/p0-{i}")
        )
    request = clusters_pb2.ListClustersRequest(parent=clustering.name)
    first = crowd.clusters.ListClusters(request).clusters[0]
    assert first.cover_face == "galleries/people/identities/p0-4/faces/f"
    listing = clusters_pb2.ListClusterMembersRequest(parent=first.name)
    members = crowd.clusters.ListClusterMembers(listing).members
    assert [member.face for member in members] == [first.cover_face]


def test_an_empty_gallery_has_no_clusters(api: Api) -> None:
    clustering = result(api.cluster())
    assert (clustering.face_count, clustering.cluster_count) == (0, 0)
    request = clusters_pb2.ListClustersRequest(parent=clustering.name)
    assert not api.clusters.ListClusters(request).clusters


def test_clustering_of_a_filter(crowd: Api) -> None:
    assert result(crowd.cluster(filter="labels.none:*")).face_count == 0


def test_bad_requests_start_nothing(api: Api) -> None:
    for fields, reason in (
        ({"threshold": 2}, "INVALID_ARGUMENT"),
        ({"threshold": float("nan")}, "INVALID_ARGUMENT"),
        ({"filter": "x"}, "INVALID_FILTER"),
        ({"request_id": "x" * 129}, "INVALID_ARGUMENT"),
    ):
        with refused("INVALID_ARGUMENT", reason):
            start(api, **fields)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "threshold"):
        start(api, method="components", threshold=None)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "threshold"):
        start(api, method="plda")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "method"):
        start(api, method="magic")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "scope"):
        start(api, scope=17)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "filter"):
        start(api, scope=types_pb2.FACE_SCOPE_LOOSE, filter="labels.a:*")
    with refused("NOT_FOUND", "CLUSTERING_NOT_FOUND"):
        start(api, base="galleries/people/clusterings/none", threshold=None)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "base"):
        start(api, base="galleries/people/clusterings/none")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "base"):
        start(api, base="galleries/other/clusterings/none", threshold=None)
    assert listed(api) == []


def test_a_run_that_fails_says_why(crowd: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visagedb_indexer.limits.CLUSTER_FACES_MAX", 3)
    operation = crowd.cluster()
    assert operation.done
    assert "at most 3" in operation.error.message
    assert operation.error.details[0].type_url.endswith("google.rpc.ErrorInfo")


def test_the_same_request_starts_one_run(crowd: Api) -> None:
    first = start(crowd, request_id="r1")
    assert start(crowd, request_id="r1").name == first.name
    with refused("ALREADY_EXISTS", "REQUEST_ID_REUSED"):
        start(crowd, request_id="r1", threshold=0.4)
    assert len(listed(crowd)) == 1
    crowd.operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=first.name))
    with refused("NOT_FOUND", "OPERATION_NOT_FOUND"):
        start(crowd, request_id="r1")


def test_an_operation_reports_its_progress_and_can_be_waited_for(
    crowd: Api, held: threading.Event
) -> None:
    name = start(crowd).name
    waited = wait(crowd, name, 0.1)
    assert not waited.done
    metadata = clusters_pb2.ClusterMetadata()
    while metadata.stage != "held back":
        operation = crowd.operations.GetOperation(operations_pb2.GetOperationRequest(name=name))
        assert operation.metadata.Unpack(metadata)
    assert (metadata.gallery, metadata.progress) == ("galleries/people", 0.5)
    held.set()
    assert result(wait(crowd, name)).face_count == 13


@pytest.mark.parametrize("seconds", [2**62, 10**12])
def test_a_wait_of_any_length_is_understood(crowd: Api, seconds: int) -> None:
    name = start(crowd).name
    request = operations_pb2.WaitOperationRequest(name=name, timeout=Duration(seconds=seconds))
    assert crowd.operations.WaitOperation(request).done
    request.timeout.seconds = -seconds
    assert crowd.operations.WaitOperation(request).done


def test_a_cancelled_operation_stops(crowd: Api, held: threading.Event) -> None:
    name = start(crowd).name
    crowd.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name))
    operation = wait(crowd, name)
    assert operation.done
    assert operation.error.code == 1
    crowd.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=name))


def test_operations_wait_for_a_free_thread_and_can_be_cancelled_there(
    crowd: Api, held: threading.Event
) -> None:
    names = [start(crowd).name for _ in range(4)]
    crowd.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=names[3]))
    held.set()
    finished = [wait(crowd, name) for name in names]
    assert [operation.HasField("error") for operation in finished] == [False] * 3 + [True]


def test_a_deleted_operation_stays_deleted_when_its_run_ends(
    crowd: Api, held: threading.Event, vector_server: Server
) -> None:
    name = start(crowd).name
    [job] = vector_server._operations._running.values()
    crowd.operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=name))
    assert job.finished.wait(60)
    assert listed(crowd) == []
    with refused("NOT_FOUND", "OPERATION_NOT_FOUND"):
        wait(crowd, name)


@pytest.mark.parametrize("page_size", [1, 2, 5])
def test_all_pages_list_every_operation_once(api: Api, page_size: int) -> None:
    names = [api.cluster().name for _ in range(4)]
    request = operations_pb2.ListOperationsRequest(page_size=page_size)
    pages = list(read_pages(api.operations.ListOperations, request))
    assert [operation.name for page in pages for operation in page.operations] == names


@pytest.mark.parametrize("method", ["Get", "Wait", "Cancel", "Delete"])
def test_an_operation_that_is_not_there(api: Api, method: str) -> None:
    request = getattr(operations_pb2, f"{method}OperationRequest")
    call = getattr(api.operations, f"{method}Operation")
    with refused("NOT_FOUND", "OPERATION_NOT_FOUND"):
        call(request(name="operations/none"))
    with refused("INVALID_ARGUMENT", "INVALID_NAME"):
        call(request(name="operations/../x"))


def test_a_clustering_that_is_not_there(api: Api) -> None:
    parent = "galleries/people/clusterings/none"
    with refused("NOT_FOUND", "CLUSTERING_NOT_FOUND"):
        api.clusters.GetClustering(clusters_pb2.GetClusteringRequest(name=parent))
    with refused("NOT_FOUND", "CLUSTERING_NOT_FOUND"):
        api.clusters.ListClusters(clusters_pb2.ListClustersRequest(parent=parent))
    with refused("NOT_FOUND", "CLUSTERING_NOT_FOUND"):
        api.clusters.ListClusterMembers(
            clusters_pb2.ListClusterMembersRequest(parent=f"{parent}/clusters/0")
        )
    clustering = result(api.cluster())
    with refused("NOT_FOUND", "CLUSTERING_NOT_FOUND"):
        api.clusters.ListClusterMembers(
            clusters_pb2.ListClusterMembersRequest(parent=f"{clustering.name}/clusters/0")
        )


def test_deleting_a_gallery_ends_its_run_with_an_error(crowd: Api, held: threading.Event) -> None:
    name = start(crowd).name
    crowd.galleries.DeleteGallery(galleries_pb2.DeleteGalleryRequest(name="galleries/people"))
    held.set()
    operation = wait(crowd, name)
    assert operation.done
    assert operation.HasField("error")


def test_a_restart_marks_operations_that_were_cut_short(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data"))
    server.start()
    server.stop(grace=0)
    catalogue = Catalogue(tmp_path / "data" / "catalogue")
    catalogue.put_operation(OperationRecord("0001-x", "cluster", 1))
    catalogue.close()
    server = Server(make_config(tmp_path / "data"))
    server.start()
    api = Api(server.address)
    operation = wait(api, "operations/0001-x")
    assert operation.done
    assert "the server stopped" in operation.error.message
    api.close()
    server.stop(grace=0)


def test_a_stopped_clustering_goes_on_after_a_restart(
    held: threading.Event, tmp_path: Path
) -> None:
    server = Server(make_config(tmp_path / "second"))
    server.start()
    api = Api(server.address)
    api.create_gallery()
    name = start(api).name
    server.stop(grace=1)
    api.close()
    server = Server(make_config(tmp_path / "second"))
    server.start()
    api = Api(server.address)
    assert not wait(api, name, 0.1).done
    held.set()
    assert result(wait(api, name)).face_count == 0
    api.close()
    server.stop(grace=0)


def test_a_cancelled_clustering_does_not_go_on_after_a_restart(tmp_path: Path) -> None:
    catalogue_path = tmp_path / "data" / "catalogue"
    server = Server(make_config(tmp_path / "data"))
    server.start()
    server.stop(grace=0)
    request = clusters_pb2.ClusterRequest(gallery="galleries/people").SerializeToString()
    catalogue = Catalogue(catalogue_path)
    catalogue.put_operation(
        OperationRecord("0001-x", "cluster", 1, request=request, cancelled=True)
    )
    catalogue.close()
    server = Server(make_config(tmp_path / "data"))
    server.start()
    api = Api(server.address)
    assert wait(api, "operations/0001-x").error.code == code_pb2.CANCELLED
    api.close()
    server.stop(grace=0)


def test_old_operations_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OPERATIONS_KEPT_MAX", 3)
    server = Server(make_config(tmp_path / "data"))
    server.start()
    api = Api(server.address)
    api.create_gallery()
    names = [api.cluster().name for _ in range(6)]
    assert names[-3:] == listed(api)[-3:]
    assert len(listed(api)) <= 4
    api.close()
    server.stop(grace=0)


def test_a_wait_that_finds_no_place_answers_at_once(
    crowd: Api, held: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = start(crowd).name
    waits = [threading.Thread(target=wait, args=(crowd, name, 30)) for _ in range(16)]
    for one in waits:
        one.start()
    # However many wait, others are answered.
    assert crowd.gallery().face_count == 13
    held.set()
    for one in waits:
        one.join(60)
    assert wait(crowd, name).done
