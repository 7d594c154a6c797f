"""The HTTP endpoint for machines that watch: /metrics, /livez, /readyz."""

import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from prometheus_client.exposition import CONTENT_TYPE_LATEST

from visagedb_indexer.errors import UnavailableError
from visagedb_server import limits

Answer = tuple[HTTPStatus, str, bytes]
_TEXT: Final = "text/plain; charset=utf-8"


def _verdict(faults: list[str]) -> Answer:
    if not faults:
        return HTTPStatus.OK, _TEXT, b"ok\n"
    return HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, "".join(f"{one}\n" for one in faults).encode()


class Endpoint:
    """Serves the metrics and the two probes in threads of its own.

    Args:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        metrics: Makes the text of the metrics.
        faults: Why the server is not alive; nothing if it is.
        obstacles: Why it is not ready; nothing if it is.

    Raises:
        UnavailableError: The address cannot be listened on.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Callable[[], bytes],
        faults: Callable[[], list[str]],
        obstacles: Callable[[], list[str]],
    ) -> None:
        routes: dict[str, Callable[[], Answer]] = {
            "/metrics": lambda: (HTTPStatus.OK, CONTENT_TYPE_LATEST, metrics()),
            "/livez": lambda: _verdict(faults()),
            "/readyz": lambda: _verdict(obstacles()),
        }
        slots = threading.BoundedSemaphore(limits.METRICS_REQUESTS_MAX)
        try:
            self._server = _Server((host, port), _handler(routes, slots))
        except OSError as error:
            raise UnavailableError(
                f"the metrics cannot be served on {host}:{port}: {error.strerror}; "
                "choose another --metrics-port, or --no-metrics"
            ) from error
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stops to answer."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A request that never ends must not keep the server from stopping.
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A scraper that hangs up is no news."""


def _handler(
    routes: dict[str, Callable[[], Answer]], slots: threading.BoundedSemaphore
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = limits.METRICS_REQUEST_SECONDS_MAX
        server_version = "VisageDB"
        sys_version = ""

        def do_GET(self) -> None:
            route = routes.get(self.path.partition("?")[0])
            if route is None:
                self._send((HTTPStatus.NOT_FOUND, _TEXT, b"/metrics, /livez or /readyz\n"))
            elif not slots.acquire(blocking=False):
                self._send((HTTPStatus.TOO_MANY_REQUESTS, _TEXT, b"too many at once\n"))
            else:
                try:
                    self._send(route())
                finally:
                    slots.release()

        def _send(self, answer: Answer) -> None:
            status, content_type, body = answer
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Scrapes are not logged."""

    return Handler
