"""The PLDA score and where its model comes from."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import multivariate_normal
from synthetic_people import faces

from visagedb_indexer.clustering import (
    PldaModel,
    build_graph,
    fit,
    for_gallery,
    partitioner,
    shipped_model,
)
from visagedb_indexer.clustering.plda import from_covariances
from visagedb_indexer.errors import InvalidModelCardError


def covariances(dimension: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(4)
    between, within = random.standard_normal((2, dimension, 3 * dimension))
    return between @ between.T / dimension, within @ within.T / (4 * dimension)


@pytest.mark.parametrize(("one", "other"), [(1, 1), (1, 4), (3, 2)])
def test_the_score_is_the_likelihood_ratio_of_the_gaussians(one: int, other: int) -> None:
    dimension = 4
    between, within = covariances(dimension)
    mean = np.arange(dimension) / 10
    model = from_covariances(mean, between, within, correlation=0.0)
    vectors = np.random.default_rng(5).standard_normal((one + other, dimension))

    def likelihood(rows: NDArray[np.float64]) -> float:
        count = len(rows)
        joint = np.kron(np.ones((count, count)), between) + np.kron(np.eye(count), within)
        return float(multivariate_normal.logpdf(rows.ravel(), np.tile(mean, count), joint))

    expected = likelihood(vectors) - likelihood(vectors[:one]) - likelihood(vectors[one:])
    projected = model.project(vectors.astype(np.float32))
    score = model.llr(
        np.float32([one]),
        projected[:one].sum(axis=0, keepdims=True),
        np.float32([other]),
        projected[one:].sum(axis=0, keepdims=True),
    )
    assert score[0] == pytest.approx(expected, rel=0.01, abs=0.05)


def test_faces_of_one_person_are_worth_less_than_their_number() -> None:
    model = fit(*faces(50, 4))
    worth = model.effective(np.float32([1, 2, 10, 1000]))
    assert worth[0] == 1
    assert np.all(np.diff(worth) > 0)
    assert worth[-1] < 1 / model.correlation


def test_a_probe_scores_highest_with_its_own_person() -> None:
    vectors, people = faces(60, 6)
    model = fit(*faces(300, 4, seed=7))
    for person in range(20):
        probe = int(np.flatnonzero(people == person)[0])
        rest = np.arange(len(people)) != probe
        scores = [model.fusion(vectors[probe], vectors[rest & (people == p)]) for p in range(60)]
        assert int(np.argmax(scores)) == person
        assert scores[person] > 0


def test_a_model_survives_its_bytes() -> None:
    model = fit(*faces(50, 4))
    again = PldaModel.from_bytes(model.to_bytes())
    assert np.array_equal(again.mean, model.mean)
    assert np.array_equal(again.transform, model.transform)
    assert np.array_equal(again.phi, model.phi)
    assert again.correlation == model.correlation


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04 half"])
def test_other_bytes_are_refused(content: bytes) -> None:
    with pytest.raises(InvalidModelCardError):
        PldaModel.from_bytes(content)


def test_a_fit_needs_two_people_with_two_faces() -> None:
    vectors, _ = faces(5, 1)
    with pytest.raises(ValueError, match="two people"):
        fit(vectors, np.array([0, 0, 1, 2, 3]))


def test_a_gallery_has_its_own_model_when_it_has_the_people() -> None:
    vectors, people = faces(300, 3)
    other = fit(*faces(300, 3, seed=5))
    own = for_gallery(vectors, people, shipped=other)
    assert np.array_equal(own.phi, fit(vectors, people).phi)
    assert for_gallery(vectors, np.full(len(vectors), -1), shipped=other) is other
    assert for_gallery(vectors, None, shipped=other) is other


def test_without_labels_the_persons_are_found_all_the_same() -> None:
    vectors, people = faces(500, 5)
    edges = build_graph(vectors)
    model = for_gallery(vectors, edges=edges)
    labels = partitioner("plda", model, 0.0).partition(edges, vectors)
    assert len(set(zip(labels.tolist(), people.tolist(), strict=True))) < 1.02 * 500
    assert labels.max() + 1 < 1.02 * 500
    assert for_gallery(vectors).dimension == vectors.shape[1]


def test_a_shipped_model_of_another_dimension_is_not_used() -> None:
    vectors, _ = faces(20, 2, dimension=32)
    assert for_gallery(vectors, shipped=fit(*faces(50, 4))).dimension == 32


def test_the_default_embedder_has_a_model() -> None:
    pytest.importorskip("onnx", reason="the faces extra is not installed")
    from visagedb_indexer.faces.registry import ModelRegistry

    embedder = ModelRegistry([]).get("sface").identity()
    model = shipped_model(embedder.name, embedder.version)
    assert model is not None
    assert model.dimension == embedder.dimension
    assert shipped_model(embedder.name, "another") is None
    assert shipped_model("../sface", embedder.version) is None
