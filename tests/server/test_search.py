import math

import numpy as np
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from support import TIE, mates, random_vectors
from wire import DIMENSION, Api, probe, refused, template

from visagedb.v1 import galleries_pb2, search_pb2, types_pb2

VECTORS = random_vectors(20, DIMENSION)


def verify(api: Api, **fields: object) -> search_pb2.VerifyResponse:
    request = search_pb2.VerifyRequest(**{"gallery": "galleries/people", **fields})
    return api.search.Verify(request)


@pytest.fixture
def people(api: Api) -> Api:
    """Twenty people of one face each, at two sites."""
    for i in range(20):
        api.create_identity(f"p{i}", display_name=f"P {i}", labels={"site": str(i % 2)})
        api.enroll(f"p{i}", VECTORS[i], face_id="f")
    return api


def test_the_candidates_are_distinct_and_best_first(people: Api) -> None:
    response = people.identify(VECTORS[3], top_k=5)
    [answer] = response.identifications
    scores = VECTORS @ VECTORS[3]
    order = np.argsort(-scores)[:5]
    assert [c.identity for c in answer.candidates] == [
        f"galleries/people/identities/p{i}" for i in order
    ]
    np.testing.assert_allclose([c.score for c in answer.candidates], scores[order], atol=TIE)
    best = answer.candidates[0]
    assert best.face == "galleries/people/identities/p3/faces/f"
    assert (best.display_name, dict(best.labels)) == ("P 3", {"site": "1"})
    assert not answer.HasField("face")
    assert response.exact
    assert response.gallery_generation == people.gallery().generation


@pytest.mark.parametrize(("top_k", "count"), [(0, 10), (1, 1), (20, 20), (1000, 20)])
def test_top_k(people: Api, top_k: int, count: int) -> None:
    [answer] = people.identify(VECTORS[0], top_k=top_k).identifications
    assert len(answer.candidates) == count


@pytest.mark.parametrize(
    ("fields", "reason", "field"),
    [
        ({"top_k": -1}, "INVALID_ARGUMENT", "top_k"),
        ({"top_k": 1001}, "INVALID_ARGUMENT", "top_k"),
        ({"min_score": math.nan}, "INVALID_ARGUMENT", "min_score"),
        ({"min_score": 1.1}, "INVALID_ARGUMENT", "min_score"),
        ({"filter": "site = 1"}, "INVALID_FILTER", "filter"),
        ({"filter": "x" * 4096}, "INVALID_FILTER", "filter"),
        ({"filter": "labels.a=" + "x" * 4096}, "INVALID_FILTER", "filter"),
        (
            {"operating_point": types_pb2.OperatingPoint(threshold=2)},
            "INVALID_ARGUMENT",
            "threshold",
        ),
        (
            {"operating_point": types_pb2.OperatingPoint(threshold=math.nan)},
            "INVALID_ARGUMENT",
            "threshold",
        ),
    ],
)
def test_bad_options_are_refused(
    people: Api, fields: dict[str, object], reason: str, field: str
) -> None:
    with refused("INVALID_ARGUMENT", reason, field):
        people.identify(VECTORS[0], **fields)


def test_an_error_rate_needs_a_calibration(people: Api) -> None:
    point = types_pb2.OperatingPoint(max_false_positive_rate=0.01)
    with refused("FAILED_PRECONDITION", "NOT_CALIBRATED"):
        people.identify(VECTORS[0], operating_point=point)


def test_filters_and_min_score(people: Api) -> None:
    [answer] = people.identify(VECTORS[3], top_k=20, filter="labels.site=0").identifications
    assert [int(c.identity.split("/p")[-1]) % 2 for c in answer.candidates] == [0] * 10
    [answer] = people.identify(VECTORS[3], min_score=0.999).identifications
    assert len(answer.candidates) == 1
    [answer] = people.identify(VECTORS[3], filter="labels.site=9").identifications
    assert not answer.candidates


def test_the_decision_follows_the_threshold(people: Api) -> None:
    [near] = mates(VECTORS[:1], 0.6)

    def decision(**fields: object) -> tuple[int, int]:
        [answer] = people.identify(near, **fields).identifications
        return answer.decision, answer.basis.source

    assert decision() == (types_pb2.DECISION_UNSPECIFIED, 0)
    for threshold, expected in (
        (0.59, types_pb2.DECISION_MATCH),
        (0.9, types_pb2.DECISION_NO_MATCH),
    ):
        point = types_pb2.OperatingPoint(threshold=threshold)
        assert decision(operating_point=point) == (
            expected,
            types_pb2.THRESHOLD_SOURCE_REQUEST,
        )
    people.create_gallery("strict", threshold=0.99)
    people.enroll("ada", VECTORS[0], gallery="strict")
    [answer] = people.identify(near, gallery="strict").identifications
    assert answer.decision == types_pb2.DECISION_NO_MATCH
    assert answer.basis.source == types_pb2.THRESHOLD_SOURCE_GALLERY
    assert answer.basis.threshold == pytest.approx(0.99)


@pytest.mark.parametrize("threshold", [0.1, -1.0])
def test_an_empty_gallery_answers_no_match(api: Api, threshold: float) -> None:
    point = types_pb2.OperatingPoint(threshold=threshold)
    [answer] = api.identify(VECTORS[0], operating_point=point).identifications
    assert not answer.candidates
    assert answer.decision == types_pb2.DECISION_NO_MATCH


def test_an_enrolled_face_can_be_the_probe(people: Api) -> None:
    source = types_pb2.Probe(face="galleries/people/identities/p4/faces/f")
    request = search_pb2.IdentifyRequest(gallery="galleries/people", probe=source, top_k=1)
    [answer] = people.search.Identify(request).identifications
    assert answer.candidates[0].identity.endswith("/p4")
    assert answer.candidates[0].score == pytest.approx(1.0, abs=TIE)


def test_a_face_of_a_gallery_with_another_model_is_refused(people: Api) -> None:
    people.create_gallery("small", dimension=8)
    people.enroll("ada", VECTORS[0][:8], gallery="small", face_id="f")
    small = types_pb2.Probe(face="galleries/small/identities/ada/faces/f")
    large = types_pb2.Probe(face="galleries/people/identities/p4/faces/f")
    with refused("FAILED_PRECONDITION", "MODEL_MISMATCH"):
        people.search.Identify(search_pb2.IdentifyRequest(gallery="galleries/people", probe=small))
    with refused("FAILED_PRECONDITION", "MODEL_MISMATCH"):
        verify(people, probe=large, other=small)
    # Without a gallery it is the server's default model that counts.
    with refused("FAILED_PRECONDITION", "MODEL_MISMATCH"):
        verify(people, gallery="", probe=large, other=small)


def test_two_vectors_are_compared(people: Api) -> None:
    [near] = mates(VECTORS[:1], 0.7)
    point = types_pb2.OperatingPoint(threshold=0.69)
    answer = verify(people, probe=probe(9 * VECTORS[0]), other=probe(near), operating_point=point)
    assert answer.score == pytest.approx(0.7, abs=1e-4)
    assert answer.decision == types_pb2.DECISION_MATCH
    assert verify(people, probe=probe(VECTORS[0]), other=probe(-VECTORS[0])).score == -1.0


def test_a_vector_is_compared_with_all_faces_of_an_identity(people: Api) -> None:
    gallery = galleries_pb2.Gallery(
        name="galleries/people", score_fusion=galleries_pb2.SCORE_FUSION_MAXIMUM
    )
    mask = FieldMask(paths=["score_fusion"])
    people.galleries.UpdateGallery(
        galleries_pb2.UpdateGalleryRequest(gallery=gallery, update_mask=mask)
    )
    [near] = mates(VECTORS[:1], 0.9)
    people.enroll("p0", near, face_id="near")
    answer = verify(people, probe=probe(near), identity="galleries/people/identities/p0")
    assert answer.face == "galleries/people/identities/p0/faces/near"
    assert answer.score == pytest.approx(1.0, abs=TIE)
    answer = verify(
        people, gallery="", probe=probe(near), identity="galleries/people/identities/p0"
    )
    assert answer.face.endswith("near")


def test_all_faces_of_an_identity_make_one_score(people: Api) -> None:
    [near] = mates(VECTORS[:1], 0.9)
    people.enroll("p0", near, face_id="near")
    answer = verify(people, probe=probe(near), identity="galleries/people/identities/p0")
    assert answer.face == "galleries/people/identities/p0/faces/near"
    assert 0.9 < answer.score < 1.0 - TIE
    found = people.identify(near).identifications[0].candidates[0]
    assert found.score == pytest.approx(answer.score, abs=TIE)
    assert found.face == answer.face


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({}, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ({"other": types_pb2.Probe()}, "INVALID_ARGUMENT", "INVALID_ARGUMENT"),
        ({"identity": ""}, "INVALID_ARGUMENT", "INVALID_NAME"),
        (
            {"identity": "galleries/other/identities/p0"},
            "INVALID_ARGUMENT",
            "INVALID_ARGUMENT",
        ),
        ({"identity": "galleries/people/identities/no"}, "NOT_FOUND", "IDENTITY_NOT_FOUND"),
        ({"identity": "galleries/people/identities/empty"}, "NOT_FOUND", "FACE_NOT_FOUND"),
        (
            {"other": types_pb2.Probe(face="galleries/people/identities/p0/faces/no")},
            "NOT_FOUND",
            "FACE_NOT_FOUND",
        ),
        ({"other": types_pb2.Probe(image=b"x")}, "FAILED_PRECONDITION", "MODEL_NOT_AVAILABLE"),
    ],
)
def test_a_comparison_with_nothing_is_refused(
    people: Api, fields: dict[str, object], code: str, reason: str
) -> None:
    people.create_identity("empty")
    with refused(code, reason):
        verify(people, probe=probe(VECTORS[0]), **fields)


def test_an_empty_probe_is_refused(people: Api) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "probe"):
        people.search.Identify(search_pb2.IdentifyRequest(gallery="galleries/people"))


def test_a_probe_of_another_model_or_length_is_refused(people: Api) -> None:
    for bad, code, reason in (
        (template(VECTORS[0], "other"), "FAILED_PRECONDITION", "MODEL_MISMATCH"),
        (template(VECTORS[0][:15]), "INVALID_ARGUMENT", "INVALID_VECTOR"),
        (template(np.zeros(DIMENSION)), "INVALID_ARGUMENT", "INVALID_VECTOR"),
        (template(np.full(DIMENSION, np.nan)), "INVALID_ARGUMENT", "INVALID_VECTOR"),
    ):
        with refused(code, reason):
            people.search.Identify(
                search_pb2.IdentifyRequest(
                    gallery="galleries/people", probe=types_pb2.Probe(template=bad)
                )
            )


def test_images_are_refused_by_a_server_without_workers(people: Api) -> None:
    with refused("FAILED_PRECONDITION", "MODEL_NOT_AVAILABLE"):
        people.search.DetectFaces(search_pb2.DetectFacesRequest(image=b"x"))
    with refused("FAILED_PRECONDITION", "MODEL_NOT_AVAILABLE"):
        people.search.EmbedFaces(search_pb2.EmbedFacesRequest(image=b"x"))
