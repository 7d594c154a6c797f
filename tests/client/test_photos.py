"""Both clients, the command line and the examples against a real server, with photographs."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visagedb
from visagedb._cli._app import run

image_module = pytest.importorskip("PIL.Image", reason="the faces extra is not installed")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def client(server: Any) -> Iterator[visagedb.Client]:
    with visagedb.Client(server.address) as client:
        client.delete_gallery("people", missing_ok=True)
        client.create_gallery("people", threshold=0.42)
        yield client


@pytest.fixture
def folder(tmp_path: Path, photos: Any) -> Path:
    """The sample photographs as a folder of people."""
    root = tmp_path / "photos"
    for name, paths in photos.people.items():
        (root / name.replace("_", " ")).mkdir(parents=True)
        for path in paths:
            (root / name.replace("_", " ") / path.name).write_bytes(path.read_bytes())
    return root


def enroll_all(client: visagedb.Client, photos: Any) -> None:
    items = [
        visagedb.EnrollItem(name, image=path, source=path.name)
        for name, paths in photos.people.items()
        for path in paths
    ]
    results = list(client.enroll_many("people", items, face_selection="largest"))
    assert [result.error for result in results] == [None] * len(items)


def test_enrol_tells_where_the_face_is(client: visagedb.Client, photos: Any) -> None:
    path = photos.people["Joe_Biden"][0]
    enrolled = client.enroll("people", "joe", image=path, face_selection="largest")
    assert enrolled.detected_face_count >= 1
    detection = enrolled.face.detection
    assert detection is not None
    assert detection.box.width > 20
    assert detection.landmarks is not None
    assert len(detection.landmarks.points) == 5
    assert detection.quality is not None
    assert 0 <= detection.quality.score <= 1
    again = client.enroll("people", "joe", image=path.read_bytes())
    assert again.outcome is visagedb.EnrollOutcome.ALREADY_ENROLLED


def test_identify_and_verify(client: visagedb.Client, photos: Any) -> None:
    enroll_all(client, photos)
    for path, name in photos.probes:
        result = client.identify("people", image=path, face_selection="largest")
        assert result.match is not None
        assert result.match.id == name
        assert result.image_width > 0
        same = client.verify(path, gallery="people", identity=name, face_selection="largest")
        assert same.is_match
        other = photos.people["Joe_Biden"][0]
        assert not client.verify(path, other, gallery="people", face_selection="largest").is_match
    assert client.identify("people", image=photos.stranger).match is None
    group = client.identify("people", image=photos.group)
    assert len(group) == 6
    assert all(answer.match is None for answer in group)


def test_embedded_vectors_are_those_of_enrolment(client: visagedb.Client, photos: Any) -> None:
    enroll_all(client, photos)
    path, name = photos.probes[0]
    result = client.embed(path, "people")
    by_vector = client.identify("people", vector=result.faces[0].template, top_k=1)
    by_image = client.identify("people", image=path, face_selection="largest", top_k=1)
    assert by_vector.best is not None
    assert by_image.best is not None
    assert by_vector.best.id == name
    assert by_vector.best.score == pytest.approx(by_image.best.score, abs=1e-4)
    assert result.model == client.get_gallery("people").model


def test_unusable_images(client: visagedb.Client, photos: Any) -> None:
    content = photos.people["Joe_Biden"][0].read_bytes()
    grey = io.BytesIO()
    image_module.new("RGB", (200, 200), "grey").save(grey, "PNG")
    with pytest.raises(visagedb.NoFaceError):
        client.enroll("people", "x", image=grey.getvalue())
    with pytest.raises(visagedb.SeveralFacesError):
        client.enroll("people", "x", image=photos.group)
    with pytest.raises(visagedb.CorruptImageError):
        client.enroll("people", "x", image=content[: len(content) // 2])
    with pytest.raises(visagedb.UnsupportedImageFormatError):
        client.enroll("people", "x", image=b"this is no image")
    with pytest.raises(visagedb.InvalidImageError):
        client.enroll("people", "x", image=b"")
    assert len(client.detect(grey.getvalue())) == 0
    assert len(client.detect(photos.group)) == 6


async def test_async_client(server: Any, photos: Any) -> None:
    async with visagedb.AsyncClient(server.address) as client:
        await client.delete_gallery("async-people", missing_ok=True)
        await client.create_gallery("async-people", threshold=0.42)
        for name, paths in photos.people.items():
            await client.enroll("async-people", name, image=paths[0], face_selection="largest")
        path, name = photos.probes[0]
        result = await client.identify("async-people", image=path, face_selection="largest")
        assert result.match is not None
        assert result.match.id == name


def test_command_line(
    client: visagedb.Client,
    photos: Any,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def cli(*arguments: str, code: int = 0) -> Any:
        capsys.readouterr()
        assert run([*arguments, "--address", client.address, "--json"]) == code
        return json.loads(capsys.readouterr().out)

    enrolled = cli("enroll", "people", str(folder), "--face", "largest", "--label", "role=guest")
    assert enrolled["outcomes"] == {"enrolled": 3}
    assert enrolled["people"] == 2
    (folder / "Joe Biden" / "broken.jpg").write_bytes(b"broken")
    (folder / "Joe Biden" / "notes.txt").write_text("skipped")
    again = cli("enroll", "people", str(folder), "--face", "largest", code=1)
    assert again["outcomes"] == {
        "already_enrolled": 3,
        "UNSUPPORTED_IMAGE_FORMAT": 1,
        "skipped": 1,
    }
    assert again["failures"][0]["file"] == "Joe Biden/broken.jpg"
    shown = cli("identity", "show", "people", "Joe_Biden")
    assert shown["identity"]["display_name"] == "Joe Biden"
    assert shown["identity"]["labels"] == {"role": "guest"}
    assert shown["faces"][0]["source"] == "Joe Biden/biden.jpg"

    probe, name = photos.probes[0]
    found = cli("identify", "people", str(probe), "--face", "largest")
    assert found["identifications"][0]["decision"] == "match"
    assert found["identifications"][0]["candidates"][0]["id"] == name
    arguments = ("verify", str(probe), "--gallery", "people", "--face", "largest")
    assert cli(*arguments, "--identity", name)["decision"] == "match"
    assert cli(*arguments, "--identity", "Joe_Biden")["decision"] == "no_match"

    annotated = tmp_path / "annotated.png"
    faces = cli("face", "detect", str(photos.group), "--output", str(annotated))["faces"]
    assert len(faces) == 6
    with image_module.open(annotated) as picture, image_module.open(photos.group) as original:
        assert picture.size == original.size
    vectors = tmp_path / "vectors.npy"
    cli("face", "embed", str(photos.group), "--gallery", "people", "--output", str(vectors))
    assert np.load(vectors).shape == (6, 128)

    single = cli("enroll", "people", str(probe), "--identity", "x", "--face", "largest")
    assert single["outcomes"] == {"enrolled": 1}
    missing = cli("enroll", "nowhere", str(folder), code=1)
    assert missing["error"]["reason"] == "GALLERY_NOT_FOUND"
    created = cli("enroll", "made", str(folder), "--create-gallery", "--face", "largest", code=1)
    assert created["outcomes"]["enrolled"] == 3
    cli("gallery", "delete", "made", "--yes")


def test_tables(
    client: visagedb.Client, photos: Any, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def cli(*arguments: str) -> str:
        capsys.readouterr()
        assert run([*arguments, "--address", client.address]) == 0
        return capsys.readouterr().out

    assert "enrolled" in cli("enroll", "people", str(folder), "--face", "largest")
    probe, _ = photos.probes[0]
    assert "MATCH" in cli("identify", "people", str(probe), "--face", "largest")
    assert "NO MATCH" in cli("identify", "people", str(photos.stranger))
    assert "pixels" in cli("face", "detect", str(photos.group))
    assert "128-d" in cli("face", "embed", str(photos.group))


@pytest.mark.parametrize("name", ["quickstart.py", "async_identify.py"])
def test_examples_with_vectors(name: str, vector_server: Any) -> None:
    assert example(name, vector_server.address)


def test_example_with_photographs(server: Any, photos: Any, folder: Path) -> None:
    probe, name = photos.probes[0]
    (folder / name.replace("_", " ")).rename(folder / name)
    (folder / name / "probe.jpg").write_bytes(probe.read_bytes())
    assert f"probe.jpg: {name} (right)" in example("photos.py", server.address, str(folder))


def example(name: str, address: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env=os.environ | {"VISAGEDB_ADDRESS": address},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_demo(photos: Any, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 wrong" in done.stdout
    assert "exit code 0" in done.stdout
    assert (tmp_path / "demo-output" / "annotated.png").stat().st_size > 10_000
