"""What is done with the result of a clustering: named, joined, split, added to, forgotten."""

import numpy as np
import pytest
from google.longrunning import operations_pb2
from support import mates, random_vectors
from wire import DIMENSION, Api, read_pages, refused, template

from visagedb.v1 import clusters_pb2 as pb
from visagedb.v1 import identities_pb2, types_pb2
from visagedb_indexer import limits

PEOPLE = "galleries/people"
CENTRES = random_vectors(5, DIMENSION)
SIZES = (6, 4, 3, 1)


def enroll(api: Api, person: int, count: int, seed: int = 0) -> list[str]:
    names = []
    for i in range(count):
        vector = mates(CENTRES[person : person + 1], 0.97, seed=100 * seed + i)[0]
        request = identities_pb2.EnrollLooseFacesRequest(
            gallery=PEOPLE, template=template(vector), source=f"{person}/{i}.jpg"
        )
        names.append(api.identities.EnrollLooseFaces(request).faces[0].name)
    return names


def clustered(api: Api, **fields: object) -> pb.Clustering:
    operation = api.cluster(**fields)
    clustering = pb.Clustering()
    assert operation.response.Unpack(clustering), operation
    return clustering


def clusters(api: Api, clustering: pb.Clustering) -> list[pb.Cluster]:
    request = pb.ListClustersRequest(parent=clustering.name, page_size=2)
    pages = read_pages(api.clusters.ListClusters, request)
    return [cluster for page in pages for cluster in page.clusters]


def members(api: Api, cluster: str) -> list[str]:
    request = pb.ListClusterMembersRequest(parent=cluster)
    return [member.face for member in api.clusters.ListClusterMembers(request).members]


def groups(api: Api, clustering: pb.Clustering) -> set[frozenset[str]]:
    return {frozenset(members(api, one.name)) for one in clusters(api, clustering)}


@pytest.fixture
def archive(api: Api) -> Api:
    """Loose faces of four people."""
    for person, count in enumerate(SIZES):
        enroll(api, person, count)
    return api


def test_loose_faces_are_clustered_and_described(archive: Api) -> None:
    clustering = clustered(archive)
    assert (clustering.face_count, clustering.cluster_count, clustering.single_count) == (14, 3, 1)
    assert clustering.scope == types_pb2.FACE_SCOPE_ALL
    found = clusters(archive, clustering)
    assert [one.size for one in found] == list(SIZES)
    assert all(0.9 < one.cohesion <= 1 for one in found)
    assert found[0].cover_face == members(archive, found[0].name)[0]


def test_the_nearest_cluster_and_its_score(api: Api) -> None:
    near = mates(CENTRES[:1], 0.6)
    for centre in (CENTRES[0], near[0]):
        for i in range(3):
            vector = mates(centre[None], 0.98, seed=i)[0]
            api.identities.EnrollLooseFaces(
                identities_pb2.EnrollLooseFacesRequest(gallery=PEOPLE, template=template(vector))
            )
    clustering = clustered(api, method="average-linkage", threshold=0.75)
    first, second = clusters(api, clustering)
    # Only edges above the threshold are in the graph, so that they are out of sight there.
    assert (first.nearest_cluster, second.nearest_cluster) in (
        ("", ""),
        (second.name, first.name),
    )


def test_scopes(archive: Api) -> None:
    archive.enroll("ada", CENTRES[4])
    assert clustered(archive, scope=types_pb2.FACE_SCOPE_LOOSE).face_count == 14
    assert clustered(archive, scope=types_pb2.FACE_SCOPE_IDENTITIES).face_count == 1
    assert clustered(archive).face_count == 15


def test_a_cluster_becomes_an_identity_and_an_undo_takes_it_back(archive: Api) -> None:
    first = clusters(archive, clustered(archive))[0]
    faces = members(archive, first.name)
    request = pb.AssignClusterRequest(
        cluster=first.name,
        identity_id="ada",
        new_identity=identities_pb2.Identity(display_name="Ada"),
        excluded_faces=faces[-1:],
        request_id="r1",
    )
    answer = archive.clusters.AssignCluster(request)
    assert archive.clusters.AssignCluster(request) == answer
    assert (answer.identity.display_name, answer.moved_face_count) == ("Ada", 5)
    assert archive.best(CENTRES[0]) == "ada"
    assert archive.gallery().loose_face_count == 9
    # The cluster still holds its faces, under their new names.
    assert len(members(archive, first.name)) == 6
    archive.identities.UndoChange(identities_pb2.UndoChangeRequest(name=answer.lineage.name))
    assert archive.best(CENTRES[0]) == ""
    assert archive.gallery().identity_count == 0


def test_only_loose_faces_are_assigned_unless_all_are_meant(archive: Api) -> None:
    vector = mates(CENTRES[:1], 0.97, seed=77)[0]
    archive.enroll("bea", vector)
    first = clusters(archive, clustered(archive))[0]
    assert first.size == 7
    request = pb.AssignClusterRequest(cluster=first.name, identity_id="ada")
    assert archive.clusters.AssignCluster(request).moved_face_count == 6
    assert archive.identity("bea").face_count == 1
    request = pb.AssignClusterRequest(
        cluster=first.name, identity_id="ada", scope=types_pb2.FACE_SCOPE_ALL
    )
    answer = archive.clusters.AssignCluster(request)
    assert (answer.moved_face_count, answer.identity.face_count) == (1, 7)
    # Everybody is there already: nothing changes, and there is nothing to undo.
    assert not archive.clusters.AssignCluster(request).HasField("lineage")


def test_joined_and_split_clusters_and_their_undoing(archive: Api) -> None:
    clustering = clustered(archive)
    before = groups(archive, clustering)
    found = clusters(archive, clustering)
    joined = archive.clusters.JoinClusters(
        pb.JoinClustersRequest(clusters=[found[2].name, found[0].name])
    ).cluster
    assert (joined.name, joined.size) == (found[0].name, 9)
    leaving = members(archive, joined.name)[:2]
    answer = archive.clusters.SplitCluster(
        pb.SplitClusterRequest(cluster=joined.name, faces=leaving)
    )
    assert (answer.cluster.size, answer.remaining.size) == (2, 7)
    # The halves of what was joined by mistake are each other's nearest, or what was so before.
    assert answer.remaining.nearest_cluster == answer.cluster.name
    assert answer.cluster.nearest_cluster == joined.name
    assert answer.cluster.nearest_score == answer.remaining.nearest_score
    assert set(members(archive, answer.cluster.name)) == set(leaving)
    request = pb.GetClusteringRequest(name=clustering.name)
    edited = archive.clusters.GetClustering(request).clustering
    assert (edited.cluster_count, edited.single_count, edited.edit_count) == (3, 1, 2)
    assert sorted(one.size for one in clusters(archive, clustering)) == [1, 2, 4, 7]
    undo = pb.UndoClusterEditRequest(clustering=clustering.name)
    for left in (1, 0):
        assert archive.clusters.UndoClusterEdit(undo).clustering.edit_count == left
    assert groups(archive, clustering) == before
    with refused("FAILED_PRECONDITION", "NOT_UNDOABLE"):
        archive.clusters.UndoClusterEdit(undo)


def test_bad_edits_change_nothing(archive: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    clustering = clustered(archive)
    first, second, *_ = clusters(archive, clustering)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "clusters"):
        archive.clusters.JoinClusters(pb.JoinClustersRequest(clusters=[first.name]))
    with refused("NOT_FOUND", "CLUSTERING_NOT_FOUND"):
        archive.clusters.JoinClusters(
            pb.JoinClustersRequest(clusters=[first.name, f"{clustering.name}/clusters/99"])
        )
    for faces in ([], members(archive, first.name), members(archive, second.name)[:1]):
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "faces"):
            archive.clusters.SplitCluster(pb.SplitClusterRequest(cluster=first.name, faces=faces))
    monkeypatch.setattr(limits, "CLUSTER_EDITS_MAX", 0)
    with refused("RESOURCE_EXHAUSTED", "LIMIT_EXCEEDED"):
        archive.clusters.JoinClusters(pb.JoinClustersRequest(clusters=[first.name, second.name]))
    assert [one.size for one in clusters(archive, clustering)] == list(SIZES)


def test_new_faces_join_or_found_clusters(api: Api) -> None:
    wide, centres = "galleries/wide", random_vectors(60, 128, seed=4)
    api.create_gallery("wide", dimension=128)

    def enroll_wide(person: int, seeds: range) -> set[str]:
        requests = [
            identities_pb2.EnrollLooseFacesRequest(
                gallery=wide,
                template=template(mates(centres[person : person + 1], 0.85, seed=seed)[0]),
            )
            for seed in seeds
        ]
        return {api.identities.EnrollLooseFaces(one).faces[0].name for one in requests}

    known = [enroll_wide(person, range(3)) for person in range(50)]
    run = {"gallery": "wide", "threshold": None}
    base = clustered(api, **run)
    assert groups(api, base) == set(map(frozenset, known))
    joining, founding = enroll_wide(1, range(10, 12)), enroll_wide(55, range(3))
    gone = known[0].pop()
    api.identities.DeleteFace(identities_pb2.DeleteFaceRequest(name=gone))
    after = clustered(api, base=base.name, **run)
    assert (after.base, after.method, after.face_count) == (base.name, base.method, 154)
    known[1] |= joining
    assert groups(api, after) == set(map(frozenset, [*known, founding]))
    unchanged = clustered(api, base=after.name, **run)
    assert groups(api, unchanged) == groups(api, after)


def test_old_clusterings_are_forgotten(archive: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLUSTERINGS_KEPT_MAX", 2)
    made = [clustered(archive).name for _ in range(4)]
    request = pb.ListClusteringsRequest(parent=PEOPLE, page_size=1)
    pages = read_pages(archive.clusters.ListClusterings, request)
    assert [one.name for page in pages for one in page.clusterings] == made[2:]
    with refused("NOT_FOUND", "CLUSTERING_NOT_FOUND"):
        archive.clusters.ListClusters(pb.ListClustersRequest(parent=made[0]))
    archive.clusters.DeleteClustering(pb.DeleteClusteringRequest(name=made[3]))
    with refused("NOT_FOUND", "CLUSTERING_NOT_FOUND"):
        archive.clusters.DeleteClustering(pb.DeleteClusteringRequest(name=made[3]))
    archive.clusters.DeleteClustering(pb.DeleteClusteringRequest(name=made[3], allow_missing=True))


def test_every_method_that_is_installed_runs(archive: Api) -> None:
    for method in ("average-linkage", "chinese-whispers", "components"):
        assert clustered(archive, method=method, threshold=0.5).cluster_count == 3
    operation = archive.cluster(method="plda", threshold=None)
    assert isinstance(operation, operations_pb2.Operation)
    assert operation.HasField("response")


def test_equal_faces_are_one_person(api: Api) -> None:
    for i in range(5):
        api.enroll(f"p{i}", CENTRES[0], face_id="f")
    [one] = clusters(api, clustered(api))
    assert one.size == 5
    assert np.isclose(one.cohesion, 1.0)
