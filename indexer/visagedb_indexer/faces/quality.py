"""How fit a face is for recognition, from measures that cost next to nothing.

Each factor runs from 0 to 1, linear between two anchors. The anchors were chosen on LFW's
development-test people, whole and blurred, shrunk or darkened: an ordinary press photograph
has all factors near 1, and a factor reaches 0 where the embedder no longer recognises the
person. The score is the product of the factors' square roots, so that one bad factor is not
made good by the others, while several small flaws do not condemn a face.
"""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from visagedb_indexer.faces.align import landmark_points
from visagedb_indexer.faces.decode import Pixels
from visagedb_indexer.values import Landmarks, Quality

_LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)

_EYE_DISTANCE: Final = (4.0, 24.0)
"""Pixels between the eyes in the photograph."""
_DETAIL: Final = (0.5, 2.5)
"""Root mean square of the Laplacian over the contrast, in tenths, in the aligned crop."""
_TURN: Final = (55.0, 15.0)
"""Degrees of yaw or pitch."""
_DARK: Final = (8.0, 45.0)
_BRIGHT: Final = (250.0, 215.0)
"""Mean luma of the face's middle."""
_CONTRAST: Final = (4.0, 18.0)
"""Standard deviation of the luma there."""
_DETECTION: Final = (0.5, 0.8)
_POOR: Final = 0.5
"""A factor below this is given as a reason."""


def assess(crop: Pixels, landmarks: Landmarks, detection_score: float) -> Quality:
    """Judges one face.

    Args:
        crop: The aligned face, shape (height, width, 3), uint8, RGB.
        landmarks: Its points in the photograph.
        detection_score: The detector's confidence.

    Returns:
        The factors and their combination, each 0 to 1.
    """
    luma = _middle(crop).astype(np.float32) @ _LUMA
    yaw, pitch, _ = head_pose(landmarks)
    mean, contrast = float(luma.mean()), float(luma.std())
    size = _between(eye_distance(landmarks), *_EYE_DISTANCE)
    sharpness = _between(detail(luma), *_DETAIL)
    pose = _between(math.hypot(yaw, pitch), *_TURN)
    dark, bright = _between(mean, *_DARK), _between(mean, *_BRIGHT)
    flat = _between(contrast, *_CONTRAST)
    exposure = min(dark, bright, flat)
    detection = _between(detection_score, *_DETECTION)
    factors = {
        "TOO_SMALL": size,
        "BLURRED": sharpness,
        "TURNED_AWAY": pose,
        "TOO_DARK": dark,
        "TOO_BRIGHT": bright,
        "LOW_CONTRAST": flat,
        "LOW_DETECTION_SCORE": detection,
    }
    return Quality(
        score=math.sqrt(size * sharpness * pose * exposure * detection),
        size=size,
        sharpness=sharpness,
        pose=pose,
        exposure=exposure,
        detection=detection_score,
        reasons=tuple(word for word, factor in factors.items() if factor < _POOR),
    )


def eye_distance(landmarks: Landmarks) -> float:
    """Pixels between the eyes, or what they would be if the face looked into the camera."""
    points = landmark_points(landmarks)
    eyes = float(np.linalg.norm(points[1] - points[0]))
    # A turned head brings the eyes together but leaves the distance to the mouth.
    down = float(np.linalg.norm(points[3:].mean(axis=0) - points[:2].mean(axis=0)))
    return max(eyes, 0.85 * down)


def head_pose(landmarks: Landmarks) -> tuple[float, float, float]:
    """Rough yaw, pitch and roll in degrees, from five points of a rigid average face.

    Yaw is positive when the nose points to the image's right, pitch when it points up, roll
    when the head leans to the image's right.
    """
    points = landmark_points(landmarks)
    eyes, mouth = points[:2].mean(axis=0), points[3:].mean(axis=0)
    across = points[1] - points[0]
    roll = math.degrees(math.atan2(float(across[1]), float(across[0])))
    down = mouth - eyes
    height = float(np.linalg.norm(down))
    if height < 1e-6:
        return 90.0, 90.0, roll
    downward = down / height
    rightward = np.array([downward[1], -downward[0]])
    nose = points[2] - eyes
    # The nose's tip stands out of the plane of eyes and mouth by about 0.55 of their distance,
    # and lies a little above the middle between them.
    aside = float(nose @ rightward) / height / 0.55
    below = (0.57 - float(nose @ downward) / height) / 0.55
    return _degrees(aside), _degrees(below), roll


def detail(luma: NDArray[np.float32]) -> float:
    """Strength of fine detail relative to contrast, in tenths."""
    middle = luma[1:-1, 1:-1]
    laplacian = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * middle
    contrast = max(float(luma.std()), 1.0)
    return 10.0 * float(np.sqrt(np.mean(laplacian**2))) / contrast


def _middle(crop: Pixels) -> Pixels:
    """The part from brows to mouth, without background and hair."""
    height, width = crop.shape[:2]
    return crop[height * 3 // 10 : height * 9 // 10, width * 2 // 10 : width * 8 // 10]


def _degrees(sine: float) -> float:
    return math.degrees(math.asin(min(1.0, max(-1.0, sine))))


def _between(value: float, worst: float, best: float) -> float:
    """0 at worst, 1 at best, linear between, and clipped."""
    share: Any = (value - worst) / (best - worst)
    return float(min(1.0, max(0.0, share)))
