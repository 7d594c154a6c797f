"""One gallery as large as you like: start, memory, lone queries on all cores, filters, growth.

    python benchmarks/scale.py write DATA --rows 10000000 --dimension 512
    python benchmarks/scale.py measure DATA

`write` streams a synthetic gallery into a new data directory, without ever holding it, and
notes who exact search ranks first for some hard probes. `measure` starts the real server on
it twice (the first start makes the codes, the second finds them), and then opens the gallery
in this process, to put our search beside the bare scan of the same codes on one core.
"""

import argparse
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from common import write_results
from galleries import Gallery, Spectrum
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from search.ours_data import GALLERY, await_rest, gallery_folder

import visagedb
from visagedb_indexer.database import Database
from visagedb_indexer.gallery import Gallery as OpenGallery
from visagedb_indexer.gallery_values import NewFace, NewIdentity, SearchOptions
from visagedb_indexer.search import SearchRequest
from visagedb_indexer.store import FaceRecord, GalleryRecord, GalleryStore, IdentityRecord
from visagedb_indexer.values import Fusion, ModelIdentity

console = Console(width=120)
Vectors = NDArray[np.float32]
COSINES = (0.4, 0.5, 0.6)
SHARES = {"one": 100, "half": 2}
"""Labels, and of how many identities one has it."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    steps = parser.add_subparsers(dest="step", required=True)
    writing = steps.add_parser("write")
    writing.add_argument("data", type=Path)
    writing.add_argument("--rows", type=int, default=1_000_000)
    writing.add_argument("--dimension", type=int, default=512)
    writing.add_argument("--probes", type=int, default=300, help="for each cosine")
    writing.add_argument("--seed", type=int, default=1)
    measuring = steps.add_parser("measure")
    measuring.add_argument("data", type=Path)
    measuring.add_argument("--queries", type=int, default=300)
    measuring.add_argument("--added", type=int, default=100_000)
    measuring.add_argument("--seconds", type=float, default=5.0, help="of each throughput run")
    return parser.parse_args()


# Writing


def write(arguments: argparse.Namespace) -> None:
    """Streams the gallery into a data directory, and asks exact search on the way."""
    data: Path = arguments.data
    gallery = Gallery(Spectrum.of_dimension(arguments.dimension), arguments.rows, arguments.seed)
    random = np.random.default_rng(arguments.seed)
    count = min(arguments.probes, arguments.rows) * len(COSINES)
    mates = random.integers(arguments.rows, size=count)
    cosines = np.resize(COSINES, count)
    probes = gallery.mates(mates, cosines)
    database = Database(data)
    model = ModelIdentity("benchmark", "1", arguments.dimension)
    database.create_gallery(GalleryRecord(GALLERY, "", model, 0, 0, fusion=Fusion.ADAPTIVE_MEAN))
    database.close()
    store = GalleryStore(gallery_folder(data))
    best = np.full(count, -np.inf, dtype=np.float32)
    first = np.zeros(count, dtype=np.int64)
    started = time.perf_counter()
    for start, vectors in gallery.blocks(8192):
        _write_block(store, start, vectors)
        scores = probes @ vectors.T
        top = scores.argmax(axis=1)
        highest = scores[np.arange(count), top]
        better = highest > best
        best[better], first[better] = highest[better], start + top[better]
        if start % (1 << 20) == 0:
            seconds = time.perf_counter() - started
            console.print(f"{start:,} rows after {seconds:,.0f} s")
    store.close()
    np.savez(data / "probes.npz", probes=probes, mates=mates, cosines=cosines, first=first)
    shape = {name: getattr(arguments, name) for name in ("rows", "dimension", "seed")}
    (data / "scale.json").write_text(json.dumps(shape))


def _write_block(store: GalleryStore, start: int, vectors: Vectors) -> None:
    with store.write() as txn:
        for ordinal, vector in enumerate(vectors, start):
            name = f"p{ordinal}"
            labels = {key: "yes" for key, each in SHARES.items() if ordinal % each == 0}
            identity = txn.add_identity(IdentityRecord(name, name, -1, 0, 0, labels=labels))
            digest = np.uint64(ordinal).tobytes().ljust(32, b"\0")
            txn.add_face(identity, FaceRecord(name, -1, digest, 0), vector)


# Measuring


def measure(arguments: argparse.Namespace) -> None:
    """Prints and keeps all figures."""
    data: Path = arguments.data
    shape = json.loads((data / "scale.json").read_text())
    with np.load(data / "probes.npz") as arrays:
        known = {name: arrays[name] for name in arrays.files}
    figures: dict[str, Any] = {**shape}
    figures["first start"] = _served(data, known["probes"][0])
    figures["restart"] = _served(data, known["probes"][0])
    database = Database(data)
    gallery = database.gallery(GALLERY)
    await_rest(gallery)
    figures["loss"] = _loss(gallery, known)
    figures["lone query"] = _lone(gallery, known["probes"][: arguments.queries])
    figures["filters"] = _filtered(gallery, known["probes"][: arguments.queries // 3])
    figures["throughput"] = {
        clients: _throughput(gallery, known["probes"], clients, arguments.seconds)
        for clients in (1, 8, 32)
    }
    figures["growth"] = _growth(gallery, known["probes"], arguments.added)
    database.close()
    _print(figures)
    name = f"scale_{shape['rows']}x{shape['dimension']}"
    console.print(f"written to {write_results(name, figures)}")


def _served(data: Path, probe: Vectors) -> dict[str, float]:
    """Starts the server; when it answers, when its answers come from the codes, its memory."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "visagedb", "serve", "--data", str(data), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--workers", "0", "--log-level", "warning"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    address = process.stdout.readline().split()[-1]
    listening = time.perf_counter() - started
    with visagedb.Client(address, timeout=600) as client:
        while client.gallery_stats(GALLERY).search.state is not visagedb.SearchState.COMPACT:
            time.sleep(0.05)
        ready = time.perf_counter() - started
        client.identify(GALLERY, vector=probe)
        answered = time.perf_counter() - started
        while client.gallery_stats(GALLERY).search.mate_loss is None:
            time.sleep(0.5)
        times = [_timed(lambda: client.identify(GALLERY, vector=probe)) for _ in range(50)]
        memory = _resident_mib(process.pid)
    process.send_signal(signal.SIGTERM)
    process.wait(timeout=600)
    return {
        "listening s": listening,
        "codes ready s": ready,
        "first answer s": answered,
        "audited s": time.perf_counter() - started,
        "the same probe again p50 ms": float(np.median(times)) * 1000,
        **memory,
    }


def _resident_mib(pid: int) -> dict[str, float]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = dict(line.split(":", 1) for line in lines if line.startswith("Rss"))
    sizes = {name: int(value.split()[0]) / 1024 for name, value in found.items()}
    return {"own memory MiB": sizes["RssAnon"], "mapped pages MiB": sizes["RssFile"]}


def _loss(gallery: OpenGallery, known: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Mates that exact search ranks first and a search for ten does not return."""
    counted = np.flatnonzero(known["first"] == known["mates"])
    lost: dict[str, list[int]] = {str(cosine): [0, 0] for cosine in COSINES}
    for place in counted.tolist():
        answer = gallery.identify(known["probes"][place], SearchOptions())
        found = [candidate.face.ordinal for candidate in answer.candidates]
        cell = lost[str(known["cosines"][place])]
        cell[0] += int(known["mates"][place]) not in found
        cell[1] += 1
    stats = gallery.stats().engine
    audit = stats.audit
    return {
        "lost of probes": lost,
        "candidates rescored": stats.rescored_candidates,
        "audit": None if audit is None else [audit.lost_count, audit.probe_count],
    }


def _lone(gallery: OpenGallery, probes: Vectors) -> dict[str, float]:
    """One query at a time: the bare scan on one core, the engine, the gallery; in turns."""
    engine = gallery._engine
    index = engine._builder.index
    assert index is not None
    rescored = engine.stats().rescored_candidates

    def bare(count: int, probe: Vectors) -> None:
        faiss.omp_set_num_threads(1)
        rotated = index.codec.rotate(probe[None, :])
        for segment in index.segments:
            segment._index.search(rotated, count)

    ways: dict[str, Callable[[Vectors], object]] = {
        "bare scan for 10": lambda probe: bare(10, probe),
        f"bare scan for {rescored}": lambda probe: bare(rescored, probe),
        "engine": lambda probe: engine.search(SearchRequest(probe, 10)),
        "gallery": lambda probe: gallery.identify(probe, SearchOptions()),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(2):
        for probe in probes:
            for name, way in ways.items():
                seconds = _timed(way, probe)
                # The first turn brings the vectors into memory.
                if turn:
                    times[name].append(seconds)
    return {f"{name}, p50 ms": 1000 * float(np.median(own)) for name, own in times.items()}


def _filtered(gallery: OpenGallery, probes: Vectors) -> dict[str, float]:
    """Cost of a filter beside no filter, in turns; every answer is compared with exact search."""
    result = {}
    for label, each in SHARES.items():
        options = SearchOptions(filter=f"labels.{label}=yes")
        plain, filtered = [], []
        for turn in range(2):
            for probe in probes:
                one = _timed(gallery.identify, probe, SearchOptions())
                two = _timed(gallery.identify, probe, options)
                if turn:
                    plain.append(one)
                    filtered.append(two)
        agreed = 0
        checked = probes[:10]
        exact = SearchOptions(filter=options.filter, exact=True, top_k=1)
        for probe in checked:
            best = gallery.identify(probe, options).candidates[0].identity.id
            agreed += best == gallery.identify(probe, exact).candidates[0].identity.id
        result[f"one in {each}, times the unfiltered"] = float(np.median(filtered)) / float(
            np.median(plain)
        )
        result[f"one in {each}, first as by exact search, of {len(checked)}"] = agreed
    return result


def _throughput(
    gallery: OpenGallery, probes: Vectors, clients: int, seconds: float
) -> dict[str, float]:
    """Searches per second of so many threads, and the processor time that they took."""
    counts = [0] * clients
    end = time.perf_counter() + seconds

    def client(number: int) -> None:
        place = number
        while time.perf_counter() < end:
            gallery.identify(probes[place % len(probes)], SearchOptions())
            counts[number] += 1
            place += clients

    used = time.process_time()
    started = time.perf_counter()
    _together([partial(client, number) for number in range(clients)])
    elapsed = time.perf_counter() - started
    return {
        "per second": sum(counts) / elapsed,
        "cores used": (time.process_time() - used) / elapsed,
    }


def _growth(gallery: OpenGallery, probes: Vectors, added: int) -> dict[str, float]:
    """Latency of 8 clients, first undisturbed and then while faces are enrolled."""
    random = np.random.default_rng(3)
    done = threading.Event()

    def enroll(lane: int, lanes: int) -> None:
        for number in range(lane, added, lanes):
            vector = random.standard_normal(gallery.model.dimension, dtype=np.float32)
            name = f"new{number}"
            digest = np.uint64(number).tobytes().ljust(32, b"\1")
            gallery.enroll(NewFace(name, vector, digest, new_identity=NewIdentity()))

    def search(until: Callable[[], bool], times: list[float], number: int) -> None:
        place = number
        while not until():
            probe = probes[place % len(probes)]
            times.append(_timed(gallery.identify, probe, SearchOptions()))
            place += 8

    calm: list[float] = []
    end = time.perf_counter() + 10
    _together([partial(search, lambda: time.perf_counter() > end, calm, n) for n in range(8)])
    busy: list[float] = []
    searching = [
        threading.Thread(target=search, args=(done.is_set, busy, number)) for number in range(8)
    ]
    for thread in searching:
        thread.start()
    started = time.perf_counter()
    _together([partial(enroll, lane, 16) for lane in range(16)])
    seconds = time.perf_counter() - started
    done.set()
    for thread in searching:
        thread.join()
    return {
        "enrolled per second": added / seconds,
        "calm p99 ms": 1000 * float(np.percentile(calm, 99)),
        "growing p50 ms": 1000 * float(np.median(busy)),
        "growing p99 ms": 1000 * float(np.percentile(busy, 99)),
        "growing longest ms": 1000 * max(busy),
    }


def _together(tasks: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _timed(task: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    task(*arguments)
    return time.perf_counter() - started


def _print(figures: dict[str, Any]) -> None:
    table = Table(title=f"{figures['rows']:,} x {figures['dimension']}", show_header=False)
    for name, value in figures.items():
        if isinstance(value, dict):
            table.add_section()
            for key, number in value.items():
                shown = f"{number:,.3f}" if isinstance(number, float) else str(number)
                table.add_row(name, str(key), shown)
    console.print(table)


def main() -> None:
    arguments = parse_arguments()
    {"write": write, "measure": measure}[arguments.step](arguments)


if __name__ == "__main__":
    main()
