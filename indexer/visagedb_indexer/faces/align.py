"""Brings a face into the position its embedder was trained on.

The similarity transform (turn, scale, shift) that brings five points closest to the template
in the least-squares sense, after Umeyama, "Least-Squares Estimation of Transformation
Parameters Between Two Point Patterns", IEEE TPAMI 1991; then a bilinear warp. The result is
that of OpenCV's ``FaceRecognizerSF.alignCrop``, except that faces much larger than the crop are
averaged down first, so that fine texture does not turn into noise.
"""

import math
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from visagedb_indexer.faces.cards import Template
from visagedb_indexer.faces.decode import Pixels
from visagedb_indexer.values import Landmarks

Points = NDArray[np.float64]
"""Shape (5, 2): x and y of the five points."""

_MARGIN: Final = 2


def landmark_points(landmarks: Landmarks) -> Points:
    """The five points in the order of the templates."""
    five = (
        landmarks.left_eye,
        landmarks.right_eye,
        landmarks.nose,
        landmarks.left_mouth,
        landmarks.right_mouth,
    )
    return np.array([(point.x, point.y) for point in five], dtype=np.float64)


def similarity_transform(source: Points, target: Points) -> NDArray[np.float64]:
    """The similarity that maps source points onto target points.

    Returns:
        Shape (2, 3): target = matrix @ (x, y, 1). Reflections are not considered.

    Raises:
        ValueError: The source points are all the same, or not finite.
    """
    if not np.isfinite(source).all():
        raise ValueError("points are not finite")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    from_source, from_target = source - source_mean, target - target_mean
    variance = float((from_source**2).sum()) / len(source)
    if variance < 1e-12:
        raise ValueError("points coincide")
    covariance = from_target.T @ from_source / len(source)
    u, singular, vt = np.linalg.svd(covariance)
    signs = np.array([1.0, 1.0 if np.linalg.det(u) * np.linalg.det(vt) >= 0 else -1.0])
    rotation = (u * signs) @ vt
    scale = float(singular @ signs) / variance
    linear = scale * rotation
    return np.column_stack([linear, target_mean - linear @ source_mean])


def align(
    pixels: Pixels, landmarks: Landmarks, template: Template, width: int = 112, height: int = 112
) -> Pixels:
    """Cuts the face out in the template's position.

    Args:
        pixels: The image, shape (height, width, 3).
        landmarks: The face's five points in it.
        template: Where the points belong in the crop.
        width: Of the crop.
        height: Of the crop.

    Returns:
        Shape (height, width, 3), uint8; black where the crop reaches past the image. Points
        that all coincide give a black crop.
    """
    target = np.array(template, dtype=np.float64)
    try:
        forward = similarity_transform(landmark_points(landmarks), target)
        backward = np.linalg.inv(np.vstack([forward, [0.0, 0.0, 1.0]]))[:2]
    except (ValueError, np.linalg.LinAlgError):
        return np.zeros((height, width, 3), dtype=np.uint8)
    return _warp(pixels, backward, width, height)


def _warp(pixels: Pixels, backward: NDArray[np.float64], width: int, height: int) -> Pixels:
    """Samples the image at backward @ (x, y, 1) for every pixel of the crop."""
    shrink = max(1, int(math.hypot(backward[0, 0], backward[1, 0])))
    corners = np.array(
        [[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]]
    )
    reached = corners @ backward.T
    region, left, top = _region(pixels, reached, margin=_MARGIN * shrink, shrink=shrink)
    if region is None:
        return np.zeros((height, width, 3), dtype=np.uint8)
    columns = torch.arange(width, dtype=torch.float32)
    rows = torch.arange(height, dtype=torch.float32)[:, None]
    # After averaging blocks of `shrink` pixels, block b is centred at b * shrink + middle.
    middle = (shrink - 1) / 2
    (a, b, c), (d, e, f) = backward
    x = (a * columns + b * rows + (c - left - middle)) / shrink
    y = (d * columns + e * rows + (f - top - middle)) / shrink
    grid = _normalised(x, y, region.shape[2], region.shape[1])
    crop = functional.grid_sample(
        region[None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=True
    )[0]
    result: NDArray[Any] = crop.round_().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return result


def _normalised(x: torch.Tensor, y: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Pixel positions as `grid_sample` wants them: -1 and 1 at the centres of the edges."""
    return torch.stack([x * (2 / max(width - 1, 1)) - 1, y * (2 / max(height - 1, 1)) - 1], dim=-1)


def _region(
    pixels: Pixels, reached: NDArray[np.float64], *, margin: int, shrink: int
) -> tuple[torch.Tensor | None, int, int]:
    """The part of the image that the crop reads, as float32 (3, height, width)."""
    height, width = pixels.shape[:2]
    left, top = np.floor(reached.min(axis=0)).astype(np.int64) - margin
    right, bottom = np.ceil(reached.max(axis=0)).astype(np.int64) + margin + 1
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if right - left < shrink or bottom - top < shrink:
        return None, 0, 0
    part = torch.from_numpy(np.ascontiguousarray(pixels[top:bottom, left:right]))
    region = part.permute(2, 0, 1).to(torch.float32)
    if shrink > 1:
        region = functional.avg_pool2d(region, shrink)
    if min(region.shape[1:]) < 2:
        region = functional.pad(region, (0, 1, 0, 1))
    return region, int(left), int(top)
