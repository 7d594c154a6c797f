"""Searches compared with plain arithmetic over the same vectors."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from support import (
    TIE,
    assert_same_ranking,
    expected_ranking,
    mates,
    random_vectors,
    unit,
    write_gallery,
)

from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import SearchOptions
from visagedb_indexer.search import EngineState
from visagedb_indexer.values import Vector


@dataclass
class Known:
    """A gallery and what is in it."""

    gallery: Gallery
    owners: Sequence[int]
    vectors: Vector

    def search(self, probe: Vector, **options: object) -> list[tuple[str, float]]:
        answer = self.gallery.identify(probe, SearchOptions(**options))
        for candidate in answer.candidates:
            ordinal = candidate.face.ordinal
            assert candidate.identity.id == f"p{self.owners[ordinal]}"
            assert abs(float(self.vectors[ordinal] @ unit(probe)) - candidate.score) <= TIE
        return [(found.identity.id, found.score) for found in answer.candidates]

    def expected(self, probe: Vector, passing: set[int] | None = None) -> list[tuple[str, float]]:
        return expected_ranking(self.owners, self.vectors, probe, passing)


Open = Callable[..., Known]


@pytest.fixture
def open_known(tmp_path: Path) -> Iterator[Open]:
    opened: list[Gallery] = []

    def open_one(owners: Sequence[int], vectors: Vector, **options: object) -> Known:
        path = tmp_path / f"gallery{len(opened)}"
        write_gallery(path, owners, vectors, **options)
        opened.append(Gallery(path))
        return Known(opened[-1], owners, vectors)

    yield open_one
    for gallery in opened:
        gallery.close()


@pytest.mark.parametrize("dimension", [1, 2, 3, 15, 16, 128, 511, 2048])
@pytest.mark.parametrize("count", [0, 1, 2, 150])
def test_small_galleries_are_searched_exactly(open_known: Open, count: int, dimension: int) -> None:
    known = open_known([i // 2 for i in range(count)], random_vectors(count, dimension))
    for probe in random_vectors(4, dimension, seed=9):
        for top_k in (1, 3, 10, 1000):
            found = known.search(probe, top_k=top_k)
            expected = known.expected(probe)
            assert len(found) == min(top_k, len(expected))
            assert_same_ranking(found, expected)


def test_equal_vectors_come_in_the_order_of_enrolment(open_known: Open) -> None:
    vector = random_vectors(1, 32)
    known = open_known(list(range(20)), np.repeat(vector, 20, axis=0))
    found = known.search(vector[0], top_k=7)
    assert [name for name, _ in found] == [f"p{i}" for i in range(7)]
    assert known.search(-vector[0], top_k=1000)[-1][1] == pytest.approx(-1.0)


def test_scores_stay_cosines(open_known: Open) -> None:
    vectors = random_vectors(200, 512)
    known = open_known(list(range(200)), vectors)
    for vector in vectors[:50]:
        [(_, score)] = known.search(1e6 * vector, top_k=1)
        assert 1.0 - TIE <= score <= 1.0


def test_min_score_cuts_the_answer_and_nothing_else(open_known: Open) -> None:
    known = open_known([i % 30 for i in range(90)], random_vectors(90, 8))
    for probe in random_vectors(5, 8, seed=3):
        for least in (-1.0, 0.0, 0.3, 1.0):
            expected = [pair for pair in known.expected(probe) if pair[1] >= least]
            found = known.search(probe, top_k=30, min_score=least)
            assert len(found) == len(expected)
            assert_same_ranking(found, expected)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Known]:
    """60,000 faces of 30,000 people, large enough for the compact scan."""
    count = 60_000
    vectors = random_vectors(count, 128)
    owners = [i // 2 for i in range(count)]
    path = tmp_path_factory.mktemp("large") / "gallery"
    share = {"all": 1, "half": 2, "few": 100, "fewest": 10_000}
    write_gallery(
        path,
        owners,
        vectors,
        lambda n: {key: "yes" for key, each in share.items() if n % each == 0},
    )
    gallery = Gallery(path)
    assert gallery.wait_until_settled(60)
    assert gallery.stats().engine.state is EngineState.COMPACT
    yield Known(gallery, owners, vectors)
    gallery.close()


def test_the_compact_scan_finds_planted_mates(large: Known) -> None:
    found = probes = 0
    for cosine in (0.4, 0.5, 0.6, 0.9):
        for probe, owner in zip(mates(large.vectors[:500], cosine), large.owners, strict=False):
            probes += 1
            best = large.search(probe, top_k=1)[0][0]
            # At 0.4 a stranger is nearer now and then; then the exact answer says so too.
            found += best == f"p{owner}" or best == large.search(probe, top_k=1, exact=True)[0][0]
    assert found >= 0.999 * probes


def test_the_exact_switch_gives_the_whole_ranking(large: Known) -> None:
    for probe in random_vectors(4, 128, seed=5):
        found = large.search(probe, top_k=1000, exact=True)
        assert len(found) == 1000
        assert_same_ranking(found, large.expected(probe))


@pytest.mark.parametrize("top_k", [1, 10, 1000])
def test_the_compact_answer_is_never_short(large: Known, top_k: int) -> None:
    for probe in random_vectors(3, 128, seed=6):
        assert len(large.search(probe, top_k=top_k)) == top_k


@pytest.mark.parametrize(
    ("text", "each"),
    [
        ("labels.all=yes", 1),
        ("labels.half=yes", 2),
        ("labels.few=yes", 100),
        ("labels.fewest=yes", 10_000),
        ("NOT labels.all:*", 0),
        ("labels.unknown=yes", 0),
        ("labels.half=yes AND NOT labels.few=yes", -1),
    ],
)
def test_filters_of_any_selectivity(large: Known, text: str, each: int) -> None:
    if each > 0:
        passing = {n for n in range(30_000) if n % each == 0}
    else:
        passing = {n for n in range(30_000) if each and n % 2 == 0 and n % 100}
    for probe in mates(large.vectors[[0, 200, 30_000]], 0.8):
        expected = large.expected(probe, passing)
        found = large.search(probe, top_k=10, filter=text)
        assert len(found) == min(10, len(expected))
        assert all(int(name[1:]) in passing for name, _ in found)
        assert_same_ranking(found[:1], expected)
        exact = large.search(probe, top_k=10, filter=text, exact=True)
        assert len(exact) == len(found)
        assert_same_ranking(exact, expected)


def test_a_compact_search_with_min_score(large: Known) -> None:
    probe = mates(large.vectors[:1], 0.9)[0]
    assert [name for name, _ in large.search(probe, top_k=10, min_score=0.85)] == ["p0"]
    assert large.search(probe, top_k=10, min_score=0.95) == []


@pytest.mark.parametrize("dimension", [16, 17, 129, 300])
def test_a_crowd_of_faces_of_one_person_hides_nobody(open_known: Open, dimension: int) -> None:
    rest, crowd = 9_000, 5_000
    probe = random_vectors(1, dimension, seed=8)
    vectors = np.concatenate(
        [random_vectors(rest, dimension), mates(np.repeat(probe, crowd, axis=0), 0.98)]
    )
    owners = [*range(rest), *[rest] * crowd]
    known = open_known(owners, vectors)
    assert known.gallery.wait_until_settled(60)
    assert known.gallery.stats().engine.state is EngineState.COMPACT
    for top_k in (1, 2, 10, 100):
        found = known.search(probe[0], top_k=top_k)
        assert len(found) == top_k
        assert found[0][0] == f"p{rest}"
    assert_same_ranking(known.search(probe[0], top_k=10), known.expected(probe[0]))


def test_ten_thousand_equal_vectors(open_known: Open) -> None:
    count = 10_500
    vectors = np.repeat(random_vectors(1, 32), count, axis=0)
    known = open_known(list(range(count)), vectors)
    assert known.gallery.wait_until_settled(60)
    found = known.search(vectors[0], top_k=1000)
    assert len(found) == 1000
    assert all(abs(score - 1.0) <= TIE for _, score in found)
