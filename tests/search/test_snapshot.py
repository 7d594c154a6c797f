"""The codes are kept over a restart, and made anew when they cannot be trusted."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from support import enroll, gallery_record, mates, random_vectors

from visagedb_indexer import limits
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import SearchOptions
from visagedb_indexer.search import EngineState
from visagedb_indexer.values import Vector

DIMENSION = 32
FACES = 400


@pytest.fixture(autouse=True)
def small_galleries_have_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "EXACT_ROWS_MAX", 300)


@pytest.fixture
def vectors() -> Vector:
    return random_vectors(FACES, DIMENSION)


@pytest.fixture
def path(tmp_path: Path, vectors: Vector) -> Path:
    """A closed gallery with codes and a snapshot of them."""
    gallery = Gallery(tmp_path / "gallery", gallery_record(dimension=DIMENSION))
    for number, vector in enumerate(vectors):
        enroll(gallery, f"p{number}", vector)
    assert gallery.wait_until_settled(60)
    gallery.close()
    folder = snapshot_of(tmp_path / "gallery")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    return tmp_path / "gallery"


def snapshot_of(path: Path) -> Path:
    return path / "codes"


def copied(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def restored(folder: Path, files: dict[str, bytes]) -> None:
    for file in folder.iterdir():
        file.unlink()
    for name, data in files.items():
        (folder / name).write_bytes(data)


def found(gallery: Gallery, probe: Vector) -> str:
    return gallery.identify(probe, SearchOptions(top_k=1)).candidates[0].identity.id


def test_a_restart_takes_over_the_codes(path: Path, vectors: Vector) -> None:
    gallery = Gallery(path)
    stats = gallery.stats().engine
    assert stats.state is EngineState.COMPACT
    assert stats.index_generation == 1
    assert stats.indexed_face_count == FACES
    # Nor is the audit made again.
    assert stats.audit is not None
    for number, probe in enumerate(mates(vectors, 0.8)[:50]):
        assert found(gallery, probe) == f"p{number}"
    gallery.close()


def test_what_came_after_the_snapshot_is_found_and_what_went_is_not(
    path: Path, vectors: Vector
) -> None:
    old = copied(snapshot_of(path))
    fresh = random_vectors(20, DIMENSION, seed=8)
    gallery = Gallery(path)
    for number, vector in enumerate(fresh):
        enroll(gallery, f"new{number}", vector)
    gallery.delete_identity("p7")
    gallery.close()
    # As if the process had been killed before it could write a newer one.
    restored(snapshot_of(path), old)
    gallery = Gallery(path)
    assert gallery.stats().engine.index_generation == 1
    for number, vector in enumerate(fresh):
        assert found(gallery, vector) == f"new{number}"
    assert found(gallery, vectors[7]) != "p7"
    assert found(gallery, vectors[8]) == "p8"
    gallery.close()


def flipped(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)


@pytest.mark.parametrize("kind", ["manifest", "smallest", "largest"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:5],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: flipped(data, 2),
        lambda data: flipped(data, 20),
        lambda data: flipped(data, 70),
        lambda data: flipped(data, len(data) // 2),
        lambda data: flipped(data, len(data) - 1),
        lambda data: b"x" * 10_000,
    ],
)
def test_a_damaged_snapshot_is_not_used(
    path: Path,
    vectors: Vector,
    kind: str,
    damage: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    parts = sorted(snapshot_of(path).glob("*.part"), key=lambda part: part.stat().st_size)
    files = {"manifest": snapshot_of(path) / "manifest", "smallest": parts[0], "largest": parts[-1]}
    files[kind].write_bytes(damage(files[kind].read_bytes()))
    with caplog.at_level(logging.WARNING):
        gallery = Gallery(path)
    assert "is not used" in caplog.text
    assert found(gallery, vectors[3]) == "p3"
    assert gallery.wait_until_settled(60)
    assert gallery.stats().engine.indexed_face_count == FACES
    assert found(gallery, vectors[3]) == "p3"
    gallery.close()


def test_a_missing_part_is_noticed(path: Path, vectors: Vector) -> None:
    for part in snapshot_of(path).glob("*.part"):
        part.unlink()
    gallery = Gallery(path)
    assert found(gallery, vectors[3]) == "p3"
    assert gallery.wait_until_settled(60)
    assert gallery.stats().engine.indexed_face_count == FACES
    gallery.close()


def test_the_snapshot_of_another_gallery_is_not_used(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = gallery_record("other", dimension=DIMENSION)
    other = Gallery(tmp_path / "other", record)
    for number, vector in enumerate(random_vectors(FACES + 50, DIMENSION, seed=5)):
        enroll(other, f"q{number}", vector)
    assert other.wait_until_settled(60)
    other.close()
    restored(snapshot_of(tmp_path / "other"), copied(snapshot_of(path)))
    with caplog.at_level(logging.WARNING):
        reopened = Gallery(tmp_path / "other")
    assert "belongs to another gallery" in caplog.text
    probe = random_vectors(FACES + 50, DIMENSION, seed=5)[430]
    assert found(reopened, probe) == "q430"
    reopened.close()


def test_a_new_snapshot_writes_only_what_is_new(path: Path, vectors: Vector) -> None:
    before = {part.name: part.stat().st_mtime_ns for part in snapshot_of(path).glob("*.part")}
    gallery = Gallery(path)
    gallery.delete_identity("p7")
    enroll(gallery, "new", vectors[7])
    assert gallery.wait_until_settled(60)
    gallery.close()
    after = {part.name: part.stat().st_mtime_ns for part in snapshot_of(path).glob("*.part")}
    assert len(after) == len(before)
    assert len(after.items() & before.items()) == 1


def test_an_unwritable_snapshot_stops_nothing(path: Path, vectors: Vector) -> None:
    for file in snapshot_of(path).iterdir():
        file.unlink()
    snapshot_of(path).rmdir()
    # A file in its place: neither to be read nor to be replaced.
    snapshot_of(path).write_bytes(b"in the way")
    gallery = Gallery(path)
    assert gallery.wait_until_settled(60)
    assert found(gallery, vectors[1]) == "p1"
    gallery.close()
