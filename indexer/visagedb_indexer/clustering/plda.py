"""Probabilistic linear discriminant analysis: are two sets of faces of one person?

The two-covariance form (Ioffe 2006, "Probabilistic linear discriminant analysis"): a person
is a draw from a Gaussian of covariance `between`, a face adds a draw from `within`. In
coordinates where `within` is the identity and `between` is diagonal, the log-likelihood ratio
of "one person" against "two persons" needs only how many faces each set has and their sum.

Faces of one person are less independent than the model believes (the same camera, the same
day), so n faces count as n / (1 + (n - 1) h), with h their correlation.
"""

import io
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.clustering.agglomeration import Scores, Summaries
from visagedb_indexer.errors import InvalidModelCardError
from visagedb_indexer.values import Vector

CORRELATION_DEFAULT: Final = 0.45
_EVIDENCE_AT_ONE_FACE: Final = -3.6
PEOPLE_MIN: Final = 50
"""People with two or more faces from which a gallery's own model is better than another."""
_PRIOR_PER_DIMENSION: Final = 8
"""Weight of the spherical covariance that a fit starts from, in observations per dimension."""
_RIDGE: Final = 1e-3
_SETS_AT_ONCE: Final = 1 << 11


@dataclass(frozen=True, slots=True, eq=False)
class PldaModel:
    """How the faces of one embedding model spread, between persons and within one.

    Attributes:
        mean: Of the persons, shape (dimension,), float32.
        transform: To coordinates in which the covariance within a person is the identity and
            that between persons is diagonal, shape (dimension, dimension), float32.
        phi: Variances between persons in these coordinates, shape (dimension,), float32.
        correlation: Of the faces of one person, 0 (independent) to 1 (all the same).
    """

    mean: Vector
    transform: Vector
    phi: Vector
    correlation: float = CORRELATION_DEFAULT

    @property
    def dimension(self) -> int:
        """Length of the vectors it is for."""
        return len(self.mean)

    def project(self, vectors: Vector) -> Vector:
        """Vectors in the model's coordinates: shape (n, dimension) to the same shape."""
        projected: Vector = np.matmul(vectors - self.mean, self.transform, dtype=np.float32)
        return projected

    def effective(self, counts: Scores) -> Scores:
        """How many independent faces so many faces of one person are worth."""
        correlated = 1 + (counts - 1) * np.float32(self.correlation)
        worth: Scores = np.divide(counts, correlated, dtype=np.float32)
        return worth

    def llr(
        self, left_counts: Scores, left_sums: Vector, right_counts: Scores, right_sums: Vector
    ) -> Scores:
        """Log-likelihood ratios of "one person" against "two", in nats.

        Args:
            left_counts: Faces in the first set of each pair, shape (m,).
            left_sums: Sums of their projected vectors, shape (m, dimension).
            right_counts: Faces in the second, shape (m,).
            right_sums: Sums of their projected vectors, shape (m, dimension).
        """
        left = self.summarise(left_counts, left_sums)
        return self.score(left, self.summarise(right_counts, right_sums))

    def summarise(self, counts: Scores, sums: Vector) -> Summaries:
        """Sets of faces as `score` takes them: counts, and sums of projected vectors."""
        sizes = self.effective(counts)
        points: Vector = sums * (sizes / counts)[:, None]
        return Summaries(sizes, points, self._evidence(sizes, points))

    def score(self, left: Summaries, right: Summaries) -> Scores:
        """Log-likelihood ratios of pairs of sets: evidence together less evidence apart."""
        together = self._evidence(left.sizes + right.sizes, left.points + right.points)
        return together - left.own - right.own

    def fusion(self, probe: Vector, faces: Vector) -> float:
        """Log-likelihood ratio of a probe being the person of some faces, in nats.

        Args:
            probe: Unit vector, shape (dimension,).
            faces: Unit vectors of one identity, shape (n, dimension), n at least 1.
        """
        one = np.ones(1, np.float32)
        count = np.full(1, len(faces), np.float32)
        total = self.project(faces).sum(axis=0, keepdims=True)
        return float(self.llr(one, self.project(probe[None]), count, total)[0])

    def _evidence(self, sizes: Scores, points: Vector) -> Scores:
        """Log-likelihood of sets of faces, up to what cancels, shape (m,)."""
        evidence = np.empty(len(sizes), np.float32)
        for start in range(0, len(sizes), _SETS_AT_ONCE):
            piece = slice(start, start + _SETS_AT_ONCE)
            # Few different sizes occur, and the weights depend on nothing else.
            values, which = np.unique(sizes[piece], return_inverse=True)
            spread = 1 + values[:, None] * self.phi
            constants = np.log(spread).sum(axis=1)
            squares = np.square(points[piece])
            squares *= (self.phi / spread)[which]
            evidence[piece] = 0.5 * (squares.sum(axis=1) - constants[which])
        return evidence

    def to_bytes(self) -> bytes:
        """The model as an .npz file."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            mean=np.float32(self.mean),
            transform=np.float32(self.transform),
            phi=np.float32(self.phi),
            correlation=np.float64(self.correlation),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The model of an .npz file.

        Raises:
            InvalidModelCardError: These are not the bytes of such a model.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                mean, transform, phi = (arrays[name] for name in ("mean", "transform", "phi"))
                correlation = float(arrays["correlation"])
        except Exception as error:
            raise InvalidModelCardError(f"the bytes hold no PLDA model: {error}") from error
        shapes_fit = transform.shape == (len(mean), len(mean)) and phi.shape == mean.shape
        if not (shapes_fit and all(np.isfinite(array).all() for array in (mean, transform, phi))):
            raise InvalidModelCardError("the PLDA model's arrays do not fit each other")
        return cls(mean, transform, phi, correlation)


def least_evidence(faces: int) -> float:
    """Nats of evidence for one person below which two clusters of a gallery stay apart.

    The more faces there are, the less likely any two of them are of one person before they are
    seen: the odds fall with their number, so the evidence asked for rises with its logarithm.
    """
    return max(_EVIDENCE_AT_ONE_FACE + float(np.log(max(faces, 1))), 0.0)


def fit(
    vectors: Vector, people: NDArray[np.generic], correlation: float = CORRELATION_DEFAULT
) -> PldaModel:
    """Fits a model to the faces of labelled people.

    Few people do not show how a covariance of hundreds of dimensions looks, and one that
    believes their noise tells nobody apart: both are shrunk towards a multiple of the
    identity, the less the more was observed.

    Args:
        vectors: Unit vectors, shape (n, dimension).
        people: Whose they are, shape (n,); at least two people with two or more faces.
        correlation: Of the faces of one person.

    Raises:
        ValueError: Fewer than two people have two or more faces.
    """
    _, index, counts = np.unique(people, return_inverse=True, return_counts=True)
    if np.count_nonzero(counts > 1) < 2:
        raise ValueError("a PLDA model needs two people with two or more faces")
    sums = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(sums, index, vectors)
    means = sums / counts[:, None]
    differences = vectors - means[index]
    freedom = len(vectors) - len(counts)
    within = differences.T @ differences / freedom
    # The means of few faces spread further than the people do.
    between = np.cov(means.T) - within * np.mean(1 / counts)
    return from_covariances(
        means.mean(axis=0), _shrunk(between, len(counts)), _shrunk(within, freedom), correlation
    )


def _shrunk(covariance: NDArray[np.floating], observations: int) -> NDArray[np.floating]:
    dimension = len(covariance)
    prior = _PRIOR_PER_DIMENSION * dimension
    sphere = np.trace(covariance) / dimension * np.eye(dimension)
    shrunk: NDArray[np.floating] = observations * covariance + prior * sphere
    return shrunk / (observations + prior)


def from_covariances(
    mean: NDArray[np.floating],
    between: NDArray[np.floating],
    within: NDArray[np.floating],
    correlation: float = CORRELATION_DEFAULT,
) -> PldaModel:
    """The model of given covariances, each of shape (dimension, dimension)."""
    dimension = len(mean)
    ridge = _RIDGE * np.trace(within) / dimension
    values, axes = np.linalg.eigh(within + ridge * np.eye(dimension))
    whitening = axes / np.sqrt(np.maximum(values, ridge))
    phi, rotation = np.linalg.eigh(whitening.T @ between @ whitening)
    order = np.argsort(-phi)
    return PldaModel(
        mean.astype(np.float32),
        (whitening @ rotation[:, order]).astype(np.float32),
        np.maximum(phi[order], 0).astype(np.float32),
        correlation,
    )
