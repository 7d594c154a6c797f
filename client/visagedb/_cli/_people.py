"""From a folder of people's folders to faces to enrol."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from visagedb._bulk import EnrollItem
from visagedb._names import ID_LENGTH_MAX

IMAGE_SUFFIXES: Final = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".ico"}
    | {".pbm", ".pgm", ".ppm", ".pnm"}
)
_HASH_LENGTH: Final = 8


@dataclass(frozen=True, slots=True)
class Photo:
    """An image file of a person.

    Attributes:
        path: Where it is.
        identity: Id of the person.
        display_name: The person's name as the folder has it.
        source: Path relative to the enrolled folder.
    """

    path: Path
    identity: str
    display_name: str
    source: str

    def item(self, labels: Mapping[str, str]) -> EnrollItem:
        """The face to enrol; the file is read when its turn comes."""
        return EnrollItem(
            identity=self.identity,
            image=self.path,
            display_name=self.display_name,
            labels=labels,
            source=self.source,
            key=self.source,
        )


@dataclass(frozen=True, slots=True)
class Album:
    """What was found in a folder.

    Attributes:
        photos: The images of people.
        skipped: How many files were passed over: hidden, not an image, or nobody's.
        collisions: Folder names that would have become an id that another one has, with
            the id they got instead.
    """

    photos: tuple[Photo, ...]
    skipped: int
    collisions: Mapping[str, str] = field(default_factory=dict)


def identity_id(name: str) -> str:
    """The id for a person's name: accents are dropped, other characters become ``_``.

    A name without any usable character gets an id made from its digest.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    cleaned = re.sub(r"[^A-Za-z0-9._-]+", "_", plain.strip()).lstrip(".")
    if not re.search(r"[A-Za-z0-9]", cleaned):
        return f"person-{_digest(name)}"
    return cleaned[:ID_LENGTH_MAX]


def read_album(root: Path) -> Album:
    """People's photographs in a folder whose sub-folders have the people's names."""
    folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    ids, collisions = _assign_ids([folder.name for folder in folders])
    skipped = sum(1 for p in root.iterdir() if p.is_file())
    photos: list[Photo] = []
    for folder in folders:
        for path in _files(folder):
            if not is_image(path, folder):
                skipped += 1
                continue
            source = _readable(path.relative_to(root).as_posix())
            photos.append(Photo(path, ids[folder.name], _readable(folder.name), source))
    return Album(tuple(photos), skipped, collisions)


def read_person(path: Path, identity: str) -> Album:
    """Photographs of one person: a file, or a folder of files."""
    if path.is_file():
        return Album((Photo(path, identity, "", _readable(path.name)),), 0)
    photos, skipped = [], 0
    for file in _files(path):
        if is_image(file, path):
            source = _readable(file.relative_to(path).as_posix())
            photos.append(Photo(file, identity, "", source))
        else:
            skipped += 1
    return Album(tuple(photos), skipped)


def read_archive(path: Path) -> Album:
    """Photographs of nobody in particular: a file, or a folder of files and folders.

    The reference of a photograph is its absolute path, so that it is found again later.
    """
    album = read_person(path, "")
    photos = (
        Photo(photo.path, "", "", _readable(str(photo.path.resolve()))) for photo in album.photos
    )
    return Album(tuple(photos), album.skipped)


def is_image(path: Path, root: Path) -> bool:
    """Whether a file below root looks like an image and is not hidden."""
    hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(path for path in folder.rglob("*") if path.is_file())


def _assign_ids(names: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """Different names get different ids, whatever is left of them after cleaning."""
    ids: dict[str, str] = {}
    collisions: dict[str, str] = {}
    taken: set[str] = set()
    # Names that are ids already keep them, whichever comes first in the folder.
    for name in sorted(names, key=lambda name: (identity_id(name) != name, name)):
        wanted = identity_id(name)
        if wanted in taken:
            suffix = f"-{_digest(name)}"
            wanted = wanted[: ID_LENGTH_MAX - len(suffix)] + suffix
            collisions[_readable(name)] = wanted
        taken.add(wanted)
        ids[name] = wanted
    return ids, collisions


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_LENGTH]


def _readable(name: str) -> str:
    """A file's name as text; bytes that are not UTF-8 become question marks."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
