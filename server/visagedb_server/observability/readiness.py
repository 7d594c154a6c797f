"""Alive, and ready: two questions that must not be mixed up.

A server that is not alive cannot mend itself, and is to be restarted: the writer of a gallery
has stopped. One that is alive but not ready is to be left alone for a while: it starts, it
drains, or no worker has come up yet.
"""

import threading

from grpc_health.v1 import health, health_pb2

from visagedb_server import limits
from visagedb_server.observability.state import ServerState

LIVENESS = "liveness"
READINESS = "readiness"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Readiness:
    """Looks at a server now and then, and tells the health service.

    Args:
        servicer: Of gRPC's health service.
        services: Names of the services that are up as long as the server serves.
    """

    def __init__(self, servicer: health.HealthServicer, services: tuple[str, ...]) -> None:
        self._servicer = servicer
        self._services = services
        self._state: ServerState | None = None
        self._serving = False
        self._closed = threading.Event()
        self._told: tuple[bool, bool] | None = None
        self._thread: threading.Thread | None = None

    def watch(self, state: ServerState) -> None:
        """Begins to look; the server serves from now on."""
        self._state = state
        self._serving = True
        # Whoever sends vectors need not wait for the first worker.
        for service in ("", *self._services):
            self._servicer.set(service, _SERVING)
        self._tell()
        self._thread = threading.Thread(target=self._run, name="health", daemon=True)
        self._thread.start()

    def drain(self) -> None:
        """The server takes no more calls."""
        self._serving = False
        self._closed.set()

    def faults(self) -> list[str]:
        """Why the server should be restarted; nothing if it is alive."""
        state = self._state
        if state is None:
            return []
        return [
            f"the writer of gallery {gallery.record.id} has stopped"
            for gallery in state.database.galleries()
            if gallery.writer.failed
        ]

    def obstacles(self) -> list[str]:
        """Why no calls should be sent to the server now; nothing if it is ready."""
        state = self._state
        if state is None:
            return ["the server is starting"]
        if not self._serving:
            return ["the server is stopping"]
        found = self.faults()
        pool = state.extractor.pool
        if pool is not None and not (stats := pool.stats()).workers_ready:
            found.append(
                f"no embedding process is up; {stats.last_start_error or 'they are starting'}"
            )
        return found

    def ready(self) -> bool:
        """Whether calls may be sent to the server."""
        return not self.obstacles()

    def close(self) -> None:
        """Looks no longer."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(limits.HEALTH_SECONDS):
            self._tell()

    def _tell(self) -> None:
        now = (not self.faults(), self.ready())
        if now == self._told:
            return
        self._told = now
        for service, fine in zip((LIVENESS, READINESS), now, strict=True):
            self._servicer.set(service, _SERVING if fine else _NOT_SERVING)
