"""Every call of the client is a method of the contract."""

import pkgutil
from importlib import import_module
from typing import Any

import pytest
from google.longrunning import operations_pb2

from visagedb import v1
from visagedb._api import changes, clusters, faces, galleries, health, identities, search
from visagedb._call import Call
from visagedb._channel import KEEPALIVE_MS, channel_options, service_config

FACE = "galleries/g/identities/i/faces/f"
CALLS: list[Call[Any]] = [
    galleries.create_gallery("g"),
    galleries.get_gallery("g"),
    galleries.list_galleries().page("t"),
    galleries.update_gallery("g", display_name="G"),
    galleries.delete_gallery("g"),
    galleries.gallery_stats("g"),
    identities.create_identity("g"),
    identities.get_identity("g", "i"),
    identities.list_identities("g").page("t"),
    identities.update_identity("g", "i", display_name="I"),
    identities.delete_identity("g", "i"),
    faces.enroll("g", "i", image=b"x"),
    faces.get_face("g", "i", "f"),
    faces.list_faces("g", "i").page("t"),
    faces.delete_face("g", "i", "f"),
    faces.enroll_loose("g", image=b"x"),
    changes.move_faces("g", [FACE], "i"),
    changes.merge_identities("g", "i", ["j"]),
    changes.split_identity("g", "i", [FACE]),
    changes.list_lineage("g").page("t"),
    changes.undo_change("galleries/g/lineage/1"),
    search.identify("g", face=FACE),
    search.find_faces("g", face=FACE),
    search.verify([1.0], [2.0]),
    search.detect(b"x"),
    search.embed(b"x"),
    clusters.cluster("g").call,
    clusters.get_clustering("galleries/g/clusterings/c"),
    clusters.clusters("galleries/g/clusterings/c").page("t"),
    clusters.cluster_members("galleries/g/clusterings/c/clusters/1").page("t"),
    clusters.list_clusterings("g").page("t"),
    clusters.delete_clustering("galleries/g/clusterings/c"),
    clusters.assign_cluster("galleries/g/clusterings/c/clusters/1", "i"),
    clusters.join_clusters(["galleries/g/clusterings/c/clusters/1"]),
    clusters.split_cluster("galleries/g/clusterings/c/clusters/1", [FACE]),
    clusters.undo_cluster_edit("galleries/g/clusterings/c"),
    clusters.get_operation("operations/o"),
    clusters.list_operations().page("t"),
    clusters.cancel_operation("operations/o"),
]
FILES = [
    *(
        import_module(f"{v1.__name__}.{module.name}")
        for module in pkgutil.iter_modules(v1.__path__)
        if module.name.endswith("_pb2")
    ),
    operations_pb2,
]
METHODS = {
    f"/{service.full_name}/{method.name}": method
    for file in FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.path.rpartition("/")[2])
def test_path_and_types_are_those_of_the_contract(call: Call[Any]) -> None:
    method = METHODS[call.path]
    assert call.request.DESCRIPTOR is method.input_type
    assert call.response_type.DESCRIPTOR is method.output_type


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.path.rpartition("/")[2])
def test_empty_answers_convert(call: Call[Any]) -> None:
    call.convert(call.response_type())


def test_health_has_the_path_of_the_standard() -> None:
    assert health.health().path == "/grpc.health.v1.Health/Check"
    assert health.health().request.SerializeToString() == b""


def test_repeated_methods_exist_and_are_safe() -> None:
    import json

    (config,) = json.loads(service_config())["methodConfig"]
    repeated = {f"/{name['service']}/{name['method']}" for name in config["name"]}
    assert repeated <= METHODS.keys()
    for path in repeated:
        writes = not path.rpartition("/")[2].startswith(("Get", "List", "Verify"))
        fields = METHODS[path].input_type.fields_by_name
        harmless = "SearchService" in path or path.endswith(("CancelOperation", "RevokeApiKey"))
        assert not writes or harmless or "request_id" in fields, path


def test_pings_stay_under_the_limit_of_servers() -> None:
    assert KEEPALIVE_MS > 300_000


def test_proxies_are_not_asked_for_this_machine() -> None:
    assert ("grpc.enable_http_proxy", 0) in channel_options("127.0.0.1:1")
    assert ("grpc.enable_http_proxy", 0) not in channel_options("faces.example:1")
