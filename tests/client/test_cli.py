"""The command line, against a real server and against none."""

import io
import json
import signal
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visagedb
from visagedb._cli import _plugins
from visagedb._cli._app import build, run
from visagedb._cli._plain import plain

NOBODY = "127.0.0.1:1"


class Cli:
    """Runs commands in this process."""

    def __init__(self, address: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.address = address
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        self._capsys.readouterr()
        assert run(["--address", self.address, *arguments]) == code
        return self._capsys.readouterr().out

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))


@pytest.fixture
def cli(vector_server: Any, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(vector_server.address, capsys)


def test_galleries(cli: Cli) -> None:
    created = cli.json("gallery", "create", "staff", "--model", "mine@1", "--dimension", "8")
    assert created["gallery"]["id"] == "staff"
    assert created["gallery"]["model"]["dimension"] == 8
    assert [g["id"] for g in cli.json("gallery", "list")["galleries"]] == ["staff"]
    assert cli.json("gallery", "show", "staff")["stats"]["search"]["state"] == "exact"
    assert "staff" in cli("gallery", "list")
    assert "mine@1" in cli("gallery", "show", "staff")
    changed = cli.json("gallery", "update", "staff", "--threshold", "0.5", "--fusion", "maximum")[
        "gallery"
    ]
    assert (changed["threshold"], changed["score_fusion"]) == (0.5, "maximum")
    changed = cli.json("gallery", "update", "staff", "--no-threshold", "--display-name", "Us")
    assert (changed["gallery"]["threshold"], changed["gallery"]["display_name"]) == (None, "Us")
    assert changed["gallery"]["score_fusion"] == "maximum"
    assert cli.json("gallery", "delete", "staff", code=2)["error"]["reason"] == "USAGE"
    deleted = cli.json("gallery", "delete", "staff", "--yes")
    assert (deleted["deleted"], deleted["erasure"]["state"]) == ("staff", "complete")
    error = cli.json("gallery", "show", "staff", code=1)["error"]
    assert error["reason"] == "GALLERY_NOT_FOUND"
    assert error["type"] == "GalleryNotFoundError"


def test_deletion_asks(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("gallery", "create", "staff", "--model", "mine@1", "--dimension", "8")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    cli("gallery", "delete", "staff", code=1)
    assert cli.json("gallery", "list")["galleries"]
    with visagedb.Client(cli.address) as client:
        client.enroll("staff", "ada", vector=np.eye(8, dtype=np.float32)[0])
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    cli("identity", "delete", "staff", "ada", code=1)
    assert cli.json("identity", "list", "staff")["identities"]
    cli("gallery", "delete", "staff", "--yes")
    assert not cli.json("gallery", "list")["galleries"]


def test_identities_and_clusters(cli: Cli) -> None:
    with visagedb.Client(cli.address) as client:
        client.create_gallery("staff", model="mine@1", dimension=8)
        for number, vector in enumerate(np.eye(8, dtype=np.float32)[[0, 0, 1, 1, 2]]):
            noisy = vector + np.float32(0.01) * np.arange(number, number + 8, dtype=np.float32)
            client.enroll("staff", f"p{number}", vector=noisy, source=f"{number}.jpg")
    listed = cli.json("identity", "list", "staff", "--limit", "2")
    assert [person["id"] for person in listed["identities"]] == ["p0", "p1"]
    assert listed["more"] is True
    shown = cli.json("identity", "show", "staff", "p0")
    assert [face["source"] for face in shown["faces"]] == ["0.jpg"]
    assert "0.jpg" in cli("identity", "show", "staff", "p0")

    found = cli.json("cluster", "staff", "--threshold", "0.8")
    sizes = [group["cluster"]["size"] for group in found["clusters"]]
    assert sizes == [2, 2]
    assert {m["source"] for m in found["clusters"][0]["members"]} in (
        {"0.jpg", "1.jpg"},
        {"2.jpg", "3.jpg"},
    )
    assert "cohesion" in cli("cluster", "staff", "--threshold", "0.8")

    operations = cli.json("operation", "list")["operations"]
    assert all(operation["done"] for operation in operations)
    name = operations[0]["name"]
    assert cli.json("operation", "show", name)["operation"]["clustering"]["face_count"] == 5
    assert cli.json("operation", "cancel", name) == {"cancelled": name}
    assert "done" in cli("operation", "list")

    assert cli.json("identity", "delete", "staff", "p0", "--yes")["deleted_face_count"] == 1
    assert cli.json("identity", "show", "staff", "p0", code=1)["error"]["code"] == "NOT_FOUND"


def test_names_are_shown_as_they_are(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    name = "[/red] :cat: [bold]x"
    with visagedb.Client(cli.address) as client:
        client.create_gallery("staff", model="mine", dimension=2, display_name=name)
        client.enroll("staff", "a", vector=[1.0, 0.0], display_name=name, source=name)
    assert name in cli("gallery", "list")
    assert name in cli("gallery", "show", "staff")
    assert "mine (2-d)" in cli("gallery", "show", "staff")
    assert name in cli("identity", "list", "staff")
    assert cli("identity", "show", "staff", "a").count(name) == 2
    assert "deleted a with 1 face; receipt " in cli("identity", "delete", "staff", "a", "--yes")


def test_an_error_says_what_to_do_and_says_it_once(
    cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--address", cli.address, "gallery", "create", "s", "--threshold", "7"]) == 1
    assert capsys.readouterr().err.count("is a cosine, -1 to 1") == 1
    assert run(["--address", cli.address, "gallery", "show", "nobody"]) == 1
    assert "gallery list" in capsys.readouterr().err


def test_no_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["gallery", "list", "--address", NOBODY]) == 3
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "visagedb serve --data DIR" in captured.err
    assert run(["gallery", "list", "--address", NOBODY, "--json"]) == 3
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["reason"] == "SERVER_UNREACHABLE"


def test_address_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VISAGEDB_ADDRESS", NOBODY)
    assert run(["gallery", "list"]) == 3
    assert NOBODY in capsys.readouterr().err


def test_wrong_usage(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["identify"]) == 2
    assert run(["gallery", "paint"]) == 2
    capsys.readouterr()
    assert run(["identify", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["reason"] == "USAGE"
    image = tmp_path / "a.jpg"
    image.write_bytes(b"x")
    assert run(["enroll", "staff", str(image), "--address", NOBODY]) == 2
    assert run(["enroll", "staff", str(tmp_path), "--address", NOBODY]) == 2
    assert run(["enroll", "staff", str(image), "--identity", "a", "--label", "x"]) == 2
    assert run(["verify", str(image), "--address", NOBODY]) == 2
    assert run(["verify", str(image), "--identity", "a", "--address", NOBODY]) == 2


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"visagedb {visagedb.__version__}\n"


def test_server_commands_without_the_server_say_how_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = EntryPoint("server", "visagedb_nowhere.commands:register", "visagedb.commands")
    monkeypatch.setattr(_plugins, "entry_points", lambda group: [missing])
    for name in ("serve", "data", "models", "doctor", "evaluate"):
        assert run([name, "--data", "x"]) == 4
        assert "pip install 'visagedb[all]'" in capsys.readouterr().err
    assert run(["gallery", "list", "--address", NOBODY]) == 3


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    app = build([])
    names = [info.name for info in app.registered_commands if info.name]
    for name in names:
        assert run([name, "--help"]) == 0
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for info in group.typer_instance.registered_commands:
            assert run([str(group.typer_instance.info.name), str(info.name), "--help"]) == 0


def test_interrupt_is_clean(vector_server: Any, tmp_path: Path) -> None:
    """Ctrl-C while the program waits for an answer ends it without a traceback."""
    script = (
        "import os, signal, threading, sys\n"
        "from visagedb._cli._app import run\n"
        "from visagedb import Client\n"
        # Tests that run in the background have the signal ignored, and their children too.
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def wait(self, **options):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    threading.Event().wait(10)\n"
        "Client.list_galleries = wait\n"
        "sys.exit(run(['gallery', 'list']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 128 + signal.SIGINT
    assert "Traceback" not in done.stderr
    assert "interrupted" in done.stderr


def test_plain_values() -> None:
    template = visagedb.Template(np.array([1.0, 2.0], dtype=np.float32), "m")
    assert plain(template) == {"vector": [1.0, 2.0], "model": "m"}
    assert plain(visagedb.Decision.MATCH) == "match"
    assert plain({1: (visagedb.Point(1.0, 2.0),)}) == {"1": [{"x": 1.0, "y": 2.0}]}
