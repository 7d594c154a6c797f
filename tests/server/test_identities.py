import math

import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from support import random_vectors, run_together
from wire import DIMENSION, Api, read_pages, refused, template

from visagedb.v1 import identities_pb2, types_pb2

VECTORS = random_vectors(50, DIMENSION)
ADA = "galleries/people/identities/ada"


def update(api: Api, mask: list[str], etag: str = "", **fields: object) -> identities_pb2.Identity:
    request = identities_pb2.UpdateIdentityRequest(
        identity=identities_pb2.Identity(name=ADA, etag=etag, **fields),
        update_mask=FieldMask(paths=mask),
    )
    return api.identities.UpdateIdentity(request).identity


def struct(**values: object) -> Struct:
    result = Struct()
    result.update(values)
    return result


def nested(depth: int) -> Struct:
    result = struct(x=1)
    for _ in range(depth):
        outer = Struct()
        outer.fields["x"].struct_value.CopyFrom(result)
        result = outer
    return result


def test_an_identity_comes_back_as_it_was_created(api: Api) -> None:
    metadata = struct(a=[1, "x", None, True], b={"c": 1e300, "é": ""})
    made = api.create_identity(
        "ada",
        display_name="Ada ☺",
        labels={"site": "nörth", "empty": ""},
        metadata=metadata,
        expire_time=Timestamp(seconds=4_000_000_000, nanos=5000),
    )
    assert made.name == ADA
    assert made.uid
    assert (made.display_name, dict(made.labels)) == ("Ada ☺", {"site": "nörth", "empty": ""})
    assert made.metadata == metadata
    assert made.expire_time == Timestamp(seconds=4_000_000_000, nanos=5000)
    assert made.face_count == 0
    assert api.identity("ada") == made


def test_an_identity_without_an_id_gets_one(api: Api) -> None:
    made = api.create_identity("")
    assert made.name == f"galleries/people/identities/{made.uid}"
    assert api.identity(made.uid) == made


def test_a_taken_id_is_refused(api: Api) -> None:
    api.create_identity("ada")
    with refused("ALREADY_EXISTS", "IDENTITY_EXISTS") as refusal:
        api.create_identity("ada", display_name="Another")
    assert refusal.metadata == {"identity": "ada"}
    assert api.identity("ada").display_name == ""


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"labels": {"Bad": "x"}}, "INVALID_LABELS", "labels"),
        ({"labels": {"a": "x" * 256}}, "INVALID_LABELS", "labels"),
        ({"labels": {f"k{i}": "" for i in range(33)}}, "INVALID_LABELS", "labels"),
        ({"metadata": struct(a="x" * 16385)}, "INVALID_LABELS", "metadata"),
        ({"metadata": struct(a=math.nan)}, "INVALID_ARGUMENT", "metadata"),
        ({"metadata": struct(a=[math.inf])}, "INVALID_ARGUMENT", "metadata"),
        ({"display_name": "x" * 256}, "INVALID_ARGUMENT", "display_name"),
        ({"expire_time": Timestamp(seconds=2**62)}, "INVALID_ARGUMENT", "expire_time"),
        ({"expire_time": Timestamp(seconds=-(2**62))}, "INVALID_ARGUMENT", "expire_time"),
        ({"expire_time": Timestamp(nanos=-1)}, "INVALID_ARGUMENT", "expire_time"),
    ],
)
def test_bad_fields_are_refused_by_every_way_in(
    api: Api, fields: dict[str, object], reason: str, field: str
) -> None:
    with refused("INVALID_ARGUMENT", reason, field):
        api.create_identity("ada", **fields)
    with refused("INVALID_ARGUMENT", reason, field):
        api.enroll("ada", VECTORS[0], new_identity=identities_pb2.Identity(**fields))
    api.create_identity("ada")
    with refused("INVALID_ARGUMENT", reason, field):
        update(api, list(fields), **fields)
    assert api.gallery().identity_count == 1


@pytest.mark.parametrize("depth", [1, 10, 25])
def test_deep_metadata_comes_back(api: Api, depth: int) -> None:
    metadata = nested(depth)
    assert api.create_identity("ada", metadata=metadata).metadata == metadata
    assert api.identity("ada").metadata == metadata


def test_an_update_changes_what_the_mask_names(api: Api) -> None:
    fields = {"display_name": "Ada", "labels": {"a": "1"}, "metadata": struct(x=1)}
    old = api.create_identity("ada", **fields, expire_time=Timestamp(seconds=5))
    new = update(api, ["labels"], labels={"b": "2"}, display_name="ignored")
    assert (dict(new.labels), new.display_name) == ({"b": "2"}, "Ada")
    assert new.metadata == old.metadata
    assert new.expire_time == old.expire_time
    assert new.uid == old.uid
    assert new.create_time == old.create_time
    new = update(api, ["expire_time", "display_name"], display_name="")
    assert (new.display_name, new.HasField("expire_time")) == ("", False)
    new = update(api, ["*"])
    assert (dict(new.labels), new.HasField("metadata")) == ({}, False)


@pytest.mark.parametrize("mask", [[], ["name"], ["labels.site"], ["face_count", "labels"]])
def test_a_mask_of_nothing_or_of_fixed_fields_is_refused(api: Api, mask: list[str]) -> None:
    api.create_identity("ada")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "update_mask"):
        update(api, mask)


def test_an_old_etag_is_refused(api: Api) -> None:
    old = api.create_identity("ada").etag
    new = update(api, ["display_name"], etag=old, display_name="x").etag
    with refused("ABORTED", "ETAG_MISMATCH") as refusal:
        update(api, ["display_name"], etag=old, display_name="y")
    assert refusal.metadata["etag"] == new
    request = identities_pb2.DeleteIdentityRequest(name=ADA, etag=old)
    with refused("ABORTED", "ETAG_MISMATCH"):
        api.identities.DeleteIdentity(request)
    request.etag = new
    api.identities.DeleteIdentity(request)


def test_of_many_updates_with_one_etag_one_wins(api: Api) -> None:
    etag = api.create_identity("ada").etag
    tasks = [lambda i=i: update(api, ["display_name"], etag, display_name=str(i)) for i in range(8)]
    results = run_together(tasks)
    winners = [r for r in results if isinstance(r, identities_pb2.Identity)]
    assert len(winners) == 1
    assert api.identity("ada") == winners[0]


def test_a_deleted_identity_is_gone_with_its_faces(api: Api) -> None:
    for vector in VECTORS[:3]:
        api.enroll("ada", vector)
    request = identities_pb2.DeleteIdentityRequest(name=ADA)
    assert api.identities.DeleteIdentity(request).deleted_face_count == 3
    assert api.best(VECTORS[0]) == ""
    with refused("NOT_FOUND", "IDENTITY_NOT_FOUND") as refusal:
        api.identity("ada")
    assert refusal.metadata == {"identity": "ada"}
    with refused("NOT_FOUND", "IDENTITY_NOT_FOUND"):
        api.identities.DeleteIdentity(request)
    request.allow_missing = True
    assert api.identities.DeleteIdentity(request).deleted_face_count == 0
    gallery = api.gallery()
    assert (gallery.identity_count, gallery.face_count) == (0, 0)


@pytest.mark.parametrize("page_size", [1, 7, 30])
def test_all_pages_list_every_identity_once(api: Api, page_size: int) -> None:
    for i in range(30):
        api.create_identity(f"p{i}", labels={"parity": str(i % 2)})
    for text, expected in (("", range(30)), ("labels.parity=1", range(1, 30, 2))):
        request = identities_pb2.ListIdentitiesRequest(
            parent="galleries/people", page_size=page_size, filter=text
        )
        pages = [page.identities for page in read_pages(api.identities.ListIdentities, request)]
        assert all(0 < len(page) <= page_size for page in pages)
        names = [one.name.split("/")[-1] for page in pages for one in page]
        assert names == [f"p{i}" for i in expected]


def test_a_page_token_belongs_to_its_listing(api: Api) -> None:
    api.create_gallery("other")
    for i in range(3):
        api.create_identity(f"p{i}")
    listing = identities_pb2.ListIdentitiesRequest(parent="galleries/people", page_size=1)
    listing.page_token = api.identities.ListIdentities(listing).next_page_token
    for change in ({"parent": "galleries/other"}, {"filter": "labels.a=b"}, {"page_token": "!"}):
        wrong = identities_pb2.ListIdentitiesRequest()
        wrong.CopyFrom(listing)
        for name, value in change.items():
            setattr(wrong, name, value)
        with refused("INVALID_ARGUMENT", "INVALID_PAGE_TOKEN", "page_token"):
            api.identities.ListIdentities(wrong)
    listing.page_size = 2
    assert len(api.identities.ListIdentities(listing).identities) == 2


def test_a_page_of_large_identities_fits_into_a_message(api: Api) -> None:
    # Numbers are short as JSON and long as a Struct.
    metadata = struct(a=[1] * 4000)
    run_together([lambda i=i: api.create_identity(f"p{i}", metadata=metadata) for i in range(100)])
    request = identities_pb2.ListIdentitiesRequest(parent="galleries/people", page_size=1000)
    pages = list(read_pages(api.identities.ListIdentities, request))
    assert len(pages) > 1
    assert all(page.ByteSize() < 4 << 20 for page in pages)
    assert len({one.name for page in pages for one in page.identities}) == 100


def test_a_face_is_enrolled_and_read_back(api: Api) -> None:
    answer = api.enroll("ada", 7 * VECTORS[0], face_id="f1", source="a.jpg")
    assert answer.outcome == identities_pb2.ENROLL_OUTCOME_ENROLLED
    assert answer.identity_created
    assert answer.face.name == f"{ADA}/faces/f1"
    assert (answer.face.source, len(answer.face.content_sha256)) == ("a.jpg", 32)
    assert not answer.face.HasField("template")
    request = identities_pb2.GetFaceRequest(name=answer.face.name, include_template=True)
    face = api.identities.GetFace(request).face
    assert face.template.model == "test@1"
    np.testing.assert_allclose(np.frombuffer(face.template.vector, "<f4"), VECTORS[0], atol=1e-6)
    request.include_template = False
    assert api.identities.GetFace(request).face == answer.face
    assert api.identity("ada").face_count == 1


def test_an_identity_that_enrolment_creates_has_what_was_asked_for(api: Api) -> None:
    new = identities_pb2.Identity(display_name="Ada", labels={"a": "1"}, metadata=struct(x=1))
    api.enroll("ada", VECTORS[0], new_identity=new)
    made = api.identity("ada")
    assert (made.display_name, dict(made.labels)) == ("Ada", {"a": "1"})
    assert not api.enroll("ada", VECTORS[1], new_identity=new).identity_created


def test_enrolment_creates_no_identity_unless_allowed(api: Api) -> None:
    with refused("NOT_FOUND", "IDENTITY_NOT_FOUND"):
        api.enroll("ada", VECTORS[0], allow_missing=False)
    assert api.gallery().identity_count == 0


def test_the_same_content_is_enrolled_once(api: Api) -> None:
    first = api.enroll("ada", VECTORS[0])
    again = api.enroll("ada", VECTORS[0], source="other")
    assert again.outcome == identities_pb2.ENROLL_OUTCOME_ALREADY_ENROLLED
    assert again.face == first.face
    with refused("ALREADY_EXISTS", "FACE_EXISTS"):
        api.enroll("ada", VECTORS[1], face_id=first.face.name.split("/")[-1])


def test_clients_that_enrol_the_same_content_at_once_make_one_face(api: Api) -> None:
    for i in range(10):
        answers = run_together([lambda i=i: api.enroll(f"p{i}", VECTORS[i])] * 6)
        outcomes = sorted(answer.outcome for answer in answers)
        assert outcomes == [
            identities_pb2.ENROLL_OUTCOME_ENROLLED,
            *[identities_pb2.ENROLL_OUTCOME_ALREADY_ENROLLED] * 5,
        ]
        assert len({answer.face.name for answer in answers}) == 1
        assert sum(answer.identity_created for answer in answers) == 1
    assert api.gallery().face_count == 10


def test_a_repeated_request_gets_the_same_answer(api: Api) -> None:
    new = identities_pb2.Identity(labels={f"k{i}": "x" for i in range(20)})
    first = api.enroll("ada", VECTORS[0], request_id="r1", new_identity=new)
    again = identities_pb2.Identity(labels={f"k{i}": "x" for i in reversed(range(20))})
    assert api.enroll("ada", VECTORS[0], request_id="r1", new_identity=again) == first
    with refused("ALREADY_EXISTS", "REQUEST_ID_REUSED"):
        api.enroll("ada", VECTORS[1], request_id="r1", new_identity=new)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "request_id"):
        api.enroll("ada", VECTORS[1], request_id="x" * 129)


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 0),
        (b"\0" * 63, 0),
        (VECTORS[0].tobytes() + b"\0\0\0\0", 0),
        (np.zeros(DIMENSION, "<f4").tobytes(), 0),
        (np.full(DIMENSION, np.nan, "<f4").tobytes(), 0),
        (np.full(DIMENSION, np.inf, "<f4").tobytes(), 0),
        (np.full(DIMENSION, 1e-38, "<f4").tobytes(), 0),
    ],
)
def test_a_vector_that_cannot_be_used_is_refused(api: Api, data: bytes, count: int) -> None:
    bad = types_pb2.Template(vector=data)
    with refused("INVALID_ARGUMENT", "INVALID_VECTOR", "vector"):
        api.enroll("ada", VECTORS[0], template=bad)
    assert api.gallery().identity_count == count


def test_a_vector_of_another_model_is_refused(api: Api) -> None:
    for name in ("test", "test@1"):
        api.enroll("ada", VECTORS[0], template=template(VECTORS[0], name))
    for name in ("sface", "test@2"):
        with refused("FAILED_PRECONDITION", "MODEL_MISMATCH") as refusal:
            api.enroll("ada", VECTORS[0], template=template(VECTORS[0], name))
        assert refusal.metadata["vector_model"] == name


def test_an_image_is_refused_by_a_server_without_workers(api: Api) -> None:
    request = identities_pb2.EnrollFaceRequest(identity=ADA, image=b"x", allow_missing=True)
    with refused("FAILED_PRECONDITION", "MODEL_NOT_AVAILABLE"):
        api.identities.EnrollFace(request)


def test_an_enrolment_of_nothing_is_refused(api: Api) -> None:
    request = identities_pb2.EnrollFaceRequest(identity=ADA, allow_missing=True)
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "content"):
        api.identities.EnrollFace(request)


def test_a_long_source_is_refused(api: Api) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "source"):
        api.enroll("ada", VECTORS[0], source="x" * 1025)


@pytest.mark.parametrize("page_size", [1, 4, 100])
@pytest.mark.parametrize("include_template", [False, True])
def test_all_pages_list_every_face_once(api: Api, page_size: int, include_template: bool) -> None:
    api.create_identity("empty")
    for i in range(9):
        api.enroll("ada", VECTORS[i], face_id=f"f{i}")
        api.enroll("bea", VECTORS[i])
    for identity, count in (("ada", 9), ("empty", 0)):
        request = identities_pb2.ListFacesRequest(
            parent=f"galleries/people/identities/{identity}",
            page_size=page_size,
            include_template=include_template,
        )
        pages = [page.faces for page in read_pages(api.identities.ListFaces, request)]
        faces = [face for page in pages for face in page]
        assert all(len(page) <= page_size for page in pages)
        assert [face.name.split("/")[-1] for face in faces] == [f"f{i}" for i in range(count)]
        assert all(face.HasField("template") == include_template for face in faces)


def test_a_deleted_face_is_gone(api: Api) -> None:
    name = api.enroll("ada", VECTORS[0], face_id="f").face.name
    request = identities_pb2.DeleteFaceRequest(name=name)
    api.identities.DeleteFace(request)
    assert api.best(VECTORS[0]) == ""
    assert api.identity("ada").face_count == 0
    with refused("NOT_FOUND", "FACE_NOT_FOUND") as refusal:
        api.identities.GetFace(identities_pb2.GetFaceRequest(name=name))
    assert refusal.metadata == {"identity": "ada", "face": "f"}
    with refused("NOT_FOUND", "FACE_NOT_FOUND"):
        api.identities.DeleteFace(request)
    request.allow_missing = True
    api.identities.DeleteFace(request)
    request.name = "galleries/people/identities/nobody/faces/f"
    api.identities.DeleteFace(request)
    request.name = "galleries/nowhere/identities/nobody/faces/f"
    with refused("NOT_FOUND", "GALLERY_NOT_FOUND"):
        api.identities.DeleteFace(request)
