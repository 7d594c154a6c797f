"""Embeddings of a folder of photographs, seen in several ways: mirrored, larger, moved.

The folder holds one folder per person. Of every photograph the face nearest its middle counts.
Embeddings are kept in a cache folder, if one is given, because they take most of the time.
"""

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from visagedb_indexer.faces.align import align
from visagedb_indexer.faces.cards import ModelCard, Template
from visagedb_indexer.faces.decode import Pixels, decode
from visagedb_indexer.faces.detect import Detector
from visagedb_indexer.faces.embed import Embedder
from visagedb_indexer.faces.found import DetectedFace
from visagedb_indexer.faces.quality import assess
from visagedb_indexer.faces.registry import ModelRegistry

Vectors: TypeAlias = NDArray[np.float32]
_BATCH: Final = 8
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png"})
_MIDDLE: Final = np.array([55.5, 65.5])
"""Of the face in a crop of 112 x 112: what a view turns and scales around."""


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """How a face is cut out before it is embedded."""

    scale: float = 1.0
    right: float = 0.0
    down: float = 0.0
    degrees: float = 0.0
    mirrored: bool = False

    def template(self, template: Template) -> Template:
        """Where the five points belong in this view."""
        angle = math.radians(self.degrees)
        turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
        points = (np.array(template) - _MIDDLE) @ turn.T * self.scale
        moved = points + _MIDDLE + [self.right, self.down]
        return tuple((float(x), float(y)) for x, y in moved)


PLAIN: Final = View()
MIRRORED: Final = View(mirrored=True)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class People:
    """The photographs with a face.

    Attributes:
        files: Person and file, ``person/file.jpg``; shape (n,).
        names: The persons, shape (n,).
        qualities: Of the faces, 0 to 1, shape (n,).
        views: Unit vectors of each view, not centred, shape (n, dimension).
    """

    files: NDArray[np.str_]
    names: NDArray[np.str_]
    qualities: NDArray[np.float32]
    views: dict[View, Vectors]

    def averaged(self, *views: View) -> Vectors:
        """The mean of some views, of unit length."""
        return unit(np.sum([self.views[view] for view in views], axis=0))


def unit(vectors: NDArray[np.floating]) -> Vectors:
    """Rows of unit length."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    result: Vectors = (vectors / np.maximum(lengths, 1e-9)).astype(np.float32)
    return result


def embedded(
    images: Path,
    registry: ModelRegistry,
    card: ModelCard,
    views: Sequence[View],
    cache: Path | None = None,
) -> People:
    """The photographs below a folder, with an embedding for each view.

    Args:
        images: One folder per person.
        registry: Knows the detector.
        card: Of the embedder; its centring is left to the caller.
        views: How the faces are seen.
        cache: Folder for the embeddings; None keeps none.
    """
    files = sorted(path for path in images.glob("*/*") if path.suffix.lower() in _SUFFIXES)
    kept_at = None if cache is None else cache / f"{_digest(card, views, files)}.npz"
    if kept_at is not None and kept_at.exists():
        with np.load(kept_at) as kept:
            return _people(kept["files"], kept["qualities"], views, kept["vectors"])
    embedder = Embedder(dataclasses.replace(card, centre=None))
    detector = Detector(registry.get("yunet"))
    found: list[Path] = []
    qualities: list[float] = []
    vectors: list[Vectors] = []
    batches = [files[start : start + _BATCH] for start in range(0, len(files), _BATCH)]
    for batch in track(batches, f"embedding with {card.name}"):
        pixels = [decode(path.read_bytes()) for path in batch]
        for path, picture, faces in zip(batch, pixels, detector.detect(pixels), strict=True):
            face = _central(faces, *picture.shape[:2])
            if face is None:
                print(f"no face: {path}")
                continue
            crop = align(picture, face.landmarks, card.template)
            found.append(path)
            qualities.append(assess(crop, face.landmarks, face.score).score)
            crops = np.stack([_seen(picture, face, card, view) for view in views])
            vectors.append(embedder.embed(crops))
    names = np.array([f"{path.parent.name}/{path.name}" for path in found])
    stacked = np.stack(vectors, axis=1)
    if kept_at is not None:
        kept_at.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept_at, files=names, qualities=np.array(qualities, np.float32), vectors=stacked)
    return _people(names, np.array(qualities, np.float32), views, stacked)


def centred(vectors: Vectors, names: NDArray[np.str_], known: NDArray[np.bool_]) -> Vectors:
    """Unit vectors less the mean of some people's means."""
    _, index, counts = np.unique(names[known], return_inverse=True, return_counts=True)
    sums = np.zeros((len(counts), vectors.shape[1]))
    np.add.at(sums, index, vectors[known])
    return unit(vectors - (sums / counts[:, None]).mean(axis=0))


def _people(
    files: NDArray[np.str_],
    qualities: NDArray[np.float32],
    views: Sequence[View],
    vectors: NDArray[np.float32],
) -> People:
    names = np.array([str(file).partition("/")[0] for file in files])
    return People(files, names, qualities, dict(zip(views, vectors, strict=True)))


def _seen(picture: Pixels, face: DetectedFace, card: ModelCard, view: View) -> Pixels:
    crop = align(picture, face.landmarks, view.template(card.template))
    return crop[:, ::-1] if view.mirrored else crop


def _central(faces: Sequence[DetectedFace], height: int, width: int) -> DetectedFace | None:
    def distance(face: DetectedFace) -> float:
        box = face.box
        return math.hypot(box.x + (box.width - width) / 2, box.y + (box.height - height) / 2)

    return min(faces, key=distance, default=None)


def _digest(card: ModelCard, views: Sequence[View], files: Sequence[Path]) -> str:
    what = (card.identity(), tuple(views), [f"{path.parent.name}/{path.name}" for path in files])
    return hashlib.sha256(repr(what).encode()).hexdigest()[:16]
