"""Faces that are not of the person they are enrolled as."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.gallery_audit.labelled import Check, LabelledFaces
from visagedb_indexer.gallery_audit.values import Finding
from visagedb_indexer.values import FindingKind

PRIOR: Final = 0.01
"""Of the labels of a gallery, how many may be wrong."""
_REMOVED_MOST: Final = 100
"""Faces that one identity can lose; one with more is not a person with a few wrong faces."""


@dataclass(frozen=True, slots=True, eq=False)
class Elsewhere:
    """Of each face, the other identity that it resembles most.

    Attributes:
        evidence: That it is of that person, in nats; 0 where it is not even as likely as not.
            Shape (n,).
        face: Row of the most similar face there; -1 for none. Shape (n,).
        score: Cosine to it.
    """

    evidence: NDArray[np.float32]
    face: NDArray[np.int64]
    score: NDArray[np.float32]


def find_elsewhere(faces: LabelledFaces, check: Check) -> Elsewhere:
    """Compares every face with the identities of its near faces."""
    rows, others, scores = faces.foreign()
    order = np.lexsort((-scores, faces.owners[others], rows))
    rows, others, scores = rows[order], others[order], scores[order]
    # Of the faces of one identity the most similar comes first.
    first = np.ones(len(rows), bool)
    first[1:] = (np.diff(rows) != 0) | (np.diff(faces.owners[others]) != 0)
    rows, others, scores = rows[first], others[first], scores[first]
    alone = (np.ones(len(faces), np.int64), faces.projected)
    everybody = faces.sums(np.ones(len(faces), bool))
    evidence = faces.evidence(alone, everybody, (rows, faces.owners[others]), check)
    evidence = np.maximum(evidence, 0)
    order = np.lexsort((-scores, -evidence, rows))
    best = order[np.unique(rows[order], return_index=True)[1]]
    result = Elsewhere(
        np.zeros(len(faces), np.float32),
        np.full(len(faces), -1, np.int64),
        np.zeros(len(faces), np.float32),
    )
    result.evidence[rows[best]] = evidence[best]
    result.face[rows[best]] = others[best]
    result.score[rows[best]] = scores[best]
    return result


def find_mislabelled(faces: LabelledFaces, check: Check) -> list[Finding]:
    """Faces that are likelier of another person than of their identity's other faces."""
    counts, sums = faces.sums(np.ones(len(faces), bool))
    several = np.flatnonzero(counts[faces.owners] > 1)
    owners = faces.owners[several]
    alone = (np.ones(len(several), np.int64), faces.projected[several])
    rest = (counts[owners] - 1, sums[owners] - faces.projected[several])
    same = np.arange(len(several))
    suspects = several[faces.evidence(alone, rest, (same, same), check) < 0]
    if not len(suspects):
        return []
    elsewhere = find_elsewhere(faces, check)
    found: list[Finding] = []
    by_owner = np.argsort(faces.owners, kind="stable")
    ends = np.cumsum(counts)
    for identity in np.unique(faces.owners[suspects]):
        check()
        members = by_owner[ends[identity] - counts[identity] : ends[identity]]
        found.extend(_odd_ones(faces, members, elsewhere))
    return found


def _odd_ones(
    faces: LabelledFaces, members: NDArray[np.int64], elsewhere: Elsewhere
) -> Iterator[Finding]:
    """Takes the oddest face of an identity away until the others agree.

    Of two faces that disagree neither is odder; the one that resembles somebody else is taken.
    """
    for _ in range(min(_REMOVED_MOST, len(members) - 1)):
        projected = faces.projected[members]
        count = np.full(len(members), len(members) - 1, np.float32)
        rest = projected.sum(axis=0) - projected
        own = faces.model.llr(np.ones_like(count), projected, count, rest)
        against = np.where(own < 0, elsewhere.evidence[members] - own, -np.inf)
        # Between equals the newer face is the odd one: later faces join a person that is there.
        place = len(members) - 1 - int(np.argmax(against[::-1]))
        if own[place] >= 0:
            return
        odd = int(members[place])
        members = np.delete(members, place)
        # The best of many identities resembles a face by chance, the more there are.
        found_there = max(0.0, elsewhere.evidence[odd] - np.log(faces.identity_count))
        yield _finding(faces, odd, members, float(found_there - own[place]), elsewhere)


def _finding(
    faces: LabelledFaces,
    odd: int,
    others: NDArray[np.int64],
    evidence: float,
    elsewhere: Elsewhere,
) -> Finding:
    scores = faces.vectors[others] @ faces.vectors[odd]
    mean = faces.vectors[others].mean(axis=0)
    return Finding(
        kind=FindingKind.MISLABELLED_FACE,
        face=odd,
        other=int(elsewhere.face[odd]),
        evidence=evidence,
        probability=probability(evidence, PRIOR),
        score=float(elsewhere.score[odd]),
        template_score=float(mean @ faces.vectors[odd] / max(float(np.linalg.norm(mean)), 1e-6)),
        support=int(np.count_nonzero(scores < faces.floor)),
        compared=len(others),
    )


def probability(evidence: float, prior: float) -> float:
    """What evidence in nats makes of a prior probability."""
    logit = evidence + np.log(prior / (1 - prior))
    return float(1 / (1 + np.exp(-np.clip(logit, -50, 50))))
