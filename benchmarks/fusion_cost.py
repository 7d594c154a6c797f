"""What fusing several faces of an identity adds to the time of a search.

    python benchmarks/fusion_cost.py

Milliseconds per search of one thread, for galleries of identities with one and with three faces,
with the best face alone and with every fusion, in turns on the same probes. Synthetic faces.
Writes benchmarks/results/fusion_cost.json.
"""

import argparse
import hashlib
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from common import write_results
from rich.console import Console
from rich.table import Table

from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import GalleryPatch, NewFace, NewIdentity, SearchOptions
from visagedb_indexer.store import GalleryRecord
from visagedb_indexer.values import Fusion, ModelIdentity, Vector

DIMENSION = 128
ROUNDS = 20


def fill(gallery: Gallery, vectors: Vector, each: int) -> None:
    def enroll(row: int) -> None:
        digest = hashlib.sha256(vectors[row].tobytes()).digest()
        gallery.enroll(NewFace(f"p{row // each}", vectors[row], digest, new_identity=NewIdentity()))

    with ThreadPoolExecutor(64) as threads:
        list(threads.map(enroll, range(len(vectors))))


def milliseconds(gallery: Gallery, probes: Vector) -> dict[Fusion, float]:
    """The median over rounds of the mean time of a search."""
    spent: dict[Fusion, list[float]] = {fusion: [] for fusion in Fusion}
    for _ in range(ROUNDS):
        for fusion in Fusion:
            gallery.update(GalleryPatch(fusion=fusion))
            start = time.perf_counter()
            for probe in probes:
                gallery.identify(probe, SearchOptions(top_k=10))
            spent[fusion].append((time.perf_counter() - start) * 1000 / len(probes))
    return {fusion: float(np.median(times)) for fusion, times in spent.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--faces", type=int, default=9000)
    parser.add_argument("--probes", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    random = np.random.default_rng(arguments.seed)
    table = Table("faces per identity", *Fusion, title="milliseconds per search")
    figures = {}
    for each in (1, 3):
        vectors = random.standard_normal((arguments.faces, DIMENSION)).astype(np.float32)
        probes = vectors[: arguments.probes] + 0.5 * random.standard_normal(
            (arguments.probes, DIMENSION)
        ).astype(np.float32)
        with tempfile.TemporaryDirectory() as folder:
            model = ModelIdentity("synthetic", "1", DIMENSION)
            record = GalleryRecord("g", "g", model, create_time_us=1, update_time_us=1)
            gallery = Gallery(Path(folder) / "g", record)
            fill(gallery, vectors, each)
            spent = milliseconds(gallery, probes)
            gallery.close()
        table.add_row(str(each), *(f"{spent[fusion]:.2f}" for fusion in Fusion))
        figures[f"faces_per_identity_{each}"] = {f.value: t for f, t in spent.items()}
    Console().print(table)
    written = write_results(
        "fusion_cost",
        {"faces": arguments.faces, "seed": arguments.seed, "milliseconds": figures},
    )
    print(f"written to {written}")


if __name__ == "__main__":
    main()
