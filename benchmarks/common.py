"""What the benchmarks share: a real server for the time of a block, and a place for results."""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@contextmanager
def running_server(*arguments: str) -> Iterator[str]:
    """Starts ``visagedb serve`` on a free port with a fresh data directory; gives its address."""
    with server_process(*arguments) as (address, _):
        yield address


@contextmanager
def server_process(*arguments: str) -> Iterator[tuple[str, int]]:
    """Like `running_server`; gives the server's address and the number of its process."""
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "visagedb", "serve", "--data", data, "--port", "0"]
        process = subprocess.Popen(
            [*command, "--log-level", "warning", *arguments], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                sys.exit("the server did not start")
            yield line.split()[-1], process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def write_results(name: str, figures: dict[str, Any]) -> Path:
    """Writes figures, with what they were measured on, to results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    machine = {
        "cpus": len(os.sched_getaffinity(0)),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine, **figures}, indent=2) + "\n")
    return path
