"""One score from several faces of an identity.

All of them are cosines of the probe, to the best face or to a template made of the faces, so
thresholds keep their meaning. `docs/decisions/0011-fusion-and-templates.md` has the
measurements behind the choice of the default.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.values import Fusion, Vector

BEST_COUNT: Final = 2
"""How many faces `Fusion.MEAN_OF_BEST` averages."""
ADAPTIVE_SHARPNESS: Final = 3.0
"""How much more a face counts that resembles the probe more; 0 would be the mean vector."""
QUALITY_UNKNOWN: Final = 0.5
"""Quality of a face that came as a vector."""
_LENGTH_MIN: Final = 1e-6
_SCORES_AT_ONCE: Final = 1 << 20
"""Cosines of many probes that are fused together: as much as stays near the processor."""


def fused_scores(
    scores: NDArray[np.float32],
    vectors: Vector,
    starts: NDArray[np.int64],
    fusion: Fusion,
    qualities: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """The score of each of some identities, all their faces considered.

    Args:
        scores: Cosines of the probe to the faces, identity after identity; shape (n,).
        vectors: The faces, unit length; shape (n, dimension).
        starts: Where each identity's faces begin, ascending from 0; shape (identities,). No
            identity is without a face.
        fusion: How.
        qualities: Of the faces, 0 to 1, for `Fusion.QUALITY_WEIGHTED`; shape (n,). NaN, and
            None for all of them, means unknown.

    Returns:
        Cosines, shape (identities,), float32.
    """
    if not len(starts):
        return np.empty(0, dtype=np.float32)
    if fusion is Fusion.MAXIMUM:
        fused = np.maximum.reduceat(scores, starts)
    elif fusion is Fusion.MEAN_OF_BEST:
        fused = _mean_of_best(scores, starts)
    else:
        fused = _weighted_mean(scores, vectors, starts, _weights(scores, fusion, qualities))
    clipped: NDArray[np.float32] = np.clip(fused, -1.0, 1.0).astype(np.float32, copy=False)
    return clipped


def fused_score_matrix(
    probes: Vector,
    vectors: Vector,
    starts: NDArray[np.int64],
    fusion: Fusion,
    qualities: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """What `fused_scores` gives, for many probes against the same identities.

    Args:
        probes: Shape (probes, dimension), unit length.
        vectors: As for `fused_scores`, and so is everything that follows.
        starts: Of each identity's faces.
        fusion: How.
        qualities: Of the faces.

    Returns:
        Cosines, shape (probes, identities), float32.
    """
    fused: NDArray[np.float32]
    if fusion in (Fusion.MEAN_VECTOR, Fusion.QUALITY_WEIGHTED):
        weights = _fixed_weights(len(vectors), fusion, qualities)
        sums = np.add.reduceat(weights[:, None] * vectors, starts, axis=0)
        lengths = np.maximum(np.linalg.norm(sums, axis=1), _LENGTH_MIN)
        fused = probes @ (sums / lengths[:, None]).T
    else:
        fused = np.empty((len(probes), len(starts)), dtype=np.float32)
        counts = np.diff(np.append(starts, len(vectors)))
        for count in np.unique(counts):
            alike = np.flatnonzero(counts == count)
            step = max(1, _SCORES_AT_ONCE // (int(count) * max(1, len(probes))))
            for begin in range(0, len(alike), step):
                identities = alike[begin : begin + step]
                faces = vectors[starts[identities][:, None] + np.arange(count)]
                fused[:, identities] = _fused_together(probes, faces, fusion).T
    clipped: NDArray[np.float32] = np.clip(fused, -1.0, 1.0, out=fused)
    return clipped


def _fused_together(probes: Vector, faces: Vector, fusion: Fusion) -> NDArray[np.float32]:
    """Fused scores of identities that have equally many faces.

    Args:
        probes: Shape (probes, dimension).
        faces: Shape (identities, faces of each, dimension).
        fusion: One that depends on the probe.

    Returns:
        Shape (identities, probes).
    """
    count = faces.shape[1]
    scores = (faces.reshape(-1, faces.shape[2]) @ probes.T).reshape(len(faces), count, len(probes))
    fused: NDArray[np.float32]
    if fusion is Fusion.MAXIMUM or count == 1:
        fused = scores.max(axis=1)
    elif fusion is Fusion.MEAN_OF_BEST:
        best = min(count, BEST_COUNT)
        fused = np.partition(scores, count - best, axis=1)[:, -best:].mean(axis=1)
    else:
        # The squared length of a weighted sum needs the cosines between its faces, no vectors.
        weights = _adaptive_weights(scores)
        squares = np.sum(weights * (faces @ faces.transpose(0, 2, 1) @ weights), axis=1)
        lengths = np.sqrt(np.maximum(squares, np.float32(_LENGTH_MIN**2)))
        fused = np.sum(weights * scores, axis=1) / lengths
    return fused


def _weights(
    scores: NDArray[np.float32], fusion: Fusion, qualities: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """How much each face counts; only ratios within an identity matter."""
    if fusion is Fusion.ADAPTIVE_MEAN:
        return _adaptive_weights(scores)
    return _fixed_weights(len(scores), fusion, qualities)


def _adaptive_weights(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    weights: NDArray[np.float32] = np.exp(np.float32(ADAPTIVE_SHARPNESS) * scores)
    return weights


def _fixed_weights(
    faces: int, fusion: Fusion, qualities: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Weights that are the same for every probe."""
    if fusion is Fusion.QUALITY_WEIGHTED and qualities is not None:
        known = np.nan_to_num(qualities, nan=QUALITY_UNKNOWN)
        return np.maximum(known, _LENGTH_MIN).astype(np.float32)
    return np.ones(faces, dtype=np.float32)


def _weighted_mean(
    scores: NDArray[np.float32],
    vectors: Vector,
    starts: NDArray[np.int64],
    weights: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Cosine to the mean of the faces, weighted.

    The mean's product with the probe is the mean of the products, so only its length is new.
    """
    sums = np.add.reduceat(weights[:, None] * vectors, starts, axis=0)
    lengths = np.maximum(np.linalg.norm(sums, axis=1), _LENGTH_MIN)
    result: NDArray[np.float32] = np.add.reduceat(weights * scores, starts) / lengths
    return result


def _mean_of_best(scores: NDArray[np.float32], starts: NDArray[np.int64]) -> NDArray[np.float32]:
    """Mean of the best two; of one face, its score."""
    counts = np.diff(np.append(starts, len(scores)))
    groups = np.repeat(np.arange(len(starts)), counts)
    order = np.lexsort((-scores, groups))
    place = np.arange(len(scores)) - np.repeat(starts, counts)
    best = np.where(place < BEST_COUNT, scores[order], np.float32(0))
    sums = np.add.reduceat(best, starts)
    result: NDArray[np.float32] = (sums / np.minimum(counts, BEST_COUNT)).astype(np.float32)
    return result
