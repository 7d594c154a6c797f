"""The engine beside plain arithmetic over two hundred thousand faces."""

from collections.abc import Iterator

import numpy as np
import pytest
from support import TIE, ArraySource, assert_same_ranking, expected_ranking, mates, random_vectors

from visagedb_indexer.search import EngineState, SearchEngine, SearchRequest
from visagedb_indexer.values import Vector

FACES = 200_000
DIMENSION = 48
OWNERS = np.arange(FACES, dtype=np.int32) // 2
DOUBLES = range(1000, 1040)
"""These faces have one vector, so their order is a matter of age."""


@pytest.fixture(scope="module")
def vectors() -> Vector:
    made = random_vectors(FACES, DIMENSION)
    made[DOUBLES] = made[DOUBLES[0]]
    return made


@pytest.fixture(scope="module")
def engine(vectors: Vector) -> Iterator[SearchEngine]:
    engine = SearchEngine(DIMENSION, ArraySource(vectors), OWNERS)
    assert engine.wait_until_settled(120)
    assert engine.stats().state is EngineState.COMPACT
    yield engine
    engine.close()


def ranking(engine: SearchEngine, request: SearchRequest) -> list[tuple[str, float]]:
    return [(f"p{hit.number}", hit.score) for hit in engine.search(request)]


def test_the_exact_ranking_is_that_of_the_oracle(engine: SearchEngine, vectors: Vector) -> None:
    for probe in random_vectors(3, DIMENSION, seed=5):
        found = ranking(engine, SearchRequest(probe, 1000, exact=True))
        assert len(found) == 1000
        assert_same_ranking(found, expected_ranking(OWNERS.tolist(), vectors, probe))


def test_the_compact_ranking_is_that_of_the_oracle_where_people_are_near(
    engine: SearchEngine, vectors: Vector
) -> None:
    chosen = np.random.default_rng(3).integers(FACES, size=60)
    for cosine in (0.6, 0.75, 0.9):
        for ordinal, probe in zip(chosen.tolist(), mates(vectors[chosen], cosine), strict=True):
            found = engine.search(SearchRequest(probe, 10))
            scores = vectors @ probe
            assert len(found) == 10
            assert len({hit.number for hit in found}) == 10
            assert scores[found[0].ordinal] >= scores.max() - TIE, ordinal
            for hit, after in zip(found, [*found[1:], found[-1]], strict=True):
                assert abs(float(scores[hit.ordinal]) - hit.score) <= TIE
                assert OWNERS[hit.ordinal] == hit.number
                assert hit.score >= after.score


def test_equal_vectors_come_in_the_order_of_enrolment(
    engine: SearchEngine, vectors: Vector
) -> None:
    for exact in (False, True):
        found = engine.search(SearchRequest(vectors[DOUBLES[0]], 20, exact=exact))
        assert [hit.number for hit in found] == [OWNERS[face] for face in DOUBLES[::2]]


@pytest.mark.parametrize("share", [1e-5, 0.01, 0.2, 0.5])
def test_filters_are_those_of_the_oracle(
    engine: SearchEngine, vectors: Vector, share: float
) -> None:
    random = np.random.default_rng(7)
    allowed = random.random(FACES // 2) < share
    allowed[:3] = True
    passing = set(np.flatnonzero(allowed).tolist())
    chosen = random.choice(np.flatnonzero(allowed[OWNERS]), 5)
    for probe in mates(vectors[chosen], 0.8):
        expected = expected_ranking(OWNERS.tolist(), vectors, probe, passing)
        found = ranking(engine, SearchRequest(probe, 10, allowed=allowed))
        assert len(found) == min(10, len(expected))
        assert_same_ranking(found[:1], expected)
        exact = ranking(engine, SearchRequest(probe, 10, allowed=allowed, exact=True))
        assert_same_ranking(exact, expected)


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_identities_past_the_end_of_a_filter_do_not_pass(
    engine: SearchEngine, vectors: Vector, share: float
) -> None:
    # All of the older people have the label, and none of the newer.
    allowed = np.ones(int(share * FACES / 2), dtype=np.bool_)
    passing = set(range(len(allowed)))
    for probe in (vectors[-1], vectors[2 * len(allowed)], vectors[0]):
        expected = expected_ranking(OWNERS.tolist(), vectors, probe, passing)
        for exact in (False, True):
            request = SearchRequest(probe, 10, allowed=allowed, exact=exact)
            found = engine.search(request)
            assert len(found) == 10
            assert {hit.number for hit in found} <= passing
        assert_same_ranking([(f"p{hit.number}", hit.score) for hit in found], expected)


def test_a_filter_that_leaves_out_everybody_near(engine: SearchEngine, vectors: Vector) -> None:
    probe = vectors[77]
    near = np.argsort(-(vectors @ probe))[: FACES // 2]
    allowed = np.ones(FACES // 2, dtype=np.bool_)
    allowed[OWNERS[near]] = False
    passing = set(np.flatnonzero(allowed).tolist())
    found = ranking(engine, SearchRequest(probe, 10, allowed=allowed))
    expected = expected_ranking(OWNERS.tolist(), vectors, probe, passing)
    assert len(found) == 10
    assert_same_ranking(found, expected)
