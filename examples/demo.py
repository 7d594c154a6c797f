"""The whole way on real photographs: enrol, identify, verify, cluster, draw.

    python examples/demo.py                  photographs of public figures, fetched once
    PHOTOS=folder python examples/demo.py    your own: a sub-folder of images per person

Starts a server of its own on a free port, with its data in demo-output/data. Photographs that
are not enrolled must be recognised, and strangers must not. Ends with 1 if an answer is wrong.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table
from sample_photos import sample_photos

import visagedb
from visagedb.drawing import annotate

GALLERY, PILE = "demo", "unsorted"
OUTPUT = Path("demo-output")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".pgm", ".ppm"}
STOP_SECONDS = 60
PILE_PHOTOS_MAX = 200
TILES_MAX, TILES_PER_ROW, TILE_PIXELS = 9, 3, 420
GREEN, ORANGE = (46, 204, 113), (243, 156, 18)

console = Console(highlight=False)


@dataclass(frozen=True)
class Probe:
    """A photograph that is not enrolled, and who is in it: an id, or None for a stranger."""

    photo: Path
    person: str | None


@dataclass(frozen=True)
class Album:
    """Photographs to enrol, by person, and photographs to recognise."""

    people: dict[str, list[Path]]
    probes: list[Probe]


@dataclass
class Report:
    """Counts answers, and remembers the wrong ones."""

    right: int = 0
    wrong: list[str] = field(default_factory=list)

    def check(self, good: bool, what: str) -> str:
        if good:
            self.right += 1
            return "[green]right[/]"
        self.wrong.append(what)
        return "[bold red]WRONG[/]"


def sample_album() -> Album:
    """Photographs of public figures."""
    samples = sample_photos()
    probes = [Probe(photo, person) for photo, person in samples.probes]
    probes += [Probe(samples.stranger, None), Probe(samples.group, None)]
    return Album({name: list(photos) for name, photos in samples.people.items()}, probes)


def own_album(root: Path) -> Album:
    """Photographs of a folder; the last one of everybody who has two or more is a probe."""
    people: dict[str, list[Path]] = {}
    probes = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        name = slug(folder.name)
        if len(photos) > 1:
            probes.append(Probe(photos.pop(), name))
        if photos:
            people[name] = photos
    if not probes:
        sys.exit(f"nobody in {root} has two photographs, so there is nobody to recognise")
    return Album(people, probes)


@contextmanager
def server(data: Path) -> Iterator[str]:
    """A real server for the time of the block; gives its address."""
    command = [sys.executable, "-m", "visagedb", "serve"]
    command += ["--data", str(data), "--port", "0", "--log-level", "warning"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit("the server did not start")
        try:
            yield line.removeprefix("listening on ").strip()
        finally:
            process.send_signal(signal.SIGTERM)
            console.print(f"server stopped with exit code {process.wait(STOP_SECONDS)}")


def enroll(client: visagedb.Client, album: Album, report: Report) -> None:
    client.create_gallery(GALLERY, display_name="Demonstration")
    items = [
        visagedb.EnrollItem(name, image=photo, display_name=readable(name), source=photo.name)
        for name, photos in album.people.items()
        for photo in photos
    ]
    start = time.perf_counter()
    outcomes = list(client.enroll_many(GALLERY, items, face_selection="largest"))
    seconds = time.perf_counter() - start
    table = Table("person", "photographs", "quality", "", title="Enrolment")
    for name in album.people:
        own = [outcome for outcome in outcomes if outcome.item.identity == name]
        failed = [f"{outcome.item.source}: {outcome.error}" for outcome in own if not outcome.ok]
        good = report.check(not failed, f"enrol {name}: {'; '.join(failed)}")
        table.add_row(readable(name), str(len(own)), " ".join(map(quality, own)), good)
    rate = len(items) / seconds
    table.caption = f"{len(items)} photographs in {seconds:.1f} s, {rate:.1f} per second"
    console.print(table)


def quality(outcome: visagedb.EnrollResult) -> str:
    face = outcome.enrollment.face if outcome.enrollment else None
    detection = face.detection if face else None
    return f"{detection.quality.score:.2f}" if detection and detection.quality else "-"


def identify(client: visagedb.Client, album: Album, report: Report) -> None:
    table = Table("photograph", "face", "best candidate", "score", "found", "")
    table.title = "Identification of photographs that are not enrolled"
    for probe in album.probes:
        # Of a known person the largest face counts; among strangers every face does.
        selection = "largest" if probe.person else "all"
        result = client.identify(GALLERY, image=probe.photo, face_selection=selection, top_k=1)
        if not result.identifications:
            report.check(False, f"identify {probe.photo.name}: no face was found")
        for number, answer in enumerate(result, start=1):
            found = answer.match.id if answer.match else None
            good = report.check(
                found == probe.person, f"identify {probe.photo.name}: {found}, not {probe.person}"
            )
            best = answer.best
            candidate, score = (readable(best.id), f"{best.score:.3f}") if best else ("", "")
            name = readable(found) if found else "nobody"
            table.add_row(probe.photo.name, str(number), candidate, score, name, good)
            basis = answer.basis
            table.caption = f"threshold: cosine {basis.threshold:.3f} ({basis.source})"
    console.print(table)


def verify(client: visagedb.Client, album: Album, report: Report) -> None:
    probe = next(probe for probe in album.probes if probe.person)
    table = Table("first", "second", "decision", "score", "", title="Verification")
    genuine = album.people[str(probe.person)][0]
    impostor = next(photos[0] for name, photos in album.people.items() if name != probe.person)
    for photo, same in ((genuine, True), (impostor, False)):
        answer = client.verify(probe.photo, photo, gallery=GALLERY, face_selection="largest")
        good = report.check(answer.is_match is same, f"verify {probe.photo.name}, {photo.name}")
        decision = answer.decision.replace("_", " ")
        table.add_row(probe.photo.name, photo.name, decision, f"{answer.score:.3f}", good)
    console.print(table)


def cluster(client: visagedb.Client, album: Album, report: Report) -> None:
    """Every face of every photograph, under a number instead of a name, sorted by person."""
    photos = [(photo, name) for name, own in album.people.items() for photo in own]
    photos += [(probe.photo, probe.person or "") for probe in album.probes]
    client.create_gallery(PILE)
    truth: dict[str, str] = {}
    for photo, person in photos[:PILE_PHOTOS_MAX]:
        for number, face in enumerate(client.embed(photo, PILE)):
            identity = f"face-{len(truth)}"
            # Only of the largest face do we know who it is.
            truth[identity] = person if person and number == 0 else f"stranger {len(truth)}"
            client.enroll(PILE, identity, vector=face.template, source=photo.name)
    clustering = client.cluster(PILE).result(timeout=300)
    table = Table("who", "faces", "photographs", "cohesion", "", title="Clusters")
    groups = list(client.clusters(clustering, min_size=2))
    for group in groups:
        members = list(client.cluster_members(group))
        people = sorted({truth[member.identity] for member in members})
        good = report.check(len(people) == 1, f"cluster {group.id} mixes {', '.join(people)}")
        sources = sorted(member.source for member in members)
        shown = " ".join(sources[:3]) + (f" and {len(sources) - 3} more" if sources[3:] else "")
        names = ", ".join(map(readable, people))
        table.add_row(names, str(group.size), shown, f"{group.cohesion:.3f}", good)
    report.check(bool(groups), "no two faces were found to be the same person")
    table.caption = f"{clustering.single_count} of {clustering.face_count} faces on their own"
    console.print(table)


def draw(client: visagedb.Client, album: Album, output: Path) -> None:
    """The probes in one picture, searched all at once, with names on the boxes."""
    picture = output.with_name("probes.png")
    mosaic([probe.photo for probe in album.probes[:TILES_MAX]]).save(picture)
    captions, colours = [], []
    for answer in client.identify(GALLERY, image=picture, top_k=1):
        match = answer.match
        label = f"{match.display_name} {match.score:.2f}" if match else "unknown"
        if answer.face is not None:
            captions.append((answer.face, label))
            colours.append(GREEN if match else ORANGE)
    annotate(picture, captions, output, colours)
    console.print(f"{len(captions)} faces with their names: {output}")


def mosaic(photos: list[Path]) -> Image.Image:
    """Photographs side by side, each fitted into a square."""
    columns = min(TILES_PER_ROW, len(photos))
    rows = -(-len(photos) // columns)
    sheet = Image.new("RGB", (columns * TILE_PIXELS, rows * TILE_PIXELS), "white")
    for number, photo in enumerate(photos):
        with Image.open(photo) as opened:
            upright = ImageOps.exif_transpose(opened).convert("RGB")
        tile = ImageOps.pad(upright, (TILE_PIXELS, TILE_PIXELS), color="white")
        sheet.paste(tile, (number % columns * TILE_PIXELS, number // columns * TILE_PIXELS))
    return sheet


def slug(name: str) -> str:
    """An id for a person's name."""
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in name)


def readable(name: str) -> str:
    return name.replace("_", " ")


def main() -> None:
    own = os.environ.get("PHOTOS")
    album = own_album(Path(own)) if own else sample_album()
    data = OUTPUT / "data"
    shutil.rmtree(data, ignore_errors=True)
    OUTPUT.mkdir(exist_ok=True)
    report = Report()
    with server(data) as address, visagedb.Client(address) as client:
        console.print(f"a server with its data in {data} is listening on {address}")
        enroll(client, album, report)
        identify(client, album, report)
        verify(client, album, report)
        cluster(client, album, report)
        draw(client, album, OUTPUT / "annotated.png")
    console.print(f"{report.right} answers right, {len(report.wrong)} wrong")
    for wrong in report.wrong:
        console.print(f"  [red]{wrong}[/]")
    sys.exit(1 if report.wrong else 0)


if __name__ == "__main__":
    main()
