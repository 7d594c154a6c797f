"""A photo archive: enrolled without names, sorted into folders of people, named."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visagedb
from visagedb._answers import Cluster, ClusterMember
from visagedb._cli import _people_folders as folders
from visagedb._cli._app import run

image_module = pytest.importorskip("PIL.Image", reason="the faces extra is not installed")

RED, GREEN, BLUE = (200, 30, 30), (30, 180, 60), (40, 60, 200)


def command(address: str, *arguments: str, code: int = 0) -> None:
    assert run(["--address", address, *arguments]) == code


def member(source: str, identity: str = "", **fields: Any) -> ClusterMember:
    owner = f"identities/{identity}/" if identity else ""
    return ClusterMember(f"galleries/g/{owner}faces/f", 0.9, source, **fields)


def group(number: int, *members: ClusterMember) -> tuple[Cluster, list[ClusterMember]]:
    name = f"galleries/g/clusterings/c/clusters/{number}"
    return Cluster(name, len(members), 0.8, members[0].face), list(members)


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image_module.new("RGB", size, colour).save(path)
    return path


def test_folders_have_the_names_of_people_who_are_known() -> None:
    people = folders.named(
        [
            group(0, member("a", "ada"), member("b", "ada"), member("c")),
            group(1, member("d"), member("e")),
            group(2, member("f", "ada"), member("g", "ada")),
            group(3, member("h", "bea"), member("i", "cleo")),
            group(4, member("j", "others"), member("k", "others")),
        ],
        5,
    )
    assert [one.folder for one in people] == [
        "ada", "person-002", "ada-003", "person-004", "others-005"
    ]  # fmt: skip


@pytest.mark.parametrize("link", [False, True])
def test_photos_go_to_the_folders_of_their_people(tmp_path: Path, link: bool) -> None:
    one = picture(tmp_path / "a" / "x.png", RED)
    two = picture(tmp_path / "b" / "X.png", GREEN)
    alone = picture(tmp_path / "c" / "y.png", BLUE)
    people = folders.named(
        [
            group(0, member(str(one)), member(str(two))),
            group(1, member(str(two)), member(str(tmp_path / "gone.png"))),
        ],
        2,
    )
    output = tmp_path / "people"
    singles = [member(str(alone)), member(str(one))]
    done = folders.write(people, singles, output, link=link, advance=lambda: None)
    assert (done.people, done.photos, done.others) == (2, 3, 1)
    assert done.missing == [str(tmp_path / "gone.png")]
    assert (output / "person-001" / "x.png").read_bytes() == one.read_bytes()
    assert (output / "person-001" / "X-2.png").read_bytes() == two.read_bytes()
    assert (output / "person-002" / "X.png").is_symlink() == link
    assert [path.name for path in (output / "others").iterdir()] == ["y.png"]
    with (output / "faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["photo"] for row in rows[:2]] == [str(one), str(two)]


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    picture(tmp_path / "x.png", RED)
    with pytest.raises(FileExistsError):
        folders.check_empty(tmp_path)
    folders.check_empty(tmp_path / "new")


def test_a_contact_sheet_shows_the_faces_not_the_photos(tmp_path: Path) -> None:
    from visagedb.contact_sheets import SheetFace, SheetPerson, write_sheets

    photo = image_module.new("RGB", (400, 300), BLUE)
    photo.paste(RED, (200, 100, 300, 200))
    photo.save(tmp_path / "photo.png")
    face = SheetFace(tmp_path / "photo.png", visagedb.Box(200, 100, 100, 100))
    missing = SheetFace(tmp_path / "gone.png", None)
    people = [SheetPerson(f"person {i}", ("2 faces",), (face, missing)) for i in range(13)]
    sheets = write_sheets(people, tmp_path / "sheets")
    assert [sheet.name for sheet in sheets] == ["people-1.png", "people-2.png"]
    with image_module.open(sheets[1]) as sheet:
        pixels = np.asarray(sheet.convert("RGB")).astype(int)
    red = np.abs(pixels - RED).sum(axis=2) < 30
    blue = np.abs(pixels - BLUE).sum(axis=2) < 30
    # The face and half of its side around it: four ninths of the cut-out.
    assert 0.35 < red.sum() / (red.sum() + blue.sum()) < 0.55


def test_a_face_at_the_edge_stays_in_the_middle() -> None:
    from visagedb.contact_sheets import cut_out

    photo = image_module.new("RGB", (400, 300), BLUE)
    photo.paste(RED, (300, 0, 400, 100))
    tile = np.asarray(cut_out(photo, visagedb.Box(300, 0, 100, 100), 90)).astype(int)
    assert (np.abs(tile - RED).sum(axis=2) < 60).mean() > 0.9


def test_of_many_faces_the_first_the_last_and_some_between_are_shown() -> None:
    from visagedb.contact_sheets import shown_faces

    assert shown_faces(3) == [0, 1, 2]
    assert shown_faces(100, 4) == [0, 33, 66, 99]


@pytest.fixture
def archive(server: Any, shared_faces: Path, tmp_path: Path) -> tuple[str, Path]:
    """A folder with a picture of four men, six times each, and one without a face."""
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(shared_faces / "groups" / "bald_guys.jpg", photos / "men.jpg")
    shutil.copy(shared_faces / "groups" / "dogs.jpg", photos / "dogs.jpg")
    (photos / "notes.txt").write_text("no image")
    with visagedb.Client(server.address) as client:
        client.delete_gallery("archive", missing_ok=True)
    return server.address, photos


def test_from_photos_to_folders_to_names(
    archive: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, photos = archive

    def run_json(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        command(address, *arguments, "--json", code=code)
        return json.loads(capsys.readouterr().out)

    enrolled = run_json("enroll", "archive", str(photos), "--loose", "--create-gallery")
    assert enrolled["faces"] == 24
    assert enrolled["outcomes"] == {"enrolled": 1, "no_face": 1, "skipped": 1}
    again = run_json("enroll", "archive", str(photos), "--loose")
    assert again["outcomes"]["already_enrolled"] == 1

    output = tmp_path / "people"
    found = run_json("cluster", "archive", "--output", str(output))
    sizes = [one["cluster"]["size"] for one in found["clusters"]]
    assert len(sizes) >= 4
    assert all(4 <= size <= 6 for size in sizes[:4]), "men are mixed up or torn apart"
    assert found["written"]["people"] == len(sizes)
    assert (output / "person-004" / "men.jpg").is_file()
    with image_module.open(found["sheets"][0]) as sheet:
        assert sheet.size[0] > 800
    command(address, "cluster", "archive", "--output", str(output), code=1)

    named = run_json("clusters", "name", "archive", "0", "dwayne", "--display-name", "Dwayne")
    assert named["face_count"] == sizes[0]
    photo = str(photos / "men.jpg")
    result = run_json("identify", "archive", photo)
    best = [
        one["candidates"][0]["id"]
        for one in result["identifications"]
        if one["decision"] == "match"
    ]
    assert best == ["dwayne"] * len(best)
    assert len(best) >= sizes[0]

    more = run_json("cluster", "archive", "--from", "latest", "-o", str(tmp_path / "again"))
    assert (tmp_path / "again" / "dwayne" / "men.jpg").is_file()
    assert more["clustering"]["base"] == found["clustering"]["name"]

    men = str(photos / "men.jpg")
    like = run_json("face", "find", "archive", men, "--face", "central", "--scope", "loose")
    assert {one["source"] for one in like["faces"]} == {men}
    assert len(run_json("face", "loose", "archive")["faces"]) == 24 - sizes[0]

    joined = run_json("clusters", "join", "archive", "1", "2")
    assert joined["cluster"]["size"] == sizes[1] + sizes[2]
    members = run_json("clusters", "show", "archive", joined["cluster"]["id"])["members"]
    split = run_json("clusters", "split", "archive", joined["cluster"]["id"], members[0]["face"])
    assert split["cluster"]["size"] == 1
    assert run_json("clusters", "undo", "archive")["clustering"]["edit_count"] == 1
    assert len(run_json("clusters", "list", "archive")["clusterings"]) == 2

    run_json("clusters", "name", "archive", "3", "vin")
    run_json("identity", "merge", "archive", "dwayne", "vin")
    history = run_json("identity", "history", "archive")["lineage"]
    assert [one["kind"] for one in history] == ["merge", "move", "move"]
    undone = run_json("identity", "undo", "archive", history[0]["id"])["lineage"]
    assert undone["face_count"] == history[0]["face_count"]
    people = run_json("identity", "list", "archive")["identities"]
    assert [one["id"] for one in people] == ["dwayne", "vin"]
    faces = run_json("identity", "show", "archive", "vin")["faces"]
    parted = run_json("identity", "split", "archive", "vin", faces[0]["name"], "--to", "else")
    assert parted["identity"]["id"] == "else"
    moved = run_json("identity", "move", "archive", faces[1]["name"])
    assert moved["faces"][0]["name"].startswith("galleries/archive/faces/")
    for shown in (
        ("clusters", "list", "archive"),
        ("clusters", "show", "archive", "0"),
        ("identity", "history", "archive", "vin"),
        ("cluster", "archive"),
        ("face", "loose", "archive"),
        ("gallery", "show", "archive"),
    ):
        capsys.readouterr()
        command(address, *shown)
        assert capsys.readouterr().out.strip()
    assert run_json("clusters", "delete", "archive", "latest")["deleted"]


def test_loose_enrolment_has_no_people(tmp_path: Path, server: Any) -> None:
    picture(tmp_path / "x.png", RED)
    for options in (("--identity", "ada"), ("--label", "a=b")):
        command(server.address, "enroll", "archive", str(tmp_path), "--loose", *options, code=2)
    (tmp_path / "empty").mkdir()
    command(server.address, "enroll", "archive", str(tmp_path / "empty"), "--loose", code=2)
