"""What happens when the connection or the server fails: a servicer that fails on purpose."""

import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import code_pb2, error_details_pb2, status_pb2

import visagedb
from visagedb._translate import DETAILS_KEY
from visagedb.v1 import galleries_pb2, identities_pb2


def overloaded(retry_ms: int = 0) -> tuple[tuple[str, bytes], ...]:
    details = [AnyMessage()]
    details[0].Pack(error_details_pb2.ErrorInfo(reason="OVERLOADED", domain="visagedb"))
    if retry_ms:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(retry_ms)
        details.append(AnyMessage())
        details[1].Pack(retry)
    status = status_pb2.Status(
        code=code_pb2.RESOURCE_EXHAUSTED, message="too much", details=details
    )
    return ((DETAILS_KEY, status.SerializeToString()),)


class Failing:
    """Fails the first calls, then answers."""

    def __init__(
        self,
        failures: int,
        code: grpc.StatusCode,
        delay_seconds: float = 0.0,
        retry_ms: int = 0,
    ) -> None:
        self.retry_ms = retry_ms
        self.failures = failures
        self.code = code
        self.delay_seconds = delay_seconds
        self.calls = 0
        self.request_ids: list[str] = []

    def fail(self, context: Any) -> None:
        self.calls += 1
        time.sleep(self.delay_seconds)
        if self.calls <= self.failures:
            if self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                context.set_trailing_metadata(overloaded(self.retry_ms))
            context.abort(self.code, "not yet")

    def get_gallery(self, request: Any, context: Any) -> galleries_pb2.GetGalleryResponse:
        self.fail(context)
        return galleries_pb2.GetGalleryResponse(gallery=galleries_pb2.Gallery(name=request.name))

    def delete_gallery(self, request: Any, context: Any) -> galleries_pb2.DeleteGalleryResponse:
        self.fail(context)
        return galleries_pb2.DeleteGalleryResponse()

    def enroll_face(self, request: Any, context: Any) -> identities_pb2.EnrollFaceResponse:
        self.request_ids.append(request.request_id)
        self.fail(context)
        name = f"{request.identity}/faces/1"
        return identities_pb2.EnrollFaceResponse(
            face=identities_pb2.Face(name=name), outcome=identities_pb2.ENROLL_OUTCOME_ENROLLED
        )

    def stream_enroll_faces(self, requests: Any, context: Any) -> Iterator[Any]:
        for item in requests:
            self.request_ids.append(item.request.request_id)
            self.calls += 1
            answer = identities_pb2.StreamEnrollFacesResponse(item_id=item.item_id)
            if self.calls > self.failures:
                answer.response.face.name = f"{item.request.identity}/faces/1"
                answer.response.outcome = identities_pb2.ENROLL_OUTCOME_ENROLLED
                yield answer
            elif self.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
                answer.error.ParseFromString(overloaded()[0][1])
                yield answer
            else:
                context.abort(self.code, "not yet")

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        def handler(answer: Any, request_type: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(
                answer, request_type.FromString, lambda message: message.SerializeToString()
            )

        galleries = {
            "GetGallery": handler(self.get_gallery, galleries_pb2.GetGalleryRequest),
            "DeleteGallery": handler(self.delete_gallery, galleries_pb2.DeleteGalleryRequest),
        }
        identities = {
            "EnrollFace": handler(self.enroll_face, identities_pb2.EnrollFaceRequest),
            "StreamEnrollFaces": grpc.stream_stream_rpc_method_handler(
                self.stream_enroll_faces,
                identities_pb2.StreamEnrollFacesRequest.FromString,
                lambda message: message.SerializeToString(),
            ),
        }
        return [
            grpc.method_handlers_generic_handler("visagedb.v1.GalleryService", galleries),
            grpc.method_handlers_generic_handler("visagedb.v1.IdentityService", identities),
        ]


@contextmanager
def serving(servicer: Failing) -> Iterator[str]:
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers(servicer.handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def test_reads_are_repeated() -> None:
    servicer = Failing(2, grpc.StatusCode.UNAVAILABLE)
    with serving(servicer) as address, visagedb.Client(address) as client:
        assert client.get_gallery("staff").id == "staff"
    assert servicer.calls == 3


async def test_reads_are_repeated_in_asyncio() -> None:
    servicer = Failing(2, grpc.StatusCode.UNAVAILABLE)
    with serving(servicer) as address:
        async with visagedb.AsyncClient(address) as client:
            assert (await client.get_gallery("staff")).id == "staff"
    assert servicer.calls == 3


def test_writes_are_repeated_with_the_same_request_id() -> None:
    servicer = Failing(2, grpc.StatusCode.UNAVAILABLE)
    # Larger than gRPC's own retry buffer, which would end the repeats.
    image = bytes(1_000_000)
    with serving(servicer) as address, visagedb.Client(address) as client:
        client.enroll("staff", "alice", image=image)
    assert len(servicer.request_ids) == 3
    assert len(set(servicer.request_ids)) == 1


def test_deletions_are_not_repeated() -> None:
    servicer = Failing(1, grpc.StatusCode.UNAVAILABLE)
    with (
        serving(servicer) as address,
        visagedb.Client(address) as client,
        pytest.raises(visagedb.UnavailableError),
    ):
        client.delete_gallery("staff")
    assert servicer.calls == 1


def test_nobody_at_the_address_says_how_to_start_a_server() -> None:
    with (
        visagedb.Client("127.0.0.1:1") as client,
        pytest.raises(visagedb.ServerUnreachableError, match="visagedb serve") as caught,
    ):
        client.get_gallery("staff")
    assert caught.value.metadata["address"] == "127.0.0.1:1"
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_deadline_of_one_call() -> None:
    with (
        serving(Failing(0, grpc.StatusCode.OK, delay_seconds=0.5)) as address,
        visagedb.Client(address) as client,
        pytest.raises(TimeoutError),
    ):
        client.get_gallery("staff", timeout=0.05)


def test_unimplemented_has_its_own_error() -> None:
    with (
        serving(Failing(0, grpc.StatusCode.OK)) as address,
        visagedb.Client(address) as client,
        pytest.raises(visagedb.NotImplementedByServerError),
    ):
        client.detect(b"image")


def items(count: int) -> Iterator[visagedb.EnrollItem]:
    for number in range(count):
        yield visagedb.EnrollItem(f"person-{number}", vector=[1.0, number], key=str(number))


def test_bulk_waits_while_the_server_is_overloaded() -> None:
    servicer = Failing(10, grpc.StatusCode.RESOURCE_EXHAUSTED)
    seen: list[visagedb.BulkProgress] = []
    with serving(servicer) as address, visagedb.Client(address) as client:
        results = list(client.enroll_many("staff", items(8), concurrency=4, progress=seen.append))
    assert all(result.ok for result in results)
    assert {result.item.key for result in results} == {str(n) for n in range(8)}
    assert seen[-1].done == 8
    assert seen[-1].failed == 0
    # A repeat of an item carries the id of its first attempt.
    assert len(set(servicer.request_ids)) == 8
    assert len(servicer.request_ids) == 18


def test_bulk_makes_a_broken_stream_again() -> None:
    servicer = Failing(3, grpc.StatusCode.UNAVAILABLE)
    with serving(servicer) as address, visagedb.Client(address) as client:
        results = list(client.enroll_many("staff", items(8), concurrency=4))
    assert sorted(result.item.key for result in results) == [str(n) for n in range(8)]
    assert all(result.ok for result in results)
    # What is sent again has the id of its first time.
    assert len(set(servicer.request_ids)) == 8


async def test_bulk_makes_a_broken_stream_again_in_asyncio() -> None:
    servicer = Failing(3, grpc.StatusCode.UNAVAILABLE)
    with serving(servicer) as address:
        async with visagedb.AsyncClient(address) as client:
            results = [r async for r in client.enroll_many("staff", items(8), concurrency=4)]
    assert sorted(result.item.key for result in results) == [str(n) for n in range(8)]
    assert len(set(servicer.request_ids)) == 8


def test_bulk_ends_at_once_when_trying_again_is_of_no_use() -> None:
    servicer = Failing(9, grpc.StatusCode.PERMISSION_DENIED)
    with (
        serving(servicer) as address,
        visagedb.Client(address) as client,
        pytest.raises(visagedb.VisageError, match="not yet"),
    ):
        list(client.enroll_many("staff", items(8)))
    assert servicer.calls == 1


async def test_bulk_waits_in_asyncio_too() -> None:
    servicer = Failing(10, grpc.StatusCode.RESOURCE_EXHAUSTED)
    with serving(servicer) as address:
        async with visagedb.AsyncClient(address) as client:
            results = [r async for r in client.enroll_many("staff", items(8), concurrency=4)]
    assert all(result.ok for result in results)
    assert len(set(servicer.request_ids)) == 8


def test_bulk_gives_up_on_an_item_after_its_patience() -> None:
    servicer = Failing(10_000, grpc.StatusCode.RESOURCE_EXHAUSTED)
    with serving(servicer) as address, visagedb.Client(address) as client:
        (result,) = client.enroll_many("staff", items(1), patience=0.2)
    assert result.outcome == "OVERLOADED"
    assert isinstance(result.error, visagedb.OverloadedError)


def test_bulk_ends_when_the_server_is_gone() -> None:
    with visagedb.Client("127.0.0.1:1") as client, pytest.raises(visagedb.ServerUnreachableError):
        list(client.enroll_many("staff", items(4), patience=0.1))


def test_bulk_takes_items_only_when_it_is_their_turn() -> None:
    taken = 0

    def counted() -> Iterator[visagedb.EnrollItem]:
        nonlocal taken
        for item in items(1_000):
            taken += 1
            yield item

    servicer = Failing(0, grpc.StatusCode.OK)
    with serving(servicer) as address, visagedb.Client(address) as client:
        outcomes = client.enroll_many("staff", counted(), concurrency=4)
        for _ in range(10):
            next(outcomes)
        assert taken <= 20
        outcomes.close()  # type: ignore[attr-defined]


def test_bulk_reports_what_is_wrong_for_all_at_once() -> None:
    with visagedb.Client() as client:
        with pytest.raises(visagedb.InvalidNameError):
            client.enroll_many("no gallery", items(1))
        with pytest.raises(ValueError, match="biggest"):
            client.enroll_many("staff", items(1), face_selection="biggest")


def test_bulk_needs_room_for_one() -> None:
    with visagedb.Client() as client, pytest.raises(ValueError, match="at least 1"):
        client.enroll_many("staff", [], concurrency=0)


def test_what_was_refused_is_repeated_when_the_server_says_so() -> None:
    servicer = Failing(2, grpc.StatusCode.RESOURCE_EXHAUSTED, retry_ms=50)
    with serving(servicer) as address, visagedb.Client(address) as client:
        started = time.monotonic()
        client.delete_gallery("staff")
        assert time.monotonic() - started >= 0.1
    assert servicer.calls == 3


async def test_what_was_refused_is_repeated_in_asyncio() -> None:
    servicer = Failing(2, grpc.StatusCode.RESOURCE_EXHAUSTED, retry_ms=50)
    with serving(servicer) as address:
        async with visagedb.AsyncClient(address) as client:
            await client.delete_gallery("staff")
    assert servicer.calls == 3


@pytest.mark.parametrize(("retry_ms", "timeout", "calls"), [(50, 30.0, 5), (60_000, 5.0, 1)])
def test_repeats_have_an_end(retry_ms: int, timeout: float, calls: int) -> None:
    servicer = Failing(100, grpc.StatusCode.RESOURCE_EXHAUSTED, retry_ms=retry_ms)
    with (
        serving(servicer) as address,
        visagedb.Client(address, timeout=timeout) as client,
        pytest.raises(visagedb.OverloadedError) as caught,
    ):
        client.get_gallery("staff")
    assert caught.value.retry_after == retry_ms / 1000
    assert servicer.calls == calls
