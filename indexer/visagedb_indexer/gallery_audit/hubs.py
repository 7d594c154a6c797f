"""Faces that match too many others: bad crops, blurred faces, and people whom the model confuses.

Such a face draws strangers to its identity. In the literature of biometrics people who match
many others are wolves and lambs (Doddington et al. 1998, "Sheep, goats, lambs and wolves"),
points that are everybody's neighbour are hubs (Radovanović et al. 2010, "Hubs in space").
"""

from typing import Final

import numpy as np

from visagedb_indexer.gallery_audit.labelled import LabelledFaces
from visagedb_indexer.gallery_audit.values import Finding
from visagedb_indexer.values import FindingKind

_TIMES_MIN: Final = 5.0
"""So many times the average number of identities."""
_IDENTITIES_MIN: Final = 10


def find_hubs(faces: LabelledFaces) -> list[Finding]:
    """Faces that are near to many more identities than faces are on average."""
    rows, others, scores = faces.foreign()
    met = np.unique(rows * faces.identity_count + faces.owners[others])
    counts = np.bincount(met // max(faces.identity_count, 1), minlength=len(faces))
    average = max(float(counts.mean()), 1e-9) if len(faces) else 1.0
    hubs = np.flatnonzero(counts >= max(_IDENTITIES_MIN, _TIMES_MIN * average))
    order = np.lexsort((-scores, rows))
    first = order[np.searchsorted(rows[order], hubs)]
    return [
        Finding(
            kind=FindingKind.HUB_FACE,
            face=int(hub),
            other=int(others[best]),
            evidence=float(np.log(counts[hub] / average)),
            probability=0.0,
            score=float(scores[best]),
            template_score=0.0,
            support=int(counts[hub]),
            compared=faces.identity_count - 1,
        )
        for hub, best in zip(hubs, first, strict=True)
    ]
