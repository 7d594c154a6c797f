"""The server under attack: a process of its own, forked from one that has imported everything.

Interpreters that import the engine anew would take most of a campaign's time. The limits are
small, so that a gallery of some thousand faces has codes that are built, extended, purged and
written to disk all the time.
"""

import multiprocessing
import signal
from multiprocessing.connection import Connection
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
_SMALL = {
    "EXACT_ROWS_MAX": 640,
    "TAIL_ROWS_MAX": 64,
    "SEGMENT_ADD_ROWS_MAX": 128,
    "TOMBSTONES_MAX": 40,
    "FILTERED_EXACT_ROWS_MAX": 100,
    "IMPORT_ENTRIES_PER_COMMIT": 64,
    "IMPORT_RESUMPTIONS_MAX": 1000,
}
_SAVED_ROWS_MIN = 100


def preload() -> None:
    """Names what the process that all servers are forked from has to import; call it first."""
    CONTEXT.set_forkserver_preload(["campaign.server", "visagedb_server.server"])


class Server:
    """A running server.

    Args:
        data: Its data directory.
        failpoint: What to arm, as in the environment variable.
    """

    def __init__(self, data: Path, failpoint: str = "") -> None:
        receiving, sending = CONTEXT.Pipe(duplex=False)
        arguments = (data, failpoint, sending)
        self._process = CONTEXT.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        sending.close()
        self._receiving = receiving
        self.address = ""

    def wait(self) -> str:
        """Waits until it listens, and returns its address.

        Raises:
            RuntimeError: It ended before.
        """
        try:
            self.address = self._receiving.recv()
        except EOFError:
            self._process.join()
            raise RuntimeError(f"the server ended with {self._process.exitcode}") from None
        return self.address

    @property
    def alive(self) -> bool:
        """Whether it has not ended."""
        return self._process.is_alive()

    def kill(self) -> None:
        """The end without warning; no harm if it is over."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def stop(self) -> int | None:
        """The graceful end; returns the exit code."""
        self._process.terminate()
        self._process.join(60)
        return self._process.exitcode


def _serve(data: Path, failpoint: str, address: Connection) -> None:
    from visagedb_indexer import cluster_run, failpoints, limits
    from visagedb_indexer.search import builder
    from visagedb_server import logs
    from visagedb_server.admission import QueueDelay
    from visagedb_server.config import ServerConfig
    from visagedb_server.server import Server as RealServer

    for name, value in _SMALL.items():
        setattr(limits, name, value)
    builder._SAVED_ROWS_MIN = _SAVED_ROWS_MIN  # type: ignore[misc]
    cluster_run._SAVE_SECONDS_MIN, cluster_run._SAVE_SHARE = 0.0, 1.0  # type: ignore[misc]
    # A machine that is busy with other things is no finding.
    QueueDelay.allows = lambda *_: True  # type: ignore[method-assign]
    logs.configure("error", "text")
    failpoints.arm({failpoints.ARMED_VARIABLE: failpoint})
    stopped = False

    def stop(*_: object) -> None:
        nonlocal stopped
        stopped = True

    signal.signal(signal.SIGTERM, stop)
    config = ServerConfig.load(
        data=data,
        port=0,
        workers=0,
        import_roots=(data.with_name("sources"),),
        export_roots=(data.with_name("exports"),),
        backup_root=data.with_name("backups"),
    )
    server = RealServer(config)
    server.start()
    address.send(server.address)
    while not stopped:
        signal.pause()
    server.stop(grace=1)
