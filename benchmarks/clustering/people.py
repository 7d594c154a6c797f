"""Synthetic people with a realistic number of faces each.

Persons are draws from the between-person covariance of an embedder and faces from the
within-person one, as in `galleries`, but with the covariances' own axes when real embeddings
are given: then the strangers fill the same directions as the real faces among them. The number
of faces per person follows a power law, as photo archives do: most people appear once, a few
hundreds of times.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from galleries import Spectrum, Vectors
from numpy.typing import NDArray

FACES_PER_PERSON_MAX: Final = 1000
_EXPONENT: Final = 2.0
_BLOCK_ROWS: Final = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class Spread:
    """Square roots of the covariances between persons and within one, shape (d, d)."""

    between: Vectors
    within: Vectors

    @classmethod
    def measured(cls, vectors: Vectors, people: NDArray[np.generic]) -> "Spread":
        """Of real faces."""
        _, index, counts = np.unique(people, return_inverse=True, return_counts=True)
        sums = np.zeros((len(counts), vectors.shape[1]))
        np.add.at(sums, index, vectors)
        means = sums / counts[:, None]
        differences = vectors - means[index]
        within = differences.T @ differences / (len(vectors) - len(counts))
        between = np.cov(means.T) - within * np.mean(1 / counts)
        return cls(_root(between), _root(within))

    @classmethod
    def of_spectrum(cls, spectrum: Spectrum) -> "Spread":
        """Of a spectrum alone."""
        return cls(
            np.diag(np.sqrt(spectrum.between)).astype(np.float32),
            np.diag(np.sqrt(spectrum.within)).astype(np.float32),
        )


def faces_per_person(faces: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Numbers of faces of as many people as it takes, by the power law."""
    sizes = np.arange(1, FACES_PER_PERSON_MAX + 1)
    shares = sizes**-_EXPONENT
    drawn = random.choice(sizes, size=faces, p=shares / shares.sum())
    ends = np.cumsum(drawn)
    people = int(np.searchsorted(ends, faces)) + 1
    drawn = drawn[:people]
    drawn[-1] -= ends[people - 1] - faces
    return drawn


def synthetic_people(
    spread: Spread, faces: int, seed: int, *, one_face_each: bool = False
) -> tuple[Vectors, NDArray[np.int32]]:
    """Faces in random order, shape (faces, d), and whose they are, shape (faces,)."""
    random = np.random.default_rng(seed)
    sizes = np.ones(faces, np.int64) if one_face_each else faces_per_person(faces, random)
    people = random.permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(np.int32)
    dimension = len(spread.between)
    persons = random.standard_normal((len(sizes), dimension), np.float32) @ spread.between.T
    vectors = np.empty((faces, dimension), np.float32)
    for start in range(0, faces, _BLOCK_ROWS):
        rows = persons[people[start : start + _BLOCK_ROWS]]
        rows += random.standard_normal(rows.shape, np.float32) @ spread.within.T
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        vectors[start : start + len(rows)] = rows / norms
    return vectors, people


def _root(covariance: NDArray[np.float64]) -> Vectors:
    values, axes = np.linalg.eigh(covariance)
    root: Vectors = (axes * np.sqrt(np.maximum(values, 0))).astype(np.float32)
    return root
