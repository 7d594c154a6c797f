"""A database of an older format is brought up to date, whatever interrupts that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import enroll, gallery_record, random_vectors

from visagedb_indexer.database import Database
from visagedb_indexer.errors import FormatTooNewError, StorageCorruptError, StorageFullError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.integrity import verify_store
from visagedb_indexer.store import GalleryStore, checksums, migrations, schema
from visagedb_indexer.store.migrations import Step
from visagedb_indexer.store.tables import Tables

VECTORS = random_vectors(30, 16)
# What version 0 would have been: records without a checksum, and none of vectors.
RECORDS = (schema.IDENTITIES, schema.FACES)


def unsealed(tables: Tables) -> None:
    """Takes a gallery of version 1 back to that."""
    for database in RECORDS:
        for key, data in list(tables.items(database)):
            tables.put(database, key, bytes(checksums.unsealed(data)))
    for key in list(tables.keys(schema.VECTOR_CHECKSUMS)):
        tables.delete(schema.VECTOR_CHECKSUMS, key)
    tables.put(schema.META, schema.FORMAT_KEY, schema.u32(0))


def sealed(tables: Tables) -> None:
    """The step from there to version 1."""
    for database in RECORDS:
        for key, data in list(tables.items(database)):
            tables.put(database, key, checksums.sealed(data))
    vectors = b"".join(data for _, data in tables.items(schema.VECTORS))
    rows = [vectors[place : place + 64] for place in range(0, 64 * len(VECTORS), 64)]
    sums = b"".join(
        checksums.of_vector(memoryview(row).cast("f")).to_bytes(4, "little") for row in rows
    )
    tables.put(schema.VECTOR_CHECKSUMS, schema.u32(0), sums.ljust(16 * 1024, b"\0"))


def old_gallery(path: Path) -> dict[str, dict[bytes, bytes]]:
    """Makes a gallery of version 0 and returns what it is to be in version 1."""
    gallery = Gallery(path, create=gallery_record())
    for i, vector in enumerate(VECTORS):
        enroll(gallery, f"p{i % 8}", vector, face_id=f"f{i}")
    gallery.close()
    store = GalleryStore(path)
    before = content(store)
    with store.write() as txn:
        unsealed(txn.tables)
    store.close()
    return before


def content(store: GalleryStore) -> dict[str, dict[bytes, bytes]]:
    with store.read() as view:
        return {
            database.name.decode(): dict(view.tables.items(database))
            for database in schema.GALLERY_DATABASES
        }


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> dict[int, Step]:
    """The registry with a step from version 0."""
    registry: dict[int, Step] = {0: sealed}
    monkeypatch.setattr(migrations, "GALLERY_STEPS", registry)
    return registry


def test_an_old_gallery_is_brought_up_to_date(tmp_path: Path, steps: dict[int, Step]) -> None:
    expected = old_gallery(tmp_path / "g")
    store = GalleryStore(tmp_path / "g")
    assert content(store) == expected
    assert verify_store(store).ok
    store.close()
    del steps[0]
    store = GalleryStore(tmp_path / "g")
    assert content(store) == expected
    store.close()


def test_a_step_that_fails_changes_nothing(tmp_path: Path, steps: dict[int, Step]) -> None:
    expected = old_gallery(tmp_path / "g")

    def failing(tables: Tables) -> None:
        sealed(tables)
        raise OSError(28, "no space left on device")

    steps[0] = failing
    with pytest.raises(StorageFullError):
        GalleryStore(tmp_path / "g")
    steps[0] = sealed
    store = GalleryStore(tmp_path / "g")
    assert content(store) == expected
    store.close()


@pytest.mark.parametrize("moment", ["before_step", "before_commit", "after_commit"])
def test_a_migration_that_is_killed_goes_on(
    tmp_path: Path, steps: dict[int, Step], moment: str
) -> None:
    expected = old_gallery(tmp_path / "g")
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); from pathlib import Path\n"
        "import test_migrations as t\n"
        "t.migrations.GALLERY_STEPS = {0: t.sealed}\n"
        "t.GalleryStore(Path(sys.argv[1]))\n"
    )
    here = Path(__file__).resolve().parent
    environment = {
        **os.environ,
        "VISAGEDB_FAILPOINT": f"migration.{moment}=kill",
        "PYTHONPATH": os.pathsep.join([str(here.parent), *sys.path]),
    }
    process = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "g"), str(here)],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert process.returncode == -9, process.stderr.decode()
    store = GalleryStore(tmp_path / "g")
    assert content(store) == expected
    assert verify_store(store).ok
    store.close()


def test_a_version_without_a_step_is_refused(tmp_path: Path) -> None:
    old_gallery(tmp_path / "g")
    with pytest.raises(StorageCorruptError, match="storage format 0, which this release cannot"):
        GalleryStore(tmp_path / "g")


def test_a_newer_version_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    database = Database(tmp_path)
    uid = database.create_gallery(gallery_record()).record.uid
    enroll(database.create_gallery(gallery_record("other")), "ada", VECTORS[0])
    database.close()
    path = tmp_path / "galleries" / uid
    store = GalleryStore(path)
    with store.write() as txn:
        txn.tables.put(schema.META, schema.FORMAT_KEY, schema.u32(schema.FORMAT_VERSION + 1))
    store.close()
    before = (path / "data.mdb").read_bytes()
    with pytest.raises(FormatTooNewError, match="use a newer VisageDB"):
        GalleryStore(path)
    database = Database(tmp_path)
    with pytest.raises(FormatTooNewError):
        database.gallery("people")
    assert [one.record.id for one in database.galleries()] == ["other"]
    database.close()
    assert (path / "data.mdb").read_bytes() == before
