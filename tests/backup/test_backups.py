"""Backups of open databases: consistent while written to, checked, and all or nothing."""

import hashlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from support import enroll, gallery_record, random_vectors

from visagedb_indexer import failpoints
from visagedb_indexer.backup import (
    BackupFolder,
    back_up_all,
    back_up_directory,
    back_up_gallery,
    restore_directory,
    restore_gallery,
)
from visagedb_indexer.backup.manifest import MANIFEST, encoded, read_manifest
from visagedb_indexer.database import Database
from visagedb_indexer.errors import (
    BackupExistsError,
    BackupNotFoundError,
    CancelledError,
    FailedPreconditionError,
    FormatTooNewError,
    GalleryExistsError,
    GalleryNotFoundError,
    IndexerError,
    InvalidArgumentError,
    InvalidNameError,
    ModelMismatchError,
    StorageCorruptError,
    StorageFullError,
)
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import SearchOptions
from visagedb_indexer.integrity import verify_directory
from visagedb_indexer.values import ModelIdentity

VECTORS = random_vectors(400, 16)


def quietly(done: float, stage: str) -> None:
    assert 0.0 <= done <= 1.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "data")
    gallery = database.create_gallery(gallery_record("people"))
    for i in range(20):
        enroll(gallery, f"p{i % 7}", VECTORS[i], face_id=f"f{i}")
    gallery.delete_identity("p3")
    yield database
    database.close()


@pytest.fixture
def folder(tmp_path: Path) -> BackupFolder:
    return BackupFolder(tmp_path / "backups")


def faces(gallery: Gallery) -> dict[tuple[str, str], bytes]:
    """Every face of a gallery by identity and id, with its vector."""
    return {
        (identity.id, face.id): b"" if vector is None else vector.tobytes()
        for identity in gallery.identities(most=10_000)
        for face, vector in gallery.faces(identity.id, most=10_000, with_vectors=True)
    }


def names(folder: BackupFolder) -> list[str]:
    return sorted(path.name for path in folder.root.iterdir()) if folder.root.exists() else []


def test_a_gallery_comes_back_as_it_was(database: Database, folder: BackupFolder) -> None:
    gallery = database.gallery("people")
    before = faces(gallery)
    manifest = back_up_gallery(database, folder, "people", "monday", quietly)
    [backed_up] = manifest.galleries
    assert (backed_up.identity_count, backed_up.face_count) == (6, 17)
    assert backed_up.broken_invariants == ()
    assert folder.manifests() == [manifest]
    for i in range(20, 40):
        enroll(gallery, "later", VECTORS[i])
    gallery.delete_identity("p1")
    restored, replaced = restore_gallery(database, folder, "monday", "", "again", quietly)
    assert not replaced
    assert faces(restored) == before
    assert restored.record.id == "again"
    assert restored.record.uid != gallery.record.uid
    answer = restored.identify(VECTORS[1], SearchOptions(top_k=1))
    assert answer.candidates[0].identity.id == "p1"
    assert restored.upkeep.verify(quietly).ok
    _, replaced = restore_gallery(
        database, folder, "monday", "people", "", quietly, replace_existing=True
    )
    assert replaced
    assert faces(database.gallery("people")) == before


def test_what_is_restored_is_there_after_a_restart(tmp_path: Path, folder: BackupFolder) -> None:
    database = Database(tmp_path / "data")
    enroll(database.create_gallery(gallery_record()), "ada", VECTORS[0])
    back_up_gallery(database, folder, "people", "one", quietly)
    restore_gallery(database, folder, "one", "", "other", quietly)
    restore_gallery(database, folder, "one", "", "people", quietly, replace_existing=True)
    database.close()
    assert len(list((tmp_path / "data" / "galleries").iterdir())) == 2
    again = Database(tmp_path / "data")
    assert [one.record.id for one in again.galleries()] == ["other", "people"]
    assert faces(again.gallery("other")).keys() == faces(again.gallery("people")).keys()
    again.close()


def test_a_backup_is_a_moment_between_its_start_and_its_end(
    database: Database, folder: BackupFolder
) -> None:
    gallery = database.create_gallery(gallery_record("busy"))
    done = threading.Event()
    acknowledged: list[int] = []

    def write() -> None:
        # Every write is known by its place, and a deletion follows each third one.
        for i in range(400):
            if done.is_set():
                return
            enroll(gallery, f"b{i}", VECTORS[i], face_id="f")
            acknowledged.append(i)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for round_ in range(4):
            least = len(acknowledged)
            back_up_gallery(database, folder, "busy", f"round{round_}", quietly)
            most = len(acknowledged) + 1
            restored, _ = restore_gallery(
                database, folder, f"round{round_}", "", f"busy{round_}", quietly
            )
            found = sorted(int(identity[1:]) for identity, _ in faces(restored))
            # The writes of one thread: what is there is a beginning of them.
            assert found == list(range(len(found)))
            assert least <= len(found) <= most
            assert restored.upkeep.verify(quietly).ok
    finally:
        done.set()
        writer.join()
    assert gallery.upkeep.verify(quietly).ok


def test_all_galleries_and_the_catalogue(
    tmp_path: Path, database: Database, folder: BackupFolder
) -> None:
    enroll(database.create_gallery(gallery_record("staff")), "bea", VECTORS[50])
    before = {one.record.id: faces(one) for one in database.galleries()}
    note = tmp_path / "data" / "notes" / "log"
    note.parent.mkdir()
    note.write_text("kept")
    back_up_all(database, folder, "night", quietly)
    with pytest.raises(InvalidArgumentError, match="name one"):
        restore_gallery(database, folder, "night", "", "x", quietly)
    restore_gallery(database, folder, "night", "staff", "staff2", quietly)
    restore_directory(folder, "night", tmp_path / "other", quietly)
    assert (tmp_path / "other" / "notes" / "log").read_text() == "kept"
    other = Database(tmp_path / "other")
    assert {one.record.id: faces(one) for one in other.galleries()} == before
    other.close()
    assert all(report.ok for report in verify_directory(tmp_path / "other"))


def test_a_directory_without_a_server(tmp_path: Path, folder: BackupFolder) -> None:
    database = Database(tmp_path / "data")
    enroll(database.create_gallery(gallery_record()), "ada", VECTORS[0])
    with pytest.raises(FailedPreconditionError):
        back_up_directory(tmp_path / "data", folder, "x", quietly)
    expected = faces(database.gallery("people"))
    database.close()
    back_up_directory(tmp_path / "data", folder, "x", quietly)
    with pytest.raises(FailedPreconditionError, match="not empty"):
        restore_directory(folder, "x", tmp_path / "data", quietly)
    restore_directory(folder, "x", tmp_path / "b" / "c", quietly)
    restored = Database(tmp_path / "b" / "c")
    assert faces(restored.gallery("people")) == expected
    restored.close()


def test_names_are_taken_once(database: Database, folder: BackupFolder) -> None:
    back_up_gallery(database, folder, "people", "one", quietly)
    with pytest.raises(BackupExistsError):
        back_up_gallery(database, folder, "people", "one", quietly)
    with pytest.raises(GalleryExistsError):
        restore_gallery(database, folder, "one", "", "", quietly)
    for wrong in ("", "..", "a/b", ".hidden", "x" * 129, "a\0"):
        with pytest.raises(InvalidNameError):
            back_up_gallery(database, folder, "people", wrong, quietly)
        with pytest.raises(InvalidNameError):
            restore_gallery(database, folder, wrong, "", "x", quietly)
    with pytest.raises(BackupNotFoundError):
        restore_gallery(database, folder, "two", "", "x", quietly)
    with pytest.raises(GalleryNotFoundError):
        restore_gallery(database, folder, "one", "nobody", "x", quietly)
    with pytest.raises(GalleryNotFoundError):
        back_up_gallery(database, folder, "nobody", "two", quietly)
    with pytest.raises(InvalidArgumentError, match="single gallery"):
        restore_directory(folder, "one", folder.root / "x", quietly)
    assert names(folder) == ["one"]


def test_another_model_is_not_replaced(database: Database, folder: BackupFolder) -> None:
    back_up_gallery(database, folder, "people", "one", quietly)
    other = replace(gallery_record("other"), model=ModelIdentity("another", "1", 16))
    enroll(database.create_gallery(other), "ada", VECTORS[0])
    with pytest.raises(ModelMismatchError):
        restore_gallery(database, folder, "one", "", "other", quietly, replace_existing=True)
    assert faces(database.gallery("other")).keys()
    assert database.gallery("other").model.name == "another"


def test_every_damage_to_a_backup_is_refused(
    tmp_path: Path, database: Database, folder: BackupFolder
) -> None:
    back_up_all(database, folder, "one", quietly)
    root = folder.root / "one"
    kept = shutil.copytree(root, tmp_path / "kept")
    for path in [path for path in root.rglob("*") if path.is_file()]:
        size = path.stat().st_size
        for damage in range(5):
            data = bytearray(path.read_bytes())
            if damage < 3:
                data[damage * (size - 1) // 2] ^= 1
            elif damage == 3:
                del data[-1]
            else:
                data.append(0)
            path.write_bytes(data)
            with pytest.raises((StorageCorruptError, FormatTooNewError)):
                restore_directory(folder, "one", tmp_path / "new", quietly)
            if "galleries" in path.parts or path.name == MANIFEST:
                with pytest.raises(StorageCorruptError):
                    restore_gallery(database, folder, "one", "", "new", quietly)
            shutil.copy(kept / path.relative_to(root), path)
        path.unlink()
        with pytest.raises((StorageCorruptError, BackupNotFoundError)):
            restore_directory(folder, "one", tmp_path / "new", quietly)
        shutil.copy(kept / path.relative_to(root), path)
    assert not (tmp_path / "new").exists()
    assert [one.record.id for one in database.galleries()] == ["people"]
    assert len(list((tmp_path / "data" / "galleries").iterdir())) == 1
    restore_directory(folder, "one", tmp_path / "new", quietly)


def test_newer_formats_are_refused(database: Database, folder: BackupFolder) -> None:
    manifest = back_up_gallery(database, folder, "people", "one", quietly)
    for newer in (replace(manifest, format=2), replace(manifest, storage_format=99)):
        (folder.root / "one" / MANIFEST).write_bytes(encoded(newer))
        with pytest.raises(FormatTooNewError):
            restore_gallery(database, folder, "one", "", "x", quietly)
    # Whatever else a newer manifest says is not looked at.
    data = msgspec.json.encode({"format": 7, "storage_format": 1, "all": "different"})
    digest = hashlib.sha256(data).hexdigest().encode()
    (folder.root / "one" / MANIFEST).write_bytes(digest + b"\n" + data)
    with pytest.raises(FormatTooNewError):
        read_manifest(folder.root / "one")


def test_a_path_in_a_manifest_leads_nowhere_else(
    tmp_path: Path, database: Database, folder: BackupFolder
) -> None:
    manifest = back_up_gallery(database, folder, "people", "one", quietly)
    [gallery] = manifest.galleries
    secret = tmp_path / "secret"
    secret.write_bytes(b"x")
    file = replace(
        gallery.file, path="../../secret", size_bytes=1, sha256=hashlib.sha256(b"x").hexdigest()
    )
    forged = replace(manifest, galleries=(replace(gallery, file=file),))
    (folder.root / "one" / MANIFEST).write_bytes(encoded(forged))
    with pytest.raises(StorageCorruptError):
        restore_gallery(database, folder, "one", "", "x", quietly)


STEPS = {
    "backup": ["before_copy", "after_copy", "before_manifest", "before_rename"],
    "restore": ["before_copy", "after_copy", "before_catalogue"],
}


@pytest.mark.parametrize("step", [f"backup.{step}" for step in STEPS["backup"]])
def test_a_full_disk_leaves_nothing(database: Database, folder: BackupFolder, step: str) -> None:
    failpoints.arm({failpoints.ARMED_VARIABLE: f"{step}=error"})
    try:
        with pytest.raises(StorageFullError):
            back_up_gallery(database, folder, "people", "one", quietly)
    finally:
        failpoints.arm({})
    assert names(folder) == []
    back_up_gallery(database, folder, "people", "one", quietly)
    assert names(folder) == ["one"]


@pytest.mark.parametrize("step", [f"restore.{step}" for step in STEPS["restore"]])
def test_a_restore_that_fails_changes_nothing(
    tmp_path: Path,
    database: Database,
    folder: BackupFolder,
    step: str,
) -> None:
    back_up_gallery(database, folder, "people", "one", quietly)
    before = faces(database.gallery("people"))
    failpoints.arm({failpoints.ARMED_VARIABLE: f"{step}=error"})
    try:
        with pytest.raises((IndexerError, OSError)):
            restore_gallery(database, folder, "one", "", "people", quietly, replace_existing=True)
    finally:
        failpoints.arm({})
    assert faces(database.gallery("people")) == before
    assert len(list((tmp_path / "data" / "galleries").iterdir())) == 1


def test_a_backup_can_be_given_up(database: Database, folder: BackupFolder) -> None:
    def stop(done: float, stage: str) -> None:
        if stage == "verifying":
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        back_up_gallery(database, folder, "people", "one", stop)
    assert names(folder) == []


def test_what_a_crash_left_is_cleared_away(database: Database, folder: BackupFolder) -> None:
    left = folder.root / ".one.new" / "galleries"
    left.mkdir(parents=True)
    (left / "data.mdb").write_bytes(b"half")
    assert folder.manifests() == []
    back_up_gallery(database, folder, "people", "one", quietly)
    assert names(folder) == ["one"]


def test_a_damaged_gallery_does_not_stop_the_others(tmp_path: Path, folder: BackupFolder) -> None:
    database = Database(tmp_path / "data")
    for name in ("bad", "good"):
        enroll(database.create_gallery(gallery_record(name)), "ada", VECTORS[0])
    uid = database.gallery("bad").record.uid
    back_up_gallery(database, folder, "bad", "one", quietly)
    database.close()
    data = tmp_path / "data" / "galleries" / uid / "data.mdb"
    data.write_bytes(data.read_bytes()[:9000])
    [bad, good] = verify_directory(tmp_path / "data")
    assert (bad.gallery, bad.ok, good.gallery, good.ok) == ("bad", False, "good", True)
    assert "cut short" in bad.broken[0].findings[0].message
    database = Database(tmp_path / "data")
    assert list(database.damaged()) == ["bad"]
    assert [one.record.id for one in database.galleries()] == ["good"]
    with pytest.raises(StorageCorruptError, match="'bad' cannot be used"):
        database.gallery("bad")
    with pytest.raises(GalleryExistsError):
        database.create_gallery(gallery_record("bad"))
    with pytest.raises(StorageCorruptError):
        back_up_all(database, folder, "all", quietly)
    with pytest.raises(StorageCorruptError):
        database.repair_gallery("bad", quietly)
    restore_gallery(database, folder, "one", "", "bad", quietly, replace_existing=True)
    assert database.damaged() == {}
    assert len(faces(database.gallery("bad"))) == 1
    database.close()


def test_a_damaged_gallery_can_be_deleted_and_a_lost_one_removes_nothing(tmp_path: Path) -> None:
    database = Database(tmp_path / "data")
    uids = [database.create_gallery(gallery_record(name)).record.uid for name in ("a", "b")]
    database.close()
    (tmp_path / "data" / "galleries" / uids[0]).rename(tmp_path / "data" / "galleries" / "moved")
    database = Database(tmp_path / "data")
    assert list(database.damaged()) == ["a"]
    # It may be the one whose name has suffered.
    assert (tmp_path / "data" / "galleries" / "moved").is_dir()
    database.delete_gallery("a")
    assert database.damaged() == {}
    database.close()


def test_a_gallery_in_use_is_repaired(tmp_path: Path, database: Database) -> None:
    gallery = database.gallery("people")
    before = faces(gallery)
    assert gallery.upkeep.verify(quietly).ok
    gallery._engine._table._owners.values[0] = 5
    assert [one.invariant for one in gallery.upkeep.verify(quietly).broken] == ["memory"]
    report = database.repair_gallery("people", quietly)
    assert report.ok
    repaired = database.gallery("people")
    assert faces(repaired) == before
    assert repaired.upkeep.verify(quietly).ok
    assert len(repaired.ordinals()) == len(before)
