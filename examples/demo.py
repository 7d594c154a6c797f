"""The whole way on real photographs: enrol, identify, verify, cluster, draw.

    python examples/demo.py                  photographs of public figures, fetched once
    PHOTOS=folder python examples/demo.py    your own: a sub-folder of images per person

Starts a server of its own on a free port, with its data in demo-output/data. One photograph
of everybody who has two or more is held out and must be recognised. Ends with 1 if an answer
is wrong.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import visagedb
from PIL import Image, ImageOps
from rich.console import Console
from rich.table import Table
from visagedb._cli._drawing import annotate

GALLERY = "demo"
OUTPUT = Path("demo-output")
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
STOP_SECONDS = 60
TILE_PIXELS = 360
TILES_PER_ROW = 4
TILES_MAX = 12
GREEN, ORANGE = (46, 204, 113), (243, 156, 18)

console = Console(highlight=False)


@dataclass
class Album:
    """Photographs by person: some to enrol, one of most people held out."""

    enrolled: dict[str, list[Path]]
    held_out: dict[str, Path]


@dataclass
class Report:
    """Counts answers, and remembers the wrong ones."""

    wrong: list[str] = field(default_factory=list)
    right: int = 0

    def check(self, good: bool, what: str) -> str:
        if good:
            self.right += 1
            return "[green]right[/]"
        self.wrong.append(what)
        return "[bold red]WRONG[/]"


def find_photos() -> dict[str, list[Path]]:
    """Photographs by person, from PHOTOS or from the samples."""
    if "PHOTOS" not in os.environ:
        import sample_photos

        return sample_photos.people()
    root = Path(os.environ["PHOTOS"])
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    people = {
        folder.name: sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
        for folder in folders
    }
    return {name: photos for name, photos in people.items() if photos}


def hold_out(people: dict[str, list[Path]]) -> Album:
    """The last photograph of everybody who has two or more stays out of the gallery."""
    held_out = {name: photos[-1] for name, photos in people.items() if len(photos) > 1}
    enrolled = {
        name: photos[:-1] if name in held_out else photos for name, photos in people.items()
    }
    if not held_out:
        sys.exit("nobody has two photographs, so there is nobody to recognise")
    return Album(enrolled, held_out)


@contextmanager
def server(data: Path) -> Iterator[str]:
    """A real server for the time of the block; gives its address."""
    command = [sys.executable, "-m", "visagedb", "serve"]
    command += ["--data", str(data), "--port", "0", "--log-level", "warning"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit("the server did not start")
        yield line.removeprefix("listening on ").strip()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        console.print(f"server stopped with exit code {code}")


def enroll(client: visagedb.Client, album: Album, report: Report) -> None:
    client.create_gallery(GALLERY, display_name="Demonstration")
    items = [
        visagedb.EnrollItem(slug(name), image=photo, display_name=name, source=photo.name)
        for name, photos in album.enrolled.items()
        for photo in photos
    ]
    start = time.perf_counter()
    outcomes = list(client.enroll_many(GALLERY, items, face_selection="largest"))
    seconds = time.perf_counter() - start
    table = Table("person", "photograph", "outcome", "quality", title="Enrolment")
    for outcome in sorted(outcomes, key=lambda outcome: outcome.item.identity):
        result = report.check(outcome.ok, f"enrol {outcome.item.source}: {outcome.error}")
        detection = outcome.enrollment.face.detection if outcome.enrollment else None
        quality = f"{detection.quality.score:.2f}" if detection and detection.quality else ""
        name = outcome.item.display_name
        table.add_row(name, outcome.item.source, f"{outcome.outcome} {result}", quality)
    rate = len(items) / seconds
    table.caption = f"{len(items)} photographs in {seconds:.1f} s, {rate:.1f} per second"
    console.print(table)


def identify(client: visagedb.Client, album: Album, report: Report) -> None:
    table = Table("held out", "is", "found", "score", "next best", "", title="Identification")
    for name, photo in album.held_out.items():
        result = client.identify(GALLERY, image=photo, face_selection="largest", top_k=2)
        candidates = result.identifications[0].candidates
        found = result.match.id if result.match else "nobody"
        good = report.check(found == slug(name), f"identify {photo.name}: {found}, not {name}")
        scores = [f"{candidate.score:.3f}" for candidate in candidates] + ["", ""]
        table.add_row(photo.name, name, found, scores[0], scores[1], good)
    threshold = result.identifications[0].basis.threshold
    table.caption = f"threshold {threshold:.3f}, cosine"
    console.print(table)


def verify(client: visagedb.Client, album: Album, report: Report) -> None:
    names = list(album.held_out)
    person, probe = names[0], album.held_out[names[0]]
    pairs = [(person, album.enrolled[person][0], True)]
    others = [name for name in album.enrolled if name != person]
    pairs += [(other, album.enrolled[other][0], False) for other in others[:1]]
    table = Table("first", "second", "decision", "score", "", title="Verification")
    for name, photo, same in pairs:
        answer = client.verify(probe, photo, gallery=GALLERY, face_selection="largest")
        good = report.check(answer.is_match is same, f"verify {probe.name} with {photo.name}")
        table.add_row(
            f"{person}, {probe.name}",
            f"{name}, {photo.name}",
            str(answer.decision),
            f"{answer.score:.3f}",
            good,
        )
    console.print(table)


def cluster(client: visagedb.Client, report: Report) -> None:
    clustering = client.cluster(GALLERY).result(timeout=120)
    table = Table("cluster", "faces", "people", "cohesion", "", title="Clusters")
    for group in client.clusters(clustering, min_size=2):
        people = sorted({member.identity for member in client.cluster_members(group)})
        good = report.check(len(people) == 1, f"cluster {group.id} mixes {', '.join(people)}")
        table.add_row(group.id, str(group.size), ", ".join(people), f"{group.cohesion:.3f}", good)
    table.caption = f"{clustering.single_count} faces on their own"
    console.print(table)


def draw(client: visagedb.Client, photos: Sequence[Path], output: Path) -> None:
    """All held-out photographs in one picture, searched at once, with names on the boxes."""
    picture = output.with_name("held-out.png")
    mosaic(photos[:TILES_MAX]).save(picture)
    result = client.identify(GALLERY, image=picture, top_k=1)
    captions, colours = [], []
    for answer in result:
        match = answer.match
        colours.append(GREEN if match else ORANGE)
        label = f"{match.display_name or match.id} {match.score:.2f}" if match else "unknown"
        if answer.face is not None:
            captions.append((answer.face, label))
    annotate(picture, captions, output, colours)
    console.print(f"{len(captions)} faces with names in {output}")


def mosaic(photos: Sequence[Path]) -> Image.Image:
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


def main() -> None:
    album = hold_out(find_photos())
    OUTPUT.mkdir(exist_ok=True)
    data = OUTPUT / "data"
    shutil.rmtree(data, ignore_errors=True)
    report = Report()
    with server(data) as address, visagedb.Client(address) as client:
        console.print(f"a server with its data in {data} is listening on {address}")
        enroll(client, album, report)
        identify(client, album, report)
        verify(client, album, report)
        cluster(client, report)
        draw(client, list(album.held_out.values()), OUTPUT / "annotated.png")
    console.print(f"{report.right} answers right, {len(report.wrong)} wrong")
    for wrong in report.wrong:
        console.print(f"  [red]{wrong}[/]")
    sys.exit(1 if report.wrong else 0)


if __name__ == "__main__":
    main()
