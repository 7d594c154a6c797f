"""How vectors become codes: which axes are kept, and with how many bits.

    python benchmarks/code_layouts.py --rows 1000000 --dimension 512

Hard probes, each at a cosine of 0.4 to its mate; those count whose mate is among the ten best
of exact search. A mate is lost at R when the compact scan does not have it among its first R
rows. Layouts: the random rotation of all axes, principal axes kept and rotated, and principal
axes dealt out in turns so that every sub-quantiser has a share of the large variances.
"""

import argparse
import os
import time
from dataclasses import dataclass

import faiss
import numpy as np
from common import write_results
from galleries import Gallery, Spectrum, Vectors
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

console = Console(width=130)
EFFORTS = (50, 100, 200, 400, 800, 1600, 3600)
ANSWERS = 10
COSINE = 0.4
TRAINING_ROWS = 32_768
BLOCK_ROWS = 65_536
LONE_PROBES = 40
BLOCK_BY_BLOCK = 15


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Vectors times `transform`, shape (dimension, code dimension), cut into sub-quantisers."""

    name: str
    transform: Vectors
    sub_quantisers: int


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--probes", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def layouts(sample: Vectors) -> list[Layout]:
    """What is compared, from a sample of the gallery."""
    dimension = sample.shape[1]
    axes = np.linalg.eigh(sample.T.astype(np.float64) @ sample)[1][:, ::-1].astype(np.float32)
    found = [
        Layout(f"all axes, {bits:g} bits", rotation(dimension), round(dimension * bits / 4))
        for bits in (1, 2)
    ]
    for kept in (128, 192, 256):
        if kept < dimension:
            turned = np.ascontiguousarray(axes[:, :kept] @ rotation(kept))
            found += [
                Layout(f"{kept} axes, {bits:g} bits", turned, round(kept * bits / 4))
                for bits in (1, 2)
            ]
    for count in (dimension // 8, dimension // 4):
        dealt = np.arange(dimension).reshape(-1, count)
        dealt[1::2] = dealt[1::2, ::-1]
        found.append(Layout("all axes, dealt out", axes[:, dealt.T.ravel()], count))
    return found


def rotation(dimension: int) -> Vectors:
    square = np.random.default_rng(3).standard_normal((dimension, dimension))
    return np.linalg.qr(square)[0].astype(np.float32)


def hard_probes(
    vectors: Vectors, gallery: Gallery, count: int, seed: int
) -> tuple[NDArray[np.int64], Vectors]:
    """Mates that exact search returns, by row, and their probes."""
    mates = np.sort(np.random.default_rng(seed).choice(len(vectors), count, replace=False))
    probes = gallery.mates(mates, cosines=COSINE).astype(np.float32)
    own = np.einsum("ij,ij->i", probes, vectors[mates])[:, None]
    nearer = sum(
        np.count_nonzero(probes @ vectors[start : start + BLOCK_ROWS].T > own + 1e-6, axis=1)
        for start in range(0, len(vectors), BLOCK_ROWS)
    )
    returned = nearer < ANSWERS
    return mates[returned], probes[returned]


def measure(
    layout: Layout, sample: Vectors, vectors: Vectors, mates: NDArray[np.int64], probes: Vectors
) -> dict[str, float]:
    """Bytes, milliseconds of a lone probe, and the share of mates lost at each R."""
    index = faiss.IndexPQFastScan(
        layout.transform.shape[1], layout.sub_quantisers, 4, faiss.METRIC_INNER_PRODUCT
    )
    index.train(sample @ layout.transform)
    for start in range(0, len(vectors), BLOCK_ROWS):
        index.add(vectors[start : start + BLOCK_ROWS] @ layout.transform)
    turned = probes @ layout.transform
    _, found = index.search(turned, EFFORTS[-1])
    hits = found == mates[:, None]
    places = np.where(hits.any(axis=1), hits.argmax(axis=1), EFFORTS[-1])
    return {
        "bytes": index.pq.code_size,
        "lone_ms": lone_milliseconds(index, turned),
        **{f"lost_at_{effort}": float(np.mean(places >= effort)) for effort in EFFORTS},
    }


def lone_milliseconds(index: faiss.IndexPQFastScan, probes: Vectors) -> float:
    """Median of the faster kernel, on one core."""
    faiss.omp_set_num_threads(1)
    medians = []
    for index.implem in (0, BLOCK_BY_BLOCK):
        times = []
        for row in range(LONE_PROBES):
            started = time.perf_counter()
            index.search(probes[row : row + 1], EFFORTS[2])
            times.append(time.perf_counter() - started)
        medians.append(1000 * float(np.median(times)))
    faiss.omp_set_num_threads(len(os.sched_getaffinity(0)))
    return min(medians)


def main() -> None:
    arguments = parse_arguments()
    spectrum = Spectrum.of_dimension(arguments.dimension)
    gallery = Gallery(spectrum, rows=arguments.rows, seed=arguments.seed)
    vectors = np.concatenate([block for _, block in gallery.blocks()])
    mates, probes = hard_probes(vectors, gallery, arguments.probes, arguments.seed)
    chosen = np.random.default_rng(arguments.seed).choice(
        len(vectors), min(len(vectors), TRAINING_ROWS), replace=False
    )
    sample = vectors[np.sort(chosen)]
    title = f"{arguments.rows:,} x {arguments.dimension}, {len(mates):,} mates at {COSINE}, % lost"
    table = Table("layout", "bytes", "lone ms", *(f"R = {r:,}" for r in EFFORTS), title=title)
    figures = {}
    for layout in layouts(sample):
        row = measure(layout, sample, vectors, mates, probes)
        figures[f"{layout.name}, {row['bytes']} bytes"] = row
        lost = [f"{100 * row[f'lost_at_{effort}']:.2f}" for effort in EFFORTS]
        table.add_row(layout.name, str(row["bytes"]), f"{row['lone_ms']:.2f}", *lost)
    console.print(table)
    name = f"code_layouts_{arguments.rows}x{arguments.dimension}"
    write_results(name, {"mates": len(mates), "layouts": figures})


if __name__ == "__main__":
    main()
