"""Lists of pairs: the two formats, and what is wrong with bad ones."""

from pathlib import Path

import numpy as np
import pytest

from visagedb_indexer import limits
from visagedb_indexer.evaluation import InvalidPairListError
from visagedb_server.evaluation.pair_lists import read_pair_list


def images(folder: Path, **people: int) -> Path:
    for person, count in people.items():
        (folder / person).mkdir(parents=True)
        for number in range(1, count + 1):
            (folder / person / f"{person}_{number:04d}.jpg").write_bytes(b"x")
    return folder


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_format_of_lfw_with_folds(tmp_path: Path) -> None:
    images(tmp_path / "images", Ann=2, Bob=2, Cy=2)
    text = "2\t1\nAnn\t1\t2\nAnn\t1\tBob\t1\nBob\t1\t2\nBob\t2\tCy\t1\n"
    found = read_pair_list(write(tmp_path, "pairs.txt", text), tmp_path / "images")
    assert found.same == (True, False, True, False)
    assert found.folds is not None
    assert found.folds.tolist() == [0, 0, 1, 1]
    names = [image.stem for image in found.images]
    assert names == ["Ann_0001", "Ann_0002", "Bob_0001", "Bob_0002", "Cy_0001"]
    assert found.pairs.tolist() == [[0, 1], [0, 2], [2, 3], [3, 4]]
    assert found.owners[0] == found.owners[1] != found.owners[2] == found.owners[3]
    assert len(np.unique(found.owners)) == 3


def test_the_format_of_lfw_without_folds(tmp_path: Path) -> None:
    images(tmp_path, Ann=2, Bob=1)
    text = "1\nAnn\t1\t2\nAnn\t2\tBob\t1\n"
    found = read_pair_list(write(tmp_path, "pairs.txt", text), None)
    assert found.folds is None
    assert len(found.same) == 2


@pytest.mark.parametrize("head", ["", "first,second,same\n"])
def test_csv(tmp_path: Path, head: str) -> None:
    for name in ("a b.png", "c.png", "d.png"):
        (tmp_path / name).write_bytes(b"x")
    text = f'{head}"a b.png", c.png, same\n\nc.png,{tmp_path}/d.png,0\n'
    found = read_pair_list(write(tmp_path, "list.csv", text), None)
    assert found.same == (True, False)
    assert [image.name for image in found.images] == ["a b.png", "c.png", "d.png"]
    assert found.owners[0] == found.owners[1] != found.owners[2]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "", "first line"),
        ("p.txt", "Ann\t1\t2\n", "first line"),
        ("p.txt", "1\nAnn\t1\n", "line 2"),
        ("p.txt", "1\nAnn\tone\ttwo\n", "line 2"),
        ("p.txt", "1\nAnn\t1\t2\n", "announces 2 pairs, but there are 1"),
        ("p.txt", "1\nAnn\t1\t1\nAnn\t1\tBob\t1\n", "with itself"),
        ("p.txt", "1\nAnn\t1\t9\nAnn\t1\tBob\t1\n", "1 images that do not exist: Ann/Ann_0009"),
        ("p.csv", "", "no pairs"),
        ("p.csv", "a,b,same\na,b\n", "line 2"),
        ("p.csv", "x,y,same\nx,z,maybe\n", "line 2"),
        ("p.csv", "x.png,y.png,same\n", "2 images that do not exist: x.png, y.png"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, text: str, message: str) -> None:
    images(tmp_path, Ann=2, Bob=1)
    with pytest.raises(InvalidPairListError, match=message):
        read_pair_list(write(tmp_path, name, text), None)


def test_bytes_and_sizes_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidPairListError, match="cannot be read"):
        read_pair_list(path, None)
    monkeypatch.setattr(limits, "EVALUATED_PAIRS_MAX", 1)
    path.write_text("1\nAnn\t1\t2\nAnn\t1\tBob\t1\n")
    with pytest.raises(InvalidPairListError, match="at most 1 are read"):
        read_pair_list(path, None)
