"""A clustering as folders: one for each person, with the photographs that show her or him."""

import csv
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from visagedb._answers import Cluster, ClusterMember
from visagedb._values import Box

OTHERS: Final = "others"
INDEX: Final = "faces.csv"


@dataclass(frozen=True, slots=True)
class Person:
    """A cluster with its members, and the name of its folder."""

    folder: str
    cluster: Cluster
    members: tuple[ClusterMember, ...]

    @property
    def photos(self) -> list[Path]:
        """The photographs that show the person, each once."""
        sources = dict.fromkeys(m.source for m in self.members if m.source)
        return [Path(source) for source in sources]


@dataclass(slots=True)
class Written:
    """What was written.

    Attributes:
        people: Folders of people.
        photos: Files in them; one that shows three people counts three times.
        others: Photographs of nobody who was seen twice.
        missing: Photographs that are not where their faces came from.
    """

    people: int = 0
    photos: int = 0
    others: int = 0
    missing: list[str] = field(default_factory=list)


def named(groups: Iterable[tuple[Cluster, Sequence[ClusterMember]]], count: int) -> list[Person]:
    """People with the names of their folders.

    One whose faces mostly belong to one identity has its id; the others are numbered.

    Args:
        groups: Largest first.
        count: How many there are, for the width of the numbers.
    """
    digits = max(3, len(str(count)))
    people: list[Person] = []
    taken = {OTHERS}
    for number, (cluster, members) in enumerate(groups, start=1):
        name = _identity(members)
        if not name or name in taken:
            name = f"{name or 'person'}-{number:0{digits}}"
        taken.add(name)
        people.append(Person(name, cluster, tuple(members)))
    return people


def _identity(members: Sequence[ClusterMember]) -> str:
    known = Counter(member.identity for member in members if member.identity)
    if not known:
        return ""
    (best, count), *_ = known.most_common(1)
    return best if 2 * count > len(members) else ""


def check_empty(folder: Path) -> None:
    """Makes sure that nothing is mixed with what is there.

    Raises:
        FileExistsError: The folder has something in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not an empty folder; give a new one")


def write(
    people: Sequence[Person],
    singles: Iterable[ClusterMember],
    folder: Path,
    *,
    link: bool,
    advance: Callable[[], None],
) -> Written:
    """Copies or links the photographs, and writes which face is where.

    Args:
        people: With their folders' names.
        singles: Faces of nobody who was seen twice.
        folder: Where to; empty or new.
        link: Make symbolic links instead of copies.
        advance: Called after each person.
    """
    written = Written()
    folder.mkdir(parents=True, exist_ok=True)
    shown: set[Path] = set()
    for person in people:
        done = _fill(folder / person.folder, person.photos, link, written)
        shown.update(person.photos)
        written.people += bool(done)
        written.photos += done
        advance()
    rest = dict.fromkeys(Path(one.source) for one in singles if one.source)
    others = [photo for photo in rest if photo not in shown]
    written.others = _fill(folder / OTHERS, others, link, written)
    _write_index(people, folder / INDEX)
    return written


def _fill(folder: Path, photos: Sequence[Path], link: bool, written: Written) -> int:
    taken: set[str] = set()
    for photo in photos:
        if not photo.is_file():
            written.missing.append(str(photo))
            continue
        folder.mkdir(exist_ok=True)
        target = folder / _free(photo.name, taken)
        if link:
            target.symlink_to(photo.resolve())
        else:
            shutil.copy2(photo, target)
    return len(taken)


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number if another folder had a photograph of the same name."""
    path, number, free = Path(name), 1, name
    # File systems that do not tell capitals apart would overwrite.
    while free.lower() in taken:
        number += 1
        free = f"{path.stem}-{number}{path.suffix}"
    taken.add(free.lower())
    return free


def _write_index(people: Sequence[Person], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(
            ["folder", "cluster", "photo", "face", "centrality", "x", "y", "width", "height"]
        )
        for person in people:
            for member in person.members:
                box = member.detection.box if member.detection else None
                table.writerow(
                    [
                        person.folder,
                        person.cluster.id,
                        member.source,
                        member.face,
                        f"{member.centrality:.4f}",
                        *_numbers(box),
                    ]
                )


def _numbers(box: Box | None) -> list[str]:
    if box is None:
        return ["", "", "", ""]
    return [f"{value:.1f}" for value in (box.x, box.y, box.width, box.height)]
