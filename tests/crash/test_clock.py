"""A clock that jumps: nothing is doubled, lost or forgotten too early because of it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support import enroll, gallery_record, random_vectors

from visagedb_indexer import clock, limits
from visagedb_indexer.errors import FaceNotFoundError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import EnrollOutcome, NewIdentity
from visagedb_indexer.moves import Destination
from visagedb_indexer.store import AuditRecord, ClusteringRecord

DAY = 24 * 3600.0
YEAR = 365 * DAY


@pytest.fixture
def jump(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets every clock of the engine to so many seconds from the true time."""
    true = clock.now_us

    def to(seconds: float) -> None:
        def jumped() -> int:
            return true() + int(seconds * 1e6)

        monkeypatch.setattr(clock, "now_us", jumped)
        for module in (
            "enrollment", "commands", "transfer", "undo", "cluster_run", "loose_faces"
        ):  # fmt: skip
            name = f"visagedb_indexer.{module}.now_us"
            monkeypatch.setattr(name, jumped, raising=False)

    return to


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "gallery", gallery_record())
    yield gallery
    gallery.close()


@pytest.mark.parametrize("seconds", [-YEAR, -DAY, -1.0, DAY / 2, 2 * DAY, 30 * YEAR])
def test_a_repeated_enrolment_is_never_a_second_face(
    gallery: Gallery, jump: Callable[[float], None], seconds: float
) -> None:
    [vector] = random_vectors(1, 16)
    first = enroll(gallery, "p0", vector, request_id="once")
    jump(seconds)
    again = enroll(gallery, "p0", vector, request_id="once")
    assert again.face is not None
    assert first.face is not None
    assert again.face.id == first.face.id
    assert gallery.counters.face_count == 1
    # What is written under the wrong time is found again under the right one.
    enroll(gallery, "p1", -vector, request_id="twice")
    jump(0.0)
    enroll(gallery, "p1", -vector, request_id="twice")
    assert gallery.counters.face_count == 2
    assert enroll(gallery, "p1", -vector).outcome is EnrollOutcome.ALREADY_ENROLLED


def test_a_repeated_move_is_made_once_or_refused(
    gallery: Gallery, jump: Callable[[float], None]
) -> None:
    face = enroll(gallery, "p0", random_vectors(1, 16)[0]).face
    assert face is not None
    destination = Destination("p1", NewIdentity())
    gallery.moves.move([("p0", face.id)], destination, "once")
    jump(-YEAR)
    assert gallery.moves.move([("p0", face.id)], destination, "once").faces
    # So long after, the request is no longer known; the face is not where it was.
    jump(YEAR)
    with pytest.raises(FaceNotFoundError):
        gallery.moves.move([("p0", face.id)], destination, "once")
    assert len(gallery.moves.lineage()) == 1


def test_a_clock_that_was_set_back_does_not_make_the_newest_result_the_oldest(
    gallery: Gallery,
) -> None:
    record = ClusteringRecord(
        id="", create_time_us=0, face_count=0, cluster_count=0, single_count=0, threshold=0.5,
        method="average-linkage", generation=0,
    )  # fmt: skip
    for number in range(limits.CLUSTERINGS_KEPT_MAX + 5):
        # Each is made an hour before the one before.
        gallery.clusterings.keep(replace(record, id=f"{100 - number:03d}"), [])
        assert gallery.clusterings.find(f"{100 - number:03d}") is not None
    assert len(gallery.clusterings.all()) == limits.CLUSTERINGS_KEPT_MAX


def test_nor_the_newest_audit(gallery: Gallery) -> None:
    with gallery._store.write() as txn:
        for number in range(5):
            record = AuditRecord(f"{100 - number:03d}", 0, 0, 0, {}, 0.5, "", 0)
            txn.audits.put(record, (), 3)
            assert record.id in {one.id for one in txn.audits.all()}
        assert len(txn.audits.all()) == 3
