"""Images per second: the server against the bare pipeline on the same cores, side by side.

    python benchmarks/embedding_rate.py FOLDER [--images 240] [--rounds 3] [--workers 2]

The bare pipeline runs in as many processes as the server has workers, each with one thread,
and is given the images in the server's batches; both embed the central face. Rounds alternate,
so that a machine whose speed drifts treats both alike; medians and their ratio are printed, how
much of the processor each uses and who uses it, and where the time of an image goes.
"""

import argparse
import contextlib
import os
import random
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from common import running_server, write_results
from rich.console import Console
from rich.table import Table

import visagedb
from visagedb_indexer import limits
from visagedb_indexer.choice import Choice
from visagedb_indexer.faces.pipeline import FacePipeline, load_pipeline
from visagedb_indexer.faces.registry import ModelRegistry

SEED = 5
TICKS = os.sysconf("SC_CLK_TCK")
console = Console()
_pipeline: FacePipeline
_flip: bool


def load(precision: str, flip: bool) -> None:
    global _pipeline, _flip
    import torch

    torch.set_num_threads(1)
    _pipeline = load_pipeline(ModelRegistry(), "sface", precision=precision)
    _flip = flip


def extract(batch: list[Path]) -> None:
    images = [path.read_bytes() for path in batch]
    _pipeline.extract(images, flip=_flip, choice=Choice.CENTRAL)


def batches(photos: list[Path]) -> list[list[Path]]:
    size = limits.WORKER_BATCH_IMAGES_MAX
    return [photos[start : start + size] for start in range(0, len(photos), size)]


@dataclass(frozen=True, slots=True)
class Round:
    """One round: images per second, and cores used by whom on average."""

    rate: float
    cores: dict[str, float]


def cpu_seconds() -> dict[str, float]:
    """Processor seconds spent so far by this program, its children, and theirs."""
    spent: dict[int, float] = {}
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(fields[1])
                spent[int(folder.name)] = (int(fields[11]) + int(fields[12])) / TICKS
    me = os.getpid()
    children = {pid for pid, parent in parents.items() if parent == me}
    workers = {pid for pid, parent in parents.items() if parent in children}
    return {
        "client": spent[me],
        "children": sum(spent[pid] for pid in children),
        "workers": sum(spent[pid] for pid in workers),
    }


def timed(work: Callable[[], None], images: int) -> Round:
    before, started = cpu_seconds(), time.perf_counter()
    work()
    seconds, after = time.perf_counter() - started, cpu_seconds()
    return Round(images / seconds, {who: (after[who] - before[who]) / seconds for who in after})


def bare_round(processes: ProcessPoolExecutor, photos: list[Path]) -> Round:
    def work() -> None:
        list(processes.map(extract, batches(photos)))

    return timed(work, len(photos))


def server_round(client: visagedb.Client, photos: list[Path], number: int, flip: bool) -> Round:
    gallery = f"round-{number}"
    client.create_gallery(gallery, flip_averaging=flip)
    items = [
        visagedb.EnrollItem(f"{photo.parent.name}-{photo.stem}", image=photo) for photo in photos
    ]

    def work() -> None:
        results = client.enroll_many(gallery, items, face_selection="central")
        failed = [result for result in results if not result.ok]
        if failed:
            console.print(f"{len(failed)} images were refused, the first: {failed[0].error}")

    return timed(work, len(photos))


def stage_costs(precision: str, flip: bool, photos: list[Path]) -> dict[str, float]:
    """Milliseconds per image and stage, one process with one thread."""
    load(precision, flip)
    extract(photos[: limits.WORKER_BATCH_IMAGES_MAX])
    before = dict(_pipeline.stage_seconds)
    for batch in batches(photos):
        extract(batch)
    after = _pipeline.stage_seconds
    return {stage: 1000 * (after[stage] - before.get(stage, 0.0)) / len(photos) for stage in after}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="a folder tree of photographs")
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--precision", default="float32")
    parser.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="average with the mirror image, as galleries do unless told otherwise",
    )
    arguments = parser.parse_args()

    photos = sorted(arguments.folder.rglob("*.jpg"))
    photos = random.Random(SEED).sample(photos, min(arguments.images, len(photos)))
    stages = stage_costs(arguments.precision, arguments.flip, photos[:96])
    bare: list[Round] = []
    server: list[Round] = []
    options = ("--workers", str(arguments.workers), "--precision", arguments.precision)
    pool = ProcessPoolExecutor(
        arguments.workers,
        get_context("spawn"),
        initializer=load,
        initargs=(arguments.precision, arguments.flip),
    )
    with running_server(*options) as address, visagedb.Client(address) as client, pool as processes:
        bare_round(processes, photos[:32])
        server_round(client, photos[:32], -1, arguments.flip)
        for number in range(arguments.rounds):
            bare.append(bare_round(processes, photos))
            server.append(server_round(client, photos, number, arguments.flip))
    ratio = statistics.median(s.rate / b.rate for s, b in zip(server, bare, strict=True))
    table = Table("", "images/s, median", "rounds", "CPU use", "of these")
    table.title = f"{len(photos)} images a round"
    names = {"bare": "bare pipeline", "server": "server"}
    words = {
        "bare": {"children": "processes"},
        "server": {"workers": "workers", "children": "server", "client": "client"},
    }
    cpu: dict[str, dict[str, float]] = {}
    for name, rounds in (("bare", bare), ("server", server)):
        rates = "  ".join(f"{one.rate:.1f}" for one in rounds)
        used = {
            word: statistics.median(one.cores[who] for one in rounds)
            for who, word in words[name].items()
        }
        cpu[name] = {"all": sum(used.values()), **used}
        parts = ", ".join(f"{who} {cores:.0%}" for who, cores in used.items())
        median = statistics.median(one.rate for one in rounds)
        table.add_row(names[name], f"{median:.1f}", rates, f"{cpu[name]['all']:.0%}", parts)
    table.caption = f"server / bare: {ratio:.3f} (median of the rounds)"
    console.print(table)
    costs = Table("stage", "ms per image", title="One process, one thread")
    for stage, milliseconds in stages.items():
        costs.add_row(stage, f"{milliseconds:.2f}")
    console.print(costs)
    figures = {
        "bare_images_per_second": [one.rate for one in bare],
        "server_images_per_second": [one.rate for one in server],
        "cores_used": cpu,
        "ratio": ratio,
        "stage_ms": stages,
        "workers": arguments.workers,
        "precision": arguments.precision,
        "flip": arguments.flip,
    }
    console.print(f"written to {write_results('embedding_rate', figures)}")


if __name__ == "__main__":
    main()
