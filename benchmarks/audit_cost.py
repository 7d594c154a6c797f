"""What the audit log adds to a search.

    python benchmarks/audit_cost.py

One server, and a client in a process of its own that searches a small gallery, which is where an
entry weighs most. Short rounds with and without entries take turns; the figures are the medians
of the ratios of neighbouring rounds: of searches per second, and of the server's processor time
for each, which also counts the thread that writes. Writes benchmarks/results/audit_cost.json.
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
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
from common import write_results
from rich.console import Console
from rich.table import Table

import visagedb
import visagedb_server.server as server_module
from visagedb.v1 import search_pb2, types_pb2
from visagedb_indexer.database import Database
from visagedb_server import logs
from visagedb_server.access.gate import Gate
from visagedb_server.access.keys import ApiKeys
from visagedb_server.access.roles import Role
from visagedb_server.access.rules import Audit
from visagedb_server.audit_log.recorder import Recorder
from visagedb_server.audit_log.writer import open_log
from visagedb_server.config import ServerConfig
from visagedb_server.errors import code_of

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
            orders.send((done, time.perf_counter() - started))


@dataclass(frozen=True)
class Round:
    """Searches per second, and the server's processor time for each in milliseconds."""

    rate: float
    processor_ms: float


def run_round(orders: Connection, seconds: float, threads: int, *, on: bool) -> Round:
    SwitchedRecorder.on = on
    used = time.process_time()
    orders.send((seconds, threads))
    done, took = orders.recv()
    return Round(done / took, 1e3 * (time.process_time() - used) / done)


def rounds(
    orders: Connection, seconds: float, threads: int, pairs: int
) -> Iterator[tuple[Round, Round]]:
    """Without and with entries, in turns, which of them first as well."""
    for number in range(pairs):
        order = (False, True) if number % 2 else (True, False)
        made = {on: run_round(orders, seconds, threads, on=on) for on in order}
        yield made[False], made[True]


def compared(pairs: list[tuple[float, float]]) -> dict[str, Any]:
    ratios = [after / before for before, after in pairs]
    return {
        "without": round(statistics.median(before for before, _ in pairs), 3),
        "with": round(statistics.median(after for _, after in pairs), 3),
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_quartiles": [round(value, 3) for value in statistics.quantiles(ratios, n=4)[::2]],
    }


def measure(address: str, options: argparse.Namespace) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    orders, theirs = context.Pipe()
    process = context.Process(target=search, args=(address, theirs))
    process.start()
    figures = {}
    try:
        list(rounds(orders, 1.0, 1, 1))
        for threads in options.threads:
            pairs = list(rounds(orders, options.seconds, threads, options.pairs))
            figures[str(threads)] = {
                "rate": compared([(a.rate, b.rate) for a, b in pairs]),
                "processor_ms": compared([(a.processor_ms, b.processor_ms) for a, b in pairs]),
            }
    finally:
        orders.send(None)
        process.join()
    return figures


class Peer:
    """Of a call, what an entry says of its context."""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:50000"


def entry_seconds(calls: int = 20_000) -> float:
    """Processor time of one entry of a search, from the call to the disk."""
    request = search_pb2.IdentifyRequest(gallery="galleries/people")
    answer = search_pb2.IdentifyResponse()
    candidate = search_pb2.Candidate(identity="galleries/people/identities/p1", score=0.7)
    answer.identifications.add(decision=types_pb2.DECISION_MATCH, candidates=[candidate] * 10)
    path = "/visagedb.v1.SearchService/Identify"
    with tempfile.TemporaryDirectory() as data, closing(Database(Path(data))) as database:
        gate = Gate(ApiKeys(database.catalogue), lambda operation: "", require_keys=False)
        log = open_log(Path(data))
        recorder, context = Recorder(log, code_of), cast("grpc.ServicerContext", Peer())
        started = time.process_time()
        for number in range(calls):
            admission = gate.admit(path, ())
            audit = recorder.before(admission, request)
            recorder.after(audit, admission, context, request, answer)
            if not number % 1000:
                log.flush()
        log.close()
        return (time.process_time() - started) / calls


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
        "processor_microseconds_per_entry": round(1e6 * entry_seconds(), 1),
        "microseconds_to_check_a_key": round(1e6 * key_seconds(), 1),
        "milliseconds_of_a_slow_hash": round(1e3 * slow_hash_seconds(), 1),
        "faces": options.faces,
        "pairs_of_rounds": options.pairs,
        "bytes_per_entry": round(size / with_entries, 1),
        "by_client_threads": figures,
    }
    table = Table("client threads", "of a search", "without", "with entries", "ratio", "quartiles")
    for threads, both in figures["by_client_threads"].items():
        for name, one in both.items():
            low, high = one["ratio_quartiles"]
            table.add_row(
                threads,
                {"rate": "per second", "processor_ms": "processor time, ms"}[name],
                f"{one['without']:.4g}",
                f"{one['with']:.4g}",
                f"{one['ratio_median']:.3f}",
                f"{low:.3f} to {high:.3f}",
            )
    console = Console()
    console.print(table)
    console.print(
        f"{figures['bytes_per_entry']} bytes and "
        f"{figures['processor_microseconds_per_entry']} µs of processor time per entry; "
        f"{figures['microseconds_to_check_a_key']} µs to check a key, "
        f"{figures['milliseconds_of_a_slow_hash']} ms for a slow hash"
    )
    console.print(f"written to {write_results('audit_cost', figures)}")


if __name__ == "__main__":
    main()
