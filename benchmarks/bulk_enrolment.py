"""Vectors per second into the database, durably: the stream beside bare LMDB and beside peers.

    python benchmarks/bulk_enrolment.py [--dimension 128] [--rows 200000] [--peers none]
    python benchmarks/bulk_enrolment.py --memory 2000000 [--dimension 128]

All write the same rows in batches of the same size to the same disk, in alternating rounds of
one run; medians and ratios are printed.

- bare LMDB: one put per row of key and vector in ascending order, a transaction and its sync
  for each batch. Nothing can be found by anything but the key.
- VisageDB: `Client.enroll_vectors` over gRPC to a server in a process of its own; every row
  makes a new person with a face, can be looked up by both ids and by content, is searchable and
  durable when it is acknowledged. Codes are built meanwhile. Batches that wait for the writer
  together share a sync. Also with a label on each.
- milvus-lite and pgvector (in pgserver's PostgreSQL): inserts by their own clients, no index;
  PostgreSQL by INSERTs in a pipeline and by binary COPY with a commit for each batch, and by
  INSERTs that are a commit each.

With --memory a single gallery is filled with that many vectors, while the server's memory is
sampled: anonymous memory is what it has allocated, file memory are pages of the database that
the system keeps as long as nobody needs the room.
"""

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
from common import server_process, write_results
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import visagedb

SEED = 11
MIB = 1 << 20
console = Console()

Rows = NDArray[np.float32]
Insert = Callable[[int, Rows], None]


@dataclass(frozen=True)
class Contender:
    """One way of writing rows: its name, how many rows it is given, and a round of it."""

    name: str
    rows: int
    run: Callable[[Rows, int], float]


def bare_lmdb(vectors: Rows, batch: int) -> float:
    """Rows per second of appends to an LMDB database, synced once for each batch."""
    folder = Path(tempfile.mkdtemp())
    with lmdb.open(str(folder), map_size=64 << 30) as environment:
        started = time.perf_counter()
        for start in range(0, len(vectors), batch):
            with environment.begin(write=True) as txn:
                for ordinal, vector in enumerate(vectors[start : start + batch], start):
                    txn.put(ordinal.to_bytes(8, "big"), vector.tobytes(), append=True)
        elapsed = time.perf_counter() - started
    shutil.rmtree(folder)
    return len(vectors) / elapsed


class Ours:
    """Rounds of the stream, each into a gallery of its own."""

    def __init__(self, address: str) -> None:
        self._client = visagedb.Client(address)
        self._rounds = 0

    def run(self, vectors: Rows, batch: int, labels: dict[str, str] | None = None) -> float:
        self._rounds += 1
        gallery = f"round-{self._rounds}"
        self._client.create_gallery(gallery, model="bench@1", dimension=vectors.shape[1])
        ids = [f"person-{number:09d}" for number in range(len(vectors))]
        started = time.perf_counter()
        done = self._client.enroll_vectors(gallery, ids, vectors, batch_rows=batch, labels=labels)
        elapsed = time.perf_counter() - started
        assert done.count("enrolled") == len(vectors)
        self._client.delete_gallery(gallery)
        return len(vectors) / elapsed

    def run_with_labels(self, vectors: Rows, batch: int) -> float:
        return self.run(vectors, batch, {"site": "north"})


def each_batch(insert: Insert, vectors: Rows, batch: int) -> float:
    started = time.perf_counter()
    for start in range(0, len(vectors), batch):
        insert(start, vectors[start : start + batch])
    return len(vectors) / (time.perf_counter() - started)


def milvus(vectors: Rows, batch: int) -> float:
    from pymilvus import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        DataType,
        MilvusClient,
    )

    with tempfile.TemporaryDirectory() as folder:
        client = MilvusClient(str(Path(folder) / "faces.db"))
        schema = MilvusClient.create_schema(auto_id=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        client.create_collection("faces", schema=schema)

        def insert(start: int, rows: Rows) -> None:
            client.insert("faces", [{"id": start + i, "vector": row} for i, row in enumerate(rows)])

        rate = each_batch(insert, vectors, batch)
        client.close()
        return rate


class Postgres:
    """Rounds in one PostgreSQL server, each into a table of its own."""

    def __init__(self, folder: Path) -> None:
        import pgserver  # type: ignore[import-not-found,import-untyped,unused-ignore]
        import psycopg  # type: ignore[import-not-found,import-untyped,unused-ignore]
        from pgvector.psycopg import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            register_vector,
        )

        self._server = pgserver.get_server(folder)
        self._connection: Any = psycopg.connect(self._server.get_uri(), autocommit=True)
        self._connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(self._connection)

    def close(self) -> None:
        self._connection.close()
        self._server.cleanup()

    def insert(self, vectors: Rows, batch: int) -> float:
        def insert(start: int, rows: Rows) -> None:
            values = [(start + i, row) for i, row in enumerate(rows)]
            with self._connection.transaction(), self._connection.cursor() as cursor:
                cursor.executemany("INSERT INTO faces VALUES (%s, %s)", values)

        self._fresh(vectors)
        return each_batch(insert, vectors, batch)

    def insert_single(self, vectors: Rows, batch: int) -> float:
        def insert(start: int, rows: Rows) -> None:
            for ordinal, row in enumerate(rows, start):
                self._connection.execute("INSERT INTO faces VALUES (%s, %s)", (ordinal, row))

        self._fresh(vectors)
        return each_batch(insert, vectors, batch)

    def copy(self, vectors: Rows, batch: int) -> float:
        def insert(start: int, rows: Rows) -> None:
            command = "COPY faces FROM STDIN WITH (FORMAT BINARY)"
            with self._connection.cursor().copy(command) as copy:
                copy.set_types(["int8", "vector"])
                for ordinal, row in enumerate(rows, start):
                    copy.write_row((ordinal, row))

        self._fresh(vectors)
        return each_batch(insert, vectors, batch)

    def _fresh(self, vectors: Rows) -> None:
        self._connection.execute("DROP TABLE IF EXISTS faces")
        self._connection.execute(
            f"CREATE TABLE faces (id bigint PRIMARY KEY, embedding vector({vectors.shape[1]}))"
        )


@contextmanager
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder))
        try:
            yield server
        finally:
            server.close()


def contenders(stack: ExitStack, arguments: argparse.Namespace) -> list[Contender]:
    address, _ = stack.enter_context(server_process("--workers", "0"))
    ours = Ours(address)
    found = [
        Contender("bare LMDB", arguments.rows, bare_lmdb),
        Contender("VisageDB", arguments.rows, ours.run),
        Contender("VisageDB with labels", arguments.rows, ours.run_with_labels),
    ]
    if arguments.peers == "all":
        server = stack.enter_context(postgres())
        found += [
            Contender("milvus-lite", arguments.peer_rows, milvus),
            Contender("pgvector INSERT", arguments.peer_rows, server.insert),
            Contender("pgvector INSERT, a commit each", 400, server.insert_single),
            Contender("pgvector COPY", arguments.peer_rows, server.copy),
        ]
    return found


def compare(arguments: argparse.Namespace) -> None:
    random = np.random.default_rng(SEED)
    vectors = random.standard_normal((arguments.rows, arguments.dimension), dtype=np.float32)
    rates: dict[str, list[float]] = {}
    with ExitStack() as stack:
        entrants = contenders(stack, arguments)
        for number in range(arguments.rounds):
            for entrant in entrants:
                rate = entrant.run(vectors[: entrant.rows], arguments.batch)
                rates.setdefault(entrant.name, []).append(rate)
                console.print(f"round {number + 1}: {entrant.name} {rate:,.0f} rows/s")
    medians = {name: statistics.median(some) for name, some in rates.items()}
    ours = medians["VisageDB"]
    table = Table("way", "rows/s", "VisageDB to it", title=f"{arguments.dimension}-d, "
                  f"{arguments.batch} rows per commit")  # fmt: skip
    for name, rate in medians.items():
        table.add_row(name, f"{rate:,.0f}", f"{ours / rate:.2f}")
    console.print(table)
    figures = {
        "dimension": arguments.dimension, "batch": arguments.batch, "rows": arguments.rows,
        "peer_rows": arguments.peer_rows, "rates": rates, "medians": medians,
        "ratios": {name: ours / rate for name, rate in medians.items()},
    }  # fmt: skip
    name = f"bulk_enrolment_{arguments.dimension}d_{arguments.batch}"
    console.print(f"written to {write_results(name, figures)}")


def memory_of(process: int) -> tuple[int, int]:
    """Anonymous and file-backed bytes of a process that are in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    anonymous, backed = (int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))
    return anonymous, backed


def fill(arguments: argparse.Namespace) -> None:
    """Fills one gallery and samples the server's memory on the way."""
    random = np.random.default_rng(SEED)
    block = random.standard_normal((100_000, arguments.dimension), dtype=np.float32)
    samples: list[tuple[int, int, int]] = []
    enrolled = 0
    stopped = threading.Event()
    with server_process("--workers", "0") as (address, process):

        def sample() -> None:
            while not stopped.wait(0.5):
                samples.append((enrolled, *memory_of(process)))

        with visagedb.Client(address) as client:
            client.create_gallery("large", model="bench@1", dimension=arguments.dimension)
            sampler = threading.Thread(target=sample)
            sampler.start()
            started = time.perf_counter()
            while enrolled < arguments.memory:
                vectors = block + random.standard_normal(arguments.dimension, dtype=np.float32)
                ids = [f"person-{enrolled + row:09d}" for row in range(len(vectors))]
                done = client.enroll_vectors("large", ids, vectors, batch_rows=arguments.batch)
                assert done.count("enrolled") == len(vectors)
                enrolled += len(vectors)
            elapsed = time.perf_counter() - started
            stopped.set()
            sampler.join()
            state = client.gallery_stats("large").search
    table = Table("vectors", "anonymous MiB", "database pages in memory MiB")
    for row in samples[:: max(1, len(samples) // 20)]:
        table.add_row(f"{row[0]:,}", f"{row[1] / MIB:,.0f}", f"{row[2] / MIB:,.0f}")
    console.print(table)
    console.print(
        f"{enrolled:,} vectors in {elapsed:.1f} s; search structures {state.memory_bytes / MIB:.0f}"
        f" MiB for {state.indexed_face_count:,} faces"
    )
    figures = {
        "dimension": arguments.dimension, "vectors": enrolled, "seconds": elapsed,
        "samples": samples, "index_bytes": state.memory_bytes,
    }  # fmt: skip
    name = f"bulk_enrolment_memory_{arguments.dimension}d"
    console.print(f"written to {write_results(name, figures)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--peer-rows", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=512, help="rows of a commit")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", choices=("all", "none"), default="all")
    parser.add_argument("--memory", type=int, default=0, metavar="VECTORS")
    arguments = parser.parse_args()
    if arguments.memory:
        fill(arguments)
    else:
        compare(arguments)


if __name__ == "__main__":
    main()
