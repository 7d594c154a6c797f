"""The graph of neighbours: against brute force, in pieces, over restarts."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic_people import faces

from visagedb_indexer.clustering import Edges, GraphBuilder, build_graph, choose_floor
from visagedb_indexer.clustering import cells as cells_module
from visagedb_indexer.clustering.cells import JUDGED_FALSE_EDGES_PER_FACE
from visagedb_indexer.errors import CancelledError

FLOOR = 0.3
NEIGHBOURS = 5


def brute_force(vectors: NDArray[np.float32], floor: float, kept: int) -> set[tuple[int, int]]:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -2)
    pairs = set()
    for row, line in enumerate(scores):
        for other in np.argsort(-line, kind="stable")[:kept]:
            if line[other] >= floor:
                pairs.add((min(row, int(other)), max(row, int(other))))
    return pairs


def pairs_of(edges: Edges) -> set[tuple[int, int]]:
    return set(zip(edges.left.tolist(), edges.right.tolist(), strict=True))


def same(one: Edges, other: Edges) -> bool:
    return (
        np.array_equal(one.left, other.left)
        and np.array_equal(one.right, other.right)
        and np.array_equal(one.score, other.score)
    )


@pytest.fixture
def near_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows are enough to be cut into cells, several to a tile."""
    monkeypatch.setattr(cells_module, "ALL_PAIRS_ROWS_MAX", 100)
    monkeypatch.setattr(cells_module, "_ROWS_PER_CELL", 64)
    monkeypatch.setattr(cells_module, "_CELLS_PER_TILE", 4)


def test_the_graph_is_that_of_brute_force() -> None:
    vectors, _ = faces(600, 4)
    edges = build_graph(vectors, floor=FLOOR, neighbours=NEIGHBOURS)
    assert pairs_of(edges) == brute_force(vectors, FLOOR, NEIGHBOURS)
    assert np.all(edges.left < edges.right)
    assert edges.count == len(vectors)
    products = np.einsum("ij,ij->i", vectors[edges.left], vectors[edges.right])
    assert np.allclose(edges.score, products, atol=1e-5)


@pytest.mark.usefixtures("near_cells")
def test_near_cells_find_nearly_all_neighbours() -> None:
    vectors, _ = faces(1500, 4)
    edges = build_graph(vectors, floor=FLOOR, neighbours=NEIGHBOURS)
    point = choose_floor(vectors, false_edges_per_face=JUDGED_FALSE_EDGES_PER_FACE)
    assert point > FLOOR
    expected = brute_force(vectors, point, NEIGHBOURS)
    assert len(expected & pairs_of(edges)) >= 0.97 * len(expected)


def test_neighbours_among_copies_are_other_faces() -> None:
    vectors = np.repeat(faces(3, 1)[0], 20, axis=0)
    edges = build_graph(vectors, floor=FLOOR, neighbours=NEIGHBOURS)
    assert np.all(edges.left < edges.right)
    degrees = np.bincount(np.concatenate([edges.left, edges.right]), minlength=60)
    assert degrees.min() >= NEIGHBOURS


@pytest.mark.parametrize("near", [False, True])
def test_an_interrupted_build_ends_with_the_same_graph(
    near: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if near:
        request.getfixturevalue("near_cells")
    vectors, _ = faces(1200, 4)
    whole = build_graph(vectors, floor=FLOOR, neighbours=NEIGHBOURS)
    path = tmp_path / "graph"
    tiles = GraphBuilder(vectors, floor=FLOOR, neighbours=NEIGHBOURS).tiles
    assert tiles >= 4
    for _ in range(tiles):
        builder = GraphBuilder(vectors, floor=FLOOR, neighbours=NEIGHBOURS)
        builder.restore(path)
        next(builder.run())
        builder.save(path)
    assert builder.done == tiles
    assert same(builder.edges(), whole)


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    vectors, _ = faces(50, 2)
    path = tmp_path / "graph"
    builder = GraphBuilder(vectors, floor=FLOOR)
    for _ in builder.run():
        builder.save(path)
    others, _ = faces(50, 2, seed=2)
    assert not GraphBuilder(others, floor=FLOOR).restore(path)
    assert not GraphBuilder(vectors, floor=0.4).restore(path)
    assert not GraphBuilder(vectors, floor=FLOOR, neighbours=3).restore(path)
    assert not GraphBuilder(vectors, floor=FLOOR).restore(tmp_path / "absent")
    assert GraphBuilder(vectors, floor=FLOOR).restore(path)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_checkpoint_is_ignored(damage: str, tmp_path: Path) -> None:
    vectors, _ = faces(50, 2)
    path = tmp_path / "graph"
    builder = GraphBuilder(vectors, floor=FLOOR)
    for _ in builder.run():
        builder.save(path)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[len(content) // 2] ^= 1
    else:
        content = content[: len(content) // 2 if damage == "truncated" else 0]
    path.write_bytes(content)
    fresh = GraphBuilder(vectors, floor=FLOOR)
    assert not fresh.restore(path)
    assert fresh.done == 0


def test_a_build_can_be_cancelled_between_tiles() -> None:
    vectors, _ = faces(1200, 2)
    builder = GraphBuilder(vectors, floor=FLOOR)
    with pytest.raises(CancelledError):
        for _ in builder.run(cancelled=lambda: builder.done == 1):
            pass
    assert builder.done == 1


def test_the_floor_rises_with_the_number_of_faces() -> None:
    vectors, _ = faces(4000, 1)
    few = choose_floor(vectors[:500])
    many = choose_floor(vectors)
    assert few < many
    scores = (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
    false_edges_per_face = 2 * np.count_nonzero(scores >= many) / len(vectors)
    assert 1 < false_edges_per_face < 20


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_faces(count: int) -> None:
    vectors = faces(2, 1)[0][:count]
    edges = build_graph(vectors, floor=-1.0)
    assert edges.count == count
    assert len(edges) == (count == 2)
