"""A second look at doubtful faces: upright, and as large as the detector likes them.

A detector's confidence is low for a face that is small, turned or half hidden, and for the
face of a dog. Brought into the position of a portrait by its own five points, a face with
right points gains confidence and something else does not.
"""

from collections.abc import Callable, Sequence
from typing import Final

from visagedb_indexer.faces.align import align
from visagedb_indexer.faces.cards import TEMPLATES, DetectorSettings
from visagedb_indexer.faces.decode import Pixels
from visagedb_indexer.faces.found import DetectedFace

SIDE: Final = 192
_MARGIN: Final = (SIDE - 112) / 2
_PORTRAIT: Final = tuple((x + _MARGIN, y + _MARGIN) for x, y in TEMPLATES["arcface-112"])


def confirmed(
    images: Sequence[Pixels],
    faces: Sequence[list[DetectedFace]],
    settings: DetectorSettings,
    best_scores: Callable[[Sequence[Pixels]], list[float]],
) -> list[list[DetectedFace]]:
    """Drops the doubtful faces that do not stand a second look.

    Args:
        images: Each of shape (height, width, 3), uint8, RGB.
        faces: Per image its faces.
        settings: Which faces are doubtful, and what they must reach.
        best_scores: Detects in pictures of `SIDE` pixels square; the highest confidence in each.

    Returns:
        Per image the faces that remain, in the same order.
    """
    doubtful = [
        (index, face)
        for index, found in enumerate(faces)
        for face in found
        if face.score < settings.certain_score
    ]
    if not doubtful:
        return list(faces)
    portraits = [align(images[i], face.landmarks, _PORTRAIT, SIDE, SIDE) for i, face in doubtful]
    scores = best_scores(portraits)
    dropped = {
        id(face)
        for (_, face), score in zip(doubtful, scores, strict=True)
        if score < settings.second_look_score
    }
    return [[face for face in found if id(face) not in dropped] for found in faces]
