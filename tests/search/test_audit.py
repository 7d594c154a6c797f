"""The audit knows good codes from bad ones."""

import numpy as np
import pytest
from support import ArraySource, random_vectors

from visagedb_indexer import limits
from visagedb_indexer.search.audit import EFFORTS, audit, wilson_interval
from visagedb_indexer.search.compact import Codec, Segment
from visagedb_indexer.search.compact_index import CompactIndex
from visagedb_indexer.search.faces_table import FacesView
from visagedb_indexer.values import Vector

DIMENSION = 64
FACES = 5000


@pytest.fixture(scope="module")
def vectors() -> Vector:
    return random_vectors(FACES, DIMENSION)


def index_of(vectors: Vector, ordinals: np.ndarray) -> CompactIndex:
    codec = Codec.train(vectors, len(vectors))
    order = np.argsort(ordinals)
    segment = Segment.encoded(codec, ordinals[order], vectors[order])
    return CompactIndex(codec, (segment,), len(vectors), generation=3)


def faces(count: int) -> FacesView:
    return FacesView(np.arange(count, dtype=np.int32))


def test_good_codes_lose_nothing(vectors: Vector) -> None:
    index = index_of(vectors, np.arange(FACES))
    found = audit(
        index, ArraySource(vectors), faces(FACES), limits.MATE_LOSS_BOUND_DEFAULT, lambda: False
    )
    assert found is not None
    assert found.generation == 3
    assert found.face_count == FACES
    assert found.probe_count > 300
    assert found.measured <= limits.MATE_LOSS_BOUND_DEFAULT
    assert found.effort in EFFORTS


def test_codes_of_other_faces_are_found_out(vectors: Vector) -> None:
    shuffled = np.random.default_rng(4).permutation(FACES)
    index = index_of(vectors, shuffled)
    found = audit(
        index, ArraySource(vectors), faces(FACES), limits.MATE_LOSS_BOUND_DEFAULT, lambda: False
    )
    assert found is not None
    assert found.effort == EFFORTS[-1]
    assert found.measured > 0.1


def test_an_audit_can_be_stopped(vectors: Vector) -> None:
    index = index_of(vectors, np.arange(FACES))
    assert (
        audit(
            index, ArraySource(vectors), faces(FACES), limits.MATE_LOSS_BOUND_DEFAULT, lambda: True
        )
        is None
    )


def test_an_index_whose_faces_are_all_deleted_has_nothing_to_lose(vectors: Vector) -> None:
    index = index_of(vectors, np.arange(FACES))
    nobody = FacesView(np.full(FACES, -1, dtype=np.int32))
    found = audit(
        index, ArraySource(vectors), nobody, limits.MATE_LOSS_BOUND_DEFAULT, lambda: False
    )
    assert found is not None
    assert found.measured == 0.0
    assert found.interval == (0.0, 1.0)


def test_the_interval_is_that_of_wilson() -> None:
    # Newcombe (1998), "Two-sided confidence intervals for the single proportion", table I.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
