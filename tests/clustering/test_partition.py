"""From a graph to persons: every method, the merging itself, and faces that come later."""

import numpy as np
import pytest
from numpy.typing import NDArray
from synthetic_people import faces

from visagedb_indexer.clustering import (
    METHODS,
    Edges,
    PldaModel,
    assign,
    build_graph,
    fit,
    partitioner,
)
from visagedb_indexer.clustering import partition as partition_module
from visagedb_indexer.clustering.agglomeration import agglomerate
from visagedb_indexer.clustering.partition import AverageLinkage, PldaLinkage
from visagedb_indexer.errors import InvalidArgumentError, NotSupportedError

THRESHOLD = 0.58


def agree(labels: NDArray[np.integer], people: NDArray[np.integer]) -> float:
    """Share of faces in a cluster that is one whole person and nobody else."""
    pairs, counts = np.unique(np.column_stack([labels, people]), axis=0, return_counts=True)
    whole = counts == np.bincount(people)[pairs[:, 1]]
    pure = counts == np.bincount(labels)[pairs[:, 0]]
    return float(counts[whole & pure].sum() / len(labels))


@pytest.fixture(scope="module")
def model() -> PldaModel:
    return fit(*faces(400, 5, seed=9))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_finds_the_persons(method: str, model: PldaModel) -> None:
    vectors, people = faces(200, 5)
    edges = build_graph(vectors)
    labels = partitioner(method, model, THRESHOLD).partition(edges, vectors)
    assert labels.dtype == np.int32
    assert agree(labels, people) > 0.95
    again = partitioner(method, model, THRESHOLD).partition(edges, vectors)
    assert np.array_equal(labels, again)


@pytest.mark.parametrize("method", METHODS)
def test_labels_are_numbered_by_first_appearance(method: str, model: PldaModel) -> None:
    vectors, _ = faces(30, 3)
    labels = partitioner(method, model, THRESHOLD).partition(build_graph(vectors), vectors)
    firsts = [int(np.flatnonzero(labels == label)[0]) for label in range(labels.max() + 1)]
    assert firsts == sorted(firsts)


@pytest.mark.parametrize("method", METHODS)
def test_faces_without_edges_stay_alone(method: str, model: PldaModel) -> None:
    vectors, _ = faces(7, 1)
    none = np.empty(0, np.int32)
    edges = Edges(none, none, np.empty(0, np.float32), 7)
    labels = partitioner(method, model, THRESHOLD).partition(edges, vectors)
    assert labels.tolist() == list(range(7))


def test_an_unknown_method_is_refused(model: PldaModel) -> None:
    with pytest.raises(InvalidArgumentError, match="plda"):
        partitioner("k-means", model, THRESHOLD)


def test_a_missing_library_is_named(model: PldaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(partition_module.importlib, "import_module", missing)
    vectors, _ = faces(5, 2)
    with pytest.raises(NotSupportedError, match=r"visagedb\[clustering\]"):
        partitioner("infomap", model, THRESHOLD).partition(build_graph(vectors), vectors)


def one_by_one(
    counts: NDArray[np.float32],
    sums: NDArray[np.float32],
    pairs: set[tuple[int, int]],
    linkage: PldaLinkage | AverageLinkage,
) -> list[int]:
    """The plain form: the best pair of all is merged, everything is scored anew, again."""
    clusters = {i: [i] for i in range(len(counts))}
    where = list(range(len(counts)))
    while True:
        linked = {tuple(sorted((where[a], where[b]))) for a, b in pairs if where[a] != where[b]}
        best, chosen = -np.inf, None
        for a, b in sorted(linked):
            one, other = (
                linkage.summarise(
                    np.float32([counts[clusters[c]].sum()]), sums[clusters[c]].sum(0)[None]
                )
                for c in (a, b)
            )
            score = float(linkage.score(one, other)[0])
            if score >= linkage.threshold and score > best:
                best, chosen = score, (a, b)
        if chosen is None:
            return where
        a, b = chosen
        clusters[a] += clusters.pop(b)
        where = [a if cluster == b else cluster for cluster in where]


@pytest.mark.parametrize("kind", ["plda", "average"])
@pytest.mark.parametrize("seed", range(5))
def test_rounds_merge_what_merging_one_by_one_does(kind: str, seed: int, model: PldaModel) -> None:
    vectors, _ = faces(12, 5, seed=seed, noise=0.9)
    edges = build_graph(vectors, floor=0.2)
    linkage = PldaLinkage(model, 3.0) if kind == "plda" else AverageLinkage(0.4)
    points = model.project(vectors) if kind == "plda" else vectors
    counts = np.ones(len(vectors), np.float32)
    found = agglomerate(counts, points, edges.left, edges.right, linkage)
    pairs = set(zip(edges.left.tolist(), edges.right.tolist(), strict=True))
    expected = one_by_one(counts, points, pairs, linkage)
    assert len(set(zip(found.tolist(), expected, strict=True))) == len(set(expected))
    assert len(set(found.tolist())) == len(set(expected))


def test_the_order_of_the_pairs_is_no_matter(model: PldaModel) -> None:
    vectors, _ = faces(50, 6)
    vectors[1::2] = vectors[::2]  # copies: equal scores
    edges = build_graph(vectors, floor=0.2)
    counts = np.ones(len(vectors), np.float32)
    points = model.project(vectors)
    linkage = PldaLinkage(model, 3.0)
    shuffled = np.random.default_rng(3).permutation(len(edges))
    one = agglomerate(counts, points, edges.left, edges.right, linkage)
    other = agglomerate(counts, points, edges.right[shuffled], edges.left[shuffled], linkage)
    assert np.array_equal(one, other)


def test_a_thousand_copies_are_one_cluster(model: PldaModel) -> None:
    vectors = np.repeat(faces(2, 1)[0], 500, axis=0)
    labels = partitioner("plda", model, 0.0).partition(build_graph(vectors, floor=0.5), vectors)
    # A list of ten neighbours among five hundred equal ones need not connect them all.
    assert np.all(labels[:500].max() < labels[500:].min())


def test_new_faces_join_their_person_or_found_one(model: PldaModel) -> None:
    vectors, people = faces(120, 6)
    newcomers = people >= 100
    later = newcomers | (np.arange(len(people)) % 5 == 0)
    base, new = vectors[~later], vectors[later]
    floor = 0.25
    labels = partitioner("plda", model, 0.0).partition(build_graph(base, floor=floor), base)
    found = assign(new, base, labels, model, floor=floor)
    everybody = np.concatenate([people[~later], people[later]])
    assert agree(np.concatenate([labels, found.labels]), everybody) > 0.95
    assert found.founded >= 20
    founders = found.labels[people[later] >= 100]
    assert founders.min() > labels.max()


def test_existing_clusters_do_not_come_together(model: PldaModel) -> None:
    vectors, people = faces(1, 9)
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1], np.int32)
    found = assign(vectors[8:], vectors[:8], labels, model, floor=0.0)
    assert found.labels[0] in (0, 1)
    assert found.founded == 0
    assert people[8] == 0


def test_nobody_to_join(model: PldaModel) -> None:
    vectors, _ = faces(3, 1)
    none = np.empty((0, vectors.shape[1]), np.float32)
    found = assign(vectors, none, np.empty(0, np.int32), model, floor=0.5)
    assert found.labels.tolist() == [0, 1, 2]
    assert assign(none, vectors, np.arange(3, dtype=np.int32), model, floor=0.5).founded == 0
