"""Quotas: exact for counts however many write at once, and nothing half done."""

from collections.abc import Iterator

import pytest
from support import failures, random_vectors, run_together

import visagedb
from visagedb import GalleryQuotas
from visagedb_server.server import Server

DIMENSION = 16
VECTORS = random_vectors(400, DIMENSION)


@pytest.fixture
def client(vector_server: Server) -> Iterator[visagedb.Client]:
    with visagedb.Client(vector_server.address) as client:
        yield client


def create(client: visagedb.Client, **quotas: int) -> None:
    client.create_gallery(
        "people", model="test@1", dimension=DIMENSION, quotas=GalleryQuotas(**quotas)
    )


@pytest.mark.parametrize("quotas", [{"faces_max": 20}, {"identities_max": 20}])
def test_counts_are_exact_however_many_write_at_once(
    client: visagedb.Client, quotas: dict[str, int]
) -> None:
    create(client, **quotas)
    results = run_together(
        [lambda i=i: client.enroll("people", f"p{i}", vector=VECTORS[i]) for i in range(60)]
    )
    refused = failures(results)
    assert len(refused) == 40
    assert all(type(error) is visagedb.QuotaExceededError for error in refused)
    [what] = quotas
    error = refused[0]
    assert isinstance(error, visagedb.QuotaExceededError)
    assert error.retry_after is None
    assert error.metadata == {"quota": what.removesuffix("_max"), "limit": "20", "used": "20"}
    gallery = client.get_gallery("people")
    assert (gallery.face_count, gallery.identity_count) == (20, 20)
    assert len(list(client.list_identities("people"))) == 20, "no identity without its face"


def test_a_matrix_is_enrolled_as_far_as_there_is_room(client: visagedb.Client) -> None:
    create(client, faces_max=25)
    done = client.enroll_vectors("people", [f"p{i}" for i in range(40)], VECTORS[:40])
    assert not done.ok
    gallery = client.get_gallery("people")
    assert (gallery.face_count, gallery.identity_count) == (25, 25)
    assert client.identify("people", vector=VECTORS[24]).best is not None


def test_room_comes_back_and_quotas_can_be_changed(client: visagedb.Client) -> None:
    create(client, faces_max=2)
    for i in range(2):
        client.enroll("people", f"p{i}", vector=VECTORS[i])
    with pytest.raises(visagedb.QuotaExceededError):
        client.enroll("people", "p2", vector=VECTORS[2])
    assert client.enroll("people", "p1", vector=VECTORS[1]).outcome == "already_enrolled"
    client.delete_identity("people", "p0")
    client.enroll("people", "p2", vector=VECTORS[2])
    changed = client.update_gallery("people", quotas=GalleryQuotas(faces_max=1))
    assert changed.quotas == GalleryQuotas(faces_max=1)
    assert changed.face_count == 2, "a quota deletes nothing"
    with pytest.raises(visagedb.QuotaExceededError):
        client.enroll("people", "p3", vector=VECTORS[3])
    client.update_gallery("people", quotas=GalleryQuotas())
    client.enroll("people", "p3", vector=VECTORS[3])
    with pytest.raises(visagedb.InvalidArgumentError):
        client.update_gallery("people", quotas=GalleryQuotas(faces_max=-1))


def test_bytes_have_an_end(client: visagedb.Client) -> None:
    create(client, bytes_max=400_000)
    refused: list[visagedb.QuotaExceededError] = []
    for i in range(400):
        try:
            client.enroll("people", f"p{i}", vector=VECTORS[i])
        except visagedb.QuotaExceededError as error:
            refused.append(error)
    assert 0 < len(refused) < 400
    for error in refused:
        assert error.metadata["quota"] == "bytes"
        assert 400_000 <= int(error.metadata["used"]) < 480_000
    assert client.get_gallery("people").face_count == 400 - len(refused)


def test_loose_faces_and_new_identities_count_as_well(client: visagedb.Client) -> None:
    create(client, faces_max=1, identities_max=1)
    client.enroll_loose("people", vector=VECTORS[0])
    with pytest.raises(visagedb.QuotaExceededError):
        client.enroll_loose("people", vector=VECTORS[1])
    client.create_identity("people", "ada")
    with pytest.raises(visagedb.QuotaExceededError):
        client.create_identity("people", "bob")
    assert client.get_gallery("people").face_count == 1
