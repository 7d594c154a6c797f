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


async def test_a_matrix(client: visagedb.AsyncClient) -> None:
    matrix = np.random.default_rng(1).standard_normal((200, DIMENSION))
    ids = [f"p{number}" for number in range(200)]
    done = await client.enroll_vectors("staff", ids, matrix, batch_rows=30)
    assert done.ok
    assert done.count("enrolled") == 200
    found = (await client.identify("staff", vector=matrix[77])).best
    assert found is not None
    assert found.id == "p77"


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


async def test_loose_faces_are_named_and_sent_back(client: visagedb.AsyncClient) -> None:
    await client.create_gallery("archive", model="mine", dimension=8)
    vectors = np.eye(8, dtype=np.float32)[[0, 0, 0, 1]] + np.float32(0.01) * np.arange(
        32, dtype=np.float32
    ).reshape(4, 8)
    items = [visagedb.EnrollItem("", vector=vector, source="x.jpg") for vector in vectors]
    results = [result async for result in client.enroll_many("archive", items)]
    assert [result.outcome for result in results] == ["enrolled"] * 4
    operation = await client.cluster("archive", threshold=0.5, scope="loose")
    clustering = await operation.result(60)
    assert clustering.scope is visagedb.FaceScope.LOOSE
    largest, *_ = [cluster async for cluster in client.clusters(clustering)]
    change = await client.assign_cluster(largest, "ada")
    assert change.face_count == 3
    found = await client.find_faces("archive", vector=vectors[0], scope="identities")
    assert {one.identity for one in found} == {"ada"}
    entry = await client.undo_change(change)
    assert entry.kind is visagedb.ChangeKind.UNDO
    faces = [face async for face in client.list_faces("archive")]
    assert len(faces) == (await client.get_gallery("archive")).loose_face_count == 4
    with pytest.raises(visagedb.NotUndoableError):
        await client.undo_change(change)
    moved = await client.move_faces("archive", faces[:2], "bea")
    other = await client.split_identity("archive", "bea", [moved.faces[0]], new_identity="cleo")
    assert other.identity is not None
    assert other.identity.face_count == 1
    merged = await client.merge_identities("archive", "bea", ["cleo"])
    assert merged.identity is not None
    assert merged.identity.face_count == 2
    kinds = [one.kind async for one in client.list_lineage("archive", "bea")]
    assert kinds == ["merge", "split", "move"]
