"""The report: complete, self-contained, escaped, and readable in a browser."""

import importlib.util
import shutil
import subprocess
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from evaluation.people import made_up

from visagedb_indexer.evaluation import (
    Bootstrap,
    Evaluation,
    LabelledFaces,
    ScoredPairs,
    Settings,
    evaluate_faces,
    evaluate_pairs,
)
from visagedb_server.evaluation.values import FaceReference, FailedImage, Subject

if any(importlib.util.find_spec(name) is None for name in ("jinja2", "matplotlib", "PIL")):
    pytest.skip("the evaluation extra is not installed", allow_module_level=True)

from PIL import Image

from visagedb_server.evaluation.report import render, write_report
from visagedb_server.evaluation.words import one_in, percent, target

HOSTILE = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
FACES_FIGURES = {
    "histogram",
    "det",
    "roc",
    "open-set",
    "cmc",
    "growth-misses",
    "growth-false-positives",
    "quality-bins",
    "error-versus-discard",
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Page(HTMLParser):
    """What is in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        if tag not in ("meta", "img", "link", "br"):
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.links.append(value or "")
            assert not name.startswith("on"), name

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def subject(faces: LabelledFaces, picture: Path | None = None) -> Subject:
    return Subject(
        kind="folder",
        name=HOSTILE,
        model="sface@1",
        created=datetime(2026, 1, 2, 3, 4, tzinfo=UTC),
        images=len(faces) + 1,
        faces=len(faces),
        people=len(faces.people),
        failures=(FailedImage(HOSTILE, "NO_FACE", HOSTILE),),
        options={"seed": "0"},
        notes=(HOSTILE,),
        references=tuple(
            FaceReference(f"{HOSTILE}/{n}.jpg", HOSTILE, picture) for n in range(len(faces))
        ),
    )


def evaluated(people: int = 100, noise: float = 0.9) -> tuple[LabelledFaces, Evaluation]:
    faces = made_up(people, 4, noise=noise)
    return faces, evaluate_faces(faces, Settings(bootstrap=Bootstrap(draws=20)))


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "face.png"
    Image.effect_noise((80, 60), 50).convert("RGB").save(path)
    return path


def figures(page: Page) -> set[str]:
    return {name.removesuffix("-figure_1") for name in page.ids if name.endswith("-figure_1")}


def test_all_parts_are_there_and_nothing_comes_from_elsewhere(picture: Path) -> None:
    faces, found = evaluated()
    text = render(subject(faces, picture), found)
    page = Page(text)
    assert page.open == []
    assert figures(page) == FACES_FIGURES
    sections = ["verification", "identification", "growth", "quality"]
    for name in [*sections, "mistakes", "failures", "method"]:
        assert name in page.ids
    assert len(page.ids) == len(set(page.ids))
    assert page.tags["svg"] == page.tags["figure"] == len(FACES_FIGURES)
    assert page.tags["img"] == 2 * (len(found.false_matches) + len(found.false_non_matches)) == 48
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    assert page.tags["script"] == page.tags["link"] == page.tags["iframe"] == 0
    assert "2026-01-02 03:04 UTC" in page.text
    # Every reference inside a drawing leads somewhere.
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert "#0101" not in text, "a placeholder colour is left"


def test_names_are_escaped() -> None:
    faces, found = evaluated(people=30)
    page = Page(render(subject(faces), found))
    assert page.tags["script"] == 0
    assert HOSTILE in page.text
    assert page.tags["img"] == 0


def test_the_figures_of_the_table_are_those_measured() -> None:
    faces, found = evaluated()
    page = Page(render(subject(faces), found))
    for point in found.verification.points:
        assert one_in(point.target_fmr) in page.text
        assert percent(point.fnmr) in page.text
    assert found.identification is not None
    for search in found.identification.points:
        assert percent(search.fnir) in page.text


@pytest.mark.parametrize("noise", [0.01, 3.0])
def test_extremes_can_be_drawn(noise: float) -> None:
    """Without a single error, and with little but errors."""
    for people in (2, 3, 12, 40):
        faces, found = evaluated(people, noise)
        assert "verification" in Page(render(subject(faces), found)).ids


def test_a_list_of_pairs_has_folds_and_no_gallery() -> None:
    faces = made_up(40, 2)
    first = np.arange(0, 80, 2)
    pairs = np.concatenate(
        [np.stack([first, first + 1], axis=1), np.stack([first, np.roll(first, 1)], axis=1)]
    )
    scores = np.einsum("ij,ij->i", faces.vectors[pairs[:, 0]], faces.vectors[pairs[:, 1]])
    listed = ScoredPairs(scores, [True] * 40 + [False] * 40, pairs, faces.owners, faces.quality)
    found = evaluate_pairs(listed, Settings(bootstrap=Bootstrap(draws=10)))
    page = Page(render(replace(subject(faces), kind="pairs", people=0), found))
    assert "folds" in figures(page)
    assert "identification" not in page.ids


def test_the_file_is_replaced_whole(tmp_path: Path) -> None:
    faces, found = evaluated(people=12)
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, subject(faces), found)
    assert path.read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("dark", [False, True])
def test_a_browser_shows_it(tmp_path: Path, picture: Path, dark: bool) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed")
    faces, found = evaluated()
    page, shot = tmp_path / "report.html", tmp_path / "report.png"
    write_report(page, subject(faces, picture), found)
    command = [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    command += ["--disable-dev-shm-usage", f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}"]
    command += ["--window-size=1100,9000", f"--screenshot={shot}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert shot.is_file(), done.stderr
    pixels = np.asarray(Image.open(shot).convert("RGB")).astype(int)
    assert pixels.shape == (9000, 1100, 3)
    paper = (21, 24, 28) if dark else (255, 255, 255)
    mates, impostors = ((86, 180, 233), (242, 142, 67)) if dark else ((0, 114, 178), (213, 94, 0))
    assert tuple(pixels[-1, -1]) == paper

    def rows_with(color: tuple[int, int, int], least: int) -> int:
        return int(np.sum(np.sum(np.abs(pixels - color).sum(axis=2) < 12, axis=1) >= least))

    # Lines, dots and bold labels in both colours, all down the page; and pictures of faces.
    assert rows_with(mates, 3) > 1000
    assert rows_with(impostors, 3) > 150
    drawn = np.any(np.abs(pixels - paper).sum(axis=2) > 30, axis=1)
    assert np.flatnonzero(drawn)[-1] > 6000


def test_numbers_as_people_read_them() -> None:
    assert percent(0) == "0%"
    assert percent(1) == "100%"
    assert percent(0.1234) == "12.3%"
    assert percent(0.00654) == "0.65%"
    assert percent(0.99354) == "99.35%"
    assert percent(0.00000993) == "0.00099%"
    assert target(0.1) == "10%"
    assert target(1e-5) == "0.001%"
    assert one_in(1e-5) == "1 in 100,000"
