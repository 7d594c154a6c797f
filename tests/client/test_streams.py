"""Many probes over one stream, through both clients, against a real server."""

import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visagedb

DIMENSION = 16
VECTORS = np.random.default_rng(1).standard_normal((100, DIMENSION)).astype(np.float32)


@pytest.fixture
def client(vector_server: Any) -> Iterator[visagedb.Client]:
    with visagedb.Client(vector_server.address) as client:
        client.create_gallery("staff", model="mine@1", dimension=DIMENSION, threshold=0.5)
        items = (visagedb.EnrollItem(f"p{n}", vector=vector) for n, vector in enumerate(VECTORS))
        assert all(result.ok for result in client.enroll_many("staff", items))
        yield client


def best(result: visagedb.ProbeResult) -> str:
    assert result.result is not None
    [found] = result.result
    assert found.match is not None
    return found.match.id


def test_results_carry_the_ids_of_their_probes(client: visagedb.Client) -> None:
    probes = ((f"camera {n % 7}", vector) for n, vector in enumerate(VECTORS))
    results = list(client.stream_identify("staff", probes, top_k=1))
    assert sorted(result.place for result in results) == list(range(len(VECTORS)))
    for result in results:
        assert result.item_id == f"camera {result.place % 7}"
        assert best(result) == f"p{result.place}"


def test_many_are_answered_in_their_order(client: visagedb.Client) -> None:
    results = client.identify_many("staff", VECTORS, top_k=1, in_flight=3)
    assert [best(result) for result in results] == [f"p{n}" for n in range(len(VECTORS))]
    assert [result.item_id for result in results] == [str(n) for n in range(len(VECTORS))]
    face = next(iter(client.list_faces("staff", "p7")))
    [stored] = client.identify_many("staff", [face])
    assert best(stored) == "p7"
    assert client.identify_many("staff", []) == []


def test_a_probe_that_fails_has_a_typed_error(client: visagedb.Client, tmp_path: Path) -> None:
    probes = [
        VECTORS[0],
        VECTORS[0][:3],
        np.full(DIMENSION, np.nan),
        tmp_path / "nobody.jpg",
        "door.jpg",
        np.zeros(DIMENSION),
        VECTORS[1],
    ]
    results = client.identify_many("staff", probes)  # type: ignore[arg-type]
    assert [result.ok for result in results] == [True, *[False] * 5, True]
    errors = [type(result.error) for result in results[1:-1]]
    invalid = visagedb.InvalidVectorError
    assert errors == [invalid, invalid, FileNotFoundError, TypeError, invalid]
    [result] = client.identify_many("nobody", VECTORS[:1])
    assert isinstance(result.error, visagedb.GalleryNotFoundError)
    all_missing = client.identify_many("staff", [tmp_path / "x"] * 100, in_flight=2)
    assert not any(result.ok for result in all_missing)


def test_wrong_arguments_are_reported_by_the_call(client: visagedb.Client) -> None:
    for wrong in ({"in_flight": 0}, {"face_selection": "prettiest"}):
        with pytest.raises(ValueError):  # noqa: PT011
            client.stream_identify("staff", VECTORS, **wrong)
    with pytest.raises(visagedb.InvalidNameError):
        client.stream_identify("a b", VECTORS)


def test_results_come_while_the_next_probe_is_awaited(client: visagedb.Client) -> None:
    next_one = threading.Semaphore(1)

    def camera() -> Iterator[Any]:
        for vector in VECTORS[:10]:
            next_one.acquire()
            yield vector

    seen = []
    for result in client.stream_identify("staff", camera()):
        seen.append(best(result))
        next_one.release()
    assert seen == [f"p{n}" for n in range(10)]


def test_no_more_probes_are_taken_than_results(client: visagedb.Client) -> None:
    taken = 0

    def endless() -> Iterator[Any]:
        nonlocal taken
        for n in itertools.count():
            taken += 1
            yield VECTORS[n % len(VECTORS)]

    results = client.stream_identify("staff", endless(), in_flight=5)
    for count in range(1, 100):
        assert next(results).ok
        # Those under way, the one that waits for room, and the one just answered.
        assert taken <= count + 6
    results.close()  # type: ignore[attr-defined]
    assert client.identify_many("staff", VECTORS[:1])[0].ok


def test_what_the_iterable_raises_is_raised(client: visagedb.Client) -> None:
    def broken() -> Iterator[Any]:
        yield VECTORS[0]
        raise KeyError("camera")

    results = client.stream_identify("staff", broken())
    assert next(results).ok
    with pytest.raises(KeyError, match="camera"):
        next(results)


def test_the_end_of_the_server_is_a_typed_error(
    client: visagedb.Client, vector_server: Any
) -> None:
    results = client.stream_identify("staff", itertools.cycle(VECTORS))
    assert next(results).ok
    stopping = threading.Thread(target=vector_server.stop, args=(0.0,))
    stopping.start()
    with pytest.raises(visagedb.VisageError):
        for _ in results:
            pass
    stopping.join()


def test_a_timeout_is_that_of_the_stream(client: visagedb.Client) -> None:
    with pytest.raises(visagedb.DeadlineExceededError):
        for _ in client.stream_identify("staff", itertools.cycle(VECTORS), timeout=0.5):
            pass


async def test_asyncio(client: visagedb.Client, tmp_path: Path) -> None:
    async def camera() -> AsyncIterator[Any]:
        for n, vector in enumerate(VECTORS):
            yield f"frame {n}", vector

    async with visagedb.AsyncClient(client.address) as other:
        results = [one async for one in other.stream_identify("staff", camera(), in_flight=4)]
        assert {one.item_id: best(one) for one in results} == {
            f"frame {n}": f"p{n}" for n in range(len(VECTORS))
        }
        many = await other.identify_many("staff", [*VECTORS[:3], tmp_path / "nobody.jpg"])
        assert [best(one) for one in many[:3]] == ["p0", "p1", "p2"]
        assert isinstance(many[3].error, FileNotFoundError)
        async for one in other.stream_identify("staff", itertools.cycle(VECTORS), in_flight=2):
            assert one.ok
            break
        with pytest.raises(visagedb.DeadlineExceededError):
            async for _ in other.stream_identify("staff", itertools.cycle(VECTORS), timeout=0.5):
                pass
    with pytest.raises(TypeError, match="asyncio"):
        client.stream_identify("staff", camera())


async def test_what_an_asynchronous_iterable_raises_is_raised(client: visagedb.Client) -> None:
    async def broken() -> AsyncIterator[Any]:
        yield VECTORS[0]
        raise KeyError("camera")

    async with visagedb.AsyncClient(client.address) as other:
        with pytest.raises(KeyError, match="camera"):
            await other.identify_many("staff", broken())
