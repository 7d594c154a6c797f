"""How fast and how exact the faces room is on this machine.

    python benchmarks/faces.py --images lfw-devtest/images

Prints embeddings per second by precision and batch, milliseconds per stage of the pipeline,
agreement with OpenCV where it is installed, and false match rates. The figures are written to
``benchmarks/results/faces.json``. One thread, as in an embedding worker.
"""

import argparse
import dataclasses
import functools
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import write_results
from rich.console import Console
from rich.table import Table

from visagedb_indexer.faces.align import align, landmark_points
from visagedb_indexer.faces.cards import PRECISIONS, ModelCard
from visagedb_indexer.faces.decode import Pixels, decode
from visagedb_indexer.faces.detect import Detector
from visagedb_indexer.faces.embed import Embedder
from visagedb_indexer.faces.networks import load_network
from visagedb_indexer.faces.pipeline import load_pipeline
from visagedb_indexer.faces.registry import ModelRegistry
from visagedb_indexer.values import STAGES

BATCHES = (1, 2, 4, 8, 16)
SECONDS = 1.0


def per_second(work: Callable[[], object], amount: int) -> float:
    """Repeats the work for a second, after a warm-up."""
    for _ in range(2):
        work()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        work()
        count += 1
    return amount * count / (time.perf_counter() - start)


def embedding_rates(card: ModelCard) -> dict[str, dict[str, float]]:
    """Crops per second of the bare network, by precision and batch."""
    rates: dict[str, dict[str, float]] = {}
    for precision in PRECISIONS:
        network = load_network(card, precision)
        rates[precision] = {}
        for batch in BATCHES:
            crops = torch.rand(batch, card.input.height, card.input.width, 3) * 255
            x = crops.permute(0, 3, 1, 2).to(getattr(torch, precision))
            with torch.inference_mode():
                work = functools.partial(network, x)
                rates[precision][str(batch)] = per_second(work, batch)
    return rates


def stage_milliseconds(registry: ModelRegistry, model: str, files: list[bytes]) -> dict[str, float]:
    """Milliseconds per image and stage, batches of eight."""
    pipeline = load_pipeline(registry, model)
    pipeline.extract(files[:8])
    before = dict(pipeline.stage_seconds)
    for start in range(0, len(files), 8):
        pipeline.extract(files[start : start + 8])
    spent = pipeline.stage_seconds
    return {stage: (spent[stage] - before[stage]) * 1000 / len(files) for stage in STAGES}


def opencv_agreement(registry: ModelRegistry, images: list[Pixels]) -> dict[str, float]:
    """Cosine to OpenCV's detector, alignment and embedder on the same files; empty without it."""
    try:
        import cv2
    except ImportError:
        return {}
    yunet, sface = registry.get("yunet"), registry.get("sface")
    theirs_detector = cv2.FaceDetectorYN.create(str(yunet.weights.path), "", (250, 250), 0.6, 0.3)
    theirs = cv2.FaceRecognizerSF.create(str(sface.weights.path), "")
    detector, embedder = Detector(yunet), Embedder(dataclasses.replace(sface, centre=None))
    cosines, points, missed = [], [], 0
    for pixels in images:
        image = np.ascontiguousarray(pixels[:, :, ::-1])
        theirs_detector.setInputSize((image.shape[1], image.shape[0]))
        rows = theirs_detector.detect(image)[1]
        faces = detector.detect([pixels])[0]
        if rows is None or not faces:
            missed += (rows is None) != (not faces)
            continue
        row = max(rows, key=lambda row: row[2] * row[3])
        feature = theirs.feature(theirs.alignCrop(image, row))[0]
        crop = align(pixels, faces[0].landmarks, sface.template)
        ours = embedder.embed(crop[None])[0]
        cosines.append(float(ours @ feature) / float(np.linalg.norm(feature)))
        moved = landmark_points(faces[0].landmarks).ravel() - row[4:14]
        points.append(float(np.abs(moved).max()))
    return {
        "images": len(images),
        "found by one only": missed,
        "cosine, least": min(cosines),
        "cosine, mean": float(np.mean(cosines)),
        "points, largest difference in pixels": max(points),
    }


def show(console: Console, title: str, columns: list[str], rows: list[list[Any]]) -> None:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(f"{v:,.4g}" if isinstance(v, float) else str(v) for v in row))
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=Path, required=True, help="one folder per person")
    parser.add_argument("--count", type=int, default=200, help="photographs to measure on")
    parser.add_argument("--model", default="sface")
    parser.add_argument("--card", type=Path, action="append", default=[], help="further cards")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    registry = ModelRegistry(arguments.card)
    card = registry.get(arguments.model)
    paths = sorted(arguments.images.glob("*/*.jpg"))
    chosen = random.Random(arguments.seed).sample(paths, min(arguments.count, len(paths)))
    files = [path.read_bytes() for path in chosen]

    rates = embedding_rates(card)
    stages = stage_milliseconds(registry, arguments.model, files)
    agreement = opencv_agreement(registry, [decode(content) for content in files])
    measured = card.thresholds.false_match_rates if card.thresholds else {}

    console = Console()
    columns = ["precision", *(f"batch {batch}" for batch in BATCHES)]
    rows = [[name, *by_batch.values()] for name, by_batch in rates.items()]
    show(console, f"{card.name}: crops per second, one thread", columns, rows)
    total = sum(stages.values())
    columns = [*stages, "all", "images/s"]
    show(console, "milliseconds per image", columns, [[*stages.values(), total, 1000 / total]])
    if agreement:
        show(console, "agreement with OpenCV", list(agreement), [list(agreement.values())])
    if measured:
        columns = ["false match rate", *(f"{rate:g}" for rate in measured)]
        show(console, "the card's thresholds", columns, [["similarity", *measured.values()]])
    figures = {
        "torch": torch.__version__,
        "model": dataclasses.asdict(card.identity()),
        "seed": arguments.seed,
        "crops_per_second": rates,
        "stage_ms": stages,
        "opencv": agreement,
        "false_match_rates": {f"{rate:g}": score for rate, score in measured.items()},
    }
    console.print(f"written to {write_results('faces', figures)}")


if __name__ == "__main__":
    main()
