"""Identities that are one person."""

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.gallery_audit.labelled import Check, LabelledFaces
from visagedb_indexer.gallery_audit.mislabelled import PRIOR, probability
from visagedb_indexer.gallery_audit.values import Finding
from visagedb_indexer.values import FindingKind, Vector


def find_duplicates(faces: LabelledFaces, kept: NDArray[np.bool_], check: Check) -> list[Finding]:
    """Pairs of identities whose faces are likelier of one person than of two.

    Args:
        faces: The faces.
        kept: Which of them count, shape (n,): without the mislabelled ones, of which each
            would make two identities look alike.
        check: Called now and then.
    """
    rows, others, scores = faces.foreign()
    counted = kept[rows] & kept[others] & (faces.owners[rows] < faces.owners[others])
    rows, others, scores = rows[counted], others[counted], scores[counted]
    order = np.lexsort((-scores, faces.owners[others], faces.owners[rows]))
    rows, others, scores = rows[order], others[order], scores[order]
    pairs = faces.owners[rows] * faces.identity_count + faces.owners[others]
    # Of the near faces of two identities the nearest come first.
    _, first, near = np.unique(pairs, return_index=True, return_counts=True)
    one, other = faces.owners[rows[first]], faces.owners[others[first]]
    templates = faces.sums(kept)
    evidence = faces.evidence(templates, templates, (one, other), check)
    prior = PRIOR / max(faces.identity_count, 1)
    means = _Means(faces, kept)
    return [
        Finding(
            kind=FindingKind.DUPLICATE_IDENTITIES,
            face=int(rows[first[place]]),
            other=int(others[first[place]]),
            evidence=float(evidence[place]),
            probability=probability(float(evidence[place]), prior),
            score=float(scores[first[place]]),
            template_score=float(means.of(int(one[place])) @ means.of(int(other[place]))),
            support=int(near[place]),
            compared=int(templates[0][one[place]] * templates[0][other[place]]),
        )
        for place in np.flatnonzero(evidence > 0)
    ]


class _Means:
    """Mean vectors of identities, of unit length."""

    def __init__(self, faces: LabelledFaces, kept: NDArray[np.bool_]) -> None:
        self._vectors = faces.vectors
        self._rows = np.flatnonzero(kept)
        self._rows = self._rows[np.argsort(faces.owners[self._rows], kind="stable")]
        self._owners = faces.owners[self._rows]

    def of(self, identity: int) -> Vector:
        start, end = np.searchsorted(self._owners, [identity, identity + 1])
        mean = self._vectors[self._rows[start:end]].mean(axis=0)
        unit: Vector = mean / max(float(np.linalg.norm(mean)), 1e-6)
        return unit
