import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support import enroll, gallery_record, random_vectors

from visagedb_indexer.database import Database
from visagedb_indexer.errors import IdentityExistsError, IdentityNotFoundError, RequestIdReusedError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import EnrollOutcome, NewIdentity

HOURS_NS = 3600 * 10**9
VECTORS = random_vectors(3, 16)


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "gallery", gallery_record())
    yield gallery
    gallery.close()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Moves the clock by some hours."""
    start = time.time_ns()

    def move(hours: float) -> None:
        monkeypatch.setattr(time, "time_ns", lambda: start + int(hours * HOURS_NS))

    return move


def test_a_repeated_request_gets_the_same_answer(gallery: Gallery) -> None:
    first = gallery.create_identity("", NewIdentity("Ada", {"a": "1", "b": "2"}), "r1")
    again = gallery.create_identity("", NewIdentity("Ada", {"b": "2", "a": "1"}), "r1")
    assert again == first
    assert gallery.counters.identity_count == 1


def test_a_repeated_enrolment_gets_the_same_answer_even_after_more_happened(
    gallery: Gallery,
) -> None:
    first = enroll(gallery, "ada", VECTORS[0], request_id="r1")
    enroll(gallery, "ada", VECTORS[1])
    gallery.delete_face("ada", first.face.id)
    assert enroll(gallery, "ada", VECTORS[0], request_id="r1") == first
    assert first.outcome is EnrollOutcome.ENROLLED
    assert gallery.counters.face_count == 1


def test_a_repeat_after_a_restart_gets_the_same_answer(tmp_path: Path) -> None:
    path = tmp_path / "restarted"
    new = NewIdentity("Ada", {"a": "1", "b": "2"}, {"x": {"z": 1, "y": 2}})
    other_order = NewIdentity("Ada", {"b": "2", "a": "1"}, {"x": {"y": 2, "z": 1}})
    gallery = Gallery(path, gallery_record())
    first = gallery.create_identity("ada", new, "r1")
    gallery.close()
    gallery = Gallery(path)
    assert gallery.create_identity("ada", other_order, "r1") == first
    gallery.close()


def test_another_request_with_the_same_id_is_refused(gallery: Gallery) -> None:
    gallery.create_identity("ada", NewIdentity(), "r1")
    with pytest.raises(RequestIdReusedError):
        gallery.create_identity("bea", NewIdentity(), "r1")
    with pytest.raises(RequestIdReusedError):
        gallery.create_identity("ada", NewIdentity("Ada"), "r1")
    with pytest.raises(RequestIdReusedError):
        enroll(gallery, "ada", VECTORS[0], request_id="r1")
    assert gallery.counters.identity_count == 1
    assert gallery.counters.face_count == 0


def test_a_refused_request_keeps_nothing(gallery: Gallery) -> None:
    with pytest.raises(IdentityNotFoundError):
        enroll(gallery, "ada", VECTORS[0], create=False, request_id="r1")
    gallery.create_identity("ada", NewIdentity(), "r1")


def test_a_request_id_is_forgotten_after_a_day(
    gallery: Gallery, later: Callable[[float], None]
) -> None:
    first = gallery.create_identity("ada", NewIdentity(), "r1")
    later(23.9)
    assert gallery.create_identity("ada", NewIdentity(), "r1") == first
    later(24.1)
    with pytest.raises(IdentityExistsError):
        gallery.create_identity("ada", NewIdentity(), "r1")
    assert gallery.create_identity("bea", NewIdentity(), "r1").id == "bea"


def test_an_id_used_again_after_a_day_is_kept_for_another_day(
    gallery: Gallery, later: Callable[[float], None]
) -> None:
    gallery.create_identity("a", NewIdentity(), "r1")
    later(25)
    second = gallery.create_identity("b", NewIdentity(), "r1")
    later(26)
    gallery.create_identity("c", NewIdentity(), "r2")
    assert gallery.create_identity("b", NewIdentity(), "r1") == second


def test_old_requests_leave_the_database(gallery: Gallery, later: Callable[[float], None]) -> None:
    for i in range(20):
        gallery.create_identity(f"old{i}", NewIdentity(), f"old{i}")
    later(25)
    for i in range(10):
        gallery.create_identity(f"new{i}", NewIdentity(), f"new{i}")
    with gallery._store.environment.read() as txn:
        handles = gallery._store.environment._handles
        assert txn.stat(db=handles[b"requests"])["entries"] == 10
        assert txn.stat(db=handles[b"request_times"])["entries"] == 10


def test_a_clock_that_goes_backwards_loses_no_answer(
    gallery: Gallery, later: Callable[[float], None]
) -> None:
    first = gallery.create_identity("a", NewIdentity(), "r1")
    later(-48)
    assert gallery.create_identity("a", NewIdentity(), "r1") == first
    second = gallery.create_identity("b", NewIdentity(), "r2")
    later(0)
    assert gallery.create_identity("a", NewIdentity(), "r1") == first
    assert second.create_time_us < first.create_time_us
    assert [record.id for record in gallery.identities()] == ["a", "b"]


def test_a_gallery_is_created_once_for_one_request(tmp_path: Path) -> None:
    database = Database(tmp_path / "data")
    first = database.create_gallery(gallery_record("a"), "r1")
    assert database.create_gallery(gallery_record("a"), "r1") is first
    with pytest.raises(RequestIdReusedError):
        database.create_gallery(gallery_record("b"), "r1")
    database.close()


def test_the_vector_is_not_part_of_an_enrolment_request(gallery: Gallery) -> None:
    first = enroll(gallery, "ada", VECTORS[0], content=b"image", request_id="r1")
    close = (VECTORS[0] + np.float32(1e-3)).astype(np.float32)
    assert enroll(gallery, "ada", close, content=b"image", request_id="r1") == first
