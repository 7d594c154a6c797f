"""Imports and exports with the client library and on the command line."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support import random_vectors

import visagedb
from visagedb._cli._app import run
from visagedb._cli._import import _shown

DIMENSION = 16


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


@pytest.fixture
def client(vector_server: Any) -> Any:
    with visagedb.Client(vector_server.address) as client:
        client.create_gallery("people", model="test@1", dimension=DIMENSION)
        yield client


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """Vectors of ten people, one of whom has no valid id."""
    path = tmp_path / "people.npz"
    ids = np.array(["no id", *(f"p{n}" for n in range(1, 10))])
    np.savez(path, who=ids, vector=random_vectors(10, DIMENSION))
    return path


def test_the_client_imports_and_exports(client: visagedb.Client, people: Path) -> None:
    seen: list[visagedb.Import] = []
    operation = client.import_faces("people", people, columns={"identity_id": "who"})
    done = operation.result(
        progress=lambda status: seen.append(status.imported) if status.imported else None
    )
    assert (done.state, done.format) == (visagedb.ImportState.DONE, visagedb.SourceFormat.NPZ)
    assert (done.enrolled_count, done.failed_count, done.entry_count) == (9, 1, 10)
    assert done.failures_by_reason == {"INVALID_NAME": 1}
    assert done.end_time is not None
    assert seen[-1] == done == client.get_import(done)
    assert [one.name for one in client.list_imports("people")] == [done.name]
    (failure,) = client.import_failures(done)
    assert (failure.entry, failure.identity, failure.reason) == ("row 0", "no id", "INVALID_NAME")
    with pytest.raises(visagedb.FailedPreconditionError):
        client.pause_import(done)
    with pytest.raises(visagedb.ImportNotFoundError):
        client.get_import("galleries/people/imports/none")
    out = people.with_name("out.parquet")
    export = client.export_faces("people", out).result()
    assert (export.gallery, export.face_count) == ("people", 9)
    with pytest.raises(visagedb.AlreadyExistsError):
        client.export_faces("people", out)
    client.create_gallery("copy", model="test@1", dimension=DIMENSION)
    copied = client.import_faces("copy", out, mode="upsert").result()
    assert copied.enrolled_count == 9
    with pytest.raises(visagedb.PathNotAllowedError):
        client.import_faces("copy", "/etc/passwd", format="npz")
    with pytest.raises(visagedb.InvalidSourceError):
        client.import_faces("copy", people)


async def test_the_async_client_does_so_too(vector_server: Any, people: Path) -> None:
    async with visagedb.AsyncClient(vector_server.address) as client:
        await client.create_gallery("people", model="test@1", dimension=DIMENSION)
        operation = await client.import_faces(
            "people", people, columns={"identity_id": "who"}, labels={"a": "b"}
        )
        done = await operation.result()
        assert done.enrolled_count == 9
        assert [one.reason async for one in client.import_failures(done)] == ["INVALID_NAME"]
        assert [one async for one in client.list_imports("people")] == [done]
        out = people.with_name("out.parquet")
        export = await (await client.export_faces("people", out)).result()
        assert export.path == str(out)


def test_commands(cli: Cli, client: visagedb.Client, people: Path) -> None:
    again = ("import", "people", str(people), "--column", "identity_id=who")
    done = cli.json(*again, code=1)["import"]
    assert (done["enrolled_count"], done["failed_count"]) == (9, 1)
    assert "INVALID_NAME" in cli(*again, "--label", "a=b", code=1)
    listed = cli.json("imports", "list", "people")["imports"]
    assert listed[0]["id"] == done["id"]
    assert "done" in cli("imports", "list", "people")
    assert cli.json("imports", "show", "people", done["id"])["import"]["state"] == "done"
    shown = cli.json("imports", "failures", "people", done["id"])["failures"]
    assert shown[0]["entry"] == "row 0"
    assert "row 0" in cli("imports", "failures", "people", done["id"])
    lines, table = people.with_name("report.jsonl"), people.with_name("report.csv")
    for output in (lines, table):
        cli("imports", "failures", "people", done["id"], "--output", str(output))
    assert json.loads(lines.read_text())["reason"] == "INVALID_NAME"
    with table.open() as file:
        (row,) = csv.DictReader(file)
    assert row["identity"] == "no id"
    out = people.with_name("out.parquet")
    assert cli.json("export", "people", str(out))["export"]["face_count"] == 9
    cli("export", "people", str(out), code=1)
    assert "9" in cli("export", "people", str(out), "--overwrite")
    started = cli.json(*again, "--detach")["operation"]
    assert started["name"].startswith("operations/")
    client.get_operation(started["name"])
    error = cli.json("imports", "pause", "people", done["id"], code=1)["error"]
    assert error["reason"] == "FAILED_PRECONDITION"
    assert cli.json("import", "people", "/etc/passwd", code=1)["error"]["reason"]
    assert cli.json("operation", "show", done["id"])["operation"]["imported"]["done_count"] == 10
    cli("operation", "show", done["id"])


def test_the_live_view_shows_rate_rest_and_failures() -> None:
    running = visagedb.Import(
        name="galleries/g/imports/1", create_time=None, end_time=None, path="/p",
        format=visagedb.SourceFormat.TAR, state=visagedb.ImportState.RUNNING,
        entry_count=2000, done_count=500, enrolled_count=490, already_enrolled_count=0,
        replaced_count=0, skipped_count=0, quarantined_count=0, failed_count=10,
        identity_created_count=5, ignored_count=0, failures_by_reason={"NO_FACE": 10},
        progress=0.25, entries_per_second=125.0, remaining_seconds=12.0, error_reason="",
        error_message="",
    )  # fmt: skip
    status = visagedb.OperationStatus(
        name="operations/1", done=False, progress=0.25, stage="importing", gallery="g",
        create_time=None, error=None, imported=running,
    )  # fmt: skip
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(_shown(status))
    text = console.export_text()
    for part in ("importing", "25%", "500 of 2,000", "125/s", "0:00:12 left", "NO_FACE 10"):
        assert part in text
