"""Which PLDA model a gallery is clustered with: its own, its embedding model's, or a guess."""

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.clustering.graph import Edges, build_graph
from visagedb_indexer.clustering.partition import PldaPartitioner
from visagedb_indexer.clustering.plda import PEOPLE_MIN, PldaModel, fit, from_covariances
from visagedb_indexer.clustering.tiles import VectorSource
from visagedb_indexer.values import Vector

BUILTIN: Final = Path(__file__).parent / "builtin"
_SAMPLE_ROWS: Final = 50_000
_BETWEEN_SHARE: Final = 0.7
"""Of the variance of all faces, what lies between persons when nothing is known: the more,
the more careful the first clusters are."""
_ROUNDS: Final = 2


def shipped_model(name: str, version: str) -> PldaModel | None:
    """The model that comes with VisageDB for an embedder; None if there is none.

    Args:
        name: Of the embedder, as in a gallery's model identity.
        version: Likewise; it stands for weights, preprocessing and centring together, and all
            of them have to be those that the model was fitted with.
    """
    # The name may be a caller's own, so it is compared with names and never made a path.
    kept = {path.stem: path for path in BUILTIN.glob("*.npz")}
    path = kept.get(f"{name}-{version}")
    return PldaModel.from_bytes(path.read_bytes()) if path else None


def for_gallery(
    vectors: VectorSource,
    people: NDArray[np.integer] | None = None,
    *,
    shipped: PldaModel | None = None,
    edges: Edges | None = None,
) -> PldaModel:
    """The model for a gallery.

    It is fitted on the gallery's own identities when enough of them have two or more faces;
    else it is the one that came with the model card; else it is found without any labels.

    Args:
        vectors: Unit vectors, shape (n, dimension).
        people: Their identities as numbers, shape (n,), negative for loose faces; None when
            there are none, or none that are to be trusted.
        shipped: The model of the embedder's card.
        edges: The graph of the vectors; without it, one of a sample is made when it is needed.
    """
    if people is not None:
        rows = _of_people_with_several(people)
        if len(np.unique(people[rows])) >= PEOPLE_MIN:
            return fit(vectors[rows], people[rows])
    if shipped is not None and shipped.dimension == vectors.shape[1]:
        return shipped
    if edges is None:
        rows = _evenly(vectors.shape[0])
        vectors = vectors[rows]
        edges = build_graph(vectors)
    return without_labels(vectors, edges)


def without_labels(vectors: VectorSource, edges: Edges) -> PldaModel:
    """A model for embeddings of which nothing is known.

    A careful guess, in which nothing but the spread of the vectors is used, finds clusters that
    are nearly pure; a model fitted on those is nearly that of labelled people.
    """
    model = generic(vectors[_evenly(vectors.shape[0])])
    for _ in range(_ROUNDS):
        labels = PldaPartitioner(model).partition(edges, vectors)
        rows = _of_people_with_several(labels)
        if len(np.unique(labels[rows])) < PEOPLE_MIN:
            break
        model = fit(vectors[rows], labels[rows])
    return model


def generic(vectors: Vector) -> PldaModel:
    """A model in which persons, and the faces of one, spread alike in all directions."""
    mean = vectors.mean(axis=0, dtype=np.float64)
    dimension = len(mean)
    total = max(1.0 - float(mean @ mean), 1e-3) / dimension * np.eye(dimension)
    return from_covariances(mean, _BETWEEN_SHARE * total, (1 - _BETWEEN_SHARE) * total)


def _evenly(count: int) -> NDArray[np.int64]:
    """Evenly spaced rows, not too many."""
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, _SAMPLE_ROWS), dtype=np.int64))


def _of_people_with_several(people: NDArray[np.integer]) -> NDArray[np.int64]:
    """Rows of people with two or more faces: as many as a fit has use for."""
    known = np.flatnonzero(people >= 0)
    _, which, counts = np.unique(people[known], return_inverse=True, return_counts=True)
    rows: NDArray[np.int64] = known[counts[which] > 1]
    # Whole people are left out, not single faces.
    step = max(1, -(-len(rows) // _SAMPLE_ROWS))
    chosen: NDArray[np.int64] = rows[people[rows] % step == 0]
    return chosen
