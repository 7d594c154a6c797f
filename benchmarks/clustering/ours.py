"""The default of VisageDB: nothing to choose but where the PLDA model comes from."""

import time
from dataclasses import dataclass

import numpy as np
from galleries import Vectors
from numpy.typing import NDArray

from visagedb_indexer.clustering import (
    METHOD_DEFAULT,
    Edges,
    GraphBuilder,
    PldaModel,
    partitioner,
)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A clustering and what it took.

    Attributes:
        labels: Shape (n,).
        edges: The graph.
        floor: Least cosine of an edge, as it was chosen.
        graph_seconds: To build the graph.
        partition_seconds: To divide it.
    """

    labels: NDArray[np.int32]
    edges: Edges
    floor: float
    graph_seconds: float
    partition_seconds: float


def cluster(vectors: Vectors, model: PldaModel) -> Run:
    """Clusters as a gallery does."""
    started = time.perf_counter()
    builder = GraphBuilder(vectors)
    for _ in builder.run():
        pass
    edges = builder.edges()
    built = time.perf_counter()
    labels = partition(edges, vectors, model)
    ended = time.perf_counter()
    return Run(labels, edges, builder.floor, built - started, ended - built)


def partition(edges: Edges, vectors: Vectors, model: PldaModel) -> NDArray[np.int32]:
    """The default partition of a graph."""
    return partitioner(METHOD_DEFAULT, model, threshold=0.0).partition(edges, vectors)
