"""Keys from their making to their end: library, wire and command line."""

import json
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from guarded import Guarded, first_admin_key
from servers import make_config, start_process
from support import random_vectors

import visagedb
from visagedb._cli._app import run
from visagedb_indexer.database import Database
from visagedb_indexer.errors import FailedPreconditionError
from visagedb_server import limits
from visagedb_server.access.damping import WrongKeys, host_of
from visagedb_server.access.keys import ApiKeys
from visagedb_server.access.roles import Role
from visagedb_server.server import Server

VECTOR = random_vectors(1, 16)[0]


def connect(guarded: Guarded, key: str | None, **options: Any) -> visagedb.Client:
    return visagedb.Client(guarded.server.address, api_key=key, **options)


@pytest.fixture
def admin(guarded: Guarded) -> Any:
    with connect(guarded, guarded.admin) as client:
        yield client


def test_a_key_is_made_used_and_revoked(guarded: Guarded, admin: visagedb.Client) -> None:
    made = admin.create_api_key("reader", ["one", "two"], display_name="door 3")
    assert made.key.role is visagedb.Role.READER
    assert made.secret not in repr(made)
    with connect(guarded, made.secret) as reader:
        caller = reader.get_caller()
        assert (caller.api_key, caller.role) == (made.key.id, visagedb.Role.READER)
        assert caller.galleries == ("one", "two")
        with pytest.raises(visagedb.PermissionDeniedError, match="role reader") as refused:
            reader.create_api_key("admin", None)
        assert refused.value.reason == "ROLE_NOT_SUFFICIENT"
        assert made.key.id in [key.id for key in admin.list_api_keys()]
        revoked = admin.revoke_api_key(made.key)
        assert revoked.revoke_time is not None
        assert admin.revoke_api_key(made.key.id) == revoked
        with pytest.raises(visagedb.UnauthenticatedError, match="revoked") as ended:
            reader.get_caller()
        assert ended.value.reason == "API_KEY_REVOKED"


async def test_the_asynchronous_client_sends_its_key(guarded: Guarded) -> None:
    async with visagedb.AsyncClient(guarded.server.address, api_key=guarded.admin) as client:
        assert (await client.get_caller()).role is visagedb.Role.ADMIN


def test_a_key_of_single_galleries_sees_and_lists_those(
    guarded: Guarded, admin: visagedb.Client
) -> None:
    for name in ("north", "south"):
        admin.create_gallery(name, model="test", dimension=16)
    key = admin.create_api_key("enroller", ["north"]).secret
    with connect(guarded, key) as enroller:
        assert [gallery.id for gallery in enroller.list_galleries()] == ["north"]
        enroller.enroll("north", "ada", vector=VECTOR)
        assert enroller.identify("north", vector=VECTOR)
        for gallery in ("south", "nowhere"):
            with pytest.raises(visagedb.PermissionDeniedError) as refused:
                enroller.identify(gallery, vector=VECTOR)
            assert refused.value.reason == "GALLERY_NOT_GRANTED"
    names = [guarded.put_operation(f"list-{name}", name) for name in ("north", "south")]
    with connect(guarded, admin.create_api_key("reader", ["north"]).secret) as reader:
        listed = [operation.name for operation in reader.list_operations()]
        assert names[0] in listed
        assert names[1] not in listed


def test_each_item_of_a_stream_is_checked(guarded: Guarded, admin: visagedb.Client) -> None:
    admin.create_gallery("streamed", model="test", dimension=16)
    made = admin.create_api_key("reader", ["streamed"])

    def probes() -> Any:
        yield VECTOR
        admin.revoke_api_key(made.key)
        yield VECTOR

    with connect(guarded, made.secret) as reader:
        with pytest.raises(visagedb.UnauthenticatedError) as ended:
            list(reader.stream_identify("streamed", probes(), in_flight=1))
        assert ended.value.reason == "API_KEY_REVOKED"


def test_only_a_salted_hash_is_kept(tmp_path: Path) -> None:
    key = first_admin_key(tmp_path / "data")
    secret = key.split("_", 2)[2].encode()
    kept = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert key.split("_")[1].encode() in kept
    assert secret not in kept
    assert secret[:16] not in kept


def test_the_first_key_is_an_admin_and_the_last_one_keeps_the_door_shut(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data"))
    server.start()
    try:
        with visagedb.Client(server.address) as client:
            assert client.get_caller() == visagedb.Caller("", visagedb.Role.ADMIN, None)
            with pytest.raises(visagedb.InvalidArgumentError, match="admin key"):
                client.create_api_key("reader", None)
            with pytest.raises(visagedb.InvalidArgumentError, match="admin key"):
                client.create_api_key("admin", ["one"])
            made = client.create_api_key("admin", None)
            with pytest.raises(visagedb.UnauthenticatedError, match="VISAGEDB_API_KEY"):
                client.get_caller()
        with visagedb.Client(server.address, api_key=made.secret) as client:
            client.revoke_api_key(made.key)
            with pytest.raises(visagedb.UnauthenticatedError):
                client.get_caller()
        with pytest.raises(visagedb.UnauthenticatedError), visagedb.Client(server.address) as other:
            other.get_caller()
    finally:
        server.stop(grace=5)
    again = Server(make_config(tmp_path / "data"))
    again.start()
    with visagedb.Client(again.address) as client, pytest.raises(visagedb.UnauthenticatedError):
        client.get_caller()
    again.stop(grace=5)
    with pytest.raises(FailedPreconditionError, match="keys create"):
        Server(make_config(tmp_path / "data", require_keys=True))


def test_arguments_of_a_key_are_checked(admin: visagedb.Client) -> None:
    past = datetime.now(UTC) - timedelta(seconds=1)
    with pytest.raises(visagedb.InvalidArgumentError, match="expiry"):
        admin.create_api_key("reader", None, expire_time=past)
    with pytest.raises(visagedb.InvalidArgumentError):
        admin.create_api_key("reader", [])
    with pytest.raises(visagedb.NotFoundError):
        admin.revoke_api_key("0123456789abcdef")
    with pytest.raises(TypeError):
        admin.create_api_key("reader", "people")
    with pytest.raises(ValueError, match="emperor"):
        admin.create_api_key("emperor", None)


def test_wrong_keys_are_damped_and_right_ones_always_taken(
    guarded: Guarded, admin: visagedb.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WRONG_KEY_SECONDS", 1e6)
    reasons = []
    with connect(guarded, f"vdb_{'0' * 16}_{'A' * 43}") as stranger:
        for _ in range(limits.WRONG_KEYS_BURST + 5):
            with pytest.raises(visagedb.VisageError) as refused:
                stranger.get_caller()
            reasons.append(refused.value.reason)
    assert reasons[0] == "API_KEY_INVALID"
    assert reasons[-1] == "TOO_MANY_WRONG_KEYS"
    # From the same address.
    assert admin.get_caller().role is visagedb.Role.ADMIN
    entries = list(admin.list_audit_entries(outcome="API_KEY_INVALID"))
    assert 1 <= len(entries) <= limits.WRONG_KEYS_BURST


def test_damping_forgets_and_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WRONG_KEY_HOSTS_MAX", 10)
    monkeypatch.setattr(limits, "WRONG_KEY_SECONDS", 1e6)
    wrong = WrongKeys()
    assert sum(wrong.admit("ipv4:10.0.0.1:5") for _ in range(50)) == limits.WRONG_KEYS_BURST
    assert wrong.admit("ipv4:10.0.0.2:5")
    answered = sum(wrong.admit(f"ipv4:10.1.{i // 250}.{i % 250}:1") for i in range(5000))
    assert 50 * limits.WRONG_KEYS_BURST < answered <= 101 * limits.WRONG_KEYS_BURST
    assert len(wrong._hosts) <= 10
    assert host_of("ipv6:%5B2001:db8::1%5D:443") == host_of("ipv6:[2001:db8::2]:80")
    assert host_of("ipv4:10.0.0.1:5") == "10.0.0.1"
    assert host_of("unix:/run/socket") == "/run/socket"


@pytest.mark.parametrize("header", ["Basic {}", "{}", "Bearer", "Bearer {} {}", "Bearer {}\u00e9"])
def test_only_a_bearer_of_a_key_is_let_in(guarded: Guarded, header: str) -> None:
    metadata = [("authorization", header.replace("{}", guarded.admin))]
    with pytest.raises(Exception, match="not valid"):
        guarded.server.keys.authenticate(metadata)
    twice = [("authorization", f"Bearer {guarded.admin}")] * 2
    with pytest.raises(Exception, match="not valid"):
        guarded.server.keys.authenticate(twice)


def test_a_key_does_not_travel_in_the_clear_to_another_machine() -> None:
    with pytest.raises(visagedb.InvalidArgumentError, match="unencrypted"):
        visagedb.Client("db.example.com:50700", api_key="vdb_x")
    visagedb.Client("db.example.com:50700", api_key="vdb_x", tls=False).close()
    visagedb.Client("db.example.com:50700", api_key="vdb_x", tls=True).close()
    client = visagedb.Client("127.0.0.1:1", api_key="vdb_secret")
    assert "vdb_secret" not in repr(client) + repr(client._connection._security)
    client.close()


def test_the_environment_has_the_key(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VISAGEDB_API_KEY", f"{guarded.admin}\n")
    with visagedb.Client(guarded.server.address) as client:
        assert client.get_caller().api_key
    with (
        visagedb.Client(guarded.server.address, api_key="") as client,
        pytest.raises(visagedb.UnauthenticatedError),
    ):
        client.get_caller()


def test_commands(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data, file = tmp_path / "data", tmp_path / "admin.key"
    create = ["keys", "create", "--data", str(data), "--role"]
    assert run([*create, "reader", "--all-galleries"]) == 1
    assert "make that one first" in capsys.readouterr().err
    assert run([*create, "admin", "--output", str(file)]) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    secret = file.read_text().strip()
    shown = capsys.readouterr()
    assert secret not in shown.out + shown.err
    # A file that is there stays as it is.
    assert run([*create, "admin", "--output", str(file)]) == 1
    assert file.read_text().strip() == secret
    assert run([*create, "reader"]) == 2
    capsys.readouterr()

    server = start_process(data, "--require-keys", "--workers", "0")
    try:
        monkeypatch.setenv("VISAGEDB_ADDRESS", server.address)
        assert run(["keys", "list"]) == 1
        assert "VISAGEDB_API_KEY" in capsys.readouterr().err
        root = ["--api-key-file", str(file)]
        assert run([*root, "keys", "whoami", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["caller"]["role"] == "admin"
        reader = ["keys", "create", "--role", "reader", "--gallery", "staff", "--days", "1"]
        assert run([*root, *reader, "--json"]) == 0
        made = json.loads(capsys.readouterr().out)
        assert made["secret"].startswith(f"vdb_{made['api_key']['id']}_")
        assert run([*root, "keys", "revoke", made["api_key"]["id"]]) == 0
        assert run([*root, "keys", "list"]) == 0
        listed = capsys.readouterr().out
        assert "revoked" in listed
        assert "staff" in listed
        assert secret not in listed
        assert run(["keys", "list", "--data", str(data)]) == 1
        assert "running server" in capsys.readouterr().err
    finally:
        assert server.terminate() == 0
    assert run(["keys", "list", "--data", str(data), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["api_keys"]) == 2


def test_there_is_room_for_so_many_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "API_KEYS_MAX", 2)
    database = Database(tmp_path)
    keys = ApiKeys(database.catalogue)
    keys.create(Role.ADMIN, None)
    keys.create(Role.READER, ("a",))
    with pytest.raises(Exception, match="the most"):
        keys.create(Role.READER, ("a",))
    assert ApiKeys(database.catalogue).all() == keys.all()
    database.close()
