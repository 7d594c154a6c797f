"""The calibrations of a stored gallery: kept, forgotten, refreshed as it grows."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from calibration.populations import isotropic
from support import enroll, gallery_record, write_gallery

from visagedb_indexer import limits
from visagedb_indexer.calibrations import Calibrations, RefreshPolicy
from visagedb_indexer.errors import (
    CancelledError,
    GalleryClosedError,
    InvalidArgumentError,
    NotCalibratedError,
)
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import GalleryPatch
from visagedb_indexer.values import Fusion

DIMENSION = 32
EAGER = RefreshPolicy(
    identities_min=150, growth=1.25, rest_seconds=0.0, rest_ratio=0.0, gathering_seconds=0.05
)


def quiet(done: float, stage: str) -> None:
    return None


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    write_gallery(tmp_path, list(range(160)), isotropic(160, DIMENSION, 1))
    gallery = Gallery(tmp_path)
    yield gallery
    gallery.close()


def eager(gallery: Gallery) -> Calibrations:
    return Calibrations(gallery._store, gallery._run, gallery._labels, lambda: False, EAGER)


def until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def test_it_is_there_after_a_restart(gallery: Gallery, tmp_path: Path) -> None:
    made = gallery.calibrations.calibrate(quiet)
    assert made.version == 1
    assert gallery.calibrations.latest == made
    gallery.close()
    again = Gallery(tmp_path)
    assert again.calibrations.latest == made
    assert again.calibrations.find(1) == made
    assert again.calibrations.find(2) is None
    again.close()


def test_old_versions_are_forgotten(gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CALIBRATIONS_KEPT_MAX", 2)
    for version in (1, 2, 3):
        assert gallery.calibrations.calibrate(quiet).version == version
    kept = [version for version in range(5) if gallery.calibrations.find(version)]
    assert kept == [2, 3]


def test_it_is_refreshed_when_the_gallery_has_grown_by_a_quarter(gallery: Gallery) -> None:
    calibrations = eager(gallery)
    assert until(lambda: calibrations.latest is not None)
    assert calibrations.latest is not None
    assert calibrations.latest.identity_count == 160
    newcomers = isotropic(60, DIMENSION, 2)
    for number in range(39):
        enroll(gallery, f"n{number}", newcomers[number])
        calibrations.notice(gallery.counters, gallery.record.fusion)
    time.sleep(0.3)
    assert calibrations.latest.version == 1
    enroll(gallery, "n39", newcomers[39])
    calibrations.notice(gallery.counters, gallery.record.fusion)
    assert until(lambda: calibrations.latest is not None and calibrations.latest.version == 2)
    assert calibrations.latest.identity_count == 200
    calibrations.close()


def test_a_small_gallery_is_left_alone_and_says_so_when_asked(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path, gallery_record(dimension=DIMENSION))
    enroll(gallery, "somebody", isotropic(1, DIMENSION, 1)[0])
    with pytest.raises(NotCalibratedError):
        gallery.calibrations.calibrate(quiet)
    assert gallery.calibrations.latest is None
    gallery.close()


def test_an_unknown_label_changes_nothing(gallery: Gallery) -> None:
    with pytest.raises(InvalidArgumentError):
        gallery.calibrations.calibrate(quiet, "site")
    assert gallery.calibrations.latest is None


def test_a_cancelled_run_keeps_nothing(gallery: Gallery) -> None:
    def cancel(done: float, stage: str) -> None:
        if stage == "comparing":
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        gallery.calibrations.calibrate(cancel)
    assert gallery.calibrations.latest is None
    assert gallery.calibrations.calibrate(quiet).version == 1


def test_closing_stops_a_run(tmp_path: Path) -> None:
    write_gallery(tmp_path, list(range(160)), isotropic(160, DIMENSION, 1))
    gallery = Gallery(tmp_path)
    begun, go_on = threading.Event(), threading.Event()
    failed: list[BaseException] = []

    def progress(done: float, stage: str) -> None:
        if stage == "comparing":
            begun.set()
            go_on.wait(10)

    def run() -> None:
        try:
            gallery.calibrations.calibrate(progress)
        except GalleryClosedError as error:
            failed.append(error)

    runner = threading.Thread(target=run)
    runner.start()
    assert begun.wait(10)
    closer = threading.Thread(target=gallery.close)
    closer.start()
    assert until(lambda: gallery.calibrations._closed)
    go_on.set()
    runner.join(10)
    closer.join(10)
    assert len(failed) == 1
    again = Gallery(tmp_path)
    assert again.calibrations.latest is None
    again.close()


def test_deleted_faces_take_no_part(gallery: Gallery) -> None:
    for number in range(20):
        gallery.delete_identity(f"p{number}")
    made = gallery.calibrations.calibrate(quiet)
    assert (made.identity_count, made.face_count) == (140, 140)
    assert gallery.calibrations.searched_identities() == 140
    assert np.isfinite(made.searches.scale)


def test_another_fusion_asks_for_another_calibration(gallery: Gallery) -> None:
    calibrations = eager(gallery)
    assert until(lambda: calibrations.latest is not None)
    assert calibrations.latest is not None
    assert calibrations.latest.fusion is Fusion.MAXIMUM
    gallery.update(GalleryPatch(fusion=Fusion.MEAN_VECTOR))
    calibrations.notice(gallery.counters, gallery.record.fusion)
    assert until(lambda: calibrations.latest is not None and calibrations.latest.version == 2)
    assert calibrations.latest.fusion is Fusion.MEAN_VECTOR
    calibrations.close()
