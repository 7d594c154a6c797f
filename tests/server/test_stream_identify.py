"""Streams of probes: the answers of single calls, in any order, and nothing without a bound."""

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import grpc
import numpy as np
import pytest
from servers import make_config
from support import TIE, failures, random_vectors, run_together
from wire import DIMENSION, Api, Refusal, probe, refusal_of_status, refused

from visagedb.v1 import search_pb2
from visagedb_indexer import limits
from visagedb_indexer.values import Vector
from visagedb_server.server import Server

VECTORS = random_vectors(200, DIMENSION)
WAIT_SECONDS = 30.0

Answers = dict[str, search_pb2.StreamIdentifyResponse]


def item(
    item_id: str, vector: Vector, gallery: str = "people", **fields: object
) -> search_pb2.StreamIdentifyRequest:
    request = search_pb2.IdentifyRequest(
        **{"gallery": f"galleries/{gallery}", "probe": probe(vector), **fields}
    )
    return search_pb2.StreamIdentifyRequest(item_id=item_id, request=request)


def stream(api: Api, items: Iterable[search_pb2.StreamIdentifyRequest]) -> Answers:
    answers: Answers = {}
    for answer in api.search.StreamIdentify(iter(items), timeout=WAIT_SECONDS):
        assert answer.item_id not in answers
        assert answer.HasField("response") != answer.HasField("error")
        answers[answer.item_id] = answer
    return answers


def assert_same(one: search_pb2.IdentifyResponse, other: search_pb2.IdentifyResponse) -> None:
    """Equal up to the last bits of the scores, which depend on what shared a scan."""
    pairs = []
    for response in (one, other):
        plain = search_pb2.IdentifyResponse()
        plain.CopyFrom(response)
        candidates = [c for answer in plain.identifications for c in answer.candidates]
        pairs.append((plain, [candidate.score for candidate in candidates]))
        for candidate in candidates:
            candidate.score = 0.0
    assert pairs[0][0] == pairs[1][0]
    np.testing.assert_allclose(pairs[0][1], pairs[1][1], atol=TIE)


def refusal(answers: Answers, item_id: str) -> Refusal:
    return refusal_of_status(answers[item_id].error)


def eventually_streams(api: Api) -> None:
    """Waits until one more stream is served."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            assert len(stream(api, [item("a", VECTORS[0])])) == 1
        except grpc.RpcError:
            assert time.monotonic() < end
            time.sleep(0.01)
        else:
            return


class OpenStream:
    """A stream whose caller goes on sending when it likes."""

    def __init__(self, api: Api, timeout: float | None = None) -> None:
        self._more = threading.Semaphore(0)
        self._closed = False
        self.sent = 0
        self.call = api.search.StreamIdentify(self._items(), timeout=timeout)

    def _items(self) -> Iterator[search_pb2.StreamIdentifyRequest]:
        while True:
            self._more.acquire()
            if self._closed:
                return
            self.sent += 1
            yield item(str(self.sent), VECTORS[self.sent % len(VECTORS)])

    def ask(self) -> search_pb2.StreamIdentifyResponse:
        self._more.release()
        answer = next(self.call)
        assert answer.HasField("response")
        return answer

    def close(self) -> None:
        self._closed = True
        self._more.release()


@pytest.fixture
def people(api: Api) -> Api:
    """Two hundred people of one face each, at two sites."""
    for i, vector in enumerate(VECTORS):
        api.enroll(f"p{i}", vector, new_identity={"labels": {"site": str(i % 2)}})
    return api


def test_answers_are_those_of_single_calls(people: Api) -> None:
    probes = random_vectors(300, DIMENSION, seed=5)
    options = [{"top_k": 3}, {"filter": "labels.site=1"}, {"exact": True}, {"min_score": 0.5}]
    answers = stream(
        people, (item(f"i{i}", probes[i], **options[i % 4]) for i in range(len(probes)))
    )
    assert len(answers) == len(probes)
    for i, vector in enumerate(probes):
        assert_same(answers[f"i{i}"].response, people.identify(vector, **options[i % 4]))


def test_an_empty_stream_ends(people: Api) -> None:
    assert stream(people, []) == {}


def test_an_item_that_fails_ends_neither_the_stream_nor_the_others(people: Api) -> None:
    good = VECTORS[0]
    items = [
        item("good", good, top_k=1),
        search_pb2.StreamIdentifyRequest(item_id="nothing"),
        item("gallery", good, gallery="nobody"),
        item("dimension", good[:5]),
        item("nan", np.full(DIMENSION, np.nan, np.float32)),
        item("zero", np.zeros(DIMENSION, np.float32)),
        item("filter", good, filter="site ="),
        item("top_k", good, top_k=1001),
        item("rate", good, operating_point={"max_false_positive_rate": 0.01}),
        item("face", good, probe={"face": "galleries/people/identities/p1/faces/none"}),
        item("image", good, probe={"image": b"no image"}),
        item("last", good, top_k=1),
    ]
    answers = stream(people, items)
    assert set(answers) == {one.item_id for one in items}
    for item_id in ("good", "last"):
        assert_same(answers[item_id].response, people.identify(good, top_k=1))
    for one in items[1:-1]:
        with refused(*_code_and_reason(refusal(answers, one.item_id))) as alone:
            people.search.Identify(one.request)
        assert alone == refusal(answers, one.item_id)
    assert refusal(answers, "gallery").reason == "GALLERY_NOT_FOUND"
    assert refusal(answers, "dimension").reason == "INVALID_VECTOR"
    assert refusal(answers, "top_k").fields == ["top_k"]


def _code_and_reason(refusal: Refusal) -> tuple[str, str]:
    return refusal.code, refusal.reason


@pytest.mark.parametrize("item_id", ["", "x" * (limits.STREAM_ITEM_ID_LENGTH_MAX + 1)])
def test_an_unusable_item_id_ends_the_stream_after_the_answers_before_it(
    people: Api, item_id: str
) -> None:
    items = [item("a", VECTORS[0]), item("b", VECTORS[1]), item(item_id, VECTORS[2])]
    answers = []
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "item_id"):
        answers.extend(one.item_id for one in people.search.StreamIdentify(iter(items)))
    assert sorted(answers) == ["a", "b"]


def test_an_item_id_that_is_under_way_ends_the_stream(people: Api) -> None:
    with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT", "item_id"):
        # Many at once; at least one of the answers has not been read when its id comes again.
        list(people.search.StreamIdentify(item("a", VECTORS[0]) for _ in range(1000)))
    eventually_streams(people)


def test_the_id_of_an_answered_item_may_be_used_again(people: Api) -> None:
    send = threading.Semaphore(1)

    def items() -> Iterator[search_pb2.StreamIdentifyRequest]:
        for _ in range(50):
            send.acquire()
            yield item("a", VECTORS[0])

    answers = 0
    for answer in people.search.StreamIdentify(items()):
        assert answer.HasField("response")
        answers += 1
        send.release()
    assert answers == 50


def test_garbage_ends_the_stream_and_nothing_else(people: Api) -> None:
    method = people.channel.stream_stream("/visagedb.v1.SearchService/StreamIdentify")
    good = item("a", VECTORS[0]).SerializeToString()
    for _ in range(limits.STREAMS_MAX + 1):
        with refused("INVALID_ARGUMENT", "INVALID_ARGUMENT"):
            list(method(iter([good, b"\xff\xff\xff", good])))
    eventually_streams(people)


def test_a_message_that_is_too_large_ends_the_stream(people: Api) -> None:
    large = item("b", VECTORS[0], probe={"image": bytes(46 * limits.MIB)})
    with pytest.raises(grpc.RpcError) as error:
        list(people.search.StreamIdentify(iter([item("a", VECTORS[0]), large])))
    assert error.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    eventually_streams(people)


def test_answers_come_while_the_stream_is_open(people: Api) -> None:
    one = OpenStream(people)
    assert [one.ask().item_id for _ in range(3)] == ["1", "2", "3"]
    one.close()
    assert list(one.call) == []


def test_a_caller_that_does_not_read_stops_being_read(people: Api) -> None:
    sent = 0

    def items() -> Iterator[search_pb2.StreamIdentifyRequest]:
        nonlocal sent
        while True:
            sent += 1
            yield item(str(sent), VECTORS[0], top_k=200, filter=" " * 4000)

    call = people.search.StreamIdentify(items())
    end, before = time.monotonic() + WAIT_SECONDS, -1
    while sent != before and time.monotonic() < end:
        before = sent
        time.sleep(1.0)
    assert sent == before, "the server goes on reading"
    # The stream has not failed: who reads gets answers again.
    assert all(next(call).HasField("response") for _ in range(100))
    call.cancel()
    eventually_streams(people)


def test_more_streams_than_may_be_are_refused_and_single_calls_are_served(people: Api) -> None:
    held = [OpenStream(people) for _ in range(limits.STREAMS_MAX)]
    for one in held:
        one.ask()
    with refused("RESOURCE_EXHAUSTED", "OVERLOADED") as refusal:
        list(people.search.StreamIdentify(iter([item("a", VECTORS[0])])))
    assert refusal.metadata == {"limit": str(limits.STREAMS_MAX)}
    assert people.best(VECTORS[7]) == "p7"
    held.pop().call.cancel()
    eventually_streams(people)
    for one in held:
        one.ask()
        one.close()
        list(one.call)


def test_a_server_of_few_threads_serves_a_stream_beside_single_calls(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data", threads=4, requests_max=8))
    server.start()
    api = Api(server.address)
    api.create_gallery()
    api.enroll("ada", VECTORS[0])
    streams = [OpenStream(api) for _ in range(limits.STREAMS_MAX)]
    for one in streams:
        one.ask()
    with refused("RESOURCE_EXHAUSTED", "OVERLOADED"):
        list(api.search.StreamIdentify(iter([item("a", VECTORS[0])])))
    assert api.best(VECTORS[0]) == "ada"
    for one in streams:
        one.close()
    api.close()
    server.stop(grace=5)


def test_the_deadline_is_that_of_the_stream(people: Api) -> None:
    one = OpenStream(people, timeout=0.5)
    one.ask()
    with pytest.raises(grpc.RpcError) as error:
        next(one.call)
    assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    one.close()
    eventually_streams(people)


def test_streams_that_are_cancelled_leave_nothing_behind(people: Api) -> None:
    before = threading.active_count()
    for _ in range(3 * limits.STREAMS_MAX):
        call = people.search.StreamIdentify(item(str(i), VECTORS[0]) for i in range(10_000))
        # It is refused while those before it are still ending.
        with suppress(grpc.RpcError):
            next(call)
        call.cancel()
    eventually_streams(people)
    end = time.monotonic() + WAIT_SECONDS
    names = ["not read yet"]
    while names and time.monotonic() < end:
        names = [one.name for one in threading.enumerate() if one.name.startswith("stream")]
        time.sleep(0.01)
    assert not names
    # Threads of calls are kept for later calls.
    assert threading.active_count() <= before + 3 * limits.STREAMS_MAX + 2


def test_a_stream_under_way_does_not_keep_the_server_from_stopping(tmp_path: Path) -> None:
    server = Server(make_config(tmp_path / "data"))
    server.start()
    api = Api(server.address)
    api.create_gallery()
    api.enroll("ada", VECTORS[0])
    one = OpenStream(api)
    one.ask()
    server.stop(grace=0.2)
    with pytest.raises(grpc.RpcError):
        next(one.call)
    one.close()
    api.close()


def test_streams_and_single_calls_beside_each_other(people: Api) -> None:
    def streamed(first: int) -> None:
        order = [(first + i) % len(VECTORS) for i in range(len(VECTORS))]
        answers = stream(people, (item(str(i), VECTORS[i], top_k=1) for i in order))
        for i in order:
            [answer] = answers[str(i)].response.identifications
            assert answer.candidates[0].identity.endswith(f"/p{i}")

    def single(first: int) -> None:
        for i in range(first, first + 50):
            assert people.best(VECTORS[i]) == f"p{i}"

    def enrolling() -> None:
        for i in range(50):
            people.enroll(f"new{i}", random_vectors(1, DIMENSION, seed=100 + i)[0])

    tasks = [lambda first=10 * n: streamed(first) for n in range(4)]
    tasks += [lambda first=10 * n: single(first) for n in range(4)]
    assert not failures(run_together([*tasks, enrolling]))
