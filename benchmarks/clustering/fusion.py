"""Identification of people with several faces: which score of an identity misses least.

Of each person with three or more faces all but one are enrolled; the last is a probe. People
with a single face are strangers. FNIR is read at the threshold that so few strangers pass.
The PLDA model is fitted on one half of the people, and the other half is judged.
"""

from typing import Final

import numpy as np
from galleries import Vectors
from numpy.typing import NDArray

from clustering.embeddings import Faces
from visagedb_indexer.clustering import PldaModel, fit

FALSE_POSITIVE_RATE: Final = 0.01
_ENROLLED_MAX: Final = 5
_FACES_MIN: Final = 3

Scores = NDArray[np.floating]


def measure(faces: Faces, seeds: int) -> dict[str, dict[str, float]]:
    """FNIR at FPIR 1% of every fusion: misses and probes pooled over halves and splits."""
    missed: dict[str, list[bool]] = {}
    for seed in range(seeds):
        one, other = faces.halves(seed)
        for taught, judged in ((one, other), (other, one)):
            model = fit(taught.vectors, taught.people)
            for name, misses in _misses(judged, model, np.random.default_rng(seed)).items():
                missed.setdefault(name, []).extend(misses.tolist())
    return {
        name: {
            "probes": len(misses),
            "missed": int(np.sum(misses)),
            "fnir_at_fpir_1%": float(np.mean(misses)),
        }
        for name, misses in missed.items()
    }


def _misses(
    faces: Faces, model: PldaModel, random: np.random.Generator
) -> dict[str, NDArray[np.bool_]]:
    people, counts = np.unique(faces.people, return_counts=True)
    enrolled, probes = [], []
    for person in people[counts >= _FACES_MIN]:
        rows = random.permutation(np.flatnonzero(faces.people == person))
        probes.append(rows[0])
        enrolled.append(rows[1 : 1 + _ENROLLED_MAX])
    strangers = np.flatnonzero(np.isin(faces.people, people[counts == 1]))
    rows = np.concatenate([probes, strangers])
    result = {}
    for name, scores in _fusions(faces.vectors, enrolled, rows, model).items():
        top = scores[len(probes) :].max(axis=1)
        threshold = np.quantile(top, 1 - FALSE_POSITIVE_RATE)
        mated = scores[: len(probes)]
        right = mated.argmax(axis=1) == np.arange(len(probes))
        result[name] = ~(right & (mated.max(axis=1) > threshold))
    return result


def _fusions(
    vectors: Vectors,
    enrolled: list[NDArray[np.integer]],
    probes: NDArray[np.integer],
    model: PldaModel,
) -> dict[str, Scores]:
    """Scores of probes against identities, shape (probes, identities), by fusion."""
    cosines = [vectors[probes] @ vectors[rows].T for rows in enrolled]
    means = np.stack([vectors[rows].mean(axis=0) for rows in enrolled])
    unit = means / np.linalg.norm(means, axis=1, keepdims=True)
    single = np.ones(len(probes), np.float32)
    projected = model.project(vectors[probes])
    sums = [model.project(vectors[rows]).sum(axis=0) for rows in enrolled]
    fused = [
        model.llr(single, projected, len(rows) * single, np.tile(total, (len(probes), 1)))
        for rows, total in zip(enrolled, sums, strict=True)
    ]
    return {
        "maximum": np.stack([c.max(axis=1) for c in cosines], axis=1),
        "mean of cosines": np.stack([c.mean(axis=1) for c in cosines], axis=1),
        "mean vector": vectors[probes] @ unit.T,
        "PLDA": np.stack(fused, axis=1),
    }
