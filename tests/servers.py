"""What tests share that is no fixture: settings, and servers in processes of their own."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from visagedb_server.config import ServerConfig


def make_config(data: Path, **settings: Any) -> ServerConfig:
    """Settings of a test server: a free port, no workers unless asked for."""
    return ServerConfig.load(**{"data": data, "port": 0, "workers": 0, **settings})


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
