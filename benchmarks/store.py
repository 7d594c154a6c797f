"""The store: rows written per second, and rows gathered at random as rescoring does.

    python benchmarks/store.py [--rows 100000] [--dimension 128 512]

Vectors are written in batches of one commit each. Gathering reads R random rows in one read
transaction; medians over the repetitions.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from common import write_results
from rich.console import Console
from rich.table import Table

from visagedb_indexer.store import FaceRecord, GalleryRecord, GalleryStore, IdentityRecord
from visagedb_indexer.values import ModelIdentity

SEED = 11
BATCH = 4096
console = Console()


def fill(store: GalleryStore, rows: int, dimension: int) -> float:
    """Rows per second, one identity with one face each."""
    random = np.random.default_rng(SEED)
    seconds = 0.0
    for start in range(0, rows, BATCH):
        vectors = random.standard_normal((min(BATCH, rows - start), dimension), dtype=np.float32)
        started = time.perf_counter()
        with store.write() as txn:
            for offset, vector in enumerate(vectors):
                name = f"p{start + offset}"
                identity = txn.add_identity(IdentityRecord(name, name, -1, 0, 0))
                txn.add_face(identity, FaceRecord(name, -1, name.zfill(32).encode(), 0), vector)
        seconds += time.perf_counter() - started
    return rows / seconds


def gather_ms(store: GalleryStore, rows: int, count: int, repetitions: int = 100) -> float:
    random = np.random.default_rng(SEED)
    times = []
    for _ in range(repetitions):
        ordinals = random.integers(rows, size=count)
        started = time.perf_counter()
        with store.read() as view:
            view.vectors(ordinals)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, nargs="+", default=[128, 512])
    arguments = parser.parse_args()
    table = Table("dimension", "rows/s written", "bytes/row", "gather 200, ms", "gather 500, ms")
    figures = {}
    for dimension in arguments.dimension:
        with tempfile.TemporaryDirectory() as folder:
            model = ModelIdentity("benchmark", "1", dimension)
            store = GalleryStore(Path(folder), GalleryRecord("b", "b", model, 0, 0))
            rate = fill(store, arguments.rows, dimension)
            size = store.environment.file_bytes() / arguments.rows
            gathers = [gather_ms(store, arguments.rows, count) for count in (200, 500)]
            store.close()
        row = [f"{rate:,.0f}", f"{size:,.0f}", *(f"{ms:.2f}" for ms in gathers)]
        table.add_row(str(dimension), *row)
        figures[str(dimension)] = {
            "rows_per_second": rate,
            "bytes_per_row": size,
            "gather_200_ms": gathers[0],
            "gather_500_ms": gathers[1],
        }
    console.print(table)
    console.print(f"written to {write_results('store', figures)}")


if __name__ == "__main__":
    main()
