"""Searches share the cores: gathered by gallery, fair between galleries, never left behind."""

import threading
import time
from collections.abc import Callable, Sequence

import pytest
from support import failures, run_together

from visagedb_indexer.errors import DeadlineExceededError
from visagedb_indexer.search.scheduler import Lane, Scheduler

WAIT_SECONDS = 30.0


class Work:
    """Answers requests with themselves; the first batch takes until it is let go."""

    def __init__(self, scheduler: Scheduler, batch_max: int = 4) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self.lane = Lane[int, int](scheduler, self.answer, batch_max)

    def answer(self, requests: list[int]) -> Sequence[int | BaseException]:
        self.batches.append(requests)
        self.begun.set()
        assert self.go.wait(WAIT_SECONDS)
        return [ValueError("thirteen") if request == 13 else request for request in requests]


def started(tasks: Sequence[Callable[[], object]]) -> list[threading.Thread]:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    return threads


def queued(work: Work, count: int) -> None:
    end = time.monotonic() + WAIT_SECONDS
    while len(work.lane.queue) < count and time.monotonic() < end:
        time.sleep(0.001)
    assert len(work.lane.queue) == count


def test_whoever_waits_is_answered_in_batches() -> None:
    work = Work(Scheduler(places=1))
    answers: dict[int, int] = {}

    def ask(number: int) -> None:
        answers[number] = work.lane.run(number)

    first = started([lambda: ask(0)])
    assert work.begun.wait(WAIT_SECONDS)
    rest = started([lambda n=n: ask(n) for n in range(1, 10)])
    queued(work, 9)
    work.go.set()
    for thread in first + rest:
        thread.join(WAIT_SECONDS)
    assert answers == {n: n for n in range(10)}
    assert [len(batch) for batch in work.batches] == [1, 4, 4, 1]


def test_a_busy_gallery_does_not_starve_a_quiet_one() -> None:
    scheduler = Scheduler(places=1)
    busy, quiet = Work(scheduler, batch_max=1), Work(scheduler, batch_max=1)
    order: list[str] = []
    first = started([lambda: busy.lane.run(0)])
    assert busy.begun.wait(WAIT_SECONDS)
    quiet.go.set()

    def ask(work: Work, name: str, number: int) -> None:
        work.lane.run(number)
        order.append(name)

    crowd = started([lambda n=n: ask(busy, "busy", n) for n in range(1, 9)])
    queued(busy, 8)
    one = started([lambda: ask(quiet, "quiet", 1)])
    queued(quiet, 1)
    busy.go.set()
    for thread in first + crowd + one:
        thread.join(WAIT_SECONDS)
    # After the scan that was running, at most one search of the busy gallery goes before it.
    assert len(busy.batches) == 9
    assert order.index("quiet") <= 2


def test_an_error_belongs_to_its_request_alone() -> None:
    work = Work(Scheduler(places=1))
    work.go.set()
    with pytest.raises(ValueError, match="thirteen"):
        work.lane.run(13)
    assert work.lane.run(14) == 14


def test_broken_work_leaves_nobody_waiting_and_no_place_taken() -> None:
    scheduler = Scheduler(places=1)
    begun, go = threading.Event(), threading.Event()

    def answer(requests: list[int]) -> Sequence[int]:
        begun.set()
        assert go.wait(WAIT_SECONDS)
        raise RuntimeError("broken")

    lane = Lane[int, int](scheduler, answer, 4)
    outcomes: list[str] = []

    def ask(number: int) -> None:
        try:
            lane.run(number)
        except RuntimeError as error:
            outcomes.append(str(error))

    threads = started([lambda: ask(0)])
    assert begun.wait(WAIT_SECONDS)
    threads += started([lambda n=n: ask(n) for n in range(1, 7)])
    time.sleep(0.05)
    go.set()
    for thread in threads:
        thread.join(WAIT_SECONDS)
    assert outcomes == ["broken"] * 7
    with scheduler.spare(5) as free:
        assert free == 1


def test_a_deadline_ends_the_wait_and_the_work_is_not_done() -> None:
    work = Work(Scheduler(places=1))
    first = started([lambda: work.lane.run(0)])
    assert work.begun.wait(WAIT_SECONDS)
    with pytest.raises(DeadlineExceededError):
        work.lane.run(1, deadline=time.monotonic() + 0.01)
    work.go.set()
    first[0].join(WAIT_SECONDS)
    assert work.batches == [[0]]
    assert work.lane.run(2) == 2


def test_spare_places_are_those_that_nobody_needs() -> None:
    scheduler = Scheduler(places=2)
    work = Work(scheduler)
    with scheduler.spare(1) as more:
        assert more == 1
        first = started([lambda: work.lane.run(0)])
        assert work.begun.wait(WAIT_SECONDS)
        with scheduler.spare(1) as none_left:
            assert none_left == 0
        work.go.set()
        first[0].join(WAIT_SECONDS)
    with scheduler.spare(9) as all_of_them:
        assert all_of_them == 2


def test_a_storm_of_searches_with_and_without_deadlines() -> None:
    scheduler = Scheduler(places=2)

    def answer(requests: list[int]) -> Sequence[int]:
        time.sleep(0.0005)
        return requests

    lanes = [Lane[int, int](scheduler, answer, 3) for _ in range(3)]

    def storm(seed: int) -> None:
        for number in range(100):
            lane = lanes[(seed + number) % 3]
            soon = time.monotonic() + 0.002 if number % 4 == 0 else None
            try:
                assert lane.run(number, soon) == number
            except DeadlineExceededError:
                assert soon is not None

    assert not failures(run_together([lambda s=s: storm(s) for s in range(16)]))
    with scheduler.spare(5) as free:
        assert free == 2
    assert not any(lane.queue for lane in lanes)
