"""visagedb evaluate on real photographs, and against a real server."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.people import made_up
from sample_photos import SamplePhotos

import visagedb
from visagedb._cli._app import run
from visagedb_server import logs
from visagedb_server.evaluation.cache import TemplateCache
from visagedb_server.evaluation.values import Embedded, Failure

NOBODY = "127.0.0.1:1"


@pytest.fixture(autouse=True)
def quiet_logs() -> None:
    """Servers in this process must not write to the output that the tests read."""
    logs.configure("error", "text")


@pytest.fixture
def people(tmp_path: Path, photos: SamplePhotos) -> Path:
    """A folder of three people, with files that cannot be used among them."""
    pytest.importorskip("torch")
    pytest.importorskip("matplotlib")
    folder = tmp_path / "people"
    for person, paths in photos.people.items():
        (folder / person).mkdir(parents=True)
        for path in paths:
            shutil.copy(path, folder / person)
    (folder / "Tom_Hanks").mkdir()
    shutil.copy(photos.stranger, folder / "Tom_Hanks")
    shutil.copy(photos.probes[0][0], folder / photos.probes[0][1])
    shutil.copy(photos.group, folder / "Tom_Hanks" / "group.jpg")
    (folder / "Joe_Biden" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")
    (folder / "Joe_Biden" / "empty.png").touch()
    (folder / "Joe_Biden" / "notes.txt").write_text("no image")
    return folder


def document(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert run(["evaluate", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_a_folder(people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, cache = tmp_path / "report.html", tmp_path / "cache"
    arguments = [str(people), "--cache", str(cache), "--workers", "1", "--draws", "10"]
    found = document(capsys, *arguments, "--report", str(report))
    subject = found["subject"]
    assert (subject["images"], subject["faces"], subject["people"]) == (8, 5, 3)
    reasons = {failure["name"]: failure["reason"] for failure in subject["failures"]}
    assert reasons == {
        "Joe_Biden/broken.jpg": "CORRUPT_IMAGE",
        "Joe_Biden/empty.png": "EMPTY_IMAGE",
        "Tom_Hanks/group.jpg": "SEVERAL_FACES",
    }
    assert subject["failure_counts"]["SEVERAL_FACES"] == 1
    assert "1 files are no images" in subject["notes"][0]
    assert found["verification"]["mate_count"] == 3
    assert found["verification"]["impostor_count"] == 7
    assert found["verification"]["equal_error_rate"] == 0
    text = report.read_text()
    assert text.count("data:image/jpeg;base64,") == 2 * (
        len(found["false_matches"]) + len(found["false_non_matches"])
    )
    assert "group.jpg" in text
    # What was embedded once is not embedded again: now not even a process starts.
    again = document(capsys, *arguments, "--seed", "1")
    assert again["subject"]["failures"] == subject["failures"]
    assert again["verification"]["points"][0]["threshold"] == pytest.approx(
        found["verification"]["points"][0]["threshold"]
    )
    assert run(["evaluate", *arguments]) == 0
    shown = capsys.readouterr().out
    assert "3 of 8 images unused" in shown
    assert "Too little data" in shown


def test_a_list_of_pairs(people: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    obama = [f"Barack_Obama/{name}.jpg" for name in ("obama", "obama2", "obama3")]
    rows = [(obama[0], obama[1], "same"), (obama[1], obama[2], "same")]
    rows += [(one, "Joe_Biden/biden.jpg", "different") for one in obama]
    rows += [(obama[0], "Tom_Hanks/group.jpg", "different")]
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(",".join(row) for row in rows))
    found = document(capsys, str(people), "--pairs", str(path), "--workers", "1")
    assert found["folds"]["accuracy"] == 1
    assert found["identification"] is None
    assert found["subject"]["notes"] == [
        "1 of 6 pairs have an image without a usable face; they count as not matching."
    ]
    path.write_text("a.jpg,b.jpg,same\n")
    error = document(capsys, "--pairs", str(path), code=1)["error"]
    assert error["reason"] == "INVALID_PAIR_LIST"


def test_a_gallery(vector_server: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    faces = made_up(25, 3)
    with visagedb.Client(vector_server.address) as client:
        client.create_gallery("staff", model="mine@1", dimension=32, score_fusion="mean_of_best")
        client.create_gallery("empty", model="mine@1", dimension=32)
        client.create_gallery("one", model="mine@1", dimension=32)
        for number, owner in enumerate(faces.owners.tolist()):
            vector = faces.vectors[number]
            client.enroll("staff", f"p{owner}", vector=vector, source=f"{number}.jpg")
        client.enroll("one", "p", vector=faces.vectors[0])
    address = ["--address", vector_server.address]
    report = tmp_path / "report.html"
    found = document(capsys, "--gallery", "staff", *address, "--report", str(report))
    assert found["subject"]["kind"] == "gallery"
    assert found["subject"]["model"] == "mine@1"
    assert found["subject"]["faces"] == 75
    assert found["verification"]["mate_count"] == 75
    assert found["identification"]["splits"] == 10
    assert found["quality"] is None
    assert found["false_matches"][0]["one"]["name"].endswith(".jpg")
    assert "data:image" not in report.read_text()
    assert "staff" in report.read_text()
    assert found["identification"]["protocol"]["fusion"] == "mean_of_best"
    both = [*address, "--enrolled", "2", "--draws", "10"]
    fnir = {}
    for fusion in (None, "mean_of_best", "adaptive_mean", "maximum"):
        chosen = [] if fusion is None else ["--fusion", fusion]
        measured = document(capsys, "--gallery", "staff", *both, *chosen)
        used = fusion or "mean_of_best"
        assert measured["identification"]["protocol"]["fusion"] == used
        assert measured["subject"]["options"]["several enrolled images"] == used
        fnir[fusion] = measured["identification"]["points"][0]
    assert fnir[None] == fnir["mean_of_best"] != fnir["adaptive_mean"]
    assert run(["evaluate", "--gallery", "staff", *both, "--report", str(report)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "enrolled with up to 2 images each (mean_of_best)" in shown
    assert "enrolled with up to 2 images each (mean_of_best)" in report.read_text()
    many = document(capsys, "--gallery", "staff", *address, "--enrolled", "3")
    assert many["identification"] is None
    assert "Nothing was measured of 1:N" in many["subject"]["notes"][0]
    for name, reason in (
        ("empty", "NOTHING_TO_EVALUATE"),
        ("one", "TOO_FEW_PEOPLE"),
        ("nobody", "GALLERY_NOT_FOUND"),
    ):
        error = document(capsys, "--gallery", name, *address, code=1)["error"]
        assert error["reason"] == reason
    assert run(["evaluate", "--gallery", "staff", "--address", NOBODY]) == 3


def test_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate"]) == 2
    assert run(["evaluate", str(tmp_path), "--gallery", "staff"]) == 2
    assert run(["evaluate", str(tmp_path / "nowhere")]) == 2
    assert run(["evaluate", str(tmp_path), "--precision", "float8"]) == 2
    assert run(["evaluate", str(tmp_path)]) == 1
    assert "sub-folder" in capsys.readouterr().err
    error = document(capsys, str(tmp_path), code=1)["error"]
    assert error["reason"] == "NOTHING_TO_EVALUATE"
    assert run(["evaluate", str(tmp_path), "--report", str(tmp_path / "no" / "r.html")]) == 1
    assert "no folder" in capsys.readouterr().err


def test_models_and_caches_that_cannot_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    (tmp_path / "Ann").mkdir()
    (tmp_path / "Ann" / "1.jpg").write_bytes(b"x")
    for model in ("nobody", "yunet"):
        error = document(capsys, str(tmp_path), "--model", model, code=1)["error"]
        assert error["reason"] == "MODEL_NOT_AVAILABLE"
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "templates.sqlite").write_bytes(b"not a database" * 100)
    error = document(capsys, str(tmp_path), "--cache", str(cache), code=1)["error"]
    assert "remove it" in error["message"]


def test_a_missing_package_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "visagedb_server.evaluation.report", raising=False)
    assert run(["evaluate", str(tmp_path), "--report", str(tmp_path / "r.html")]) == 4
    assert "pip install 'visagedb[all]'" in capsys.readouterr().err


def test_the_cache_keeps_recipes_apart(tmp_path: Path) -> None:
    vector = np.arange(4, dtype=np.float32)
    one, other = TemplateCache(tmp_path, "one", 4), TemplateCache(tmp_path, "other", 4)
    box = visagedb.Box(1, 2, 3, 4)
    one.put(one.key(b"image"), Embedded(vector, 0.5, box))  # type: ignore[arg-type]
    one.put(one.key(b"nobody"), Failure("NO_FACE", "no face was found"))
    one.close()
    assert other.get(other.key(b"image")) is None
    other.close()
    again = TemplateCache(tmp_path, "one", 4)
    found = again.get(again.key(b"image"))
    assert isinstance(found, Embedded)
    np.testing.assert_array_equal(found.vector, vector)
    assert (found.quality, found.box.width) == (0.5, 3)
    assert again.get(again.key(b"nobody")) == Failure("NO_FACE", "no face was found")
    key = again.key(b"image")
    again.close()
    longer = TemplateCache(tmp_path, "one", 5)
    assert longer.get(key) is None
    longer.close()
    assert (tmp_path / "templates.sqlite").stat().st_mode & 0o077 == 0
