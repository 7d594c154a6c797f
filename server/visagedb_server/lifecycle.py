"""From settings to a running server, and to its end."""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from visagedb_indexer.errors import IndexerError

from visagedb_server import logs
from visagedb_server.config import ConfigError, ServerConfig
from visagedb_server.server import Server


def run(file: Path | None, **flags: Any) -> int:
    """Runs a server until it is told to stop; returns the exit code of the process.

    0 after a graceful stop, 1 when the server cannot start, 2 for wrong settings. When it is
    ready, the first line on standard output says where it listens.

    Args:
        file: A TOML file with settings.
        flags: Settings that beat those of the environment and the file; None for not given.
    """
    try:
        config = ServerConfig.load(file, **flags)
    except ConfigError as error:
        return _refuse(str(error), 2)
    logs.configure(config.log_level, config.log_format)
    # Set up before the server starts, so that no signal falls between.
    stop = _StopSignal()
    try:
        server = Server(config)
    except IndexerError as error:
        return _refuse(error.message, 1)
    server.start()
    print(f"listening on {server.address}", flush=True)
    stop.requested.wait()
    server.stop()
    return 0


def _refuse(message: str, code: int) -> int:
    print(f"visagedb serve: {message}", file=sys.stderr)
    return code


class _StopSignal:
    """The first SIGINT or SIGTERM asks for a graceful stop, the second ends the process."""

    def __init__(self) -> None:
        self.requested = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.requested.is_set():
            os._exit(128 + number)
        self.requested.set()
