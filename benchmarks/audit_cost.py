"""What the audit log adds to a search.

    python benchmarks/audit_cost.py

One server, and a client in a process of its own that searches a small gallery, which is where an
entry weighs most. Short rounds with and without entries take turns; the figures are the medians
of the ratios of neighbouring rounds. Writes benchmarks/results/audit_cost.json.
"""

import argparse
import hashlib
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from common import write_results
from rich.console import Console
from rich.table import Table

import visagedb
import visagedb_server.server as server_module
from visagedb_indexer.database import Database
from visagedb_server import logs
from visagedb_server.access.keys import ApiKeys
from visagedb_server.access.roles import Role
from visagedb_server.access.rules import Audit
from visagedb_server.audit_log.recorder import Recorder
from visagedb_server.config import ServerConfig

DIMENSION = 128


class SwitchedRecorder(Recorder):
    """A recorder that can be told to write nothing."""

    on = True

    def before(self, admission: Any, request: Any) -> Audit:
        return super().before(admission, request) if self.on else Audit.NONE


def unit(rows: int, seed: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    vectors = np.random.default_rng(seed).standard_normal((rows, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def search(address: str, orders: Connection) -> None:
    """The client's process: searches for so many seconds with so many threads when told to."""
    probes = unit(64, seed=2)
    with visagedb.Client(address) as client, ThreadPoolExecutor(16) as pool:

        def work(until: float) -> int:
            done = 0
            while time.perf_counter() < until:
                client.identify("people", vector=probes[done % len(probes)])
                done += 1
            return done

        while (order := orders.recv()) is not None:
            seconds, threads = order
            started = time.perf_counter()
            jobs = [pool.submit(work, started + seconds) for _ in range(threads)]
            done = sum(job.result() for job in jobs)
            orders.send(done / (time.perf_counter() - started))


def rounds(orders: Connection, seconds: float, threads: int, pairs: int) -> Iterator[list[float]]:
    """Searches per second without and with entries, in turns, which of them first as well."""
    for number in range(pairs):
        rates = {}
        for on in (False, True) if number % 2 else (True, False):
            SwitchedRecorder.on = on
            orders.send((seconds, threads))
            rates[on] = orders.recv()
        yield [rates[False], rates[True]]


def measure(address: str, options: argparse.Namespace) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    orders, theirs = context.Pipe()
    process = context.Process(target=search, args=(address, theirs))
    process.start()
    figures = {}
    try:
        list(rounds(orders, 1.0, 1, 1))
        for threads in options.threads:
            rates = list(rounds(orders, options.seconds, threads, options.pairs))
            without, with_entries = (
                statistics.median(column) for column in zip(*rates, strict=True)
            )
            ratios = sorted(b / a for a, b in rates)
            figures[str(threads)] = {
                "searches_per_second_without": round(without, 1),
                "searches_per_second_with": round(with_entries, 1),
                "ratio_median": round(statistics.median(ratios), 4),
                "ratio_quartiles": [
                    round(value, 4) for value in statistics.quantiles(ratios, n=4)[::2]
                ],
            }
    finally:
        orders.send(None)
        process.join()
    return figures


def key_seconds(calls: int = 20_000) -> float:
    """Time to recognise the key of one call."""
    with tempfile.TemporaryDirectory() as data, closing(Database(Path(data))) as database:
        keys = ApiKeys(database.catalogue)
        _, text = keys.create(Role.ADMIN, None)
        metadata = [("user-agent", "benchmark"), ("authorization", f"Bearer {text}")]
        started = time.perf_counter()
        for _ in range(calls):
            keys.authenticate(metadata)
        return (time.perf_counter() - started) / calls


def slow_hash_seconds() -> float:
    """Time of a hash that is made for passwords."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        hashlib.scrypt(b"a secret", salt=b"salt", n=2**14, r=8, p=1)
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faces", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=1.0, help="of a round")
    parser.add_argument("--pairs", type=int, default=16, help="of rounds")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 8], help="of the client")
    options = parser.parse_args()
    logs.configure("warning", "text")
    setattr(server_module, "Recorder", SwitchedRecorder)  # noqa: B010 (a name that it imports)
    with tempfile.TemporaryDirectory() as data:
        config = ServerConfig.load(data=Path(data), port=0, workers=0, log_level="warning")
        server = server_module.Server(config)
        server.start()
        try:
            with visagedb.Client(server.address) as client:
                client.create_gallery("people", model="test", dimension=DIMENSION)
                vectors = unit(options.faces, seed=1)
                items = (
                    visagedb.EnrollItem(f"p{row}", vector=vector)
                    for row, vector in enumerate(vectors)
                )
                for result in client.enroll_many("people", items):
                    assert result.error is None, result.error
            figures = measure(server.address, options)
        finally:
            server.stop(grace=5)
        size = sum(path.stat().st_size for path in Path(data, "audit").glob("*.log"))
        with_entries = server.audit_log.head.sequence
    figures = {
        "microseconds_to_check_a_key": round(1e6 * key_seconds(), 1),
        "milliseconds_of_a_slow_hash": round(1e3 * slow_hash_seconds(), 1),
        "faces": options.faces,
        "pairs_of_rounds": options.pairs,
        "bytes_per_entry": round(size / with_entries, 1),
        "by_client_threads": figures,
    }
    table = Table("client threads", "without", "with entries", "ratio", "quartiles")
    for threads, one in figures["by_client_threads"].items():
        low, high = one["ratio_quartiles"]
        table.add_row(
            threads,
            f"{one['searches_per_second_without']:.0f}/s",
            f"{one['searches_per_second_with']:.0f}/s",
            f"{one['ratio_median']:.3f}",
            f"{low:.3f} to {high:.3f}",
        )
    console = Console()
    console.print(table)
    console.print(
        f"{figures['bytes_per_entry']} bytes per entry; "
        f"{figures['microseconds_to_check_a_key']} µs to check a key, "
        f"{figures['milliseconds_of_a_slow_hash']} ms for a slow hash"
    )
    console.print(f"written to {write_results('audit_cost', figures)}")


if __name__ == "__main__":
    main()
