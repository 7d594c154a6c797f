"""Fixtures: real servers on free ports, with and without embedding processes."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from visagedb_server.config import ServerConfig
from visagedb_server.server import Server


def make_config(data: Path, **settings: object) -> ServerConfig:
    """Settings of a test server: a free port, no workers unless asked for."""
    return ServerConfig.load(**{"data": data, "port": 0, "workers": 0, **settings})


@pytest.fixture
def vector_server(tmp_path: Path) -> Iterator[Server]:
    """A server without embedding processes, in this process."""
    server = Server(make_config(tmp_path / "data"))
    server.start()
    yield server
    server.stop(grace=5)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one embedding process, shared by all tests that need faces."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("the faces extra is not installed")
    server = Server(make_config(tmp_path_factory.mktemp("server") / "data", workers=1))
    server.start()
    yield server
    server.stop(grace=5)


@dataclass
class ServerProcess:
    """A server in a process of its own, to be killed."""

    process: subprocess.Popen[str]
    address: str

    def kill(self) -> None:
        """The end without warning."""
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def terminate(self) -> int:
        """The graceful end; returns the exit code."""
        self.process.terminate()
        code = self.process.wait(timeout=60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


def start_process(data: Path, *arguments: str) -> ServerProcess:
    """Starts ``visagedb serve`` and waits until it listens."""
    command = [sys.executable, "-m", "visagedb", "serve", "--data", str(data), "--port", "0"]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening on "), f"the server did not start: {line!r}"
    return ServerProcess(process, line.split()[-1])
