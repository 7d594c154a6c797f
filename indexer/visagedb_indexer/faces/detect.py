"""Finds faces and their five points with YuNet.

Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", Machine Intelligence Research
2023. The decoding of its outputs follows OpenCV's ``FaceDetectorYN``. The network sees faces of
about 10 to 300 pixels; larger ones are found in copies of the image scaled down by halves, and
faces that fill their image in a copy with a margin around it. Doubtful ones get a second look.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from visagedb_indexer import limits
from visagedb_indexer.errors import InvalidModelCardError
from visagedb_indexer.faces.cards import ModelCard
from visagedb_indexer.faces.decode import Pixels
from visagedb_indexer.faces.found import DetectedFace
from visagedb_indexer.faces.networks import YUNET_OUTPUTS, YUNET_STRIDES, load_network
from visagedb_indexer.faces.second_look import confirmed
from visagedb_indexer.values import Box, Landmarks, Point

Rows = NDArray[np.float32]
"""Candidates, shape (n, 15): x, y, width, height, ten landmark coordinates, score."""

_ALIGNMENT: Final = YUNET_STRIDES[-1]
_CANDIDATES_MAX: Final = 5000
_LEVEL_SIDE_MIN: Final = 320
"""Copies are made until the longer side is at most this: then any face has a findable size."""
_FACE_SIDE_LARGE: Final = 300.0
"""A box longer than this is left to the next smaller copy, where there is one."""
_FACE_SIDE_SMALL: Final = 40.0
"""In a smaller copy, boxes shorter than this were better seen in the larger one."""
_NESTED_SHARE: Final = 0.7
_BATCH_PIXELS: Final = 8 * 256 * 256


@dataclass(frozen=True)
class _Level:
    """One copy of one image: how to come back from its pixels to the image's."""

    image: int
    depth: int
    deepest: bool
    scale_x: float
    scale_y: float
    margin: int
    pixels: Tensor


class Detector:
    """The face detector, loaded.

    Args:
        card: Of kind ``detector``.
        precision: ``float32`` or ``bfloat16``; boxes and points are worth the float32.
        device: A torch device.

    Raises:
        ModelError: The card's files or network are refused.
        ModelNotAvailableError: The device or precision is not there.
    """

    def __init__(self, card: ModelCard, precision: str = "float32", device: str = "cpu") -> None:
        if card.detector is None:
            raise InvalidModelCardError(f"{card.name!r} is not a detector")
        self.card = card
        self._settings = card.detector
        self._device = torch.device(device)
        self._dtype: torch.dtype = getattr(torch, precision)
        self._network = load_network(card, precision, device)

    def detect(self, images: Sequence[Pixels]) -> list[list[DetectedFace]]:
        """Finds the faces of every image.

        Args:
            images: Each of shape (height, width, 3), uint8, RGB, of any size.

        Returns:
            Per image its faces, largest box first.
        """
        levels = [level for index, pixels in enumerate(images) for level in _pyramid(index, pixels)]
        rows = self._run(levels, len(images))
        missed = [index for index, found in enumerate(rows) if not len(found)]
        if missed:
            again = self._run([_framed(index, images[index]) for index in missed], len(images))
            for index in missed:
                rows[index] = again[index]
        faces = [_faces(found) for found in rows]
        return confirmed(images, faces, self._settings, self._best_scores)

    def _best_scores(self, portraits: Sequence[Pixels]) -> list[float]:
        levels = [
            _Level(index, 0, True, 1.0, 1.0, 0, torch.from_numpy(pixels))
            for index, pixels in enumerate(portraits)
        ]
        found = self._run(levels, len(portraits))
        return [float(rows[:, 14].max(initial=0.0)) for rows in found]

    def _run(self, levels: Sequence[_Level], count: int) -> list[Rows]:
        """Per image the surviving candidates of all its levels."""
        groups: defaultdict[tuple[int, int], list[_Level]] = defaultdict(list)
        for level in levels:
            height, width = level.pixels.shape[:2]
            groups[_rounded(height), _rounded(width)].append(level)
        found: list[list[tuple[int, Rows]]] = [[] for _ in range(count)]
        for (height, width), group in groups.items():
            size = max(1, _BATCH_PIXELS // (height * width))
            for start in range(0, len(group), size):
                part = group[start : start + size]
                for level, rows in zip(part, self._candidates(part, height, width), strict=True):
                    found[level.image].append((level.depth, _kept(level, rows)))
        return [_merged(parts, self._settings.overlap_max) for parts in found]

    def _candidates(self, levels: Sequence[_Level], height: int, width: int) -> list[Rows]:
        batch = torch.zeros((len(levels), height, width, 3), dtype=torch.uint8)
        for slot, level in zip(batch, levels, strict=True):
            rows, columns = level.pixels.shape[:2]
            slot[:rows, :columns] = level.pixels
        with torch.inference_mode():
            pixels = batch.to(self._device).permute(0, 3, 1, 2).to(self._dtype)
            if self.card.input.channels == "BGR":
                pixels = pixels.flip(1).contiguous(memory_format=torch.channels_last)
            values = self._network(pixels)
            outputs = dict(zip(self._network.output_names, values, strict=True))
            return self._decode(outputs, len(levels), height, width)

    def _decode(
        self, outputs: dict[str, Tensor], count: int, height: int, width: int
    ) -> list[Rows]:
        """Candidates above the score threshold, in pixels of the padded batch."""
        parts: list[list[Rows]] = [[] for _ in range(count)]
        for stride in YUNET_STRIDES:
            cls, obj, bbox, kps = (
                outputs[f"{name}_{stride}"].to("cpu", torch.float32).numpy()
                for name in YUNET_OUTPUTS
            )
            scores = np.sqrt(np.clip(cls[..., 0], 0, 1) * np.clip(obj[..., 0], 0, 1))
            for index in range(count):
                (at,) = np.nonzero(scores[index] >= self._settings.score_threshold)
                if len(at):
                    cells = np.stack([at % (width // stride), at // (width // stride)], axis=1)
                    rows = _decode_cells(bbox[index, at], kps[index, at], cells, stride)
                    rows[:, 14] = scores[index, at]
                    parts[index].append(rows)
        return [np.concatenate(rows) if rows else _no_rows() for rows in parts]


def _decode_cells(bbox: Rows, kps: Rows, cells: NDArray[np.int64], stride: int) -> Rows:
    """Offsets relative to grid cells become pixels; the score's column is left empty."""
    rows = np.empty((len(cells), 15), dtype=np.float32)
    centres = (cells + bbox[:, :2]) * stride
    sizes = np.exp(np.minimum(bbox[:, 2:4], 20.0)) * stride
    rows[:, 0:2] = centres - sizes / 2
    rows[:, 2:4] = sizes
    rows[:, 4:14] = (kps + np.tile(cells, 5)) * stride
    return rows[np.isfinite(rows[:, :14]).all(axis=1)] if not np.isfinite(kps).all() else rows


def _no_rows() -> Rows:
    return np.empty((0, 15), dtype=np.float32)


def _rounded(side: int) -> int:
    return -(-side // _ALIGNMENT) * _ALIGNMENT


def _scaled(pixels: Tensor, height: int, width: int) -> Tensor:
    """The image (height, width, 3) in another size, smoothed where it shrinks."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = pixels.permute(2, 0, 1)[None]
    small = functional.interpolate(image, (height, width), mode="bilinear", antialias=True)
    return small[0].permute(1, 2, 0)


def _pyramid(index: int, pixels: Pixels) -> list[_Level]:
    """The image, brought within the detector's limit, and its halves."""
    original = torch.from_numpy(pixels)
    height, width = pixels.shape[:2]
    longer = max(height, width)
    sides = [min(longer, limits.DETECTION_SIDE_PIXELS_MAX)]
    while sides[-1] > _LEVEL_SIDE_MIN:
        sides.append(max(sides[-1] // 2, 1))
    levels = []
    current = original
    for depth, side in enumerate(sides):
        rows, columns = (max(1, round(edge * side / longer)) for edge in (height, width))
        current = _scaled(current, rows, columns)
        scales = columns / width, rows / height
        levels.append(_Level(index, depth, depth == len(sides) - 1, *scales, 0, current))
    return levels


def _framed(index: int, pixels: Pixels) -> _Level:
    """The image, small and with a margin, for a face that leaves none."""
    height, width = pixels.shape[:2]
    factor = min(1.0, _LEVEL_SIDE_MIN / max(height, width))
    rows, columns = max(1, round(height * factor)), max(1, round(width * factor))
    small = _scaled(torch.from_numpy(pixels), rows, columns)
    margin = max(rows, columns) // 2
    framed = functional.pad(small, (0, 0, margin, margin, margin, margin))
    return _Level(index, 0, True, columns / width, rows / height, margin, framed)


def _kept(level: _Level, rows: Rows) -> Rows:
    """Drops what another level sees better; the rest in pixels of the image."""
    longer = rows[:, 2:4].max(axis=1, initial=0.0)
    keep = np.ones(len(rows), dtype=bool)
    if not level.deepest:
        keep &= longer <= _FACE_SIDE_LARGE
    if level.depth:
        keep &= longer >= _FACE_SIDE_SMALL
    rows = rows[keep]
    scale = np.array([level.scale_x, level.scale_y], dtype=np.float32)
    rows[:, 0:2] -= level.margin
    rows[:, 4:14] -= level.margin
    rows[:, 0:14] /= np.tile(scale, 7)
    return rows


def _merged(parts: Sequence[tuple[int, Rows]], overlap_max: float) -> Rows:
    """The candidates of all levels without duplicates, strongest first."""
    if not parts:
        return _no_rows()
    rows = np.concatenate([rows for _, rows in parts])
    depths = np.concatenate([np.full(len(rows), depth) for depth, rows in parts])
    order = np.argsort(-rows[:, 14], kind="stable")[:_CANDIDATES_MAX]
    rows, depths = rows[order], depths[order]
    keep = []
    alive = rows[:, 2:4].max(axis=1, initial=0.0) >= limits.FACE_SIDE_PIXELS_MIN
    for index in range(len(rows)):
        if not alive[index]:
            continue
        keep.append(index)
        overlap, nested = _overlaps(rows[index], rows)
        # Of a face that is too large for one level, that level may see just a part.
        alive &= (overlap <= overlap_max) & ((nested < _NESTED_SHARE) | (depths == depths[index]))
        if len(keep) >= limits.FACES_PER_IMAGE_MAX:
            break
    return rows[keep]


def _overlaps(box: Rows, boxes: Rows) -> tuple[Rows, Rows]:
    """Intersection over union, and intersection over the smaller area, with every box."""
    corner = np.maximum(box[:2], boxes[:, :2])
    opposite = np.minimum(box[:2] + box[2:4], boxes[:, :2] + boxes[:, 2:4])
    shared = np.prod(np.maximum(opposite - corner, 0.0), axis=1)
    area, areas = box[2] * box[3], boxes[:, 2] * boxes[:, 3]
    smaller = np.maximum(np.minimum(area, areas), 1e-9)
    return shared / np.maximum(area + areas - shared, 1e-9), shared / smaller


def _faces(rows: Rows) -> list[DetectedFace]:
    order = np.argsort(-rows[:, 2] * rows[:, 3], kind="stable")
    return [_face([float(value) for value in rows[index]]) for index in order]


def _face(row: list[float]) -> DetectedFace:
    """YuNet's points: the eye, then the mouth corner, at the smaller x of an upright face first."""
    points = [Point(row[i], row[i + 1]) for i in range(4, 14, 2)]
    return DetectedFace(Box(*row[:4]), Landmarks(*points), row[14])
