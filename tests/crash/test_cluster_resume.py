"""A clustering outlives its server: killed on the way, it goes on and ends with the same result."""

import time
from pathlib import Path

import pytest
from google.longrunning import operations_pb2
from servers import ServerProcess, start_process
from support import mates, random_vectors, write_gallery
from wire import Api, read_pages

from visagedb.v1 import clusters_pb2
from visagedb_indexer.database import Database
from visagedb_indexer.store import GalleryRecord
from visagedb_indexer.values import ModelIdentity

PEOPLE, FACES_EACH, DIMENSION = 6000, 4, 64


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with enough faces for a run of some seconds."""
    data = tmp_path_factory.mktemp("crowd") / "data"
    database = Database(data)
    record = GalleryRecord(
        id="people",
        uid="",
        model=ModelIdentity("test", "1", DIMENSION),
        create_time_us=0,
        update_time_us=0,
    )
    uid = database.create_gallery(record).record.uid
    database.close()
    folder = data / "galleries" / uid
    for file in folder.iterdir():
        file.unlink()
    centres = random_vectors(PEOPLE, DIMENSION, seed=8)
    vectors = mates(centres.repeat(FACES_EACH, axis=0), 0.8, seed=9)
    write_gallery(folder, [i // FACES_EACH for i in range(len(vectors))], vectors)
    return data


def start(data: Path) -> tuple[ServerProcess, Api]:
    process = start_process(data, "--workers", "0", "--log-level", "warning")
    return process, Api(process.address)


def begin(api: Api) -> str:
    request = clusters_pb2.ClusterRequest(gallery="galleries/people")
    return api.clusters.Cluster(request).operation.name


def progress(api: Api, name: str) -> tuple[float, str, bool]:
    operation = api.operations.GetOperation(operations_pb2.GetOperationRequest(name=name))
    metadata = clusters_pb2.ClusterMetadata()
    operation.metadata.Unpack(metadata)
    return metadata.progress, metadata.stage, operation.done


def wait_until(api: Api, name: str, least: float) -> float:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        found, _, done = progress(api, name)
        if found >= least or done:
            return found
        time.sleep(0.002)
    raise AssertionError(f"the run never came to {least}")


def result(api: Api, name: str) -> list[tuple[str, ...]]:
    """All clusters with their members, in the order of the listing."""
    wait_until(api, name, 2.0)
    operation = api.operations.GetOperation(operations_pb2.GetOperationRequest(name=name))
    clustering = clusters_pb2.Clustering()
    assert operation.response.Unpack(clustering), operation
    assert clustering.face_count == PEOPLE * FACES_EACH
    request = clusters_pb2.ListClustersRequest(parent=clustering.name, page_size=1000)
    found = []
    for page in read_pages(api.clusters.ListClusters, request):
        for cluster in page.clusters[::20]:
            inner = clusters_pb2.ListClusterMembersRequest(parent=cluster.name)
            faces = api.clusters.ListClusterMembers(inner).members
            found.append(tuple(member.face for member in faces))
        found += [(cluster.cover_face, str(cluster.size)) for cluster in page.clusters]
    return found


def test_a_killed_clustering_goes_on_and_finds_the_same(crowd: Path) -> None:
    process, api = start(crowd)
    undisturbed = result(api, begin(api))
    work = next((crowd / "galleries").glob("*/clusterings"), None)
    assert work is None or not list(work.iterdir()), "a finished run leaves nothing behind"
    for moment in (0.1, 0.5, 0.9):
        name = begin(api)
        reached = wait_until(api, name, moment)
        assert reached < 1.0, "the run was over before it could be killed"
        process.kill()
        api.close()
        process, api = start(crowd)
        assert result(api, name) == undisturbed
    # Killed again and again, it still gets there.
    name = begin(api)
    for moment in (0.05, 0.3, 0.6):
        wait_until(api, name, moment)
        process.kill()
        api.close()
        process, api = start(crowd)
    assert result(api, name) == undisturbed
    api.close()
    assert process.terminate() == 0
    assert not list(next((crowd / "galleries").glob("*/clusterings")).iterdir())
