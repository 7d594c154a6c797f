"""Real faces: from a file of embeddings, or embedded from photographs in a folder per person."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from galleries import Vectors
from numpy.typing import NDArray
from PIL import Image

from visagedb_indexer.faces.pipeline import load_pipeline
from visagedb_indexer.faces.registry import ModelRegistry
from visagedb_indexer.values import ExtractedFace, Extraction

SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm"})
_BATCH: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Embeddings of labelled people.

    Attributes:
        vectors: Unit vectors, shape (n, dimension).
        people: Whose they are, as numbers, shape (n,).
    """

    vectors: Vectors
    people: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.vectors)

    def chosen(self, rows: NDArray[np.bool_]) -> "Faces":
        """Some of the faces."""
        return Faces(self.vectors[rows], self.people[rows])

    def halves(self, seed: int) -> tuple["Faces", "Faces"]:
        """Two sets with every other person, drawn at random."""
        shuffled = np.random.default_rng(seed).permutation(int(self.people.max()) + 1)
        first = shuffled[self.people] % 2 == 0
        return self.chosen(first), self.chosen(~first)


def load(path: Path, model: str = "sface", cards: tuple[Path, ...] = ()) -> Faces:
    """Reads an .npz file with `V` and `N`, or embeds a folder's photographs."""
    if path.is_dir():
        vectors, names = embed(path, model, cards)
    else:
        with np.load(path) as arrays:
            vectors, names = arrays["V"], arrays["N"]
    return Faces(vectors, np.unique(names, return_inverse=True)[1].astype(np.int64))


def embed(root: Path, model: str, cards: tuple[Path, ...]) -> tuple[Vectors, NDArray[np.str_]]:
    """Of every photograph the face nearest its middle."""
    registry = ModelRegistry(list(cards))
    pipeline = load_pipeline(registry, registry.get(model))
    paths = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
    names, vectors = [], []
    for start in range(0, len(paths), _BATCH):
        batch = paths[start : start + _BATCH]
        for path, result in zip(
            batch, pipeline.extract([_content(path) for path in batch]), strict=True
        ):
            face = _central(result) if isinstance(result, Extraction) else None
            if face is None or face.vector is None:
                print(f"no face: {path}")
                continue
            names.append(path.parent.name)
            vectors.append(face.vector)
    return np.stack(vectors), np.array(names)


def _content(path: Path) -> bytes:
    """The photograph's bytes; grey maps, which VisageDB does not read, as PNG."""
    if path.suffix.lower() != ".pgm":
        return path.read_bytes()
    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.save(buffer, "PNG")
    return buffer.getvalue()


def _central(extraction: Extraction) -> ExtractedFace | None:
    def distance(face: ExtractedFace) -> float:
        x = face.box.x + (face.box.width - extraction.width) / 2
        y = face.box.y + (face.box.height - extraction.height) / 2
        return x * x + y * y

    return min(extraction.faces, key=distance, default=None)
