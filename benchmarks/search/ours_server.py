"""VisageDB as it is deployed: a server process, the client library, gRPC in between."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

import visagedb
from search.engine import Engine
from search.ours_data import GALLERY, written
from search.workload import TOP_K

_STOP_SECONDS_MAX = 60
_AUDIT_SECONDS_MAX = 300.0


class Server(Engine):
    """`Client.identify` with vectors; clients and server share the machine."""

    notes = "clients, all in one process, and server share the cores; memory is the whole server's"
    _process: subprocess.Popen[str] | None = None

    def load(self) -> None:
        self._data, _ = written(self.place.shared, self.workload)

    def build(self) -> None:
        command = [sys.executable, "-m", "visagedb", "serve", "--data", str(self._data)]
        options = ["--port", "0", "--workers", "0", "--log-level", "warning"]
        self._process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.startswith("listening on "):
            raise RuntimeError("the server did not start")
        self._client = visagedb.Client(line.split()[-1], timeout=120)
        self._await_settled()

    def search(self, probe: NDArray[np.float32]) -> Sequence[int]:
        result = self._client.identify(GALLERY, vector=probe, top_k=TOP_K)
        return [int(found.id[1:]) for found in result.identifications[0].candidates]

    def _await_settled(self) -> None:
        """Until the codes are there, and the audit and the calibration that follow have ended."""
        end = time.monotonic() + _AUDIT_SECONDS_MAX
        while True:
            stats = self._client.gallery_stats(GALLERY)
            search = stats.search
            audited = search.state is visagedb.SearchState.EXACT or search.mate_loss is not None
            building = search.state is visagedb.SearchState.BUILDING
            if (audited and stats.calibration is not None) or (
                not building and time.monotonic() > end
            ):
                return
            time.sleep(0.2)

    def close(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=_STOP_SECONDS_MAX)
