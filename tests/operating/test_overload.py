"""A server with more calls than it can serve: refusals, what stays alive, who gives up."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.longrunning import operations_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from servers import make_config
from support import random_vectors
from wire import DIMENSION, Api, probe, refusal_of, refused

import visagedb
from visagedb.v1 import galleries_pb2, search_pb2
from visagedb_indexer.cores import CORES
from visagedb_indexer.gallery import Gallery
from visagedb_indexer.search import SCHEDULER
from visagedb_server.operations import Job
from visagedb_server.server import Server

VECTORS = random_vectors(200, DIMENSION)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Server]:
    """A server with two threads, and two calls that may wait for one."""
    server = Server(make_config(tmp_path / "data", threads=2, requests_max=4))
    server.start()
    yield server
    server.stop(grace=5)


@pytest.fixture
def api(small: Server) -> Iterator[Api]:
    api = Api(small.address)
    api.create_gallery()
    api.enroll("ada", VECTORS[0])
    yield api
    api.close()


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Searches wait until the value is called."""
    go_on = threading.Event()
    identify = Gallery.identify_many

    def waiting(self: Gallery, *arguments: Any) -> Any:
        assert go_on.wait(60)
        return identify(self, *arguments)

    monkeypatch.setattr(Gallery, "identify_many", waiting)
    yield go_on.set
    go_on.set()


def eventually(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


def request() -> search_pb2.IdentifyRequest:
    return search_pb2.IdentifyRequest(gallery="galleries/people", probe=probe(VECTORS[0]))


def is_healthy(api: Api) -> bool:
    answer = health_pb2_grpc.HealthStub(api.channel).Check(
        health_pb2.HealthCheckRequest(), timeout=30
    )
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def test_a_full_server_refuses_says_when_to_come_back_and_stays_healthy(
    small: Server, api: Api, held: Callable[[], None]
) -> None:
    calls = [api.search.Identify.future(request()) for _ in range(40)]
    eventually(lambda: sum(call.done() for call in calls) >= 36)
    waiting = [call for call in calls if not call.done()]
    assert len(waiting) == 4
    for call in calls:
        if call.done():
            assert refusal_of(call).reason == "OVERLOADED"
            status = rpc_status.from_call(call)
            retry = error_details_pb2.RetryInfo()
            assert any(detail.Unpack(retry) for detail in status.details)
            assert retry.retry_delay.ToTimedelta().total_seconds() > 0
    assert is_healthy(api)
    assert api.gallery().face_count == 1
    api.operations.ListOperations(operations_pb2.ListOperationsRequest())
    held()
    codes = {call.code() for call in waiting}
    # Those that had no thread waited too long in a queue that stood.
    assert grpc.StatusCode.OK in codes
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert api.best(VECTORS[0]) == "ada"


def test_the_client_comes_back_when_it_was_told_to(
    small: Server, api: Api, held: Callable[[], None]
) -> None:
    calls = [api.search.Identify.future(request()) for _ in range(4)]
    threading.Timer(0.3, held).start()
    with visagedb.Client(small.address) as client:
        found = client.identify("people", vector=VECTORS[0])
    assert found.best is not None
    for call in calls:
        call.exception()


def test_streams_and_waiting_calls_hold_no_thread_of_the_others(small: Server, api: Api) -> None:
    go_on = threading.Event()

    def work(job: Job) -> Any:
        while not go_on.wait(0.01):
            job.check()
        return operations_pb2.Operation()

    started = _start(small, work)
    wait = operations_pb2.WaitOperationRequest(name=started.name)
    waiters = [api.operations.WaitOperation.future(wait) for _ in range(4)]
    ends = threading.Event()

    def items() -> Iterator[search_pb2.StreamIdentifyRequest]:
        yield search_pb2.StreamIdentifyRequest(item_id="a", request=request())
        ends.wait(60)

    streams = [api.search.StreamIdentify(items()) for _ in range(4)]
    for stream in streams:
        assert next(stream).item_id == "a"
    assert not any(waiter.done() for waiter in waiters)
    assert api.best(VECTORS[0]) == "ada"
    assert is_healthy(api)
    api.operations.CancelOperation(operations_pb2.CancelOperationRequest(name=started.name))
    for waiter in waiters:
        assert waiter.result(timeout=60).done
    ends.set()
    go_on.set()


def _start(server: Server, work: Callable[[Job], Any]) -> operations_pb2.Operation:
    request = galleries_pb2.CalibrateGalleryRequest(name="galleries/people")
    metadata = galleries_pb2.CalibrateGalleryMetadata(gallery="galleries/people")
    return server._operations.start("test", request, metadata, work)


def test_a_caller_who_stops_waiting_for_an_operation_gives_the_thread_back(
    small: Server, api: Api
) -> None:
    go_on = threading.Event()

    def work(job: Job) -> Any:
        go_on.wait(60)
        return operations_pb2.Operation()

    started = _start(small, work)
    lane = small._lanes.of("/google.longrunning.Operations/WaitOperation", streaming=False)
    wait = operations_pb2.WaitOperationRequest(name=started.name)
    waiters = [api.operations.WaitOperation.future(wait) for _ in range(3)]
    eventually(lambda: lane.state().running == 3)
    for waiter in waiters:
        waiter.cancel()
    eventually(lambda: lane.state().running == 0)
    go_on.set()


def test_a_search_whose_caller_has_gone_leaves_its_lane(small: Server, api: Api) -> None:
    with SCHEDULER.spare(CORES) as taken:
        assert taken == CORES
        calls = [api.search.Identify.future(request()) for _ in range(2)]
        eventually(lambda: SCHEDULER.waiting == 2)
        for call in calls:
            call.cancel()
        eventually(lambda: SCHEDULER.waiting == 0)
        eventually(lambda: small._lanes.work.state().running == 0)
    assert api.best(VECTORS[0]) == "ada"


def test_a_call_whose_caller_has_gone_is_not_begun(
    small: Server, api: Api, held: Callable[[], None]
) -> None:
    calls = [api.search.Identify.future(request()) for _ in range(4)]
    eventually(lambda: small._lanes.work.state().waiting == 2)
    for call in calls:
        call.cancel()
    held()
    eventually(lambda: small._lanes.work.state() == type(small._lanes.work.state())(2, 0, 0))
    assert api.best(VECTORS[0]) == "ada"


def test_a_caller_that_calls_too_often_is_told_so(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data", calls_per_second=5))
    server.start()
    api = Api(server.address)
    api.create_gallery()
    with refused("RESOURCE_EXHAUSTED", "OVERLOADED") as refusal:
        for _ in range(1000):
            api.search.Identify(request())
    assert "calls per second" in refusal.message
    assert is_healthy(api)
    assert api.gallery().name == "galleries/people"
    api.close()
    server.stop(grace=1)


def test_bytes_that_are_no_request_get_a_typed_error(api: Api) -> None:
    send = api.channel.unary_unary(
        "/visagedb.v1.SearchService/Identify",
        request_serializer=lambda data: data,
        response_deserializer=lambda data: data,
    )
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        send(b"\xff\xff\xff")
    nothing = api.channel.stream_unary(
        "/visagedb.v1.SearchService/Identify", request_serializer=lambda data: data
    )
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
        nothing(iter(()))
