"""Images per second: the server against the bare pipeline on the same cores, side by side.

    python benchmarks/embedding_rate.py FOLDER [--images 240] [--rounds 3] [--workers 2]

The bare pipeline runs in as many processes as the server has workers, each with one thread,
and is given the images in the server's batches; both embed the central face. Rounds alternate,
so that a machine whose speed drifts treats both alike; medians and their ratio are printed, and
where the time of an image goes.
"""

import argparse
import random
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
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


def bare_round(processes: ProcessPoolExecutor, photos: list[Path]) -> float:
    started = time.perf_counter()
    list(processes.map(extract, batches(photos)))
    return len(photos) / (time.perf_counter() - started)


def server_round(client: visagedb.Client, photos: list[Path], number: int, flip: bool) -> float:
    gallery = f"round-{number}"
    client.create_gallery(gallery, flip_averaging=flip)
    items = [
        visagedb.EnrollItem(f"{photo.parent.name}-{photo.stem}", image=photo) for photo in photos
    ]
    started = time.perf_counter()
    results = list(client.enroll_many(gallery, items, face_selection="central"))
    seconds = time.perf_counter() - started
    failed = [result for result in results if not result.ok]
    if failed:
        console.print(f"{len(failed)} images were refused, the first: {failed[0].error}")
    return len(photos) / seconds


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
    bare: list[float] = []
    server: list[float] = []
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
    ratio = statistics.median(s / b for s, b in zip(server, bare, strict=True))
    table = Table("", "images/s, median", "rounds", title=f"{len(photos)} images a round")
    for name, rates in (("bare pipeline", bare), ("server", server)):
        rounds = "  ".join(f"{rate:.1f}" for rate in rates)
        table.add_row(name, f"{statistics.median(rates):.1f}", rounds)
    table.caption = f"server / bare: {ratio:.3f} (median of the rounds)"
    console.print(table)
    costs = Table("stage", "ms per image", title="One process, one thread")
    for stage, milliseconds in stages.items():
        costs.add_row(stage, f"{milliseconds:.2f}")
    console.print(costs)
    figures = {
        "bare_images_per_second": bare,
        "server_images_per_second": server,
        "ratio": ratio,
        "stage_ms": stages,
        "workers": arguments.workers,
        "precision": arguments.precision,
        "flip": arguments.flip,
    }
    console.print(f"written to {write_results('embedding_rate', figures)}")


if __name__ == "__main__":
    main()
