"""Why the compact scan is as it is: bare FAISS, side by side, on one core.

    python benchmarks/scan.py --rows 1000000 --dimension 128

Two indexes hold the same 4-bit codes: a flat one, and an inverted file with a single list,
which could take a bitmap of allowed rows and can remove rows at once. Asked in turns for more
and more rows, for several probes at a time, and with filters: the inverted file by a bitmap,
the flat one by asking for more rows and dropping those that may not be returned. The exact
scan is measured for several probes at a time as well.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import faiss
import numpy as np
from common import write_results
from galleries import Gallery, Spectrum
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

console = Console(width=110)
COUNTS = (10, 200, 600, 1200, 2400, 20_000)
BATCHES = (1, 2, 4, 8, 16, 32)
SHARES = (0.01, 0.05, 0.2, 0.5)
RESCORED = 600
KERNELS = (13, 15)
"""What FAISS chooses for more than twenty rows, and the one that goes block by block."""
TRAINING_ROWS = 32_768


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def in_turns(ways: Sequence[Callable[[], object]], turns: int) -> list[float]:
    """Median milliseconds of each way."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(turns):
        for way, own in zip(ways, times, strict=True):
            started = time.perf_counter()
            way()
            own.append(time.perf_counter() - started)
    return [1000 * float(np.median(own)) for own in times]


def build(gallery: Gallery) -> tuple[Any, Any, np.ndarray]:
    """The flat index, the one with a list, and all vectors."""
    dimension = gallery.dimension
    codes = dimension // (2 if dimension <= 256 else 4)
    coarse = faiss.IndexFlatIP(dimension)
    coarse.add(np.zeros((1, dimension), dtype=np.float32))
    listed = faiss.IndexIVFPQFastScan(coarse, dimension, 1, codes, 4, faiss.METRIC_INNER_PRODUCT)
    listed.by_residual = False
    flat = faiss.IndexPQFastScan(dimension, codes, 4, faiss.METRIC_INNER_PRODUCT)
    vectors = np.concatenate([block for _, block in gallery.blocks()])
    for index in (flat, listed):
        index.train(vectors[:TRAINING_ROWS])
        index.add(vectors)
    return flat, listed, vectors


def by_bitmap(listed: Any, probe: np.ndarray, bitmap: np.ndarray) -> None:
    parameters = faiss.SearchParametersIVF()
    selector = faiss.IDSelectorBitmap(len(bitmap), faiss.swig_ptr(bitmap))
    parameters.sel = selector
    listed.search(probe, RESCORED, params=parameters)


def by_more_rows(flat: Any, probe: np.ndarray, passing: np.ndarray, share: float) -> None:
    found = flat.search(probe, math.ceil(1.25 * RESCORED / share))[1][0]
    found[passing[found]][:RESCORED]


def with_kernel(flat: Any, kernel: int, probes: np.ndarray) -> None:
    flat.implem = kernel
    flat.search(probes, RESCORED)


def only_these(vectors: np.ndarray, rows: np.ndarray, probe: np.ndarray) -> object:
    return vectors[rows] @ probe


def exactly(vectors: np.ndarray, probes: np.ndarray) -> object:
    return vectors @ probes[0] if len(probes) == 1 else probes @ vectors.T


def main() -> None:
    arguments = parse_arguments()
    threadpool_limits(1, user_api="blas")
    gallery = Gallery(Spectrum.of_dimension(arguments.dimension), arguments.rows, arguments.seed)
    flat, listed, vectors = build(gallery)
    faiss.omp_set_num_threads(1)
    random = np.random.default_rng(arguments.seed)
    probes = gallery.mates(random.integers(arguments.rows, size=max(BATCHES)), 0.5)
    one, turns = probes[:1], arguments.turns
    figures: dict[str, Any] = {"rows": arguments.rows, "dimension": arguments.dimension}

    def show(name: str, headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        table = Table(title=name)
        for heading in headings:
            table.add_column(heading, justify="right")
        for row in rows:
            table.add_row(
                *(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row)
            )
        console.print(table)
        figures[name] = [dict(zip(headings, row, strict=True)) for row in rows]

    counted = []
    for count in COUNTS:
        ways = [partial(listed.search, one, count), partial(flat.search, one, count)]
        counted.append((count, *in_turns(ways, turns)))
    show("one probe, ms", ("rows asked for", "one list", "flat"), counted)

    batched = []
    for size in BATCHES:
        some = probes[:size]
        ways = [
            partial(listed.search, some, RESCORED),
            partial(flat.search, some, RESCORED),
            partial(exactly, vectors, some),
        ]
        times = in_turns(ways, max(3, turns // size))
        batched.append((size, *(spent / size for spent in times)))
    show("several probes, ms per probe", ("probes", "one list", "flat", "exact"), batched)

    filtered = []
    for share in SHARES:
        passing = random.random(arguments.rows) < share
        bitmap = np.packbits(passing, bitorder="little")
        rows = np.flatnonzero(passing)
        ways = [
            partial(by_bitmap, listed, one, bitmap),
            partial(by_more_rows, flat, one, passing, share),
            partial(only_these, vectors, rows, one[0]),
        ]
        filtered.append((share, *in_turns(ways, turns)))
    headings = ("share that passes", "bitmap", "more rows", "only these, exactly")
    show(f"a filter, {RESCORED} rows, ms", headings, filtered)

    kernels = []
    for size in BATCHES:
        ways = [partial(with_kernel, flat, kernel, probes[:size]) for kernel in KERNELS]
        times = in_turns(ways, max(5, turns // size))
        kernels.append((size, *(spent / size for spent in times)))
    titles = ("probes", *(f"kernel {kernel}" for kernel in KERNELS))
    show(f"kernels of the flat index, {RESCORED} rows, ms per probe", titles, kernels)
    flat.implem = 0

    started = time.perf_counter()
    copy = faiss.clone_index(flat)
    cloned = time.perf_counter()
    copy.remove_ids(faiss.IDSelectorBatch(np.arange(0, arguments.rows, 100)))
    removed = time.perf_counter()
    show(
        "aside from the searches, ms",
        ("copying all codes", "removing 1% of them"),
        [(1000 * (cloned - started), 1000 * (removed - cloned))],
    )
    name = f"scan_{arguments.rows}x{arguments.dimension}"
    console.print(f"written to {write_results(name, figures)}")


if __name__ == "__main__":
    main()
