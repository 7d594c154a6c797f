"""The asyncio client against a real server."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import visagedb

DIMENSION = 16


@pytest.fixture
async def client(vector_server: Any) -> AsyncIterator[visagedb.AsyncClient]:
    async with visagedb.AsyncClient(vector_server.address) as client:
        await client.create_gallery("staff", model="mine@1", dimension=DIMENSION, threshold=0.5)
        yield client


async def test_enrol_search_list(client: visagedb.AsyncClient) -> None:
    vectors = np.eye(DIMENSION, dtype=np.float32)
    await asyncio.gather(
        *(client.enroll("staff", f"p{n}", vector=vector) for n, vector in enumerate(vectors))
    )
    result = await client.identify("staff", vector=vectors[3])
    assert result.match is not None
    assert result.match.id == "p3"
    names = {identity.id async for identity in client.list_identities("staff", page_size=5)}
    assert names == {f"p{n}" for n in range(DIMENSION)}
    assert (await client.health()) is visagedb.HealthStatus.SERVING


async def test_typed_errors(client: visagedb.AsyncClient) -> None:
    with pytest.raises(visagedb.GalleryNotFoundError):
        await client.get_gallery("nobody")
    with pytest.raises(visagedb.InvalidNameError):
        await client.get_gallery("a b")


async def test_bulk(client: visagedb.AsyncClient, tmp_path: Path) -> None:
    vectors = np.random.default_rng(1).standard_normal((200, DIMENSION))
    items = [visagedb.EnrollItem(f"p{n}", vector=vector) for n, vector in enumerate(vectors)]
    items.append(visagedb.EnrollItem("missing", image=tmp_path / "nobody.jpg"))
    results = [result async for result in client.enroll_many("staff", items)]
    assert sum(result.ok for result in results) == 200
    assert (await client.get_gallery("staff")).face_count == 200


async def test_bulk_can_be_left_early(client: visagedb.AsyncClient) -> None:
    vectors = np.random.default_rng(1).standard_normal((50, DIMENSION))
    items = (visagedb.EnrollItem(f"p{n}", vector=vector) for n, vector in enumerate(vectors))
    async for result in client.enroll_many("staff", items, concurrency=2):
        assert result.ok
        break


async def test_cluster(client: visagedb.AsyncClient) -> None:
    vectors = np.eye(DIMENSION, dtype=np.float32)
    for number in range(6):
        vector = vectors[number % 2] + 0.01 * vectors[5 + number]
        await client.enroll("staff", f"p{number}", vector=vector)
    operation = await client.cluster("staff", threshold=0.5)
    clustering = await operation.result(60)
    assert await operation.done()
    sizes = [group.size async for group in client.clusters(clustering)]
    assert sizes[:2] == [3, 3]


async def test_files_are_read(client: visagedb.AsyncClient, tmp_path: Path) -> None:
    path = tmp_path / "face.jpg"
    path.write_bytes(b"no image")
    with pytest.raises(visagedb.ModelNotAvailableError):
        await client.enroll("staff", "ada", image=path)


async def test_a_closed_client_says_so(vector_server: Any) -> None:
    client = visagedb.AsyncClient(vector_server.address)
    await client.close()
    with pytest.raises(RuntimeError, match="closed"):
        await client.health()
