"""Several probes of one caller share a scan, and get the answers of searches alone."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support import TIE, enroll, failures, gallery_record, random_vectors, run_together

from visagedb_indexer.errors import DeadlineExceededError
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.gallery_values import SearchAnswer, SearchOptions
from visagedb_indexer.search.scheduler import Lane, Scheduler

WAIT_SECONDS = 30.0


class Work:
    """Answers requests with themselves, and keeps what came together; thirteen fails."""

    def __init__(self, places: int, batch_max: int) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.scheduler = Scheduler(places)
        self.lane = Lane[int, int](self.scheduler, self.answer, batch_max)

    def answer(self, requests: list[int]) -> list[int | BaseException]:
        self.batches.append(requests)
        assert self.go.wait(WAIT_SECONDS)
        return [ValueError("thirteen") if request == 13 else request for request in requests]


def test_requests_of_one_caller_are_answered_together() -> None:
    work = Work(places=1, batch_max=4)
    work.go.set()
    assert work.lane.run_many(range(10)) == list(range(10))
    assert work.lane.run_many([]) == []
    assert work.batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    with pytest.raises(ValueError, match="thirteen"):
        work.lane.run_many([12, 13, 14])


def test_many_and_single_ones_get_their_own_answers() -> None:
    work = Work(places=2, batch_max=5)
    work.go.set()

    def many(first: int) -> None:
        for count in (0, 1, 3, 5, 12):
            wanted = list(range(first, first + count))
            assert work.lane.run_many(wanted) == wanted

    def single(first: int) -> None:
        for number in range(first, first + 50):
            assert work.lane.run(number) == number

    tasks = [lambda n=n: many(1000 * n) for n in range(1, 7)]
    tasks += [lambda n=n: single(1000 * n) for n in range(7, 13)]
    assert not failures(run_together(tasks))
    assert max(map(len, work.batches)) <= 5


def test_waiting_for_a_place_ends_at_the_deadline() -> None:
    work = Work(places=1, batch_max=5)
    first = threading.Thread(target=work.lane.run_many, args=([1, 2],))
    first.start()
    while not work.batches:
        pass
    with pytest.raises(DeadlineExceededError):
        work.lane.run_many([3, 4], deadline=0.0)
    work.go.set()
    first.join()
    assert work.batches == [[1, 2]]
    assert work.lane.run_many([5]) == [5]


@pytest.fixture
def gallery(tmp_path: Path) -> Iterator[Gallery]:
    gallery = Gallery(tmp_path, gallery_record())
    yield gallery
    gallery.close()


def _plain(answer: SearchAnswer) -> list[str]:
    return [candidate.identity.id for candidate in answer.candidates]


@pytest.mark.parametrize("exact", [False, True])
def test_identify_many_is_identify_for_each(gallery: Gallery, exact: bool) -> None:
    vectors = random_vectors(60, 16)
    for i, vector in enumerate(vectors):
        enroll(gallery, f"p{i // 2}", vector)
    options = SearchOptions(top_k=7, exact=exact)
    probes = random_vectors(40, 16, seed=3)
    for probe, answer in zip(probes, gallery.identify_many(probes, options), strict=True):
        alone = gallery.identify(probe, options)
        assert _plain(answer) == _plain(alone)
        np.testing.assert_allclose(
            [one.score for one in answer.candidates],
            [one.score for one in alone.candidates],
            atol=TIE,
        )
        assert (answer.generation, answer.exact) == (alone.generation, alone.exact)
    assert gallery.identify_many([], options) == []
