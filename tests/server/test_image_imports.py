"""Imports of images from folders and tars, with a real embedding process."""

import gzip
import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sample_photos import SamplePhotos
from wire import Api, import_of, refused

from visagedb.v1 import galleries_pb2, imports_pb2, types_pb2
from visagedb_server.server import Server


@pytest.fixture
def api(server: Server, request: pytest.FixtureRequest) -> Iterator[Api]:
    api = Api(server.address)
    api.galleries.DeleteGallery(
        galleries_pb2.DeleteGalleryRequest(name="galleries/people", allow_missing=True)
    )
    api.galleries.CreateGallery(galleries_pb2.CreateGalleryRequest(gallery_id="people"))
    yield api
    api.close()


@pytest.fixture
def album(photos: SamplePhotos, tmp_path: Path) -> Path:
    """Photographs of people, and what does not belong there."""
    root = tmp_path / "album"
    for person, paths in photos.people.items():
        (root / person).mkdir(parents=True)
        for path in paths:
            shutil.copy(path, root / person)
    first = root / "Barack_Obama"
    (first / "noise.jpg").write_bytes(b"\xff\xd8\xff" + bytes(100))
    (first / "empty.png").write_bytes(b"")
    (first / "huge.jpg").touch()
    os.truncate(first / "huge.jpg", 21 << 20)
    (first / "notes.txt").write_text("not an image")
    (first / ".hidden.jpg").write_bytes(b"x")
    (first / "link.jpg").symlink_to("/etc/passwd")
    (root / "linked").symlink_to("/etc")
    os.mkfifo(first / "pipe.jpg")
    (root / "top.jpg").write_bytes(b"nobody's")
    (root / "Åsa Ö").mkdir()
    shutil.copy(photos.people["Barack_Obama"][0], root / "Åsa Ö" / "a.jpg")
    (root / "Åsa Ö" / "a\x1b[2J.jpg").write_bytes(b"x")
    return root


def reasons(done: imports_pb2.Import) -> dict[str, int]:
    return dict(done.failures_by_reason)


def test_a_folder_becomes_a_gallery(api: Api, album: Path, photos: SamplePhotos) -> None:
    done = import_of(api.run_import(album, labels={"from": "album"}))
    assert done.enrolled_count + done.failed_count == done.done_count == done.entry_count
    assert done.enrolled_count == sum(map(len, photos.people.values())) + 1
    found = reasons(done)
    assert found["IMAGE_TOO_LARGE"] == 1
    assert found["EMPTY_IMAGE"] == 1
    # The file of nobody, and the one with a control character.
    assert found["INVALID_NAME"] == 2
    assert found["CORRUPT_IMAGE"] + found.get("UNSUPPORTED_IMAGE_FORMAT", 0) >= 1
    # Notes, hidden, link, folder behind a link, pipe.
    assert done.ignored_count == 5
    people = api.all_faces()
    assert "Barack_Obama" in people
    asa = next(name for name in people if name.startswith("Asa"))
    assert api.identity(asa).display_name == "Åsa Ö"
    request = imports_pb2.ListImportFailuresRequest(parent=done.name)
    failures = api.imports.ListImportFailures(request).failures
    assert not any("\x1b" in failure.entry for failure in failures)
    assert "passwd" not in str(api.all_faces())
    again = import_of(api.run_import(album))
    assert again.already_enrolled_count == done.enrolled_count
    assert api.all_faces() == people


def test_a_naming_rule_and_loose_faces(api: Api, photos: SamplePhotos, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    count = sum(map(len, photos.people.values()))
    for person, paths in photos.people.items():
        for number, path in enumerate(paths):
            shutil.copy(path, flat / f"{person}_{number}{path.suffix}")
    for wrong in ("*.jpg", "{identity}{identity}", "{identity}" + "*" * 9, "x" * 300):
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "naming"):
            api.start_import(flat, naming=wrong)
    done = import_of(api.run_import(flat, naming="{identity}_*"))
    assert done.enrolled_count == count
    assert set(api.all_faces()) == set(photos.people)
    shutil.copy(photos.group, flat / f"group{photos.group.suffix}")
    loose = import_of(api.run_import(flat, loose=True))
    assert loose.failed_count == 0
    assert api.gallery().loose_face_count >= count + 6


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> None:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


@pytest.fixture
def samples(photos: SamplePhotos) -> dict[str, bytes]:
    """A tar in the way of webdataset."""
    obama = photos.people["Barack_Obama"]
    pictures = [path.read_bytes() for path in (*obama[:2], photos.stranger)]
    said = {"identity_id": "ann", "labels": {"site": "north"}, "metadata": {"n": 1}, "x": [1]}
    return {
        "set/0001.jpg": pictures[0],
        "set/0001.json": json.dumps(said).encode(),
        "set/0002.cls": b"7\n",
        "set/0002.jpg": pictures[1],
        "bob/0003.jpg": pictures[2],
        "set/0004.seg.png": pictures[0][:50],
        "set/0005.json": b"{}",
        "../../etc/0006.txt": b"eve",
        "../../etc/0006.jpg": pictures[1],
        "set/0007.jpg": pictures[2],
        "set/0007.json": b"[1, 2",
        "set/0008.txt": b"\x1b[31mred",
        "set/0008.jpg": pictures[1],
    }


def test_a_tar_becomes_a_gallery(api: Api, samples: dict[str, bytes], tmp_path: Path) -> None:
    write_tar(tmp_path / "people.tar", samples)
    done = import_of(api.run_import(tmp_path / "people.tar"))
    assert done.state == imports_pb2.IMPORT_STATE_DONE
    people = api.all_faces()
    assert set(people) >= {"ann", "7", "bob", "eve"}
    assert dict(api.identity("ann").labels) == {"site": "north"}
    found = reasons(done)
    assert found["INVALID_SOURCE"] == 1
    assert found["INVALID_NAME"] == 1
    # Only the JSON of no image is no entry.
    assert done.ignored_count == 1
    write_tar(tmp_path / "people.tgz", samples, "w:gz")
    again = import_of(api.run_import(tmp_path / "people.tgz"))
    assert again.already_enrolled_count == done.enrolled_count
    assert api.all_faces() == people


def test_damaged_tars_end_with_what_was_read(
    api: Api, samples: dict[str, bytes], tmp_path: Path
) -> None:
    path = tmp_path / "people.tar"
    write_tar(path, samples)
    good = path.read_bytes()
    second = good.index(b"set/0002.jpg")
    cases: dict[str, tuple[bytes, int]] = {
        "in the second picture": (good[: second + 2000], 1),
        "in a header": (good[: second + 100], 1),
        "no end": (good.rstrip(b"\0")[:-100], 3),
        "noise": (b"\x01" * 5000, 0),
        "nothing": (b"", 0),
        "noise in between": (good[:second] + b"\xff" * 512 + good[second + 512 :], 1),
    }
    for name, (data, least) in cases.items():
        api.galleries.DeleteGallery(galleries_pb2.DeleteGalleryRequest(name="galleries/people"))
        api.galleries.CreateGallery(galleries_pb2.CreateGalleryRequest(gallery_id="people"))
        path.write_bytes(data)
        operation = api.run_import(path)
        assert operation.HasField("error"), name
        assert "damaged" in operation.error.message, operation.error.message
        [record] = api.imports.ListImports(
            imports_pb2.ListImportsRequest(parent="galleries/people")
        ).imports
        assert record.state == imports_pb2.IMPORT_STATE_FAILED
        assert record.error_reason == "INVALID_SOURCE"
        assert record.enrolled_count == api.gallery().face_count >= least, name


def bomb(path: Path, name_bytes: int) -> None:
    """A compressed tar whose first header says that a very long name follows."""
    header = tarfile.TarInfo("././@LongLink")
    header.type, header.size = tarfile.GNUTYPE_LONGNAME, name_bytes
    with gzip.open(path, "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(name_bytes >> 20):
            file.write(bytes(1 << 20))


def test_bombs_do_not_go_off(api: Api, tmp_path: Path) -> None:
    bomb(tmp_path / "name.tgz", 300 << 20)
    operation = api.run_import(tmp_path / "name.tgz")
    assert "header" in operation.error.message
    with gzip.open(tmp_path / "zeros.tgz", "wb") as file:
        info = tarfile.TarInfo("a/1.jpg")
        info.size = 400 << 20
        file.write(info.tobuf())
        for _ in range(400):
            file.write(bytes(1 << 20))
    operation = api.run_import(tmp_path / "zeros.tgz")
    assert "expands" in operation.error.message


def test_one_face_of_an_image_is_meant(api: Api, album: Path) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "face_selection"):
        api.start_import(album, face_selection=types_pb2.FACE_SELECTION_ALL)
