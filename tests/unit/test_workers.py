import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future, wait
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sample_photos import SamplePhotosError, sample_photos

from visagedb_indexer.errors import (
    CorruptImageError,
    DeadlineExceededError,
    EmptyImageError,
    ImageCrashedWorkerError,
    ImageTooLargeError,
    IndexerError,
    InvalidArgumentError,
    ModelNotAvailableError,
    OverloadedError,
    UnsupportedImageError,
    WorkersUnavailableError,
)
from visagedb_indexer.values import Extraction
from visagedb_indexer.workers import Death, Priority, WorkerPool
from visagedb_indexer.workers.work import Item, Recipe, WorkQueue

MODEL = "sface"
SECONDS = 60


@pytest.fixture(scope="module")
def photo() -> bytes:
    try:
        return sample_photos().people["Barack_Obama"][0].read_bytes()
    except SamplePhotosError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def slow_photo(photo: bytes) -> bytes:
    """Large enough to keep a process busy for some tenths of a second."""
    return resized(photo, (5460, 6822))


@pytest.fixture(scope="module")
def small_photo(photo: bytes) -> bytes:
    """Small enough to fit into the buffer of the socket of a process that does not read."""
    return resized(photo, (182, 227))


def resized(photo: bytes, size: tuple[int, int]) -> bytes:
    stream = io.BytesIO()
    with Image.open(io.BytesIO(photo)) as image:
        image.resize(size).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    """Two processes that have loaded everything."""
    with_two = WorkerPool(count=2, batch_seconds_max=20.0)
    with_two.wait_ready()
    yield with_two
    with_two.close(drain=False)


def wait_until(condition: object, seconds: float = SECONDS) -> None:
    assert callable(condition)
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_faces_and_typed_errors_come_back(pool: WorkerPool, photo: bytes) -> None:
    futures = {
        "photo": pool.submit(photo, model=MODEL),
        "flipped": pool.submit(photo, model=MODEL, flip=True),
        "detected": pool.submit(photo, model="", embed=False),
        "empty": pool.submit(b"", model=MODEL),
        "text": pool.submit(b"hello", model=MODEL),
        "cut": pool.submit(photo[:9000], model=MODEL),
        "long": pool.submit(bytes(20 * 1024 * 1024 + 1), model=MODEL),
        "model": pool.submit(photo, model="nobody"),
    }
    wait(futures.values(), SECONDS)
    vector = futures["photo"].result().faces[0].vector
    flipped = futures["flipped"].result().faces[0].vector
    assert vector.shape == (128,)
    assert 0.9 < float(vector @ flipped) < 0.99999
    assert futures["detected"].result().faces[0].vector is None
    errors = {
        "empty": EmptyImageError,
        "text": UnsupportedImageError,
        "cut": CorruptImageError,
        "long": ImageTooLargeError,
        "model": ModelNotAvailableError,
    }
    assert {name: type(futures[name].exception()) for name in errors} == errors


def test_parent_does_not_import_torch() -> None:
    code = (
        "import sys; import visagedb_indexer.workers as w; p = w.WorkerPool(count=1); p.close(); "
        "print({'torch', 'onnx', 'PIL'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "indexer")},
        capture_output=True,
        text=True,
    )
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


def test_killed_worker_loses_nothing(pool: WorkerPool, photo: bytes) -> None:
    expected = pool.submit(photo, model=MODEL).result(SECONDS).faces[0].vector
    futures = [pool.submit(photo, model=MODEL) for _ in range(60)]
    wait_until(lambda: pool.stats().images_done > 8)
    victim = pool.worker_pids()[0]
    os.kill(victim, signal.SIGKILL)
    for future in futures:
        assert np.allclose(future.result(SECONDS).faces[0].vector, expected, atol=1e-4)
    wait_until(lambda: pool.stats().workers_ready == 2)
    assert pool.stats().restarts == 1
    assert pool.stats().deaths[Death.CRASHED] == 1
    assert victim not in pool.worker_pids()


def test_image_that_kills_twice_fails_alone(slow_photo: bytes, photo: bytes) -> None:
    """Every process that works on the photograph is killed, as a hostile image would do."""
    pool = WorkerPool(count=1)
    victims: list[int] = []

    def working() -> bool:
        stats = pool.stats()
        busy = stats.workers_ready == stats.images_in_flight == 1
        return busy and pool.worker_pids()[0] not in victims

    try:
        pool.wait_ready()
        future = pool.submit(slow_photo, model=MODEL)
        for _ in range(2):
            wait_until(working)
            victims.append(pool.worker_pids()[0])
            os.kill(victims[-1], signal.SIGKILL)
        assert isinstance(future.exception(SECONDS), ImageCrashedWorkerError)
        assert pool.submit(photo, model=MODEL).result(SECONDS).faces
        assert pool.stats().deaths[Death.CRASHED] == pool.stats().restarts == 2
        assert (pool.stats().images_retried, pool.stats().images_lost) == (1, 1)
    finally:
        pool.close(drain=False)


def test_hung_worker_is_replaced(photo: bytes) -> None:
    pool = WorkerPool(count=1, batch_seconds_max=6.0)
    try:
        pool.wait_ready()
        pool.submit(photo, model=MODEL).result(SECONDS)
        (pid,) = pool.worker_pids()
        os.kill(pid, signal.SIGSTOP)
        futures = [pool.submit(photo, model=MODEL) for _ in range(10)]
        for future in futures:
            assert future.result(SECONDS).faces
        assert not alive(pid)
        assert pool.stats().deaths[Death.HUNG] == pool.stats().restarts == 1
        assert pool.stats().images_lost == 0
    finally:
        pool.close(drain=False)


def test_workers_end_with_their_parent(photo: bytes) -> None:
    code = (
        "import sys, time; from visagedb_indexer.workers import WorkerPool; "
        "p = WorkerPool(count=2); p.wait_ready(); "
        "print(*p.worker_pids(), flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "indexer")}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    wait_until(lambda: not any(alive(pid) for pid in pids), 10)


def test_start_failure_gives_the_reason(tmp_path: Path, photo: bytes) -> None:
    (tmp_path / "card.toml").write_text("schema = 1\n")
    pool = WorkerPool(count=2, card_paths=[tmp_path])
    try:
        error = pool.submit(photo, model=MODEL).exception(SECONDS)
        assert isinstance(error, IndexerError)
        assert "card.toml" in error.message
        began = time.monotonic()
        assert pool.submit(photo, model=MODEL).exception(SECONDS) is not None
        assert time.monotonic() - began < 5
        time.sleep(1.0)
        assert pool.stats().start_failures <= 8
        with pytest.raises(IndexerError, match=r"card\.toml"):
            pool.wait_ready()
    finally:
        pool.close()


def test_refused_model_gives_the_reason(tmp_path: Path, photo: bytes) -> None:
    from visagedb_indexer.faces import cards

    text = (Path(cards.__file__).parent / "builtin" / "sface.toml").read_text()
    text = text.replace("fb143eea", "00000000").replace('name = "sface"', 'name = "changed"')
    text = text.replace('[centring]\nfile = "sface-centre.npy"\n', "")
    (tmp_path / "card.toml").write_text(text)
    pool = WorkerPool(count=1, card_paths=[tmp_path / "card.toml"])
    try:
        error = pool.submit(photo, model="changed").exception(SECONDS)
        assert isinstance(error, ModelNotAvailableError)
        assert error.metadata["cause"] == "MODEL_DIGEST_MISMATCH"
        assert pool.submit(photo, model=MODEL).result(SECONDS).faces
    finally:
        pool.close()


def test_overload_deadline_cancel_and_priority(small_photo: bytes) -> None:
    """With its only worker stopped, a pool must still answer for what it cannot do."""
    pool = WorkerPool(count=1, queue_images_max=8, batch_images_max=1)
    try:
        pool.wait_ready()
        pool.submit(small_photo, model=MODEL).result(SECONDS)
        (pid,) = pool.worker_pids()
        os.kill(pid, signal.SIGSTOP)
        order: list[str] = []

        def submit(name: str, priority: Priority) -> Future[Extraction]:
            future = pool.submit(small_photo, model=MODEL, priority=priority)
            future.add_done_callback(lambda _: order.append(name))
            return future

        held = [submit("held", Priority.BULK) for _ in range(2)]
        wait_until(lambda: pool.stats().images_in_flight == 2)
        bulk = [submit("bulk", Priority.BULK) for _ in range(6)]
        refused = pool.submit(small_photo, model=MODEL, priority=Priority.BULK)
        assert isinstance(refused.exception(0), OverloadedError)
        # An interactive image goes to the worker on top of the bulk ones that it has.
        urgent = submit("urgent", Priority.INTERACTIVE)
        wait_until(lambda: pool.stats().images_in_flight == 3)
        late = pool.submit(small_photo, model=MODEL, deadline=time.monotonic() + 0.2)
        more = pool.submit(small_photo, model=MODEL)
        assert isinstance(pool.submit(small_photo, model=MODEL).exception(0), OverloadedError)
        assert isinstance(late.exception(5), DeadlineExceededError)
        assert bulk[-1].cancel()
        assert not held[0].cancel()
        wait_until(lambda: pool.stats().queue_images == 6)
        os.kill(pid, signal.SIGCONT)
        wait([*held, *bulk[:-1], urgent, more], SECONDS)
        # The cancelled one is done at once. The worker may have begun one of those it held.
        assert order[0] == "bulk"
        assert order.index("urgent") <= 2
        assert sorted(order[1:4]) == ["held", "held", "urgent"]
        assert order[4:] == ["bulk"] * 5
        with pytest.raises(CancelledError):
            bulk[-1].result()
    finally:
        pool.close()


def test_an_interactive_image_overtakes_the_bulk_batches_of_its_worker(small_photo: bytes) -> None:
    """What a worker has not begun waits, also for an image that came later."""
    pool = WorkerPool(count=1)
    try:
        pool.wait_ready()
        pool.submit(small_photo, model=MODEL).result(SECONDS)
        (pid,) = pool.worker_pids()
        os.kill(pid, signal.SIGSTOP)
        order: list[str] = []

        def submit(name: str, priority: Priority) -> Future[Extraction]:
            future = pool.submit(small_photo, model=MODEL, priority=priority)
            future.add_done_callback(lambda _: order.append(name))
            return future

        futures = [submit("bulk", Priority.BULK) for _ in range(40)]
        wait_until(lambda: pool.stats().images_in_flight >= 9)
        held = pool.stats().images_in_flight
        futures += [submit("urgent", Priority.INTERACTIVE) for _ in range(3)]
        wait_until(lambda: pool.stats().images_in_flight > held)
        os.kill(pid, signal.SIGCONT)
        wait(futures, SECONDS)
        urgent = [place for place, name in enumerate(order) if name == "urgent"]
        # Behind no more than the batch that was begun.
        assert urgent[0] <= 8
        # One that reached the worker late waits for what the worker had, and for nothing else.
        assert urgent[-1] < held + len(urgent)
        assert sum(size * count for size, count in pool.stats().batch_sizes.items()) == 44
    finally:
        pool.close()


def test_close_finishes_what_waits(photo: bytes) -> None:
    pool = WorkerPool(count=2)
    futures = [pool.submit(photo, model=MODEL) for _ in range(12)]
    pool.close(drain=True)
    assert all(future.result(0).faces for future in futures)
    assert pool.worker_pids() == ()
    assert isinstance(pool.submit(photo, model=MODEL).exception(0), WorkersUnavailableError)
    pool.close()


def test_close_at_once_fails_what_waits(photo: bytes) -> None:
    pool = WorkerPool(count=1)
    pool.wait_ready()
    pids = pool.worker_pids()
    futures = [pool.submit(photo, model=MODEL) for _ in range(60)]
    began = time.monotonic()
    pool.close(drain=False)
    assert time.monotonic() - began < 5
    assert isinstance(futures[-1].exception(0), WorkersUnavailableError)
    assert all(future.done() for future in futures)
    assert not any(alive(pid) for pid in pids)


def test_many_threads(pool: WorkerPool, photo: bytes) -> None:
    done: list[int] = []

    def ask() -> None:
        for _ in range(5):
            found = pool.submit(photo, model="", embed=False).result(SECONDS)
            done.append(len(found.faces))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS)
    assert done == [1] * 40
    stats = pool.stats()
    assert sum(size * count for size, count in stats.batch_sizes.items()) == stats.images_done
    assert stats.seconds_by_stage["detect"] > 0


def test_unused_pool_starts_nothing() -> None:
    pool = WorkerPool(count=3)
    assert pool.worker_pids() == ()
    pool.close()
    with pytest.raises(InvalidArgumentError):
        WorkerPool(count=0)


def item(name: str, *, model: str = "a", priority: Priority = Priority.INTERACTIVE) -> Item:
    return Item(name.encode(), Recipe(model, flip=False, embed=True), priority, None)


def names(items: list[Item]) -> list[str]:
    return [entry.image.decode() for entry in items]


def test_queue_order_and_recipes() -> None:
    queue = WorkQueue(100, 1000)
    queue.put(item("bulk", priority=Priority.BULK))
    for name, model in (("1", "a"), ("2", "b"), ("3", "a"), ("4", "b")):
        queue.put(item(name, model=model))
    # An interactive image does not wait for bulk ones in its batch.
    assert names(queue.take(8)) == ["1", "3"]
    retried = [item("r1"), item("r2")]
    queue.put_back(retried, alone=True)
    assert names(queue.take(8)) == ["r1"]
    assert names(queue.take(8)) == ["r2"]
    assert names(queue.take(1)) == ["2"]
    assert names(queue.take(8, urgent=True)) == ["4"]
    assert names(queue.take(8, urgent=True)) == []
    assert names(queue.take(8)) == ["bulk"]
    assert len(queue) == queue.waiting_bytes == 0


def test_queue_limits() -> None:
    queue = WorkQueue(4, 10)
    queue.put(item("123456789"))
    with pytest.raises(OverloadedError):
        queue.put(item("12"))
    queue.take(1)
    for name in "abc":
        queue.put(item(name, priority=Priority.BULK))
    with pytest.raises(OverloadedError):
        queue.put(item("d", priority=Priority.BULK))
    queue.put(item("d"))
    with pytest.raises(OverloadedError):
        queue.put(item("e"))
