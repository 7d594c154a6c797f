"""Many faces in one commit: each with its own outcome, a refused one without a trace."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import gallery_record, random_vectors

from visagedb_indexer.errors import (
    FaceExistsError,
    IdentityNotFoundError,
    IndexerError,
    InvalidNameError,
    InvalidVectorError,
    RequestIdReusedError,
)
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import (
    Enrollment,
    EnrollMode,
    EnrollOutcome,
    NewFace,
    NewIdentity,
    SearchOptions,
)
from visagedb_indexer.values import Vector


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path / "gallery", gallery_record())
    yield gallery
    gallery.close()


def face(
    identity_id: str,
    vector: Vector,
    face_id: str = "",
    *,
    said: NewIdentity | None = None,
    create: bool = True,
    request_id: str = "",
) -> NewFace:
    return NewFace(
        identity_id=identity_id,
        vector=vector,
        content_sha256=hashlib.sha256(vector.tobytes()).digest(),
        face_id=face_id,
        new_identity=(said or NewIdentity()) if create else None,
        request_id=request_id,
    )


def outcomes(answers: list[Enrollment | IndexerError]) -> list[object]:
    return [
        answer.outcome if isinstance(answer, Enrollment) else type(answer) for answer in answers
    ]


def test_each_face_has_its_own_outcome_and_the_refused_leave_no_trace(gallery: Gallery) -> None:
    vectors = random_vectors(4, 16)
    answers = gallery.enroll_many(
        [
            face("ada", vectors[0], "f"),
            face("ada", np.zeros(16, np.float32)),
            face("bad id", vectors[1]),
            face("ada", vectors[1], "f"),
            face("nobody", vectors[1], create=False),
            face("ada", vectors[0]),
            face("bea", vectors[2]),
        ]
    )
    assert outcomes(answers) == [
        EnrollOutcome.ENROLLED,
        InvalidVectorError,
        InvalidNameError,
        FaceExistsError,
        IdentityNotFoundError,
        EnrollOutcome.ALREADY_ENROLLED,
        EnrollOutcome.ENROLLED,
    ]
    assert gallery.counters.face_count == 2
    assert [record.id for record in gallery.identities()] == ["ada", "bea"]
    found = gallery.identify(vectors[2], SearchOptions(top_k=2))
    assert [one.identity.id for one in found.candidates] == ["bea", "ada"]


def test_upsert_puts_a_face_in_the_place_of_the_one_of_its_id(gallery: Gallery) -> None:
    old, new = random_vectors(2, 16)
    gallery.enroll(face("ada", old, "f", said=NewIdentity("Ada", {"site": "north"})))
    said = NewIdentity(labels={"site": "south"})
    answers = gallery.enroll_many([face("ada", new, "f", said=said)] * 2, EnrollMode.UPSERT)
    assert outcomes(answers) == [EnrollOutcome.REPLACED, EnrollOutcome.ALREADY_ENROLLED]
    record = gallery.identity("ada")
    assert (record.face_count, record.display_name) == (1, "Ada")
    assert record.labels == {"site": "south"}
    assert [one.id for one in gallery.identities("labels.site=south")] == ["ada"]
    assert not gallery.identities("labels.site=north")
    assert gallery.counters.face_count == 1
    answer = gallery.identify(new, SearchOptions())
    assert answer.candidates[0].score == pytest.approx(1.0, abs=1e-6)


def test_upsert_within_one_commit_keeps_the_last(gallery: Gallery) -> None:
    vectors = random_vectors(3, 16)
    answers = gallery.enroll_many([face("ada", one, "f") for one in vectors], EnrollMode.UPSERT)
    assert outcomes(answers) == [
        EnrollOutcome.ENROLLED,
        EnrollOutcome.REPLACED,
        EnrollOutcome.REPLACED,
    ]
    assert gallery.identity("ada").face_count == 1
    _, stored = gallery.face("ada", "f", with_vector=True)
    assert stored is not None
    np.testing.assert_allclose(stored, vectors[2], atol=1e-6)
    assert len(gallery.ordinals()) == 1


def test_skip_existing_leaves_an_identity_as_it_is(gallery: Gallery) -> None:
    vectors = random_vectors(3, 16)
    gallery.enroll(face("ada", vectors[0]))
    before = gallery.identity("ada")
    answers = gallery.enroll_many(
        [
            face("ada", vectors[1], said=NewIdentity("Other")),
            face("bea", vectors[1]),
            face("bea", vectors[2]),
        ],
        EnrollMode.SKIP_EXISTING,
    )
    assert outcomes(answers) == [
        EnrollOutcome.SKIPPED,
        EnrollOutcome.ENROLLED,
        EnrollOutcome.SKIPPED,
    ]
    assert gallery.identity("ada") == before


def test_a_repeated_request_has_the_same_answer(gallery: Gallery) -> None:
    vectors = random_vectors(2, 16)
    faces = [face("ada", vectors[0], request_id="r1"), face("bea", vectors[1], request_id="r2")]
    first = gallery.enroll_many(faces)
    assert gallery.enroll_many(faces) == first
    (other,) = gallery.enroll_many([face("ada", vectors[1], request_id="r1")])
    assert isinstance(other, RequestIdReusedError)
    assert gallery.counters.face_count == 2
