import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import enroll, gallery_record, random_vectors

from visagedb_indexer.database import Database
from visagedb_indexer.errors import (
    DataDirectoryLockedError,
    FormatTooNewError,
    GalleryExistsError,
    GalleryNotFoundError,
    IndexerError,
    InvalidArgumentError,
    LimitExceededError,
    StorageCorruptError,
    UnavailableError,
)
from visagedb_indexer.store import schema
from visagedb_indexer.store.environment import Environment

OPEN = "import sys, pathlib; from visagedb_indexer.database import Database; "
OPEN += "Database(pathlib.Path(sys.argv[1]))"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A closed data directory with two galleries of one face each."""
    path = tmp_path / "data"
    database = Database(path)
    for name in ("one", "two"):
        gallery = database.create_gallery(gallery_record(name))
        enroll(gallery, "ada", random_vectors(1, 16)[0])
    database.close()
    return path


def uid_of(data: Path, gallery_id: str) -> str:
    database = Database(data)
    uid = database.gallery(gallery_id).record.uid
    database.close()
    return uid


def test_a_second_process_is_told_who_owns_the_directory(data: Path) -> None:
    database = Database(data)
    command = [sys.executable, "-c", OPEN, str(data)]
    second = subprocess.run(command, capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert f"DataDirectoryLockedError: the data directory {data}" in second.stderr
    assert f"process {os.getpid()}" in second.stderr
    with pytest.raises(DataDirectoryLockedError):
        Database(data)
    database.close()
    assert subprocess.run(command, check=False).returncode == 0


def test_the_directory_is_for_its_owner_only(data: Path) -> None:
    assert data.stat().st_mode & 0o077 == 0


def test_a_path_that_cannot_be_a_directory_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UnavailableError, match="cannot use the data directory"):
        Database(tmp_path / "file")


def test_closing_twice_does_no_harm(data: Path) -> None:
    database = Database(data)
    database.close()
    other = os.open(os.devnull, os.O_RDONLY)
    database.close()
    os.fstat(other)
    os.close(other)


def test_galleries_are_there_after_a_restart(data: Path) -> None:
    database = Database(data)
    assert [gallery.record.id for gallery in database.galleries()] == ["one", "two"]
    assert database.gallery("two").counters.face_count == 1
    database.close()


def test_folders_of_unfinished_galleries_are_removed(data: Path) -> None:
    orphan = data / "galleries" / "0123"
    orphan.mkdir()
    (orphan / "data.mdb").write_bytes(b"half written")
    (data / "galleries" / "note.txt").write_text("not ours")
    database = Database(data)
    assert not orphan.exists()
    assert (data / "galleries" / "note.txt").exists()
    assert len(database.galleries()) == 2
    database.close()


@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_galleries_without_their_catalogue_are_not_taken_for_orphans(
    data: Path, damage: str
) -> None:
    catalogue = data / "catalogue" / "data.mdb"
    whole = catalogue.read_bytes()
    if damage == "missing":
        catalogue.unlink()
    else:
        catalogue.write_bytes(b"")
    with pytest.raises(StorageCorruptError, match="no catalogue"):
        Database(data)
    catalogue.write_bytes(whole)
    database = Database(data)
    assert len(database.galleries()) == 2
    database.close()


def test_a_format_of_a_newer_release_is_refused(data: Path) -> None:
    path = data / "galleries" / uid_of(data, "one")
    environment = Environment(path, schema.GALLERY_DATABASES, map_bytes=1 << 30)
    with environment.write() as txn:
        meta = environment.handle(schema.META)
        txn.put(schema.FORMAT_KEY, schema.u32(schema.FORMAT_VERSION + 1), db=meta)
    environment.close()
    for _ in range(2):
        assert isinstance(problem_of(data, "one"), FormatTooNewError)
    path = data / "catalogue"
    environment = Environment(path, schema.CATALOGUE_DATABASES, map_bytes=1 << 30)
    with environment.write() as txn:
        meta = environment.handle(schema.META)
        txn.put(schema.FORMAT_KEY, schema.u32(schema.FORMAT_VERSION + 1), db=meta)
    environment.close()
    with pytest.raises(FormatTooNewError, match="use a newer VisageDB"):
        Database(data)
    # It gave everything back, so that the next attempt is told the same.
    with pytest.raises(FormatTooNewError):
        Database(data)


def problem_of(data: Path, gallery_id: str) -> IndexerError:
    """Why a gallery cannot be used; the other one serves."""
    database = Database(data)
    try:
        assert len(database.galleries()) == 1
        with pytest.raises(IndexerError) as caught:
            database.gallery(gallery_id)
        return caught.value
    finally:
        database.close()


def test_a_folder_without_a_gallery_is_reported_as_damage(data: Path) -> None:
    path = data / "galleries" / uid_of(data, "one")
    for file in path.iterdir():
        file.unlink()
    problem = problem_of(data, "one")
    assert isinstance(problem, StorageCorruptError)
    assert "is missing or empty" in problem.message


@pytest.mark.parametrize("junk", [b"x" * 100, b"x" * 8192, bytes(8192), bytes(100)])
def test_a_file_that_is_no_database_is_reported_as_damage(data: Path, junk: bytes) -> None:
    path = data / "galleries" / uid_of(data, "one") / "data.mdb"
    path.write_bytes(junk)
    assert isinstance(problem_of(data, "one"), StorageCorruptError)


def test_a_deleted_gallery_leaves_nothing_and_its_name_is_free(data: Path) -> None:
    database = Database(data)
    uid = database.gallery("one").record.uid
    database.delete_gallery("one")
    assert not (data / "galleries" / uid).exists()
    with pytest.raises(GalleryNotFoundError):
        database.gallery("one")
    with pytest.raises(GalleryNotFoundError):
        database.delete_gallery("one")
    database.delete_gallery("one", allow_missing=True)
    again = database.create_gallery(gallery_record("one"))
    assert again.record.uid != uid
    assert again.counters.face_count == 0
    database.close()


def test_a_gallery_of_a_taken_name_is_refused(data: Path) -> None:
    database = Database(data)
    with pytest.raises(GalleryExistsError):
        database.create_gallery(gallery_record("one"))
    assert len(list((data / "galleries").iterdir())) == 2
    database.close()


def test_there_is_a_most_of_galleries(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("visagedb_indexer.limits.GALLERIES_MAX", 2)
    database = Database(data)
    with pytest.raises(LimitExceededError):
        database.create_gallery(gallery_record("three"))
    database.close()


@pytest.mark.parametrize("gallery_id", ["", ".", "..", "../x", "a/b", "a" * 129, "é"])
def test_a_gallery_id_never_becomes_a_path(data: Path, gallery_id: str) -> None:
    database = Database(data)
    with pytest.raises(InvalidArgumentError):
        database.create_gallery(gallery_record(gallery_id))
    with pytest.raises(GalleryNotFoundError):
        database.gallery(gallery_id)
    with pytest.raises(GalleryNotFoundError):
        database.delete_gallery(gallery_id)
    assert len(list((data / "galleries").iterdir())) == 2
    database.close()


@pytest.mark.parametrize("dimension", [0, -1, 2049, 2**31 - 1])
def test_a_dimension_out_of_range_is_refused(data: Path, dimension: int) -> None:
    database = Database(data)
    with pytest.raises(InvalidArgumentError):
        database.create_gallery(gallery_record("three", dimension))
    database.close()
