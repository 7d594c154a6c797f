"""The graph of near neighbours: which faces have a cosine above a floor.

Every face keeps its best neighbours; an edge is there when one of its ends keeps the other.
The work is cut into tiles, and these into pieces that are done on all cores. Between tiles it
can be cancelled, and its state written to a file from which another process goes on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.clustering import checkpoint
from visagedb_indexer.clustering.cells import plan_tiles, restore_tiles
from visagedb_indexer.clustering.floors import choose_floor
from visagedb_indexer.clustering.neighbours import Neighbours
from visagedb_indexer.clustering.threads import Scratch, Threads
from visagedb_indexer.clustering.tiles import Rows, Tiles, VectorSource, in_blocks, places
from visagedb_indexer.errors import CancelledError

Found: TypeAlias = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
"""Rows, a neighbour of each, and their cosines; each of shape (m,)."""

NEIGHBOURS_DEFAULT: Final = 10
_COMPARED_AT_ONCE: Final = 1 << 20
"""Scores computed in one piece: 4 MiB, which stay in the processor's cache."""


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """Pairs of neighbours, each once, in ascending order.

    Attributes:
        left: Smaller row of each pair, shape (m,), int32.
        right: Larger row, shape (m,), int32.
        score: Their cosine, shape (m,), float32.
        count: Rows of the graph, with and without edges.
    """

    left: NDArray[np.int32]
    right: NDArray[np.int32]
    score: NDArray[np.float32]
    count: int

    def __len__(self) -> int:
        return len(self.left)

    def above(self, floor: float) -> "Edges":
        """The edges with at least this cosine."""
        kept = self.score >= floor
        return Edges(self.left[kept], self.right[kept], self.score[kept], self.count)

    @classmethod
    def of_pairs(
        cls,
        one: NDArray[np.integer],
        other: NDArray[np.integer],
        score: NDArray[np.float32],
        count: int,
    ) -> "Edges":
        """Edges from pairs in any order, either way round, some twice, none with itself."""
        low, high = np.minimum(one, other), np.maximum(one, other)
        keys, first = np.unique((low.astype(np.int64) << 32) | high, return_index=True)
        left, right = (keys >> 32).astype(np.int32), (keys & 0xFFFFFFFF).astype(np.int32)
        return cls(left, right, score[first].astype(np.float32), count)


class GraphBuilder:
    """Builds the graph, tile by tile.

    Args:
        vectors: Unit vectors, shape (n, dimension).
        floor: Least cosine of an edge; by default `choose_floor`'s.
        neighbours: Best neighbours that a face keeps.
    """

    def __init__(
        self,
        vectors: VectorSource,
        *,
        floor: float | None = None,
        neighbours: int = NEIGHBOURS_DEFAULT,
    ) -> None:
        self._vectors = vectors
        self.count = vectors.shape[0]
        self.floor = choose_floor(vectors) if floor is None else floor
        self._neighbours = Neighbours(self.count, neighbours)
        self._scratch = Scratch(_COMPARED_AT_ONCE)
        self._planned: Tiles | None = None
        self._done = 0

    @property
    def tiles(self) -> int:
        """Tiles in all; asked for the first time, it makes the plan, which takes a while."""
        return len(self._tiles)

    @property
    def done(self) -> int:
        """Tiles that are finished."""
        return self._done

    def run(self, cancelled: Callable[[], bool] = lambda: False) -> Iterator[int]:
        """Does the rest of the work; gives the number of finished tiles after each.

        Raises:
            CancelledError: `cancelled` said so before a tile.
        """
        with Threads() as threads:
            while self._done < self.tiles:
                if cancelled():
                    raise CancelledError("the clustering was cancelled")
                for found in threads.map(self._compare, self._pieces(self._done)):
                    for neighbours in found:
                        self._neighbours.add(*neighbours)
                self._done += 1
                yield self._done

    def edges(self) -> Edges:
        """The edges found so far."""
        return Edges.of_pairs(*self._neighbours.pairs(), self.count)

    def save(self, path: Path) -> None:
        """Writes the state: aside, synced, then renamed."""
        rows, others, scores = self._neighbours.pairs()
        state = {
            "done": np.int64(self._done),
            "floor": np.float64(self.floor),
            "neighbours": np.int64(self._neighbours.kept),
            "vectors": self._fingerprint(),
            "rows": rows,
            "others": others,
            "scores": scores,
            **{f"tiles.{name}": array for name, array in self._tiles.state().items()},
        }
        checkpoint.write(path, state)

    def restore(self, path: Path) -> bool:
        """Goes on from a written state.

        Returns:
            False, and nothing is changed, when there is no such file, it is damaged, or it is
            of other vectors, another floor or another number of neighbours.
        """
        state = checkpoint.read(path)
        if state is None or not np.array_equal(state["vectors"], self._fingerprint()):
            return False
        settings = (int(state["neighbours"]), float(state["floor"]))
        if settings != (self._neighbours.kept, self.floor):
            return False
        plan = {name[6:]: array for name, array in state.items() if name.startswith("tiles.")}
        self._planned = restore_tiles(self._vectors, plan)
        self._neighbours = Neighbours(self.count, self._neighbours.kept)
        self._neighbours.add(state["rows"], state["others"], state["scores"])
        self._done = int(state["done"])
        return True

    def _fingerprint(self) -> NDArray[np.float32]:
        """Shape and some evenly spaced rows: enough to know the vectors again."""
        count, dimension = self._vectors.shape
        rows = np.unique(np.linspace(0, max(count - 1, 0), 64, dtype=np.int64))[:count]
        shape = np.array([count, dimension], np.float32)
        return np.concatenate([shape, np.ravel(self._vectors[rows])])

    @property
    def _tiles(self) -> Tiles:
        if self._planned is None:
            self._planned = plan_tiles(self._vectors, self.floor)
        return self._planned

    def _pieces(self, tile: int) -> Iterator[tuple[Rows, Rows]]:
        """What a tile compares, so cut that a matrix of scores stays in the cache."""
        for one, other in self._tiles.parts(tile):
            size = max(1, _COMPARED_AT_ONCE // max(len(places(one)), 1))
            for block in in_blocks(other, size):
                yield one, block

    def _compare(self, piece: tuple[Rows, Rows]) -> list[Found]:
        """Compares two sets of rows and finds what is above the floor, for both ends."""
        one, block = piece
        columns, vectors = self._vectors[block].T, self._vectors[one]
        scores = self._scratch.matrix(len(vectors), columns.shape[1])
        np.matmul(vectors, columns, out=scores)
        # Nearly all rows of a block have no neighbour here: a maximum finds that out at
        # the speed of memory, and looking for the others costs as much as comparing.
        near = np.flatnonzero(scores.max(axis=0, initial=-2.0) >= self.floor)
        if not len(near):
            return []
        return self._best(scores[:, near].T, places(block)[near], places(one))

    def _best(
        self, scores: NDArray[np.float32], rows: NDArray[np.int64], columns: NDArray[np.int64]
    ) -> list[Found]:
        """The best of a matrix of scores, for its rows and for its columns."""
        scores[rows[:, None] == columns] = -2.0
        found = []
        for matrix, one, other in ((scores, rows, columns), (scores.T, columns, rows)):
            least = _least_of_best(matrix, self._neighbours.kept, self.floor)
            i, j = np.nonzero(matrix >= least[:, None])
            found.append((one[i], other[j], matrix[i, j]))
        return found


def _least_of_best(scores: NDArray[np.float32], kept: int, floor: float) -> NDArray[np.float32]:
    """What a score needs to be among the best of its row, and not under the floor."""
    least = np.full(len(scores), floor, np.float32)
    crowded = np.flatnonzero(np.count_nonzero(scores >= floor, axis=1) > kept)
    if len(crowded):
        cut = scores.shape[1] - kept
        least[crowded] = np.partition(scores[crowded], cut, axis=1)[:, cut]
    return least


def build_graph(
    vectors: VectorSource,
    *,
    floor: float | None = None,
    neighbours: int = NEIGHBOURS_DEFAULT,
) -> Edges:
    """The whole graph at once."""
    builder = GraphBuilder(vectors, floor=floor, neighbours=neighbours)
    for _ in builder.run():
        pass
    return builder.edges()
