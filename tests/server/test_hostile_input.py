"""Whatever a caller sends, the answer is a typed refusal or a result, never INTERNAL."""

from collections.abc import Callable, Iterator

import grpc
import pytest
from google.longrunning import operations_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from servers import make_config
from wire import DIMENSION, Api, refusal_of

from visagedb.v1 import clusters_pb2, galleries_pb2, identities_pb2, search_pb2
from visagedb_server.server import Server

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
IDS = st.sampled_from(["people", "ada", "f", "x", "..", "", "é", "a" * 128, "a" * 129])
NAMES = (
    TEXTS
    | st.builds("galleries/{}".format, IDS)
    | st.builds("galleries/people/identities/{}".format, IDS)
    | st.builds("galleries/people/identities/{}/faces/{}".format, IDS, IDS)
    | st.builds("galleries/people/clusterings/{}".format, IDS)
    | st.builds("galleries/people/clusterings/{}/clusters/{}".format, IDS, st.integers())
    | st.builds("operations/{}".format, IDS)
)
FILTERS = TEXTS | st.lists(
    st.sampled_from(["labels.a", "=", "!=", ":", "*", "(", ")", "AND", "OR", "NOT", '"x"', "y"]),
    max_size=8,
).map(" ".join)
VECTORS = st.binary(max_size=80) | st.binary(min_size=4 * DIMENSION, max_size=4 * DIMENSION)
INTEGERS = st.integers(-(2**31), 2**31 - 1)
FLOATS = st.floats(width=32)
TEMPLATES = st.fixed_dictionaries({"vector": VECTORS, "model": st.just("") | TEXTS})
PROBES = (
    st.fixed_dictionaries({"template": TEMPLATES, "face_selection": st.integers(0, 9)})
    | st.fixed_dictionaries({"image": st.binary(max_size=20)})
    | st.fixed_dictionaries({"face": NAMES})
    | st.just({})
)
TIMES = st.fixed_dictionaries({"seconds": st.integers(-(2**63), 2**63 - 1), "nanos": INTEGERS})
IDENTITIES = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES,
        "etag": TEXTS,
        "display_name": TEXTS,
        "labels": st.dictionaries(TEXTS, TEXTS, max_size=3),
        "expire_time": TIMES,
    },
)
MASKS = st.lists(st.sampled_from(["*", "display_name", "labels", "metadata", "expire_time", "x"]))
PAGES = {"page_size": INTEGERS, "page_token": TEXTS}


def fields(**given_fields: st.SearchStrategy) -> st.SearchStrategy[dict]:
    return st.fixed_dictionaries({}, optional=given_fields)


Calls = dict[str, tuple[Callable, type, st.SearchStrategy[dict]]]


def calls(api: Api) -> Calls:
    every: Calls = {}

    def add(service: object, module: object, method: str, **strategies: object) -> None:
        request = getattr(module, f"{method}Request")
        every[method] = (getattr(service, method), request, fields(**strategies))

    model = fields(name=TEXTS, version=TEXTS, dimension=st.integers(-5, 3000), sha256=TEXTS)
    gallery = fields(
        name=NAMES, model=model, threshold=FLOATS, score_fusion=INTEGERS, display_name=TEXTS
    )
    identities, search = api.identities, api.search
    add(api.galleries, galleries_pb2, "GetGallery", name=NAMES)
    add(
        api.galleries, galleries_pb2, "CreateGallery", gallery_id=st.just("people"), gallery=gallery
    )
    add(api.galleries, galleries_pb2, "ListGalleries", **PAGES)
    add(
        api.galleries,
        galleries_pb2,
        "UpdateGallery",
        gallery=gallery,
        update_mask=st.fixed_dictionaries({"paths": MASKS}),
    )
    add(api.galleries, galleries_pb2, "GetGalleryStats", name=NAMES)
    add(
        identities,
        identities_pb2,
        "CreateIdentity",
        parent=NAMES,
        identity_id=IDS,
        identity=IDENTITIES,
        request_id=TEXTS,
    )
    add(identities, identities_pb2, "GetIdentity", name=NAMES)
    add(identities, identities_pb2, "ListIdentities", parent=NAMES, filter=FILTERS, **PAGES)
    add(
        identities,
        identities_pb2,
        "UpdateIdentity",
        identity=IDENTITIES,
        update_mask=st.fixed_dictionaries({"paths": MASKS}),
    )
    add(
        identities,
        identities_pb2,
        "DeleteIdentity",
        name=NAMES,
        etag=TEXTS,
        allow_missing=st.booleans(),
    )
    add(
        identities,
        identities_pb2,
        "EnrollFace",
        identity=NAMES,
        template=TEMPLATES,
        face_id=IDS,
        allow_missing=st.booleans(),
        new_identity=IDENTITIES,
        source=TEXTS,
        request_id=TEXTS,
        face_selection=st.integers(-1, 9),
    )
    add(identities, identities_pb2, "GetFace", name=NAMES, include_template=st.booleans())
    add(
        identities,
        identities_pb2,
        "ListFaces",
        parent=NAMES,
        include_template=st.booleans(),
        **PAGES,
    )
    add(identities, identities_pb2, "DeleteFace", name=NAMES, allow_missing=st.booleans())
    point = fields(threshold=FLOATS) | fields(max_false_positive_rate=st.floats())
    add(
        search,
        search_pb2,
        "Identify",
        gallery=st.just("galleries/people") | NAMES,
        probe=PROBES,
        top_k=INTEGERS,
        filter=FILTERS,
        min_score=FLOATS,
        operating_point=point,
        exact=st.booleans(),
    )
    reference = {"other": PROBES}
    add(
        search,
        search_pb2,
        "Verify",
        gallery=st.just("galleries/people") | NAMES,
        probe=PROBES,
        operating_point=point,
        **reference,
    )
    add(search, search_pb2, "DetectFaces", image=st.binary(max_size=50))
    add(search, search_pb2, "EmbedFaces", image=st.binary(max_size=50), gallery=NAMES)
    add(api.clusters, clusters_pb2, "GetClustering", name=NAMES)
    add(api.clusters, clusters_pb2, "ListClusters", parent=NAMES, min_size=INTEGERS, **PAGES)
    add(api.clusters, clusters_pb2, "ListClusterMembers", parent=NAMES, **PAGES)
    duration = st.fixed_dictionaries(
        {"seconds": st.integers(-(2**63), 2**63 - 1), "nanos": INTEGERS}
    )
    add(api.operations, operations_pb2, "GetOperation", name=NAMES)
    add(api.operations, operations_pb2, "WaitOperation", name=NAMES, timeout=duration)
    add(api.operations, operations_pb2, "ListOperations", filter=TEXTS, **PAGES)
    return every


ALLOWED = {"INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "ABORTED", "FAILED_PRECONDITION"}


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    server = Server(make_config(tmp_path_factory.mktemp("hostile") / "data"))
    server.start()
    api = Api(server.address)
    api.create_gallery()
    yield api
    api.close()
    server.stop(grace=1)


@pytest.fixture(scope="module")
def every_call(victim: Api) -> Calls:
    return calls(victim)


@settings(max_examples=1500, deadline=None)
@given(data=st.data())
def test_any_request_is_answered_or_refused_with_a_reason(
    every_call: Calls, data: st.DataObject
) -> None:
    method = data.draw(st.sampled_from(sorted(every_call)))
    call, request, strategy = every_call[method]
    message = request(**data.draw(strategy))
    try:
        call(message)
    except grpc.RpcError as error:
        refusal = refusal_of(error)
        assert refusal.code in ALLOWED, refusal


@settings(max_examples=200, deadline=None)
@given(
    method=st.sampled_from(["GalleryService/GetGallery", "IdentityService/EnrollFace"]),
    junk=st.binary(max_size=100),
)
def test_bytes_that_are_no_message_do_no_harm(victim: Api, method: str, junk: bytes) -> None:
    with pytest.raises(grpc.RpcError):
        victim.channel.unary_unary(f"/visagedb.v1.{method}")(junk)
    assert victim.gallery().name == "galleries/people"
