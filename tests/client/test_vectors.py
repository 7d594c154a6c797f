"""The blocking client against a real server, with vectors."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

import visagedb

DIMENSION = 32


@pytest.fixture
def client(vector_server: Any) -> Iterator[visagedb.Client]:
    with visagedb.Client(vector_server.address) as client:
        client.create_gallery("staff", model="mine@1", dimension=DIMENSION, threshold=0.5)
        yield client


def basis(number: int) -> Any:
    vector = np.zeros(DIMENSION, dtype=np.float32)
    vector[number] = 1.0
    return vector


def test_health(client: visagedb.Client) -> None:
    assert client.health() is visagedb.HealthStatus.SERVING


def test_gallery_life(client: visagedb.Client) -> None:
    made = client.create_gallery("guests", display_name="Guests", model="mine@1", dimension=8)
    assert (made.id, made.name, made.display_name) == ("guests", "galleries/guests", "Guests")
    assert made.model == visagedb.ModelIdentity("mine", "1", 8)
    assert made.threshold is None
    assert made.create_time is not None
    assert made.create_time.tzinfo is UTC
    assert client.get_gallery("guests") == made

    updated = client.update_gallery("guests", threshold=0.4, etag=made.etag)
    assert updated.threshold == pytest.approx(0.4)
    assert updated.display_name == "Guests"
    with pytest.raises(visagedb.EtagMismatchError):
        client.update_gallery("guests", display_name="x", etag=made.etag)
    assert client.update_gallery("guests", threshold=None).threshold is None

    assert {gallery.id for gallery in client.list_galleries(page_size=1)} == {"guests", "staff"}
    client.delete_gallery("guests")
    client.delete_gallery("guests", missing_ok=True)
    with pytest.raises(visagedb.GalleryNotFoundError) as caught:
        client.get_gallery("guests")
    assert caught.value.code == "NOT_FOUND"
    with pytest.raises(visagedb.GalleryExistsError):
        client.create_gallery("staff", model="mine@1", dimension=DIMENSION)


def test_identity_life(client: visagedb.Client) -> None:
    expires = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    made = client.create_identity(
        "staff",
        "alice",
        display_name="Alice",
        labels={"site": "north"},
        metadata={"badge": 7, "tags": ["a", "b"]},
        expire_time=expires,
    )
    assert (made.id, made.gallery) == ("alice", "staff")
    assert made.labels == {"site": "north"}
    assert made.metadata == {"badge": 7, "tags": ["a", "b"]}
    assert made.expire_time == expires
    assert client.get_identity("staff", "alice") == made

    updated = client.update_identity("staff", "alice", labels={"site": "south"}, expire_time=None)
    assert updated.labels == {"site": "south"}
    assert updated.expire_time is None
    assert updated.display_name == "Alice"
    assert updated.etag != made.etag

    generated = client.create_identity("staff")
    assert generated.id
    assert [i.id for i in client.list_identities("staff", page_size=1)] == ["alice", generated.id]
    south = client.list_identities("staff", filter='labels.site = "south"')
    assert [identity.id for identity in south] == ["alice"]
    assert client.delete_identity("staff", generated.id).face_count == 0
    with pytest.raises(visagedb.IdentityNotFoundError):
        client.get_identity("staff", generated.id)


def test_enrol_and_faces(client: visagedb.Client) -> None:
    vector = basis(0) * 3
    first = client.enroll(
        "staff",
        "alice",
        vector=vector,
        model="mine@1",
        display_name="Alice",
        labels={"site": "north"},
        source="badge.jpg",
    )
    assert first.outcome is visagedb.EnrollOutcome.ENROLLED
    assert first.identity_created
    assert (first.face.gallery, first.face.identity) == ("staff", "alice")
    assert first.face.source == "badge.jpg"
    assert client.get_identity("staff", "alice").labels == {"site": "north"}

    again = client.enroll("staff", "alice", vector=vector)
    assert again.outcome is visagedb.EnrollOutcome.ALREADY_ENROLLED
    assert again.face.id == first.face.id
    second = client.enroll("staff", "alice", vector=basis(1), face_id="second")
    assert second.face.id == "second"

    face = client.get_face("staff", "alice", first.face.id, include_template=True)
    assert face.template is not None
    np.testing.assert_allclose(face.template.vector, basis(0), atol=1e-6)
    assert client.get_face("staff", "alice", "second").template is None
    faces = list(client.list_faces("staff", "alice", include_template=True, page_size=1))
    assert [face.id for face in faces] == [first.face.id, "second"]

    client.delete_face("staff", "alice", "second")
    client.delete_face("staff", "alice", "second", missing_ok=True)
    with pytest.raises(visagedb.FaceNotFoundError):
        client.get_face("staff", "alice", "second")
    with pytest.raises(visagedb.IdentityNotFoundError):
        client.enroll("staff", "bob", vector=basis(2), create=False)


def test_identify(client: visagedb.Client) -> None:
    for number, name in enumerate(("ada", "grace", "katherine")):
        client.enroll("staff", name, vector=basis(number), labels={"number": str(number)})
    probe = basis(1) + 0.5 * basis(2)
    result = client.identify("staff", vector=probe)
    (answer,) = result
    assert answer.is_match
    assert answer.face is None
    assert [candidate.id for candidate in answer.candidates] == ["grace", "katherine", "ada"]
    assert result.match is not None
    assert result.match.score == pytest.approx(1 / np.sqrt(1.25), abs=1e-5)
    assert result.match.labels == {"number": "1"}
    assert answer.basis.threshold == pytest.approx(0.5)
    assert answer.basis.source is visagedb.ThresholdSource.GALLERY
    assert result.gallery_generation > 0

    strict = client.identify("staff", vector=probe, threshold=0.99, top_k=1, exact=True)
    assert strict.match is None
    assert strict.best is not None
    assert strict.best.id == "grace"
    assert strict.exact
    assert strict.identifications[0].basis.source is visagedb.ThresholdSource.REQUEST

    others = client.identify("staff", vector=probe, filter="NOT labels.number = 1", min_score=0.1)
    assert [candidate.id for candidate in others.identifications[0].candidates] == ["katherine"]

    (face,) = client.list_faces("staff", "grace")
    by_face = client.identify("staff", face=face, top_k=1)
    assert by_face.best is not None
    with pytest.raises(visagedb.NotCalibratedError):
        client.identify("staff", vector=probe, max_false_positive_rate=0.01)
    with pytest.raises(visagedb.InvalidFilterError):
        client.identify("staff", vector=probe, filter="labels.number ===")


def test_verify(client: visagedb.Client) -> None:
    client.enroll("staff", "ada", vector=basis(0))
    (face,) = client.list_faces("staff", "ada")
    same = client.verify(basis(0), gallery="staff", identity="ada")
    assert same.is_match
    assert same.score == pytest.approx(1.0, abs=1e-6)
    assert same.face == face.name
    assert not client.verify(basis(1), face, gallery="staff").is_match
    assert client.verify(basis(1), basis(1), gallery="staff").is_match


def test_wrong_vectors(client: visagedb.Client) -> None:
    with pytest.raises(visagedb.InvalidVectorError):
        client.enroll("staff", "ada", vector=[1.0, 2.0])
    with pytest.raises(visagedb.InvalidVectorError):
        client.enroll("staff", "ada", vector=np.zeros(DIMENSION))
    with pytest.raises(visagedb.ModelMismatchError):
        client.enroll("staff", "ada", vector=basis(0), model="other")


def test_images_need_a_server_with_models(client: visagedb.Client) -> None:
    with pytest.raises(visagedb.FailedPreconditionError) as caught:
        client.enroll("staff", "ada", image=b"not looked at")
    assert isinstance(caught.value, visagedb.ModelNotAvailableError)


def test_stats(client: visagedb.Client) -> None:
    client.enroll("staff", "ada", vector=basis(0))
    stats = client.gallery_stats("staff")
    assert (stats.identity_count, stats.face_count) == (1, 1)
    assert stats.search.state is visagedb.SearchState.EXACT
    assert stats.storage_used_bytes > 0


def test_bulk(client: visagedb.Client) -> None:
    random = np.random.default_rng(3)
    vectors = random.standard_normal((500, DIMENSION)).astype(np.float32)
    items = (
        visagedb.EnrollItem(f"p{number}", vector=vector, source=str(number))
        for number, vector in enumerate(vectors)
    )
    seen: list[visagedb.BulkProgress] = []
    results = list(client.enroll_many("staff", items, progress=seen.append, model="mine@1"))
    assert all(result.ok for result in results)
    assert seen[-1].done == 500
    assert client.get_gallery("staff").identity_count == 500
    repeated = client.enroll_many("staff", [visagedb.EnrollItem("p7", vector=vectors[7])])
    assert next(repeated).outcome == "already_enrolled"


def test_bulk_goes_on_after_failures(client: visagedb.Client, tmp_path: Any) -> None:
    items = [
        visagedb.EnrollItem("good", vector=basis(0)),
        visagedb.EnrollItem("bad id", vector=basis(1)),
        visagedb.EnrollItem("short", vector=[1.0]),
        visagedb.EnrollItem("missing", image=tmp_path / "nobody.jpg"),
        visagedb.EnrollItem("neither"),
    ]
    results = {r.item.identity: r.outcome for r in client.enroll_many("staff", items)}
    assert results == {
        "good": "enrolled",
        "bad id": "INVALID_NAME",
        "short": "INVALID_VECTOR",
        "missing": "UNREADABLE_FILE",
        "neither": "INVALID_ITEM",
    }


def test_cluster(client: visagedb.Client) -> None:
    random = np.random.default_rng(5)
    for number in range(12):
        noisy = basis(number % 3) + 0.02 * random.standard_normal(DIMENSION)
        client.enroll("staff", f"p{number}", vector=noisy, source=f"{number}.jpg")
    client.enroll("staff", "alone", vector=basis(9))
    seen: list[float] = []
    operation = client.cluster("staff", threshold=0.6)
    clustering = operation.result(60, progress=lambda status: seen.append(status.progress))
    assert operation.done()
    assert operation.progress == 1.0
    assert seen[-1] == 1.0
    assert (clustering.cluster_count, clustering.single_count) == (3, 1)
    assert client.get_clustering(clustering) == clustering
    groups = list(client.clusters(clustering, min_size=2, page_size=1))
    assert [group.size for group in groups] == [4, 4, 4]
    for group in groups:
        members = list(client.cluster_members(group))
        assert len({int(member.source.partition(".")[0]) % 3 for member in members}) == 1
        assert {member.identity for member in members} == {
            f"p{member.source.partition('.')[0]}" for member in members
        }
    (status,) = client.list_operations()
    assert status.done
    assert status.gallery == "staff"
    assert client.get_operation(status.name).clustering == clustering
    client.cancel_operation(status)
    with pytest.raises(visagedb.OperationNotFoundError):
        client.get_operation("operations/none")
    with pytest.raises(visagedb.ClusteringNotFoundError):
        client.get_clustering("galleries/staff/clusterings/none")


def test_a_matrix_with_columns(client: visagedb.Client) -> None:
    random = np.random.default_rng(4)
    matrix = random.standard_normal((500, DIMENSION)).astype(np.float32)
    ids = [f"p{number}" for number in range(500)]
    ids[7] = "not an id"
    seen: list[visagedb.BulkProgress] = []
    done = client.enroll_vectors(
        "staff",
        np.array(ids),
        matrix,
        sources=[f"{number}.jpg" for number in range(500)],
        display_names=[f"Person {number}" for number in range(500)],
        labels={"site": "north", "row": [str(number % 3) for number in range(500)]},
        metadata=[{"n": number} if number else None for number in range(500)],
        batch_rows=64,
        progress=seen.append,
    )
    assert not done.ok
    assert done.count("enrolled") == done.created_identity_count == 499
    assert done.outcomes[7] is None
    assert isinstance(done.errors[7], visagedb.InvalidNameError)
    assert (seen[-1].done, seen[-1].failed) == (500, 1)
    person = client.get_identity("staff", "p100")
    assert (person.display_name, dict(person.labels)) == (
        "Person 100",
        {"site": "north", "row": "1"},
    )
    assert dict(person.metadata) == {"n": 100}
    found = client.identify("staff", vector=matrix[300], filter="labels.row=0").best
    assert found is not None
    assert found.id == "p300"
    again = client.enroll_vectors("staff", ids, matrix, batch_rows=100)
    assert again.count("already_enrolled") == 499
    skipped = client.enroll_vectors("staff", ids[:5], matrix[5:10], mode="skip_existing")
    assert skipped.count("skipped") == 5


def test_a_matrix_is_checked_before_anything_is_sent(client: visagedb.Client) -> None:
    with pytest.raises(visagedb.InvalidVectorError, match="shape"):
        client.enroll_vectors("staff", ["a"], np.zeros(DIMENSION))
    with pytest.raises(ValueError, match="sources"):
        client.enroll_vectors("staff", ["a"], np.ones((1, DIMENSION)), sources=[])
    with pytest.raises(ValueError, match="identities"):
        client.enroll_vectors("staff", ["a", "b"], np.ones((1, DIMENSION)))
    with pytest.raises(ValueError, match="sideways"):
        client.enroll_vectors("staff", ["a"], np.ones((1, DIMENSION)), mode="sideways")
    assert client.get_gallery("staff").face_count == 0


def test_batches_come_from_a_generator(client: visagedb.Client) -> None:
    matrix = np.random.default_rng(4).standard_normal((60, DIMENSION))

    def batches() -> Iterator[visagedb.VectorBatch]:
        for start in range(0, 60, 20):
            ids = [f"p{number}" for number in range(start, start + 20)]
            yield visagedb.VectorBatch(ids, matrix[start : start + 20], key=start)
        yield visagedb.VectorBatch(["a", "b"], matrix[:2, :3], key="short")

    results = {one.key: one for one in client.enroll_batches("staff", batches(), in_flight=2)}
    assert all(results[start].count("enrolled") == 20 for start in (0, 20, 40))
    assert {type(error) for error in results["short"].errors.values()} == {
        visagedb.InvalidVectorError
    }
