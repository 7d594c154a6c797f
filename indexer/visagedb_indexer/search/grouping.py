"""From faces to identities: the best face of each."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.search.faces_table import FacesView
from visagedb_indexer.search.protocol import Hit, SearchRequest

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
    """The best face of each identity among some faces, best first, ties by age of the face.

    Only of faces that the request allows, whatever they were chosen by.
    """
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
    # Owners are read here, last of all: a face that was deleted or has changed hands in the
    # meantime is judged by what it is now.
    owners = faces.owners[ordinals]
    passing = FacesView(owners).passing(request.allowed, request.scope)
    rows = zip(
        owners[passing].tolist(), ordinals[passing].tolist(), scores[passing].tolist(), strict=True
    )
    hits: dict[int, Hit] = {}
    for number, ordinal, score in rows:
        if score == NOTHING or score < least:
            break
        key = ordinal if request.each_face else number
        if key not in hits:
            hits[key] = Hit(number, ordinal, max(-1.0, min(1.0, score)))
            if len(hits) == request.top_k:
                break
    return list(hits.values())
