"""After a compaction no byte of a deleted template is in any file, whatever went on beside it."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from raw_bytes import traces
from support import enroll, failures, gallery_record, random_vectors, run_together

from visagedb_indexer.errors import CancelledError, NotFoundError, UnavailableError
from visagedb_indexer.frozen_faces import freeze
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import SearchOptions
from visagedb_indexer.integrity import verify_store
from visagedb_indexer.store import GalleryStore
from visagedb_indexer.store.blocks import Column

DIMENSION = 64


def quiet(progress: float, stage: str) -> None:
    return None


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "g", gallery_record(dimension=DIMENSION))
    yield gallery
    gallery.close()


def test_nothing_is_left_of_the_erased(gallery: Gallery, tmp_path: Path) -> None:
    vectors = random_vectors(300, DIMENSION)
    stored = []
    for number, vector in enumerate(vectors):
        face = enroll(gallery, f"p{number % 100}", vector, request_id=f"r{number}").face
        assert face is not None
        stored.append(gallery.face(f"p{number % 100}", face.id, with_vector=True)[1])
    loose = gallery.faces("p5")[0][0]
    gallery.delete_identity("p7")
    gallery.delete_face("p5", loose.id)
    # Pages that were freed hold earlier copies of the block, with the vectors in them.
    gone, kept = stored[7], stored[8]
    assert gone is not None
    assert kept is not None
    assert traces(tmp_path, gone) == ["data.mdb"]
    pending = gallery.erasures.pending()
    assert pending.count == 2
    outcome = gallery.compactions.compact(quiet, overwrite=True)
    assert outcome.completed == 2
    for number in (7, 107, 207, 5):
        vector = stored[number]
        assert vector is not None
        assert traces(tmp_path, vector) == []
    assert traces(tmp_path, kept) == ["data.mdb"]
    assert gallery.erasures.pending().count == 0
    assert all(one.complete_time_us and one.overwritten for one in gallery.erasures.newest())
    assert sorted(file.name for file in (tmp_path / "g").iterdir()) == ["data.mdb", "lock.mdb"]


def test_a_repeat_of_an_erased_request_brings_nobody_back(gallery: Gallery) -> None:
    [ada, bob] = random_vectors(2, DIMENSION)
    enroll(gallery, "ada", ada, request_id="one")
    enroll(gallery, "bob", bob, request_id="two")
    gallery.delete_identity("ada")
    gallery.compactions.compact(quiet)
    with pytest.raises(NotFoundError):
        enroll(gallery, "ada", ada, request_id="one")
    assert gallery.counters.identity_count == 1
    repeated = enroll(gallery, "bob", bob, request_id="two")
    assert repeated.identity_id == "bob"
    path = gallery._store.path / "data.mdb"
    # The receipt names her, and nothing else does.
    receipt_free = path.read_bytes().replace(b"identity_id\xa3ada", b"")
    assert b"\xa3ada" not in receipt_free


def test_codes_of_the_erased_go_too(
    gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visagedb_indexer.limits.EXACT_ROWS_MAX", 500)
    vectors = random_vectors(600, DIMENSION)
    with gallery._store.write() as _:
        pass
    for number, vector in enumerate(vectors):
        enroll(gallery, f"p{number}", vector)
    assert gallery.wait_until_settled(60)
    assert gallery.stats().engine.indexed_face_count == 600
    parts = {file.name for file in (tmp_path / "g" / "codes").iterdir()}
    gallery.delete_identity("p3")
    assert gallery.stats().engine.tombstone_count == 1
    gallery.compactions.compact(quiet)
    stats = gallery.stats().engine
    assert (stats.tombstone_count, stats.indexed_face_count) == (0, 599)
    now = {file.name for file in (tmp_path / "g" / "codes").iterdir()}
    # The codec and the manifest have their names; the segment is another one.
    assert len(now - parts) == 1
    assert len(parts - now) == 1


def test_a_clustering_run_forgets_the_erased(gallery: Gallery, tmp_path: Path) -> None:
    vectors = random_vectors(20, DIMENSION)
    for number, vector in enumerate(vectors):
        enroll(gallery, f"p{number}", vector)
    folder = gallery.clusterings.work_folder("run")
    faces = freeze(gallery, gallery.ordinals(), folder)
    row = faces.vectors[4].copy()
    assert traces(folder, row)
    gallery.delete_identity("p4")
    gallery.compactions.compact(quiet)
    assert traces(tmp_path, row) == []
    again = freeze(gallery, gallery.ordinals(), folder)
    assert not again.vectors[4].any()
    assert np.array_equal(again.vectors[5], faces.vectors[5])


def test_reads_and_writes_go_on(gallery: Gallery, tmp_path: Path) -> None:
    vectors = random_vectors(250, DIMENSION)
    for number in range(100):
        enroll(gallery, f"p{number}", vectors[number])
    done = threading.Event()
    acknowledged: list[int] = []

    def write() -> None:
        for number in range(100, 250):
            enroll(gallery, f"p{number}", vectors[number])
            acknowledged.append(number)
            if number % 3 == 0:
                gallery.delete_identity(f"p{number - 50}")
        done.set()

    def read() -> None:
        while not done.is_set():
            for number in (0, 1, *acknowledged[-1:]):
                found = gallery.identify(vectors[number], SearchOptions(top_k=1)).candidates
                assert found[0].identity.id == f"p{number}"

    def compact() -> None:
        while not done.is_set():
            gallery.compactions.compact(quiet)

    assert failures(run_together([write, read, read, compact])) == []
    gallery.compactions.compact(quiet)
    expected = {f"p{number}" for number in range(250)}
    expected -= {f"p{number - 50}" for number in range(100, 250) if number % 3 == 0}
    gallery.close()
    reopened = Gallery(tmp_path / "g")
    assert {one.id for one in reopened.identities(most=1000)} == expected
    report = verify_store(reopened._store)
    reopened.close()
    assert report.ok, report.broken


def test_an_erasure_during_a_compaction_stays_pending(gallery: Gallery, tmp_path: Path) -> None:
    vectors = random_vectors(50, DIMENSION)
    for number, vector in enumerate(vectors):
        enroll(gallery, f"p{number}", vector)
    vector = gallery.faces("p9", with_vectors=True)[0][1]
    assert vector is not None

    def progress(done: float, stage: str) -> None:
        if stage == "copying the database" and gallery.counters.identity_count == 50:
            gallery.delete_identity("p9")

    assert gallery.compactions.compact(progress).completed == 0
    assert gallery.erasures.pending().count == 1
    assert gallery.compactions.compact(quiet).completed == 1
    assert traces(tmp_path, vector) == []


def test_giving_up_changes_nothing(gallery: Gallery, tmp_path: Path) -> None:
    for number, vector in enumerate(random_vectors(50, DIMENSION)):
        enroll(gallery, f"p{number}", vector)

    def progress(done: float, stage: str) -> None:
        if stage == "copying the database":
            with pytest.raises(UnavailableError):
                gallery.compactions.compact(quiet)
            raise CancelledError("enough")

    before = (tmp_path / "g" / "data.mdb").stat().st_ino
    with pytest.raises(CancelledError):
        gallery.compactions.compact(progress)
    assert (tmp_path / "g" / "data.mdb").stat().st_ino == before
    assert not (tmp_path / "g" / "compaction").exists()
    enroll(gallery, "one-more", random_vectors(1, DIMENSION, seed=5)[0])
    gallery.compactions.compact(quiet)
    assert gallery.counters.identity_count == 51


def test_a_second_name_of_the_database_is_not_overwritten(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "g", gallery_record(dimension=DIMENSION))
    enroll(gallery, "ada", random_vectors(1, DIMENSION)[0])
    gallery.close()
    # What a crash leaves between the link and the rename.
    os.link(tmp_path / "g" / "data.mdb", tmp_path / "g" / "replaced.mdb")
    gallery = Gallery(tmp_path / "g")
    assert gallery.identity("ada").face_count == 1
    assert not (tmp_path / "g" / "replaced.mdb").exists()
    gallery.close()


def test_blocks_of_deleted_faces_take_no_room(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "g", gallery_record(dimension=512))
    column: Column = gallery._store.opened.vector_column
    count = 2 * column.rows_per_block + 1
    vectors = random_vectors(count, 512)
    for number, vector in enumerate(vectors):
        enroll(gallery, f"p{number // 50}", vector)
    for number in range(count // 50):
        gallery.delete_identity(f"p{number}")
    gallery.compactions.compact(quiet)
    assert gallery.stats().file_bytes < 300_000
    last = gallery.identify(vectors[-1], SearchOptions()).candidates
    assert [one.identity.id for one in last] == [f"p{(count - 1) // 50}"]
    # Deleted faces still have rows: of zeros.
    ordinals, found = gallery.vectors(np.arange(count))
    assert len(found) == len(ordinals) == gallery.counters.face_count
    gallery.close()
    store = GalleryStore(tmp_path / "g")
    assert verify_store(store).ok
    store.close()
