"""Identification and verification on Labelled Faces in the Wild, through a running server.

    python benchmarks/lfw.py FOLDER [--address HOST:PORT]

FOLDER holds `images/{person}/{person}_{number}.jpg`, and `pairsDevTest.txt` in the format of
the LFW site. One image of each person with two or more is enrolled (the first), the others are
identified; each pair is verified. Prints the rank-1 rate, the verification accuracy at the best
threshold, and the number of images in which no face was found.

Huang, Ramesh, Berg, Learned-Miller (2007), "Labeled Faces in the Wild"; Huang, Mattar, Lee,
Learned-Miller (2012), "Learning to align from scratch".
"""

import argparse
import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from common import running_server, write_results
from rich.console import Console
from rich.progress import track
from rich.table import Table

import visagedb

GALLERY = "lfw"
CONCURRENCY = 8
FACE = visagedb.FaceSelection.CENTRAL
"""The person of an LFW image is the one in its middle."""

Item = TypeVar("Item")
Answer = TypeVar("Answer")
console = Console()


@dataclass(frozen=True, slots=True)
class Probe:
    person: str
    path: Path


@dataclass(frozen=True, slots=True)
class Pair:
    one: Path
    other: Path
    same: bool


def people_with_several(images: Path) -> dict[str, list[Path]]:
    people = {folder.name: sorted(folder.glob("*.jpg")) for folder in sorted(images.iterdir())}
    return {person: paths for person, paths in people.items() if len(paths) > 1}


def read_pairs(folder: Path) -> list[Pair]:
    def path(person: str, number: str) -> Path:
        return folder / "images" / person / f"{person}_{int(number):04d}.jpg"

    pairs = []
    for line in (folder / "pairsDevTest.txt").read_text().splitlines()[1:]:
        fields = line.split()
        if len(fields) == 3:
            pairs.append(Pair(path(fields[0], fields[1]), path(fields[0], fields[2]), True))
        else:
            pairs.append(Pair(path(fields[0], fields[1]), path(fields[2], fields[3]), False))
    return pairs


def in_parallel(
    work: Callable[[Item], Answer], items: list[Item], title: str
) -> Iterable[tuple[Item, Answer]]:
    with ThreadPoolExecutor(CONCURRENCY) as threads:
        answers = threads.map(work, items)
        yield from zip(items, track(answers, title, len(items), console=console), strict=True)


def identification(client: visagedb.Client, images: Path) -> dict[str, float]:
    people = people_with_several(images)
    client.create_gallery(GALLERY)
    items = [
        visagedb.EnrollItem(person, image=paths[0], source=paths[0].name)
        for person, paths in people.items()
    ]
    results = list(client.enroll_many(GALLERY, items, face_selection=FACE))
    failed = [result for result in results if not result.ok]
    probes = [Probe(person, path) for person, paths in people.items() for path in paths[1:]]

    def rank(probe: Probe) -> int | None:
        """Of the mate, 1 being first; 0 when it is not among the ten; None without a face."""
        try:
            found = client.identify(GALLERY, image=probe.path, top_k=10, face_selection=FACE)
        except visagedb.NoFaceError:
            return None
        ids = [candidate.id for candidate in found.identifications[0].candidates]
        return ids.index(probe.person) + 1 if probe.person in ids else 0

    ranks = [answer for _, answer in in_parallel(rank, probes, "identify")]
    found = [answer for answer in ranks if answer is not None]
    return {
        "enrolled_people": len(items) - len(failed),
        "probes": len(probes),
        "no_face": len(failed) + len(ranks) - len(found),
        # A probe without a face counts as missed.
        "rank_1": sum(answer == 1 for answer in found) / len(probes),
        "rank_10": sum(answer >= 1 for answer in found) / len(probes),
    }


def verification(client: visagedb.Client, folder: Path) -> dict[str, float]:
    pairs = read_pairs(folder)

    def score(pair: Pair) -> float | None:
        with contextlib.suppress(visagedb.NoFaceError):
            return client.verify(pair.one, pair.other, gallery=GALLERY, face_selection=FACE).score
        return None

    answers = list(in_parallel(score, pairs, "verify"))
    scores = np.array([-1.0 if answer is None else answer for _, answer in answers])
    same = np.array([pair.same for pair, _ in answers])
    thresholds = np.unique(scores)
    accuracies = [float(np.mean((scores >= threshold) == same)) for threshold in thresholds]
    best = int(np.argmax(accuracies))
    return {
        "pairs": len(pairs),
        "pairs_without_face": sum(answer is None for _, answer in answers),
        "accuracy": accuracies[best],
        "threshold": float(thresholds[best]),
    }


@contextlib.contextmanager
def connection(address: str | None) -> Iterator[str]:
    """The given server, or one started for the time of the block."""
    if address is not None:
        yield address
    else:
        with running_server() as started:
            yield started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--address", help="a running server; by default one is started")
    arguments = parser.parse_args()
    with connection(arguments.address) as address, visagedb.Client(address, timeout=120) as client:
        figures = {
            **identification(client, arguments.folder / "images"),
            **verification(client, arguments.folder),
        }
    table = Table("figure", "value", title="LFW development test, through the server")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else str(value))
    console.print(table)
    console.print(f"written to {write_results('lfw', figures)}")


if __name__ == "__main__":
    main()
