"""Identification and comparison of identities with several faces, by every fusion."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import enroll, gallery_record, mates, random_vectors

from visagedb_indexer import limits
from visagedb_indexer.fusion import fused_scores
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import GalleryPatch, NewIdentity, SearchOptions
from visagedb_indexer.values import Fusion

PEOPLE, DIMENSION = 40, 16
CENTRES = random_vectors(PEOPLE, DIMENSION)
FACES = {f"p{person}": mates(np.repeat(CENTRES[person : person + 1], person % 4 + 1, axis=0), 0.7,
                             seed=person) for person in range(PEOPLE)}  # fmt: skip
PROBE = mates(CENTRES[3:4], 0.6, seed=99)[0]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path_factory.mktemp("ranking"), gallery_record(dimension=DIMENSION))
    for identity, faces in FACES.items():
        for place, face in enumerate(faces):
            enroll(gallery, identity, face, face_id=str(place))
    gallery.create_identity("nobody", NewIdentity())
    yield gallery
    gallery.close()


def expected(fusion: Fusion) -> list[tuple[str, float]]:
    start = np.zeros(1, np.int64)
    scores = {
        identity: float(fused_scores(faces @ PROBE, faces, start, fusion)[0])
        for identity, faces in FACES.items()
    }
    return sorted(scores.items(), key=lambda item: -item[1])


@pytest.mark.parametrize("fusion", list(Fusion))
@pytest.mark.parametrize("top_k", [1, 7, PEOPLE, PEOPLE + 9])
def test_the_answer_is_that_of_scoring_everybody(
    gallery: Gallery, fusion: Fusion, top_k: int
) -> None:
    gallery.update(GalleryPatch(fusion=fusion))
    found = gallery.identify(PROBE, SearchOptions(top_k=top_k)).candidates
    wanted = expected(fusion)[:top_k]
    assert [candidate.identity.id for candidate in found] == [identity for identity, _ in wanted]
    assert [candidate.score for candidate in found] == pytest.approx(
        [score for _, score in wanted], abs=1e-5
    )
    for candidate in found:
        best = int(np.argmax(FACES[candidate.identity.id] @ PROBE))
        assert candidate.face.id == str(best)


@pytest.mark.parametrize("fusion", list(Fusion))
def test_a_comparison_gives_the_score_of_the_search(gallery: Gallery, fusion: Fusion) -> None:
    gallery.update(GalleryPatch(fusion=fusion))
    for candidate in gallery.identify(PROBE, SearchOptions(top_k=9)).candidates:
        score, face = gallery.compare(PROBE, candidate.identity.id)
        assert score == pytest.approx(candidate.score, abs=1e-5)
        assert face == candidate.face


def test_the_least_score_is_one_of_fused_scores(gallery: Gallery) -> None:
    gallery.update(GalleryPatch(fusion=Fusion.MEAN_VECTOR))
    fifth = expected(Fusion.MEAN_VECTOR)[4][1]
    options = SearchOptions(top_k=20, min_score=fifth - 1e-4)
    assert len(gallery.identify(PROBE, options).candidates) == 5


def test_the_setting_is_kept(gallery: Gallery) -> None:
    assert gallery.update(GalleryPatch(fusion=Fusion.MEAN_OF_BEST)).fusion is Fusion.MEAN_OF_BEST
    assert gallery.update(GalleryPatch(display_name="x")).fusion is Fusion.MEAN_OF_BEST


def test_an_old_gallery_takes_the_best_face(tmp_path: Path) -> None:
    assert gallery_record().fusion is Fusion.MAXIMUM
    gallery = Gallery(tmp_path / "g", replace(gallery_record(), fusion=Fusion.ADAPTIVE_MEAN))
    gallery.close()
    gallery = Gallery(tmp_path / "g")
    assert gallery.record.fusion is Fusion.ADAPTIVE_MEAN
    gallery.close()


def test_of_very_many_faces_the_newest_count_and_the_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "FUSED_FACES_MAX", 2)
    record = replace(gallery_record(), fusion=Fusion.MEAN_VECTOR)
    gallery = Gallery(tmp_path / "g", record)
    faces = mates(np.repeat(CENTRES[:1], 5, axis=0), 0.7)
    for face in faces:
        enroll(gallery, "many", face)
    [candidate] = gallery.identify(faces[0], SearchOptions()).candidates
    counted = faces[[0, 3, 4]]
    start = np.zeros(1, np.int64)
    score = fused_scores(counted @ faces[0], counted, start, Fusion.MEAN_VECTOR)[0]
    assert candidate.score == pytest.approx(score, abs=1e-5)
    gallery.close()
