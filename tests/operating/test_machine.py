"""What operators get beside the server: doctor's checks, files to deploy, top, traces."""

import configparser
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import make_config
from support import random_vectors
from wire import DIMENSION, Api, template

from visagedb._cli._app import run
from visagedb.v1 import identities_pb2
from visagedb_server.commands import machine_checks
from visagedb_server.config import ServerConfig
from visagedb_server.server import Server

ROOT = Path(__file__).resolve().parents[2]
VECTORS = random_vectors(4, DIMENSION)


def statuses(checks: Iterator[machine_checks.Check]) -> list[str]:
    return [check.status.value for check in checks]


def test_a_mistyped_variable_is_found() -> None:
    assert statuses(machine_checks.settings({"VISAGEDB_DATA": "x", "PATH": "y"})) == ["OK"]
    [check] = machine_checks.settings({"VISAGEDB_THREAD": "4", "VISAGEDB_ADDRESS": "a:1"})
    assert check.status.value == "WARN"
    assert "VISAGEDB_THREADS" in check.fix


def test_a_server_says_so_when_it_starts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "visagedb", "serve", "--data", str(tmp_path / "d")]
    process = subprocess.Popen(
        [*command, "--port", "0", "--workers", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "VISAGEDB_WORKRES": "1"},
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("listening on ")
    assert process.stdout.readline().startswith("metrics on 127.0.0.1:")
    process.terminate()
    _, text = process.communicate(timeout=60)
    assert "VISAGEDB_WORKRES is no setting and is ignored; VISAGEDB_WORKERS is one" in text


def test_limits_of_the_process_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    assert statuses(machine_checks.open_files()) == ["WARN"]
    assert statuses(machine_checks.address_space()) == ["FAIL"]
    unlimited = resource.RLIM_INFINITY
    monkeypatch.setattr(resource, "getrlimit", lambda _: (unlimited, unlimited))
    assert statuses(machine_checks.open_files()) == ["OK"]
    assert statuses(machine_checks.address_space()) == ["OK"]


def test_a_wrong_clock_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert statuses(machine_checks.clock(tmp_path)) == ["OK"]
    assert statuses(machine_checks.clock(None, now=1000.0)) == ["FAIL"]
    written = (tmp_path / "file").stat().st_mtime
    assert statuses(machine_checks.clock(tmp_path, now=written - 3600)) == ["FAIL"]


def test_the_unit_is_as_it_should_be() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "deploy" / "visagedb.service")
    service = unit["Service"]
    assert service["User"] == "visagedb"
    assert service["ProtectSystem"] == "strict"
    assert service["NoNewPrivileges"] == "yes"
    assert service["CapabilityBoundingSet"] == ""
    assert service["KillSignal"] == "SIGTERM"
    drain = ServerConfig.model_fields["drain_seconds"].default
    assert float(service["TimeoutStopSec"]) > drain, "a drain must not be cut short"
    named = set(re.findall(r"VISAGEDB_([A-Z_]+)", (ROOT / "deploy/visagedb.service").read_text()))
    assert {name.lower() for name in named} <= set(ServerConfig.model_fields)


def test_the_image_runs_without_rights_on_a_read_only_root() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    final = text.rpartition("\nFROM ")[2]
    assert re.search(r"^USER (?!0|root)\d+$", final, re.MULTILINE)
    assert "VOLUME /data" in final
    assert "PYTHONDONTWRITEBYTECODE=1" in final, "nothing is written beside the code"
    assert "STOPSIGNAL SIGTERM" in final
    assert "/readyz" in final
    named = set(re.findall(r"VISAGEDB_([A-Z_]+)=", text))
    assert {name.lower() for name in named} <= set(ServerConfig.model_fields)
    for source in re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), name


def test_top_shows_a_running_server(
    vector_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    api = Api(vector_server.address)
    api.create_gallery()
    api.enroll("ada", VECTORS[0])
    where = ["--metrics", vector_server.metrics_address, "--interval", "0.2", "--once"]
    assert run(["top", *where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["ready"] is True
    assert found["galleries"][0]["name"] == "people"
    assert found["galleries"][0]["faces"] == 1
    assert {lane["name"] for lane in found["lanes"]} >= {"work", "control"}
    assert run(["top", *where]) == 0
    assert "people" in capsys.readouterr().out
    assert run(["top", "--metrics", "127.0.0.1:1", "--once"]) == 3
    api.close()


def test_calls_are_traced_with_the_callers_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
    from visagedb_server.observability import tracing

    exporter = memory.InMemorySpanExporter()
    monkeypatch.setattr(tracing, "_otlp", lambda: exporter)
    server = Server(make_config(tmp_path / "data", tracing=True))
    server.start()
    api = Api(server.address)
    api.create_gallery()
    stub = api.identities.EnrollFace
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    request = identities_pb2.EnrollFaceRequest(
        identity="galleries/people/identities/ada",
        template=template(VECTORS[0]),
        allow_missing=True,
    )
    stub(request, metadata=(("traceparent", f"00-{trace}-{parent}-01"),))
    api.close()
    server.stop(grace=1)
    spans = {span.name: span for span in exporter.get_finished_spans()}
    call = spans["visagedb.v1.IdentityService/EnrollFace"]
    assert f"{call.context.trace_id:032x}" == trace
    assert f"{call.parent.span_id:016x}" == parent
    commit = spans["commit"]
    assert commit.parent.span_id == call.context.span_id
    assert commit.start_time >= call.start_time


def test_without_traces_nothing_of_them_is_imported(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from visagedb_server.config import ServerConfig\n"
        "from visagedb_server.server import Server\n"
        f"Server(ServerConfig.load(data={str(tmp_path / 'd')!r}, port=0, workers=0)).stop(0)\n"
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
