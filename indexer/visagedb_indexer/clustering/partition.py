"""Ways from a graph of neighbours to persons, all behind one interface.

`plda` is the default. The others are here to be compared with, and for embedding models of
which nothing is known: `average-linkage` and `components` need a threshold; `infomap`,
`leiden` and `chinese-whispers` read the graph alone.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from visagedb_indexer.clustering.agglomeration import (
    Linkage,
    Scores,
    Summaries,
    agglomerate,
    number_by_appearance,
)
from visagedb_indexer.clustering.graph import Edges
from visagedb_indexer.clustering.plda import PldaModel, least_evidence
from visagedb_indexer.clustering.tiles import VectorSource
from visagedb_indexer.clustering.whispers import chinese_whispers
from visagedb_indexer.errors import InvalidArgumentError, NotSupportedError
from visagedb_indexer.values import Vector

Labels = NDArray[np.int32]
Check = Callable[[], None]

METHOD_DEFAULT: Final = "plda"
_BLOCK_ROWS: Final = 1 << 16


class Partitioner(Protocol):
    """Divides the rows of a graph into clusters.

    Labels are numbered 0, 1, ... by each cluster's first row; rows without edges are clusters
    of one. The same input gives the same labels.
    """

    def partition(
        self, edges: Edges, vectors: VectorSource, *, check: Check | None = None
    ) -> Labels:
        """The cluster of every row, shape (n,), int32.

        Args:
            edges: The graph of n rows.
            vectors: Unit vectors of the rows, shape (n, dimension).
            check: Called now and then; raises to give up.
        """
        ...


@dataclass(frozen=True, slots=True)
class PldaLinkage:
    """Clusters are merged while the evidence for one person outweighs an offset.

    Attributes:
        model: Whose coordinates the sums are in.
        threshold: Log-likelihood ratio, in nats.
    """

    model: PldaModel
    threshold: float

    def summarise(self, counts: Scores, sums: Vector) -> Summaries:
        """The model's."""
        return self.model.summarise(counts, sums)

    def score(self, left: Summaries, right: Summaries) -> Scores:
        """Log-likelihood ratios."""
        return self.model.score(left, right)


@dataclass(frozen=True, slots=True)
class AverageLinkage:
    """Clusters are merged while the mean cosine between their faces is high enough.

    Attributes:
        threshold: Mean cosine (Sokal and Michener 1958).
    """

    threshold: float

    def summarise(self, counts: Scores, sums: Vector) -> Summaries:
        """The means: their product is the mean of all pairs' products."""
        return Summaries(counts, sums / counts[:, None], np.zeros_like(counts))

    def score(self, left: Summaries, right: Summaries) -> Scores:
        """Mean cosines over all pairs of members."""
        scores: Scores = np.einsum("ij,ij->i", left.points, right.points)
        return scores


@dataclass(frozen=True, slots=True)
class PldaPartitioner:
    """Agglomeration by the PLDA score of two clusters.

    Attributes:
        model: How faces spread.
        threshold: Least log-likelihood ratio, in nats; by default what so many faces ask for.
    """

    model: PldaModel
    threshold: float | None = None

    def partition(
        self, edges: Edges, vectors: VectorSource, *, check: Check | None = None
    ) -> Labels:
        """See `Partitioner`."""
        chosen = least_evidence(edges.count) if self.threshold is None else self.threshold
        linkage = PldaLinkage(self.model, chosen)
        return _along_edges(edges, vectors, linkage, self.model.project, check)


@dataclass(frozen=True, slots=True)
class AveragePartitioner:
    """Average linkage along the edges; the floor of the graph is the threshold."""

    threshold: float

    def partition(
        self, edges: Edges, vectors: VectorSource, *, check: Check | None = None
    ) -> Labels:
        """See `Partitioner`."""
        return _along_edges(edges, vectors, AverageLinkage(self.threshold), np.asarray, check)


@dataclass(frozen=True, slots=True)
class ComponentsPartitioner:
    """Connected components of the edges above a threshold (DBSCAN with two points)."""

    threshold: float

    def partition(
        self, edges: Edges, vectors: VectorSource, *, check: Check | None = None
    ) -> Labels:
        """See `Partitioner`."""
        kept = edges.above(self.threshold)
        ones = np.ones(len(kept), np.int8)
        graph = coo_array((ones, (kept.left, kept.right)), shape=(edges.count, edges.count))
        return number_by_appearance(connected_components(graph, directed=False)[1])


@dataclass(frozen=True, slots=True)
class WhispersPartitioner:
    """Chinese whispers (Biemann 2006): every row takes its neighbours' majority."""

    threshold: float

    def partition(
        self, edges: Edges, vectors: VectorSource, *, check: Check | None = None
    ) -> Labels:
        """See `Partitioner`."""
        kept = edges.above(self.threshold)
        return chinese_whispers(kept.left, kept.right, kept.score, kept.count, check)


@dataclass(frozen=True, slots=True)
class LeidenPartitioner:
    """Leiden's algorithm (Traag, Waltman, van Eck 2019), maximising modularity."""

    threshold: float

    def partition(
        self, edges: Edges, vectors: VectorSource, *, check: Check | None = None
    ) -> Labels:
        """See `Partitioner`.

        Raises:
            NotSupportedError: igraph is not installed.
        """
        igraph = _library("igraph", "leiden")
        kept = edges.above(self.threshold)
        graph = igraph.Graph(n=kept.count, edges=np.column_stack([kept.left, kept.right]))
        igraph.set_random_number_generator(_SeededRandom(1))
        found = graph.community_leiden(
            objective_function="modularity", weights=kept.score.tolist(), n_iterations=-1
        )
        return number_by_appearance(np.array(found.membership))


@dataclass(frozen=True, slots=True)
class InfomapPartitioner:
    """Infomap (Rosvall and Bergstrom 2008): the shortest description of a random walk."""

    threshold: float

    def partition(
        self, edges: Edges, vectors: VectorSource, *, check: Check | None = None
    ) -> Labels:
        """See `Partitioner`.

        Raises:
            NotSupportedError: infomap is not installed.
        """
        infomap = _library("infomap", "infomap")
        kept = edges.above(self.threshold)
        # Rows without edges are left out by the library: they stay clusters of their own.
        labels = np.arange(kept.count, dtype=np.int64) + kept.count
        if not len(kept):
            return number_by_appearance(labels)
        work = infomap.Infomap(two_level=True, silent=True, seed=1, num_trials=1)
        pairs = np.column_stack([kept.left, kept.right, kept.score]).astype(np.float64)
        work.add_links(pairs)
        for row, module in work.run().modules().items():
            labels[row] = module
        return number_by_appearance(labels)


_NEEDING_THRESHOLD: Final[dict[str, Callable[[float], Partitioner]]] = {
    "average-linkage": AveragePartitioner,
    "infomap": InfomapPartitioner,
    "leiden": LeidenPartitioner,
    "chinese-whispers": WhispersPartitioner,
    "components": ComponentsPartitioner,
}
METHODS: Final = (METHOD_DEFAULT, *_NEEDING_THRESHOLD)
"""Names of all methods, the default first."""


def partitioner(name: str, model: PldaModel, threshold: float) -> Partitioner:
    """The method of a name.

    Args:
        name: One of `METHODS`.
        model: For `plda`, which needs nothing else.
        threshold: Least cosine of an edge, for all other methods.

    Raises:
        InvalidArgumentError: There is no such method.
    """
    if name == METHOD_DEFAULT:
        return PldaPartitioner(model)
    if name not in _NEEDING_THRESHOLD:
        raise InvalidArgumentError(
            f"there is no clustering method {name!r}; the methods are {', '.join(METHODS)}"
        )
    return _NEEDING_THRESHOLD[name](threshold)


def _along_edges(
    edges: Edges,
    vectors: VectorSource,
    linkage: Linkage,
    project: Callable[[Vector], Vector],
    check: Check | None,
) -> Labels:
    """Agglomeration of the rows that have edges; the others stay alone."""
    rows = np.unique(np.concatenate([edges.left, edges.right]))
    sums = np.empty((len(rows), vectors.shape[1]), np.float32)
    for start in range(0, len(rows), _BLOCK_ROWS):
        piece = slice(start, start + _BLOCK_ROWS)
        sums[piece] = project(vectors[rows[piece]])
    place = np.empty(edges.count, np.int32)
    place[rows] = np.arange(len(rows), dtype=np.int32)
    ones = np.ones(len(rows), np.float32)
    found = agglomerate(ones, sums, place[edges.left], place[edges.right], linkage, check=check)
    labels = np.arange(edges.count, dtype=np.int64) + len(rows)
    labels[rows] = found
    return number_by_appearance(labels)


def _library(name: str, method: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotSupportedError(
            f"the method {method!r} needs the package {name}; "
            "pip install 'visagedb[clustering]' has it"
        ) from error


class _SeededRandom:
    """What igraph draws from: the same on every run, without touching anybody's global state."""

    def __init__(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self.random = generator.random
        self.gauss = generator.normal
        self._integers = generator.integers

    def randint(self, low: int, high: int) -> int:
        """Both ends included, as in the random module."""
        return int(self._integers(low, high, endpoint=True))

    def getrandbits(self, bits: int) -> int:
        """So many random bits."""
        return int(self._integers(0, 1 << min(bits, 62)))
