"""From faces to identities: the best face of each."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.search.faces_table import LOOSE, NO_OWNER, FacesView
from visagedb_indexer.search.protocol import Hit, SearchRequest
from visagedb_indexer.values import FaceScope

NOTHING: Final = -np.inf
"""The score of what may not be returned."""
_SURPLUS: Final = 4
"""An identity has a few faces among the best: so many more are looked at first."""


def group(
    faces: FacesView,
    ordinals: NDArray[np.int64],
    scores: NDArray[np.float32],
    request: SearchRequest,
) -> list[Hit]:
    """The best face of each identity among some faces, best first, ties by age of the face."""
    most = _SURPLUS * request.top_k
    if len(scores) > most:
        edge = np.partition(scores, len(scores) - most)[len(scores) - most]
        # Everything level with the edge takes part, so that ties fall by age.
        best = np.flatnonzero(scores >= edge)
        hits = _first_of_each(faces, ordinals[best], scores[best], request)
        if len(hits) == request.top_k:
            return hits
    return _first_of_each(faces, ordinals, scores, request)


def _first_of_each(
    faces: FacesView,
    ordinals: NDArray[np.int64],
    scores: NDArray[np.float32],
    request: SearchRequest,
) -> list[Hit]:
    least = NOTHING if request.min_score is None else request.min_score
    order = np.lexsort((ordinals, -scores))
    ordinals, scores = ordinals[order], scores[order]
    hits: dict[int, Hit] = {}
    # Owners are read here, last of all: a face deleted in the meantime drops out.
    owners = faces.owners[ordinals].tolist()
    rows = zip(owners, ordinals.tolist(), scores.tolist(), strict=True)
    for number, ordinal, score in rows:
        if score == NOTHING or score < least:
            break
        key = ordinal if request.each_face else number
        if key not in hits and _in_scope(number, request.scope):
            hits[key] = Hit(number, ordinal, max(-1.0, min(1.0, score)))
            if len(hits) == request.top_k:
                break
    return list(hits.values())


def _in_scope(number: int, scope: FaceScope) -> bool:
    if scope is FaceScope.ALL:
        return number != NO_OWNER
    return number != NO_OWNER and (number == LOOSE) == (scope is FaceScope.LOOSE)
