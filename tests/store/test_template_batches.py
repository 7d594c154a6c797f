"""Columns of templates: the same outcomes as face by face, in one commit."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import gallery_record, random_vectors

from visagedb_indexer.errors import (
    FaceExistsError,
    IdentityNotFoundError,
    InvalidArgumentError,
    InvalidLabelsError,
    InvalidNameError,
    InvalidVectorError,
    RequestIdReusedError,
)
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import EnrollMode, NewFace, NewIdentity, SearchOptions
from visagedb_indexer.integrity import verify_store
from visagedb_indexer.loose_faces import NewLooseFaces
from visagedb_indexer.store import GalleryStore
from visagedb_indexer.template_batches import BatchAnswer, TemplateBatch
from visagedb_indexer.values import Vector

ROWS = 300


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "gallery", gallery_record())
    yield gallery
    gallery.close()


def loose(vectors: Vector) -> NewLooseFaces:
    return NewLooseFaces(list(vectors), hashlib.sha256(vectors.tobytes()).digest())


def face_of(batch: TemplateBatch, row: int) -> NewFace:
    return NewFace(
        identity_id=batch.identity_ids[row],
        vector=batch.vectors[row],
        content_sha256=hashlib.sha256(batch.vectors[row].tobytes()).digest(),
        face_id=batch.face_ids[row],
        new_identity=batch.said[row] if batch.create else None,
    )


def enroll(gallery: Gallery, batch: TemplateBatch) -> BatchAnswer:
    return gallery.bulk.templates(batch).result(timeout=60)


def words(answer: BatchAnswer) -> list[str]:
    return [
        type(answer.errors[row]).__name__ if outcome is None else outcome.value
        for row, outcome in enumerate(answer.outcomes)
    ]


def check_invariants(path: Path) -> None:
    store = GalleryStore(path)
    try:
        report = verify_store(store)
    finally:
        store.close()
    broken = {one.invariant: one.findings for one in report.results if one.broken_count}
    assert not broken


def test_new_people_with_everything_that_can_be_said(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "g", gallery_record())
    gallery.loose.enroll(loose(random_vectors(1, 16, seed=9)))
    vectors = random_vectors(ROWS, 16)
    site = ["north", "south"]
    batch = TemplateBatch(
        identity_ids=[f"person-{row // 3}" for row in range(ROWS)],
        vectors=vectors,
        face_ids=[f"f{row}" if row % 2 else "" for row in range(ROWS)],
        sources=[f"file {row}" for row in range(ROWS)],
        said=[
            NewIdentity(f"Person {row // 3}", {"site": site[row // 3 % 2]}, {"row": row // 3})
            for row in range(ROWS)
        ],
    )
    assert not gallery.identities("labels.site=north")
    answer = enroll(gallery, batch)
    assert set(words(answer)) == {"enrolled"}
    assert answer.created_identity_count == ROWS // 3
    record = gallery.identity("person-7")
    assert (record.face_count, record.display_name) == (3, "Person 7")
    assert (record.labels, record.metadata) == ({"site": "south"}, {"row": 7})
    assert len(gallery.identities("labels.site=north", most=1000)) == ROWS // 6
    faces = gallery.faces("person-7", with_vectors=True)
    assert [face.source for face, _ in faces] == ["file 21", "file 22", "file 23"]
    assert [face.id for face, _ in faces][::2] == ["f21", "f23"]
    for row, (_, vector) in zip((21, 22, 23), faces, strict=True):
        np.testing.assert_allclose(vector, vectors[row], atol=1e-6)
    assert len(gallery.ordinals()) == ROWS + 1
    found = gallery.identify(vectors[22], SearchOptions(filter="labels.site=south"))
    assert found.candidates[0].identity.id == "person-7"
    gallery.close()
    check_invariants(tmp_path / "g")
    again = Gallery(tmp_path / "g")
    assert again.counters.face_count == ROWS + 1
    assert len(again.ordinals()) == ROWS + 1
    assert set(words(enroll(again, batch))) == {"already_enrolled"}
    again.close()


def contents(gallery: Gallery, identity_id: str) -> list[tuple[bytes, str]]:
    """What the faces of an identity were made from, and the ids that were given to them."""
    faces = [face for face, _ in gallery.faces(identity_id)]
    return sorted((face.content_sha256, face.id if len(face.id) == 1 else "") for face in faces)


def test_a_batch_does_what_its_faces_do_one_by_one(tmp_path: Path) -> None:
    """The two ways are compared over batches that meet each other's people."""
    rng = np.random.default_rng(5)
    vectors = random_vectors(40, 16)
    together = Gallery(tmp_path / "together", gallery_record())
    single = Gallery(tmp_path / "single", gallery_record())
    for _ in range(12):
        mode = list(EnrollMode)[int(rng.integers(3))]
        rows = rng.integers(0, 40, size=20)
        batch = TemplateBatch(
            identity_ids=[f"p{rng.integers(12)}" for _ in rows],
            vectors=vectors[rows],
            face_ids=[("", "a", "b")[int(rng.integers(3))] for _ in rows],
            said=[NewIdentity(labels={"k": str(rng.integers(3))}) for _ in rows],
            create=bool(rng.integers(4)),
            mode=mode,
        )
        answer = enroll(together, batch)
        expected = []
        for row in range(len(rows)):
            (one,) = single.enroll_many([face_of(batch, row)], mode)
            expected.append(one.outcome.value if hasattr(one, "outcome") else type(one).__name__)
        assert words(answer) == expected
    for gallery in (together, single):
        gallery.close()
    check_invariants(tmp_path / "together")
    one, other = Gallery(tmp_path / "together"), Gallery(tmp_path / "single")
    for record in other.identities(most=1000):
        same = one.identity(record.id)
        assert (same.labels, same.face_count) == (record.labels, record.face_count)
        assert contents(one, record.id) == contents(other, record.id)
    assert one.counters.face_count == other.counters.face_count
    one.close()
    other.close()


def test_refused_rows_do_not_touch_the_others(gallery: Gallery) -> None:
    vectors = random_vectors(9, 16)
    vectors[2] = 0
    vectors[3, 5] = np.nan
    vectors[4, 5] = np.inf
    vectors[5] *= np.float32(1e30)
    bad = NewIdentity(labels={"Bad key": "x"})
    answer = enroll(
        gallery,
        TemplateBatch(
            identity_ids=["p0", "not an id", "p2", "p3", "p4", "p5", "p6", "p7", "p0"],
            vectors=vectors,
            face_ids=["f", "", "", "", "", "", "", "..", "f"],
            said=[NewIdentity()] * 6 + [bad] + [NewIdentity()] * 2,
        ),
    )
    assert words(answer) == [
        "enrolled",
        InvalidNameError.__name__,
        InvalidVectorError.__name__,
        InvalidVectorError.__name__,
        InvalidVectorError.__name__,
        "enrolled",
        InvalidLabelsError.__name__,
        InvalidNameError.__name__,
        FaceExistsError.__name__,
    ]
    assert [record.id for record in gallery.identities()] == ["p0", "p5"]
    answer = enroll(gallery, TemplateBatch(["x"], vectors[:1], create=False))
    assert words(answer) == [IdentityNotFoundError.__name__]


@pytest.mark.parametrize(
    "batch",
    [
        TemplateBatch([], np.empty((0, 16), np.float32)),
        TemplateBatch(["a", "b"], random_vectors(1, 16)),
        TemplateBatch(["a"], random_vectors(1, 8)),
        TemplateBatch(["a"], random_vectors(1, 16), face_ids=["f", "g"]),
        TemplateBatch(["a"], random_vectors(1, 16), request_id="\0"),
    ],
)
def test_columns_that_do_not_fit_are_refused_whole(gallery: Gallery, batch: TemplateBatch) -> None:
    with pytest.raises(InvalidArgumentError):
        gallery.bulk.templates(batch)


def test_a_repeated_request_has_the_same_answer(gallery: Gallery) -> None:
    vectors = random_vectors(4, 16)
    batch = TemplateBatch(["a", "b", "c"], vectors[:3], request_id="r")
    first = enroll(gallery, batch)
    gallery.delete_identity("b")
    again = enroll(gallery, batch)
    assert (words(again), again.created_identity_count) == (words(first), 3)
    assert [record.id for record in gallery.identities()] == ["a", "c"]
    with pytest.raises(RequestIdReusedError):
        enroll(gallery, TemplateBatch(["a", "b", "d"], vectors[:3], request_id="r"))
