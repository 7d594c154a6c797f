"""Comparing near cells only: an inverted file that is asked from both sides.

Rows belong to the cell of their nearest centroid. An inverted file compares a row with the
members of the cells it is near to, and loses hard mates that way. Here a pair is found when
either of its rows is near enough to the other's cell: two chances, so a loss is rare already
at a sixth of all pairs. How near is near enough is not a constant: it is measured on the
vectors themselves, on the true neighbours of a sample of rows.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.clustering.floors import choose_floor
from visagedb_indexer.clustering.neighbours import Neighbours
from visagedb_indexer.clustering.tiles import AllPairs, Rows, Tiles, VectorSource
from visagedb_indexer.values import Vector

ALL_PAIRS_ROWS_MAX: Final = 65_536
"""Up to here comparing all pairs takes seconds."""
RECALL: Final = 0.985
"""Of the true neighbours that are judged, the share that has to be found."""
JUDGED_FALSE_EDGES_PER_FACE: Final = 2.0
"""Neighbours are judged from the cosine on above which a face has so many of other people: about
where two single faces are merged. Those just above the floor are nearly all false, and to find
them too would cost more than everything else."""
_ROWS_PER_CELL: Final = 256
_CELLS_MAX: Final = 8192
_CELLS_PER_TILE: Final = 64
_TRAINING_ROWS_PER_CELL: Final = 32
_TRAINING_ROUNDS: Final = 6
_AUDIT_ROWS: Final = 1024
_AUDIT_NEIGHBOURS: Final = 10
_BLOCK_ROWS: Final = 8192


@dataclass(frozen=True, slots=True, eq=False)
class NearCells:
    """Each cell's members against all rows that are near to the cell.

    Attributes:
        vectors: Unit vectors, shape (n, dimension).
        centroids: Unit vectors, shape (cells, dimension).
        cell: Whose member each row is, shape (n,), int32.
        nearness: Least cosine of a visiting row and a centroid.
    """

    vectors: VectorSource
    centroids: Vector
    cell: NDArray[np.int32]
    nearness: float

    def __len__(self) -> int:
        return -(-len(self.centroids) // _CELLS_PER_TILE)

    def parts(self, tile: int) -> Iterator[tuple[Rows, Rows]]:
        """The members of each cell of the tile, and the cell's visitors."""
        first = tile * _CELLS_PER_TILE
        centroids = self.centroids[first : first + _CELLS_PER_TILE]
        near = np.empty((len(centroids), len(self.cell)), np.bool_)
        for start in range(0, len(self.cell), _BLOCK_ROWS):
            piece = slice(start, min(start + _BLOCK_ROWS, len(self.cell)))
            np.greater_equal(centroids @ self.vectors[piece].T, self.nearness, out=near[:, piece])
        # Members come to their own cell always.
        here = np.flatnonzero((self.cell >= first) & (self.cell < first + len(centroids)))
        near[self.cell[here] - first, here] = True
        for number in range(len(centroids)):
            yield here[self.cell[here] == first + number], np.flatnonzero(near[number])

    def state(self) -> Mapping[str, NDArray[Any]]:
        """Centroids and members: another processor may round them otherwise."""
        return {
            "centroids": self.centroids,
            "cell": self.cell,
            "nearness": np.array([self.nearness]),
        }

    @classmethod
    def of_state(cls, vectors: VectorSource, state: Mapping[str, NDArray[Any]]) -> Self:
        """The same tiles again."""
        return cls(vectors, state["centroids"], state["cell"], float(state["nearness"][0]))

    @classmethod
    def plan(cls, vectors: VectorSource, floor: float, seed: int = 1) -> Self:
        """Trains the cells and measures how far rows must visit.

        Args:
            vectors: Unit vectors, shape (n, dimension).
            floor: Least cosine of an edge.
            seed: Of all samples.
        """
        random = np.random.default_rng(seed)
        centroids = _train(vectors, random)
        cell = np.concatenate(
            [_nearest(rows, centroids) for rows in _blocks(vectors, vectors.shape[0])]
        )
        judged = choose_floor(vectors, false_edges_per_face=JUDGED_FALSE_EDGES_PER_FACE)
        nearness = _needed_nearness(vectors, centroids, cell, max(floor, judged), random)
        return cls(vectors, centroids, cell, nearness)


def plan_tiles(vectors: VectorSource, floor: float) -> Tiles:
    """All pairs of few rows; of many, those in near cells."""
    if vectors.shape[0] <= ALL_PAIRS_ROWS_MAX:
        return AllPairs(vectors.shape[0])
    return NearCells.plan(vectors, floor)


def restore_tiles(vectors: VectorSource, state: Mapping[str, NDArray[Any]]) -> Tiles:
    """The tiles of a saved state."""
    if "centroids" in state:
        return NearCells.of_state(vectors, state)
    return AllPairs(vectors.shape[0])


def _train(vectors: VectorSource, random: np.random.Generator) -> Vector:
    """Centroids of spherical k-means (Dhillon and Modha 2001) on a sample."""
    count = vectors.shape[0]
    cells = min(-(-count // _ROWS_PER_CELL), _CELLS_MAX)
    size = min(count, cells * _TRAINING_ROWS_PER_CELL)
    sample = vectors[np.sort(random.choice(count, size, replace=False))]
    centroids: Vector = sample[random.choice(size, cells, replace=False)].copy()
    for _ in range(_TRAINING_ROUNDS):
        cell = np.concatenate([_nearest(rows, centroids) for rows in _blocks(sample, size)])
        sums = np.zeros_like(centroids)
        np.add.at(sums, cell, sample)
        norms = np.linalg.norm(sums, axis=1, keepdims=True)
        # A cell that nobody came to stays where it is.
        centroids = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centroids)
    return centroids


def _nearest(rows: Vector, centroids: Vector) -> NDArray[np.int32]:
    nearest: NDArray[np.int32] = np.argmax(rows @ centroids.T, axis=1).astype(np.int32)
    return nearest


def _blocks(vectors: VectorSource, count: int) -> Iterator[Vector]:
    for start in range(0, count, _BLOCK_ROWS):
        yield vectors[start : min(start + _BLOCK_ROWS, count)]


def _needed_nearness(
    vectors: VectorSource,
    centroids: Vector,
    cell: NDArray[np.int32],
    floor: float,
    random: np.random.Generator,
) -> float:
    """The nearness at which the wanted share of a sample's true neighbours is found.

    Only the best neighbours of each row count: a person of a thousand faces has a million
    pairs, all of them easy, among which those of everybody else would not be seen.
    """
    count = vectors.shape[0]
    rows = np.sort(random.choice(count, min(count, _AUDIT_ROWS), replace=False))
    sample = vectors[rows]
    best = Neighbours(len(rows), _AUDIT_NEIGHBOURS)
    for start, block in zip(range(0, count, _BLOCK_ROWS), _blocks(vectors, count), strict=True):
        scores = block @ sample.T
        others, one = np.nonzero(scores >= floor)
        apart = others + start != rows[one]
        best.add(one[apart], others[apart] + start, scores[others[apart], one[apart]])
    near, neighbours, _ = best.pairs()
    if not len(near):
        return 1.0
    own, theirs = cell[rows[near]], cell[neighbours]
    there = np.einsum("ij,ij->i", sample[near], centroids[theirs])
    back = np.einsum("ij,ij->i", vectors[neighbours], centroids[own])
    # Both in one cell are found without any visit.
    nearness = np.where(own == theirs, 1.0, np.maximum(there, back))
    return float(np.quantile(nearness, 1 - RECALL))
