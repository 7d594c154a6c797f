"""Backups, their return and checks of integrity over the wire, by both clients and the commands."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import make_config, start_process
from support import random_vectors

import visagedb
from visagedb._cli._app import run
from visagedb_server.config import ConfigError
from visagedb_server.server import Server

VECTORS = random_vectors(40, 16)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(make_config(tmp_path / "data", backup_root=tmp_path / "backups"))
    server.start()
    yield server
    server.stop(grace=5)


@pytest.fixture
def client(server: Server) -> Iterator[visagedb.Client]:
    with visagedb.Client(server.address) as client:
        client.create_gallery("people", model="own", dimension=16)
        for i in range(20):
            client.enroll("people", f"p{i % 6}", vector=VECTORS[i])
        yield client


def people(client: visagedb.Client, gallery: str) -> list[str]:
    return [one.id for one in client.list_identities(gallery)]


def test_a_gallery_and_back(client: visagedb.Client) -> None:
    seen: list[float] = []
    backup = client.snapshot_gallery("people", backup="monday").result(
        progress=lambda status: seen.append(status.progress)
    )
    assert seen[-1] == 1.0
    assert backup.id == "monday"
    assert not backup.complete
    [inside] = backup.galleries
    assert (inside.gallery, inside.identity_count, inside.face_count) == ("people", 6, 20)
    assert inside.broken_invariants == ()
    assert list(client.list_backups()) == [backup]
    client.delete_identity("people", "p0")
    restored = client.restore_gallery(backup, gallery="again").result()
    assert (restored.id, restored.face_count, restored.replaced) == ("again", 20, False)
    assert people(client, "again") == [f"p{i}" for i in range(6)]
    found = client.identify("again", vector=VECTORS[0], top_k=1)
    assert found.best is not None
    assert found.best.id == "p0"
    assert client.restore_gallery("monday", replace_existing=True).result().replaced
    assert people(client, "people") == people(client, "again")
    assert client.verify_integrity("people").result().ok
    report = client.verify_integrity("again", repair=True).result()
    assert report.ok
    assert report.repairs == ()
    assert people(client, "again") == people(client, "people")


def test_refusals_are_typed(client: visagedb.Client, tmp_path: Path) -> None:
    client.snapshot_gallery("people", backup="one").result()
    with pytest.raises(visagedb.BackupExistsError):
        client.snapshot_gallery("people", backup="one").result()
    with pytest.raises(visagedb.GalleryExistsError):
        client.restore_gallery("one").result()
    with pytest.raises(visagedb.BackupNotFoundError):
        client.restore_gallery("two")
    with pytest.raises(visagedb.InvalidArgumentError):
        client.restore_gallery("../data")
    with pytest.raises(visagedb.InvalidArgumentError):
        client.snapshot_gallery("people", backup="../x")
    with pytest.raises(visagedb.GalleryNotFoundError):
        client.snapshot_gallery("nobody")
    with pytest.raises(visagedb.GalleryNotFoundError):
        client.verify_integrity("nobody")
    client.create_gallery("other", model="another", dimension=16)
    with pytest.raises(visagedb.ModelMismatchError):
        client.restore_gallery("one", gallery="other", replace_existing=True).result()
    [data] = (tmp_path / "backups" / "one").rglob("data.mdb")
    content = bytearray(data.read_bytes())
    content[5000] ^= 1
    data.write_bytes(content)
    with pytest.raises(visagedb.StorageCorruptError):
        client.restore_gallery("one", gallery="new").result()
    assert [one.id for one in client.list_galleries()] == ["other", "people"]


def test_without_a_folder_there_are_no_backups(vector_server: Server, tmp_path: Path) -> None:
    with visagedb.Client(vector_server.address) as client:
        client.create_gallery("people", model="own", dimension=16)
        for refused in (
            lambda: client.snapshot_gallery("people"),
            client.create_backup,
            lambda: list(client.list_backups()),
            lambda: client.restore_gallery("x"),
        ):
            with pytest.raises(visagedb.FailedPreconditionError, match="--backup-root"):
                refused()
        assert client.verify_integrity("people").result().ok
    with pytest.raises(ConfigError, match="outside the data directory"):
        make_config(tmp_path / "d", backup_root=tmp_path / "d" / "backups")


def test_asyncio(client: visagedb.Client, server: Server) -> None:
    async def there_and_back() -> visagedb.IntegrityReport:
        async with visagedb.AsyncClient(server.address) as other:
            backup = await (await other.create_backup()).result()
            assert backup.complete
            assert [one.id async for one in other.list_backups()] == [backup.id]
            operation = await other.restore_gallery(backup, source="people", gallery="b")
            assert (await operation.result()).face_count == 20
            return await (await other.verify_integrity("b")).result()

    assert asyncio.run(there_and_back()).ok


def test_commands(
    client: visagedb.Client, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def output(*arguments: str, code: int = 0) -> str:
        assert run([*arguments, "--address", server.address]) == code
        return capsys.readouterr().out

    capsys.readouterr()
    assert "people: sound" in output("gallery", "verify", "people")
    assert "20 faces" in output("gallery", "snapshot", "people", "--name", "one")
    assert '"complete": true' in output("backup", "create", "--name", "all", "--json")
    assert "one" in output("backup", "list")
    assert "20 faces" in output("backup", "restore", "one", "--gallery", "copy")
    output("backup", "restore", "one", code=1)
    assert people(client, "copy") == people(client, "people")
    root = str(tmp_path / "backups")
    assert run(["data", "restore", root, "all", str(tmp_path / "new")]) == 0
    assert run(["data", "verify", str(tmp_path / "new")]) == 0
    assert "people: sound" in capsys.readouterr().out
    assert run(["data", "backup", str(tmp_path / "new"), root, "--name", "again"]) == 0
    assert run(["data", "backup", str(tmp_path / "new"), root, "--name", "again"]) == 1
    assert run(["data", "backup", str(tmp_path / "data"), root]) == 1
    assert "belongs to a running server" in capsys.readouterr().err
    assert run(["data", "restore", root, "again", str(tmp_path / "new")]) == 1
    assert run(["data", "verify", str(tmp_path / "nothing"), "--json"]) == 1
    assert "UNAVAILABLE" in capsys.readouterr().out


def test_a_damaged_gallery_is_listed_and_its_calls_say_why(
    client: visagedb.Client, server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.create_gallery("sound", model="own", dimension=16)
    client.enroll("sound", "ada", vector=VECTORS[0])
    client.create_backup("all").result()
    uid = client.get_gallery("people").uid
    server.stop(grace=5)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path / "data", copy, ignore=shutil.ignore_patterns("codes"))
    data = copy / "galleries" / uid / "data.mdb"
    data.write_bytes(data.read_bytes()[:10_000])
    assert run(["data", "verify", str(copy)]) == 1
    assert "cut short" in " ".join(capsys.readouterr().out.split())
    assert run(["doctor", "--quick", "--json", "--data", str(copy)]) == 1
    assert "cut short" in " ".join(capsys.readouterr().out.split())
    process = start_process(copy, "--workers", "0", "--backup-root", str(tmp_path / "backups"))
    with visagedb.Client(process.address) as other:
        bad, good = other.list_galleries()
        assert (bad.id, bad.state, good.state) == (
            "people", visagedb.GalleryState.DAMAGED, visagedb.GalleryState.ACTIVE,
        )  # fmt: skip
        assert "cut short" in bad.problem
        for call in (
            lambda: other.get_gallery("people"),
            lambda: other.enroll("people", "x", vector=VECTORS[0]),
            lambda: other.identify("people", vector=VECTORS[0]),
            lambda: other.verify_integrity("people").result(),
            lambda: other.verify_integrity("people", repair=True).result(),
            lambda: other.snapshot_gallery("people"),
        ):
            with pytest.raises(visagedb.StorageCorruptError):
                call()
        assert other.identify("sound", vector=VECTORS[0]).best is not None
        operation = other.restore_gallery("all", source="people", replace_existing=True)
        assert operation.result().replaced
        assert len(people(other, "people")) == 6
    assert process.terminate() == 0
