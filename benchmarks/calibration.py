"""Do calibrated thresholds keep their promise, and what does a calibration cost?

    python benchmarks/calibration.py embed FOLDER FILE.npz
    python benchmarks/calibration.py splits FILE.npz [--splits 40]
    python benchmarks/calibration.py growth FILE.npz [--people 1000000]
    python benchmarks/calibration.py cost [--people 1000000]

FOLDER holds `{person}/{image}.jpg`, for example the images of LFW's development-test list.

`splits`: the people are divided at random into two halves. One is the gallery and calibrated,
the other are strangers. Their realised rates at the calibrated thresholds are compared with the
stated intervals. A stated interval is one of the true rate, over all strangers there could be;
some hundred strangers realise it only by chance. So two shares are printed: how often the
realised rate lies in the interval itself, and how often it lies in what the interval and the
chance of the test together allow, which is to be 95%. The chance of the test: events come in
clumps (the faces of one stranger; somebody whom many resemble), whose size is measured in the
test itself, and clumps are Poisson.

`growth`: one half is the gallery, and synthetic people are added, up to a million: normal in the
coordinates of the real embeddings, with their mean and covariance, brought to unit length.
Strangers of both kinds are searched. The gallery is calibrated anew at every size; besides, the
calibration at the size before, about a tenth, is extrapolated to it.

`cost`: a gallery of one synthetic face per person, on disk; searches alone and beside a
calibration, in turns in one run.
"""

import argparse
import contextlib
import math
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import running_server, write_results
from galleries import Gallery, Spectrum, Vectors
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

import visagedb
from visagedb_indexer.calibration import Estimate, Faces, OperatingPoint, estimate
from visagedb_indexer.calibration.values import rate_per_identity

FALSE_POSITIVE, FALSE_MATCH = (0.1, 0.03, 0.01), (1e-3, 1e-4, 1e-5)
SAME_PERSON = frozenset(
    {
        ("Flor_Montulo", "Nora_Bendijo"),
        ("Harold_Scott", "Jeff_Roehm"),
        ("Mireya_Elisa_Moscoso_Rodriguez", "Mireya_Moscoso"),
        ("Ruano_Pascual", "Virgina_Ruano_Pascal"),
        ("Tamara_Mowry", "Tia_Mowry"),
    }
)
"""Pairs of names in LFW's development-test list over 0.51: two are one person written in two
ways, two look like wrong labels, and one are twins. Rates are printed with and without them."""
console = Console()
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class InMemory:
    """Vectors in an array, as the calibration reads them."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors

    @contextlib.contextmanager
    def read(self) -> Iterator["InMemory"]:
        yield self

    def vectors(self, ordinals: Ints) -> Vectors:
        return self._vectors[ordinals]


@dataclass(frozen=True, slots=True, eq=False)
class People:
    """Embeddings and whose they are, by dense numbers."""

    vectors: Vectors
    owners: Ints
    names: NDArray[np.str_]

    @classmethod
    def load(cls, path: Path) -> "People":
        with np.load(path) as arrays:
            names, owners = np.unique(arrays["names"], return_inverse=True)
            return cls(arrays["vectors"], owners.astype(np.int64), names)

    def of(self, chosen: Ints) -> "People":
        kept = np.isin(self.owners, chosen)
        names, owners = np.unique(self.owners[kept], return_inverse=True)
        return People(self.vectors[kept], owners.astype(np.int64), self.names[names])

    def __len__(self) -> int:
        return len(self.names)

    def calibrated(self, seed: int) -> Estimate:
        faces = Faces.of(np.arange(len(self.vectors)), self.owners)
        return estimate(InMemory(self.vectors), faces, seed, lambda: None)


@dataclass(frozen=True, slots=True)
class Realised:
    """What happened: events, how many make one clump, and how many there could be."""

    events: float
    clump: float
    trials: float

    @property
    def rate(self) -> float:
        return self.events / self.trials

    def allowed(self, point: OperatingPoint, random: np.random.Generator) -> bool:
        """Whether the interval and the chance of the test together allow this."""
        z = random.standard_normal(4000)
        low = math.log(point.rate / max(point.rate_lower, 1e-12))
        high = math.log(point.rate_upper / point.rate)
        rates = point.rate * np.exp(np.choose(z > 0, (low, high)) / 1.96 * z)
        events = random.poisson(self.trials * rates / self.clump) * self.clump
        lower, upper = np.quantile(events, (0.025, 0.975))
        return bool(lower - 1e-9 <= self.events <= upper + 1e-9)


def excluded(one: People, other: People) -> NDArray[np.bool_]:
    """Pairs of faces whose names are in `SAME_PERSON`: shape (faces of one, of other)."""
    mask = np.zeros((len(one.vectors), len(other.vectors)), np.bool_)
    for pair in SAME_PERSON:
        for first, second in (pair, pair[::-1]):
            mask |= np.outer(one.names[one.owners] == first, other.names[other.owners] == second)
    return mask


def searched(
    gallery: People, strangers: People, threshold: float, out: NDArray[np.bool_]
) -> Realised:
    """False positive identifications; each stranger counts once, spread over her faces."""
    scores = strangers.vectors @ gallery.vectors.T
    scores[out] = -1.0
    hits = scores.max(axis=1) >= threshold
    each = np.bincount(strangers.owners, hits) / np.bincount(strangers.owners)
    events = float(each.sum())
    return Realised(events, float(each @ each) / events if events else 0.5, len(strangers))


def matched(strangers: People, threshold: float, out: NDArray[np.bool_]) -> Realised:
    """False matches among pairs of strangers; each pair of people counts once."""
    scores = strangers.vectors @ strangers.vectors.T
    scores[out] = -1.0
    scores[strangers.owners[:, None] >= strangers.owners[None]] = -1.0
    rows, columns = np.nonzero(scores >= threshold)
    weights = 1.0 / np.bincount(strangers.owners)
    first, second = strangers.owners[rows], strangers.owners[columns]
    events = weights[first] * weights[second]
    people = len(strangers)
    keys, index = np.unique(first * people + second, return_inverse=True)
    pairs = np.bincount(index, events)
    persons = np.bincount(keys // people, pairs, people)
    persons += np.bincount(keys % people, pairs, people)
    total = float(events.sum())
    variance = max(float(persons @ persons - pairs @ pairs), float(pairs @ pairs))
    trials = people * (people - 1) / 2
    return Realised(total, variance / total if total else 0.5, trials)


def chosen(points: tuple[OperatingPoint, ...], rates: tuple[float, ...]) -> list[OperatingPoint]:
    return [next(point for point in points if point.rate == rate) for rate in rates]


def splits(people: People, count: int) -> list[dict[str, Any]]:
    """Random halves: the realised rates of one at the thresholds of the other."""
    random = np.random.default_rng(1)
    seen: dict[tuple[str, float, bool], list[tuple[float, bool, bool, float]]] = {}
    for seed in range(count):
        order = np.random.default_rng(seed).permutation(len(people))
        gallery = people.of(order[: len(order) // 2])
        strangers = people.of(order[len(order) // 2 :])
        found = gallery.calibrated(seed)
        masks = excluded(strangers, gallery), excluded(strangers, strangers)
        for clean in (False, True):
            across, within = (mask & clean for mask in masks)
            outcomes = [
                ("FPIR", point, searched(gallery, strangers, point.threshold, across))
                for point in chosen(found.false_positive, FALSE_POSITIVE)
            ] + [
                ("FMR", point, matched(strangers, point.threshold, within))
                for point in chosen(found.false_match, FALSE_MATCH)
            ]
            for kind, point, real in outcomes:
                inside = point.rate_lower <= real.rate <= point.rate_upper
                seen.setdefault((kind, point.rate, clean), []).append(
                    (real.rate / point.rate, inside, real.allowed(point, random), point.threshold)
                )
    rows = []
    for (kind, rate, clean), values in seen.items():
        ratios, insides, alloweds, thresholds = np.array(values, float).T
        rows.append(
            {
                "kind": kind, "rate": rate, "label_errors": not clean,
                "threshold": thresholds.mean(), "realised_mean": rate * ratios.mean(),
                "inside": insides.mean(), "inside_with_test": alloweds.mean(), "splits": count,
            }
        )  # fmt: skip
    return rows


def synthetic(people: People, count: int, seed: int) -> Vectors:
    """People with the mean and covariance of the real ones, a face each, in blocks."""
    weights = 1.0 / np.bincount(people.owners)[people.owners]
    mean = np.average(people.vectors, axis=0, weights=weights).astype(np.float32)
    axes, spread, _ = np.linalg.svd(np.cov(people.vectors.T, aweights=weights))
    root = (axes * np.sqrt(spread)).T.astype(np.float32)
    random = np.random.default_rng(seed)
    vectors = np.empty((count, len(mean)), np.float32)
    for start in range(0, count, 65_536):
        block = vectors[start : start + 65_536]
        random.standard_normal(out=block, dtype=np.float32)
        block[:] = block @ root + mean
        block /= np.linalg.norm(block, axis=1, keepdims=True)
    return vectors


def best_scores(probes: Vectors, gallery: Vectors) -> Floats:
    best = np.full(len(probes), -1.0, np.float32)
    for start in range(0, len(gallery), 8192):
        np.maximum(best, (probes @ gallery[start : start + 8192].T).max(axis=1), out=best)
    return best.astype(np.float64)


def growth(people: People, most: int) -> list[dict[str, Any]]:
    """A gallery that grows by synthetic people: realised FPIR at every size."""
    order = np.random.default_rng(0).permutation(len(people))
    gallery, strangers = (people.of(half) for half in np.array_split(order, 2))
    _, first_faces = np.unique(strangers.owners, return_index=True)
    probes = {
        "real": strangers.vectors[first_faces],
        "synthetic": synthetic(people, 8192, seed=2),
    }
    added = synthetic(people, most, seed=1)
    before = gallery.calibrated(0)
    best = {kind: best_scores(vectors, gallery.vectors) for kind, vectors in probes.items()}
    rows, done = [], 0
    sizes = [0, *(size for size in (9_000, 99_000) if size < most), most]
    for size in sizes:
        for kind, vectors in probes.items():
            more = best_scores(vectors, added[done:size])
            best[kind] = np.maximum(best[kind], more)
        done = size
        total = len(gallery) + size
        grown = People(
            np.concatenate([gallery.vectors, added[:size]]),
            np.concatenate([gallery.owners, len(gallery) + np.arange(size)]),
            np.array([""] * total),
        )
        started = time.perf_counter()
        found = before if size == 0 else grown.calibrated(1)
        seconds = time.perf_counter() - started
        for point in chosen(found.false_positive, FALSE_POSITIVE):
            unit = rate_per_identity(point.rate, total, before.clumping)
            rows.append(
                {
                    "people": total, "rate": point.rate, "threshold": point.threshold,
                    "lower": point.rate_lower, "upper": point.rate_upper,
                    "extrapolated_threshold": before.searches.score(unit), "seconds": seconds,
                    **{
                        f"{kind}{how}": float(np.mean(best[kind] >= threshold))
                        for kind in best
                        for how, threshold in (
                            ("", point.threshold),
                            ("_extrapolated", before.searches.score(unit)),
                        )
                    },
                }
            )  # fmt: skip
        before = found
    return rows


def cost(people: int, seconds: float) -> dict[str, float]:
    """Searches of a stored gallery, alone and beside a calibration."""
    from search.ours_data import GALLERY, gallery_folder

    from visagedb_indexer.database import Database
    from visagedb_indexer.gallery_values import SearchOptions
    from visagedb_indexer.store import FaceRecord, GalleryRecord, GalleryStore, IdentityRecord
    from visagedb_indexer.values import ModelIdentity

    source = Gallery(Spectrum.load("sface_128"), rows=people, seed=1)
    with tempfile.TemporaryDirectory(dir=None) as folder:
        path = Path(folder)
        database = Database(path)
        model = ModelIdentity("benchmark", "1", source.dimension)
        database.create_gallery(GalleryRecord(GALLERY, "", model, 0, 0))
        database.close()
        store = GalleryStore(gallery_folder(path))
        for start, vectors in source.blocks(8192):
            with store.write() as txn:
                for ordinal, vector in enumerate(vectors, start):
                    name = f"p{ordinal}"
                    identity = txn.add_identity(IdentityRecord(name, name, -1, 0, 0))
                    digest = np.uint64(ordinal).tobytes().ljust(32, b"\0")
                    txn.add_face(identity, FaceRecord(name, -1, digest, 0), vector)
        store.close()
        database = Database(path)
        gallery = database.gallery(GALLERY)
        assert gallery.wait_until_settled(3600)
        # It calibrates itself once, and then no more, because it does not grow.
        while gallery.calibrations.latest is None:
            time.sleep(0.1)
        probes = source.mates(np.arange(256), 0.5)

        def search(number: int) -> float:
            started = time.perf_counter()
            gallery.identify(probes[number % len(probes)], SearchOptions())
            return time.perf_counter() - started

        for number in range(200):
            search(number)
        alone: list[float] = []
        beside: list[float] = []
        taken = []
        for _ in range(2):
            began = time.perf_counter()
            while time.perf_counter() - began < seconds:
                alone.append(search(len(alone)))
            work = threading.Thread(target=gallery.calibrations.calibrate, args=(lambda *_: None,))
            work.start()
            while work.is_alive():
                beside.append(search(len(beside)))
            latest = gallery.calibrations.latest
            assert latest is not None
            taken.append(latest.seconds)
        gallery.calibrations.calibrate(lambda *_: None)
        latest = gallery.calibrations.latest
        assert latest is not None
        database.close()
    figures = {"people": people, "calibration_seconds_idle": latest.seconds,
               "calibration_seconds_under_searches": float(np.mean(taken))}  # fmt: skip
    for name, values in (("alone", alone), ("beside", beside)):
        for quantile in (50, 95, 99):
            figures[f"{name}_p{quantile}_ms"] = 1000 * float(np.percentile(values, quantile))
        figures[f"{name}_max_ms"] = 1000 * max(values)
        figures[f"{name}_searches"] = len(values)
    return figures


def embed(folder: Path, out: Path) -> None:
    """Embeds the central face of every image, through a running server."""
    images = sorted(folder.glob("*/*.jpg"))

    def vector(client: visagedb.Client, path: Path) -> Any:
        with contextlib.suppress(visagedb.NoFaceError):
            faces = client.embed(path, face_selection=visagedb.FaceSelection.CENTRAL).faces
            return faces[0].template.vector if faces else None
        return None

    with (
        running_server() as address,
        visagedb.Client(address, timeout=120) as client,
        ThreadPoolExecutor(8) as threads,
    ):
        found = list(threads.map(lambda path: vector(client, path), images))
    kept = [(v, path.parent.name) for v, path in zip(found, images, strict=True) if v is not None]
    np.savez(out, vectors=np.array([v for v, _ in kept]), names=np.array([n for _, n in kept]))
    console.print(f"{len(kept)} of {len(images)} images embedded")


def show(rows: list[dict[str, Any]], title: str) -> None:
    table = Table(title=title)
    for column in rows[0]:
        table.add_column(column.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else f"{v}" for v in row.values()))
    Console(width=200).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("embed")
    one.add_argument("folder", type=Path)
    one.add_argument("file", type=Path)
    one = commands.add_parser("splits")
    one.add_argument("file", type=Path)
    one.add_argument("--splits", type=int, default=40)
    one = commands.add_parser("growth")
    one.add_argument("file", type=Path)
    one.add_argument("--people", type=int, default=1_000_000)
    one = commands.add_parser("cost")
    one.add_argument("--people", type=int, default=1_000_000)
    one.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    if arguments.command == "embed":
        embed(arguments.folder, arguments.file)
        return
    if arguments.command == "cost":
        rows: list[dict[str, Any]] = [dict(cost(arguments.people, arguments.seconds))]
    elif arguments.command == "splits":
        rows = splits(People.load(arguments.file), arguments.splits)
    else:
        rows = growth(People.load(arguments.file), arguments.people)
    show(rows, arguments.command)
    write_results(f"calibration_{arguments.command}", {"rows": rows})


if __name__ == "__main__":
    main()
