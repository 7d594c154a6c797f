"""The table of rules is complete: every method, and every text of every request."""

import pytest
from descriptors import ALL_SERVICES, Method, all_methods

from visagedb.v1 import clusters_pb2, identities_pb2, search_pb2
from visagedb_indexer.errors import InvalidNameError
from visagedb_server.access.rules import RULES, Scope, gallery_of

METHODS = all_methods()

# Texts of requests that are no names of things in a gallery. A new field of a request is
# either added to the names of its method's rule, or here.
NO_NAMES = {
    "backup_id", "display_name", "display_names", "etag", "face_id", "face_ids", "filter",
    "identity_id", "problem",
    "identity_ids", "item_id", "key", "label_key", "metadata", "method", "model", "page_token",
    "precision", "reasons", "request_id", "sha256", "snapshot_id", "source", "uid", "value",
    "values", "version",
}  # fmt: skip
# Names inside something that is to be created; the server gives it its name.
NOT_READ = {
    ("CreateGallery", "gallery.name"), ("CreateGallery", "gallery.model.name"),
    ("UpdateGallery", "gallery.model.name"), ("CreateIdentity", "identity.name"),
    ("EnrollFace", "new_identity.name"), ("StreamEnrollFaces", "request.new_identity.name"),
    ("MoveFaces", "new_identity.name"), ("SplitIdentity", "new_identity.name"),
    ("AssignCluster", "new_identity.name"),
    # References of the caller's own.
    ("StreamEnrollFaces", "templates.sources"),
    # Files of the server, and words.
    ("ImportFaces", "path"), ("ImportFaces", "naming"), ("ExportFaces", "path"),
    ("ListImportFailures", "reason"),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_every_method_has_a_rule(method: Method) -> None:
    assert method.path in RULES, "decide who may call it: server/visagedb_server/access/rules.py"


def test_no_rule_is_left_over() -> None:
    assert set(RULES) <= {method.path for method in METHODS}


def test_the_server_has_no_service_that_is_not_looked_at() -> None:
    assert {path.split("/")[1] for path in RULES} == set(ALL_SERVICES)


@pytest.mark.parametrize(
    "method", [m for m in METHODS if m.path.startswith("/visagedb.")], ids=lambda m: m.path
)
def test_every_text_of_a_request_is_a_name_or_known_to_be_none(method: Method) -> None:
    rule = RULES[method.path]
    if rule.scope in (Scope.SERVER, Scope.OWN, Scope.OPERATION):
        return
    known = set(rule.names) | set(rule.ids)
    for path in method.texts():
        assert (
            path in known
            or path.rpartition(".")[2] in NO_NAMES
            or (method.descriptor.name, path) in NOT_READ
        ), f"{path} of {method.path}: add it to the rule, or to NO_NAMES"


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_the_names_of_a_rule_are_fields_of_the_request(method: Method) -> None:
    rule = RULES[method.path]
    assert {*rule.names, *rule.ids} <= set(method.texts())
    if rule.scope is Scope.GALLERIES:
        assert rule.names or rule.ids


def test_all_names_of_a_request_count() -> None:
    move = identities_pb2.MoveFacesRequest(
        faces=["galleries/a/identities/x/faces/1", "galleries/b/faces/2"],
        destination="galleries/c/identities/y",
    )
    rule = RULES["/visagedb.v1.IdentityService/MoveFaces"]
    assert rule.galleries(move) == {"a", "b", "c"}
    item = search_pb2.StreamIdentifyRequest(item_id="1")
    item.request.gallery = "galleries/a"
    item.request.probe.face = "galleries/b/faces/1"
    assert RULES["/visagedb.v1.SearchService/StreamIdentify"].galleries(item) == {"a", "b"}
    assign = clusters_pb2.AssignClusterRequest(
        cluster="galleries/a/clusterings/1/clusters/2", excluded_faces=["galleries/b/faces/1"]
    )
    assert RULES["/visagedb.v1.ClusterService/AssignCluster"].galleries(assign) == {"a", "b"}


@pytest.mark.parametrize("name", ["a", "galleries", "galleries/", "/galleries/a", "Galleries/a/b"])
def test_a_name_outside_every_gallery_is_refused(name: str) -> None:
    with pytest.raises(InvalidNameError):
        gallery_of(name)
