"""Planted duplicates, mismatches and bad photographs: how many the enrolment gate catches.

    python benchmarks/enrolment_gate.py lfw-devtest/images --cache FOLDER

Identity checks. In each of several seeded draws one photograph is held back of each of some
people, and some people are left out altogether. The others are enrolled and the gallery is
calibrated. Then come, in random order: faces of enrolled people under
new ids (duplicates), faces of people who were left out under ids of others (mismatches), and as
honest ones faces of enrolled people under their own ids and of new people under new ids. The
gallery rejects what its checks object to. How many of each kind does it object to?

Quality check. The held-back photographs are made smaller, blurred or darkened by several degrees.
Of each the quality is measured, and whether it is still identified among all people: rank one, at
the threshold of a false positive identification rate of 1%.

People whose labels are known to be wrong (`gallery_audit.KNOWN`) take no part.
"""

import argparse
import hashlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from common import write_results
from gallery_audit import KNOWN
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from rich.console import Console
from rich.progress import track
from rich.table import Table

from visagedb_indexer import defaults
from visagedb_indexer.choice import Choice
from visagedb_indexer.errors import EnrolmentRejectedError
from visagedb_indexer.faces.registry import ModelRegistry
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import (
    GalleryPatch,
    NewFace,
    NewIdentity,
    SearchOptions,
)
from visagedb_indexer.gate_values import GateAction, GateReason, IdentityCheck
from visagedb_indexer.store import GalleryRecord
from visagedb_indexer.template_batches import TemplateBatch
from visagedb_indexer.values import Extraction, Vector
from visagedb_indexer.workers import WorkerPool
from visagedb_server.evaluation.embedding import EmbeddingOptions, FolderEmbedder
from visagedb_server.evaluation.values import Embedded

POINTS: Final[tuple[tuple[str, float | None, float | None], ...]] = (
    ("where the gallery decides", None, None),
    ("duplicates 0.1%, mismatches 0.1%", 1e-3, 1e-3),
    ("duplicates 0.1%, mismatches 1%", 1e-3, 1e-2),
)
"""Error rates that choose the thresholds of the two checks."""
SPOILED: Final = {
    "smaller": (2, 3, 4, 6, 8),
    "blurred": (2, 3, 4, 6, 8),
    "darker": (4, 8, 16, 32),
}
LEAST: Final = (0.2, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7)
"""Least qualities that are tried."""
console = Console()


@dataclass(frozen=True, slots=True, eq=False)
class Photographs:
    """Photographs with a face: file, person and template of each; shape (n,), (n, dimension)."""

    paths: Sequence[Path]
    names: NDArray[np.str_]
    vectors: Vector


def read(images: Path, cache: Path | None) -> Photographs:
    """All photographs of people whose labels are right."""
    paths = sorted(p for p in images.glob("*/*.jpg") if p.parent.name not in KNOWN)
    options = EmbeddingOptions(model="sface", choice=Choice.CENTRAL, workers=2, cache=cache)
    with FolderEmbedder(options) as embedder:
        found = list(embedder.embed(paths))
    kept = [(p, one) for p, one in zip(paths, found, strict=True) if isinstance(one, Embedded)]
    return Photographs(
        [path for path, _ in kept],
        np.array([path.parent.name for path, _ in kept]),
        np.stack([one.vector for _, one in kept]),
    )


@dataclass(slots=True)
class Draw:
    """Rows of photographs by what becomes of them.

    Attributes:
        enrolled: Are there at the beginning.
        duplicates: Come under a new id.
        mismatches: Come under somebody else's id: row of the face, row of the victim.
        honest: Come under their own id.
        new: People who come for the first time.
    """

    enrolled: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    mismatches: list[tuple[int, int]] = field(default_factory=list)
    honest: list[int] = field(default_factory=list)
    new: list[int] = field(default_factory=list)


def draw(names: NDArray[np.str_], planted: int, seed: int) -> Draw:
    """Who comes when."""
    random = np.random.default_rng(seed)
    people, counts = np.unique(names, return_counts=True)
    several = random.permutation(people[counts >= 2])
    single = random.permutation(people[counts == 1])
    new, strangers = single[:planted], single[planted : 2 * planted]
    made = Draw()
    twice, own = set(several[:planted]), set(several[planted : 2 * planted])
    outside = {*new, *strangers}
    for person in people:
        rows = list(random.permutation(np.flatnonzero(names == person)))
        if person in outside:
            continue
        if person in twice:
            made.duplicates.append(int(rows.pop()))
        elif person in own:
            made.honest.append(int(rows.pop()))
        made.enrolled += map(int, rows)
    victims = random.choice(several[2 * planted :], planted, replace=False)
    for stranger, victim in zip(strangers, victims, strict=True):
        face = int(np.flatnonzero(names == stranger)[0])
        made.mismatches.append((face, int(np.flatnonzero(names == victim)[0])))
    made.new = [int(np.flatnonzero(names == person)[0]) for person in new]
    return made


def enrolled(photographs: Photographs, rows: Sequence[int], folder: Path) -> Gallery:
    """A calibrated gallery of some of them."""
    model = ModelRegistry().get("sface").identity()
    gallery = Gallery(
        folder, GalleryRecord("people", "people", model, 1, 1, fusion=defaults.FUSION)
    )
    for start in range(0, len(rows), 1000):
        some = list(rows[start : start + 1000])
        ids = [str(photographs.names[row]) for row in some]
        gallery.bulk.templates(TemplateBatch(ids, photographs.vectors[some])).result()
    gallery.calibrations.calibrate(lambda _done, _stage: None)
    return gallery


def arrivals(made: Draw, names: NDArray[np.str_]) -> Iterator[tuple[str, int, str]]:
    """Kind, row and id of each face that comes."""
    for row in made.duplicates:
        yield "duplicate", row, f"{names[row]}-again"
    for row, victim in made.mismatches:
        yield "mismatch", row, str(names[victim])
    for row in made.honest:
        yield "own id", row, str(names[row])
    for row in made.new:
        yield "new person", row, str(names[row])


def judged(
    photographs: Photographs, made: Draw, seed: int, folder: Path, rates: tuple[float | None, ...]
) -> dict[str, dict[str, int]]:
    """By kind of arrival how often each check objects, and of how many."""
    counts: dict[str, dict[str, int]] = {}
    gallery = Gallery(folder)
    duplicate, mismatch = (
        IdentityCheck(GateAction.REJECT, max_false_positive_rate=rate) for rate in rates
    )
    gallery.update(GalleryPatch(duplicate_check=duplicate, mismatch_check=mismatch))
    coming = list(arrivals(made, photographs.names))
    order = np.random.default_rng(seed).permutation(len(coming))
    # In one batch, in which each face is compared with those before it.
    answers = gallery.enroll_many([_face(photographs, *coming[place][1:]) for place in order])
    for place, answer in zip(order, answers, strict=True):
        count = counts.setdefault(coming[place][0], {"faces": 0, **dict.fromkeys(GateReason, 0)})
        count["faces"] += 1
        if isinstance(answer, EnrolmentRejectedError):
            for reason in answer.metadata["findings"].split(","):
                count[GateReason[reason]] += 1
    gallery.close()
    return counts


def _face(photographs: Photographs, row: int, identity: str) -> NewFace:
    vector = photographs.vectors[row]
    digest = hashlib.sha256(vector.tobytes()).digest()
    return NewFace(identity, vector, digest, new_identity=NewIdentity())


def identity_checks(photographs: Photographs, draws: int, planted: int) -> list[dict[str, Any]]:
    """Caught and falsely accused, at each pair of operating points, over all draws."""
    totals: dict[str, dict[str, dict[str, int]]] = {title: {} for title, *_ in POINTS}
    for seed in track(range(draws), "drawing"):
        made = draw(photographs.names, planted, seed)
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder) / "base"
            enrolled(photographs, made.enrolled, base).close()
            for title, *rates in POINTS:
                copy = shutil.copytree(base, Path(folder) / f"for {title}")
                for kind, counts in judged(photographs, made, seed, copy, tuple(rates)).items():
                    into = totals[title].setdefault(kind, dict.fromkeys(counts, 0))
                    for key, number in counts.items():
                        into[key] += number
    for title, total in totals.items():
        show(title, total)
    return [{"operating_points": title, "counts": total} for title, total in totals.items()]


def show(title: str, total: dict[str, dict[str, int]]) -> None:
    table = Table("arrival", "faces", *(reason.value for reason in list(GateReason)[1:]))
    table.title = title
    for kind, counts in total.items():
        shares = [f"{counts[one] / counts['faces']:.2%}" for one in list(GateReason)[1:]]
        table.add_row(kind, str(counts["faces"]), *shares)
    console.print(table)


def spoiled(path: Path) -> Iterator[tuple[str, int, bytes]]:
    """The photograph, made worse in several ways and degrees."""
    with Image.open(path) as opened:
        whole = opened.convert("RGB")
    yield "as it is", 1, path.read_bytes()
    for way, degrees in SPOILED.items():
        for degree in degrees:
            small = whole.resize((whole.width // degree, whole.height // degree))
            made = {
                "smaller": small,
                "blurred": small.resize(whole.size),
                "darker": ImageEnhance.Brightness(whole).enhance(1 / degree),
            }[way]
            stream = io.BytesIO()
            made.save(stream, "JPEG", quality=92)
            yield way, degree, stream.getvalue()


def quality_check(photographs: Photographs, count: int) -> dict[str, Any]:
    """Quality and fate of spoiled photographs."""
    names = photographs.names
    random = np.random.default_rng(1)
    people, counts = np.unique(names, return_counts=True)
    chosen = random.choice(people[counts >= 2], count, replace=False)
    held = [int(random.choice(np.flatnonzero(names == person))) for person in chosen]
    rest = np.setdiff1d(np.arange(len(names)), held)
    rows: list[tuple[str, int, float, bool]] = []
    missing = 0
    pool = WorkerPool(count=2)
    with tempfile.TemporaryDirectory() as folder:
        gallery = enrolled(photographs, rest.tolist(), Path(folder) / "g")
        latest = gallery.calibrations.latest
        assert latest is not None
        threshold = latest.false_positive_threshold(0.01, gallery.counters.identity_count)
        for row in held:
            futures = [
                (way, degree, pool.submit(image, model="sface", flip=True, choice=Choice.CENTRAL))
                for way, degree, image in spoiled(photographs.paths[row])
            ]
            for way, degree, future in futures:
                found: Extraction = future.result()
                face = next((one for one in found.faces if one.vector is not None), None)
                if face is None or face.vector is None:
                    missing += 1
                    continue
                best = gallery.identify(face.vector, SearchOptions(top_k=1)).candidates[0]
                right = best.identity.id == str(names[row]) and best.score >= threshold
                rows.append((way, degree, face.quality.score, right))
        gallery.close()
    pool.close()
    return summary(rows, missing)


def summary(rows: list[tuple[str, int, float, bool]], missing: int) -> dict[str, Any]:
    """What each least quality would let pass, and what it would keep out."""
    qualities = np.array([quality for _, _, quality, _ in rows])
    right = np.array([fate for *_, fate in rows])
    plain = np.array([way == "as it is" for way, *_ in rows])
    table = Table(
        "least quality", "of good photographs refused", "of spoiled ones refused",
        "identified among the passed", "identified among the refused",
    )  # fmt: skip
    table.title = f"{len(rows)} photographs, {missing} more without a face"
    figures = []
    for least in LEAST:
        refused = qualities < least
        one = {
            "least": least,
            "good_refused": float(refused[plain].mean()),
            "spoiled_refused": float(refused[~plain].mean()),
            "identified_passed": float(right[~refused].mean()),
            "identified_refused": float(right[refused].mean()) if refused.any() else None,
            "refused": int(refused.sum()),
        }
        figures.append(one)
        shares = [one[key] for key in list(one)[1:5]]
        cells = ("" if share is None else f"{share:.1%}" for share in shares)
        table.add_row(f"{least:g}", *cells)
    console.print(table)
    degrees = Table("", "degree", "mean quality", "identified")
    by_degree = []
    for way, degree in dict.fromkeys((way, degree) for way, degree, *_ in rows):
        some = [(q, f) for w, d, q, f in rows if (w, d) == (way, degree)]
        quality, fate = (float(np.mean(column)) for column in zip(*some, strict=True))
        by_degree.append({"way": way, "degree": degree, "quality": quality, "identified": fate})
        degrees.add_row(way, str(degree), f"{quality:.2f}", f"{fate:.1%}")
    console.print(degrees)
    return {"faces": len(rows), "without_face": missing, "least": figures, "degrees": by_degree}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="one folder of photographs per person")
    parser.add_argument("--cache", type=Path, help="folder for templates made before")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--planted", type=int, default=100, help="faces of each kind in a draw")
    parser.add_argument("--spoiled", type=int, default=150, help="photographs to spoil")
    parser.add_argument("--part", choices=("both", "identity", "quality"), default="both")
    arguments = parser.parse_args()
    photographs = read(arguments.folder, arguments.cache)
    people = len(np.unique(photographs.names))
    console.print(f"{len(photographs.names)} photographs of {people} people")
    if arguments.part in ("both", "identity"):
        points = identity_checks(photographs, arguments.draws, arguments.planted)
        figures = {"draws": arguments.draws, "planted": arguments.planted, "points": points}
        console.print(f"written to {write_results('enrolment_gate_identities', figures)}")
    if arguments.part in ("both", "quality"):
        quality = quality_check(photographs, arguments.spoiled)
        console.print(f"written to {write_results('enrolment_gate_quality', quality)}")


if __name__ == "__main__":
    main()
