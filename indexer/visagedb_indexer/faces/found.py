"""What the detector finds."""

from dataclasses import dataclass

from visagedb_indexer.values import Box, Landmarks


@dataclass(frozen=True)
class DetectedFace:
    """A face in pixels of the image, with the detector's confidence."""

    box: Box
    landmarks: Landmarks
    score: float
