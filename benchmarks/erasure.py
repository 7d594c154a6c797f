"""What erasing costs: a compaction beside writes, and many who expire at the same time.

    python benchmarks/erasure.py --identities 100000

Prints a table and writes benchmarks/results/erasure.json.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from visagedb_indexer.clock import now_us
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import NewFace, NewIdentity, SearchOptions
from visagedb_indexer.store import GalleryRecord
from visagedb_indexer.values import ModelIdentity, Vector

RESULTS = Path(__file__).parent / "results" / "erasure.json"
BATCH = 2000


def made(folder: Path, count: int, dimension: int, expiring: int) -> tuple[Gallery, Vector]:
    """A gallery of so many people, of whom the first have expired already."""
    record = GalleryRecord("people", "uid", ModelIdentity("synthetic", "1", dimension), 1, 1)
    gallery = Gallery(folder, record)
    vectors = np.random.default_rng(7).standard_normal((count, dimension), dtype=np.float32)
    for start in range(0, count, BATCH):
        gallery.enroll_many(
            [
                NewFace(
                    identity_id=f"p{number}",
                    vector=vectors[number],
                    content_sha256=number.to_bytes(32, "big"),
                    new_identity=NewIdentity(expire_time_us=1 if number < expiring else None),
                )
                for number in range(start, min(start + BATCH, count))
            ]
        )
    gallery.wait_until_settled(600)
    return gallery, vectors


def beside(
    gallery: Gallery, vectors: Vector, stop: threading.Event, offset: int
) -> dict[str, list[float]]:
    """Latencies of enrolments and searches, in seconds, until told to stop."""
    times: dict[str, list[float]] = {"enrol": [], "search": []}
    number = offset
    while not stop.is_set():
        started = time.perf_counter()
        gallery.enroll(
            NewFace(
                identity_id=f"n{number}",
                vector=vectors[number % len(vectors)] + 1,
                content_sha256=(1 << 60 | number).to_bytes(32, "big"),
                new_identity=NewIdentity(),
            )
        )
        between = time.perf_counter()
        gallery.identify(vectors[-1], SearchOptions(top_k=1))
        times["enrol"].append(between - started)
        times["search"].append(time.perf_counter() - between)
        number += 1
    return times


def watched(
    gallery: Gallery, vectors: Vector, offset: int, seconds: float | None
) -> dict[str, object]:
    """Latencies during a compaction, or for some seconds without one."""
    stop = threading.Event()
    found: list[dict[str, list[float]]] = []
    thread = threading.Thread(target=lambda: found.append(beside(gallery, vectors, stop, offset)))
    thread.start()
    started = time.perf_counter()
    outcome: dict[str, object] = {}
    if seconds is None:
        database = gallery.compactions.compact(lambda done, stage: None).database
        outcome = {
            "held_up_ms": 1000 * database.held_up_seconds,
            "bytes_before": database.bytes_before,
            "bytes_after": database.bytes_after,
        }
    else:
        time.sleep(seconds)
    outcome["seconds"] = time.perf_counter() - started
    stop.set()
    thread.join()
    for what, times in found[0].items():
        outcome[f"{what}_ms_median"] = 1000 * statistics.median(times)
        outcome[f"{what}_ms_max"] = 1000 * max(times)
    return outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--identities", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--expiring", type=int, default=10_000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="erasure-"))
    try:
        gallery, vectors = made(
            folder / "g", options.identities, options.dimension, options.expiring
        )
        results: dict[str, object] = {"options": vars(options)}
        started = time.perf_counter()
        erased = gallery.erasures.erase_expired(now_us())
        seconds = time.perf_counter() - started
        results["expiry"] = {"identities": erased, "per_second": erased / seconds}
        quiet = watched(gallery, vectors, 0, 5.0)
        compacting = watched(gallery, vectors, 1_000_000, None)
        results["without_compaction"], results["beside_compaction"] = quiet, compacting
        gallery.close()
    finally:
        shutil.rmtree(folder)
    print(f"expiry: {erased / seconds:,.0f} identities per second")
    for name in sorted({*quiet, *compacting}):
        values = [quiet.get(name), compacting.get(name)]
        print(f"{name:20}", *("-".rjust(16) if v is None else f"{v:16,.2f}" for v in values))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
