import threading
import time

import pytest

from visagedb_indexer.errors import OverloadedError
from visagedb_indexer.workers import PoolStats
from visagedb_server import limits
from visagedb_server.admission import Images, Lane, Lanes, QueueDelay, Rates
from visagedb_server.admission.images import expected_wait
from visagedb_server.admission.rates import address_of


def stats(**changed: object) -> PoolStats:
    values: dict[str, object] = {
        "workers": 2,
        "workers_ready": 2,
        "queue_images": 0,
        "queue_bulk_images": 0,
        "queue_bytes": 0,
        "images_in_flight": 0,
        "images_done": 100,
        "restarts": 0,
        "start_failures": 0,
        "seconds_by_stage": {"embed": 10.0},
        "batch_sizes": {},
        "last_start_error": "",
    }
    names = PoolStats.__dataclass_fields__
    return PoolStats(**{name: {**values, **changed}.get(name, 0) for name in names})  # type: ignore[arg-type]


def test_a_burst_may_wait_but_a_standing_queue_may_not() -> None:
    delay = QueueDelay(target=0.1, interval=0.5)
    assert delay.allows(0.0, now=10.0)
    assert delay.allows(0.4, now=10.4)
    assert not delay.allows(0.4, now=10.6)
    assert delay.allows(0.05, now=10.7), "short waits are always allowed"
    assert delay.allows(0.4, now=11.1), "and let the others wait again"


def test_a_lane_has_room_for_its_threads_and_its_queue() -> None:
    lane = Lane("test", threads=1, waiting_max=1)
    first, second = lane.enter(), lane.enter()
    assert first is not None
    assert second is not None
    assert lane.enter() is None
    first.begin()
    assert (lane.state().running, lane.state().waiting) == (1, 1)
    assert int(lane.refusal().metadata["retry_delay_ms"]) >= 1000 * limits.RETRY_SECONDS_MIN
    first.end()
    second.leave()
    assert (lane.state().running, lane.state().waiting) == (0, 0)
    assert lane.enter() is not None


def test_calls_of_different_kinds_do_not_share_threads() -> None:
    lanes = Lanes(threads=2, requests_max=4)
    names = {
        lanes.of(method, streaming=streaming).name
        for method, streaming in (
            ("/visagedb.v1.SearchService/Identify", False),
            ("/visagedb.v1.SearchService/StreamIdentify", True),
            ("/grpc.health.v1.Health/Check", False),
            ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True),
            ("/google.longrunning.Operations/WaitOperation", False),
        )
    }
    assert names == {"work", "streams", "control", "reflection", "waiters"}
    for method in ("GetOperation", "CancelOperation", "ListOperations"):
        assert lanes.of(f"/google.longrunning.Operations/{method}", streaming=False).name == (
            "control"
        )
    lanes.close()


def test_each_caller_has_a_rate_of_its_own() -> None:
    rates = Rates(10.0)
    for _ in range(10):
        rates.take("ada", now=5.0)
    with pytest.raises(OverloadedError) as caught:
        rates.take("ada", now=5.0)
    assert caught.value.metadata["retry_delay_ms"] == "100"
    rates.take("bob", now=5.0)
    rates.take("ada", now=5.11)
    with pytest.raises(OverloadedError):
        rates.take("ada", now=5.12)


def test_the_table_of_callers_cannot_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CALLERS_COUNTED_MAX", 3)
    rates = Rates(1.0)
    for caller in range(100):
        rates.take(str(caller), now=1.0)
    with pytest.raises(OverloadedError):
        rates.take("99", now=1.0)
    rates.take("0", now=1.0)


def test_no_limit_is_no_limit() -> None:
    rates = Rates(0.0)
    for _ in range(1000):
        rates.take("ada", now=1.0)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:4321", "ipv4:127.0.0.1"),
        ("ipv6:%5B::1%5D:4321", "ipv6:%5B::1%5D"),
        ("unix:", "unix"),
        ("", ""),
    ],
)
def test_a_caller_is_known_by_address(peer: str, address: str) -> None:
    assert address_of(peer) == address


def test_the_wait_of_an_image_follows_from_the_pace_of_the_workers() -> None:
    assert expected_wait(stats(images_done=0, images_in_flight=9), bulk=False) == 0.0
    assert expected_wait(stats(workers_ready=0, images_in_flight=9), bulk=False) == 0.0
    busy = stats(images_in_flight=8, queue_images=32, queue_bulk_images=12)
    assert expected_wait(busy, bulk=True) == pytest.approx(40 * 0.1 / 2)
    assert expected_wait(busy, bulk=False) == pytest.approx(28 * 0.1 / 2)


def test_an_image_that_would_wait_too_long_is_refused_at_once() -> None:
    images = Images(threads=4)
    full = stats(queue_images=200)
    with pytest.raises(OverloadedError) as caught, images.place(full, bulk=False):
        pass
    assert int(caught.value.metadata["retry_delay_ms"]) == 9000
    with images.place(full, bulk=True):
        pass


def test_images_leave_threads_to_the_searches() -> None:
    images = Images(threads=4)
    idle, held, go_on = stats(), threading.Barrier(4), threading.Event()

    def wait() -> None:
        with images.place(idle, bulk=False):
            held.wait()
            go_on.wait()

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    held.wait()
    with pytest.raises(OverloadedError), images.place(idle, bulk=False):
        pass
    go_on.set()
    for thread in threads:
        thread.join()
    with images.place(idle, bulk=False):
        assert time.monotonic() > 0
