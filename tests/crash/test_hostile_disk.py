"""Disks that are full, read-only or that forget, and a process without file descriptors.

Whatever happens: a clear error or a repair, never a wrong answer, and writing goes on once there
is room again.
"""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from support import enroll, gallery_record, random_vectors, write_gallery

from visagedb_indexer import limits
from visagedb_indexer.cluster_run import ClusterPlan, cluster_gallery
from visagedb_indexer.database import Database
from visagedb_indexer.errors import (
    IndexerError,
    StorageFullError,
    UnavailableError,
)
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import SearchOptions
from visagedb_indexer.integrity import verify_directory
from visagedb_indexer.search import builder
from visagedb_indexer.store import ClusteringRecord

KIB = 1 << 10
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of four megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)  # noqa: S607


def fill(place: Path, leaving: int) -> Path:
    """Fills a disk but for some bytes with a file that may be removed again."""
    filler = place / "filler"
    with filler.open("wb") as file:
        stat = os.statvfs(place)
        file.write(bytes(max(0, stat.f_bavail * stat.f_frsize - leaving)))
    return filler


def add_faces(gallery: Gallery, first: int, most: int) -> int:
    """Enrols until there is no room; returns the number of the first face that did not fit."""
    for number, vector in enumerate(random_vectors(most, gallery.model.dimension, seed=first)):
        try:
            enroll(gallery, f"p{first + number}", vector, source="x" * 500)
        except StorageFullError:
            return first + number
    return first + most


def add_galleries(database: Database) -> None:
    for number in range(50):
        database.create_gallery(gallery_record(f"other-{number}"))


@needs_root
def test_writing_goes_on_once_a_full_disk_has_room_again(disk: Path) -> None:
    database = Database(disk / "data")
    try:
        gallery = database.create_gallery(gallery_record())
        add_faces(gallery, 0, 20)
        filler = fill(disk, 200 * KIB)
        count = add_faces(gallery, 20, 2000)
        assert count < 2000
        # Reads go on, and nothing of what was refused is there.
        assert gallery.counters.face_count == gallery.counters.identity_count == count
        probe = random_vectors(1, 16, seed=0)[0]
        answer = gallery.identify(probe, SearchOptions(top_k=1))
        assert answer.candidates[0].identity.id == "p0"
        with pytest.raises(StorageFullError):
            add_galleries(database)
        known = {one.record.id for one in database.galleries()}

        filler.unlink()
        assert add_faces(gallery, count, 20) == count + 20
        database.create_gallery(gallery_record("afterwards"))
    finally:
        database.close()
    database = Database(disk / "data")
    try:
        assert {one.record.id for one in database.galleries()} == known | {"afterwards"}
        assert database.gallery("people").counters.face_count == count + 20
    finally:
        database.close()
    assert all(report.ok for report in verify_directory(disk / "data"))


@needs_root
def test_the_codes_are_written_once_a_full_disk_has_room_again(
    disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EXACT_ROWS_MAX", 640)
    monkeypatch.setattr(builder, "_SAVED_ROWS_MIN", 10)
    vectors = random_vectors(700, 32)
    write_gallery(disk / "gallery", list(range(700)), vectors)
    filler = fill(disk, 8 * KIB)
    gallery = Gallery(disk / "gallery")
    try:
        assert gallery.wait_until_settled(60)
        assert gallery.identify(vectors[5], SearchOptions(top_k=1)).candidates[0].identity.id
        assert not list((disk / "gallery" / "codes").glob("manifest"))
        filler.unlink()
    finally:
        gallery.close()
    assert [path.name for path in (disk / "gallery" / "codes").glob("manifest*")] == ["manifest"]
    gallery = Gallery(disk / "gallery")
    try:
        assert gallery.stats().engine.index_generation == 1
    finally:
        gallery.close()


@needs_root
def test_a_disk_that_is_read_only_is_refused_with_a_clear_error(disk: Path) -> None:
    database = Database(disk / "data")
    enroll(database.create_gallery(gallery_record()), "p0", random_vectors(1, 16)[0])
    database.close()
    remount = ["mount", "-o", "remount,ro", str(disk)]
    subprocess.run(remount, check=True, capture_output=True)
    with pytest.raises(UnavailableError, match=r"[Rr]ead-only"):
        Database(disk / "data")
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)  # noqa: S607
    database = Database(disk / "data")
    assert database.gallery("people").counters.face_count == 1
    database.close()


def test_a_full_map_takes_deletions_and_then_faces_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAP_BYTES_GALLERY", 1 << 20)
    gallery = Gallery(tmp_path / "gallery", gallery_record())
    try:
        count = add_faces(gallery, 0, 2000)
        assert 50 < count < 2000
        for number in range(count // 2):
            gallery.delete_identity(f"p{number}")
        assert add_faces(gallery, count, 5) == count + 5
        found = gallery.identify(random_vectors(1, 16, seed=count)[0], SearchOptions(top_k=1))
        assert found.candidates[0].identity.id == f"p{count}"
    finally:
        gallery.close()


# Files that are derived from the database


def crowd(path: Path) -> tuple[np.ndarray, Gallery]:
    vectors = random_vectors(700, 32)
    write_gallery(path, list(range(700)), vectors)
    return vectors, Gallery(path)


def damages(content: bytes) -> Iterator[bytes]:
    """The content with a bit flipped in several places, cut short, and empty."""
    for place in sorted({0, 9, len(content) // 3, len(content) // 2, len(content) - 1}):
        yield content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :]
    yield content[: len(content) // 2]
    yield b""


def test_a_flipped_byte_in_the_codes_is_noticed_whatever_file_it_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "EXACT_ROWS_MAX", 640)
    vectors, gallery = crowd(tmp_path / "gallery")
    assert gallery.wait_until_settled(60)
    gallery.close()
    files = sorted((tmp_path / "gallery" / "codes").iterdir())
    assert len(files) == 3
    for file in files:
        whole = file.read_bytes()
        for damaged in [*damages(whole)][1:6:2]:
            file.write_bytes(damaged)
            gallery = Gallery(tmp_path / "gallery")
            try:
                for number in range(0, 700, 100):
                    answer = gallery.identify(vectors[number], SearchOptions(top_k=1))
                    assert answer.candidates[0].identity.id == f"p{number}"
                assert gallery.wait_until_settled(60)
            finally:
                gallery.close()
            # Made anew, and as good as before.
            whole = file.read_bytes() if file.exists() else whole
            if not file.exists():
                break


class _Cut(Exception):  # noqa: N818
    """Ends a run like a crash."""


@pytest.mark.parametrize("name", ["faces/index", "faces/vectors.f32", "graph", "model"])
def test_a_damaged_file_of_a_clustering_run_does_not_change_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("visagedb_indexer.cluster_run._SAVE_SECONDS_MIN", 0.0)
    _, gallery = crowd(tmp_path / "gallery")
    plan = ClusterPlan(threshold=0.5, method="average-linkage")

    def run(clustering_id: str, progress: Callable[[float, str], None]) -> ClusteringRecord:
        return cluster_gallery(gallery, clustering_id, plan, progress=progress)

    def cut(done: float, stage: str) -> None:
        if done >= 0.95:
            raise _Cut

    try:
        right = run("whole", lambda done, stage: None)
        clusters = gallery.clusterings.clusters("whole")
        for turn in range(3):
            with pytest.raises(_Cut):
                run(f"run{turn}", cut)
            file = gallery.clusterings.work_folder(f"run{turn}") / name
            file.write_bytes([*damages(file.read_bytes())][2 * turn + 1])
            again = run(f"run{turn}", lambda done, stage: None)
            assert again.cluster_count == right.cluster_count
            assert [c.ordinals for _, c in gallery.clusterings.clusters(f"run{turn}")] == [
                c.ordinals for _, c in clusters
            ]
    finally:
        gallery.close()


# File descriptors

EXHAUST = """
import os, resource, sys
from pathlib import Path
import numpy as np
from support import enroll, gallery_record, random_vectors
from visagedb_indexer.database import Database
from visagedb_indexer.errors import IndexerError, UnavailableError
from visagedb_indexer.gallery_values import SearchOptions

database = Database(Path(sys.argv[1]))
gallery = database.create_gallery(gallery_record())
vectors = random_vectors(4, 16)
enroll(gallery, "p0", vectors[0])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
enroll(gallery, "p1", vectors[1])
assert gallery.identify(vectors[1], SearchOptions(top_k=1)).candidates[0].identity.id == "p1"
try:
    database.create_gallery(gallery_record("other"))
except UnavailableError as error:
    print(error.message)
for descriptor in taken:
    os.close(descriptor)
database.create_gallery(gallery_record("other"))
enroll(gallery, "p2", vectors[2])
database.close()
"""


def test_a_process_without_file_descriptors_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] > 64
    command = [sys.executable, "-c", EXHAUST, str(tmp_path / "data")]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip(), "a gallery was created without a file descriptor"
    database = Database(tmp_path / "data")
    try:
        assert sorted(one.record.id for one in database.galleries()) == ["other", "people"]
        assert database.gallery("people").counters.face_count == 3
    finally:
        database.close()
    assert all(report.ok for report in verify_directory(tmp_path / "data"))


def test_every_error_of_a_hostile_environment_is_typed() -> None:
    for error in (StorageFullError, UnavailableError):
        assert issubclass(error, IndexerError)
