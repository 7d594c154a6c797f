"""Streams of enrolments: a status for each item, durable, and nothing without a bound."""

import json
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import pytest
from google.protobuf import field_mask_pb2
from sample_photos import SamplePhotos
from servers import start_process
from support import failures, random_vectors, run_together
from wire import DIMENSION, Api, Refusal, refusal_of_status, refused, template

from visagedb.v1 import enrolment_gate_pb2, galleries_pb2, types_pb2
from visagedb.v1 import identities_pb2 as pb
from visagedb_indexer import limits
from visagedb_indexer.values import Vector
from visagedb_server.server import Server

WAIT_SECONDS = 30.0
VECTORS = random_vectors(600, DIMENSION)

Answers = dict[str, pb.StreamEnrollFacesResponse]


def face(
    item_id: str, identity: str, vector: Vector, gallery: str = "people", **fields: object
) -> pb.StreamEnrollFacesRequest:
    request = pb.EnrollFaceRequest(
        identity=f"galleries/{gallery}/identities/{identity}",
        **{"template": template(vector), "allow_missing": True, **fields},
    )
    return pb.StreamEnrollFacesRequest(item_id=item_id, request=request)


def batch(
    item_id: str, rows: range, rows_of: Vector = VECTORS, **fields: object
) -> pb.StreamEnrollFacesRequest:
    message = pb.EnrollTemplatesRequest(
        **{
            "gallery": "galleries/people",
            "vectors": rows_of[rows.start : rows.stop].tobytes(),
            "identity_ids": [f"p{row}" for row in rows],
            "allow_missing": True,
            **fields,
        }
    )
    return pb.StreamEnrollFacesRequest(item_id=item_id, templates=message)


def stream(api: Api, items: Iterable[pb.StreamEnrollFacesRequest]) -> Answers:
    answers: Answers = {}
    for answer in api.identities.StreamEnrollFaces(iter(items), timeout=WAIT_SECONDS):
        assert answer.item_id not in answers
        answers[answer.item_id] = answer
    return answers


def refusal(answer: pb.StreamEnrollFacesResponse) -> Refusal:
    assert answer.WhichOneof("result") == "error"
    return refusal_of_status(answer.error)


def words(answer: pb.StreamEnrollFacesResponse) -> list[str]:
    """The outcomes of a batch, in small letters, without their prefix."""
    assert answer.WhichOneof("result") == "templates", answer
    names = [pb.EnrollOutcome.Name(number) for number in answer.templates.outcomes]
    return [name.removeprefix("ENROLL_OUTCOME_").lower() for name in names]


def test_single_templates_and_batches_in_one_stream(api: Api) -> None:
    items = [face(f"i{row}", f"q{row}", VECTORS[row]) for row in range(300)]
    items.insert(100, batch("b", range(300, 600)))
    answers = stream(api, items)
    assert len(answers) == 301
    for row in range(300):
        response = answers[f"i{row}"].response
        assert response.outcome == pb.ENROLL_OUTCOME_ENROLLED
        assert response.face.name.startswith(f"galleries/people/identities/q{row}/faces/")
    assert words(answers["b"]) == ["enrolled"] * 300
    assert answers["b"].templates.created_identity_count == 300
    assert api.gallery().face_count == 600
    assert api.best(VECTORS[17]) == "q17"
    assert api.best(VECTORS[417]) == "p417"


def test_loose_templates(api: Api) -> None:
    request = pb.EnrollLooseFacesRequest(
        gallery="galleries/people", template=template(VECTORS[0]), source="a.jpg"
    )
    answers = stream(api, [pb.StreamEnrollFacesRequest(item_id="x", loose=request)])
    [loose] = answers["x"].loose.faces
    assert loose.source == "a.jpg"


def test_columns(api: Api) -> None:
    site = ["north", "", "south"]
    answers = stream(
        api,
        [
            batch(
                "b",
                range(3),
                face_ids=["f", "", "g"],
                sources=["one.jpg", "", ""],
                display_names=["Ada", "", ""],
                labels=[pb.LabelColumn(key="site", values=site)],
                metadata=[json.dumps({"n": 1}), "", ""],
            )
        ],
    )
    assert words(answers["b"]) == ["enrolled"] * 3
    ada = api.identity("p0")
    assert (ada.display_name, dict(ada.labels), ada.metadata["n"]) == ("Ada", {"site": "north"}, 1)
    assert not api.identity("p1").labels
    assert api.all_faces()["p2"] == ["g"]
    assert api.best(VECTORS[2], filter='labels.site="south"') == "p2"


def test_modes(api: Api) -> None:
    stream(api, [batch("b", range(3), face_ids=["f"] * 3)])
    other = random_vectors(3, DIMENSION, seed=9)
    again = stream(api, [batch("b", range(3), other, face_ids=["f"] * 3)])["b"]
    assert words(again) == ["unspecified"] * 3
    assert {refusal_of_status(one.error).reason for one in again.templates.errors} == {
        "FACE_EXISTS"
    }
    skipped = stream(
        api,
        [
            batch("b", range(2, 4), VECTORS, mode=pb.ENROLL_MODE_SKIP_EXISTING),
            face("i", "p0", other[0], mode=pb.ENROLL_MODE_SKIP_EXISTING),
        ],
    )
    assert words(skipped["b"]) == ["skipped", "enrolled"]
    assert skipped["i"].response.outcome == pb.ENROLL_OUTCOME_SKIPPED
    assert not skipped["i"].response.HasField("face")
    upsert = {"face_ids": ["f"] * 3, "mode": pb.ENROLL_MODE_UPSERT}
    assert words(stream(api, [batch("b", range(3), other, **upsert)])["b"]) == ["replaced"] * 3
    assert api.best(other[1]) == "p1"
    assert api.gallery().face_count == 4


def test_what_is_refused_is_refused_alone(api: Api) -> None:
    answers = stream(
        api,
        [
            face("good", "a", VECTORS[0]),
            face("bad id", "a b", VECTORS[0]),
            face("short", "c", VECTORS[0][:3]),
            face("nothing", "d", VECTORS[0], template=None),
            face("stranger", "e", VECTORS[0], allow_missing=False),
            face("model", "f", VECTORS[0], template=template(VECTORS[0], "other@1")),
            face("mode", "g", VECTORS[0], mode=99),
            face("no gallery", "a", VECTORS[0], gallery="none"),
            pb.StreamEnrollFacesRequest(item_id="empty"),
            batch("torn", range(3), vectors=b"12345"),
            batch("too few", range(3), vectors=VECTORS[:2].tobytes()),
            batch("columns", range(3), face_ids=["a"]),
            batch("labels", range(3), labels=[pb.LabelColumn(key="k", values=["a"])]),
            batch("json", range(3), metadata=["{", "", ""]),
            batch("elsewhere", range(3), gallery="galleries/none"),
            batch("unnamed", range(3), identity_ids=["x", "..", "y"]),
        ],
    )
    reasons = {
        item_id: refusal(answer).reason
        for item_id, answer in answers.items()
        if answer.WhichOneof("result") == "error"
    }
    assert reasons == {
        "bad id": "INVALID_NAME",
        "short": "INVALID_VECTOR",
        "nothing": "INVALID_ARGUMENT",
        "stranger": "IDENTITY_NOT_FOUND",
        "model": "MODEL_MISMATCH",
        "mode": "INVALID_ARGUMENT",
        "no gallery": "GALLERY_NOT_FOUND",
        "empty": "INVALID_ARGUMENT",
        "torn": "INVALID_VECTOR",
        "too few": "INVALID_VECTOR",
        "columns": "INVALID_ARGUMENT",
        "labels": "INVALID_ARGUMENT",
        "json": "INVALID_ARGUMENT",
        "elsewhere": "GALLERY_NOT_FOUND",
    }
    assert words(answers["unnamed"]) == ["enrolled", "unspecified", "enrolled"]
    [error] = answers["unnamed"].templates.errors
    assert (error.row, refusal_of_status(error.error).reason) == (1, "INVALID_NAME")
    assert sorted(api.all_faces()) == ["a", "x", "y"]


def test_an_item_id_that_is_taken_ends_the_stream(api: Api) -> None:
    items = [batch("same", range(300)), batch("same", range(300, 600))]
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "item_id"):
        # The first may be answered already when the second comes; then it is no clash.
        for _ in range(100):
            stream(api, items)


def test_garbage_ends_the_stream_and_harms_nobody(api: Api) -> None:
    send = api.channel.stream_stream("/visagedb.v1.IdentityService/StreamEnrollFaces")
    good = batch("good", range(2)).SerializeToString()
    with pytest.raises(grpc.RpcError) as caught:
        list(send(iter([good, b"\xff\xff\xff"]), timeout=WAIT_SECONDS))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert words(stream(api, [batch("b", range(3))])["b"])[2] == "enrolled"


def test_two_streams_for_the_same_people(api: Api) -> None:
    """Whoever comes second finds the face there, whichever stream that is."""

    def one(offset: int) -> list[str]:
        parts = [range(start, start + 50) for start in range(0, 600, 50)]
        order = parts[offset:] + parts[:offset]
        answers = stream(api, (batch(str(part.start), part) for part in order))
        return [word for answer in answers.values() for word in words(answer)]

    outcomes: list[list[str]] = [[], []]

    def run(place: int) -> None:
        outcomes[place] = one(6 * place)

    assert not failures(run_together([lambda: run(0), lambda: run(1)]))
    both = outcomes[0] + outcomes[1]
    assert both.count("enrolled") == both.count("already_enrolled") == 600
    assert api.gallery().face_count == 600


def test_a_caller_that_takes_no_answers_is_not_read_any_further(api: Api) -> None:
    sent = 0

    def endless() -> Iterator[pb.StreamEnrollFacesRequest]:
        nonlocal sent
        while True:
            sent += 1
            yield batch(str(sent), range(600), request_id="")

    call = api.identities.StreamEnrollFaces(endless())
    time.sleep(0.5)
    before = -1
    while before != sent:
        before = sent
        time.sleep(0.5)
    answer = next(call)
    assert words(answer) == ["enrolled"] * 600
    # The server takes so many; the windows and buffers of both sides hold the answers of some more.
    buffered = (sent - limits.STREAM_ENROLLED_ITEMS_MAX) * answer.ByteSize()
    assert buffered < 16 * limits.MIB
    call.cancel()
    assert api.best(VECTORS[5]) == "p5"


def test_a_killed_server_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """What has a status is there; the rest is sent again, and nothing is there twice."""
    server = start_process(tmp_path / "data", "--workers", "0")
    api = Api(server.address)
    api.create_gallery()
    count = 120
    vectors = random_vectors(50 * count, DIMENSION, seed=3)
    parts = [range(start, start + 50) for start in range(0, len(vectors), 50)]
    acknowledged: Answers = {}
    with suppress(grpc.RpcError):
        for answer in api.identities.StreamEnrollFaces(
            batch(str(part.start), part, vectors, request_id=f"r{part.start}") for part in parts
        ):
            acknowledged[answer.item_id] = answer
            if len(acknowledged) == 30:
                server.kill()
    api.close()
    assert 30 <= len(acknowledged) < count

    server = start_process(tmp_path / "data", "--workers", "0")
    api = Api(server.address)
    try:
        for item_id in acknowledged:
            for row in range(0, 50, 7):
                assert api.identity(f"p{int(item_id) + row}").face_count == 1
        rest = [part for part in parts if str(part.start) not in acknowledged]
        again = stream(
            api,
            (batch(str(part.start), part, vectors, request_id=f"r{part.start}") for part in rest),
        )
        assert {word for answer in again.values() for word in words(answer)} <= {"enrolled"}
        gallery = api.gallery()
        assert (gallery.identity_count, gallery.face_count) == (len(vectors), len(vectors))
    finally:
        api.close()
        server.terminate()
    assert acknowledged


def test_images(server: Server, photos: SamplePhotos) -> None:
    """Images are embedded by the workers, several at a time; each has its own status."""
    api = Api(server.address)
    gallery = "galleries/stream-images"
    create = galleries_pb2.CreateGalleryRequest(gallery_id="stream-images")
    api.galleries.CreateGallery(create)

    def image(item_id: str, person: str, content: bytes) -> pb.StreamEnrollFacesRequest:
        request = pb.EnrollFaceRequest(
            identity=f"{gallery}/identities/{person}",
            image=content,
            face_selection=types_pb2.FACE_SELECTION_LARGEST,
            allow_missing=True,
            bulk=True,
        )
        return pb.StreamEnrollFacesRequest(item_id=item_id, request=request)

    try:
        items = [
            image(f"{number}/{path.name}", f"person-{number}", path.read_bytes())
            for number, paths in enumerate(photos.people.values())
            for path in paths
        ]
        answers = stream(api, [*items, image("broken", "x", b"no image")])
        assert refusal(answers.pop("broken")).reason == "UNSUPPORTED_IMAGE_FORMAT"
        assert {one.response.outcome for one in answers.values()} == {pb.ENROLL_OUTCOME_ENROLLED}
        again = stream(api, items).values()
        assert {one.response.outcome for one in again} == {pb.ENROLL_OUTCOME_ALREADY_ENROLLED}
    finally:
        api.galleries.DeleteGallery(galleries_pb2.DeleteGalleryRequest(name=gallery))
        api.close()


def test_a_stream_carries_what_the_checks_of_the_gallery_find(api: Api) -> None:
    """Single templates and columns alike, also within one column."""
    gallery = galleries_pb2.Gallery(name="galleries/people")
    check = gallery.enrolment_gate.duplicate
    check.action = enrolment_gate_pb2.GATE_ACTION_QUARANTINE
    check.operating_point.threshold = 0.9
    mask = field_mask_pb2.FieldMask(paths=["enrolment_gate.duplicate"])
    api.galleries.UpdateGallery(
        galleries_pb2.UpdateGalleryRequest(gallery=gallery, update_mask=mask)
    )
    stream(api, [batch("first", range(20))])
    twins = {"identity_ids": [f"twin{row}" for row in range(10, 30)]}
    answers = stream(api, [face("one", "twin", VECTORS[3]), batch("many", range(10, 30), **twins)])
    one = answers["one"].response
    assert one.outcome == pb.ENROLL_OUTCOME_QUARANTINED
    assert one.findings[0].identity == "galleries/people/identities/p3"
    many = answers["many"].templates
    assert list(many.outcomes) == [10] * 10 + [1] * 10
    assert [found.row for found in many.findings] == list(range(10))
    assert {found.findings[0].identity for found in many.findings} == {
        f"galleries/people/identities/p{row}" for row in range(10, 20)
    }
    assert len({found.quarantined_face for found in many.findings}) == 10
