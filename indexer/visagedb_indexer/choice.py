"""Which faces of an image are meant."""

import math
from collections.abc import Sequence
from enum import StrEnum

from visagedb_indexer.values import Box


class Choice(StrEnum):
    """Which faces of an image are meant."""

    ALL = "all"
    ONLY = "only"
    LARGEST = "largest"
    CENTRAL = "central"


def chosen(boxes: Sequence[Box], width: int, height: int, choice: Choice) -> tuple[int, ...]:
    """Positions of the faces that are meant; none where ONLY meets several.

    Args:
        boxes: Of all faces, largest first.
        width: Of the image in pixels.
        height: Of the image in pixels.
        choice: Which are meant.
    """
    if choice is Choice.ALL:
        return tuple(range(len(boxes)))
    if not boxes or (choice is Choice.ONLY and len(boxes) > 1):
        return ()
    if choice is Choice.CENTRAL:
        return (min(range(len(boxes)), key=lambda i: _distance(boxes[i], width, height)),)
    return (0,)


def _distance(box: Box, width: int, height: int) -> float:
    """From the middle of a face to the middle of the image."""
    return math.hypot(box.x + (box.width - width) / 2, box.y + (box.height - height) / 2)
