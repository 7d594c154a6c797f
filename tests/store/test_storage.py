import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import (
    enroll,
    failures,
    gallery_record,
    new_face,
    random_vectors,
    run_together,
    write_gallery,
)

from visagedb_indexer import limits
from visagedb_indexer.errors import (
    EtagMismatchError,
    FaceExistsError,
    FaceNotFoundError,
    GalleryClosedError,
    IdentityNotFoundError,
    IndexerError,
    LimitExceededError,
    StorageCorruptError,
    StorageFullError,
)
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import (
    EnrollOutcome,
    IdentityPatch,
    NewIdentity,
    SearchOptions,
)

MIB = 1 << 20


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "gallery", gallery_record())
    yield gallery
    gallery.close()


def fill(gallery: Gallery) -> int:
    """Enrols until there is no room; returns how many faces fitted."""
    vectors = random_vectors(2000, gallery.model.dimension)
    for i, vector in enumerate(vectors):
        try:
            enroll(gallery, f"p{i}", vector, source="x" * 1000)
        except StorageFullError:
            return i
    raise AssertionError("the storage never filled up")


def check_full(gallery: Gallery, count: int) -> None:
    vectors = random_vectors(2000, gallery.model.dimension)
    assert count > 3
    assert gallery.counters.face_count == gallery.counters.identity_count == count
    with pytest.raises(StorageFullError):
        enroll(gallery, f"p{count}", vectors[count], source="x" * 1000)
    assert gallery.counters.face_count == count
    with pytest.raises(IdentityNotFoundError):
        gallery.identity(f"p{count}")
    answer = gallery.identify(vectors[1], SearchOptions(top_k=1))
    assert answer.candidates[0].identity.id == "p1"


def test_a_full_map_refuses_writes_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAP_BYTES_GALLERY", MIB)
    gallery = Gallery(tmp_path / "gallery", gallery_record())
    count = fill(gallery)
    check_full(gallery, count)
    gallery.close()
    gallery = Gallery(tmp_path / "gallery")
    check_full(gallery, count)
    gallery.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_refuses_writes_and_changes_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        gallery = Gallery(disk / "gallery", gallery_record())
        count = fill(gallery)
        check_full(gallery, count)
        gallery.close()
        gallery = Gallery(disk / "gallery")
        check_full(gallery, count)
        gallery.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)  # noqa: S607


def test_the_bytes_of_a_deleted_vector_are_overwritten_in_its_row(gallery: Gallery) -> None:
    vectors = random_vectors(3, 16)
    for i in range(3):
        enroll(gallery, f"p{i}", vectors[i], face_id="f")
    gallery.delete_face("p0", "f")
    gallery.delete_identity("p1")
    with gallery._store.read() as view:
        rows = view.vectors(np.arange(3))
        assert view.owners().tolist() == [-1, -1, 2]
    np.testing.assert_array_equal(rows[:2], 0)
    np.testing.assert_array_equal(rows[2], vectors[2])


def test_the_same_content_is_enrolled_once_for_each_identity(gallery: Gallery) -> None:
    vector = random_vectors(1, 16)[0]
    first = enroll(gallery, "ada", vector)
    again = enroll(gallery, "ada", vector, source="elsewhere")
    assert (first.outcome, again.outcome) == (
        EnrollOutcome.ENROLLED,
        EnrollOutcome.ALREADY_ENROLLED,
    )
    assert again.face == first.face
    assert first.identity_created
    assert not again.identity_created
    assert enroll(gallery, "bea", vector).outcome is EnrollOutcome.ENROLLED
    assert gallery.counters.face_count == 2


def test_deleted_content_may_be_enrolled_again(gallery: Gallery) -> None:
    vector = random_vectors(1, 16)[0]
    first = enroll(gallery, "ada", vector, face_id="f")
    gallery.delete_face("ada", "f")
    again = enroll(gallery, "ada", vector, face_id="f")
    assert again.outcome is EnrollOutcome.ENROLLED
    assert again.face.ordinal > first.face.ordinal


def test_a_face_id_belongs_to_one_content(gallery: Gallery) -> None:
    vectors = random_vectors(2, 16)
    enroll(gallery, "ada", vectors[0], face_id="f")
    with pytest.raises(FaceExistsError):
        enroll(gallery, "ada", vectors[1], face_id="f")
    with pytest.raises(FaceExistsError):
        gallery.foresee_enrollment(new_face("ada", vectors[1], face_id="f"))
    assert gallery.identity("ada").face_count == 1


def test_an_identity_has_a_most_of_faces(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FACES_PER_IDENTITY_MAX", 2)
    vectors = random_vectors(3, 16)
    for vector in vectors[:2]:
        enroll(gallery, "ada", vector)
    with pytest.raises(LimitExceededError):
        enroll(gallery, "ada", vectors[2])
    with pytest.raises(LimitExceededError):
        gallery.foresee_enrollment(new_face("ada", vectors[2]))
    assert enroll(gallery, "ada", vectors[0]).outcome is EnrollOutcome.ALREADY_ENROLLED


def test_an_update_changes_only_what_it_names(gallery: Gallery) -> None:
    old = gallery.create_identity("ada", NewIdentity("Ada", {"a": "1"}, {"x": 1}, 99))
    new = gallery.update_identity("ada", IdentityPatch(labels={"b": "2"}), str(old.revision))
    assert (new.display_name, new.labels, new.metadata, new.expire_time_us) == (
        "Ada",
        {"b": "2"},
        {"x": 1},
        99,
    )
    assert gallery.identity("ada") == new
    assert [r.id for r in gallery.identities("labels.b=2")] == ["ada"]
    assert gallery.identities("labels.a:*") == []
    with pytest.raises(EtagMismatchError):
        gallery.update_identity("ada", IdentityPatch(display_name="x"), str(old.revision))
    with pytest.raises(EtagMismatchError):
        gallery.delete_identity("ada", str(old.revision))
    cleared = gallery.update_identity("ada", IdentityPatch(clear_expire_time=True))
    assert cleared.expire_time_us is None


def test_labels_are_found_after_a_restart(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "gallery", gallery_record())
    longest = {f"k{i}".ljust(63, "x"): "é" * 127 for i in range(32)}
    gallery.create_identity(
        "ada", NewIdentity(labels={"a": "x", "ab": "", **dict([*longest.items()][:30])})
    )
    gallery.create_identity("bea", NewIdentity(labels={"a": "xy"}))
    gallery.close()
    gallery = Gallery(tmp_path / "gallery")
    assert [r.id for r in gallery.identities("labels.a=x")] == ["ada"]
    assert [r.id for r in gallery.identities('labels.ab=""')] == ["ada"]
    assert [r.id for r in gallery.identities("labels.a:*")] == ["ada", "bea"]
    key = next(iter(longest))
    assert [r.id for r in gallery.identities(f'labels.{key}="{longest[key]}"')] == ["ada"]
    gallery.close()


def test_an_empty_answer_is_empty_for_every_read(gallery: Gallery) -> None:
    probe = random_vectors(1, 16)[0]
    gallery.create_identity("ada", NewIdentity())
    assert gallery.faces("ada", with_vectors=True) == []
    assert gallery.identities("labels.a=b") == []
    assert gallery.identify(probe, SearchOptions()).candidates == ()
    assert gallery.identify(probe, SearchOptions(filter="labels.a=b")).candidates == ()
    ordinals, vectors = gallery.vectors(gallery.ordinals())
    assert (len(ordinals), vectors.shape) == (0, (0, 16))
    with pytest.raises(FaceNotFoundError):
        gallery.compare(probe, "ada")
    assert list(gallery.locate([0, 5, -1, 10**12])) == []


def test_an_identity_of_thousands_of_faces_is_deleted_in_one_step(tmp_path: Path) -> None:
    vectors = random_vectors(10_000, 8)
    write_gallery(tmp_path / "gallery", [0] * 9_999 + [1], vectors)
    gallery = Gallery(tmp_path / "gallery")
    assert gallery.delete_identity("p0") == 9_999
    assert gallery.counters.face_count == 1
    answer = gallery.identify(vectors[0], SearchOptions(top_k=5))
    assert [c.identity.id for c in answer.candidates] == ["p1"]
    with gallery._store.read() as view:
        np.testing.assert_array_equal(view.vectors(np.arange(9_999)), 0)
    gallery.close()


def test_closing_waits_for_reads_and_ends_the_rest_with_an_error(tmp_path: Path) -> None:
    vectors = random_vectors(300, 64)
    gallery = Gallery(tmp_path / "gallery", gallery_record(dimension=64))
    run_together([lambda i=i: enroll(gallery, f"p{i % 7}", vectors[i]) for i in range(100)])
    started = threading.Barrier(9)

    def read(i: int) -> None:
        started.wait()
        while True:
            gallery.identify(vectors[i], SearchOptions(top_k=3))
            gallery.identities("labels.a:*")
            gallery.faces(f"p{i % 7}", with_vectors=True)
            list(gallery.locate(range(100)))
            gallery.stats()

    def write(i: int) -> None:
        started.wait()
        for j in range(1000):
            enroll(gallery, f"q{i}", vectors[(i * 37 + j) % 300])

    def close() -> None:
        started.wait()
        gallery.close()

    results = run_together(
        [lambda i=i: read(i) for i in range(6)] + [lambda i=i: write(i) for i in range(2)] + [close]
    )
    assert {type(error) for error in failures(results)} == {GalleryClosedError}
    assert results[-1] is None


def test_stored_bytes_that_are_damaged_are_reported_as_damage(gallery: Gallery) -> None:
    vectors = random_vectors(2, 16)
    enroll(gallery, "ada", vectors[0], face_id="f")
    enroll(gallery, "bea", vectors[1])
    environment = gallery._store.environment
    with environment.write() as txn:
        txn.put(b"\0\0\0\0", b"\x00junk", db=environment._handles[b"identities"])
    for call in (
        lambda: gallery.identity("ada"),
        lambda: gallery.delete_identity("ada"),
        lambda: gallery.identities(),
        lambda: gallery.identify(vectors[0], SearchOptions()),
        lambda: enroll(gallery, "ada", vectors[1]),
    ):
        with pytest.raises(StorageCorruptError):
            call()
    assert gallery.identity("bea").face_count == 1
    enroll(gallery, "bea", vectors[0])
    with environment.write() as txn:
        txn.delete(b"\0\0\0\0", db=environment._handles[b"vectors"])
    # As after a restart: the addresses of the blocks are not known yet.
    gallery._store.opened.vector_rows._addresses = np.zeros(1, dtype=np.int64)
    with pytest.raises(StorageCorruptError):
        gallery.compare(vectors[0], "bea")
    before = gallery.counters
    with contextlib.suppress(IndexerError):
        gallery.identify(vectors[0], SearchOptions())
    assert gallery.counters == before


def test_a_search_whose_faces_are_lost_ends_with_an_error(gallery: Gallery) -> None:
    vectors = random_vectors(3, 16)
    for i in range(3):
        enroll(gallery, f"p{i}", vectors[i])
    environment = gallery._store.environment
    with environment.write() as txn:
        txn.drop(environment._handles[b"faces"], delete=False)
    with pytest.raises(StorageCorruptError, match="lost faces"):
        gallery.identify(vectors[0], SearchOptions())
