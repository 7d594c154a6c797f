"""From folders of photographs to faces to enrol."""

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visagedb._cli._people import identity_id, read_album, read_person
from visagedb._names import check_id


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


@given(st.text(min_size=1, max_size=300))
def test_every_name_becomes_a_valid_id(name: str) -> None:
    assert check_id(identity_id(name), "identity") == identity_id(name)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Ada_Lovelace", "Ada_Lovelace"),
        ("Ada Lovelace", "Ada_Lovelace"),
        ("José Ñandú", "Jose_Nandu"),
        ("O'Brien, Flann", "O_Brien_Flann"),
        (".hidden", "hidden"),
        ("j.r.r.-tolkien", "j.r.r.-tolkien"),
    ],
)
def test_ids_stay_readable(name: str, expected: str) -> None:
    assert identity_id(name) == expected


def test_names_without_latin_letters_get_different_ids() -> None:
    ids = {identity_id(name) for name in ("張三", "李四", "...")}
    assert len(ids) == 3
    assert all(re.fullmatch(r"person-[0-9a-f]{8}", value) for value in ids)


def test_sub_folders_are_people(tmp_path: Path) -> None:
    touch(tmp_path, "Ada Lovelace/1.jpg", "Ada Lovelace/deep/2.PNG", "grace/3.webp")
    album = read_album(tmp_path)
    assert [(p.identity, p.display_name, p.source) for p in album.photos] == [
        ("Ada_Lovelace", "Ada Lovelace", "Ada Lovelace/1.jpg"),
        ("Ada_Lovelace", "Ada Lovelace", "Ada Lovelace/deep/2.PNG"),
        ("grace", "grace", "grace/3.webp"),
    ]
    assert album.skipped == 0


def test_hidden_and_other_files_are_counted(tmp_path: Path) -> None:
    touch(tmp_path, "ada/1.jpg", "ada/.DS_Store", "ada/.2.jpg", "ada/notes.txt", "loose.jpg")
    touch(tmp_path, ".cache/3.jpg")
    album = read_album(tmp_path)
    assert [photo.source for photo in album.photos] == ["ada/1.jpg"]
    assert album.skipped == 4


def test_people_are_never_merged_by_their_ids(tmp_path: Path) -> None:
    touch(tmp_path, "José/1.jpg", "Jose/2.jpg", "Josë/3.jpg")
    album = read_album(tmp_path)
    ids = {photo.display_name: photo.identity for photo in album.photos}
    assert ids["Jose"] == "Jose"
    assert len(set(ids.values())) == 3
    assert set(album.collisions) == {"José", "Josë"}
    assert all(album.collisions[name] == ids[name] for name in album.collisions)


def test_one_person(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "2.jpg", "3.txt")
    album = read_person(tmp_path, "ada")
    assert [(p.identity, p.source) for p in album.photos] == [("ada", "1.jpg"), ("ada", "2.jpg")]
    assert album.skipped == 1
    assert read_person(tmp_path / "1.jpg", "ada").photos[0].source == "1.jpg"


def test_names_that_are_not_utf_8_become_readable(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/J\xfcrgen"))
    try:
        touch(folder, os.fsdecode(b"\xff.jpg"))
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    (photo,) = read_album(tmp_path).photos
    assert (photo.identity, photo.display_name) == ("Jrgen", "J\ufffdrgen")
    assert photo.source == "J\ufffdrgen/\ufffd.jpg"
    assert photo.path.is_file()
