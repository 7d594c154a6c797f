"""From settings to a running server, and to its end."""

import faulthandler
import gc
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
from threadpoolctl import threadpool_limits

from visagedb_indexer.errors import IndexerError
from visagedb_server import logs
from visagedb_server.config import ConfigError, ServerConfig
from visagedb_server.server import Server
from visagedb_server.settings_names import complaint, unknown_variables

_LOG = structlog.get_logger("visagedb.settings")


def run(file: Path | None, **flags: Any) -> int:
    """Runs a server until it is told to stop; returns the exit code of the process.

    0 after a graceful stop, 1 when the server cannot start, 2 for wrong settings. When it is
    ready, the first line on standard output says where it listens, the second where metrics are.

    Args:
        file: A TOML file with settings.
        flags: Settings that beat those of the environment and the file; None for not given.
    """
    try:
        config = ServerConfig.load(file, **flags)
    except ConfigError as error:
        return _refuse(str(error), 2)
    logs.configure(config.log_level, config.log_format)
    for name, meant in unknown_variables(os.environ, ServerConfig.model_fields).items():
        _LOG.warning(complaint(name, meant))
    # Calls run beside each other. Threads of the matrix library in each of them would wait for
    # one another, and the longer, the busier the machine is.
    threadpool_limits(1, user_api="blas")
    # What every thread is doing, on standard error, when an operator asks with SIGUSR1.
    faulthandler.register(signal.SIGUSR1)
    # Set up before the server starts, so that no signal falls between.
    stop = _StopSignal()
    try:
        server = Server(config)
    except IndexerError as error:
        return _refuse(error.message, 1)
    # What lives as long as the server need not be looked through by every collection.
    gc.freeze()
    server.start()
    print(f"listening on {server.address}", flush=True)
    if server.metrics_address:
        print(f"metrics on {server.metrics_address}", flush=True)
    stop.wait()
    server.stop()
    return 0


def _refuse(message: str, code: int) -> int:
    print(f"visagedb serve: {message}", file=sys.stderr)
    return code


class _StopSignal:
    """The first SIGINT or SIGTERM asks for a graceful stop, the second ends the process.

    Each arrives as a byte in a pipe, whichever thread the system has interrupted with it. A
    handler in Python would wait for the main thread, which may sleep in a lock.
    """

    def __init__(self) -> None:
        self._pipe, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _leave_to_the_pipe)

    def wait(self) -> None:
        """Waits for the first signal."""
        self._next()
        threading.Thread(target=self._exit_at_the_next, daemon=True).start()

    def _next(self) -> int:
        return os.read(self._pipe, 1)[0]

    def _exit_at_the_next(self) -> None:
        os._exit(128 + self._next())


def _leave_to_the_pipe(number: int, frame: FrameType | None) -> None:
    return None
