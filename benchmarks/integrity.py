"""What proofs and copies cost: checksums beside writing, verify, repair, backup, restore.

    python benchmarks/integrity.py [--faces 100000] [--dimension 128 512]

Writes of faces, and the checksums of their vectors and records measured alone on the same rows;
a plain copy of the database file (read, written, synced) beside the backup of it, which also
digests, checks every invariant of the copy and reads it again.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from common import write_results
from rich.console import Console
from rich.table import Table

from visagedb_indexer.backup import BackupFolder
from visagedb_indexer.integrity import repair_store, verify_store
from visagedb_indexer.store import (
    FaceRecord,
    GalleryRecord,
    GalleryStore,
    IdentityRecord,
    checksums,
    schema,
)
from visagedb_indexer.values import ModelIdentity

SEED = 19
BATCH = 4096
console = Console()


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def fill(store: GalleryStore, faces: int, dimension: int) -> tuple[float, float]:
    """Seconds for writing the faces, and for their vectors' checksums alone."""
    random = np.random.default_rng(SEED)
    writing = summing = 0.0
    for start in range(0, faces, BATCH):
        vectors = random.standard_normal((min(BATCH, faces - start), dimension))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows = vectors.astype(np.float32)
        started = time.perf_counter()
        checksums.of_vectors(rows)
        summing += time.perf_counter() - started

        def write(rows: np.ndarray = rows, start: int = start) -> None:
            with store.write() as txn:
                for offset, vector in enumerate(rows):
                    name = f"p{start + offset}"
                    labels = {"site": str(offset % 7)}
                    identity = txn.add_identity(IdentityRecord(name, name, -1, 0, 0, labels=labels))
                    content = name.zfill(32).encode()
                    txn.add_face(identity, FaceRecord(name, -1, content, 0), vector)

        writing += timed(write)
    return writing, summing


def quietly(done: float, stage: str) -> None:
    """Nobody looks at the progress."""


def plain_copy(source: Path, target: Path) -> None:
    with source.open("rb") as read, target.open("wb") as written:
        while chunk := read.read(1 << 20):
            written.write(chunk)
        os.fsync(written.fileno())


def without_owners(store: GalleryStore) -> None:
    with store.write() as txn:
        for key in list(txn.tables.keys(schema.OWNERS)):
            txn.tables.delete(schema.OWNERS, key)


def measured(faces: int, dimension: int, folder: Path) -> dict[str, float]:
    model = ModelIdentity("benchmark", "1", dimension)
    store = GalleryStore(folder / "g", GalleryRecord("g", "g", model, 0, 0))
    writing, summing = fill(store, faces, dimension)
    size = store.environment.used_bytes()
    row: dict[str, float] = {
        "faces": faces,
        "dimension": dimension,
        "database_mb": size / 1e6,
        "write_seconds": writing,
        "vector_checksum_seconds": summing,
    }
    row["verify_seconds"] = timed(lambda: verify_store(store))
    backups = BackupFolder(folder / "backups")
    row["backup_seconds"] = timed(
        lambda: backups.write("one", {"g": store.environment}, None, quietly)
    )
    row["plain_copy_seconds"] = timed(
        lambda: plain_copy(folder / "g" / "data.mdb", folder / "plain")
    )
    row["restore_seconds"] = timed(
        lambda: backups.fetch_gallery("one", "g", folder / "restored", quietly)
    )
    without_owners(store)
    row["repair_owners_seconds"] = timed(lambda: repair_store(store))
    store.close()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--faces", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, nargs="+", default=[128, 512])
    arguments = parser.parse_args()
    results = []
    for dimension in arguments.dimension:
        with tempfile.TemporaryDirectory() as folder:
            results.append(measured(arguments.faces, dimension, Path(folder)))
    table = Table(title=f"Proofs and copies, {arguments.faces:,} faces")
    table.add_column("")
    for row in results:
        table.add_column(f"{row['dimension']} dimensions", justify="right")
    for key in results[0]:
        table.add_row(key.replace("_", " "), *(f"{row[key]:,.3f}" for row in results))
    console.print(table)
    write_results("integrity", {"seed": SEED, "rows": results})


if __name__ == "__main__":
    main()
