"""Faces without an identity: enrolled, listed, found, named, deleted."""

from pathlib import Path

import numpy as np
from servers import make_config
from support import mates, random_vectors, write_gallery
from wire import DIMENSION, Api, probe, read_pages, refused, template

from visagedb.v1 import galleries_pb2, identities_pb2, search_pb2, types_pb2
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.values import FaceScope, Vector
from visagedb_server.server import Server

VECTORS = random_vectors(6, DIMENSION)
PEOPLE = "galleries/people"


def enroll_loose(
    api: Api, vector: Vector, **fields: object
) -> identities_pb2.EnrollLooseFacesResponse:
    request = identities_pb2.EnrollLooseFacesRequest(
        **{"gallery": PEOPLE, "template": template(vector), **fields}
    )
    return api.identities.EnrollLooseFaces(request)


def loose(api: Api) -> list[str]:
    request = identities_pb2.ListFacesRequest(parent=PEOPLE, page_size=2)
    pages = read_pages(api.identities.ListFaces, request)
    return [face.name for page in pages for face in page.faces]


def find(api: Api, **fields: object) -> list[search_pb2.FoundFace]:
    request = search_pb2.FindFacesRequest(**{"gallery": PEOPLE, **fields})
    return list(api.search.FindFaces(request).faces)


def test_a_loose_face_is_listed_read_and_counted(api: Api) -> None:
    answer = enroll_loose(api, VECTORS[0], source="holiday/1.jpg")
    [face] = answer.faces
    assert answer.outcome == identities_pb2.ENROLL_OUTCOME_ENROLLED
    assert face.name.startswith("galleries/people/faces/")
    assert face.source == "holiday/1.jpg"
    request = identities_pb2.GetFaceRequest(name=face.name, include_template=True)
    stored = api.identities.GetFace(request).face
    np.testing.assert_allclose(np.frombuffer(stored.template.vector, "<f4"), VECTORS[0], atol=1e-6)
    assert loose(api) == [face.name]
    gallery = api.gallery()
    assert (gallery.face_count, gallery.loose_face_count, gallery.identity_count) == (1, 1, 0)
    stats = api.galleries.GetGalleryStats(galleries_pb2.GetGalleryStatsRequest(name=PEOPLE)).stats
    assert stats.loose_face_count == 1


def test_all_pages_list_every_loose_face_once_in_order(api: Api) -> None:
    names = [enroll_loose(api, vector).faces[0].name for vector in VECTORS]
    assert loose(api) == names


def test_the_same_content_is_enrolled_once_even_when_it_has_a_name(api: Api) -> None:
    first = enroll_loose(api, VECTORS[0])
    again = enroll_loose(api, VECTORS[0], source="elsewhere")
    assert again.outcome == identities_pb2.ENROLL_OUTCOME_ALREADY_ENROLLED
    assert again.faces[0].name == first.faces[0].name
    move = identities_pb2.MoveFacesRequest(
        faces=[first.faces[0].name], destination=f"{PEOPLE}/identities/ada", allow_missing=True
    )
    [moved] = api.identities.MoveFaces(move).faces
    sorted_before = enroll_loose(api, VECTORS[0])
    assert sorted_before.outcome == identities_pb2.ENROLL_OUTCOME_ALREADY_ENROLLED
    assert [face.name for face in sorted_before.faces] == [moved.name]
    api.identities.DeleteFace(identities_pb2.DeleteFaceRequest(name=moved.name))
    assert enroll_loose(api, VECTORS[0]).outcome == identities_pb2.ENROLL_OUTCOME_ENROLLED


def test_a_repeated_request_gets_the_first_answer(api: Api) -> None:
    first = enroll_loose(api, VECTORS[0], request_id="r1")
    assert enroll_loose(api, VECTORS[0], request_id="r1") == first
    with refused("ALREADY_EXISTS", "REQUEST_ID_REUSED"):
        enroll_loose(api, VECTORS[1], request_id="r1")


def test_identify_returns_identities_only(api: Api) -> None:
    enroll_loose(api, VECTORS[0])
    assert api.best(VECTORS[0]) == ""
    api.enroll("ada", mates(VECTORS[:1], 0.3)[0])
    [answer] = api.identify(VECTORS[0], top_k=10).identifications
    assert [one.identity.split("/")[-1] for one in answer.candidates] == ["ada"]
    [exact] = api.identify(VECTORS[0], top_k=10, exact=True).identifications
    assert len(exact.candidates) == 1
    api.identities.UpdateIdentity(
        identities_pb2.UpdateIdentityRequest(
            identity={"name": f"{PEOPLE}/identities/ada", "labels": {"a": "b"}},
            update_mask={"paths": ["labels"]},
        )
    )
    for text in ("labels.a:*", "NOT labels.b:*"):
        [filtered] = api.identify(VECTORS[0], filter=text).identifications
        assert len(filtered.candidates) == 1


def test_faces_are_found_each_on_its_own(api: Api) -> None:
    near = mates(np.repeat(VECTORS[:1], 4, axis=0), 0.9)
    names = [enroll_loose(api, vector).faces[0].name for vector in near[:2]]
    names += [api.enroll("ada", vector).face.name for vector in near[2:]]
    enroll_loose(api, VECTORS[1])
    found = find(api, probe=probe(VECTORS[0]), min_score=0.8)
    assert {one.face for one in found} == set(names)
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    only = find(api, probe=probe(VECTORS[0]), min_score=0.8, scope=types_pb2.FACE_SCOPE_LOOSE)
    assert {one.face for one in only} == set(names[:2])
    only = find(api, probe=probe(VECTORS[0]), scope=types_pb2.FACE_SCOPE_IDENTITIES)
    assert {one.face for one in only} == set(names[2:])


def test_a_stored_face_does_not_find_itself(api: Api) -> None:
    names = [enroll_loose(api, vector).faces[0].name for vector in mates(VECTORS[:2], 0.9)]
    found = find(api, probe=types_pb2.Probe(face=names[0]), top_k=1)
    assert [one.face for one in found] == names[1:]


def test_a_deleted_loose_face_is_gone(api: Api) -> None:
    [face] = enroll_loose(api, VECTORS[0]).faces
    api.identities.DeleteFace(identities_pb2.DeleteFaceRequest(name=face.name))
    assert loose(api) == []
    assert find(api, probe=probe(VECTORS[0])) == []
    assert api.gallery().loose_face_count == 0
    with refused("NOT_FOUND", "FACE_NOT_FOUND"):
        api.identities.GetFace(identities_pb2.GetFaceRequest(name=face.name))
    with refused("NOT_FOUND", "FACE_NOT_FOUND"):
        api.identities.DeleteFace(identities_pb2.DeleteFaceRequest(name=face.name))
    request = identities_pb2.DeleteFaceRequest(name=face.name, allow_missing=True)
    api.identities.DeleteFace(request)


def test_bad_requests_change_nothing(api: Api) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "content"):
        api.identities.EnrollLooseFaces(identities_pb2.EnrollLooseFacesRequest(gallery=PEOPLE))
    with refused("INVALID_ARGUMENT", "INVALID_VECTOR"):
        enroll_loose(api, VECTORS[0][:3])
    with refused("INVALID_ARGUMENT", "INVALID_VECTOR"):
        enroll_loose(api, np.full(DIMENSION, np.nan, np.float32))
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "source"):
        enroll_loose(api, VECTORS[0], source="x" * 2000)
    with refused("NOT_FOUND", "GALLERY_NOT_FOUND"):
        enroll_loose(api, VECTORS[0], gallery="galleries/none")
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        find(api, probe=probe(VECTORS[0]), top_k=5000)
    assert loose(api) == []


def test_loose_faces_survive_a_restart(tmp_path: Path) -> None:
    names = []
    for _ in range(2):
        server = Server(make_config(tmp_path / "data"))
        server.start()
        api = Api(server.address)
        if not names:
            api.create_gallery()
            names = [enroll_loose(api, vector).faces[0].name for vector in VECTORS]
        assert loose(api) == names
        assert api.best(VECTORS[0]) == ""
        assert find(api, probe=probe(VECTORS[2]))[0].face == names[2]
        api.close()
        server.stop(grace=0)


def test_the_compact_scan_leaves_loose_faces_out(tmp_path: Path) -> None:
    """Also where the codes hold far more loose faces than faces of identities."""
    people, archive = random_vectors(600, 32, seed=5), random_vectors(11_000, 32, seed=6)
    write_gallery(tmp_path / "g", range(600), people)
    gallery = Gallery(tmp_path / "g")
    with gallery._store.write() as txn:
        from support import face_record

        for number, vector in enumerate(archive):
            txn.add_loose_face(face_record(f"loose{number}"), vector)
    gallery.close()
    gallery = Gallery(tmp_path / "g")
    assert gallery.wait_until_settled(120)
    from visagedb_indexer.gallery_values import SearchOptions

    for number in range(0, 600, 60):
        answer = gallery.identify(people[number], SearchOptions(top_k=20))
        assert not answer.exact
        assert answer.candidates[0].identity.id == f"p{number}"
        assert len(answer.candidates) == 20
    found = gallery.loose.find(archive[7], count=5, scope=FaceScope.LOOSE)
    assert found[0].face.id == "loose7"
    assert all(one.identity_id == "" for one in found)
    gallery.close()
