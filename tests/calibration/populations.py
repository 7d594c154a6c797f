"""Made-up populations whose impostor scores are known."""

import contextlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from support import unit

from visagedb_indexer.calibration import Estimate, Faces, estimate
from visagedb_indexer.values import Vector


class InMemory:
    """Vectors in an array, as the calibration reads them."""

    def __init__(self, vectors: Vector) -> None:
        self._vectors = vectors

    @contextlib.contextmanager
    def read(self) -> Iterator["InMemory"]:
        yield self

    def vectors(self, ordinals: NDArray[np.int64]) -> Vector:
        return self._vectors[ordinals]


def isotropic(people: int, dimension: int, seed: int) -> Vector:
    """One face each of people spread evenly: the law of their cosines is known exactly."""
    return unit(np.random.default_rng(seed).standard_normal((people, dimension)))


def cosine_rate(score: float, dimension: int) -> float:
    """Probability that two random directions have at least this cosine."""
    half = (dimension - 1) / 2
    return float(stats.beta.sf((1 + score) / 2, half, half))


def cosine_at(rate: float, dimension: int) -> float:
    """Inverse of `cosine_rate`."""
    half = (dimension - 1) / 2
    return float(2 * stats.beta.isf(rate, half, half) - 1)


def calibrated(vectors: Vector, owners: NDArray[np.int64] | None = None, seed: int = 3) -> Estimate:
    people = np.arange(len(vectors)) if owners is None else owners
    return estimate(
        InMemory(vectors), Faces.of(np.arange(len(vectors)), people), seed, lambda: None
    )
