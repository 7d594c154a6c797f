"""Vectors per second out of a file, durably: imports beside the gRPC stream, and the export.

    python benchmarks/import_rate.py [--dimension 512] [--rows 60000] [--rounds 3]

The same seeded rows of one server: as a Parquet table and as an NPZ archive that the server reads
itself, and over `Client.enroll_vectors`. Every round fills new galleries, in an order that turns;
medians, and their ratio to the stream, are printed. An export of the gallery follows, and the
import of that export, whose faces bring their ids, digests and times.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import running_server, write_results
from rich.console import Console
from rich.table import Table

import visagedb

SEED = 17
console = Console()

Result = TypeVar("Result")


def write_files(folder: Path, rows: int, dimension: int) -> tuple[list[str], np.ndarray]:
    """Writes the rows as both kinds of files; returns them."""
    random = np.random.default_rng(SEED)
    vectors = random.standard_normal((rows, dimension), dtype=np.float32)
    ids = [f"person-{number:09d}" for number in range(rows)]
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimension)
    pq.write_table(pa.table({"identity_id": ids, "vector": column}), folder / "rows.parquet")
    np.savez(folder / "rows.npz", identity_id=np.array(ids), vector=vectors)
    return ids, vectors


def at_once(operation: visagedb.Operation[Result]) -> Result:
    """The result as soon as it is there; `Operation.result` asks only now and then."""
    while not operation.done():
        time.sleep(0.02)
    return operation.result()


class Rounds:
    """Fills galleries of one server, and measures how fast."""

    def __init__(self, client: visagedb.Client, folder: Path, rows: int, dimension: int) -> None:
        self.client, self.folder, self.rows, self.dimension = client, folder, rows, dimension
        self.ids, self.vectors = write_files(folder, rows, dimension)
        self.made = 0

    def gallery(self) -> str:
        self.made += 1
        name = f"round-{self.made}"
        self.client.create_gallery(name, model="bench@1", dimension=self.dimension)
        return name

    def timed(self, fill: Callable[[str], int]) -> float:
        """Rows per second of what fills a gallery, which is dropped then."""
        gallery = self.gallery()
        started = time.perf_counter()
        done = fill(gallery)
        seconds = time.perf_counter() - started
        assert done == self.rows, done
        self.client.delete_gallery(gallery)
        return self.rows / seconds

    def stream(self) -> float:
        def fill(gallery: str) -> int:
            return self.client.enroll_vectors(gallery, self.ids, self.vectors).count("enrolled")

        return self.timed(fill)

    def imported(self, name: str) -> float:
        path = self.folder / name
        return self.timed(
            lambda gallery: at_once(self.client.import_faces(gallery, path)).enrolled_count
        )

    def export(self) -> float:
        gallery = self.gallery()
        self.client.enroll_vectors(gallery, self.ids, self.vectors)
        started = time.perf_counter()
        at_once(self.client.export_faces(gallery, self.folder / "out.parquet", overwrite=True))
        seconds = time.perf_counter() - started
        self.client.delete_gallery(gallery)
        return self.rows / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        roots = ("--import-root", name, "--export-root", name)
        with (
            running_server("--workers", "0", *roots) as address,
            visagedb.Client(address, timeout=600) as client,
        ):
            rounds = Rounds(client, folder, options.rows, options.dimension)
            contenders: dict[str, Callable[[], float]] = {
                "stream": rounds.stream,
                "import of Parquet": lambda: rounds.imported("rows.parquet"),
                "import of NPZ": lambda: rounds.imported("rows.npz"),
                "export to Parquet": rounds.export,
                "import of an export": lambda: rounds.imported("out.parquet"),
            }
            rates: dict[str, list[float]] = {name: [] for name in contenders}
            for number in range(options.rounds):
                names = list(contenders)
                turned = names if number == 0 else names[number % 5 :] + names[: number % 5]
                for contender in turned:
                    rates[contender].append(contenders[contender]())
    medians = {name: statistics.median(found) for name, found in rates.items()}
    table = Table("", "rows/s", "of the stream's rate")
    for name, rate in medians.items():
        table.add_row(name, f"{rate:,.0f}", f"{rate / medians['stream']:.2f}")
    console.print(table)
    path = write_results(
        "import_rate",
        {"rows": options.rows, "dimension": options.dimension, "rows_per_second": medians},
    )
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
