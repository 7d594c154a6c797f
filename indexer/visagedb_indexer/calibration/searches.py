"""Scores of faces against the identities of other people, as a search of the gallery gives them.

The best face of an identity counts, or all of its faces fused, whichever the gallery says.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer import limits
from visagedb_indexer.calibration.impostors import Impostors
from visagedb_indexer.calibration.sample import Comparison, Faces, Pause, VectorSource
from visagedb_indexer.calibration.tail import Floats
from visagedb_indexer.fusion import fused_scores
from visagedb_indexer.values import Fusion

_GAIN: Final = 1.2
"""How much higher a fused score may be than that of the best face: the mean of faces that
resemble each other as those of one person do is shorter than they are, and the cosine to it
higher by as much."""
_FACES_AT_ONCE: Final = 65_536


def fuses(references: Faces, fusion: Fusion) -> bool:
    """Whether more than the best face counts, for anybody."""
    return fusion is not Fusion.MAXIMUM and len(references) > len(np.unique(references.people))


def searches(
    found: Comparison,
    probes: Faces,
    references: Faces,
    level: float,
    source: VectorSource,
    fusion: Fusion,
    pause: Pause,
) -> tuple[Impostors, float]:
    """Faces against somebody else's identity.

    Args:
        found: Pairs of faces above a level.
        probes: What was compared.
        references: With what; all faces of their people.
        level: Above which the pairs are known.
        source: The stored vectors.
        fusion: How several faces make one score. All faces are taken for equally good.
        pause: Called between blocks of work.

    Returns:
        The scores, and the cosine above which none is missing.
    """
    people = references.people[found.references]
    order = np.lexsort((-found.scores, people, found.probes))
    probe, person = found.probes[order], people[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = (np.diff(probe) != 0) | (np.diff(person) != 0)
    best = order[first]
    scores = found.scores[best]
    if fuses(references, fusion):
        probe, person = found.probes[best], people[best]
        scores = _fused(probe, person, probes, references, source, fusion, pause)
        level = max(level, level * _GAIN)
        best, scores = best[scores > level], scores[scores > level]
    result = Impostors(
        scores=scores,
        first=probes.people[found.probes[best]],
        second=people[best],
        weights=probes.weights[found.probes[best]],
        total=found.weight,
        probes=found.probes[best],
    )
    return result, level


def _fused(
    probe: NDArray[np.int64],
    person: NDArray[np.int64],
    probes: Faces,
    references: Faces,
    source: VectorSource,
    fusion: Fusion,
    pause: Pause,
) -> Floats:
    """The fused score of each probe and person: shape (pairs,)."""
    by_person = np.argsort(references.people, kind="stable")
    counts = np.bincount(references.people)
    ends = np.cumsum(counts)
    # The newest faces count, as in a search.
    taken = np.minimum(counts, limits.FUSED_FACES_MAX)
    ordinals = references.ordinals[by_person]
    edges = np.cumsum(taken[person])
    scores = np.empty(len(person))
    start = 0
    while start < len(person):
        pause()
        before = edges[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(edges, before + _FACES_AT_ONCE)))
        here = person[start:stop]
        sizes = taken[here]
        starts = np.cumsum(sizes) - sizes
        places = np.arange(sizes.sum()) - np.repeat(starts, sizes)
        faces = ordinals[np.repeat(ends[here] - sizes, sizes) + places]
        with source.read() as view:
            vectors = view.vectors(faces)
            sought = view.vectors(probes.ordinals[probe[start:stop]])
        cosines = np.einsum("ij,ij->i", vectors, np.repeat(sought, sizes, axis=0))
        scores[start:stop] = fused_scores(cosines, vectors, starts, fusion)
        start = stop
    return scores
